/*
 * tests/unit/test_qcow2_resize.c - a qcow2 disk grows while it is in use.
 *
 * qemu-img makes the images, and judges them and the whole content afterwards.
 * The driver starts a thread: TSAN.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "block/fault.h"
#include "block/graph.h"
#include "block/qcow2/qcow2.h"
#include "block/retry.h"
#include "lib_qcow2.h"
#include "vmm/base/json.h"

static struct bt t;

static int grow(uint64_t bytes)
{
	return t.d->node->drv->set_length(t.d->node, bytes);
}

static void put(uint64_t off, size_t len, unsigned int round)
{
	uint8_t *mem = malloc(len);

	for (size_t i = 0; i < len; i++)
		mem[i] = bt_byte(off + i, round);
	cr_assert_eq(bt_io(&t, BLOCK_WRITE, off, mem, len, 0), 0);
	free(mem);
}

/* a.qcow2 was made by @make; want.raw is its content. It grows to @to, and the last
 * bytes of old and new part are written. */
static void grows(const char *make, uint64_t from, uint64_t to)
{
	bt_start(&t, LOOP_AIO_AUTO);
	qt_sh(&t, "%s && qemu-img convert -O raw a.qcow2 want.raw && truncate -s %lu want.raw", make,
	      (unsigned long)to);
	qt_open(&t, "a.qcow2", "discard=unmap");
	cr_assert_eq(t.d->node->bytes, from);
	put(512, 1024, 1);
	cr_assert_eq(grow(to), 0);
	cr_assert_eq(t.d->node->bytes, to);
	put(512, 1024, 0);
	cr_assert_eq(bt_io(&t, BLOCK_WRITE_ZEROES, 512, NULL, 1024, 0), 0);
	qt_sh(&t, "dd if=/dev/zero of=want.raw bs=512 seek=1 count=2 conv=notrunc status=none");
	qt_equals(&t, "want.raw");
	put(to - 4096, 4096, 9);
	qt_close(&t);
	qt_check(&t, "a.qcow2");
	qt_sh(&t, "test $(qemu-img info --output=json a.qcow2 | grep -o '\"virtual-size\": [0-9]*' | "
	      "head -1 | cut -d' ' -f2) = %lu", (unsigned long)to);
	/* As another opening sees it: all but the end is as before. */
	qt_open(&t, "a.qcow2", "");
	cr_assert_eq(bt_io(&t, BLOCK_WRITE_ZEROES, to - 4096, NULL, 4096, 0), 0);
	qt_equals(&t, "want.raw");
	qt_close(&t);
	qt_sh(&t, "qemu-img compare -f qcow2 -F raw a.qcow2 want.raw");
	bt_stop(&t);
}

TestSuite(qcow2_resize, .timeout = 120);

Test(qcow2_resize, test_grow_keeps_data_and_reads_zeroes)
{
	grows("qemu-img create -q -f qcow2 a.qcow2 3M && qemu-io -c 'write -P 5 0 3M' a.qcow2",
	      3 * MIB, 70 * MIB);
}

Test(qcow2_resize, test_grow_moves_the_l1_table)
{
	grows("qemu-img create -q -f qcow2 -o cluster_size=4k a.qcow2 1M && "
	      "qemu-io -c 'write -P 5 0 1M' a.qcow2", MIB, 1500 * MIB);
}

Test(qcow2_resize, test_grow_by_many_clusters_of_l1)
{
	grows("qemu-img create -q -f qcow2 -o cluster_size=512 a.qcow2 1M && "
	      "qemu-io -c 'write -P 5 100k 800k' a.qcow2", MIB, 1024 * MIB);
}

Test(qcow2_resize, test_grow_of_extended_l2_with_a_partial_cluster)
{
	grows("qemu-img create -q -f raw b.raw 4M && qemu-io -f raw -c 'write -P 7 0 4M' b.raw && "
	      "qemu-img create -q -f qcow2 -o extended_l2=on,cluster_size=64k -b b.raw -F raw "
	      "a.qcow2 1025k && qemu-io -c 'write -P 5 900k 30k' a.qcow2", 1025 * KIB, 6 * MIB);
}

Test(qcow2_resize, test_grow_hides_a_longer_backing_file)
{
	grows("qemu-img create -q -f raw b.raw 4M && qemu-io -f raw -c 'write -P 7 0 4M' b.raw && "
	      "qemu-img create -q -f qcow2 -b b.raw -F raw a.qcow2 1000k", 1000 * KIB, 3 * MIB);
}

Test(qcow2_resize, test_grow_hides_a_longer_backing_file_from_version_2)
{
	grows("qemu-img create -q -f raw b.raw 4M && qemu-io -f raw -c 'write -P 7 0 4M' b.raw && "
	      "qemu-img create -q -f qcow2 -o compat=0.10 -b b.raw -F raw a.qcow2 1000k",
	      1000 * KIB, 3 * MIB);
}

/* Whoever shrank it left the rest of the last cluster. */
Test(qcow2_resize, test_grow_clears_the_tail_of_the_last_cluster)
{
	grows("qemu-img create -q -f qcow2 a.qcow2 1M && qemu-io -c 'write -P 5 0 1M' a.qcow2 && "
	      "qemu-img resize -q --shrink a.qcow2 1001k", 1001 * KIB, 2 * MIB);
}

Test(qcow2_resize, test_grow_with_an_internal_snapshot)
{
	grows("qemu-img create -q -f qcow2 a.qcow2 1001k && qemu-io -c 'write -P 5 0 1001k' a.qcow2 "
	      "&& qemu-img snapshot -c one a.qcow2", 1001 * KIB, 2048 * MIB);
}

Test(qcow2_resize, test_mistakes_are_refused)
{
	struct err e = ERR_INIT;

	bt_start(&t, LOOP_AIO_AUTO);
	qt_sh(&t, "qemu-img create -q -f qcow2 -o compat=0.10 a.qcow2 1M && "
	      "qemu-img snapshot -c one a.qcow2");
	qt_open(&t, "a.qcow2", "");
	cr_assert_eq(grow(MIB / 2), -ENOTSUP);
	cr_assert_eq(grow(2 * MIB), -ENOTSUP);
	cr_assert_lt(t.d->node->drv->check_length(t.d->node, 2 * MIB, &e), 0);
	cr_assert(strstr(e.text, "version 2"), "%s", e.text);
	cr_assert_eq(t.d->node->bytes, MIB);
	qt_close(&t);
	qt_check(&t, "a.qcow2");
	bt_stop(&t);
}

static uint64_t writes;

static void add_hits(const struct block_fault_info *i, void *arg)
{
	writes += i->hits;
}

/* The @nth operation @op on the file fails; true: it was reached. Afterwards it works. */
static bool fails(const char *op, unsigned int nth)
{
	struct err e = ERR_INIT;
	char text[120];
	json_t *args;
	int r;

	qt_sh(&t, "cp made a.qcow2");
	qt_open(&t, "a.qcow2", "discard=unmap");
	snprintf(text, sizeof(text), "id=nth,drive=%s,op=%s,after=%u,count=1,errno=ENOSPC",
		 t.d->node->file.node->name, op, nth);
	args = json_from_keyval(text, NULL, 0, "test", &e);
	cr_assert_eq(block_fault_add(t.g, args, &e), 0, "%s", e.text);
	json_decref(args);
	r = grow(512 * MIB);
	writes = 0;
	block_fault_each(t.g, add_hits, &writes);
	cr_assert_eq(r, writes ? -ENOSPC : 0, "%s %u: %d", op, nth, r);
	cr_assert_eq(t.d->node->bytes, writes ? MIB : 512 * MIB);
	if (!writes)
		cr_assert_eq(block_fault_del(t.g, "nth", &e), 0, "%s", e.text);
	put(0, 4096, 3);
	cr_assert_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	qt_sh(&t, "cp a.qcow2 killed; qemu-img check -q killed || test $? = 3");
	cr_assert_eq(grow(512 * MIB), 0);
	put(512 * MIB - 4096, 4096, 4);
	qt_close(&t);
	qt_check(&t, "a.qcow2");
	return writes > 0;
}

static void every(const char *op, unsigned int least)
{
	unsigned int n = 0;

	bt_start(&t, LOOP_AIO_AUTO);
	qt_sh(&t, "qemu-img create -q -f raw b.raw 2M && qemu-io -f raw -c 'write -P 7 0 2M' b.raw && "
	      "qemu-img create -q -f qcow2 -o cluster_size=512 -b b.raw -F raw made 1M && "
	      "qemu-io -c 'write -P 5 100k 8k' made");
	while (fails(op, n))
		cr_assert_lt(++n, 500u);
	cr_assert_geq(n, least);
	bt_stop(&t);
}

Test(qcow2_resize, test_nth_write_fails_and_the_old_size_stays)
{
	every("write", 3);
}

Test(qcow2_resize, test_nth_flush_fails_and_the_old_size_stays)
{
	every("flush", 3);
}

Test(qcow2_resize, test_nth_read_fails_and_the_old_size_stays)
{
	every("read", 1);
}

/* What waits for a retry is in no node: it goes on at its place afterwards. */
Test(qcow2_resize, test_grow_while_a_request_is_suspended)
{
	static uint8_t mem[8192];
	struct err e = ERR_INIT;
	struct bt_req q;
	char text[120];
	json_t *args;

	bt_start(&t, LOOP_AIO_AUTO);
	qt_sh(&t, "qemu-img create -q -f qcow2 -o cluster_size=4k a.qcow2 1M && "
	      "qemu-io -c 'write -P 5 0 64k' a.qcow2");
	qt_open(&t, "a.qcow2", "werror=retry,rerror=retry,retry_interval=100000");
	snprintf(text, sizeof(text), "id=once,drive=%s,op=write,count=1,errno=EIO",
		 t.d->node->file.node->name);
	args = json_from_keyval(text, NULL, 0, "test", &e);
	cr_assert_eq(block_fault_add(t.g, args, &e), 0, "%s", e.text);
	json_decref(args);
	memset(mem, 9, sizeof(mem));
	bt_submit(&t, &q, BLOCK_WRITE, 8192, mem, sizeof(mem), 0);
	while (!drive_retry_info(t.d).parked)
		loop_turn(t.loop, NS_PER_MS);
	cr_assert_eq(grow(1500 * MIB), 0);
	block_node_resized(t.d->node);
	put(1500 * MIB - 4096, 4096, 1);
	cr_assert(!q.done);
	drive_retry_now(t.d);
	bt_wait(&t, &q);
	cr_assert_eq(q.ret, 0);
	qt_close(&t);
	qt_check(&t, "a.qcow2");
	qt_sh(&t, "qemu-io -c 'read -P 9 8k 8k' -c 'read -P 5 16k 48k' -c 'read -P 0 64k 64k' a.qcow2 "
	      "| grep -c '^read' | grep -qx 3 && ! qemu-io -c 'read -P 9 8k 8k' a.qcow2 | grep failed");
	bt_stop(&t);
}

/* Where every reserved address costs memory there are none for what is to come: it can
 * grow as far as its last L2 table goes. */
Test(qcow2_resize, test_grow_where_memory_is_locked)
{
	struct err e = ERR_INIT;

	bt_start(&t, LOOP_AIO_AUTO);
	block_graph_set_locked(t.g, true);
	qt_sh(&t, "qemu-img create -q -f qcow2 -o cluster_size=4k a.qcow2 1M && "
	      "qemu-io -c 'write -P 5 0 1M' a.qcow2 && truncate -s 2M want.raw && "
	      "qemu-img convert -n -O raw a.qcow2 want.raw");
	qt_open(&t, "a.qcow2", "");
	cr_assert_lt(t.d->node->drv->check_length(t.d->node, 3 * MIB, &e), 0);
	cr_assert(strstr(e.text, "can grow to 2097152 bytes at most"), "%s", e.text);
	cr_assert_lt(grow(3 * MIB), 0);
	cr_assert_eq(grow(2 * MIB), 0);
	qt_equals(&t, "want.raw");
	put(2 * MIB - 4096, 4096, 1);
	qt_close(&t);
	qt_check(&t, "a.qcow2");
	bt_stop(&t);
}

Test(qcow2_resize, test_grow_with_an_external_data_file)
{
	struct err e = ERR_INIT;
	char text[512], file[64];

	bt_start(&t, LOOP_AIO_AUTO);
	qt_sh(&t, "qemu-img create -q -f qcow2 -o data_file=data.raw a.qcow2 1M && "
	      "qemu-io -c 'write -P 5 0 1M' a.qcow2 && truncate -s 40M want.raw && "
	      "qemu-img convert -n -O raw a.qcow2 want.raw");
	snprintf(file, sizeof(file), "%s", bt_path(&t, "a.qcow2"));
	snprintf(text, sizeof(text), "driver=qcow2,node-name=q,file.driver=file,file.filename=%s,"
		 "data-file.driver=file,data-file.filename=%s", file, bt_path(&t, "data.raw"));
	cr_assert_eq(bt_blockdev(&t, text), 0, "%s", bt_error());
	cr_assert_eq(drive_open(t.g, "q", "dev0", DRIVE_OPEN_WRITE, &t.d, &e), 0, "%s", e.text);
	cr_assert_eq(grow(40 * MIB), 0);
	qt_equals(&t, "want.raw");
	put(40 * MIB - 4096, 4096, 1);
	cr_assert_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	qt_close(&t);
	qt_sh(&t, "qemu-img check -q a.qcow2 && qemu-img compare -q -f qcow2 -F raw a.qcow2 data.raw");
	bt_stop(&t);
}

static _Atomic bool over;

static void *grower(void *arg)
{
	for (uint64_t n = 2; n <= 40; n++)
		cr_assert_eq(grow(n * 40 * MIB + 512), 0);
	atomic_store(&over, true);
	return NULL;
}

Test(qcow2_resize, test_guest_writes_while_the_disk_grows)
{
	static uint8_t mem[1001 * 1024], got[sizeof(mem)];
	pthread_t thread;
	uint64_t off;

	bt_start(&t, LOOP_AIO_AUTO);
	qt_seed(5);
	qt_sh(&t, "qemu-img create -q -f qcow2 -o cluster_size=4k a.qcow2 1001k");
	qt_open(&t, "a.qcow2", "discard=unmap");
	pthread_create(&thread, NULL, grower, NULL);
	for (unsigned int i = 1; !atomic_load(&over) || i < 50; i++) {
		off = 512ull * qt_rnd(2002 - 16);
		memset(mem + off, (int)(i & 255), 8192);
		cr_assert_eq(bt_io(&t, BLOCK_WRITE, off, mem + off, 8192,
				   i % 8 ? 0 : BLOCK_FUA), 0);
		cr_assert_eq(bt_io(&t, BLOCK_WRITE, sizeof(mem) - 512, mem + sizeof(mem) - 512,
				   512, 0), 0);
	}
	pthread_join(thread, NULL);
	cr_assert_eq(bt_io(&t, BLOCK_READ, 0, got, sizeof(got), 0), 0);
	cr_assert_eq(memcmp(mem, got, sizeof(mem)), 0);
	cr_assert_eq(bt_io(&t, BLOCK_READ, sizeof(mem), got, sizeof(got) - 512, 0), 0);
	cr_assert(q2_is_zero(got, sizeof(got) - 512));
	qt_close(&t);
	qt_check(&t, "a.qcow2");
	bt_stop(&t);
}

/*
 * tests/unit/test_qcow2_write.c - writing qcow2 images: random requests, many
 * in flight, against a model; qemu-img judges what is left on the disk.
 *
 * The driver starts a thread: TSAN.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/fault.h"
#include "block/qcow2/qcow2.h"
#include "lib_qcow2.h"

#define SLOTS		12

static struct bt t;

static void setup(void)
{
	bt_start(&t, LOOP_AIO_AUTO);
	qt_seed(7);
}

static void teardown(void)
{
	bt_stop(&t);
}

TestSuite(qcow2_write, .init = setup, .fini = teardown, .timeout = 240);

/* ---- a model ---- */

/* Bytes of the disk; "unknown" sectors were discarded: old, or zero. */
struct model {
	uint8_t *now;
	uint64_t bytes;
};

struct slot {
	struct bt_req q;	/* first */
	uint8_t *mem;
	uint64_t off;
	size_t len;
	bool busy;
};

static struct model m;
static struct slot slots[SLOTS];

static void model_start(void)
{
	m.bytes = t.d->node->bytes;
	m.now = calloc(1, m.bytes);
}

/* The model's bytes become those of raw file @name. */
static void model_load(const char *name)
{
	int fd = open(bt_path(&t, name), O_RDONLY | O_CLOEXEC);

	cr_assert(fd >= 0);
	cr_assert(pread(fd, m.now, m.bytes, 0) >= 0);
	close(fd);
}

static void model_save(const char *name)
{
	int fd = open(bt_path(&t, name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	cr_assert_eq(fd_write_full(fd, m.now, m.bytes, 0), 0);
	close(fd);
}

static bool overlaps(uint64_t off, size_t len)
{
	for (int i = 0; i < SLOTS; i++)
		if (slots[i].busy && off < slots[i].off + slots[i].len &&
		    slots[i].off < off + len)
			return true;
	return false;
}

static void reap(void)
{
	for (int i = 0; i < SLOTS; i++) {
		struct slot *s = &slots[i];

		if (!s->busy || !s->q.done)
			continue;
		s->busy = false;
		cr_assert_eq(s->q.ret, 0, "op %d at %lu, %zu bytes: %d", s->q.r.op,
			     (unsigned long)s->off, s->len, s->q.ret);
		if (s->q.r.op == BLOCK_READ)
			cr_assert_arr_eq(s->mem, m.now + s->off, s->len, "wrong data in %lu..+%zu",
					 (unsigned long)s->off, s->len);
	}
}

static void issue(struct slot *s, enum block_op op, unsigned int round)
{
	uint32_t flags = op != BLOCK_READ && qt_rnd(30) == 0 ? BLOCK_FUA : 0;

	if (op == BLOCK_WRITE) {
		for (size_t i = 0; i < s->len; i++)
			s->mem[i] = m.now[s->off + i] = bt_byte(s->off + i, round);
	} else if (op == BLOCK_WRITE_ZEROES) {
		flags |= qt_rnd(2) ? BLOCK_UNMAP : 0;
		memset(m.now + s->off, 0, s->len);
	}
	bt_submit(&t, &s->q, op, s->off, op <= BLOCK_WRITE ? s->mem : NULL, s->len, flags);
	s->busy = true;
}

static size_t some_len(size_t max)
{
	switch (qt_rnd(4)) {
	case 0:
		return 512;
	case 1:
		return 4096;
	case 2:
		return 512 * (1 + (size_t)qt_rnd(64));
	default:
		return 512 * (1 + (size_t)qt_rnd((uint32_t)(max / 512)));
	}
}

static void drain(void)
{
	while (drive_totals(t.d).inflight)
		loop_turn(t.loop, NS_PER_SEC);
	reap();
}

/* @n random requests on the drive; discards only where @discard. */
static void churn(unsigned int n, size_t max, bool discard)
{
	static const enum block_op ops[] = {
		BLOCK_READ, BLOCK_WRITE, BLOCK_WRITE, BLOCK_WRITE, BLOCK_WRITE_ZEROES, BLOCK_READ
	};
	struct slot *s;

	for (int i = 0; i < SLOTS; i++)
		slots[i].mem = malloc(max);
	for (unsigned int round = 1; round <= n; ) {
		s = &slots[qt_rnd(SLOTS)];
		s->len = s->busy ? s->len : some_len(max);
		if (!s->busy)
			s->off = 512 * (uint64_t)qt_rnd((uint32_t)((m.bytes - s->len) / 512 + 1));
		if (s->busy || overlaps(s->off, s->len)) {
			loop_turn(t.loop, NS_PER_MS);
			reap();
			continue;
		}
		if (discard && qt_rnd(12) == 0) {
			/* Cluster by cluster it may read as before or as zero:
			 * the model takes what is there afterwards. */
			drain();
			cr_assert_eq(bt_io(&t, BLOCK_DISCARD, s->off, NULL, s->len, 0), 0);
			cr_assert_eq(bt_io(&t, BLOCK_READ, s->off, s->mem, s->len, 0), 0);
			for (size_t i = 0; i < s->len; i++)
				cr_assert(s->mem[i] == 0 || s->mem[i] == m.now[s->off + i]);
			memcpy(m.now + s->off, s->mem, s->len);
		} else if (qt_rnd(40) == 0) {
			cr_assert_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
		} else {
			issue(s, ops[qt_rnd(ARRAY_LEN(ops))], round);
		}
		round++;
		reap();
	}
	drain();
	for (int i = 0; i < SLOTS; i++)
		free(slots[i].mem);
}

static void finish(const char *name)
{
	model_save("model.raw");
	qt_equals(&t, "model.raw");
	qt_close(&t);
	qt_check(&t, name);
	qt_sh(&t, "qemu-img compare -f qcow2 -F raw %s model.raw", name);
	free(m.now);
}

static void churn_image(const char *opts, const char *size, const char *drive, unsigned int n,
			size_t max)
{
	qt_sh(&t, "qemu-img create -f qcow2 -o %s a.qcow2 %s", opts, size);
	qt_open(&t, "a.qcow2", drive);
	model_start();
	churn(n, max, true);
	finish("a.qcow2");
}

Test(qcow2_write, test_random_requests_default_image)
{
	churn_image("cluster_size=64k", "16M", "discard=unmap", 3000, 256 * 1024);
}

Test(qcow2_write, test_random_requests_version_2)
{
	churn_image("compat=0.10", "16M", "discard=unmap", 2000, 256 * 1024);
}

Test(qcow2_write, test_random_requests_cluster_512)
{
	churn_image("cluster_size=512", "4M", "discard=unmap", 2000, 64 * 1024);
}

Test(qcow2_write, test_random_requests_cluster_4k_direct)
{
	churn_image("cluster_size=4k", "8M", "discard=unmap,cache=none", 2000, 128 * 1024);
}

Test(qcow2_write, test_random_requests_cluster_2m)
{
	churn_image("cluster_size=2M", "64M", "discard=unmap", 1000, 5 * 1024 * 1024);
}

Test(qcow2_write, test_random_requests_extended_l2)
{
	churn_image("extended_l2=on", "16M", "discard=unmap", 3000, 256 * 1024);
}

Test(qcow2_write, test_random_requests_refcount_widths)
{
	static const char *const opts[] = {
		"refcount_bits=1", "refcount_bits=2", "refcount_bits=4", "refcount_bits=8",
		"refcount_bits=32", "refcount_bits=64,cluster_size=512",
	};

	for (size_t i = 0; i < ARRAY_LEN(opts); i++)
		churn_image(opts[i], "8M", "discard=unmap", 500, 256 * 1024);
}

Test(qcow2_write, test_random_requests_preallocated)
{
	churn_image("preallocation=metadata", "8M", "", 1500, 256 * 1024);
}

Test(qcow2_write, test_random_requests_lazy_refcounts)
{
	churn_image("lazy_refcounts=on", "8M", "", 1000, 256 * 1024);
}

/* ---- over something ---- */

static void churn_overlay(const char *opts, const char *what)
{
	qt_sh(&t, "seq 1 2000000 | head -c 5000192 >base.raw");
	if (strcmp(what, "raw") == 0)
		qt_sh(&t, "cp base.raw base.img");
	else
		qt_sh(&t, "qemu-img convert -c -f raw -O qcow2 base.raw base.img");
	qt_sh(&t, "qemu-img create -f qcow2 -F %s -b base.img -o %s a.qcow2 8M", what, opts);
	qt_open(&t, "a.qcow2", "discard=unmap");
	model_start();
	model_load("base.raw");
	churn(2000, 256 * 1024, true);
	finish("a.qcow2");
	qt_sh(&t, "qemu-img compare -f %s -F raw base.img base.raw", what);
}

Test(qcow2_write, test_random_requests_over_raw_backing)
{
	churn_overlay("cluster_size=64k", "raw");
}

Test(qcow2_write, test_random_requests_over_compressed_backing)
{
	churn_overlay("cluster_size=4k", "qcow2");
}

Test(qcow2_write, test_random_requests_extended_l2_over_backing)
{
	churn_overlay("extended_l2=on", "raw");
}

Test(qcow2_write, test_random_requests_version_2_over_backing)
{
	churn_overlay("compat=0.10", "raw");
}

Test(qcow2_write, test_random_requests_into_compressed_image)
{
	static const char *const opts[] = {
		"cluster_size=64k", "compression_type=zstd,cluster_size=2M",
		"cluster_size=4k,refcount_bits=64", "extended_l2=on",
	};

	for (size_t i = 0; i < ARRAY_LEN(opts); i++) {
		qt_sh(&t, "seq 1 2000000 | head -c 8388608 >base.raw");
		qt_sh(&t, "qemu-img convert -c -f raw -O qcow2 -o %s base.raw a.qcow2", opts[i]);
		qt_open(&t, "a.qcow2", "discard=unmap");
		model_start();
		model_load("base.raw");
		churn(800, 256 * 1024, true);
		finish("a.qcow2");
	}
}

Test(qcow2_write, test_random_requests_leave_internal_snapshots_alone)
{
	qt_sh(&t, "seq 1 2000000 | head -c 8388608 >base.raw && "
	      "qemu-img convert -f raw -O qcow2 base.raw a.qcow2 && "
	      "qemu-img snapshot -c one a.qcow2 && "
	      "qemu-io -f qcow2 -c 'write -P 3 1M 1M' a.qcow2 && "
	      "qemu-img snapshot -c two a.qcow2 && qemu-img convert -O raw a.qcow2 two.raw");
	qt_open(&t, "a.qcow2", "discard=unmap");
	model_start();
	model_load("two.raw");
	churn(1500, 256 * 1024, true);
	finish("a.qcow2");
	qt_sh(&t, "qemu-img convert -l snapshot.name=one -O raw a.qcow2 one.raw && "
	      "cmp one.raw base.raw && "
	      "qemu-img convert -l snapshot.name=two -O raw a.qcow2 b.raw && cmp b.raw two.raw");
}

/* ---- growth and reuse ---- */

Test(qcow2_write, test_refcount_table_grows)
{
	/* 512-byte clusters, 64-bit counts: a table cluster covers 2 MiB. */
	qt_sh(&t, "qemu-img create -f qcow2 -o cluster_size=512,refcount_bits=64 a.qcow2 40M");
	qt_open(&t, "a.qcow2", "");
	model_start();
	for (uint64_t at = 0; at < m.bytes; at += 1048576) {
		for (uint64_t i = 0; i < 1048576; i++)
			m.now[at + i] = bt_byte(at + i, 3);
		cr_assert_eq(bt_io(&t, BLOCK_WRITE, at, m.now + at, 1048576, 0), 0);
	}
	finish("a.qcow2");
}

Test(qcow2_write, test_discarded_clusters_are_used_again)
{
	uint8_t *buf = malloc(4 * MIB);
	struct stat st;

	qt_sh(&t, "qemu-img create -f qcow2 a.qcow2 64M");
	qt_open(&t, "a.qcow2", "discard=unmap");
	memset(buf, 0x5a, 4 * MIB);
	for (uint64_t at = 0; at < 64 * MIB; at += 4 * MIB) {
		cr_assert_eq(bt_io(&t, BLOCK_WRITE, at, buf, 4 * MIB, 0), 0);
		cr_assert_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
		cr_assert_eq(bt_io(&t, BLOCK_DISCARD, at, NULL, 4 * MIB, 0), 0);
		cr_assert_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	}
	qt_close(&t);
	qt_check(&t, "a.qcow2");
	cr_assert_eq(stat(bt_path(&t, "a.qcow2"), &st), 0);
	cr_assert_lt(st.st_size, 14 * (off_t)MIB);
	cr_assert_lt(st.st_blocks * 512, 2 * (off_t)MIB, "%ld", (long)st.st_blocks);
	free(buf);
}

Test(qcow2_write, test_new_write_after_reopen_appends_and_reuses)
{
	qt_sh(&t, "qemu-img create -f qcow2 a.qcow2 8M");
	qt_open(&t, "a.qcow2", "discard=unmap");
	model_start();
	for (int i = 0; i < 6; i++) {
		churn(200, 128 * 1024, true);
		qt_close(&t);
		qt_check(&t, "a.qcow2");
		qt_open(&t, "a.qcow2", "discard=unmap");
	}
	finish("a.qcow2");
}

Test(qcow2_write, test_cache_smaller_than_the_map_writes_all)
{
	qt_sh(&t, "qemu-img create -f qcow2 -o cluster_size=512 a.qcow2 24M");
	cr_assert_eq(bt_blockdev(&t, "qcow2,node-name=d0,l2-cache-size=65536,"
				 "file.driver=file,file.filename=%s/a.qcow2"), 0, "%s", bt_error());
	cr_assert_eq(drive_open(t.g, "d0", "dev", DRIVE_OPEN_WRITE, &t.d, NULL), 0);
	model_start();
	churn(3000, 64 * 1024, false);
	finish("a.qcow2");
}

/* ---- features ---- */

Test(qcow2_write, test_unknown_autoclear_bits_are_cleared_on_writing)
{
	uint8_t b[8] = { 0x40 };
	int fd;

	qt_sh(&t, "qemu-img create -f qcow2 a.qcow2 8M");
	fd = open(bt_path(&t, "a.qcow2"), O_RDWR | O_CLOEXEC);
	cr_assert_eq(pwrite(fd, b, 8, 88), 8);
	qt_open(&t, "a.qcow2", "readonly=on");
	qt_close(&t);
	cr_assert_eq(pread(fd, b, 8, 88), 8);
	cr_assert_eq(b[0], 0x40, "reading changed the image");
	qt_open(&t, "a.qcow2", "");
	cr_assert_eq(pread(fd, b, 8, 88), 8);
	cr_assert_eq(b[0], 0);
	close(fd);
}

Test(qcow2_write, test_external_data_file_only_when_given)
{
	qt_sh(&t, "qemu-img create -f qcow2 -o data_file=data.raw a.qcow2 8M");
	cr_assert_eq(bt_drive(&t, "file=%s/a.qcow2,format=qcow2,if=none,id=d0"), -EPERM);
	cr_assert_not_null(strstr(bt_error(), "data.raw"), "%s", bt_error());
	cr_assert_eq(bt_blockdev(&t, "{\"driver\":\"qcow2\",\"node-name\":\"n\",\"file\":"
				 "{\"driver\":\"file\",\"filename\":\"%s/a.qcow2\"},"
				 "\"data-file\":\"x\"}"), -ENOENT);
}

Test(qcow2_write, test_external_data_file_random_requests)
{
	char text[512];

	qt_sh(&t, "qemu-img create -f qcow2 -o data_file=data.raw a.qcow2 8M");
	snprintf(text, sizeof(text), "qcow2,node-name=d0,discard=unmap,file.driver=file,"
		 "file.filename=%s,data-file.driver=file,data-file.filename=%s",
		 bt_path(&t, "a.qcow2"), bt_path(&t, "data.raw"));
	cr_assert_eq(bt_blockdev(&t, text), 0, "%s", bt_error());
	cr_assert_eq(drive_open(t.g, "d0", "dev", DRIVE_OPEN_WRITE, &t.d, NULL), 0);
	model_start();
	churn(1500, 128 * 1024, true);
	finish("a.qcow2");
}

/* ---- damage ---- */

static void poke(uint64_t off, uint64_t v)
{
	int fd = open(bt_path(&t, "a.qcow2"), O_RDWR | O_CLOEXEC);
	uint8_t b[8];

	put_be64(b, v);
	cr_assert_eq(pwrite(fd, b, 8, (off_t)off), 8);
	close(fd);
}

Test(qcow2_write, test_entry_that_points_to_metadata_is_not_written_to)
{
	uint8_t buf[512] = { 1 }, head[512], after[512];
	int fd;

	qt_sh(&t, "qemu-img create -f qcow2 a.qcow2 4M && "
	      "qemu-io -f qcow2 -c 'write -P 1 0 256k' a.qcow2");
	poke(0x40008, 0x8000000000010000ull);	/* the refcount table */
	fd = open(bt_path(&t, "a.qcow2"), O_RDONLY | O_CLOEXEC);
	cr_assert_eq(pread(fd, head, 512, 0x10000), 512);
	qt_open(&t, "a.qcow2", "");
	cr_assert_eq(bt_io(&t, BLOCK_WRITE, 65536, buf, 512, 0), -EIO);
	cr_assert_eq(pread(fd, after, 512, 0x10000), 512);
	cr_assert_arr_eq(head, after, 512);
	qt_close(&t);
	cr_assert_eq(pread(fd, after, 512, 0), 512);
	cr_assert(after[79] & 2, "the corrupt bit is not set");
	close(fd);
	cr_assert_eq(bt_drive(&t, "file=%s/a.qcow2,format=qcow2,if=none,id=d0"), -EUCLEAN);
	cr_assert_eq(bt_drive(&t, "file=%s/a.qcow2,format=qcow2,if=none,id=d0,readonly=on"), 0);
}

Test(qcow2_write, test_uncounted_metadata_is_not_allocated)
{
	uint8_t buf[512] = { 1 };

	/* The counts of the first clusters become zero. */
	qt_sh(&t, "qemu-img create -f qcow2 a.qcow2 4M");
	poke(0x20000, 0);
	qt_open(&t, "a.qcow2", "");
	cr_assert_eq(bt_io(&t, BLOCK_WRITE, 0, buf, 512, 0), -EIO);
	qt_close(&t);
	qt_sh(&t, "head -c 4 a.qcow2 | grep -q QFI");
}

static void fault(const char *op)
{
	json_t *args = json_pack("{s:s,s:s,s:s,s:s}", "id", op, "drive", "f", "op", op, "errno",
				 "EIO");
	struct err e = ERR_INIT;

	cr_assert_eq(block_fault_add(t.g, args, &e), 0, "%s", e.text);
	json_decref(args);
}

/* The device goes while the disk is dead, and another gets the node later: what
 * is in memory then has lost its counts, and must not be built on. */
Test(qcow2_write, test_node_that_could_not_be_written_is_not_used_again)
{
	uint8_t buf[512] = { 1 };
	struct err e = ERR_INIT;
	struct drive *d;

	qt_sh(&t, "qemu-img create -f qcow2 a.qcow2 4M");
	cr_assert_eq(bt_blockdev(&t, "driver=file,node-name=f,filename=%s/a.qcow2"), 0, "%s",
		     bt_error());
	cr_assert_eq(bt_blockdev(&t, "driver=qcow2,node-name=n,file=f"), 0, "%s", bt_error());
	cr_assert_eq(drive_open(t.g, "n", "disk0", DRIVE_OPEN_WRITE, &t.d, &e), 0, "%s", e.text);
	cr_assert_eq(bt_io(&t, BLOCK_WRITE, 0, buf, 512, 0), 0);
	fault("write");
	drive_close(t.d);
	t.d = NULL;
	cr_assert_eq(block_fault_del(t.g, "write", &e), 0);
	cr_assert_eq(drive_open(t.g, "n", "disk1", DRIVE_OPEN_WRITE, &d, &e), -EIO);
	cr_assert_not_null(strstr(e.text, "add it again"), "%s", e.text);
	cr_assert_eq(drive_open(t.g, "n", "disk1", 0, &t.d, &e), 0);
	cr_assert_eq(bt_io(&t, BLOCK_READ, 0, buf, 512, 0), 0);
	cr_assert_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), -EIO, "the write is lost");
	qt_close(&t);
	qt_check(&t, "a.qcow2");
}

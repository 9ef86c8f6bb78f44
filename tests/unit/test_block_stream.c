/*
 * tests/unit/test_block_stream.c - a disk takes over what its backing files
 * have, while it is written to. qemu-img is the judge.
 *
 * TSAN: the copying and the disk's requests are on threads of their own.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "block/graph.h"
#include "block/stream.h"
#include "lib_qcow2.h"
#include "vmm/base/util.h"

#define DISK	(4 * MIB)
#define WRITES	400

static struct bt t;
static struct loop *l;
static int finished, result;
static char sentence[512];

static void setup(void)
{
	struct err e = ERR_INIT;

	bt_start(&t, LOOP_AIO_AUTO);
	cr_assert_eq(loop_create(&l, "stream", LOOP_AIO_AUTO, &e), 0);
}

static void teardown(void)
{
	loop_destroy(l);
	bt_stop(&t);
}

TestSuite(block_stream, .init = setup, .fini = teardown, .timeout = 100);

/* base.raw (half of it a hole) <- m1.qcow2 <- m2.qcow2 <- top.qcow2, and what the
 * disk reads as in want.raw. */
static void make_chain(const char *opts)
{
	qt_sh(&t, "truncate -s 4M base.raw");
	qt_sh(&t, "qemu-io -f raw -c 'write -P 1 0 2M' base.raw");
	qt_sh(&t, "qemu-img create -q -f qcow2 -b base.raw -F raw m1.qcow2");
	qt_sh(&t, "qemu-io -f qcow2 -c 'write -P 2 1M 300k' -c 'write -z 64k 64k' m1.qcow2");
	qt_sh(&t, "qemu-img create -q -f qcow2 -b m1.qcow2 -F qcow2 m2.qcow2");
	qt_sh(&t, "qemu-io -f qcow2 -c 'write -P 3 3M 200k' -c 'write -P 3 512 512' m2.qcow2");
	qt_sh(&t, "qemu-img create -q -f qcow2 %s -b m2.qcow2 -F qcow2 top.qcow2", opts);
	qt_sh(&t, "qemu-io -f qcow2 -c 'write -P 4 1500k 9k' -c 'write -z 256k 64k' top.qcow2");
	qt_sh(&t, "qemu-img convert -O raw top.qcow2 want.raw");
}

static int go_on(void *arg, uint64_t bytes, uint64_t done, uint64_t all)
{
	cr_expect_leq(done, all);
	return 0;
}

static int give_up(void *arg, int err)
{
	return err;
}

static int stop_at_half(void *arg, uint64_t bytes, uint64_t done, uint64_t all)
{
	return done > all / 2 ? -ECANCELED : 0;
}

static void done(void *arg, int ret, const struct err *e)
{
	finished++;
	result = ret;
	snprintf(sentence, sizeof(sentence), "%s", ret ? e->text : "");
}

static void finish_with(struct stream *s, int ret)
{
	uint64_t end = clock_ns() + 20 * NS_PER_SEC;

	finished = 0;
	stream_switch(s, done, NULL);
	cr_assert_eq(finished, 0);
	while (!finished && clock_ns() < end)
		loop_turn(t.loop, NS_PER_MS);
	cr_assert_eq(finished, 1, "the switch never ends");
	cr_assert_eq(result, ret, "%s", sentence);
	stream_destroy(s);
}

static void finish(struct stream *s)
{
	finish_with(s, 0);
}

static void stream(const char *base)
{
	struct err e = ERR_INIT;
	struct stream *s;

	cr_assert_eq(stream_create(t.g, "d0", base, NULL, &s, &e), 0, "%s", e.text);
	cr_assert_eq(stream_run(s, l, go_on, give_up, NULL, &e), 0, "%s", e.text);
	finish(s);
}

/* The files @gone are, and nobody misses them. */
static void judge(const char *gone)
{
	qt_equals(&t, "want.raw");
	qt_close(&t);
	qt_sh(&t, "rm -f %s", gone);
	qt_check(&t, "top.qcow2");
	qt_sh(&t, "qemu-img compare -q -f raw -F qcow2 want.raw top.qcow2");
}

static void flatten(const char *opts)
{
	make_chain(opts);
	qt_open(&t, "top.qcow2", "format=qcow2");
	stream(NULL);
	cr_expect_null(t.d->node->backing.node);
	cr_expect_null(t.d->node->backing_file);
	judge("base.raw m1.qcow2 m2.qcow2");
	qt_sh(&t, "! qemu-img info top.qcow2 | grep backing");
}

Test(block_stream, test_whole_chain_is_taken_over)
{
	flatten("");
	/* Holes are holes: 2 MiB and 500 KiB of data, and tables. */
	qt_sh(&t, "test $(stat -c %%b top.qcow2) -lt 6400");
}

Test(block_stream, test_subclusters_and_small_clusters)
{
	flatten("-o extended_l2=on");
	flatten("-o cluster_size=512");
	flatten("-o cluster_size=2M,compat=0.10");
}

/* The disk is named by a relative path, which in the image would mean another. */
Test(block_stream, test_what_is_above_the_base_is_taken_over)
{
	const char *base;

	make_chain("");
	cr_assert_eq(chdir(t.dir), 0);
	bt_open(&t, "top.qcow2", "format=qcow2");
	base = t.d->node->backing.node->backing.node->backing.node->name;
	stream(base);
	cr_expect_str_eq(t.d->node->backing.node->name, base);
	cr_expect_str_eq(t.d->node->backing_file, bt_path(&t, "base.raw"));
	judge("m1.qcow2 m2.qcow2");
	qt_sh(&t, "qemu-img info top.qcow2 | grep -q 'backing file format: raw'");
	/* What the base has is left there: two pieces of overlays. */
	qt_sh(&t, "test $(stat -c %%b top.qcow2) -lt 2600");
}

Test(block_stream, test_layers_of_other_lengths)
{
	qt_sh(&t, "qemu-img create -q -f raw base.raw 6M");
	qt_sh(&t, "qemu-io -f raw -c 'write -P 1 0 6M' base.raw");
	qt_sh(&t, "qemu-img create -q -f qcow2 -b base.raw -F raw m1.qcow2 1M");
	qt_sh(&t, "qemu-io -f qcow2 -c 'write -P 2 0 100k' m1.qcow2");
	qt_sh(&t, "qemu-img create -q -f qcow2 -b m1.qcow2 -F qcow2 top.qcow2 4M");
	qt_sh(&t, "qemu-img convert -O raw top.qcow2 want.raw");
	qt_open(&t, "top.qcow2", "format=qcow2");
	stream(t.d->node->backing.node->backing.node->name);
	judge("m1.qcow2");
}

Test(block_stream, test_base_of_an_odd_length)
{
	qt_sh(&t, "head -c 1000100 /dev/urandom >base.raw");
	qt_sh(&t, "qemu-img create -q -f qcow2 -o cluster_size=4k -b base.raw -F raw top.qcow2 4M");
	qt_sh(&t, "qemu-img convert -O raw top.qcow2 want.raw");
	qt_open(&t, "top.qcow2", "format=qcow2");
	stream(NULL);
	judge("base.raw");
}

Test(block_stream, test_unplugged_before_the_switch)
{
	struct err e = ERR_INIT;
	struct stream *s;

	make_chain("");
	qt_open(&t, "top.qcow2", "format=qcow2");
	cr_assert_eq(stream_create(t.g, "d0", NULL, NULL, &s, &e), 0, "%s", e.text);
	cr_assert_eq(stream_run(s, l, go_on, give_up, NULL, &e), 0, "%s", e.text);
	drive_close(t.d);
	finish_with(s, -ENODEV);
	cr_expect(strstr(sentence, "was removed"), "%s", sentence);
	cr_assert_eq(drive_open(t.g, "d0", "disk0", DRIVE_OPEN_WRITE, &t.d, &e), 0, "%s", e.text);
	judge("base.raw m1.qcow2 m2.qcow2");
}

Test(block_stream, test_cancelled_one_leaves_the_chain)
{
	struct err e = ERR_INIT;
	struct stream *s;

	make_chain("");
	qt_open(&t, "top.qcow2", "format=qcow2");
	cr_assert_eq(stream_create(t.g, "d0", NULL, NULL, &s, &e), 0, "%s", e.text);
	cr_assert_eq(stream_run(s, l, stop_at_half, give_up, NULL, &e), -ECANCELED);
	stream_destroy(s);
	cr_expect_not_null(t.d->node->backing.node);
	judge("");
	qt_sh(&t, "qemu-img info top.qcow2 | grep -q 'backing file: m2.qcow2'");
	qt_open(&t, "top.qcow2", "format=qcow2");
	stream(NULL);
	judge("base.raw m1.qcow2 m2.qcow2");
}

Test(block_stream, test_failing_reads_end_it_with_a_sentence)
{
	struct err e = ERR_INIT;
	struct stream *s;

	make_chain("");
	qt_open(&t, "top.qcow2", "format=qcow2");
	qt_sh(&t, "truncate -s 1M base.raw");
	cr_assert_eq(stream_create(t.g, "d0", NULL, NULL, &s, &e), 0, "%s", e.text);
	cr_assert_lt(stream_run(s, l, go_on, give_up, NULL, &e), 0);
	cr_expect(strstr(e.text, "streaming fails at offset"), "%s", e.text);
	stream_destroy(s);
	qt_close(&t);
	qt_check(&t, "top.qcow2");
	qt_sh(&t, "qemu-img info top.qcow2 | grep -q 'backing file: m2.qcow2'");
}

static void copy_on_read(const char *opts)
{
	make_chain(opts);
	qt_open(&t, "top.qcow2", "copy-on-read=on");
	qt_equals(&t, "want.raw");
	qt_equals(&t, "want.raw");
	qt_close(&t);
	qt_check(&t, "top.qcow2");
	/* All of it was read, so nothing below is needed. */
	qt_sh(&t, "qemu-img rebase -u -b '' -f qcow2 top.qcow2 && rm base.raw m1.qcow2 m2.qcow2");
	qt_sh(&t, "qemu-img compare -q -f raw -F qcow2 want.raw top.qcow2");
}

Test(block_stream, test_copy_on_read_keeps_what_was_read)
{
	qt_seed(22);
	copy_on_read("");
	copy_on_read("-o extended_l2=on");
	copy_on_read("-o compat=0.10,cluster_size=4k");
}

Test(block_stream, test_copy_on_read_of_raw_and_read_only_disks)
{
	cr_expect_lt(bt_drive(&t, "file=%s/x,format=qcow2,id=x,copy-on-read=on,readonly=on"), 0);
	cr_expect(strstr(bt_error(), "leave out readonly=on"), "%s", bt_error());
	make_chain("");
	bt_open(&t, bt_path(&t, "base.raw"), "copy-on-read=on");	/* nothing is below */
	qt_equals(&t, "base.raw");
}

static void refused(const char *name, const char *base, const char *with)
{
	struct err e = ERR_INIT;
	struct stream *s = NULL;

	cr_expect_lt(stream_create(t.g, name, base, NULL, &s, &e), 0);
	cr_expect(strstr(e.text, with), "%s", e.text);
	cr_expect_null(s);
}

Test(block_stream, test_what_cannot_be_is_refused)
{
	struct err e = ERR_INIT;
	struct stream *s;
	char name[64];

	make_chain("");
	qt_open(&t, "top.qcow2", "format=qcow2");
	snprintf(name, sizeof(name), "%s", t.d->node->backing.node->name);
	refused("nobody", NULL, "Cannot find device='nobody'");
	refused(name, NULL, "is not the top node of a disk");
	refused("d0", "nobody", "base 'nobody' is no backing node");
	refused("d0", t.d->node->name, "is no backing node");
	cr_assert_eq(stream_create(t.g, "d0", NULL, NULL, &s, &e), 0, "%s", e.text);
	refused("d0", NULL, "a snapshot or job of");
	drive_close(t.d);	/* the job is still there when the disk is back */
	cr_assert_eq(drive_open(t.g, "d0", "disk0", DRIVE_OPEN_WRITE, &t.d, &e), 0, "%s", e.text);
	refused("d0", NULL, "a snapshot or job of");
	stream_destroy(s);
	cr_assert_eq(stream_create(t.g, "d0", NULL, NULL, &s, &e), 0, "%s", e.text);
	stream_destroy(s);
	qt_close(&t);
	qt_sh(&t, "qemu-img snapshot -c one top.qcow2");
	qt_open(&t, "top.qcow2", "format=qcow2");
	refused("d0", NULL, "has internal snapshots");
}

Test(block_stream, test_shared_disk_is_refused)
{
	struct err e = ERR_INIT;
	struct drive *other;

	make_chain("");
	cr_assert_eq(bt_blockdev(&t, "{\"driver\": \"qcow2\", \"node-name\": \"top\", \"file\": "
				 "{\"driver\": \"file\", \"filename\": \"%s/top.qcow2\"}}"), 0, "%s",
		     bt_error());
	cr_assert_eq(drive_open(t.g, "top", "disk0", DRIVE_OPEN_WRITE | DRIVE_OPEN_SHARE, &t.d,
				&e), 0, "%s", e.text);
	cr_assert_eq(drive_open(t.g, "top", "disk1", DRIVE_OPEN_WRITE | DRIVE_OPEN_SHARE, &other,
				&e), 0, "%s", e.text);
	refused("top", NULL, "is used by");
	drive_close(other);
}

/* ---- beside a guest that writes ---- */

struct runner {
	struct stream *s;
	_Atomic int over;
	int ret;
	struct err e;
};

static void *run_stream(void *arg)
{
	struct runner *r = arg;
	struct loop *own;

	cr_assert_eq(loop_create(&own, "stream", LOOP_AIO_AUTO, &r->e), 0);
	r->ret = stream_run(r->s, own, go_on, give_up, NULL, &r->e);
	loop_destroy(own);
	atomic_store(&r->over, 1);
	return NULL;
}

/* Pieces of any alignment; what is written is remembered in @want. */
static void write_and_discard(uint8_t *want)
{
	static uint8_t buf[96 * 1024];
	uint32_t len = (1 + qt_rnd(190)) * 512, off = qt_rnd(DISK / 512 - 190) * 512;

	memset(buf, (int)(1 + qt_rnd(255)), len);
	if (qt_rnd(8) == 0) {
		cr_assert_eq(bt_io(&t, BLOCK_WRITE_ZEROES, off, NULL, len, BLOCK_UNMAP), 0);
		memset(want + off, 0, len);
		return;
	}
	cr_assert_eq(bt_io(&t, BLOCK_WRITE, off, buf, len, 0), 0);
	memcpy(want + off, buf, len);
}

static void under_load(const char *opts)
{
	struct runner r = { .e = ERR_INIT };
	uint8_t *want = calloc(1, DISK), *got = calloc(1, DISK);
	pthread_t thread;
	FILE *f;

	make_chain(opts);
	f = fopen(bt_path(&t, "want.raw"), "r");
	cr_assert_eq(fread(want, 1, DISK, f), DISK);
	fclose(f);
	qt_open(&t, "top.qcow2", "format=qcow2");
	cr_assert_eq(stream_create(t.g, "d0", NULL, NULL, &r.s, &r.e), 0, "%s", r.e.text);
	cr_assert_eq(pthread_create(&thread, NULL, run_stream, &r), 0);
	for (int i = 0; i < WRITES || !atomic_load(&r.over); i++)
		write_and_discard(want);
	pthread_join(thread, NULL);
	cr_assert_eq(r.ret, 0, "%s", r.e.text);
	finish(r.s);
	cr_assert_eq(bt_io(&t, BLOCK_READ, 0, got, DISK, 0), 0);
	cr_expect_eq(memcmp(want, got, DISK), 0);
	f = fopen(bt_path(&t, "want.raw"), "w");
	cr_assert_eq(fwrite(want, 1, DISK, f), DISK);
	fclose(f);
	judge("base.raw m1.qcow2 m2.qcow2");
	free(want);
	free(got);
}

Test(block_stream, test_writes_meanwhile_win)
{
	qt_seed(20);
	for (int i = 0; i < 4; i++)
		under_load("");
}

Test(block_stream, test_writes_meanwhile_win_with_subclusters)
{
	qt_seed(21);
	for (int i = 0; i < 4; i++)
		under_load("-o extended_l2=on");
}

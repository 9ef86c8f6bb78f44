/*
 * tests/unit/test_block_commit.c - what lies above a backing file goes into it, while
 * the disk is written to. qemu-img is the judge.
 *
 * TSAN: the copying and the disk's requests are on threads of their own.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "block/commit.h"
#include "block/file.h"
#include "block/graph.h"
#include "lib_qcow2.h"
#include "vmm/base/util.h"

#define DISK	(4 * MIB)
#define WRITES	300

static struct bt t;
static bool stop_at_half;

/* One commit, and how the test wants it. */
static struct run {
	struct commit *c;
	int begun, ended;
	int ret;
	struct err e;
	pthread_t thread;
	_Atomic int over;		/* the thread is */
	_Atomic int rounds;		/* ready was asked */
	_Atomic int wish;		/* enum commit_wish */
	_Atomic bool stop;
	struct err run_e;
} x;

static void setup(void)
{
	bt_start(&t, LOOP_AIO_AUTO);
}

static void teardown(void)
{
	bt_stop(&t);
}

TestSuite(block_commit, .init = setup, .fini = teardown, .timeout = 150);

/* base <- m1.qcow2 <- m2.qcow2 <- top.qcow2, and what the disk reads as in want.raw. */
static void make_chain(const char *format, const char *opts)
{
	qt_sh(&t, "rm -f base base.* m1.* m2.* top.*");
	qt_sh(&t, "qemu-img create -q -f %s base %llu", format, DISK);
	qt_sh(&t, "qemu-io -f %s -c 'write -P 1 0 2M' base", format);
	qt_sh(&t, "qemu-img create -q -f qcow2 %s -b base -F %s m1.qcow2", opts, format);
	qt_sh(&t, "qemu-io -f qcow2 -c 'write -P 2 1M 300k' -c 'write -z 64k 64k' m1.qcow2");
	qt_sh(&t, "qemu-img create -q -f qcow2 -b m1.qcow2 -F qcow2 m2.qcow2");
	qt_sh(&t, "qemu-io -f qcow2 -c 'write -P 3 3M 200k' -c 'write -P 3 512 512' m2.qcow2");
	qt_sh(&t, "qemu-img create -q -f qcow2 %s -b m2.qcow2 -F qcow2 top.qcow2", opts);
	qt_sh(&t, "qemu-io -f qcow2 -c 'write -P 4 1500k 9k' -c 'write -z 256k 64k' top.qcow2");
	qt_sh(&t, "qemu-img convert -O raw top.qcow2 want.raw");
}

/* The node @depth files below the disk's own. */
static struct block_node *below(int depth)
{
	struct block_node *n = t.d->node;

	while (depth-- > 0)
		n = n->backing.node;
	return n;
}

/* ---- one commit ---- */

static int go_on(void *arg, uint64_t bytes, uint64_t done, uint64_t all)
{
	cr_expect_leq(done, all);
	return stop_at_half && done > all / 2 ? -ECANCELED : 0;
}

static int ready(void *arg, uint64_t done, uint64_t all)
{
	cr_expect_leq(done, all);
	atomic_fetch_add(&x.rounds, 1);
	if (!atomic_load(&x.wish))
		usleep(1000);
	return atomic_load(&x.stop) ? -ECANCELED : atomic_load(&x.wish);
}

static int failed(void *arg, bool write, int err)
{
	return err;
}

static bool stopped(void *arg)
{
	return atomic_load(&x.stop);
}

static void on_begun(void *arg, int ret, const struct err *e)
{
	x.begun++;
	x.ret = ret;
	x.e = *e;
}

static void on_ended(void *arg, int ret, const struct err *e)
{
	x.ended++;
	x.ret = ret;
	x.e = *e;
}

static void post(void *arg, struct loop_work *w)
{
	loop_post(t.loop, w);
}

static void *run(void *arg)
{
	struct commit_watch w = { go_on, ready, failed, stopped, post, NULL };
	struct loop *l;

	cr_assert_eq(loop_create(&l, "commit", LOOP_AIO_AUTO, &x.run_e), 0);
	x.ret = commit_run(x.c, l, &w, &x.run_e);
	loop_destroy(l);
	atomic_store(&x.over, 1);
	return NULL;
}

static void turn_until(const int *flag)
{
	uint64_t end = clock_ns() + 20 * NS_PER_SEC;

	while (!*flag && clock_ns() < end)
		loop_turn(t.loop, NS_PER_MS);
	cr_assert(*flag, "it never ends");
}

static int try_start(const char *top, const char *base, struct err *e)
{
	struct commit_opts o = { "d0", top, base, NULL };

	x = (struct run){ .e = ERR_INIT, .run_e = ERR_INIT };
	return commit_start(t.g, &o, on_begun, NULL, &x.c, e);
}

/* It copies on its thread from here on. */
static void start(struct block_node *top, struct block_node *base)
{
	struct err e = ERR_INIT;

	cr_assert_eq(try_start(top ? top->name : NULL, base ? base->name : NULL, &e), 0, "%s",
		     e.text);
	cr_assert_eq(x.begun, 0);
	turn_until(&x.begun);
	cr_assert_eq(x.ret, 0, "%s", x.e.text);
	cr_assert_eq(pthread_create(&x.thread, NULL, run, NULL), 0);
}

/* The thread ended: so does the commit. */
static void end(int ret)
{
	while (!atomic_load(&x.over))
		loop_turn(t.loop, NS_PER_MS);
	pthread_join(x.thread, NULL);
	commit_end(x.c, x.ret, &x.run_e, on_ended, NULL);
	turn_until(&x.ended);
	cr_assert_eq(x.ret, ret, "%s", x.e.text);
	commit_destroy(x.c);
	for (struct block_node *n = t.d->node; n; n = n->backing.node)
		cr_expect_null(n->reserved_by);
	cr_expect_null(t.d->on_close);
	cr_expect_null(atomic_load(&t.d->dirty));
}

static void await_rounds(int n)
{
	uint64_t limit = clock_ns() + 20 * NS_PER_SEC;

	while (atomic_load(&x.rounds) < n && clock_ns() < limit)
		loop_turn(t.loop, NS_PER_MS);
	cr_assert_geq(atomic_load(&x.rounds), n);
}

static void commit(struct block_node *top, struct block_node *base)
{
	start(top, base);
	atomic_store(&x.wish, COMMIT_COMPLETE);
	end(0);
}

/* The disk is as it should be, here and for others, without the files @gone. */
static void judge(const char *image, const char *format, const char *gone)
{
	qt_equals(&t, "want.raw");
	qt_close(&t);
	qt_sh(&t, "rm -f %s", gone);
	if (strcmp(format, "qcow2") == 0)
		qt_check(&t, image);
	qt_sh(&t, "qemu-img compare -q -f raw -F %s want.raw %s", format, image);
}

/* ---- intermediate layers ---- */

static void expect_read_only(const struct block_node *n)
{
	cr_expect(n->read_only && n->file.node->read_only, "%s", n->name);
	cr_expect_lt(write(((const struct file_node *)n->file.node)->fd, "", 1), 0);
}

static void between(const char *format, const char *opts)
{
	make_chain(format, opts);
	qt_open(&t, "top.qcow2", "format=qcow2");
	expect_read_only(below(3));
	commit(below(1), NULL);
	cr_expect_null(below(1)->backing.node);
	cr_expect_str_eq(t.d->node->backing_file, bt_path(&t, "base"));
	expect_read_only(below(1));
	if (strcmp(format, "qcow2") == 0)
		qt_check(&t, "base");
	judge("top.qcow2", "qcow2", "m1.qcow2 m2.qcow2");
	qt_sh(&t, "qemu-img info top.qcow2 | grep -q 'backing file format: %s'", format);
}

Test(block_commit, test_layers_go_into_a_raw_base)
{
	between("raw", "");
}

Test(block_commit, test_layers_go_into_a_qcow2_base)
{
	between("qcow2", "");
	between("qcow2", "-o extended_l2=on");
	between("qcow2", "-o cluster_size=512");
}

Test(block_commit, test_layer_goes_into_a_base_with_a_backing_file)
{
	make_chain("raw", "");
	qt_open(&t, "top.qcow2", "format=qcow2");
	commit(below(1), below(2));
	cr_expect_str_eq(below(1)->filename, bt_path(&t, "m1.qcow2"));
	cr_expect_not_null(below(2));
	expect_read_only(below(1));
	qt_check(&t, "m1.qcow2");
	judge("top.qcow2", "qcow2", "m2.qcow2");
}

/* Above the top is a file that nobody writes otherwise. */
Test(block_commit, test_overlay_below_the_disk_is_rewritten)
{
	make_chain("raw", "");
	qt_open(&t, "top.qcow2", "format=qcow2");
	commit(below(2), below(3));
	cr_expect_str_eq(below(1)->backing_file, bt_path(&t, "base"));
	expect_read_only(below(1));
	expect_read_only(below(2));
	judge("top.qcow2", "qcow2", "m1.qcow2");
	qt_sh(&t, "qemu-img info m2.qcow2 | grep -q 'backing file format: raw'");
}

Test(block_commit, test_base_becomes_as_long_as_the_top)
{
	static const char *const formats[] = { "raw", "qcow2" };

	for (int i = 0; i < 2; i++) {
		qt_sh(&t, "rm -f base m1.qcow2 top.qcow2");
		qt_sh(&t, "qemu-img create -q -f %s base 1000448", formats[i]);
		qt_sh(&t, "qemu-io -f %s -c 'write -P 1 0 900k' base", formats[i]);
		qt_sh(&t, "qemu-img create -q -f qcow2 -b base -F %s m1.qcow2 2G", formats[i]);
		qt_sh(&t, "qemu-io -f qcow2 -c 'write -P 2 900k 1M' -c 'write -P 3 2047M 64k' "
		      "m1.qcow2");
		qt_sh(&t, "qemu-img create -q -f qcow2 -b m1.qcow2 -F qcow2 top.qcow2");
		qt_sh(&t, "qemu-img convert -O raw top.qcow2 want.raw");
		qt_open(&t, "top.qcow2", "format=qcow2");
		commit(below(1), NULL);
		cr_expect_eq(below(1)->bytes, 2 * GIB);
		qt_close(&t);
		qt_sh(&t, "rm -f m1.qcow2 && qemu-img compare -q -f raw want.raw top.qcow2");
		qt_open(&t, "top.qcow2", "format=qcow2");
		commit(NULL, NULL);
		cr_expect_str_eq(t.d->node->filename, bt_path(&t, "base"));
		qt_close(&t);
		qt_sh(&t, "qemu-img compare -q -f raw -F %s want.raw base", formats[i]);
	}
}

/* What a shorter layer hides in a longer base stays hidden. */
Test(block_commit, test_base_longer_than_the_top)
{
	static const char *const base[] = { "-f raw base 6000000", "-f qcow2 base 6M" };

	for (int i = 0; i < 2; i++) {
		const char *format = i ? "qcow2" : "raw";

		qt_sh(&t, "rm -f base m1.qcow2 top.qcow2");
		qt_sh(&t, "qemu-img create -q %s", base[i]);
		qt_sh(&t, "qemu-io -f %s -c 'write -P 1 0 5700k' base", format);
		qt_sh(&t, "qemu-img create -q -f qcow2 -b base -F %s m1.qcow2 1000448", format);
		qt_sh(&t, "qemu-io -f qcow2 -c 'write -P 2 0 100k' m1.qcow2");
		qt_sh(&t, "qemu-img create -q -f qcow2 -b m1.qcow2 -F qcow2 top.qcow2 4M");
		qt_sh(&t, "qemu-img convert -O raw top.qcow2 want.raw");
		qt_open(&t, "top.qcow2", "format=qcow2");
		commit(below(1), NULL);
		judge("top.qcow2", "qcow2", "m1.qcow2");
	}
}

/* ---- the active layer ---- */

static void active(const char *format, const char *opts)
{
	make_chain(format, opts);
	qt_open(&t, "top.qcow2", "format=qcow2,discard=unmap");
	commit(NULL, NULL);
	cr_expect_str_eq(t.d->node->filename, bt_path(&t, "base"));
	cr_expect_null(t.d->node->backing.node);
	cr_expect_eq(t.d->node->discard, BLOCK_DISCARD_UNMAP);
	cr_expect(!t.d->node->read_only);
	judge("base", format, "m1.qcow2 m2.qcow2 top.qcow2");
}

Test(block_commit, test_disk_goes_on_with_a_raw_base)
{
	active("raw", "");
}

Test(block_commit, test_disk_goes_on_with_a_qcow2_base)
{
	active("qcow2", "");
	active("qcow2", "-o extended_l2=on");
	active("qcow2", "-o cluster_size=512");
}

Test(block_commit, test_disk_goes_on_with_the_middle_of_its_chain)
{
	make_chain("raw", "");
	qt_open(&t, "top.qcow2", "format=qcow2");
	commit(NULL, below(2));
	cr_expect_str_eq(t.d->node->filename, bt_path(&t, "m1.qcow2"));
	cr_expect_not_null(t.d->node->backing.node);
	judge("m1.qcow2", "qcow2", "m2.qcow2 top.qcow2");
}

/* Nodes that a client made stay, without the base. */
Test(block_commit, test_nodes_of_the_client_stay)
{
	struct err e = ERR_INIT;

	make_chain("raw", "");
	cr_assert_eq(bt_blockdev(&t, "{\"driver\": \"raw\", \"node-name\": \"b\", \"read-only\": "
				 "true, \"file\": {\"driver\": \"file\", \"filename\": \"%s/base\"}}"),
		     0, "%s", bt_error());
	cr_assert_eq(bt_blockdev(&t, "{\"driver\": \"qcow2\", \"node-name\": \"m1\", \"read-only\": "
				 "true, \"backing\": \"b\", \"file\": {\"driver\": \"file\", "
				 "\"filename\": \"%s/m1.qcow2\"}}"), 0, "%s", bt_error());
	cr_assert_eq(bt_blockdev(&t, "{\"driver\": \"qcow2\", \"node-name\": \"m2\", \"read-only\": "
				 "true, \"backing\": \"m1\", \"file\": {\"driver\": \"file\", "
				 "\"filename\": \"%s/m2.qcow2\"}}"), 0, "%s", bt_error());
	cr_assert_eq(bt_blockdev(&t, "{\"driver\": \"qcow2\", \"node-name\": \"d0\", \"backing\": "
				 "\"m2\", \"file\": {\"driver\": \"file\", \"filename\": "
				 "\"%s/top.qcow2\"}}"), 0, "%s", bt_error());
	cr_assert_eq(drive_open(t.g, "d0", "disk0", DRIVE_OPEN_WRITE, &t.d, &e), 0, "%s", e.text);
	commit(NULL, NULL);
	cr_expect_str_eq(t.d->node->name, "b");
	cr_expect_eq(block_node_del(t.g, "d0", &e), 0, "%s", e.text);
	cr_expect_eq(block_node_del(t.g, "m2", &e), 0, "%s", e.text);
	cr_expect_eq(block_node_del(t.g, "m1", &e), 0, "%s", e.text);
	cr_expect_eq(block_node_del(t.g, "b", &e), -EBUSY);
	judge("base", "raw", "m1.qcow2 m2.qcow2 top.qcow2");
}

Test(block_commit, test_stopped_when_ready_it_keeps_the_chain)
{
	make_chain("qcow2", "");
	qt_open(&t, "top.qcow2", "format=qcow2");
	start(NULL, NULL);
	await_rounds(3);
	atomic_store(&x.wish, COMMIT_STOP);
	end(0);
	cr_expect_str_eq(t.d->node->filename, bt_path(&t, "top.qcow2"));
	expect_read_only(below(3));
	qt_sh(&t, "qemu-img compare -q -f raw -F qcow2 want.raw base");
	judge("top.qcow2", "qcow2", "");
}

/* ---- ends before the end ---- */

Test(block_commit, test_cancelled_one_leaves_the_chain)
{
	make_chain("qcow2", "");
	qt_open(&t, "top.qcow2", "format=qcow2");
	stop_at_half = true;
	start(below(1), NULL);
	end(-ECANCELED);
	start(NULL, NULL);
	end(-ECANCELED);
	expect_read_only(below(1));
	expect_read_only(below(3));
	qt_equals(&t, "want.raw");
	qt_check(&t, "base");
	stop_at_half = false;
	commit(NULL, NULL);
	judge("base", "qcow2", "m1.qcow2 m2.qcow2 top.qcow2");
}

Test(block_commit, test_cancelled_when_ready)
{
	make_chain("raw", "");
	qt_open(&t, "top.qcow2", "format=qcow2");
	start(NULL, NULL);
	await_rounds(2);
	atomic_store(&x.stop, true);
	end(-ECANCELED);
	expect_read_only(below(3));
	judge("top.qcow2", "qcow2", "");
}

Test(block_commit, test_unplugged_while_it_follows)
{
	struct err e = ERR_INIT;

	make_chain("qcow2", "");
	qt_open(&t, "top.qcow2", "format=qcow2");
	start(NULL, NULL);
	await_rounds(1);
	drive_close(t.d);
	cr_expect_eq(drive_open(t.g, "d0", "disk0", DRIVE_OPEN_WRITE, &t.d, &e), -EBUSY);
	cr_expect(strstr(e.text, "worked on by a commit job"), "%s", e.text);
	end(-ENODEV);
	cr_expect(strstr(x.e.text, "was removed"), "%s", x.e.text);
	e = (struct err)ERR_INIT;
	cr_assert_eq(drive_open(t.g, "d0", "disk0", DRIVE_OPEN_WRITE, &t.d, &e), 0, "%s", e.text);
	judge("top.qcow2", "qcow2", "");
	qt_check(&t, "base");
}

/* ---- beside a guest that writes ---- */

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

static struct bt_req kept;

/* Until the thread is over; true: a write is under way then, as the drive is held. */
static bool write_until_held(uint8_t *want)
{
	static uint8_t buf[4096];
	uint32_t off;

	kept.done = 1;
	while (!atomic_load(&x.over)) {
		off = qt_rnd(DISK / 4096) * 4096;
		memset(buf, (int)(1 + qt_rnd(255)), sizeof(buf));
		memcpy(want + off, buf, sizeof(buf));
		bt_submit(&t, &kept, BLOCK_WRITE, off, buf, sizeof(buf), 0);
		while (!kept.done && !atomic_load(&x.over))
			loop_turn(t.loop, NS_PER_MS);
	}
	return !kept.done;
}

static void compare_all(const uint8_t *want)
{
	uint8_t *got = malloc(DISK);
	FILE *f = fopen(bt_path(&t, "want.raw"), "w");

	cr_assert_eq(bt_io(&t, BLOCK_READ, 0, got, DISK, 0), 0);
	cr_expect_eq(memcmp(want, got, DISK), 0);
	cr_assert_eq(fwrite(want, 1, DISK, f), DISK);
	fclose(f);
	free(got);
}

static void under_load(const char *format, const char *opts, bool layers)
{
	uint8_t *want = calloc(1, DISK);
	bool last;
	FILE *f;

	make_chain(format, opts);
	f = fopen(bt_path(&t, "want.raw"), "r");
	cr_assert_eq(fread(want, 1, DISK, f), DISK);
	fclose(f);
	qt_open(&t, "top.qcow2", "format=qcow2");
	for (int i = 0; i < 20; i++)
		write_and_discard(want);
	start(layers ? below(1) : NULL, NULL);
	for (int i = 0; i < WRITES; i++)
		write_and_discard(want);
	atomic_store(&x.wish, COMMIT_COMPLETE);
	last = write_until_held(want);
	end(0);
	if (last)
		bt_wait(&t, &kept);
	for (int i = 0; i < 20; i++)
		write_and_discard(want);
	compare_all(want);
	if (layers)
		judge("top.qcow2", "qcow2", "m1.qcow2 m2.qcow2");
	else
		judge("base", format, "m1.qcow2 m2.qcow2 top.qcow2");
	free(want);
}

Test(block_commit, test_writes_to_the_active_layer_meanwhile)
{
	qt_seed(30);
	under_load("raw", "", false);
	under_load("qcow2", "", false);
	under_load("qcow2", "-o extended_l2=on", false);
}

Test(block_commit, test_writes_above_the_layers_meanwhile)
{
	qt_seed(31);
	under_load("raw", "", true);
	under_load("qcow2", "", true);
	under_load("qcow2", "-o cluster_size=4k", true);
}

/* ---- what cannot be ---- */

static void refused(const char *disk, const char *top, const char *base, const char *with)
{
	struct commit_opts o = { disk, top, base, NULL };
	struct commit *c = NULL;
	struct err e = ERR_INIT;

	cr_expect_lt(commit_start(t.g, &o, on_begun, NULL, &c, &e), 0);
	cr_expect(strstr(e.text, with), "%s", e.text);
	cr_expect_null(c);
}

Test(block_commit, test_what_cannot_be_is_refused)
{
	char m1[64], m2[64];

	make_chain("raw", "");
	qt_open(&t, "top.qcow2", "format=qcow2");
	snprintf(m1, sizeof(m1), "%s", below(2)->name);
	snprintf(m2, sizeof(m2), "%s", below(1)->name);
	refused("nobody", NULL, NULL, "Cannot find device='nobody'");
	refused(m1, NULL, NULL, "is not the top node of a disk");
	refused("d0", "nobody", NULL, "top 'nobody' is not in the chain");
	refused("d0", NULL, "nobody", "base 'nobody' is not in the chain");
	refused("d0", m1, m2, "is not in the chain below");
	refused("d0", m1, m1, "is not in the chain below");
	refused("d0", below(3)->name, NULL, "has no backing file");
	start(NULL, NULL);
	refused("d0", NULL, NULL, "a snapshot or job of");
	cr_expect_lt(bt_blockdev(&t, "{\"driver\": \"qcow2\", \"node-name\": \"n\", \"backing\": "
				 "\"d0\", \"file\": {\"driver\": \"file\", \"filename\": "
				 "\"%s/m2.qcow2\"}}"), 0);
	atomic_store(&x.wish, COMMIT_COMPLETE);
	end(0);
	refused("d0", NULL, NULL, "has no backing file");
}

Test(block_commit, test_base_used_elsewhere_is_refused)
{
	struct err e = ERR_INIT;
	struct drive *other;

	make_chain("raw", "");
	qt_open(&t, "top.qcow2", "format=qcow2");
	/* Another node is like another process. */
	cr_assert_eq(bt_drive(&t, "file=%s/base,format=raw,if=none,id=d1,readonly=on"), 0, "%s",
		     bt_error());
	cr_assert_eq(drive_open(t.g, "d1", "disk1", 0, &other, &e), 0, "%s", e.text);
	cr_assert_eq(try_start(NULL, NULL, &e), 0, "%s", e.text);
	turn_until(&x.begun);
	cr_expect_eq(x.ret, -EBUSY);
	cr_expect(strstr(x.e.text, "opened twice by this process"), "%s", x.e.text);
	commit_destroy(x.c);
	expect_read_only(below(3));
	qt_equals(&t, "want.raw");
	drive_close(other);
	commit(NULL, NULL);
	judge("base", "raw", "m1.qcow2 m2.qcow2 top.qcow2");
}

Test(block_commit, test_longer_base_is_refused_for_the_active_layer)
{
	qt_sh(&t, "qemu-img create -q -f raw base 6M");
	qt_sh(&t, "qemu-img create -q -f qcow2 -b base -F raw top.qcow2 4M");
	qt_open(&t, "top.qcow2", "format=qcow2");
	refused("d0", NULL, NULL, "make the disk as long");
}

/*
 * tests/unit/test_block_snapshot.c - overlays put on disks while requests are in
 * flight: one point in time, all or none, nothing lost. qemu-img is the judge.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "block/graph.h"
#include "block/retry.h"
#include "block/snapshot.h"
#include "lib_qcow2.h"
#include "lib_script.h"
#include "vmm/base/util.h"

#define DISK	(256 * 1024u)

static struct bt t;
static int finished, result;
static char sentence[512];

static void setup(void)
{
	bt_start(&t, LOOP_AIO_AUTO);
}

static void teardown(void)
{
	bt_stop(&t);
}

TestSuite(block_snapshot, .init = setup, .fini = teardown, .timeout = 60);

static void done(void *arg, int ret, const struct err *e)
{
	finished++;
	result = ret;
	snprintf(sentence, sizeof(sentence), "%s", ret ? e->text : "");
}

/* Node "@name" on a qcow2 image with @base behind it in name only. */
static void overlay(const char *name, const char *base, const char *fmt)
{
	json_t *args;
	struct err e = ERR_INIT;

	qt_sh(&t, "qemu-img create -q -f qcow2 -b %s -F %s %s.qcow2", base, fmt, name);
	args = json_pack("{s:s,s:s,s:n,s:{s:s,s:s+}}", "driver", "qcow2", "node-name", name,
			 "backing", "file", "driver", "file", "filename", bt_path(&t, name),
			 ".qcow2");
	cr_assert_not_null(args);
	cr_assert_eq(block_node_open(t.g, args, NULL, &e), 0, "%s", e.text);
	json_decref(args);
}

static int start(struct snapshot_pair *p, int n)
{
	struct snapshot *s;
	struct err e = ERR_INIT;
	int r = snapshot_start(t.g, p, n, done, NULL, &s, &e);

	snprintf(sentence, sizeof(sentence), "%s", e.text);
	return r;
}

static void finish(void)
{
	uint64_t end = clock_ns() + 20 * NS_PER_SEC;

	while (!finished && clock_ns() < end)
		loop_turn(t.loop, NS_PER_MS);
	cr_assert_eq(finished, 1, "the snapshot never ends");
}

static void write_at(uint64_t off, uint8_t byte)
{
	static uint8_t buf[4096];

	memset(buf, byte, sizeof(buf));
	cr_assert_eq(bt_io(&t, BLOCK_WRITE, off, buf, sizeof(buf), 0), 0);
}

static void expect_at(uint64_t off, uint8_t byte)
{
	uint8_t buf[4096];

	cr_assert_eq(bt_io(&t, BLOCK_READ, off, buf, sizeof(buf), 0), 0);
	cr_assert_eq(buf[0], byte);
	cr_assert_eq(buf[4095], byte);
}

static void ignore_error(struct drive *d, enum block_op op, int err, enum drive_policy action)
{
}

Test(block_snapshot, test_writes_after_it_go_to_the_overlay)
{
	struct snapshot_pair p = { "d0", "ov" };

	bt_disk(&t, DISK, "cache=none");
	overlay("ov", "d0.raw", "raw");
	write_at(0, 1);
	cr_assert_eq(start(&p, 1), 0, "%s", sentence);
	cr_assert_eq(finished, 0, "it waits for flushes");
	finish();
	cr_assert_eq(result, 0, "%s", sentence);
	cr_assert_str_eq(t.d->node->name, "ov");
	write_at(4096, 2);
	expect_at(0, 1);
	expect_at(4096, 2);
	cr_assert_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	qt_close(&t);
	qt_sh(&t, "od -An -tx1 -N1 d0.raw | grep -q 01");
	qt_sh(&t, "od -An -tx1 -j4096 -N1 d0.raw | grep -qv 02");
	qt_sh(&t, "qemu-img convert -O raw ov.qcow2 flat.raw");
	qt_sh(&t, "od -An -tx1 -j4096 -N1 flat.raw | grep -q 02");
	qt_check(&t, "ov.qcow2");
}

/* Requests in flight run out; those that come meanwhile wait, then go on. */
Test(block_snapshot, test_requests_of_the_moment_are_kept_not_lost)
{
	struct snapshot_pair p = { "d0", "ov" };
	static uint8_t buf[3][4096];
	struct bt_req q[3];

	bt_disk(&t, DISK, "cache=none");
	overlay("ov", "d0.raw", "raw");
	script_install(t.d);
	script.hold = true;
	memset(buf[0], 0x11, 4096);
	bt_submit(&t, &q[0], BLOCK_WRITE, 0, buf[0], 4096, 0);
	script.hold = false;
	cr_assert_eq(start(&p, 1), 0, "%s", sentence);
	while (!atomic_load(&t.d->held))
		loop_turn(t.loop, NS_PER_MS);
	memset(buf[1], 0x22, 4096);
	bt_submit(&t, &q[1], BLOCK_WRITE, 8192, buf[1], 4096, 0);
	bt_submit(&t, &q[2], BLOCK_READ, 0, buf[2], 4096, 0);
	for (int i = 0; i < 20; i++)
		loop_turn(t.loop, NS_PER_MS);
	cr_assert_eq(q[0].done + q[1].done + q[2].done + finished, 0);
	script_release(0);
	finish();
	cr_assert_eq(result, 0, "%s", sentence);
	for (int i = 0; i < 3; i++)
		bt_wait(&t, &q[i]);
	cr_assert_eq(q[1].ret, 0);
	cr_assert_eq(buf[2][0], 0x11);
	expect_at(8192, 0x22);
	qt_close(&t);
	qt_sh(&t, "od -An -tx1 -N1 d0.raw | grep -q 11");
	qt_sh(&t, "od -An -tx1 -j8192 -N1 d0.raw | grep -qv 22");
	qt_check(&t, "ov.qcow2");
}

Test(block_snapshot, test_a_kept_request_is_cancelled_before_it_began)
{
	struct snapshot_pair p = { "d0", "ov" };
	static uint8_t buf[2][4096];
	struct bt_req q[2];

	bt_disk(&t, DISK, "cache=none");
	overlay("ov", "d0.raw", "raw");
	script_install(t.d);
	script.hold = true;
	bt_submit(&t, &q[0], BLOCK_WRITE, 0, buf[0], 4096, 0);
	script.hold = false;
	cr_assert_eq(start(&p, 1), 0, "%s", sentence);
	while (!atomic_load(&t.d->held))
		loop_turn(t.loop, NS_PER_MS);
	bt_submit(&t, &q[1], BLOCK_WRITE, 8192, buf[1], 4096, 0);
	drive_cancel(&q[1].r);
	bt_wait(&t, &q[1]);
	cr_assert_eq(q[1].ret, -ECANCELED);
	script_release(0);
	finish();
	bt_wait(&t, &q[0]);
	cr_assert_eq(result, 0, "%s", sentence);
}

/* The VM goes on while the disk is held: what a stop kept is not written to the
 * old image, which may be about to lose its writer. */
Test(block_snapshot, test_a_resume_meanwhile_writes_to_the_overlay)
{
	struct snapshot_pair p = { "d0", "ov" };
	static uint8_t buf[2][4096];
	struct bt_req q[2];

	bt_disk(&t, DISK, "cache=none,werror=stop");
	overlay("ov", "d0.raw", "raw");
	script_install(t.d);
	t.d->on_error = ignore_error;
	script.bad = 4096;
	memset(buf[0], 0x33, 4096);
	bt_submit(&t, &q[0], BLOCK_WRITE, 4096, buf[0], 4096, 0);
	while (!drive_stop_error(t.d))
		loop_turn(t.loop, NS_PER_MS);
	script.bad = 0;
	script.hold = true;
	bt_submit(&t, &q[1], BLOCK_WRITE, 16384, buf[1], 4096, 0);
	script.hold = false;
	cr_assert_eq(start(&p, 1), 0, "%s", sentence);
	while (!atomic_load(&t.d->held))
		loop_turn(t.loop, NS_PER_MS);
	drive_resume(t.d);
	for (int i = 0; i < 20; i++)
		loop_turn(t.loop, NS_PER_MS);
	cr_assert_eq(q[0].done, 0, "written to the old image");
	script_release(0);
	finish();
	cr_assert_eq(result, 0, "%s", sentence);
	bt_wait(&t, &q[0]);
	bt_wait(&t, &q[1]);
	cr_assert_eq(q[0].ret, 0);
	expect_at(4096, 0x33);
	qt_close(&t);
	qt_sh(&t, "od -An -tx1 -j4096 -N1 d0.raw | grep -qv 33");
	qt_check(&t, "ov.qcow2");
}

/* Two devices with share-rw=on: the second would write below the overlay. */
Test(block_snapshot, test_a_node_of_two_disks_is_refused)
{
	uint32_t flags = DRIVE_OPEN_WRITE | DRIVE_OPEN_SHARE;
	struct snapshot_pair p = { "n", "ov" };
	struct err e = ERR_INIT;
	struct drive *second;

	bt_file(&t, "d0.raw", DISK);
	cr_assert_eq(bt_blockdev(&t, "driver=raw,node-name=n,file.driver=file,"
				 "file.filename=%s/d0.raw"), 0, "%s", bt_error());
	overlay("ov", "d0.raw", "raw");
	cr_assert_eq(drive_open(t.g, "n", "a", flags, &t.d, &e), 0, "%s", e.text);
	cr_assert_eq(drive_open(t.g, "n", "b", flags, &second, &e), 0, "%s", e.text);
	cr_expect_eq(start(&p, 1), -EBUSY);
	cr_expect(strstr(sentence, "'b'"), "%s", sentence);
	drive_close(second);
	cr_assert_eq(start(&p, 1), 0, "%s", sentence);
	finish();
	cr_assert_eq(result, 0, "%s", sentence);
}

/* The disk is unplugged while its requests run out. */
Test(block_snapshot, test_a_disk_that_goes_meanwhile_fails_it)
{
	struct snapshot_pair p = { "d0", "ov" };

	bt_disk(&t, DISK, "cache=none");
	overlay("ov", "d0.raw", "raw");
	cr_assert_eq(start(&p, 1), 0, "%s", sentence);
	drive_close(t.d);
	t.d = NULL;
	finish();
	cr_assert_eq(result, -ENODEV, "%s", sentence);
}

/* The image's end waits for a flush on the main loop's thread, where that of the
 * snapshot is in flight and can end only afterwards. */
Test(block_snapshot, test_a_qcow2_disk_goes_while_it_is_flushed)
{
	struct snapshot_pair p = { "d0", "ov" };

	qt_sh(&t, "qemu-img create -q -f qcow2 d0.qcow2 %u", DISK);
	qt_open(&t, "d0.qcow2", "cache=none");
	overlay("ov", "d0.qcow2", "qcow2");
	write_at(0, 1);
	cr_assert_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	write_at(0, 2);		/* in place: the file alone has to be flushed */
	cr_assert_eq(start(&p, 1), 0, "%s", sentence);
	drive_close(t.d);
	t.d = NULL;
	finish();
	cr_assert_eq(result, -ENODEV, "%s", sentence);
	qt_close(&t);
	qt_check(&t, "d0.qcow2");
}

/* A suspended disk: what is parked is written to the new overlay. */
Test(block_snapshot, test_parked_writes_move_to_the_overlay)
{
	struct snapshot_pair p = { "d0", "ov" };
	static uint8_t buf[4096];
	struct bt_req q;

	bt_disk(&t, DISK, "cache=none,werror=retry,retry_interval=100000");
	overlay("ov", "d0.raw", "raw");
	script_install(t.d);
	script.bad = 4096;
	memset(buf, 0x33, sizeof(buf));
	bt_submit(&t, &q, BLOCK_WRITE, 4096, buf, sizeof(buf), 0);
	while (!drive_retry_info(t.d).parked)
		loop_turn(t.loop, NS_PER_MS);
	cr_assert_eq(start(&p, 1), 0, "%s", sentence);
	finish();
	cr_assert_eq(result, 0, "%s", sentence);
	cr_assert_eq(q.done, 0);
	drive_retry_now(t.d);
	bt_wait(&t, &q);
	cr_assert_eq(q.ret, 0);
	expect_at(4096, 0x33);
	qt_close(&t);
	qt_sh(&t, "od -An -tx1 -j4096 -N1 d0.raw | grep -qv 33");
	qt_check(&t, "ov.qcow2");
}

Test(block_snapshot, test_a_dead_disk_fails_it_and_works_on_unchanged)
{
	struct snapshot_pair p = { "d0", "ov" };

	bt_disk(&t, DISK, "cache=none");
	overlay("ov", "d0.raw", "raw");
	script_install(t.d);
	script.fail_flush = EIO;
	cr_assert_eq(start(&p, 1), 0, "%s", sentence);
	finish();
	cr_assert_eq(result, -EIO);
	cr_assert(strstr(sentence, "cannot be flushed"), "%s", sentence);
	script.fail_flush = 0;
	cr_assert_str_neq(t.d->node->name, "ov");
	write_at(0, 9);
	finished = 0;
	cr_assert_eq(start(&p, 1), 0, "%s", sentence);
	finish();
	cr_assert_eq(result, 0, "it works later: %s", sentence);
}

/* The flush of the moment hangs in the host: the guest's requests are not kept for
 * longer than those that hang. */
Test(block_snapshot, test_a_flush_that_hangs_fails_it_in_time)
{
	struct snapshot_pair p = { "d0", "ov" };
	static uint8_t buf[4096];
	struct bt_req q;

	bt_disk(&t, DISK, "cache=none");
	overlay("ov", "d0.raw", "raw");
	script_install(t.d);
	script.hold = true;
	cr_assert_eq(start(&p, 1), 0, "%s", sentence);
	script_release(0);	/* the first flush */
	script.hold = true;
	while (!script.holding)
		loop_turn(t.loop, NS_PER_MS);
	script.hold = false;
	bt_submit(&t, &q, BLOCK_WRITE, 0, buf, sizeof(buf), 0);
	finish();
	cr_assert_eq(result, -ETIMEDOUT);
	cr_assert(strstr(sentence, "a flush does not end"), "%s", sentence);
	bt_wait(&t, &q);
	cr_expect_eq(q.ret, 0);
	cr_expect_eq(t.g->late, 1);
	cr_expect_eq(block_node_del(t.g, "ov", NULL), 0, "the overlay may go");
	script_release(0);
	while (t.g->late)
		loop_turn(t.loop, NS_PER_MS);
	overlay("ov2", "d0.raw", "raw");
	finished = 0;
	p.overlay = "ov2";
	cr_assert_eq(start(&p, 1), 0, "%s", sentence);
	finish();
	cr_assert_eq(result, 0, "it works later: %s", sentence);
}

Test(block_snapshot, test_quit_does_not_wait_for_a_flush_that_hangs)
{
	struct snapshot_pair p = { "d0", "ov" };
	struct err e = ERR_INIT;
	struct snapshot *s;
	uint64_t since;

	bt_disk(&t, DISK, "cache=none");
	overlay("ov", "d0.raw", "raw");
	script_install(t.d);
	script.hold = true;
	cr_assert_eq(snapshot_start(t.g, &p, 1, done, NULL, &s, &e), 0, "%s", e.text);
	since = clock_ns();
	snapshot_abort(s);
	cr_expect_lt(clock_ns() - since, 10 * NS_PER_SEC);
	cr_expect_eq(finished, 0);
	block_graph_destroy(t.g);	/* left as it is */
	cr_expect_eq(t.g->late, 1);
	script_release(0);
	while (t.g->late)
		loop_turn(t.loop, NS_PER_MS);
}

/* A flush behind a parked write is not in the nodes either. */
Test(block_snapshot, test_a_flush_that_waits_for_a_parked_write_does_not_hinder)
{
	struct snapshot_pair p = { "d0", "ov" };
	static uint8_t buf[4096];
	struct bt_req q, f;

	bt_disk(&t, DISK, "cache=none,werror=retry,retry_interval=100000");
	overlay("ov", "d0.raw", "raw");
	script_install(t.d);
	script.bad = 4096;
	bt_submit(&t, &q, BLOCK_WRITE, 4096, buf, sizeof(buf), 0);
	while (!drive_retry_info(t.d).parked)
		loop_turn(t.loop, NS_PER_MS);
	bt_submit(&t, &f, BLOCK_FLUSH, 0, NULL, 0, 0);
	cr_assert_eq(start(&p, 1), 0, "%s", sentence);
	finish();
	cr_assert_eq(result, 0, "%s", sentence);
	cr_assert_eq(q.done + f.done, 0);
	drive_retry_now(t.d);
	bt_wait(&t, &q);
	bt_wait(&t, &f);
	cr_expect_eq(q.ret + f.ret, 0);
}

Test(block_snapshot, test_mistakes_are_named_and_change_nothing)
{
	struct snapshot_pair two[2] = { { "d0", "ov" }, { "d0", "ov" } };

	bt_disk(&t, DISK, "");
	overlay("ov", "d0.raw", "raw");
	qt_sh(&t, "qemu-img create -q -f qcow2 big.qcow2 1M");
	cr_assert_eq(bt_blockdev(&t, "qcow2,node-name=big,file.driver=file,"
				 "file.filename=%s/big.qcow2"), 0, "%s", bt_error());
	cr_assert_eq(start(two, 2), -EINVAL);
	cr_assert(strstr(sentence, "named twice"), "%s", sentence);
	two[0].node = "nothing";
	cr_assert_eq(start(two, 1), -ENOENT);
	two[0] = (struct snapshot_pair){ "d0", "nothing" };
	cr_assert_eq(start(two, 1), -ENOENT);
	two[0] = (struct snapshot_pair){ "big", "ov" };
	cr_assert_eq(start(two, 1), -EINVAL);
	cr_assert(strstr(sentence, "not the top node of a disk"), "%s", sentence);
	two[0] = (struct snapshot_pair){ "d0", "big" };
	cr_assert_eq(start(two, 1), -EINVAL);
	cr_assert(strstr(sentence, "make them equal"), "%s", sentence);
	two[0] = (struct snapshot_pair){ "d0", t.d->node->name };
	cr_assert_eq(start(two, 1), -EBUSY);
	cr_assert(strstr(sentence, "already in use"), "%s", sentence);
	cr_assert_eq(finished, 0);
	write_at(0, 7);
}

/* Fifty of them under load; the chain's sum is what was written. */
Test(block_snapshot, test_fifty_in_a_row_end_with_the_right_data)
{
	struct snapshot_pair p;
	char name[16], under[24] = "d0.raw", top[16] = "d0";
	static uint8_t shadow[DISK], buf[4096];

	bt_disk(&t, DISK, "cache=none");
	for (size_t i = 0; i < DISK; i++)
		shadow[i] = bt_byte(i, 0);
	qt_seed(3);
	for (int i = 0; i < 50; i++) {
		struct bt_req q;
		uint64_t at = qt_rnd(DISK / 4096) * 4096ull;

		snprintf(name, sizeof(name), "s%d", i);
		overlay(name, under, i ? "qcow2" : "raw");
		p = (struct snapshot_pair){ top, name };
		finished = 0;
		cr_assert_eq(start(&p, 1), 0, "%s", sentence);
		memset(buf, i + 1, sizeof(buf));
		memset(shadow + at, i + 1, sizeof(buf));
		bt_submit(&t, &q, BLOCK_WRITE, at, buf, sizeof(buf), 0);
		finish();
		cr_assert_eq(result, 0, "snapshot %d: %s", i, sentence);
		bt_wait(&t, &q);
		cr_assert_eq(q.ret, 0);
		snprintf(under, sizeof(under), "%s.qcow2", name);
		snprintf(top, sizeof(top), "%s", name);
	}
	for (uint64_t at = 0; at < DISK; at += 4096) {
		cr_assert_eq(bt_io(&t, BLOCK_READ, at, buf, 4096, 0), 0);
		cr_assert_arr_eq(buf, shadow + at, 4096, "at %lu", (unsigned long)at);
	}
	qt_close(&t);
	for (int i = 0; i < 50; i += 7) {
		snprintf(name, sizeof(name), "s%d.qcow2", i);
		qt_check(&t, name);
	}
	qt_sh(&t, "qemu-img convert -O raw s49.qcow2 flat.raw");
}

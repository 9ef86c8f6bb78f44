/*
 * tests/unit/test_block_throttle.c - limits on a drive: how much passes, what
 * waits, and every way out of waiting.
 */
#include <criterion/criterion.h>
#include <errno.h>

#include "block/throttle.h"
#include "lib_block.h"
#include "vmm/base/util.h"

#define DISK	(256 * 1024u)
#define N	40

static struct bt t;
static struct bt_req q[N];
static uint8_t data[N][4096];

static void teardown(void)
{
	bt_stop(&t);
}

TestSuite(block_throttle, .fini = teardown, .timeout = 60);

static void disk(const char *opts)
{
	bt_start(&t, LOOP_AIO_AUTO);
	bt_disk(&t, DISK, opts);
}

static void start(enum block_op op, int from, int to)
{
	for (int i = from; i < to; i++)
		bt_submit(&t, &q[i], op, (uint64_t)i * 4096, data[i], 4096, 0);
}

static int done(int from, int to)
{
	int n = 0;

	for (int i = from; i < to; i++)
		n += q[i].done;
	return n;
}

static void turn_ms(unsigned int ms)
{
	uint64_t end = clock_ns() + ms * NS_PER_MS, now;

	while ((now = clock_ns()) < end)
		loop_turn(t.loop, MIN(end - now, NS_PER_MS));
}

/* 100 per second with bursts of a tenth: 11 pass, then one each 10 ms. */
Test(block_throttle, test_iops_pass_a_burst_and_then_the_average)
{
	uint64_t begin = clock_ns();

	disk("throttling.iops-total=100");
	start(BLOCK_WRITE, 0, 31);
	for (int i = 0; i < 31; i++)
		bt_wait(&t, &q[i]);
	cr_assert_geq(clock_ns() - begin, 190 * NS_PER_MS, "%lu ms",
		      (unsigned long)((clock_ns() - begin) / NS_PER_MS));
	for (int i = 0; i < 31; i++)
		cr_assert_eq(q[i].ret, 0);
	cr_assert_eq(drive_totals(t.d).inflight, 0);
}

Test(block_throttle, test_bytes_count_and_a_larger_burst_is_given)
{
	uint64_t begin = clock_ns();

	/* 40 KiB at once, then 40 KiB per second */
	disk("throttling.bps-write=40960,throttling.bps-write-max=40960");
	start(BLOCK_WRITE, 0, 13);
	for (int i = 0; i < 11; i++)
		bt_wait(&t, &q[i]);
	cr_assert_lt(clock_ns() - begin, 5 * NS_PER_SEC);
	bt_wait(&t, &q[12]);
	cr_assert_geq(clock_ns() - begin, 190 * NS_PER_MS);
}

Test(block_throttle, test_reads_do_not_wait_behind_limited_writes)
{
	disk("throttling.iops-write=10");
	start(BLOCK_WRITE, 0, 20);
	start(BLOCK_READ, 20, N);
	for (int i = 20; i < N; i++)
		bt_wait(&t, &q[i]);
	cr_assert_lt(done(0, 20), 20);
	for (int i = 0; i < 20; i++)
		drive_cancel(&q[i].r);
	for (int i = 0; i < 20; i++)
		bt_wait(&t, &q[i]);
	cr_assert_eq(drive_totals(t.d).inflight, 0);
}

Test(block_throttle, test_order_is_kept)
{
	disk("throttling.iops-total=200");
	start(BLOCK_WRITE, 0, N);
	for (int i = 0; i < N; i++) {
		bt_wait(&t, &q[i]);
		for (int k = i + 8; k < N; k++)	/* those in flight may overtake */
			cr_assert_eq(q[k].done && !q[i].done, 0);
	}
}

Test(block_throttle, test_cancelled_waiter_ends_at_once_and_writes_nothing)
{
	uint8_t back[4096];

	disk("throttling.iops-total=1");
	memset(data, 0x5a, sizeof(data));
	start(BLOCK_WRITE, 0, 5);
	turn_ms(20);
	for (int i = 0; i < 5; i++)
		if (!q[i].done)
			drive_cancel(&q[i].r);
	for (int i = 0; i < 5; i++)
		bt_wait(&t, &q[i]);
	cr_assert_eq(q[4].ret, -ECANCELED);
	throttle_set(t.d, &(struct throttle_limits){ 0 }, "test", NULL);
	turn_ms(5);
	cr_assert_eq(bt_io(&t, BLOCK_READ, 4 * 4096, back, 4096, 0), 0);
	cr_assert_neq(back[0], 0x5a, "written after the cancel");
}

Test(block_throttle, test_lifted_limits_let_all_go)
{
	disk("throttling.iops-total=1");
	start(BLOCK_WRITE, 0, N);
	turn_ms(20);
	cr_assert_lt(done(0, N), 5);
	cr_assert_eq(throttle_set(t.d, &(struct throttle_limits){ 0 }, "test", NULL), 0);
	for (int i = 0; i < N; i++)
		bt_wait(&t, &q[i]);
}

static int idles;

static void idle(struct drive *d, void *arg)
{
	idles++;
}

Test(block_throttle, test_waiters_do_not_keep_a_held_drive_busy)
{
	disk("throttling.iops-total=20");
	start(BLOCK_WRITE, 0, 10);
	drive_hold(t.d, idle, NULL);
	for (int i = 0; i < 1000 && !idles; i++)
		loop_turn(t.loop, NS_PER_MS);
	cr_assert_eq(idles, 1);
	turn_ms(200);
	cr_assert_lt(done(0, 10), 10, "issued to a held drive");
	drive_release(t.d);
	for (int i = 0; i < 10; i++)
		bt_wait(&t, &q[i]);
}

Test(block_throttle, test_mistakes_are_named)
{
	bt_start(&t, LOOP_AIO_AUTO);
	bt_file(&t, "a.raw", DISK);
	cr_assert_eq(bt_drive(&t, "file=%s/a.raw,format=raw,id=d0,throttling.iops-total=5,"
			      "throttling.iops-read=5"), -EINVAL);
	cr_assert(strstr(bt_error(), "cannot be used at the same time"), "%s", bt_error());
	cr_assert_eq(bt_drive(&t, "file=%s/a.raw,format=raw,id=d0,throttling.bps-read-max=5"),
		     -EINVAL);
	cr_assert(strstr(bt_error(), "bps_rd_max needs bps_rd"), "%s", bt_error());
	cr_assert_eq(bt_drive(&t, "file=%s/a.raw,format=raw,id=d0,throttling.bps-read=9,"
			      "throttling.bps-read-max=5"), -EINVAL);
	cr_assert_eq(bt_drive(&t, "file=%s/a.raw,format=raw,id=d0,throttling.bps-total="
			      "2000000000000000"), -ERANGE);
}

/*
 * tests/unit/test_block_throttle.c - limits on a drive: how much passes, what
 * waits, and every way out of waiting.
 */
#include <criterion/criterion.h>
#include <errno.h>

#include "block/retry.h"
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
	throttle_set(t.d, NULL, &(struct throttle_limits){ 0 }, "test", NULL);
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
	cr_assert_eq(throttle_set(t.d, NULL, &(struct throttle_limits){ 0 }, "test", NULL), 0);
	for (int i = 0; i < N; i++)
		bt_wait(&t, &q[i]);
}

/* 2000 years at this rate: more nanoseconds than fit 64 bits. */
Test(block_throttle, test_huge_request_makes_others_wait_and_no_more)
{
	bt_start(&t, LOOP_AIO_AUTO);
	cr_assert_eq(bt_blockdev(&t, "driver=null-co,node-name=n0,size=64G"), 0, "%s", bt_error());
	cr_assert_eq(drive_open(t.g, "n0", "n0", DRIVE_OPEN_MAY_WRITE, &t.d,
				&(struct err)ERR_INIT), 0);
	cr_assert_eq(throttle_set(t.d, NULL, &(struct throttle_limits){
			.avg[THROTTLE_BPS] = 1, .max[THROTTLE_BPS] = 512 }, "test", NULL), 0);
	bt_submit(&t, &q[0], BLOCK_DISCARD, 0, NULL, 64 * GIB, 0);
	bt_wait(&t, &q[0]);
	start(BLOCK_WRITE, 1, 3);
	turn_ms(50);
	cr_expect_eq(done(1, 3), 0, "issued far too early");
	cr_assert_eq(throttle_set(t.d, NULL, &(struct throttle_limits){ 0 }, "test", NULL), 0);
	bt_wait(&t, &q[1]);
	bt_wait(&t, &q[2]);
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

/* ---- bursts and settings ---- */

/* 100 per second; for two seconds 400, which are not to be had at once. */
Test(block_throttle, test_burst_with_a_length_passes_at_its_own_rate)
{
	uint64_t begin = clock_ns(), ns;

	disk("throttling.iops-total=10,throttling.iops-total-max=100,"
	     "throttling.iops-total-max-length=2");
	start(BLOCK_WRITE, 0, N);
	for (int i = 0; i < N; i++)
		bt_wait(&t, &q[i]);
	ns = clock_ns() - begin;
	/* A tenth of a second's at once, the other 29 at 100 per second: at ten
	 * per second it would be three seconds. */
	cr_assert_geq(ns, 280 * NS_PER_MS, "%lu ms", (unsigned long)(ns / NS_PER_MS));
	cr_assert_lt(ns, 2 * NS_PER_SEC, "%lu ms", (unsigned long)(ns / NS_PER_MS));
}

Test(block_throttle, test_setting_limits_again_gives_no_new_burst)
{
	struct throttle_limits l = { .avg[THROTTLE_IOPS] = 1, .max[THROTTLE_IOPS] = 10 };

	disk("throttling.iops-total=1,throttling.iops-total-max=10");
	start(BLOCK_WRITE, 0, N);
	for (int i = 0; i < 20; i++) {
		cr_assert_eq(throttle_set(t.d, NULL, &l, "test", NULL), 0);
		turn_ms(5);
	}
	cr_assert_geq(done(0, N), 10);
	cr_assert_leq(done(0, N), 13);
	throttle_set(t.d, NULL, &(struct throttle_limits){ 0 }, "test", NULL);
	for (int i = 0; i < N; i++)
		bt_wait(&t, &q[i]);
}

Test(block_throttle, test_bursts_that_cannot_be_are_refused)
{
	static const struct {
		const char *opts, *sentence;
	} bad[] = {
		{ "throttling.iops-read=5,throttling.iops-read-max-length=2",
		  "iops_rd_max_length needs iops_rd_max" },
		{ "throttling.bps-total=5,throttling.bps-total-max=1000000000000000,"
		  "throttling.bps-total-max-length=2", "bps_max_length is too high" },
		{ "throttling.bps-total=5,throttling.bps-total-max-length=0",
		  "throttling.bps-total-max-length" },
		{ "throttling.bps-total=5,throttling.iops-size=512",
		  "iops_size needs iops, iops_rd or iops_wr" },
		{ "throttling.group=", "throttling.group= is empty" },
	};
	char text[256];

	bt_start(&t, LOOP_AIO_AUTO);
	bt_file(&t, "a.raw", DISK);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		snprintf(text, sizeof(text), "file=%%s/a.raw,format=raw,id=d0,%s", bad[i].opts);
		cr_expect_lt(bt_drive(&t, text), 0);
		cr_expect(strstr(bt_error(), bad[i].sentence), "%s", bt_error());
	}
}

/* ---- groups ---- */

#define EACH	(N / 2)

static struct drive *second;

static void close_second(void)
{
	drive_close(second);
	teardown();
}

TestSuite(block_throttle_group, .fini = close_second, .timeout = 60);

/* Two drives; requests 0 to EACH-1 are for the first one, the others for the
 * second one. */
static void two_disks(const char *first, const char *other)
{
	char text[256];
	struct err e = ERR_INIT;

	disk(first);
	bt_file(&t, "d1.raw", DISK);
	snprintf(text, sizeof(text), "file=%%s/d1.raw,format=raw,if=none,id=d1,%s", other);
	cr_assert_eq(bt_drive(&t, text), 0, "%s", bt_error());
	cr_assert_eq(drive_open(t.g, "d1", "dev1", DRIVE_OPEN_MAY_WRITE, &second, &e), 0);
}

static void start_second(void)
{
	struct drive *d = t.d;

	t.d = second;
	start(BLOCK_WRITE, EACH, N);
	t.d = d;
}

static void end_all(void)
{
	throttle_set(t.d, NULL, &(struct throttle_limits){ 0 }, "test", NULL);
	throttle_set(second, NULL, &(struct throttle_limits){ 0 }, "test", NULL);
	for (int i = 0; i < N; i++)
		bt_wait(&t, &q[i]);
}

#define IN_G	"throttling.group=g"

/* Although all of the first one's came first. */
Test(block_throttle_group, test_members_take_turns)
{
	two_disks(IN_G, "throttling.iops-total=50," IN_G);
	start(BLOCK_WRITE, 0, EACH);
	start_second();
	turn_ms(300);
	cr_assert_gt(done(0, N), EACH / 2);
	cr_assert_lt(done(0, N), N - 2, "the limit is not shared");
	/* Five pass at once, all of the first. */
	cr_assert_geq(done(EACH, N), 4, "%d and %d", done(0, EACH), done(EACH, N));
	cr_assert_leq(done(0, EACH) - done(EACH, N), 8, "%d and %d", done(0, EACH), done(EACH, N));
	end_all();
}

Test(block_throttle_group, test_held_member_keeps_no_other_waiting)
{
	idles = 0;
	two_disks(IN_G, "throttling.iops-total=50," IN_G);
	start(BLOCK_WRITE, 0, EACH);
	drive_hold(t.d, idle, NULL);
	start_second();
	for (int i = EACH; i < N; i++)
		bt_wait(&t, &q[i]);
	cr_assert_eq(idles, 1);
	cr_assert_lt(done(0, EACH), 8, "issued to a held drive");
	drive_release(t.d);
	for (int i = 0; i < EACH; i++)
		bt_wait(&t, &q[i]);
}

/* What waits goes along, and out. */
Test(block_throttle_group, test_member_with_waiters_changes_and_leaves)
{
	struct throttle_limits slow = { .avg[THROTTLE_IOPS] = 1 };
	struct throttle_limits fast = { .avg[THROTTLE_IOPS] = 100000 };

	two_disks("throttling.iops-total=1," IN_G, IN_G);
	start(BLOCK_WRITE, 0, EACH);
	start_second();
	turn_ms(10);
	cr_assert_lt(done(0, N), 4);
	cr_assert_eq(throttle_set(second, "h", &fast, "test", NULL), 0);
	for (int i = EACH; i < N; i++)
		bt_wait(&t, &q[i]);
	cr_assert_lt(done(0, EACH), 4, "the other one went along");
	cr_assert_eq(throttle_set(second, "g", &slow, "test", NULL), 0);
	cr_assert_null(throttle_group_find(t.g, "h"), "it has no members");
	start_second();
	turn_ms(10);
	cr_assert_eq(done(EACH, N), 0, "the group is full");
	throttle_join(&second->throttle, t.g, NULL);
	for (int i = EACH; i < N; i++)
		bt_wait(&t, &q[i]);
	cr_assert_lt(done(0, EACH), 4);
	end_all();
	cr_assert_null(throttle_group_find(t.g, "g"), "it has no members");
}

/* The hold comes while those that were let go are on their way. */
Test(block_throttle_group, test_leaving_a_group_while_held_issues_nothing)
{
	idles = 0;
	two_disks("throttling.iops-total=1," IN_G, IN_G);
	start(BLOCK_WRITE, 0, EACH);
	turn_ms(10);
	drive_hold(t.d, idle, NULL);
	throttle_join(&t.d->throttle, t.g, NULL);
	turn_ms(30);
	cr_assert_eq(idles, 1);
	cr_assert_lt(done(0, EACH), 4, "issued to a held drive");
	drive_release(t.d);
	for (int i = 0; i < EACH; i++)
		bt_wait(&t, &q[i]);
	start_second();
	end_all();
}

Test(block_throttle_group, test_cancelled_waiter_gives_its_turn_away)
{
	two_disks("throttling.iops-total=20," IN_G, IN_G);
	start(BLOCK_WRITE, 0, EACH);
	start_second();
	turn_ms(10);
	for (int i = 0; i < EACH; i++)
		if (!q[i].done)
			drive_cancel(&q[i].r);
	turn_ms(10);
	cr_assert_eq(done(0, EACH), EACH, "cancelled requests still wait");
	cr_assert_eq(q[EACH - 1].ret, -ECANCELED);
	for (int i = EACH; i < EACH + 5; i++)
		bt_wait(&t, &q[i]);
	end_all();
}

/* ---- the node ---- */

/* A throttle node on a raw one, as a disk; and the group "g" of the first. */
static void node_disk(void)
{
	struct err e = ERR_INIT;

	two_disks(IN_G, "throttling.iops-total=20," IN_G);
	bt_file(&t, "n.raw", DISK);
	cr_assert_eq(bt_blockdev(&t, "driver=throttle,node-name=t0,throttle-group=g,"
				 "file.driver=raw,file.file.driver=file,"
				 "file.file.filename=%s/n.raw"), 0, "%s", bt_error());
	drive_close(second);
	cr_assert_eq(drive_open(t.g, "t0", "dev1", DRIVE_OPEN_MAY_WRITE, &second, &e), 0, "%s",
		     e.text);
}

Test(block_throttle_group, test_node_takes_turns_with_a_drive)
{
	node_disk();
	start(BLOCK_WRITE, 0, EACH);
	start_second();
	turn_ms(400);
	cr_assert_lt(done(EACH, N), EACH, "the node limits nothing");
	cr_assert_geq(done(EACH, N), 2, "the node has no turn");
	throttle_set(t.d, NULL, &(struct throttle_limits){ .avg[THROTTLE_IOPS] = 100000 }, "", NULL);
	for (int i = 0; i < N; i++)
		bt_wait(&t, &q[i]);
}

Test(block_throttle_group, test_request_in_a_node_can_be_cancelled)
{
	uint8_t back[4096];
	struct drive *d;

	node_disk();
	memset(data, 0x5a, sizeof(data));
	start_second();
	turn_ms(10);
	cr_assert_lt(done(EACH, N), 5);
	for (int i = EACH; i < N; i++)
		if (!q[i].done)
			drive_cancel(&q[i].r);
	turn_ms(10);
	cr_assert_eq(done(EACH, N), EACH, "cancelled requests still wait");
	cr_assert_eq(q[N - 1].ret, -ECANCELED);
	cr_assert_eq(throttle_group_find(t.g, "g")->members->count, 0);
	d = t.d;
	t.d = second;
	cr_assert_eq(bt_io(&t, BLOCK_READ, (N - 1) * 4096, back, 4096, 0), 0);
	t.d = d;
	cr_assert_neq(back[0], 0x5a, "written after the cancel");
}

/* A snapshot waits for no throttle: what is in the node comes out at once. */
Test(block_throttle_group, test_hold_drains_the_node)
{
	uint64_t begin;

	idles = 0;
	node_disk();
	start_second();
	turn_ms(10);
	cr_assert_lt(done(EACH, N), 5);
	begin = clock_ns();
	drive_hold(second, idle, NULL);
	while (!idles && clock_ns() - begin < 10 * NS_PER_SEC)
		loop_turn(t.loop, NS_PER_MS);
	cr_assert_eq(idles, 1);
	cr_assert_lt(clock_ns() - begin, 300 * NS_PER_MS);
	cr_assert_eq(done(EACH, N), EACH);
	start(BLOCK_READ, 0, 10);
	turn_ms(10);
	cr_assert_lt(done(0, 10), 10, "the other drive is not limited any more");
	drive_release(second);
	for (int i = 0; i < 10; i++)
		bt_wait(&t, &q[i]);
}

Test(block_throttle_group, test_hold_of_another_drive_keeps_the_node_s_limits)
{
	node_disk();
	start_second();
	turn_ms(10);
	drive_hold(t.d, NULL, NULL);
	turn_ms(20);
	cr_assert_lt(done(EACH, N), 5, "the other drive's requests are not limited any more");
	drive_release(t.d);
	throttle_set(t.d, NULL, &(struct throttle_limits){ .avg[THROTTLE_IOPS] = 100000 }, "", NULL);
	for (int i = EACH; i < N; i++)
		bt_wait(&t, &q[i]);
}

/* io_timeout is about storage, not about limits. */
Test(block_throttle_group, test_waiting_in_a_node_is_no_hang)
{
	node_disk();
	stall_set(second, 40 * NS_PER_MS);
	turn_ms(5);
	start_second();
	turn_ms(300);
	cr_assert_lt(done(EACH, N), EACH, "nothing waits");
	cr_expect_eq(drive_stall_info(second).total, 0);
	throttle_set(t.d, NULL, &(struct throttle_limits){ .avg[THROTTLE_IOPS] = 100000 }, "", NULL);
	for (int i = EACH; i < N; i++)
		bt_wait(&t, &q[i]);
	cr_expect_eq(drive_stall_info(second).total, 0);
}

Test(block_throttle_group, test_node_needs_its_group_and_keeps_it)
{
	struct err e = ERR_INIT;

	node_disk();
	cr_assert_lt(bt_blockdev(&t, "driver=throttle,node-name=t1,throttle-group=none,"
				 "file=t0"), 0);
	cr_expect(strstr(bt_error(), "there is no throttle group of that name"), "%s", bt_error());
	cr_assert_lt(bt_blockdev(&t, "driver=throttle,node-name=t1,file=t0"), 0);
	cr_expect(strstr(bt_error(), "throttle-group"), "%s", bt_error());
	drive_close(second);
	second = NULL;
	cr_expect_eq(block_node_del(t.g, "t0", &e), 0, "%s", e.text);
}

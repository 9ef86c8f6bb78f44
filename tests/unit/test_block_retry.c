/*
 * tests/unit/test_block_retry.c - I/O suspension: rounds, order, time limits,
 * every way out of it.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "block/file.h"
#include "block/retry.h"
#include "lib_qcow2.h"
#include "lib_script.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"

#define DISK	(256 * 1024u)
#define N	8

static struct bt t;
static uint8_t data[N][512];
static struct bt_req q[N];
static int events[8], last_requests;
static struct drive_event last_event[8];
static int stops;

static void teardown(void)
{
	bt_stop(&t);
}

TestSuite(block_retry, .fini = teardown, .timeout = 60);

static void on_event(struct drive *d, const struct drive_event *ev)
{
	events[ev->kind]++;
	last_event[ev->kind] = *ev;
	last_requests = (int)ev->requests;
}

static void on_error(struct drive *d, enum block_op op, int err, enum drive_policy action)
{
	stops += action == DRIVE_STOP;
}

static void disk(const char *opts)
{
	bt_start(&t, LOOP_AIO_AUTO);
	bt_disk(&t, DISK, opts);
	script_install(t.d);
	t.d->on_event = on_event;
	t.d->on_error = on_error;
}

static void turn_ms(unsigned int ms)
{
	uint64_t end = clock_ns() + ms * NS_PER_MS, now;

	while ((now = clock_ns()) < end)
		loop_turn(t.loop, MIN(end - now, NS_PER_MS));
}

static void start_write(int i)
{
	memset(data[i], 0x40 + i, sizeof(data[i]));
	bt_submit(&t, &q[i], BLOCK_WRITE, (uint64_t)i * 4096, data[i], 512, 0);
}

/* N writes to a dead disk, all kept. */
static void strand(void)
{
	script.fail = EIO;
	for (int i = 0; i < N; i++)
		start_write(i);
	while (drive_retry_info(t.d).parked < N)
		loop_turn(t.loop, NS_PER_MS);
}

static void all_done(int ret)
{
	for (int i = 0; i < N; i++) {
		bt_wait(&t, &q[i]);
		cr_expect_eq(q[i].ret, ret, "write %d: %d", i, q[i].ret);
	}
}

static void expect_written(void)
{
	uint8_t back[512];

	for (int i = 0; i < N; i++) {
		cr_assert_eq(bt_io(&t, BLOCK_READ, (uint64_t)i * 4096, back, 512, 0), 0);
		cr_expect_arr_eq(back, data[i], 512, "write %d", i);
	}
}

#define RETRY	"werror=retry,rerror=retry"

/* ---- rounds ---- */

Test(block_retry, test_outage_is_survived_in_the_order_of_submission)
{
	disk(RETRY ",retry_interval=10");
	strand();
	turn_ms(60);
	for (int i = 0; i < N; i++)
		cr_assert_eq(q[i].done, 0);
	script_clear();
	script.fail = 0;
	all_done(0);
	/* A probe may come first; after it all the others, in order. */
	cr_assert_geq(script.n, N);
	for (int i = 1, last = script.n - N; i < N; i++)
		cr_expect(script.log[last + i] == &q[i].r || script.log[last] != &q[0].r);
	expect_written();
	cr_assert_eq(drive_retry_info(t.d).parked, 0);
}

/* With retry_probe=off every round is everything, so the order shows. */
Test(block_retry, test_round_without_probe_reissues_all_in_order)
{
	disk(RETRY ",retry_interval=10,retry_probe=off");
	strand();
	turn_ms(50);
	script.fail = 0;
	all_done(0);
	cr_assert_eq(script.n % N, 0, "%d", script.n);
	for (int i = 0; i < script.n; i++)
		cr_expect_eq((void *)script.log[i], (void *)&q[i % N].r, "place %d", i);
	cr_assert_geq(script.n, 3 * N);
}

/* Fails newest first; what is tried again is oldest first. */
Test(block_retry, test_order_is_that_of_submission_not_of_failure)
{
	disk(RETRY ",retry_interval=1,retry_probe=off");
	script.hold = true;
	for (int i = 0; i < N; i++)
		start_write(i);
	for (int i = N - 1; i >= 0; i--)
		block_done_later(script.held[i], -EIO);
	script.holding = 0;
	script.hold = false;
	script_clear();
	all_done(0);
	for (int i = 0; i < N; i++)
		cr_expect_eq((void *)script.log[i], (void *)&q[i].r);
}

Test(block_retry, test_probe_spares_a_dead_disk_and_the_rest_follows_at_once)
{
	int before;

	disk(RETRY ",retry_interval=10");
	strand();
	while (script.n < 2 * N)	/* the first round is everything */
		loop_turn(t.loop, NS_PER_MS);
	before = script.n;
	turn_ms(60);
	while (script.n < before + 2)
		loop_turn(t.loop, NS_PER_MS);
	cr_assert_leq(script.n, before + 7, "%d tries in six intervals", script.n - before);
	cr_expect_neq((void *)script.log[script.n - 1], (void *)script.log[script.n - 2],
		      "the same request probes again and again");
	script.fail = 0;
	all_done(0);
	expect_written();
}

Test(block_retry, test_a_bad_sector_does_not_keep_the_others_from_going_on)
{
	disk(RETRY ",retry_interval=5");
	strand();
	script.fail = 0;
	script.bad = 4096;	/* write 1 */
	for (int i = 0; i < N; i++)
		if (i != 1)
			bt_wait(&t, &q[i]);
	cr_assert_eq(q[1].done, 0);
	script.bad = 0;
	bt_wait(&t, &q[1]);
	cr_assert_eq(q[1].ret, 0);
}

Test(block_retry, test_one_round_at_a_time_while_the_host_is_slow)
{
	disk(RETRY ",retry_interval=1,retry_probe=off");
	strand();
	script.hold = true;
	while (script.holding < N)
		loop_turn(t.loop, NS_PER_MS);
	script_clear();
	turn_ms(30);
	cr_assert_eq(script.n, 0, "a second try while the first is in flight");
	script.fail = 0;
	script_release(0);
	all_done(0);
}

Test(block_retry, test_later_failures_do_not_push_the_round_back)
{
	uint64_t start, took;

	disk(RETRY ",retry_interval=60");
	script.fail = EIO;
	start_write(0);
	start = clock_ns();
	while (drive_retry_info(t.d).retries == 0) {
		turn_ms(10);
		start_write(1 + (int)((clock_ns() - start) / (10 * NS_PER_MS)) % 1);
		while (q[1].r.susp.state == SUSP_NONE)
			loop_turn(t.loop, NS_PER_MS);
		script.fail = 0;
		drive_cancel(&q[1].r);
		bt_wait(&t, &q[1]);
		script.fail = EIO;
		cr_assert_lt(clock_ns() - start, 20 * NS_PER_SEC, "pushed back for ever");
	}
	took = clock_ns() - start;
	cr_assert_geq(took, 55 * NS_PER_MS);
	script.fail = 0;
	bt_wait(&t, &q[0]);
}

/* ---- time ---- */

/* The timer stands at first failure + timeout, to the nanosecond; what comes
 * on top is the loop's and the host's. */
Test(block_retry, test_deadline_is_first_failure_plus_timeout_of_each_request)
{
	uint64_t since;

	disk(RETRY ",retry_interval=5000,retry_timeout=500");
	script.fail = EIO;
	start_write(0);
	while (q[0].r.susp.state != SUSP_PARKED)
		loop_turn(t.loop, NS_PER_MS);
	loop_turn(t.loop, 0);
	since = q[0].r.susp.since_ns;
	cr_assert_eq(t.d->retry.timer.deadline_ns, since + 500 * NS_PER_MS);
	turn_ms(250);
	start_write(1);
	bt_wait(&t, &q[0]);
	cr_assert_eq(q[0].ret, -EIO);
	cr_assert_geq(clock_ns(), since + 500 * NS_PER_MS);
	cr_assert_eq(q[1].done, 0, "its own time has not run out");
	loop_turn(t.loop, 0);
	cr_assert_eq(t.d->retry.timer.deadline_ns, q[1].r.susp.since_ns + 500 * NS_PER_MS);
	bt_wait(&t, &q[1]);
	cr_assert_eq(q[1].ret, -EIO);
	cr_assert_eq(drive_retry_info(t.d).timed_out, 2);
}

Test(block_retry, test_success_elsewhere_never_extends_a_stuck_request)
{
	uint8_t buf[512];
	uint64_t start;

	disk(RETRY ",retry_interval=5,retry_timeout=150");
	script.bad = 4096;
	start_write(1);
	start = clock_ns();
	while (!q[1].done)
		cr_assert_eq(bt_io(&t, BLOCK_READ, 0, buf, 512, 0), 0);
	cr_assert_eq(q[1].ret, -EIO);
	cr_assert_geq(clock_ns() - start, 150 * NS_PER_MS);
}

Test(block_retry, test_time_while_the_vm_is_stopped_does_not_count)
{
	int tries;

	disk(RETRY ",retry_interval=10,retry_timeout=500");
	script.fail = EIO;
	start_write(0);
	turn_ms(20);
	drive_pause(t.d);
	turn_ms(15);
	tries = script.n;
	turn_ms(600);
	cr_assert_eq(q[0].done, 0, "expired while the VM was stopped");
	cr_assert_eq(script.n, tries, "tried while the VM was stopped");
	drive_resume(t.d);
	while (script.n == tries)
		loop_turn(t.loop, NS_PER_MS);
	cr_assert_eq(q[0].done, 0);
	bt_wait(&t, &q[0]);
	cr_assert_eq(q[0].ret, -EIO);
}

Test(block_retry, test_a_try_in_flight_at_the_deadline_decides)
{
	disk(RETRY ",retry_interval=5,retry_timeout=40");
	script.fail = EIO;
	start_write(0);
	start_write(1);
	while (drive_retry_info(t.d).parked < 2)
		loop_turn(t.loop, NS_PER_MS);
	script.hold = true;
	while (script.holding < 2)
		loop_turn(t.loop, NS_PER_MS);
	turn_ms(60);
	cr_assert_eq(q[0].done, 0, "its buffers are the host's");
	script.fail = 0;
	script.hold = false;
	block_done_later(script.held[0], -EIO);
	script.held[0] = script.held[1];
	script.holding = 1;
	script_release(0);
	bt_wait(&t, &q[0]);
	bt_wait(&t, &q[1]);
	cr_assert_eq(q[0].ret, -EIO);
	cr_assert_eq(q[1].ret, 0);
}

Test(block_retry, test_no_timeout_waits_for_ever)
{
	disk(RETRY ",retry_interval=1");
	strand();
	turn_ms(300);
	for (int i = 0; i < N; i++)
		cr_assert_eq(q[i].done, 0);
	cr_assert_eq(drive_retry_info(t.d).timed_out, 0);
	script.fail = 0;
	all_done(0);
}

/* ---- flushes ---- */

Test(block_retry, test_flush_waits_for_the_writes_before_it)
{
	struct bt_req f;

	disk(RETRY ",retry_interval=10");
	strand();
	bt_submit(&t, &f, BLOCK_FLUSH, 0, NULL, 0, 0);
	turn_ms(30);
	cr_assert_eq(f.done, 0);
	for (int i = 0; i < script.n; i++)
		cr_assert_neq((void *)script.log[i], (void *)&f.r, "it went ahead of the writes");
	script.fail = 0;
	bt_wait(&t, &f);
	cr_assert_eq(f.ret, 0);
	for (int i = 0; i < N; i++)
		cr_assert_eq(q[i].done, 1, "the flush ended before write %d", i);
	cr_assert_eq((void *)script.log[script.n - 1], (void *)&f.r);
}

Test(block_retry, test_flush_does_not_wait_for_reads_or_later_writes)
{
	struct bt_req f, r;
	uint8_t buf[512];

	disk(RETRY ",retry_interval=2000");
	script.bad = 4096;
	bt_submit(&t, &r, BLOCK_READ, 4096, buf, 512, 0);
	while (r.r.susp.state != SUSP_PARKED)
		loop_turn(t.loop, NS_PER_MS);
	bt_submit(&t, &f, BLOCK_FLUSH, 0, NULL, 0, 0);
	start_write(1);
	bt_wait(&t, &f);
	cr_assert_eq(f.ret, 0);
	cr_assert_eq(r.done, 0);
	drive_give_up(t.d);
	bt_wait(&t, &r);
	bt_wait(&t, &q[1]);
}

Test(block_retry, test_flush_behind_writes_that_time_out_goes_on_by_itself)
{
	struct bt_req f;

	disk(RETRY ",retry_interval=1000,retry_timeout=30");
	script.bad = 4096;
	start_write(1);
	while (q[1].r.susp.state != SUSP_PARKED)
		loop_turn(t.loop, NS_PER_MS);
	bt_submit(&t, &f, BLOCK_FLUSH, 0, NULL, 0, 0);
	bt_wait(&t, &q[1]);
	cr_assert_eq(q[1].ret, -EIO);
	bt_wait(&t, &f);
	cr_assert_eq(f.ret, 0);
	cr_assert_eq(drive_retry_info(t.d).parked, 0);
}

Test(block_retry, test_flush_behind_a_cancelled_write_goes_on)
{
	struct bt_req f;

	disk(RETRY ",retry_interval=5000");
	script.bad = 4096;
	start_write(1);
	while (q[1].r.susp.state != SUSP_PARKED)
		loop_turn(t.loop, NS_PER_MS);
	bt_submit(&t, &f, BLOCK_FLUSH, 0, NULL, 0, 0);
	drive_cancel(&q[1].r);
	bt_wait(&t, &q[1]);
	bt_wait(&t, &f);
	cr_assert_eq(f.ret, 0);
}

Test(block_retry, test_a_flush_that_waits_is_cancelled_before_it_began)
{
	struct bt_req f;

	disk(RETRY ",retry_interval=5000");
	script.bad = 4096;
	start_write(1);
	while (q[1].r.susp.state != SUSP_PARKED)
		loop_turn(t.loop, NS_PER_MS);
	bt_submit(&t, &f, BLOCK_FLUSH, 0, NULL, 0, 0);
	drive_cancel(&f.r);
	bt_wait(&t, &f);
	cr_assert_eq(f.ret, -ECANCELED);
	drive_cancel(&q[1].r);
	bt_wait(&t, &q[1]);
}

Test(block_retry, test_failed_flush_is_tried_after_the_writes_before_it)
{
	struct bt_req f;

	disk(RETRY ",retry_interval=10");
	script.hold = true;
	start_write(0);
	bt_submit(&t, &f, BLOCK_FLUSH, 0, NULL, 0, 0);
	block_done_later(script.held[1], -EIO);
	block_done_later(script.held[0], -EIO);
	script.holding = 0;
	script.hold = false;
	script_clear();
	bt_wait(&t, &f);
	cr_assert_eq(f.ret, 0);
	cr_assert_eq(q[0].done, 1);
	cr_assert_eq(script.n, 2);
	cr_assert_eq((void *)script.log[0], (void *)&q[0].r);
}

/* ---- what a failed flush means ---- */

/* fdatasync on something that has none stands for a failing one. */
static int break_sync(void)
{
	struct file_node *f = bt_file_node(&t);
	int keep = dup(f->fd), p[2];

	cr_assert_eq(pipe(p), 0);
	dup2(p[1], f->fd);
	close(p[0]);
	close(p[1]);
	return keep;
}

static void mend(int keep)
{
	dup2(keep, bt_file_node(&t)->fd);
	close(keep);
}

Test(block_retry, test_flush_that_lost_buffered_data_is_reported_not_retried)
{
	int keep;

	disk(RETRY ",retry_interval=5");
	start_write(0);
	bt_wait(&t, &q[0]);
	keep = break_sync();
	cr_assert_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), -EINVAL);
	mend(keep);
	cr_assert_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), -EINVAL, "it lied later");
	cr_assert_eq(drive_retry_info(t.d).parked, 0);
}

Test(block_retry, test_direct_writes_are_durable_one_by_one_where_the_cache_is_volatile)
{
	disk(RETRY ",cache=none,retry_interval=5");
	bt_file_node(&t)->n.write_through = false;
	retry_update_durable(t.d);
	cr_assert_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	start_write(0);
	bt_wait(&t, &q[0]);
	cr_assert_eq(atomic_load(&bt_file_node(&t)->sync.dirty), FILE_CLEAN);
	bt_file_node(&t)->n.write_through = true;
	retry_update_durable(t.d);
	start_write(0);
	bt_wait(&t, &q[0]);
	cr_assert_eq(atomic_load(&bt_file_node(&t)->sync.dirty), FILE_DIRTY);
}

/* Nothing was flushed yet: what others wrote before us is no promise of ours. */
Test(block_retry, test_an_outage_before_the_first_flush_loses_nothing)
{
	int keep;

	disk(RETRY ",cache=none,retry_interval=5");
	bt_file_node(&t)->n.write_through = false;
	retry_update_durable(t.d);
	signal(SIGPIPE, SIG_IGN);
	keep = break_sync();
	start_write(0);		/* fails with the pipe, and is written again */
	turn_ms(20);
	mend(keep);
	bt_wait(&t, &q[0]);
	cr_expect_eq(q[0].ret, 0);
	cr_expect_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
}

/* What the format writes for itself counts as well: with it not durable a flush
 * that failed once would never succeed again. */
Test(block_retry, test_flush_of_qcow2_over_a_volatile_cache_is_tried_again)
{
	struct bt_req f;
	int keep, none;

	bt_start(&t, LOOP_AIO_AUTO);
	qt_sh(&t, "qemu-img create -q -f qcow2 a.qcow2 64M");
	qt_open(&t, "a.qcow2", "cache=none," RETRY ",retry_interval=5");
	bt_file_node(&t)->n.write_through = false;
	retry_update_durable(t.d);
	cr_assert_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	start_write(0);
	bt_wait(&t, &q[0]);
	cr_assert_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	start_write(0);		/* in place, reported done */
	bt_wait(&t, &q[0]);
	/* Storage whose cache cannot be flushed: fdatasync of it fails. */
	keep = dup(bt_file_node(&t)->fd);
	none = open("/dev/null", O_RDWR | O_CLOEXEC);
	dup2(none, bt_file_node(&t)->fd);
	close(none);
	bt_submit(&t, &f, BLOCK_FLUSH, 0, NULL, 0, 0);
	turn_ms(20);
	mend(keep);
	bt_wait(&t, &f);
	cr_expect_eq(f.ret, 0, "%d", f.ret);
	start_write(1);
	bt_wait(&t, &q[1]);
	cr_expect_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	qt_close(&t);
	qt_check(&t, "a.qcow2");
}

static void direct_flush(bool write_through, const char *policy, int want)
{
	struct bt_req f;
	char opts[80];
	int keep;

	snprintf(opts, sizeof(opts), "cache=none,%s", policy);
	disk(opts);
	bt_file_node(&t)->n.write_through = write_through;
	retry_update_durable(t.d);
	cr_assert_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	start_write(0);
	bt_wait(&t, &q[0]);
	signal(SIGPIPE, SIG_IGN);
	keep = break_sync();
	start_write(1);		/* fails with the pipe, and is written again */
	bt_submit(&t, &f, BLOCK_FLUSH, 0, NULL, 0, 0);
	turn_ms(20);
	mend(keep);
	bt_wait(&t, &q[1]);
	bt_wait(&t, &f);
	cr_assert_eq(f.ret, want, "%d", f.ret);
}

Test(block_retry, test_direct_flush_is_tried_again_without_a_volatile_cache)
{
	direct_flush(true, RETRY ",retry_interval=5", 0);
}

Test(block_retry, test_direct_flush_is_tried_again_behind_durable_writes)
{
	direct_flush(false, RETRY ",retry_interval=5", 0);
}

Test(block_retry, test_direct_flush_over_a_volatile_cache_without_retry_stays_failed)
{
	direct_flush(false, "werror=report", -EINVAL);
	cr_assert_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), -EINVAL);
}

/* ---- the end of it ---- */

Test(block_retry, test_cancel_while_parked_tried_and_expired)
{
	disk(RETRY ",retry_interval=5");
	strand();
	drive_cancel(&q[0].r);			/* parked */
	bt_wait(&t, &q[0]);
	cr_assert_eq(q[0].ret, -ECANCELED);

	drive_retry_now(t.d);			/* posted, not yet sent */
	drive_cancel(&q[1].r);
	script_clear();
	bt_wait(&t, &q[1]);
	cr_assert_eq(q[1].ret, -ECANCELED);
	for (int i = 0; i < script.n; i++)
		cr_assert_neq((void *)script.log[i], (void *)&q[1].r, "a late write");

	drive_give_up(t.d);			/* expired, not yet told */
	drive_cancel(&q[2].r);
	bt_wait(&t, &q[2]);
	cr_assert_eq(q[2].ret, -ECANCELED);
	for (int i = 3; i < N; i++)
		bt_wait(&t, &q[i]);
	cr_assert_eq(drive_totals(t.d).inflight, 0);
	cr_assert_eq(drive_retry_info(t.d).parked, 0);
}

Test(block_retry, test_cancel_of_a_try_in_flight_ends_with_it)
{
	disk(RETRY ",retry_interval=2,retry_probe=off");
	strand();
	script.hold = true;
	while (script.holding < N)
		loop_turn(t.loop, NS_PER_MS);
	for (int i = 0; i < N; i++)
		drive_cancel(&q[i].r);
	turn_ms(10);
	for (int i = 0; i < N; i++)
		cr_assert_eq(q[i].done, 0, "the host still has its buffers");
	script_clear();
	script_release(-EIO);
	for (int i = 0; i < N; i++)
		bt_wait(&t, &q[i]);
	turn_ms(10);
	cr_assert_eq(script.n, 0, "a write after the cancel");
	cr_assert_eq(drive_totals(t.d).inflight, 0);
}

Test(block_retry, test_close_while_the_clock_is_set_is_safe)
{
	disk(RETRY ",retry_interval=5");
	strand();
	for (int i = 0; i < N; i++)
		drive_cancel(&q[i].r);
	for (int i = 0; i < N; i++)
		bt_wait(&t, &q[i]);
	drive_close(t.d);
	t.d = NULL;
	turn_ms(20);
}

Test(block_retry, test_then_stop_starts_a_new_period_at_resume)
{
	disk(RETRY ",retry_interval=5,retry_timeout=40,retry-then=stop");
	script.fail = EIO;
	start_write(0);
	while (!stops)
		loop_turn(t.loop, NS_PER_MS);
	drive_pause(t.d);
	turn_ms(50);
	cr_assert_eq(q[0].done, 0);
	drive_resume(t.d);
	while (stops < 2)
		loop_turn(t.loop, NS_PER_MS);
	drive_pause(t.d);
	script.fail = 0;
	drive_resume(t.d);
	bt_wait(&t, &q[0]);
	cr_assert_eq(q[0].ret, 0);
}

Test(block_retry, test_then_ignore_and_enospc)
{
	disk(RETRY ",retry_interval=5,retry_timeout=20,retry-then=ignore");
	script.fail = EIO;
	start_write(0);
	bt_wait(&t, &q[0]);
	cr_assert_eq(q[0].ret, 0);
	atomic_store(&t.d->retry.then, DRIVE_ENOSPC);
	start_write(0);
	bt_wait(&t, &q[0]);
	cr_assert_eq(q[0].ret, -EIO);
	script.fail = ENOSPC;
	start_write(0);
	while (!stops)
		loop_turn(t.loop, NS_PER_MS);
	script.fail = 0;
	drive_resume(t.d);
	bt_wait(&t, &q[0]);
	cr_assert_eq(q[0].ret, 0);
}

Test(block_retry, test_errors_that_are_not_on_the_list_are_final)
{
	disk(RETRY ",retry_interval=5,retry_on=EIO+ETIMEDOUT");
	script.fail = EROFS;
	start_write(0);
	bt_wait(&t, &q[0]);
	cr_assert_eq(q[0].ret, -EROFS);
	script.fail = ETIMEDOUT;
	start_write(0);
	while (q[0].r.susp.state != SUSP_PARKED)
		loop_turn(t.loop, NS_PER_MS);
	script.fail = EROFS;	/* the disk comes back read-only */
	bt_wait(&t, &q[0]);
	cr_assert_eq(q[0].ret, -EROFS);
	cr_assert_eq(drive_retry_info(t.d).parked, 0);
}

Test(block_retry, test_transport_excludes_the_bad_sector)
{
	disk(RETRY ",retry_interval=5,retry_on=transport");
	script.fail = EIO;
	start_write(0);
	bt_wait(&t, &q[0]);
	cr_assert_eq(q[0].ret, -EIO);
	script.fail = ENOLINK;
	start_write(0);
	turn_ms(20);
	cr_assert_eq(q[0].done, 0);
	script.fail = 0;
	bt_wait(&t, &q[0]);
	cr_assert_eq(q[0].ret, 0);
}

Test(block_retry, test_policies_of_reads_and_writes_are_independent)
{
	uint8_t buf[512];

	disk("werror=retry,retry_interval=5");
	script.fail = EIO;
	cr_assert_eq(bt_io(&t, BLOCK_READ, 0, buf, 512, 0), -EIO);
	start_write(0);
	turn_ms(20);
	cr_assert_eq(q[0].done, 0);
	script.fail = 0;
	bt_wait(&t, &q[0]);
}

/* ---- changes while it lasts ---- */

Test(block_retry, test_retry_now_and_give_up)
{
	disk(RETRY ",retry_interval=100000");
	strand();
	script_clear();
	drive_retry_now(t.d);
	while (script.n < N)
		loop_turn(t.loop, NS_PER_MS);
	script.fail = 0;
	drive_retry_now(t.d);
	all_done(0);
	strand();
	drive_give_up(t.d);
	all_done(-EIO);
}

static void change(const char *name, json_t *val, const struct retry_opts *o)
{
	json_t *given = json_object();
	struct err e = ERR_INIT;

	json_object_set_new(given, name, val);
	cr_assert_eq(retry_set(t.d, o, given, "test", &e), 0, "%s", e.text);
	json_decref(given);
}

Test(block_retry, test_settings_change_while_suspended)
{
	struct retry_opts o = { .werror = DRIVE_REPORT, .interval = 5, .timeout = 50 };

	disk(RETRY ",retry_interval=100000");
	strand();
	script.fail = 0;
	change("retry_interval", json_true(), &o);
	all_done(0);
	strand();
	change("retry_timeout", json_true(), &o);
	all_done(-EIO);
	atomic_store(&t.d->retry.timeout_ns, 0);
	strand();
	change("werror", json_true(), &o);
	all_done(-EIO);
}

/* ---- what is told ---- */

Test(block_retry, test_events_of_an_outage)
{
	disk(RETRY ",retry_interval=2");
	strand();
	turn_ms(100);
	cr_assert_eq(events[DRIVE_EV_SUSPENDED], 1);
	cr_assert_eq(events[DRIVE_EV_ERROR], 1, "%d in a tenth of a second",
		     events[DRIVE_EV_ERROR]);
	cr_assert_eq(events[DRIVE_EV_RESUMED], 0);
	cr_assert_gt(drive_retry_info(t.d).since_ms, 1600000000000ull);
	turn_ms(1000);
	cr_assert_eq(events[DRIVE_EV_ERROR], 2);
	cr_assert_geq(last_event[DRIVE_EV_ERROR].count, 10);
	script.fail = 0;
	all_done(0);
	turn_ms(5);
	cr_assert_eq(events[DRIVE_EV_RESUMED], 1);
	cr_assert_eq(last_event[DRIVE_EV_RESUMED].requests, N);
	cr_assert_geq(last_event[DRIVE_EV_RESUMED].ms, 1000);
	cr_assert_gt(last_event[DRIVE_EV_RESUMED].retries, N);
	cr_assert_not(last_event[DRIVE_EV_RESUMED].cancelled);
	cr_assert_eq(events[DRIVE_EV_TIMED_OUT], 0);
	cr_assert_eq(drive_retry_info(t.d).since_ms, 0);
	cr_assert_geq(drive_retry_info(t.d).suspended_ms, 1000);
	cr_assert_eq(drive_retry_info(t.d).suspensions, 1);
}

Test(block_retry, test_events_of_a_timeout_and_of_a_reset)
{
	disk(RETRY ",retry_interval=2,retry_timeout=30");
	strand();
	all_done(-EIO);
	turn_ms(5);
	cr_assert_eq(events[DRIVE_EV_TIMED_OUT], 1, "%d", events[DRIVE_EV_TIMED_OUT]);
	cr_assert_eq(last_event[DRIVE_EV_TIMED_OUT].requests, N);
	cr_assert_eq(events[DRIVE_EV_RESUMED], 0);
	turn_ms(1000);	/* SUSPENDED comes at most once a second */
	strand();
	turn_ms(5);
	for (int i = 0; i < N; i++)
		drive_cancel(&q[i].r);
	all_done(-ECANCELED);
	turn_ms(5);
	cr_assert_eq(events[DRIVE_EV_SUSPENDED], 2);
	cr_assert_eq(events[DRIVE_EV_RESUMED], 1);
	cr_assert(last_event[DRIVE_EV_RESUMED].cancelled);
}

Test(block_retry, test_a_flapping_disk_floods_nobody)
{
	disk(RETRY ",retry_interval=0");
	for (int i = 0; i < 100; i++) {
		script.fail = EIO;
		start_write(0);
		while (!drive_retry_info(t.d).parked)
			loop_turn(t.loop, NS_PER_MS);
		script.fail = 0;
		bt_wait(&t, &q[0]);
	}
	turn_ms(5);
	cr_assert_leq(events[DRIVE_EV_SUSPENDED], 3);
	cr_assert_eq(events[DRIVE_EV_RESUMED], events[DRIVE_EV_SUSPENDED]);
	cr_assert_leq(events[DRIVE_EV_ERROR], 3);
	cr_assert_eq(drive_retry_info(t.d).suspensions, 100);
}

/* ---- storage that hangs ---- */

Test(block_retry, test_a_hang_is_told_counted_and_waited_for)
{
	disk(RETRY ",retry_interval=5,io_timeout=20");
	script.hold = true;
	start_write(0);
	start_write(1);
	while (drive_stall_info(t.d).stalled < 2 || !events[DRIVE_EV_SUSPENDED])
		loop_turn(t.loop, NS_PER_MS);
	cr_assert_eq(events[DRIVE_EV_SUSPENDED], 1);
	cr_assert(last_event[DRIVE_EV_SUSPENDED].stalled);
	turn_ms(30);
	cr_assert_eq(script.n, 2, "issued again while the first is in flight");
	script_release(0);
	bt_wait(&t, &q[0]);
	bt_wait(&t, &q[1]);
	turn_ms(2);
	cr_assert_eq(events[DRIVE_EV_RESUMED], 1);
	cr_assert_geq(last_event[DRIVE_EV_RESUMED].ms, 20);
	cr_assert_eq(drive_stall_info(t.d).stalled, 0);
	cr_assert_eq(drive_stall_info(t.d).total, 2);
	turn_ms(30);
	cr_assert_not(t.d->stall.timer.armed, "the timer runs on an idle disk");
}

Test(block_retry, test_a_disk_in_time_is_never_told)
{
	disk(RETRY ",io_timeout=1000");
	for (int round = 0; round < 50; round++)
		for (int i = 0; i < N; i++) {
			start_write(i);
			bt_wait(&t, &q[i]);
		}
	cr_assert_eq(events[DRIVE_EV_SUSPENDED], 0);
	cr_assert_eq(drive_stall_info(t.d).total, 0);
}

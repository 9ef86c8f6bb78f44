/*
 * tests/unit/test_block_io.c - data and errors through drives, on both engines
 * of the loop.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/file.h"
#include "lib_block.h"
#include "vmm/base/util.h"

#define DISK	(256 * 1024u)

static struct bt t;

static void teardown(void)
{
	bt_stop(&t);
}

TestSuite(block_io, .fini = teardown, .timeout = 60);

static void disk(enum loop_aio aio, const char *opts)
{
	bt_start(&t, aio);
	bt_disk(&t, DISK, opts);
}

/* ---- integrity against a shadow ---- */

Test(block_io, test_integrity_uring_buffered)
{
	disk(LOOP_AIO_URING, "discard=unmap");
	bt_integrity(&t, 0, 24);
}

Test(block_io, test_integrity_threads_buffered)
{
	disk(LOOP_AIO_THREADS, "discard=unmap");
	bt_integrity(&t, 0, 24);
}

Test(block_io, test_integrity_uring_direct)
{
	disk(LOOP_AIO_URING, "cache=none");
	bt_integrity(&t, 0, 24);
}

Test(block_io, test_integrity_threads_direct)
{
	disk(LOOP_AIO_THREADS, "cache=none");
	bt_integrity(&t, 0, 24);
}

Test(block_io, test_integrity_uring_direct_misaligned_memory)
{
	disk(LOOP_AIO_URING, "cache=none");
	bt_file_node(&t)->mem_align = 512;	/* what strict devices want */
	bt_integrity(&t, 1, 24);
}

Test(block_io, test_integrity_threads_direct_misaligned_memory)
{
	disk(LOOP_AIO_THREADS, "cache=none");
	bt_file_node(&t)->mem_align = 512;
	bt_integrity(&t, 3, 24);
}

/* No such disk is at hand: the node is told that its unit is 4096 bytes, and
 * the kernel underneath takes that as well. */
static void pretend_4k(void)
{
	struct file_node *f = bt_file_node(&t);

	f->n.request_align = f->mem_align = 4096;
	f->tracked = true;
}

Test(block_io, test_integrity_uring_4k_unit_reads_before_it_writes)
{
	disk(LOOP_AIO_URING, "cache=none");
	pretend_4k();
	bt_integrity(&t, 0, 20);
}

Test(block_io, test_integrity_threads_4k_unit_reads_before_it_writes)
{
	disk(LOOP_AIO_THREADS, "cache=none");
	pretend_4k();
	bt_integrity(&t, 1, 20);
}

Test(block_io, test_integrity_request_larger_than_bounce_buffer)
{
	uint8_t *buf = malloc(DISK + 1);

	disk(LOOP_AIO_AUTO, "cache=none");
	pretend_4k();
	for (size_t i = 0; i < DISK; i++)
		buf[1 + i] = bt_byte(i, 7);
	cr_assert_eq(bt_io(&t, BLOCK_WRITE, 512, buf + 1 + 512, DISK - 1024, 0), 0);
	memset(buf, 0, DISK + 1);
	cr_assert_eq(bt_io(&t, BLOCK_READ, 512, buf + 1 + 512, DISK - 1024, 0), 0);
	for (size_t i = 512; i < DISK - 512; i++)
		cr_assert_eq(buf[1 + i], bt_byte(i, 7), "byte %zu", i);
	cr_assert_eq(bt_io(&t, BLOCK_READ, 0, buf, 512, 0), 0);
	cr_assert_eq(buf[511], bt_byte(511, 0), "a neighbour was overwritten");
	free(buf);
}

Test(block_io, test_raw_window_reaches_neither_before_nor_behind)
{
	uint8_t buf[8192];

	disk(LOOP_AIO_AUTO, "offset=4096,size=8192");
	cr_assert_eq(t.d->node->bytes, 8192);
	cr_assert_eq(bt_io(&t, BLOCK_READ, 0, buf, 8192, 0), 0);
	cr_assert_eq(buf[0], bt_byte(4096, 0));
	cr_assert_eq(buf[8191], bt_byte(12287, 0));
	cr_assert_eq(bt_io(&t, BLOCK_READ, 7680, buf, 1024, 0), -EINVAL);
}

/* ---- requests that are wrong in themselves ---- */

Test(block_io, test_submit_out_of_range_or_odd_is_refused)
{
	uint8_t buf[1024];
	struct bt_req q;

	disk(LOOP_AIO_AUTO, "");
	cr_assert_eq(bt_io(&t, BLOCK_READ, DISK, buf, 512, 0), -EINVAL);
	cr_assert_eq(bt_io(&t, BLOCK_READ, UINT64_MAX - 511, buf, 1024, 0), -EINVAL);
	cr_assert_eq(bt_io(&t, BLOCK_WRITE, 100, buf, 512, 0), -EINVAL);
	cr_assert_eq(bt_io(&t, BLOCK_WRITE, 0, buf, 100, 0), -EINVAL);
	cr_assert_eq(bt_io(&t, BLOCK_READ, 0, NULL, 512, 0), -EINVAL, "fewer bytes in the iovec");
	bt_submit(&t, &q, BLOCK_READ, DISK, buf, 0, 0);
	q.iov[0].iov_len = 1024;	/* after the check; the request is empty */
	bt_wait(&t, &q);
	cr_assert_eq(q.ret, 0);
	cr_assert_eq(drive_totals(t.d).inflight, 0);
}

Test(block_io, test_submit_write_on_readonly_drive_is_refused)
{
	uint8_t buf[512] = { 0 };

	disk(LOOP_AIO_AUTO, "readonly=on");
	cr_assert_eq(bt_io(&t, BLOCK_WRITE, 0, buf, 512, 0), -EROFS);
	cr_assert_eq(bt_io(&t, BLOCK_DISCARD, 0, NULL, 512, 0), -EROFS);
	cr_assert_eq(bt_io(&t, BLOCK_WRITE_ZEROES, 0, NULL, 512, 0), -EROFS);
	cr_assert_eq(bt_io(&t, BLOCK_READ, 0, buf, 512, 0), 0);
	cr_assert_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
}

/* ---- host errors ---- */

Test(block_io, test_read_of_a_file_that_shrank_fails)
{
	uint8_t buf[8192];

	disk(LOOP_AIO_AUTO, "");
	cr_assert_eq(truncate(bt_path(&t, "d0.raw"), DISK - 4096), 0);
	cr_assert_eq(bt_io(&t, BLOCK_READ, DISK - 8192, buf, 8192, 0), -EIO);
	cr_assert_eq(bt_io(&t, BLOCK_READ, DISK - 8192, buf, 4096, 0), 0);
	cr_assert_eq(drive_totals(t.d).errors[BLOCK_READ], 1);
}

/* The limit cuts the first write short: the rest is tried, and fails. */
Test(block_io, test_write_short_then_failing_keeps_the_errno)
{
	struct rlimit lim = { DISK - 4096, RLIM_INFINITY };
	static uint8_t buf[8192], back[8192];

	disk(LOOP_AIO_THREADS, "");
	signal(SIGXFSZ, SIG_IGN);
	memset(buf, 0x5a, sizeof(buf));
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &lim), 0);
	cr_assert_eq(bt_io(&t, BLOCK_WRITE, DISK - 8192, buf, 8192, 0), -EFBIG);
	lim.rlim_cur = RLIM_INFINITY;
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &lim), 0);
	cr_assert_eq(bt_io(&t, BLOCK_READ, DISK - 8192, back, 8192, 0), 0);
	cr_assert_eq(back[4095], 0x5a, "the first part was written");
	cr_assert_eq(back[4096], bt_byte(DISK - 4096, 0), "the second was not");
}

/* A pipe in place of the file hands over what is there, a piece at a time
 * (io_uring ignores offsets on pipes). Pieces end inside, at and across entries. */
Test(block_io, test_read_short_goes_on_where_it_stopped)
{
	static const size_t pieces[] = { 100, 412, 1, 1023, 1000, 3608, 2048 };
	static uint8_t data[8192], back[8192];
	int keep, p[2];
	struct bt_req q;
	size_t at = 0;

	disk(LOOP_AIO_URING, "");
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = bt_byte(i, 3);
	keep = dup(bt_file_node(&t)->fd);
	cr_assert_eq(pipe(p), 0);
	dup2(p[0], bt_file_node(&t)->fd);
	memset(&q, 0, sizeof(q));
	for (int i = 0; i < 4; i++)
		q.iov[i] = (struct iovec){ back + 512 * (1u << i) - 512, 512u << i };
	q.iov[4] = (struct iovec){ back + 7680, 512 };
	q.r = (struct block_req){ .op = BLOCK_READ, .bytes = sizeof(back), .iov = q.iov,
				  .iovcnt = 5, .done = bt_on_done, .loop = t.loop };
	drive_submit(t.d, &q.r);
	for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
		cr_assert_eq(q.done, 0);
		cr_assert_eq(write(p[1], data + at, pieces[i]), (ssize_t)pieces[i]);
		at += pieces[i];
		while (!q.done && q.r.xfer.left != sizeof(back) - at)
			loop_turn(t.loop, NS_PER_SEC);
	}
	bt_wait(&t, &q);
	cr_assert_eq(q.ret, 0);
	cr_assert_arr_eq(back, data, sizeof(data));
	dup2(keep, bt_file_node(&t)->fd);
	close(keep);
	close(p[0]);
	close(p[1]);
}

/* fdatasync on something that has none stands for a failing one. */
static int break_sync(struct file_node *f)
{
	int keep = dup(f->fd), p[2];

	cr_assert_eq(pipe(p), 0);
	dup2(p[1], f->fd);
	close(p[0]);
	close(p[1]);
	return keep;
}

static void flush_failure(enum loop_aio aio)
{
	uint8_t buf[512] = { 1 };
	int keep;

	disk(aio, "");
	cr_assert_eq(bt_io(&t, BLOCK_WRITE, 0, buf, 512, 0), 0);
	cr_assert_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	cr_assert_eq(bt_io(&t, BLOCK_WRITE, 0, buf, 512, 0), 0);
	keep = break_sync(bt_file_node(&t));
	cr_assert_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), -EINVAL);
	dup2(keep, bt_file_node(&t)->fd);
	close(keep);
	cr_assert_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), -EINVAL, "a later flush lied");
	cr_assert_eq(bt_io(&t, BLOCK_WRITE, 0, buf, 512, 0), 0, "writes still work");
	cr_assert_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), -EINVAL);
}

Test(block_io, test_flush_after_a_failed_flush_never_succeeds_uring)
{
	flush_failure(LOOP_AIO_URING);
}

Test(block_io, test_flush_after_a_failed_flush_never_succeeds_threads)
{
	flush_failure(LOOP_AIO_THREADS);
}

Test(block_io, test_flush_failure_reaches_every_flush_that_joined)
{
	struct bt_req q[6];
	uint8_t buf[512] = { 1 };
	int keep;

	disk(LOOP_AIO_AUTO, "");
	cr_assert_eq(bt_io(&t, BLOCK_WRITE, 0, buf, 512, 0), 0);
	keep = break_sync(bt_file_node(&t));
	for (size_t i = 0; i < ARRAY_LEN(q); i++)
		bt_submit(&t, &q[i], BLOCK_FLUSH, 0, NULL, 0, 0);
	for (size_t i = 0; i < ARRAY_LEN(q); i++) {
		bt_wait(&t, &q[i]);
		cr_expect_eq(q[i].ret, -EINVAL);
	}
	dup2(keep, bt_file_node(&t)->fd);
	close(keep);
}

Test(block_io, test_flush_with_nothing_written_needs_no_fdatasync)
{
	uint8_t buf[512];
	int keep;

	disk(LOOP_AIO_AUTO, "");
	cr_assert_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	keep = break_sync(bt_file_node(&t));
	cr_assert_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	dup2(keep, bt_file_node(&t)->fd);
	close(keep);
	cr_assert_eq(bt_io(&t, BLOCK_READ, 0, buf, 512, 0), 0);
}

Test(block_io, test_flush_is_skipped_with_cache_unsafe)
{
	uint8_t buf[512] = { 1 };
	int keep;

	disk(LOOP_AIO_AUTO, "cache=unsafe");
	cr_assert_eq(bt_io(&t, BLOCK_WRITE, 0, buf, 512, BLOCK_FUA), 0);
	keep = break_sync(bt_file_node(&t));
	cr_assert_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	dup2(keep, bt_file_node(&t)->fd);
	close(keep);
}

Test(block_io, test_write_through_leaves_nothing_to_flush)
{
	struct file_node *f;
	uint8_t buf[512] = { 1 };

	disk(LOOP_AIO_AUTO, "cache=writethrough");
	f = bt_file_node(&t);
	cr_assert_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	cr_assert_eq(bt_io(&t, BLOCK_WRITE, 0, buf, 512, 0), 0);
	cr_assert(!f->sync.dirty);
	t.d->write_cache = true;
	cr_assert_eq(bt_io(&t, BLOCK_WRITE, 0, buf, 512, 0), 0);
	cr_assert(f->sync.dirty);
}

/* ---- discard, write-zeroes, detect-zeroes ---- */

static uint64_t host_bytes(const char *path)
{
	struct stat st;

	cr_assert_eq(stat(path, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void settle(void)
{
	cr_assert_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
}

Test(block_io, test_discard_gives_space_back_only_with_unmap)
{
	uint64_t before;
	uint8_t buf[512];

	disk(LOOP_AIO_AUTO, "discard=unmap");
	settle();
	before = host_bytes(bt_path(&t, "d0.raw"));
	cr_assert_eq(bt_io(&t, BLOCK_DISCARD, 65536, NULL, 65536, 0), 0);
	cr_assert_leq(host_bytes(bt_path(&t, "d0.raw")) + 65536, before);
	cr_assert_eq(bt_io(&t, BLOCK_READ, 65536, buf, 512, 0), 0);
	cr_assert_eq(buf[0], 0);
}

Test(block_io, test_discard_ignored_keeps_the_data)
{
	uint8_t buf[512];

	disk(LOOP_AIO_AUTO, "");
	cr_assert_eq(bt_io(&t, BLOCK_DISCARD, 65536, NULL, 65536, 0), 0);
	cr_assert_eq(bt_io(&t, BLOCK_READ, 65536, buf, 512, 0), 0);
	cr_assert_eq(buf[0], bt_byte(65536, 0));
}

static void expect_zeroes(uint64_t off, size_t len)
{
	uint8_t *buf = malloc(len + 1024);

	cr_assert_eq(bt_io(&t, BLOCK_READ, off - 512, buf, len + 1024, 0), 0);
	cr_expect_eq(buf[511], bt_byte(off - 1, 0));
	cr_expect_eq(buf[len + 512], bt_byte(off + len, 0));
	for (size_t i = 0; i < len; i++)
		cr_assert_eq(buf[512 + i], 0, "byte %zu", i);
	free(buf);
}

static void zeroes_every_way(const char *opts)
{
	struct file_node *f;

	disk(LOOP_AIO_AUTO, opts);
	f = bt_file_node(&t);
	cr_assert_eq(bt_io(&t, BLOCK_WRITE_ZEROES, 1024, NULL, 8192, 0), 0);
	expect_zeroes(1024, 8192);
	cr_assert_eq(bt_io(&t, BLOCK_WRITE_ZEROES, 20480, NULL, 8192, BLOCK_UNMAP | BLOCK_FUA), 0);
	expect_zeroes(20480, 8192);
	f->can_zero_range = false;
	cr_assert_eq(bt_io(&t, BLOCK_WRITE_ZEROES, 40960, NULL, 65536, BLOCK_FUA), 0);
	expect_zeroes(40960, 65536);
}

Test(block_io, test_write_zeroes_every_way_buffered)
{
	zeroes_every_way("discard=unmap");
}

Test(block_io, test_write_zeroes_every_way_direct)
{
	zeroes_every_way("discard=unmap,cache=none");
}

Test(block_io, test_write_zeroes_unmap_gives_space_back_only_with_discard)
{
	uint64_t before;

	disk(LOOP_AIO_AUTO, "discard=ignore");
	settle();
	before = host_bytes(bt_path(&t, "d0.raw"));
	cr_assert_eq(bt_io(&t, BLOCK_WRITE_ZEROES, 65536, NULL, 65536, BLOCK_UNMAP), 0);
	settle();
	cr_assert_eq(host_bytes(bt_path(&t, "d0.raw")), before);
	expect_zeroes(65536, 65536);
}

Test(block_io, test_detect_zeroes_unmap_turns_zero_writes_into_holes)
{
	static uint8_t zero[65536];
	uint64_t before;

	disk(LOOP_AIO_AUTO, "discard=unmap,detect-zeroes=unmap");
	settle();
	before = host_bytes(bt_path(&t, "d0.raw"));
	cr_assert_eq(bt_io(&t, BLOCK_WRITE, 65536, zero, sizeof(zero), 0), 0);
	cr_assert_leq(host_bytes(bt_path(&t, "d0.raw")) + sizeof(zero), before);
	expect_zeroes(65536, sizeof(zero));
	zero[65535] = 1;
	cr_assert_eq(bt_io(&t, BLOCK_WRITE, 131072, zero, sizeof(zero), 0), 0);
	cr_assert_eq(drive_totals(t.d).ops[BLOCK_WRITE], 2, "counted as what the guest asked");
}

/* ---- error policy, cancel ---- */

static int policy_calls;
static enum drive_policy policy_action;

static void on_error(struct drive *d, enum block_op op, int err, enum drive_policy action)
{
	policy_calls++;
	policy_action = action;
}

Test(block_io, test_policy_stop_keeps_the_request_until_resume)
{
	struct bt_req q;
	uint8_t buf[4096];

	disk(LOOP_AIO_AUTO, "rerror=stop");
	t.d->on_error = on_error;
	cr_assert_eq(truncate(bt_path(&t, "d0.raw"), 4096), 0);
	bt_submit(&t, &q, BLOCK_READ, 8192, buf, 4096, 0);
	while (!t.d->stopped.head)
		loop_turn(t.loop, NS_PER_SEC);
	cr_assert_eq(q.done, 0);
	cr_assert_eq(policy_calls, 1);
	cr_assert_eq(policy_action, DRIVE_STOP);
	cr_assert_eq(drive_totals(t.d).inflight, 1);
	cr_assert_eq(truncate(bt_path(&t, "d0.raw"), DISK), 0);
	drive_resume(t.d);
	bt_wait(&t, &q);
	cr_assert_eq(q.ret, 0);
	cr_assert_null(t.d->stopped.head);
}

Test(block_io, test_policy_stop_cancel_ends_a_kept_request)
{
	struct bt_req q[2];
	uint8_t buf[2][4096];

	disk(LOOP_AIO_AUTO, "rerror=stop");
	t.d->on_error = on_error;
	cr_assert_eq(truncate(bt_path(&t, "d0.raw"), 4096), 0);
	for (int i = 0; i < 2; i++)
		bt_submit(&t, &q[i], BLOCK_READ, 8192, buf[i], 4096, 0);
	while (!t.d->stopped.head || !t.d->stopped.head->susp.next)
		loop_turn(t.loop, NS_PER_SEC);
	drive_cancel(&q[0].r);
	bt_wait(&t, &q[0]);
	cr_assert_eq(q[0].ret, -ECANCELED);
	drive_resume(t.d);		/* in between resume and its work */
	drive_cancel(&q[1].r);
	bt_wait(&t, &q[1]);
	cr_assert_eq(q[1].ret, -ECANCELED);
	cr_assert_eq(drive_totals(t.d).inflight, 0);
}

Test(block_io, test_policy_stop_without_anyone_to_stop_reports)
{
	uint8_t buf[4096];

	disk(LOOP_AIO_AUTO, "rerror=stop");
	cr_assert_eq(truncate(bt_path(&t, "d0.raw"), 4096), 0);
	cr_assert_eq(bt_io(&t, BLOCK_READ, 8192, buf, 4096, 0), -EIO);
}

Test(block_io, test_policy_ignore_and_enospc)
{
	uint8_t buf[4096];

	disk(LOOP_AIO_AUTO, "rerror=ignore");
	t.d->on_error = on_error;
	cr_assert_eq(truncate(bt_path(&t, "d0.raw"), 4096), 0);
	cr_assert_eq(bt_io(&t, BLOCK_READ, 8192, buf, 4096, 0), 0);
	cr_assert_eq(policy_action, DRIVE_IGNORE);
	t.d->rerror = DRIVE_ENOSPC;	/* another errno: reported */
	cr_assert_eq(bt_io(&t, BLOCK_READ, 8192, buf, 4096, 0), -EIO);
	cr_assert_eq(policy_action, DRIVE_REPORT);
}

static void cancel_all(enum loop_aio aio, bool pretend)
{
	static uint8_t buf[40][4096];
	struct bt_req q[40];

	disk(aio, "cache=none");
	if (pretend)
		pretend_4k();
	for (size_t i = 0; i < ARRAY_LEN(q); i++)
		bt_submit(&t, &q[i], i % 2 ? BLOCK_READ : BLOCK_WRITE, 512 * i, buf[i], 3072, 0);
	for (size_t i = 0; i < ARRAY_LEN(q); i++)
		drive_cancel(&q[i].r);
	for (size_t i = 0; i < ARRAY_LEN(q); i++) {
		bt_wait(&t, &q[i]);
		cr_expect(q[i].ret == 0 || q[i].ret == -ECANCELED, "%d", q[i].ret);
	}
	cr_assert_eq(drive_totals(t.d).inflight, 0);
	cr_assert_eq(bt_io(&t, BLOCK_READ, 0, buf[0], 4096, 0), 0, "all buffers came back");
}

Test(block_io, test_cancel_completes_each_request_once_uring)
{
	cancel_all(LOOP_AIO_URING, false);
}

Test(block_io, test_cancel_completes_each_request_once_threads)
{
	cancel_all(LOOP_AIO_THREADS, false);
}

Test(block_io, test_cancel_while_waiting_for_ranges_and_buffers)
{
	cancel_all(LOOP_AIO_AUTO, true);
}

Test(block_io, test_statistics_count_what_was_done)
{
	struct drive_totals s;
	uint8_t buf[4096];

	disk(LOOP_AIO_AUTO, "");
	cr_assert_eq(bt_io(&t, BLOCK_READ, 0, buf, 4096, 0), 0);
	cr_assert_eq(bt_io(&t, BLOCK_WRITE, 0, buf, 512, 0), 0);
	cr_assert_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
	s = drive_totals(t.d);
	cr_assert_eq(s.ops[BLOCK_READ], 1);
	cr_assert_eq(s.bytes[BLOCK_READ], 4096);
	cr_assert_eq(s.bytes[BLOCK_WRITE], 512);
	cr_assert_eq(s.ops[BLOCK_FLUSH], 1);
	cr_assert_gt(s.ns[BLOCK_READ], 0);
}

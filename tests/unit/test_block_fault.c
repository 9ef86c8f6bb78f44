/*
 * tests/unit/test_block_fault.c - faults on purpose: which requests they hit,
 * what happens to those, and that rules come and go while I/O runs. TSAN.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/fault.h"
#include "lib_block.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/loop/iothread.h"

#define DISK	(256 * 1024u)

static struct bt t;
static struct err e;

static void setup(void)
{
	bt_start(&t, LOOP_AIO_THREADS);
	bt_disk(&t, DISK, "");
}

static void teardown(void)
{
	bt_stop(&t);
}

TestSuite(fault, .init = setup, .fini = teardown, .timeout = 60);

static int add(const char *text)
{
	json_t *args;
	int r;

	e = (struct err)ERR_INIT;
	args = json_from_keyval(text, NULL, 0, "test", &e);
	cr_assert_not_null(args, "%s", e.text);
	r = block_fault_add(t.g, args, &e);
	json_decref(args);
	return r;
}

static void must_add(const char *text)
{
	int r = add(text);

	cr_assert_eq(r, 0, "%s", e.text);
}

static int io(enum block_op op, uint64_t sector)
{
	static uint8_t buf[BLOCK_SECTOR];
	bool data = op <= BLOCK_WRITE;

	return bt_io(&t, op, sector * BLOCK_SECTOR, data ? buf : NULL,
		     op == BLOCK_FLUSH ? 0 : BLOCK_SECTOR, 0);
}

struct found {
	const char *id;
	struct block_fault_info i;
};

static void find_info(const struct block_fault_info *i, void *arg)
{
	struct found *f = arg;

	if (strcmp(i->id, f->id) == 0)
		f->i = *i;
}

static struct block_fault_info info(const char *id)
{
	struct found f = { id, { 0 } };

	block_fault_each(t.g, find_info, &f);
	return f.i;
}

/* ---- which requests ---- */

Test(fault, test_fault_on_writes_leaves_reads_alone)
{
	must_add("id=f,drive=d0,op=write,errno=EIO");
	cr_expect_eq(io(BLOCK_WRITE, 0), -EIO);
	cr_expect_eq(io(BLOCK_READ, 0), 0);
	cr_expect_eq(io(BLOCK_FLUSH, 0), 0);
}

Test(fault, test_fault_on_several_operations_hits_each)
{
	must_add("id=f,drive=d0,op=read+flush+write-zeroes,errno=ETIMEDOUT");
	cr_expect_eq(io(BLOCK_READ, 0), -ETIMEDOUT);
	cr_expect_eq(io(BLOCK_FLUSH, 0), -ETIMEDOUT);
	cr_expect_eq(io(BLOCK_WRITE_ZEROES, 0), -ETIMEDOUT);
	cr_expect_eq(io(BLOCK_WRITE, 0), 0);
}

Test(fault, test_fault_range_first_and_last_sector)
{
	must_add("id=f,drive=d0,sector=10,sectors=2,errno=5");
	cr_expect_eq(io(BLOCK_READ, 9), 0);
	cr_expect_eq(io(BLOCK_READ, 10), -EIO);
	cr_expect_eq(io(BLOCK_READ, 11), -EIO);
	cr_expect_eq(io(BLOCK_READ, 12), 0);
	cr_expect_eq(io(BLOCK_FLUSH, 0), 0);
}

Test(fault, test_fault_after_and_count_hit_the_requests_between)
{
	must_add("id=f,drive=d0,after=2,count=3,errno=ENOSPC,op=write");
	for (int i = 0; i < 8; i++)
		cr_expect_eq(io(BLOCK_WRITE, 0), i >= 2 && i < 5 ? -ENOSPC : 0, "request %d", i);
	cr_expect_eq(info("f").matched, 8);
	cr_expect_eq(info("f").hits, 3);
}

static void pattern(char *out, const char *rule)
{
	must_add(rule);
	for (int i = 0; i < 64; i++)
		out[i] = io(BLOCK_READ, 0) ? 'x' : '.';
	out[64] = 0;
	cr_assert_eq(block_fault_del(t.g, "f", &e), 0);
}

Test(fault, test_fault_probability_repeats_with_its_seed_only)
{
	char a[65], b[65], c[65];
	int hits = 0;

	pattern(a, "id=f,drive=d0,probability=250000,seed=7,errno=EIO");
	pattern(b, "id=f,drive=d0,probability=250000,seed=7,errno=EIO");
	pattern(c, "id=f,drive=d0,probability=250000,seed=8,errno=EIO");
	for (int i = 0; i < 64; i++)
		hits += a[i] == 'x';
	cr_expect_str_eq(a, b);
	cr_expect_str_neq(a, c);
	cr_expect(hits > 4 && hits < 30, "%d of 64 at one in four", hits);
}

Test(fault, test_fault_named_by_device_or_node_is_the_same_disk)
{
	must_add("id=f,drive=dev0,errno=EIO");
	cr_expect_eq(io(BLOCK_READ, 0), -EIO);
	cr_assert_eq(block_fault_del(t.g, "f", &e), 0);
	cr_expect_eq(io(BLOCK_READ, 0), 0);
}

/* ---- what happens ---- */

Test(fault, test_fault_latency_delays_and_then_succeeds)
{
	uint64_t start = clock_ns();
	uint8_t buf[BLOCK_SECTOR];

	must_add("id=f,drive=d0,latency=60");
	cr_expect_eq(bt_io(&t, BLOCK_READ, 512, buf, sizeof(buf), 0), 0);
	cr_expect_geq(clock_ns() - start, 60 * NS_PER_MS);
	cr_expect_eq(buf[3], bt_byte(512 + 3, 0));
	cr_expect_eq(info("f").held, 0);
}

Test(fault, test_fault_latencies_add_up_before_an_error)
{
	uint64_t start = clock_ns();

	must_add("id=a,drive=d0,latency=30");
	must_add("id=b,drive=d0,latency=40,errno=EIO");
	cr_expect_eq(io(BLOCK_READ, 0), -EIO);
	cr_expect_geq(clock_ns() - start, 70 * NS_PER_MS);
}

Test(fault, test_fault_short_with_errno_tears_the_write)
{
	uint8_t buf[8 * BLOCK_SECTOR], back[8 * BLOCK_SECTOR];

	memset(buf, 0xaa, sizeof(buf));
	must_add("id=f,drive=d0,op=write,short=1536,errno=EIO,count=1");
	cr_expect_eq(bt_io(&t, BLOCK_WRITE, 4096, buf, sizeof(buf), 0), -EIO);
	cr_expect_eq(bt_io(&t, BLOCK_READ, 4096, back, sizeof(back), 0), 0);
	cr_expect_arr_eq(back, buf, 1536);
	for (size_t i = 1536; i < sizeof(back); i++)
		cr_assert_eq(back[i], bt_byte(4096 + i, 0), "byte %zu was written", i);
}

static void scattered(struct bt_req *q, uint8_t *mem, enum block_op op)
{
	bt_submit(&t, q, op, 1024, mem, 0, 0);	/* empty: only fills the fields */
	bt_wait(&t, q);
	q->iov[0] = (struct iovec){ mem, 512 };
	q->iov[1] = (struct iovec){ mem + 1024, 1024 };
	q->iov[2] = (struct iovec){ mem + 4096, 512 };
	q->r.iovcnt = 3;
	q->r.bytes = 2048;
	q->done = 0;
	drive_submit(t.d, &q->r);
	bt_wait(&t, q);
}

Test(fault, test_fault_short_without_errno_moves_all_in_two_pieces)
{
	static uint8_t mem[8192], flat[2048];
	struct bt_req q;

	must_add("id=f,drive=d0,short=1024");
	scattered(&q, mem, BLOCK_READ);
	cr_expect_eq(q.ret, 0);
	cr_expect_eq(q.r.bytes, 2048, "the request is not as it was");
	iov_to_buf(q.r.iov, q.r.iovcnt, 0, flat, sizeof(flat));
	for (size_t i = 0; i < sizeof(flat); i++)
		cr_assert_eq(flat[i], bt_byte(1024 + i, 0), "byte %zu", i);
}

Test(fault, test_fault_short_of_the_whole_request_changes_nothing)
{
	must_add("id=f,drive=d0,short=65536");
	cr_expect_eq(io(BLOCK_WRITE, 0), 0);
	cr_expect_eq(io(BLOCK_FLUSH, 0), 0);
}

Test(fault, test_fault_integrity_holds_under_short_and_late_requests)
{
	must_add("id=a,drive=d0,short=512,probability=300000,seed=3");
	must_add("id=b,drive=d0,latency=1,jitter=3,probability=200000,seed=4");
	bt_integrity(&t, 0, 24);
	cr_expect_gt(info("a").hits, 100);
	cr_expect_gt(info("b").hits, 100);
}

/* ---- rules come and go ---- */

Test(fault, test_fault_removed_lets_hanging_requests_go_on)
{
	uint8_t buf[BLOCK_SECTOR];
	struct bt_req q;

	must_add("id=f,drive=d0,hang=on");
	bt_submit(&t, &q, BLOCK_READ, 0, buf, sizeof(buf), 0);
	for (int i = 0; i < 5; i++)
		loop_turn(t.loop, 10 * NS_PER_MS);
	cr_assert_eq(q.done, 0);
	cr_expect_eq(info("f").held, 1);
	cr_assert_eq(block_fault_del(t.g, "f", &e), 0);
	bt_wait(&t, &q);
	cr_expect_eq(q.ret, 0);
	cr_expect_eq(buf[0], bt_byte(0, 0));
}

Test(fault, test_fault_hanging_request_can_be_cancelled)
{
	struct bt_req q;

	must_add("id=f,drive=d0,hang=on,op=flush");
	bt_submit(&t, &q, BLOCK_FLUSH, 0, NULL, 0, 0);
	drive_cancel(&q.r);
	cr_expect_eq(q.done, 0, "done was called inside drive_cancel()");
	bt_wait(&t, &q);
	cr_expect_eq(q.ret, -ECANCELED);
}

Test(fault, test_fault_removed_and_cancelled_at_once_ends_once)
{
	struct bt_req q;

	must_add("id=f,drive=d0,hang=on,errno=EIO");
	bt_submit(&t, &q, BLOCK_FLUSH, 0, NULL, 0, 0);
	cr_assert_eq(block_fault_del(t.g, "f", &e), 0);
	drive_cancel(&q.r);
	bt_wait(&t, &q);
	cr_expect_eq(q.ret, -ECANCELED);
	loop_turn(t.loop, 10 * NS_PER_MS);
	cr_expect_eq(q.done, 1);
}

Test(fault, test_fault_goes_with_its_node)
{
	bt_file(&t, "x.raw", DISK);
	cr_assert_eq(bt_blockdev(&t, "file,node-name=x,filename=%s/x.raw"), 0, "%s", bt_error());
	must_add("id=f,drive=x,errno=EIO");
	cr_assert_eq(block_node_del(t.g, "x", &e), 0, "%s", e.text);
	cr_expect_eq(block_fault_del(t.g, "f", &e), -ENOENT);
}

/* An I/O thread submits without pause while rules come and go here. */
struct worker {
	struct bt_req q;
	struct loop_work work;
	_Atomic bool stop, stopped;
	_Atomic uint64_t good, bad;
	uint8_t buf[4 * BLOCK_SECTOR];
};
static struct worker w;

static void submit_next(void);

static void worker_done(struct block_req *r, int ret)
{
	atomic_fetch_add(ret == 0 ? &w.good : &w.bad, 1);
	if (atomic_load(&w.stop))
		atomic_store(&w.stopped, true);
	else
		submit_next();
}

static void submit_next(void)
{
	w.q.r.offset = (w.q.r.offset + sizeof(w.buf)) % DISK;
	drive_submit(t.d, &w.q.r);
}

static void worker_start(struct loop_work *work)
{
	submit_next();
}

Test(fault, test_fault_rules_come_and_go_while_another_thread_submits)
{
	json_t *args = json_object();
	struct iothread *io;
	uint64_t end;

	cr_assert_eq(iothread_create(&io, "io0", args, LOOP_AIO_THREADS, &e), 0, "%s", e.text);
	json_decref(args);
	w.q.iov[0] = (struct iovec){ w.buf, sizeof(w.buf) };
	w.q.r = (struct block_req){ .op = BLOCK_READ, .bytes = sizeof(w.buf), .iov = w.q.iov,
				    .iovcnt = 1, .done = worker_done, .loop = iothread_loop(io) };
	w.work.cb = worker_start;
	loop_post(iothread_loop(io), &w.work);
	end = clock_ns() + 700 * NS_PER_MS;
	while (clock_ns() < end) {
		must_add("id=a,drive=d0,errno=EIO");
		must_add("id=b,drive=d0,short=512");
		cr_assert_eq(block_fault_del(t.g, "a", &e), 0);
		must_add("id=c,drive=d0,hang=on");
		cr_assert_eq(block_fault_del(t.g, "b", &e), 0);
		cr_assert_eq(block_fault_del(t.g, "c", &e), 0);
		must_add("id=d,drive=d0,jitter=1");
		cr_assert_eq(block_fault_del(t.g, "d", &e), 0);
	}
	atomic_store(&w.stop, true);
	end = clock_ns() + 10 * NS_PER_SEC;
	while (!atomic_load(&w.stopped) && clock_ns() < end)
		loop_turn(t.loop, NS_PER_MS);
	iothread_destroy(io);
	cr_expect(atomic_load(&w.stopped), "a request was lost");
	cr_expect_gt(atomic_load(&w.good), 10);
	cr_expect_gt(atomic_load(&w.bad), 0);
}

/* ---- the driver ---- */

Test(fault, test_fault_node_breaks_what_goes_through_it)
{
	uint8_t buf[BLOCK_SECTOR];

	drive_close(t.d);
	t.d = NULL;
	bt_file(&t, "y.raw", DISK);
	cr_assert_eq(bt_blockdev(&t, "driver=fault,node-name=y,op=read,errno=EIO,sector=4,sectors=1,"
				 "file.driver=file,file.filename=%s/y.raw"), 0, "%s", bt_error());
	cr_assert_eq(drive_open(t.g, "y", "dev1", DRIVE_OPEN_WRITE, &t.d, &e), 0, "%s", e.text);
	cr_expect_eq(bt_io(&t, BLOCK_READ, 4 * 512, buf, sizeof(buf), 0), -EIO);
	cr_expect_eq(bt_io(&t, BLOCK_READ, 5 * 512, buf, sizeof(buf), 0), 0);
	cr_expect_eq(bt_io(&t, BLOCK_WRITE, 4 * 512, buf, sizeof(buf), 0), 0);
}

/* ---- mistakes ---- */

static void refused(const char *rule, const char *sentence)
{
	cr_expect_lt(add(rule), 0, "%s is accepted", rule);
	cr_expect(strstr(e.text, sentence), "%s: '%s' lacks '%s'", rule, e.text, sentence);
}

Test(fault, test_fault_mistakes_are_named)
{
	refused("drive=d0,errno=EIO", "a fault needs id=");
	refused("id=f,errno=EIO", "drive= is missing");
	refused("id=f,drive=nobody,errno=EIO", "no drive, node or disk device");
	refused("id=f,drive=d0", "does nothing");
	refused("id=f,drive=d0,errno=EWHAT", "errno=EWHAT");
	refused("id=f,drive=d0,errno=0", "errno=0");
	refused("id=f,drive=d0,errno=EIO,op=reed", "op=reed");
	refused("id=f,drive=d0,errno=EIO,op=read+", "op=read+");
	refused("id=f,drive=d0,short=100", "multiple of 512");
	refused("id=f,drive=d0,errno=EIO,probability=0", "probability");
	refused("id=f,drive=d0,errno=EIO,laten=1", "latency");
	must_add("id=f,drive=d0,errno=EIO");
	refused("id=f,drive=d0,errno=EIO", "taken");
	cr_expect_eq(block_fault_del(t.g, "", &e), -ENOENT);
}

/*
 * tests/unit/test_block_retry_threads.c - several loops on one disk that fails
 * now and then: every request ends once, none is lost, cancels get through.
 *
 * TSAN: the suspended requests of all loops are in one list.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "block/retry.h"
#include "lib_block.h"
#include "lib_script.h"
#include "vmm/base/util.h"
#include "vmm/loop/iothread.h"

#define THREADS	3
#define DEPTH	8
#define ROUNDS	400

static struct bt t;

static void teardown(void)
{
	bt_stop(&t);
}

TestSuite(block_retry_threads, .fini = teardown, .timeout = 60);

struct worker {
	struct iothread *io;
	struct loop_work work;
	struct req {
		struct block_req r;	/* first */
		struct iovec iov;
		uint8_t mem[512];
		struct worker *w;
		bool busy;
	} req[DEPTH];
	int index, left, cancels, failures;
	_Atomic int running;
};

static void next(struct req *q);

static void on_done(struct block_req *r, int ret)
{
	struct req *q = container_of(r, struct req, r);
	struct worker *w = q->w;

	q->busy = false;
	if (ret && !r->cancelled)	/* that one may end either way */
		w->failures++;
	if (w->left-- > 0)
		next(q);
	else
		w->running--;
}

static void next(struct req *q)
{
	struct worker *w = q->w;

	q->r.op = w->left % 9 == 0 ? BLOCK_FLUSH : w->left % 3 ? BLOCK_WRITE : BLOCK_READ;
	q->r.offset = (uint64_t)(w->index * DEPTH + (int)(q - w->req)) * 512;
	q->r.bytes = q->r.op == BLOCK_FLUSH ? 0 : 512;
	q->iov = (struct iovec){ q->mem, 512 };
	q->r.iov = &q->iov;
	q->r.iovcnt = 1;
	q->r.loop = iothread_loop(w->io);
	q->r.done = on_done;
	q->busy = true;
	drive_submit(t.d, &q->r);
	if (w->left % 31 == 0 && w->cancels) {	/* the one before this */
		struct req *o = &w->req[(q - w->req + DEPTH - 1) % DEPTH];

		if (o->busy)
			drive_cancel(&o->r);
	}
}

static void begin(struct loop_work *work)
{
	struct worker *w = container_of(work, struct worker, work);

	for (int i = 0; i < DEPTH; i++)
		next(&w->req[i]);
}

static void nothing(void *arg)
{
}

static bool running(struct worker *w)
{
	int n = 0;

	for (int i = 0; i < THREADS; i++)
		n += atomic_load(&w[i].running);
	return n > 0;
}

static void run(unsigned int percent, bool cancels)
{
	struct worker *w = calloc(THREADS, sizeof(*w));
	uint64_t end = clock_ns() + 50 * NS_PER_SEC;
	struct err e = ERR_INIT;
	int turns = 0;

	bt_start(&t, LOOP_AIO_AUTO);
	bt_disk(&t, 64 * 1024, "werror=retry,rerror=retry,retry_interval=0");
	script_install(t.d);
	script.logging = false;
	script.percent = percent;
	for (int i = 0; i < THREADS; i++) {
		cr_assert_eq(iothread_create(&w[i].io, "io", NULL, LOOP_AIO_AUTO, &e), 0);
		w[i].index = i;
		w[i].left = ROUNDS;
		w[i].cancels = cancels;
		w[i].running = DEPTH;
		for (int k = 0; k < DEPTH; k++)
			w[i].req[k].w = &w[i];
		w[i].work.cb = begin;
		loop_post(iothread_loop(w[i].io), &w[i].work);
	}
	while (running(w)) {
		loop_turn(t.loop, NS_PER_MS);
		if (++turns % 16 == 0)
			drive_pause(t.d);
		if (turns % 16 == 4)
			drive_resume(t.d);
		if (turns % 64 == 7)
			drive_retry_now(t.d);
		cr_assert_lt(clock_ns(), end, "some requests never end");
	}
	for (int i = 0; i < THREADS; i++)	/* none is waking another any more */
		loop_call(iothread_loop(w[i].io), nothing, NULL);
	for (int i = 0; i < THREADS; i++) {
		cr_expect_eq(w[i].failures, 0);
		iothread_destroy(w[i].io);
	}
	free(w);
	cr_assert_eq(drive_totals(t.d).inflight, 0);
	cr_assert_eq(drive_retry_info(t.d).parked, 0);
	cr_assert_gt(drive_retry_info(t.d).retries, 0);
}

Test(block_retry_threads, test_every_request_ends_well)
{
	run(20, false);
}

Test(block_retry_threads, test_cancels_from_every_loop_get_through)
{
	run(50, true);
}

/*
 * tests/unit/test_block_throttle_threads.c - two drives and a throttle node on three
 * loops in one group, whose limits, members and holds change meanwhile: every request ends once.
 *
 * TSAN: the group's levels, lists and turns.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "block/throttle.h"
#include "lib_block.h"
#include "vmm/base/util.h"
#include "vmm/loop/iothread.h"

#define THREADS	3
#define DRIVES	2	/* the third disk is a throttle node */
#define DEPTH	8
#define ROUNDS	600

static struct bt t;
static struct drive *disks[THREADS];

static void teardown(void)
{
	for (int i = 0; i < THREADS; i++)
		drive_close(disks[i]);
	bt_stop(&t);
}

TestSuite(block_throttle_threads, .fini = teardown, .timeout = 60);

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
	int index, left, failures;
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
	q->r.offset = (uint64_t)(q - w->req) * 512;
	q->r.bytes = q->r.op == BLOCK_FLUSH ? 0 : 512;
	q->iov = (struct iovec){ q->mem, 512 };
	q->r.iov = &q->iov;
	q->r.iovcnt = 1;
	q->r.loop = iothread_loop(w->io);
	q->r.done = on_done;
	q->busy = true;
	drive_submit(disks[w->index], &q->r);
	if (w->left % 31 == 0) {	/* the one before this */
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

static bool any_waits(void)
{
	uint32_t n = 0;

	for (int i = 0; i < THREADS; i++) {
		pthread_mutex_lock(&disks[i]->lock);
		n += throttle_waiting(disks[i]);
		pthread_mutex_unlock(&disks[i]->lock);
	}
	return n > 0;
}

static void idle(struct drive *d, void *arg)
{
	drive_release(d);
}

static void open_disks(void)
{
	struct err e = ERR_INIT;
	char text[160];

	for (int i = 0; i < DRIVES; i++) {
		snprintf(text, sizeof(text), "d%d.raw", i);
		bt_file(&t, text, 64 * 1024);
		snprintf(text, sizeof(text), "file=%%s/d%d.raw,format=raw,if=none,id=d%d,"
			 "throttling.group=g,throttling.iops-total=2000", i, i);
		cr_assert_eq(bt_drive(&t, text), 0, "%s", bt_error());
		snprintf(text, sizeof(text), "d%d", i);
		cr_assert_eq(drive_open(t.g, text, text, DRIVE_OPEN_MAY_WRITE, &disks[i], &e), 0);
	}
	bt_file(&t, "n.raw", 64 * 1024);
	cr_assert_eq(bt_blockdev(&t, "driver=throttle,node-name=t0,throttle-group=g,"
				 "file.driver=file,file.filename=%s/n.raw"), 0, "%s", bt_error());
	cr_assert_eq(drive_open(t.g, "t0", "t0", DRIVE_OPEN_MAY_WRITE, &disks[DRIVES], &e), 0);
}

static void disturb(int turn)
{
	struct throttle_limits l = { .avg[THROTTLE_IOPS] = 1000u + (unsigned int)turn % 4 * 500,
				     .max[THROTTLE_IOPS] = 3000, .length[THROTTLE_IOPS] = 2 };
	struct drive *d = disks[turn / 8 % THREADS];

	if (turn % 8 == 0)
		throttle_set(d, turn % 3 ? "g" : "h", &l, "test", NULL);
	if (turn % 64 == 9)
		throttle_join(&d->throttle, t.g, NULL);
	if (turn % 16 == 3)
		drive_hold(d, idle, NULL);
}

Test(block_throttle_threads, test_every_request_ends_once_whatever_is_changed)
{
	struct worker *w = calloc(THREADS, sizeof(*w));
	uint64_t end = clock_ns() + 50 * NS_PER_SEC;
	struct err e = ERR_INIT;
	bool waited = false;
	int turns = 0;

	bt_start(&t, LOOP_AIO_AUTO);
	open_disks();
	for (int i = 0; i < THREADS; i++) {
		cr_assert_eq(iothread_create(&w[i].io, "io", NULL, LOOP_AIO_AUTO, &e), 0);
		w[i].index = i;
		w[i].left = ROUNDS;
		w[i].running = DEPTH;
		for (int k = 0; k < DEPTH; k++)
			w[i].req[k].w = &w[i];
		w[i].work.cb = begin;
		loop_post(iothread_loop(w[i].io), &w[i].work);
	}
	while (running(w)) {
		loop_turn(t.loop, NS_PER_MS);
		waited |= any_waits();
		disturb(++turns);
		cr_assert_lt(clock_ns(), end, "some requests never end");
	}
	for (int i = 0; i < THREADS; i++)	/* none is waking another any more */
		loop_call(iothread_loop(w[i].io), nothing, NULL);
	for (int i = 0; i < THREADS; i++) {
		cr_expect_eq(w[i].failures, 0);
		cr_expect_eq(drive_totals(disks[i]).inflight, 0);
		iothread_destroy(w[i].io);
		drive_release(disks[i]);
	}
	cr_expect(waited, "nothing waited");
	free(w);
}

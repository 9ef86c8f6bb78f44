/*
 * block/qcow2/worker.c - the thread that may wait for the disk.
 *
 * Threads: one per image that is open for writing. The lock of the queue is
 *          held to hand work over only.
 * Missing: nothing known.
 *
 * A step that changes metadata runs where its request is, under `meta`, when
 * that is free and everything needed is in memory. Otherwise it comes here.
 * Straight-line code that waits is what makes the rare parts (reading refcount
 * blocks, growing tables, flushing in order) easy to get right.
 */
#include <errno.h>

#include "block/qcow2/qcow2.h"
#include "vmm/base/thread.h"

/* So much of the cache may be dirty before it is written without a flush. */
#define DIRTY_SHARE	2

/* The image whose worker this thread is. */
static _Thread_local const struct q2 *worker_of;

struct loop *q2_wloop(const struct q2 *q)
{
	return worker_of == q ? q->own_loop : block_graph_wait_loop(q->n.graph);
}

static void stepped_work(struct loop_work *w)
{
	struct q2_op *op = container_of(w, struct q2_op, work);

	op->stepped(op, op->res);
}

static void answer(struct q2_op *op, int res)
{
	op->res = res;
	op->work.cb = stepped_work;
	loop_post(op->loop, &op->work);
}

static void run_steps(struct q2 *q, struct q2_op *list, struct q2_op **flushes)
{
	struct q2_op *next;
	int res;

	for (struct q2_op *op = list; op; op = next) {
		next = op->next;
		if (!op->step) {
			op->next = *flushes;
			*flushes = op;
			continue;
		}
		pthread_mutex_lock(&q->meta);
		res = op->step(op, true);
		pthread_mutex_unlock(&q->meta);
		/* A waiting one belongs to whom it waits for. */
		if (res != Q2_WAIT)
			answer(op, res);
	}
}

static void run_flushes(struct q2 *q, struct q2_op *list)
{
	int res = q2_flush_meta(q);
	struct q2_op *next;

	for (; list; list = next) {
		next = list->next;
		answer(list, res);
	}
}

static void run_call(struct q2 *q, struct q2_call *call)
{
	call->ret = call->run(q, call->arg);
	pthread_mutex_lock(&q->work_lock);
	q->call = NULL;
	call->done = true;
	pthread_cond_signal(&call->cond);
	pthread_mutex_unlock(&q->work_lock);
}

int q2_worker_call(struct q2 *q, int (*run)(struct q2 *q, void *arg), void *arg)
{
	struct q2_call call = { .run = run, .arg = arg };

	pthread_cond_init(&call.cond, NULL);
	pthread_mutex_lock(&q->work_lock);
	q->call = &call;
	pthread_cond_signal(&q->work_cond);
	while (!call.done)
		pthread_cond_wait(&call.cond, &q->work_lock);
	pthread_mutex_unlock(&q->work_lock);
	pthread_cond_destroy(&call.cond);
	return call.ret;
}

static void *worker(void *arg)
{
	struct q2 *q = arg;
	struct q2_op *list, *flushes;
	struct q2_call *call;
	bool want, quit = false;

	worker_of = q;
	while (!quit) {
		pthread_mutex_lock(&q->work_lock);
		while (!q->work && !q->work_quit && !q->want_flush && !q->call)
			pthread_cond_wait(&q->work_cond, &q->work_lock);
		list = q->work;
		q->work = NULL;
		q->work_tail = &q->work;
		want = q->want_flush;
		call = q->call;
		q->want_flush = false;
		quit = q->work_quit && !list;
		pthread_mutex_unlock(&q->work_lock);
		flushes = NULL;
		run_steps(q, list, &flushes);
		if (flushes || (want && !quit))
			run_flushes(q, flushes);
		if (call)
			run_call(q, call);
	}
	return NULL;
}

int q2_worker_start(struct q2 *q, struct err *e)
{
	int r;

	r = loop_create(&q->own_loop, "qcow2", LOOP_AIO_AUTO, e);
	if (r)
		return r;
	q->work_quit = q->want_flush = false;
	r = thread_start(&q->thread, "qcow2", worker, q);
	if (r)
		return err_sys(e, r, "cannot start a thread");
	q->thread_runs = true;
	return 0;
}

void q2_worker_stop(struct q2 *q)
{
	if (q->thread_runs) {
		pthread_mutex_lock(&q->work_lock);
		q->work_quit = true;
		pthread_cond_signal(&q->work_cond);
		pthread_mutex_unlock(&q->work_lock);
		file_sync_joining(q->n.graph, true);
		pthread_join(q->thread, NULL);
		file_sync_joining(q->n.graph, false);
		q->thread_runs = false;
	}
	loop_destroy(q->own_loop);
	q->own_loop = NULL;
}

void q2_worker_flush(struct q2 *q)
{
	pthread_mutex_lock(&q->work_lock);
	q->want_flush = true;
	pthread_cond_signal(&q->work_cond);
	pthread_mutex_unlock(&q->work_lock);
}

void q2_post_step(struct q2_op *op)
{
	struct q2 *q = op->q;

	op->next = NULL;
	pthread_mutex_lock(&q->work_lock);
	*q->work_tail = op;
	q->work_tail = &op->next;
	pthread_cond_signal(&q->work_cond);
	pthread_mutex_unlock(&q->work_lock);
}

void q2_meta(struct q2_op *op, q2_step *step, void (*stepped)(struct q2_op *op, int res))
{
	struct q2 *q = op->q;
	bool crowded;
	int res;

	op->step = step;
	op->stepped = stepped;
	if (pthread_mutex_trylock(&q->meta)) {
		q2_post_step(op);
		return;
	}
	res = step(op, false);
	crowded = q->l2_dirty_count * q->cs > q->l2_limit / DIRTY_SHARE;
	pthread_mutex_unlock(&q->meta);
	if (crowded)
		q2_worker_flush(q);
	if (res == Q2_BLOCK)
		q2_post_step(op);
	else if (res != Q2_WAIT)
		stepped(op, res);
}

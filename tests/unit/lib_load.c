/*
 * tests/unit/lib_load.c - see lib_load.h.
 */
#include "lib_load.h"

#include <criterion/criterion.h>

#include "vmm/base/util.h"

static void next(struct load_req *q);

static void on_done(struct block_req *r, int ret)
{
	struct load_req *q = container_of(r, struct load_req, r);
	struct load *w = q->w;

	q->busy = false;
	if (ret && !r->cancelled)
		w->failures++;
	if (w->left-- > 0)
		next(q);
	else
		w->running--;
}

static void next(struct load_req *q)
{
	struct load *w = q->w;

	q->r.op = w->left % 9 == 0 ? BLOCK_FLUSH : w->left % 3 ? BLOCK_WRITE : BLOCK_READ;
	q->r.offset = w->offset + (uint64_t)(q - w->req) * sizeof(q->mem);
	q->r.bytes = q->r.op == BLOCK_FLUSH ? 0 : sizeof(q->mem);
	q->iov = (struct iovec){ q->mem, sizeof(q->mem) };
	q->r.iov = &q->iov;
	q->r.iovcnt = 1;
	q->r.loop = iothread_loop(w->io);
	q->r.done = on_done;
	q->busy = true;
	drive_submit(w->d, &q->r);
	if (w->left % 31 == 0 && w->cancels) {	/* the one before this */
		struct load_req *o = &w->req[(q - w->req + LOAD_DEPTH - 1) % LOAD_DEPTH];

		if (o->busy)
			drive_cancel(&o->r);
	}
}

static void begin(struct loop_work *work)
{
	struct load *w = container_of(work, struct load, work);

	for (int i = 0; i < LOAD_DEPTH; i++)
		next(&w->req[i]);
}

void load_start(struct load *w)
{
	struct err e = ERR_INIT;

	cr_assert_eq(iothread_create(&w->io, "io", NULL, LOOP_AIO_AUTO, &e), 0, "%s", e.text);
	w->running = LOAD_DEPTH;
	for (int i = 0; i < LOAD_DEPTH; i++)
		w->req[i].w = w;
	w->work.cb = begin;
	loop_post(iothread_loop(w->io), &w->work);
}

bool load_runs(const struct load *w, int n)
{
	for (int i = 0; i < n; i++)
		if (atomic_load(&w[i].running))
			return true;
	return false;
}

static void nothing(void *arg)
{
}

void load_end(struct load *w, int n)
{
	for (int i = 0; i < n; i++)	/* none is waking another any more */
		loop_call(iothread_loop(w[i].io), nothing, NULL);
	for (int i = 0; i < n; i++)
		iothread_destroy(w[i].io);
}

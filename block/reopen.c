/*
 * block/reopen.c - nodes that are in use get other options.
 *
 * Spec:    QEMU's qapi/block-core.json (blockdev-reopen).
 * Threads: main loop; requests of the disks run on theirs (drive_hold.c).
 * Missing: nothing known; see reopen_plan.c for what may change.
 *
 *	flush	what was written so far becomes durable, while the disks work on
 *	hold	new requests are kept, those in the nodes run out
 *	flush	the little that came since
 *	change	all nodes, or none
 *	release	the kept requests go on
 *
 * The flushes are for files that are opened anew: the kernel tells a writeback that
 * failed to descriptors that were there. Without such files there are none. A flush
 * that hangs belongs to the kernel: the memory for it stays until it ends.
 */
#include "block/reopen.h"

#include <errno.h>
#include <stdlib.h>

#include "block/graph.h"
#include "vmm/base/util.h"

/* As for a snapshot: how long the guest's requests may be kept, and how long the
 * first flush may take, when they are not. */
#define HOLD_NS		(5 * NS_PER_SEC)
#define FLUSH_NS	(60 * NS_PER_SEC)
#define ABORT_NS	NS_PER_SEC

enum phase { FLUSH_FIRST, HOLD, FLUSH_HELD, CHANGE, OVER };

/* A disk that is held, or a node without one that is flushed. */
struct part {
	struct reopen *r;
	struct drive *d;		/* NULL: none, or its device was removed */
	struct block_child keep;	/* what is flushed */
	struct block_req flush;
	bool held, busy;		/* busy: waits for idle, or for its flush */
};

struct reopen {
	struct block_graph *g;
	struct reopen_plan plan;
	enum phase phase;
	bool sync;			/* there are flushes */
	bool late;			/* done, but for flushes that hang */
	int n, waiting;			/* parts, and those that are busy */
	int ret;
	struct err e;
	void (*done)(void *arg, int ret, const struct err *e);
	void *arg;
	struct loop_timer limit;
	struct loop_work work;		/* the next phase */
	struct part *part;
};

static void let_go(struct reopen *r)
{
	r->g->late -= r->late;
	for (int i = 0; i < r->n; i++)
		block_detach(&r->part[i].keep);
	free(r->part);
	free(r);
}

static void return_drive(struct part *k)
{
	if (!k->d)
		return;
	k->d->on_close = NULL;
	if (k->held)
		drive_release(k->d);
	k->d = NULL;
}

static void finish(struct reopen *r)
{
	bool flushing = r->phase != HOLD && r->waiting > 0;

	loop_timer_cancel(&r->limit);
	loop_work_cancel(r->g->loop, &r->work);
	r->phase = OVER;
	for (int i = 0; i < r->n; i++)
		return_drive(&r->part[i]);
	reopen_plan_free(&r->plan);
	r->late = flushing;
	r->g->late += flushing;
	r->done(r->arg, r->ret, &r->e);
	if (!flushing)
		let_go(r);
}

static void part_done(struct part *k)
{
	struct reopen *r = k->r;

	k->busy = false;
	if (--r->waiting > 0)
		return;
	if (r->late)
		let_go(r);
	else
		loop_post(r->g->loop, &r->work);
}

static void flushed(struct block_req *req, int ret)
{
	struct part *k = container_of(req, struct part, flush);
	struct reopen *r = k->r;

	if (ret && !r->ret)
		r->ret = err_sys(&r->e, ret, "node '%s' cannot be flushed before options change",
				 k->keep.node->name);
	part_done(k);
}

static void flush(struct part *k)
{
	k->flush.op = BLOCK_FLUSH;
	k->flush.loop = k->r->g->loop;
	k->flush.done = flushed;
	block_start(k->keep.node, &k->flush);
}

static void idle(struct drive *d, void *arg)
{
	part_done(arg);
}

static void hold(struct part *k)
{
	k->held = true;
	drive_hold(k->d, idle, k);
}

/* A disk is unplugged in the midst of it: nothing of it is in the nodes then. */
static void closed(struct drive *d, void *arg)
{
	struct part *k = arg;

	return_drive(k);
	if (k->busy && k->r->phase == HOLD)
		part_done(k);
}

static void too_long(struct loop_timer *t)
{
	struct reopen *r = container_of(t, struct reopen, limit);

	for (int i = 0; i < r->n && !r->ret; i++)
		if (r->part[i].busy)
			r->ret = err_set(&r->e, -ETIMEDOUT, "node '%s': %s not end; all options "
					 "stay as they are", r->part[i].keep.node->name,
					 r->phase == HOLD ? "requests in flight do" :
					 "a flush does");
	finish(r);
}

/* A disk that came meanwhile has requests in the nodes. */
static int check_drives(struct reopen *r)
{
	const struct part *k;
	int ret = reopen_plan_mark(&r->plan, true, &r->e);

	for (struct drive *d = r->g->drives; d && ret == 0; d = d->next) {
		for (k = r->part; k < r->part + r->n && k->d != d; k++)
			;
		if (d->owner && d->node->marked && k == r->part + r->n)
			ret = err_set(&r->e, -EBUSY, "node '%s' was opened by %s meanwhile; try "
				      "again", d->node->name, d->user);
	}
	return ret;
}

static void begin_phase(struct reopen *r)
{
	for (int i = 0; i < r->n; i++) {
		struct part *k = &r->part[i];

		k->busy = r->phase != HOLD || k->d;
		r->waiting += k->busy;
	}
	for (int i = 0; i < r->n; i++)
		if (r->part[i].busy)
			(r->phase == HOLD ? hold : flush)(&r->part[i]);
	if (r->waiting == 0)
		loop_post(r->g->loop, &r->work);
}

static void next_phase(struct loop_work *w)
{
	struct reopen *r = container_of(w, struct reopen, work);

	do
		r->phase++;
	while (!r->sync && r->phase == FLUSH_HELD);
	if (r->ret == 0 && r->phase == CHANGE) {
		r->ret = check_drives(r);
		if (r->ret == 0)
			r->ret = reopen_plan_apply(&r->plan, &r->e);
	}
	if (r->ret || r->phase == CHANGE) {
		finish(r);
		return;
	}
	/* The second flush is a part of the time that requests are kept. */
	if (r->phase == HOLD)
		loop_timer_arm(&r->limit, clock_ns() + HOLD_NS);
	begin_phase(r);
}

/* ---- the start ---- */

static void add_part(struct reopen *r, struct drive *d, struct block_node *n)
{
	struct part *k = &r->part[r->n++];

	k->r = r;
	k->d = d;
	/* No permissions: cannot be refused. */
	block_attach(&k->keep, n, reopen_user, 0, BLOCK_PERM_ALL, NULL);
	if (!d)
		return;
	d->on_close = closed;
	d->on_close_arg = k;
}

/* The disks above the nodes, marked. */
static int take_drives(struct reopen *r, struct err *e)
{
	size_t n = (size_t)r->plan.n;

	for (struct drive *d = r->g->drives; d; d = d->next, n++)
		if (d->node->marked && d->on_close)
			return err_set(e, -EBUSY, "a snapshot or job of '%s' is under way; wait "
				       "for its end", d->node->name);
	r->part = xcalloc(n + 1, sizeof(*r->part));
	for (struct drive *d = r->g->drives; d; d = d->next)
		if (d->node->marked && d->owner)
			add_part(r, d, d->node);
	for (int i = 0; i < r->plan.n; i++)
		if (r->plan.node[i].sync)
			add_part(r, NULL, r->plan.node[i].n);
	return 0;
}

static int plan(struct reopen *r, const json_t *list, struct err *e)
{
	json_t *options;
	int ret = 0;
	size_t i;

	json_array_foreach(list, i, options)
		if (ret == 0)
			ret = reopen_plan_add(&r->plan, options, e);
	if (ret == 0)
		ret = reopen_plan_mark(&r->plan, false, e);
	return ret ? ret : take_drives(r, e);
}

int reopen_start(struct block_graph *g, const json_t *list,
		 void (*done)(void *arg, int ret, const struct err *e), void *arg,
		 struct reopen **out, struct err *e)
{
	struct reopen *r = xcalloc(1, sizeof(*r));
	int ret;

	r->g = r->plan.g = g;
	r->done = done;
	r->arg = arg;
	r->e = (struct err)ERR_INIT;
	loop_timer_init(g->loop, &r->limit, too_long, NULL);
	r->work.cb = next_phase;
	ret = plan(r, list, e);
	if (ret) {
		reopen_plan_free(&r->plan);
		free(r);
		return ret;
	}
	for (int i = 0; i < r->plan.n; i++)
		r->sync |= r->plan.node[i].sync;
	*out = r;
	r->phase = FLUSH_FIRST;
	if (r->sync) {
		loop_timer_arm(&r->limit, clock_ns() + FLUSH_NS);
		begin_phase(r);
	} else {
		loop_post(g->loop, &r->work);
	}
	return 0;
}

static void ignore(void *arg, int ret, const struct err *e)
{
}

void reopen_abort(struct reopen *r)
{
	struct block_graph *g = r->g;
	uint64_t end = clock_ns() + ABORT_NS;
	unsigned int before = g->late;

	r->done = ignore;
	r->ret = -ECANCELED;
	finish(r);
	while (g->late > before && clock_ns() < end)
		loop_turn(g->loop, NS_PER_MS);
	if (g->late > before)
		log_warn("a flush does not end; the memory of a blockdev-reopen is left behind");
}

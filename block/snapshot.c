/*
 * block/snapshot.c - put overlays on disks that a guest is writing to.
 *
 * Spec:    QEMU's qapi/block-core.json (blockdev-snapshot), transaction.json.
 * Threads: main loop; requests of the disks run on theirs (drive_hold.c).
 * Missing: overlays of another length than their disk.
 *
 *	flush	what was written so far becomes durable, while the disk works on
 *	hold	new requests are kept, those in the nodes run out
 *	flush	the little that came since
 *	switch	the drives get their new top nodes, one after the other; if one
 *		cannot, those before it are switched back
 *	release	the kept requests go on, to the new nodes
 *
 * The second flush is what keeps a promise: a guest's flush after the switch
 * reaches the overlay only, and must cover writes from before it.
 *
 * A disk whose requests do not run out in time, or whose flush fails or hangs,
 * makes the whole snapshot fail; it and the others go on as they were. A flush
 * that hangs belongs to the kernel: the snapshot's memory stays until it ends.
 */
#include "block/snapshot.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "block/graph.h"
#include "block/retry.h"
#include "vmm/base/util.h"

TRACE_DEFINE(block_snapshot);

/* How long the guest's requests may be kept before the snapshot fails, and how long
 * the first flush may take, when they are not. */
#define HOLD_NS		(5 * NS_PER_SEC)
#define FLUSH_NS	(60 * NS_PER_SEC)
#define ABORT_NS	NS_PER_SEC

enum phase { BEGIN, FLUSH_FIRST, HOLD, FLUSH_HELD, OVER };

struct disk {
	struct snapshot *s;
	struct drive *d;
	struct block_node *node, *overlay;
	struct block_child keep[2];	/* so that neither goes meanwhile */
	struct block_req flush;
	bool held, busy;		/* waits for idle, or for its flush */
	bool switched;
	uint32_t perm, shared;		/* of the drive's edge */
};

struct snapshot {
	struct block_graph *g;
	enum phase phase;
	int n, waiting;			/* disks of this phase that are not done */
	int ret;
	struct err e;
	void (*done)(void *arg, int ret, const struct err *e);
	void *arg;
	struct loop_timer limit;
	bool late;			/* done, but for flushes that hang */
	struct disk disk[];
};

static void next_phase(struct snapshot *s);

/* ---- may this pair be? ---- */

/* Another disk with the same node (share-rw=on): it would go on writing to what is
 * the snapshot then, below the overlay. */
static struct drive *second_drive(const struct disk *k)
{
	return k->d ? drive_on(k->node, k->d) : NULL;
}

static int check_pair(const struct disk *k, const struct snapshot_pair *p, struct err *e)
{
	if (!k->node)
		return err_set(e, -ENOENT, "Cannot find device='%.64s' nor node-name='%.64s'",
			       p->node, p->node);
	if (!k->overlay)
		return err_set(e, -ENOENT, "Cannot find device='%.64s' nor node-name='%.64s'",
			       p->overlay, p->overlay);
	if (!k->d)
		return err_set(e, -EINVAL, "node '%s' is not the top node of a disk", p->node);
	if (second_drive(k))
		return err_set(e, -EBUSY, "node '%s' is used by %s and by %s; a snapshot would take "
			       "it from one of them only", p->node, k->d->user,
			       second_drive(k)->user);
	if (k->overlay->users)
		return err_set(e, -EBUSY, "The overlay is already in use: '%s', by %s", p->overlay,
			       k->overlay->users->user);
	if (!k->overlay->drv->backs)
		return err_set(e, -EINVAL, "The overlay does not support backing images: '%s' is "
			       "of driver %s; use qcow2", p->overlay, k->overlay->drv->name);
	if (k->overlay->backing.node)
		return err_set(e, -EINVAL, "The overlay already has a backing image: add '%s' "
			       "with \"backing\": null", p->overlay);
	if (k->overlay->read_only && !k->d->read_only)
		return err_set(e, -EROFS, "the overlay '%s' is read-only", p->overlay);
	if (k->overlay->bytes != k->node->bytes)
		return err_set(e, -EINVAL, "the overlay '%s' is %" PRIu64 " bytes long and the "
			       "disk '%s' %" PRIu64 "; make them equal", p->overlay,
			       (uint64_t)k->overlay->bytes, p->node, (uint64_t)k->node->bytes);
	if (k->d->on_close)
		return err_set(e, -EBUSY, "a snapshot or job of '%s' is under way; wait for its end", p->node);
	return 0;
}

static int check_twice(const struct snapshot *s, int i, struct err *e)
{
	for (int k = 0; k < i; k++) {
		if (s->disk[k].node == s->disk[i].node)
			return err_set(e, -EINVAL, "node '%s' is named twice",
				       s->disk[i].node->name);
		if (s->disk[k].overlay == s->disk[i].overlay)
			return err_set(e, -EINVAL, "overlay '%s' is named twice",
				       s->disk[i].overlay->name);
	}
	return 0;
}

/* ---- the switch ---- */

/* Back to the old node. The permissions were ours a moment ago; should another
 * process have taken the file's locks since, the disk works on without them. */
static void switch_back(struct disk *k)
{
	struct err e = ERR_INIT;

	block_reattach(&k->d->root, 0, BLOCK_PERM_ALL, NULL);
	if (k->d->node != k->node)
		drive_move(k->d, k->node, NULL);
	block_detach(&k->overlay->backing);
	if (block_reattach(&k->d->root, k->perm, k->shared, &e) < 0)
		log_err("disk '%s' cannot lock its file again: %s", k->d->user, e.text);
	k->switched = false;
}

static int switch_one(struct disk *k, struct err *e)
{
	struct drive *d = k->d;
	int r;

	k->perm = d->root.perm;
	k->shared = d->root.shared;
	k->switched = true;		/* from here on there is something to undo */
	/* The backing edge takes over what it needs of the old node with the
	 * permissions of the new one; until then neither needs any. */
	r = block_reattach(&d->root, 0, BLOCK_PERM_ALL, e);
	if (r == 0)
		r = block_attach(&k->overlay->backing, k->node, k->overlay->user, 0,
				 BLOCK_PERM_ALL, e);
	if (r == 0)
		r = drive_move(d, k->overlay, e);
	if (r == 0)
		r = block_reattach(&d->root, k->perm, k->shared, e);
	trace(block_snapshot, "%s on %s: %d", k->overlay->name, k->node->name, r);
	return r;
}

static int switch_all(struct snapshot *s)
{
	int i, r = 0;

	for (i = 0; i < s->n && r == 0; i++)
		r = switch_one(&s->disk[i], &s->e);
	while (r && i-- > 0)
		if (s->disk[i].switched)
			switch_back(&s->disk[i]);
	for (i = 0; r == 0 && i < s->n; i++)
		retry_update_durable(s->disk[i].d);
	return r;
}

/* ---- phases ---- */

static void let_go(struct snapshot *s)
{
	s->g->late -= s->late;
	for (int i = 0; i < s->n; i++) {
		block_detach(&s->disk[i].keep[0]);
		block_detach(&s->disk[i].keep[1]);
	}
	free(s);
}

static void finish(struct snapshot *s)
{
	bool flushing = s->phase != HOLD && s->waiting > 0;

	loop_timer_cancel(&s->limit);
	s->phase = OVER;
	for (int i = 0; i < s->n; i++) {
		struct disk *k = &s->disk[i];

		if (k->d)
			k->d->on_close = NULL;
		if (k->d && k->held)
			drive_release(k->d);
		k->d = NULL;
		/* The overlay was not used, and may go; the node is being flushed. */
		block_detach(&k->keep[1]);
	}
	s->late = flushing;
	s->g->late += flushing;
	s->done(s->arg, s->ret, &s->e);
	if (!flushing)
		let_go(s);
}

static void fail(struct snapshot *s, int ret)
{
	if (!s->ret)
		s->ret = ret;
}

/* A disk is unplugged in the midst of it. */
static void closed(struct drive *d, void *arg)
{
	struct disk *k = arg;
	struct snapshot *s = k->s;

	d->on_close = NULL;
	if (k->held)
		drive_release(d);
	k->d = NULL;
	if (!s->ret)
		err_set(&s->e, -ENODEV, "the device of node '%s' was removed", k->node->name);
	fail(s, -ENODEV);
	/* A flush in flight ends the snapshot when it comes back. */
	if (s->phase == HOLD)
		finish(s);
}

/* One disk has done its part of the phase. */
static void disk_done(struct disk *k)
{
	struct snapshot *s = k->s;

	k->busy = false;
	if (--s->waiting > 0)
		return;
	if (s->late)
		let_go(s);
	else if (s->ret)
		finish(s);
	else
		next_phase(s);
}

static void flushed(struct block_req *r, int ret)
{
	struct disk *k = container_of(r, struct disk, flush);
	struct snapshot *s = k->s;

	if (ret && !s->ret)
		err_sys(&s->e, ret, "node '%s' cannot be flushed before the snapshot",
			k->node->name);
	if (ret)
		fail(s, ret);
	disk_done(k);
}

static void flush(struct disk *k)
{
	k->flush.op = BLOCK_FLUSH;
	k->flush.loop = k->s->g->loop;
	k->flush.done = flushed;
	block_start(k->node, &k->flush);
}

static void idle(struct drive *d, void *arg)
{
	disk_done(arg);
}

static void hold(struct disk *k)
{
	k->held = true;
	drive_hold(k->d, idle, k);
}

/* Requests or flushes that do not end: those disks are not waited for. */
static void too_long(struct loop_timer *t)
{
	struct snapshot *s = container_of(t, struct snapshot, limit);

	for (int i = 0; i < s->n; i++)
		if (s->disk[i].busy && !s->ret) {
			err_set(&s->e, -ETIMEDOUT, "node '%s': %s not end; the disk stays as it is",
				s->disk[i].node->name, s->phase == HOLD ?
				"requests in flight do" : "a flush does");
			s->ret = -ETIMEDOUT;
		}
	finish(s);
}

static void next_phase(struct snapshot *s)
{
	static void (*const work[])(struct disk *k) = {
		[FLUSH_FIRST] = flush, [HOLD] = hold, [FLUSH_HELD] = flush
	};

	s->phase++;
	if (s->phase == OVER) {
		fail(s, switch_all(s));
		finish(s);
		return;
	}
	/* The second flush is a part of the time that requests are kept. */
	if (s->phase != FLUSH_HELD)
		loop_timer_arm(&s->limit, clock_ns() + (s->phase == HOLD ? HOLD_NS : FLUSH_NS));
	s->waiting = s->n;
	for (int i = 0; i < s->n; i++) {
		s->disk[i].busy = true;
		work[s->phase](&s->disk[i]);
	}
}

int snapshot_start(struct block_graph *g, const struct snapshot_pair *pairs, int n,
		   void (*done)(void *arg, int ret, const struct err *e), void *arg,
		   struct snapshot **out, struct err *e)
{
	struct snapshot *s = xcalloc(1, sizeof(*s) + (size_t)n * sizeof(struct disk));
	int r = 0;

	s->g = g;
	s->n = n;
	s->done = done;
	s->arg = arg;
	loop_timer_init(g->loop, &s->limit, too_long, NULL);
	for (int i = 0; i < n && r == 0; i++) {
		struct drive *byname = drive_find(g, pairs[i].node);
		struct disk *k = &s->disk[i];

		k->s = s;
		k->node = byname ? byname->node : block_node_find(g, pairs[i].node);
		k->overlay = block_node_find(g, pairs[i].overlay);
		k->d = k->node ? drive_on(k->node, NULL) : NULL;
		r = check_pair(k, &pairs[i], e);
		if (r == 0)
			r = check_twice(s, i, e);
	}
	if (r) {
		free(s);
		return r;
	}
	for (int i = 0; i < n; i++) {
		/* No permissions: cannot be refused. */
		block_attach(&s->disk[i].keep[0], s->disk[i].node, "a snapshot", 0,
			     BLOCK_PERM_ALL, NULL);
		block_attach(&s->disk[i].keep[1], s->disk[i].overlay, "a snapshot", 0,
			     BLOCK_PERM_ALL, NULL);
		s->disk[i].d->on_close = closed;
		s->disk[i].d->on_close_arg = &s->disk[i];
	}
	*out = s;
	next_phase(s);
	return 0;
}

static void ignore(void *arg, int ret, const struct err *e)
{
}

void snapshot_abort(struct snapshot *s)
{
	struct block_graph *g = s->g;
	uint64_t end = clock_ns() + ABORT_NS;
	unsigned int before = g->late;

	s->done = ignore;
	s->ret = -ECANCELED;
	finish(s);
	while (g->late > before && clock_ns() < end)
		loop_turn(g->loop, NS_PER_MS);
	if (g->late > before)
		log_warn("a snapshot's flush does not end; its memory is left behind");
}

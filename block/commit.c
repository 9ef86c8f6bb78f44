/*
 * block/commit.c - write what lies above a backing file into that file.
 *
 * Spec:    QEMU's qapi/block-core.json (block-commit).
 * Threads: main loop; the copying on a thread of the caller's. They meet in `turn`,
 *          under its lock.
 * Missing: more than one piece in flight.
 *
 * What is written to the base is what some file above it has, and so hides: the chain
 * reads the same at every moment, also after a crash. Only when all is durable the
 * image above the top names the base (intermediate layers), or the drive gets the base
 * as its node (active layer).
 *
 * The guest goes on writing to an active layer: what it wrote is marked when it is
 * done, and copied again. The last round, and every change of who reads or writes the
 * base, happens while the drive is held.
 */
#include "block/commit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "block/commit_priv.h"
#include "block/graph.h"
#include "block/image.h"
#include "block/qcow2/qcow2.h"
#include "block/retry.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"

#define HOLD_NS	(5 * NS_PER_SEC)	/* for requests in flight, as a snapshot's */

static const char user[] = "a commit job";

/* ---- may it be? ---- */

/* The node of the chain below @n that stands on @base; NULL: none. */
static struct block_node *above(struct block_node *n, const struct block_node *base)
{
	while (n && n->backing.node != base)
		n = n->backing.node;
	return n;
}

static int check_disk(const struct block_node *n, const struct drive *d, const char *name,
		      struct err *e)
{
	if (!n)
		return err_set(e, -ENOENT, "Cannot find device='%.64s' nor node-name='%.64s'",
			       name, name);
	if (!d || !d->owner)
		return err_set(e, -EINVAL, "node '%s' is not the top node of a disk in use; name "
			       "the disk", n->name);
	if (d->on_close)
		return err_set(e, -EBUSY, "a snapshot or job of '%s' is under way; wait for its end",
			       n->name);
	return block_check_reserved(n, e);
}

/* Whoever else used a node of the chain would see it change. */
static int check_users(struct block_node *n, const struct block_node *base, struct err *e)
{
	for (;; n = n->backing.node) {
		if (n->users->next)
			return err_set(e, -EBUSY, "node '%s' is used by %s and by %s; a commit needs "
				       "the chain for itself", n->name, n->users->user,
				       n->users->next->user);
		if (n == base)
			return 0;
	}
}

static int check_base(const struct block_node *base, const struct block_node *top, bool active,
		      struct err *e)
{
	const struct q2 *q = (const struct q2 *)base;

	if (!node_is_qcow2(base) && base->drv != &block_driver_raw)
		return err_set(e, -ENOTSUP, "base '%s' is of driver %s; a commit writes to raw and "
			       "qcow2", base->name, base->drv->name);
	if (node_is_qcow2(base) && (q->h.incompatible & INCOMPAT_DIRTY))
		return err_set(e, -EUCLEAN, "base '%s' was not closed properly; repair it with "
			       "'roost img check -r all' when no VM has it", base->name);
	if (active && base->bytes > top->bytes)
		return err_set(e, -EINVAL, "base '%s' is %" PRIu64 " bytes long and the disk '%s' %"
			       PRIu64 "; make the disk as long with block_resize first", base->name,
			       (uint64_t)base->bytes, top->name, (uint64_t)top->bytes);
	return 0;
}

static int check_overlay(const struct block_node *n, struct err *e)
{
	if (((const struct q2 *)n)->bitmap_dir)
		return err_set(e, -ENOTSUP, "node '%s' has dirty bitmaps, and its header must stay; "
			       "remove them first", n->name);
	return 0;
}

/* ---- nodes that are written to meanwhile ---- */

static void reserve(struct commit *c, const char *by)
{
	struct block_node *n = c->root.node;

	for (; n && n != c->base.node; n = n->backing.node)
		n->reserved_by = by;
	c->base.node->reserved_by = by;
}

static int make_writable(struct block_child *edge, bool *reopened, struct err *e)
{
	int r;

	if (edge->node->read_only) {
		r = block_reopen(edge->node, true, e);
		if (r)
			return r;
		*reopened = true;
	}
	return block_reattach(edge, BLOCK_PERM_WRITE_UNCHANGED, BLOCK_PERM_ALL, e);
}

static void let_go(struct block_child *edge, bool *reopened)
{
	struct block_node *n = edge->node;
	struct err e = ERR_INIT;

	if (!n)
		return;
	/* Others have it, or it would not be there any more. */
	block_reattach(edge, 0, BLOCK_PERM_ALL, NULL);
	if (*reopened && block_reopen(n, false, &e) < 0)
		log_warn("node '%s' stays writable after the commit: %s", n->name, e.text);
	*reopened = false;
}

/* Nothing is in the nodes. */
static int begin(struct commit *c, struct err *e)
{
	struct block_node *base = c->base.node, *top = c->top.node;
	int r = make_writable(&c->base, &c->base_reopened, e);

	if (r == 0 && base->bytes < top->bytes && base->drv->check_length)
		r = base->drv->check_length(base, top->bytes, e);
	if (r == 0 && !c->active)
		r = make_writable(&c->overlay, &c->overlay_reopened, e);
	if (r == 0 && c->active) {
		c->dirty = dirty_create(top->bytes);
		if (!c->dirty)
			r = err_sys(e, -ENOMEM, "no memory to note what the guest writes");
		atomic_store(&c->d->dirty, c->dirty);
	}
	return r;
}

/* Nothing is in the nodes, or the disk has no device. */
static void undo(struct commit *c)
{
	if (c->d)
		atomic_store(&c->d->dirty, NULL);
	reserve(c, NULL);
	let_go(&c->overlay, &c->overlay_reopened);
	let_go(&c->base, &c->base_reopened);
	c->open = false;
}

/* ---- holding the drive ---- */

static void release(struct commit *c)
{
	loop_timer_cancel(&c->limit);
	if (c->d && c->held)
		drive_release(c->d);
	c->held = false;
}

static void idle(struct drive *d, void *arg)
{
	struct commit *c = arg;

	c->when_held(c);
}

static void at_limit(struct loop_timer *t)
{
	struct commit *c = container_of(t, struct commit, limit);

	release(c);
	c->when_late(c);
}

/* Call @when_held once nothing is in the nodes, or @when_late: too late, or the device
 * was removed. */
static void hold(struct commit *c, void (*when_held)(struct commit *c),
		 void (*when_late)(struct commit *c))
{
	c->when_held = when_held;
	c->when_late = when_late;
	loop_timer_arm(&c->limit, clock_ns() + (c->d ? HOLD_NS : 0));
	c->held = c->d;
	if (c->d)
		drive_hold(c->d, idle, c);
}

static int late(const struct commit *c, struct err *e)
{
	if (!c->d)
		return err_set(e, -ENODEV, "the device of node '%s' was removed",
			       c->root.node->name);
	return err_set(e, -ETIMEDOUT, "node '%s': requests in flight do not end; the chain stays "
		       "as it is", c->root.node->name);
}

static void set_turn(struct commit *c, enum commit_turn turn)
{
	pthread_mutex_lock(&c->lock);
	c->turn = turn;
	pthread_cond_signal(&c->changed);
	pthread_mutex_unlock(&c->lock);
}

static void final_held(struct commit *c)
{
	set_turn(c, TURN_HELD);
}

static void final_late(struct commit *c)
{
	set_turn(c, TURN_LATE);
}

/* The thread wants the guest's requests to be kept, for its last round, or to go on
 * because that failed. */
static void asked(struct loop_work *w)
{
	struct commit *c = container_of(w, struct commit, ask);
	enum commit_turn what;

	pthread_mutex_lock(&c->lock);
	what = c->turn;
	pthread_mutex_unlock(&c->lock);
	if (what == TURN_ASKED) {
		hold(c, final_held, final_late);
		return;
	}
	release(c);
	set_turn(c, TURN_NONE);
}

static void commit_free(struct commit *c)
{
	loop_timer_cancel(&c->limit);
	loop_work_cancel(c->g->loop, &c->ask);
	block_detach(&c->overlay);
	block_detach(&c->base);
	block_detach(&c->top);
	block_detach(&c->root);
	dirty_destroy(c->dirty);
	pthread_cond_destroy(&c->changed);
	pthread_mutex_destroy(&c->lock);
	free(c->backing_name);
	free(c);
}

/* The device lets go of the disk in the midst of it. */
static void closed(struct drive *d, void *arg)
{
	struct commit *c = arg;

	d->on_close = NULL;
	atomic_store(&d->dirty, NULL);
	if (c->held) {
		drive_release(d);
		loop_timer_arm(&c->limit, clock_ns());	/* nobody to wait for */
	}
	c->held = false;
	c->d = NULL;
	atomic_store(&c->gone, true);
	if (c->orphan) {
		undo(c);
		commit_free(c);
	}
}

/* ---- beginning ---- */

static void begun(struct commit *c, int r, const struct err *e)
{
	if (r && c->open)
		undo(c);
	release(c);
	c->done(c->arg, r, e);
}

static void begin_held(struct commit *c)
{
	struct err e = ERR_INIT;

	begun(c, begin(c, &e), &e);
}

static void begin_late(struct commit *c)
{
	struct err e = ERR_INIT;

	begun(c, late(c, &e), &e);
}

static struct commit *commit_new(struct block_graph *g)
{
	struct commit *c = xcalloc(1, sizeof(*c));
	pthread_condattr_t monotonic;

	c->g = g;
	c->ask.cb = asked;
	pthread_mutex_init(&c->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&c->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	loop_timer_init(g->loop, &c->limit, at_limit, NULL);
	return c;
}

/* Edges without permissions, so that no node goes meanwhile: cannot be refused. */
static void keep(struct block_child *edge, struct block_node *n)
{
	block_attach(edge, n, user, 0, BLOCK_PERM_ALL, NULL);
}

/* The nodes that the names mean; *@overlay NULL: the top is the disk's. */
static int find_nodes(struct block_graph *g, const struct commit_opts *o, struct block_node *root,
		      struct block_node **top, struct block_node **base,
		      struct block_node **overlay, struct err *e)
{
	struct block_node *t = o->top ? block_node_find(g, o->top) : root, *b;

	if (!t || (t != root && !above(root, t)))
		return err_set(e, -EINVAL, "top '%.64s' is not in the chain of '%s'", o->top,
			       root->name);
	b = o->base ? block_node_find(g, o->base) : NULL;
	if (o->base && (!b || b == t || !above(t, b)))
		return err_set(e, -EINVAL, "base '%.64s' is not in the chain below '%s'", o->base,
			       t->name);
	for (b = b ? b : t; !o->base && b->backing.node; b = b->backing.node)
		;
	if (b == t)
		return err_set(e, -EINVAL, "node '%s' has no backing file that it could be "
			       "committed to", t->name);
	*top = t;
	*base = b;
	*overlay = t == root ? NULL : above(root, t);
	return 0;
}

int commit_start(struct block_graph *g, const struct commit_opts *o, commit_done *done,
		 void *arg, struct commit **out, struct err *e)
{
	struct block_node *root = block_disk_find(g, o->disk), *top = NULL;
	struct block_node *base = NULL, *overlay = NULL;
	struct drive *d = root ? drive_on(root, NULL) : NULL;
	char *name = NULL;
	struct commit *c;
	int r = check_disk(root, d, o->disk, e);

	if (r == 0)
		r = find_nodes(g, o, root, &top, &base, &overlay, e);
	if (r == 0)
		r = check_users(root, base, e);
	if (r == 0)
		r = check_base(base, top, !overlay, e);
	if (r == 0 && overlay)
		r = check_overlay(overlay, e);
	if (r == 0 && overlay && !o->backing_name)
		r = graph_backing_name(base, &name, e);
	if (r)
		return r;
	c = commit_new(g);
	c->backing_name = name ? name : o->backing_name ? xstrdup(o->backing_name) : NULL;
	c->active = !overlay;
	keep(&c->root, root);
	keep(&c->top, top);
	keep(&c->base, base);
	if (overlay)
		keep(&c->overlay, overlay);
	reserve(c, user);
	c->open = true;
	c->d = d;
	d->on_close = closed;
	d->on_close_arg = c;
	c->done = done;
	c->arg = arg;
	*out = c;
	hold(c, begin_held, begin_late);
	return 0;
}

/* ---- the end ---- */

/* Options that a backing file was not given: the disk's. */
static void inherit(struct block_node *n, const struct block_node *from)
{
	if (!n->implicit || json_object_get(n->args, "discard"))
		return;
	n->discard = from->discard;
	n->detect_zeroes = from->detect_zeroes;
	if (n->file.node && from->file.node)
		inherit(n->file.node, from->file.node);
}

/* The base becomes the disk's node. */
static int pivot(struct commit *c, struct err *e)
{
	struct block_node *top = c->top.node, *base = c->base.node, *over = above(top, base);
	uint32_t perm = c->d->root.perm, shared = c->d->root.shared;
	struct err again = ERR_INIT;
	int r;

	/* Nothing of the old chain may keep the drive from the base, and less than
	 * before is never refused. */
	block_reattach(&c->d->root, 0, BLOCK_PERM_ALL, NULL);
	block_detach(&over->backing);
	drive_move(c->d, base, NULL);
	r = block_reattach(&c->d->root, perm, shared, e);
	if (r == 0) {
		inherit(base, top);
		c->base_reopened &= c->d->read_only;	/* else it stays writable */
		retry_update_durable(c->d);
		return 0;
	}
	drive_move(c->d, top, NULL);
	block_attach(&over->backing, base, over->user, 0, BLOCK_PERM_ALL, NULL);
	if (block_reattach(&c->d->root, perm, shared, &again) < 0)
		log_err("disk '%s' cannot lock its file again: %s", c->d->user, again.text);
	return r;
}

/* The image above the top stands on the base now, as its header says already. */
static void rechain(struct commit *c)
{
	struct block_node *over = c->overlay.node, *base = c->base.node;
	uint32_t perm = over->backing.perm, shared = over->backing.shared;

	block_detach(&over->backing);
	/* With what the top had, below which the base was: cannot be refused. */
	block_attach(&over->backing, base, over->user, perm, shared, NULL);
	image_backing_changed(over, c->backing_name, base->drv->name);
	retry_update_durable(c->d);
}

/* Nothing is in the nodes, or the disk has no device. */
static void settle(struct commit *c)
{
	bool switches = c->ret == 0 && (!c->active || c->pivot);

	if (switches && !c->d)
		c->ret = late(c, &c->e);
	/* Requests went on after the last round. */
	else if (switches && c->active && c->turn != TURN_HELD)
		c->ret = late(c, &c->e);
	reserve(c, NULL);
	if (switches && c->ret == 0 && c->active)
		c->ret = pivot(c, &c->e);
	else if (switches && c->ret == 0)
		rechain(c);
	undo(c);
	release(c);
	c->done(c->arg, c->ret, &c->e);
}

/* The base stays as it is until the device lets go of the disk. */
static void end_late(struct commit *c)
{
	if (!c->d) {
		settle(c);
		return;
	}
	if (c->ret == 0)
		c->ret = late(c, &c->e);
	c->done(c->arg, c->ret, &c->e);
}

void commit_end(struct commit *c, int ret, const struct err *e, commit_done *done, void *arg)
{
	c->ret = ret;
	c->e = *e;
	c->done = done;
	c->arg = arg;
	loop_work_cancel(c->g->loop, &c->ask);
	if (!c->d || (c->held && c->turn == TURN_HELD))
		settle(c);
	else
		hold(c, settle, end_late);
}

void commit_destroy(struct commit *c)
{
	release(c);
	loop_work_cancel(c->g->loop, &c->ask);
	/* Requests may be in the base. */
	c->orphan = c->open && c->d;
	if (c->orphan)
		return;
	if (c->d)
		c->d->on_close = NULL;
	if (c->open)
		undo(c);
	commit_free(c);
}

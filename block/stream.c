/*
 * block/stream.c - take over what a disk has from its backing files.
 *
 * Spec:    QEMU's qapi/block-core.json (block-stream).
 * Threads: main loop; the copying on a thread of the caller's.
 * Missing: streaming into a node that is not a disk's top; more than one piece
 *          in flight.
 *
 * Copying changes nothing that the guest could read, so it may end at any
 * moment, also by a crash. Only when all of it is durable the image's header
 * names the new backing file, and only then the graph lets go of the old one.
 */
#include "block/stream.h"

#include <errno.h>
#include <stdlib.h>

#include "block/graph.h"
#include "block/image.h"
#include "block/qcow2/qcow2.h"
#include "block/retry.h"
#include "vmm/base/util.h"

#define PIECE	(1 * MIB)
#define HOLD_NS	(5 * NS_PER_SEC)	/* for requests in flight, as a snapshot's */

struct stream {
	struct block_graph *g;
	struct drive *d;		/* NULL: its device was removed */
	_Atomic bool gone;		/* the same, for the thread */
	struct block_child top, base;	/* so that neither goes meanwhile */
	char *backing_name;
	bool held;
	void (*done)(void *arg, int ret, const struct err *e);
	void *arg;
	struct loop_timer limit;
};

static bool is_below(const struct block_node *n, const struct block_node *base)
{
	while (n && n != base)
		n = n->backing.node;
	return n != NULL;
}

static const char user[] = "a stream job";

/* Also one whose device was removed, and given the node again since. */
static bool has_stream(const struct block_node *n)
{
	const struct block_child *c = n->users;

	while (c && c->user != user)
		c = c->next;
	return c != NULL;
}

/* What the image itself has against it. */
static int check_image(const struct block_node *n, struct err *e)
{
	const struct q2 *q = (const struct q2 *)n;

	if (!node_is_qcow2(n))
		return err_set(e, -ENOTSUP, "node '%s' (%s) has no backing file", n->name,
			       n->drv->name);
	if (q->bitmap_dir)
		return err_set(e, -ENOTSUP, "node '%s' has dirty bitmaps, and its header must stay; "
			       "remove them first", n->name);
	if (q->h.nb_snapshots)
		return err_set(e, -ENOTSUP, "node '%s' has internal snapshots, which need its backing "
			       "files; delete them first", n->name);
	return 0;
}

static int check(const struct block_node *n, struct drive *d, const char *name, struct err *e)
{
	int r;

	if (!n)
		return err_set(e, -ENOENT, "Cannot find device='%.64s' nor node-name='%.64s'",
			       name, name);
	if (!d || !d->owner)
		return err_set(e, -EINVAL, "node '%s' is not the top node of a disk in use; name "
			       "the disk", n->name);
	r = check_image(n, e);
	if (r)
		return r;
	if (n->read_only || d->read_only)
		return err_set(e, -EROFS, "node '%s' is read-only; only a disk that can be written "
			       "takes over what its backing files have", n->name);
	if (drive_on(n, d))
		return err_set(e, -EBUSY, "node '%s' is used by %s and by %s; its backing files "
			       "cannot be taken from both at once", n->name, d->user,
			       drive_on(n, d)->user);
	if (d->on_close || has_stream(n))
		return err_set(e, -EBUSY, "a snapshot or job of '%s' is under way; wait for its end",
			       n->name);
	return 0;
}

/* The device lets go of the disk in the midst of it. */
static void closed(struct drive *d, void *arg)
{
	struct stream *s = arg;

	d->on_close = NULL;
	if (s->held) {
		drive_release(d);
		loop_timer_arm(&s->limit, clock_ns());	/* nobody to wait for */
	}
	s->held = false;
	s->d = NULL;
	atomic_store(&s->gone, true);
}

static int attach(struct stream *s, struct block_node *n, struct block_node *base, struct err *e)
{
	int r = block_attach(&s->top, n, user, BLOCK_PERM_WRITE_UNCHANGED,
			     BLOCK_PERM_ALL & ~(uint32_t)BLOCK_PERM_RESIZE, e);

	if (r == 0 && base)
		r = block_attach(&s->base, base, user, 0, BLOCK_PERM_ALL, e);
	return r;
}

int stream_create(struct block_graph *g, const char *name, const char *base,
		  const char *backing_name, struct stream **out, struct err *e)
{
	struct block_node *n = block_disk_find(g, name), *b = base ? block_node_find(g, base) : NULL;
	struct drive *d = n ? drive_on(n, NULL) : NULL;
	char *path = NULL;
	struct stream *s;
	int r = check(n, d, name, e);

	if (r == 0 && base && (!b || !is_below(n->backing.node, b)))
		r = err_set(e, -EINVAL, "base '%.64s' is no backing node of '%s'", base, n->name);
	if (r == 0 && b)
		r = graph_backing_name(b, &path, e);
	if (r)
		return r;
	s = xcalloc(1, sizeof(*s));
	s->g = g;
	s->backing_name = path;
	if (b && backing_name) {
		free(path);
		s->backing_name = xstrdup(backing_name);
	}
	r = attach(s, n, b, e);
	if (r) {
		stream_destroy(s);
		return r;
	}
	s->d = d;
	d->on_close = closed;
	d->on_close_arg = s;
	*out = s;
	return 0;
}

/* ---- the thread ---- */

/* Take what layers between the top and @base have at @pos; *@len becomes what is alike
 * of it, *@copied what had to be taken. A layer that ends before @pos hides what is in a
 * longer base: zeroes. */
static int piece(struct stream *s, struct loop *l, uint64_t pos, uint64_t *len, uint64_t *copied)
{
	struct block_node *top = s->top.node, *base = s->base.node, *n = top;
	struct image_extent x;
	uint32_t flags = 0;
	int r = image_status(n, l, pos, *len, false, &x);

	*copied = 0;
	while (r == 0 && !x.present) {
		*len = x.len;
		n = n->backing.node;
		if (n == base)
			return 0;
		if (pos >= n->bytes) {
			flags = BLOCK_EOF_ZEROES;
			break;
		}
		r = image_status(n, l, pos, MIN(*len, n->bytes - pos), false, &x);
	}
	if (r)
		return r;
	*len = x.len;
	if (n == top || (flags && (!base || pos >= base->bytes)))
		return 0;
	*copied = *len;
	return block_io_wait(top, l, BLOCK_POPULATE, flags, pos, NULL, 0, *len);
}

int stream_run(struct stream *s, struct loop *l,
	       int (*pace)(void *arg, uint64_t bytes, uint64_t done, uint64_t all),
	       int (*failed)(void *arg, int err), void *arg, struct err *e)
{
	struct block_node *n = s->top.node, *b = s->base.node;
	uint64_t end = n->bytes, len, copied;
	int r = 0;

	for (uint64_t pos = 0; pos < end && r == 0; pos += len) {
		len = MIN(end - pos, PIECE);
		r = piece(s, l, pos, &len, &copied);
		if (r) {
			len = copied = 0;
			r = failed(arg, r);
		}
		if (r == -ECANCELED)
			return r;
		if (r)
			return err_sys(e, r, "node '%s': streaming fails at offset %llu", n->name,
				       (unsigned long long)pos);
		r = pace(arg, copied, pos + len, end);
		if (r == 0 && atomic_load(&s->gone))
			r = -ECANCELED;
	}
	if (r)
		return r;
	r = block_io_wait(n, l, BLOCK_FLUSH, 0, 0, NULL, 0, 0);
	if (r)
		return err_sys(e, r, "node '%s' cannot be flushed", n->name);
	return image_set_backing(n, l, s->backing_name, b ? b->drv->name : NULL, e);
}

/* ---- the switch ---- */

static void over(struct stream *s, int ret, const struct err *e)
{
	loop_timer_cancel(&s->limit);
	if (s->d && s->held)
		drive_release(s->d);
	s->held = false;
	s->done(s->arg, ret, e);
}

static void idle(struct drive *d, void *arg)
{
	struct stream *s = arg;
	struct block_node *n = s->top.node, *base = s->base.node;
	struct block_child *c = &n->backing;
	struct err e = ERR_INIT;
	int r = 0;

	/* First what the base may refuse, while the old chain is there. */
	if (base && c->node)
		r = block_reattach(&s->base, c->perm, c->shared, &e);
	if (r == 0) {
		block_detach(c);
		if (base)	/* with what the job has already: cannot be refused */
			block_attach(c, base, n->user, s->base.perm, s->base.shared, NULL);
		image_backing_changed(n, s->backing_name, base ? base->drv->name : NULL);
		retry_update_durable(d);
	}
	over(s, r, &e);
}

static void at_limit(struct loop_timer *t)
{
	struct stream *s = container_of(t, struct stream, limit);
	struct err e = ERR_INIT;
	int r;

	if (s->d)
		r = err_set(&e, -ETIMEDOUT, "node '%s': requests in flight do not end; its backing "
			    "nodes stay until it is opened anew", s->top.node->name);
	else
		r = err_set(&e, -ENODEV, "the device of node '%s' was removed; its backing nodes "
			    "stay until it is opened anew", s->top.node->name);
	over(s, r, &e);
}

void stream_switch(struct stream *s, void (*done)(void *arg, int ret, const struct err *e),
		   void *arg)
{
	s->done = done;
	s->arg = arg;
	loop_timer_init(s->g->loop, &s->limit, at_limit, NULL);
	loop_timer_arm(&s->limit, clock_ns() + (s->d ? HOLD_NS : 0));
	s->held = s->d;
	if (s->d)
		drive_hold(s->d, idle, s);
}

void stream_destroy(struct stream *s)
{
	if (s->done)
		loop_timer_cancel(&s->limit);
	if (s->d) {
		s->d->on_close = NULL;
		if (s->held)
			drive_release(s->d);
	}
	block_detach(&s->base);
	block_detach(&s->top);
	free(s->backing_name);
	free(s);
}

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

static struct drive *drive_on(struct block_graph *g, const struct block_node *n)
{
	for (struct drive *d = g->drives; d; d = d->next)
		if (d->node == n)
			return d;
	return NULL;
}

static bool is_below(const struct block_node *n, const struct block_node *base)
{
	while (n && n != base)
		n = n->backing.node;
	return n != NULL;
}

static int check(const struct block_node *n, const struct drive *d, const char *name,
		 struct err *e)
{
	if (!n)
		return err_set(e, -ENOENT, "Cannot find device='%.64s' nor node-name='%.64s'",
			       name, name);
	if (!d || !d->owner)
		return err_set(e, -EINVAL, "node '%s' is not the top node of a disk in use; name "
			       "the disk", n->name);
	if (!node_is_qcow2(n))
		return err_set(e, -ENOTSUP, "node '%s' (%s) has no backing file", n->name,
			       n->drv->name);
	if (n->read_only || d->read_only)
		return err_set(e, -EROFS, "node '%s' is read-only", n->name);
	if (((const struct q2 *)n)->bitmap_dir)
		return err_set(e, -ENOTSUP, "node '%s' has dirty bitmaps, and its header must stay; "
			       "remove them first", n->name);
	if (d->on_close)
		return err_set(e, -EBUSY, "a snapshot or job of '%s' is under way", n->name);
	return 0;
}

/* The device lets go of the disk in the midst of it. */
static void closed(struct drive *d, void *arg)
{
	struct stream *s = arg;

	d->on_close = NULL;
	if (s->held)
		drive_release(d);
	s->held = false;
	s->d = NULL;
	atomic_store(&s->gone, true);
}

int stream_create(struct block_graph *g, const char *name, const char *base,
		  const char *backing_name, struct stream **out, struct err *e)
{
	struct block_node *n = block_disk_find(g, name), *b = base ? block_node_find(g, base) : NULL;
	struct drive *d = n ? drive_on(g, n) : NULL;
	struct stream *s;
	int r = check(n, d, name, e);

	if (r)
		return r;
	if (base && (!b || b == n || !is_below(n, b)))
		return err_set(e, -EINVAL, "base '%.64s' is no backing node of '%s'", base, n->name);
	if (b && !b->filename && !backing_name)
		return err_set(e, -EINVAL, "base '%s' has no file name; give backing-file", base);
	s = xcalloc(1, sizeof(*s));
	s->g = g;
	s->d = d;
	s->backing_name = b ? xstrdup(backing_name ? backing_name : b->filename) : NULL;
	r = block_attach(&s->top, n, "a stream job", BLOCK_PERM_WRITE_UNCHANGED,
			 BLOCK_PERM_ALL & ~(uint32_t)BLOCK_PERM_RESIZE, e);
	if (r == 0 && b)
		r = block_attach(&s->base, b, "a stream job", 0, BLOCK_PERM_ALL, e);
	if (r) {
		block_detach(&s->top);
		free(s->backing_name);
		free(s);
		return r;
	}
	d->on_close = closed;
	d->on_close_arg = s;
	*out = s;
	return 0;
}

/* ---- the thread ---- */

/* Is anything of [pos, pos + *len) in a node from @n down to @base? *len becomes
 * what is alike. */
static int present(struct stream *s, struct loop *l, uint64_t pos, uint64_t *len, bool *yes)
{
	struct block_node *n = s->top.node;
	struct image_extent x;
	int r;

	*yes = false;
	r = image_status(n, l, pos, *len, false, &x);
	if (r || x.present) {
		*len = r ? *len : x.len;
		return r;
	}
	*len = x.len;
	for (n = n->backing.node; n && n != s->base.node && pos < n->bytes; n = n->backing.node) {
		r = image_status(n, l, pos, MIN(*len, n->bytes - pos), false, &x);
		if (r)
			return r;
		*len = x.len;
		if (x.present) {
			*yes = true;
			break;
		}
	}
	return 0;
}

/* A shorter layer above @base ends the disk's view of it: zeroes lie there, that
 * a base which is longer would fill. */
static bool cut(const struct stream *s, uint64_t pos)
{
	for (const struct block_node *n = s->top.node->backing.node; n && n != s->base.node;
	     n = n->backing.node)
		if (pos >= n->bytes)
			return s->base.node && pos < s->base.node->bytes;
	return false;
}

static int piece(struct stream *s, struct loop *l, uint64_t pos, uint64_t *len)
{
	struct block_node *n = s->top.node;
	bool yes, zeroes;
	int r = present(s, l, pos, len, &yes);

	zeroes = cut(s, pos);
	if (r || (!yes && !zeroes))
		return r;
	return block_io_wait(n, l, BLOCK_POPULATE, zeroes ? BLOCK_EOF_ZEROES : 0, pos, NULL, 0,
			     *len);
}

int stream_run(struct stream *s, struct loop *l,
	       int (*pace)(void *arg, uint64_t bytes, uint64_t done, uint64_t all), void *arg,
	       struct err *e)
{
	struct block_node *n = s->top.node, *b = s->base.node;
	uint64_t end = n->bytes, len;
	int r = 0;

	for (uint64_t pos = 0; pos < end && r == 0; pos += len) {
		len = MIN(end - pos, PIECE);
		r = piece(s, l, pos, &len);
		if (r)
			return err_sys(e, r, "node '%s': streaming fails at offset %llu", n->name,
				       (unsigned long long)pos);
		r = pace(arg, len, pos + len, end);
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
	struct block_node *n = s->top.node;
	struct block_child *c = &n->backing;
	struct err e = ERR_INIT;
	uint32_t perm = c->node ? c->perm : 0, shared = c->node ? c->shared : BLOCK_PERM_ALL;
	int r = 0;

	block_detach(c);
	if (s->base.node)
		r = block_attach(c, s->base.node, n->user, perm, shared, &e);
	image_backing_changed(n, s->backing_name, s->base.node ? s->base.node->drv->name : NULL);
	if (d)
		retry_update_durable(d);
	over(s, r, &e);
}

static void too_long(struct loop_timer *t)
{
	struct stream *s = container_of(t, struct stream, limit);
	struct err e = ERR_INIT;

	err_set(&e, -ETIMEDOUT, "node '%s': requests in flight do not end; its backing nodes stay "
		"until it is opened anew", s->top.node->name);
	over(s, -ETIMEDOUT, &e);
}

static void without_disk(struct loop_timer *t)
{
	struct stream *s = container_of(t, struct stream, limit);

	idle(NULL, s);
}

void stream_switch(struct stream *s, void (*done)(void *arg, int ret, const struct err *e),
		   void *arg)
{
	s->done = done;
	s->arg = arg;
	loop_timer_init(s->g->loop, &s->limit, s->d ? too_long : without_disk, NULL);
	loop_timer_arm(&s->limit, clock_ns() + (s->d ? HOLD_NS : 0));
	if (!s->d)
		return;
	s->held = true;
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

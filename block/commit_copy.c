/*
 * block/commit_copy.c - the thread of a commit: copy until the base has all of it.
 *
 * Threads: the caller's, with a loop of its own.
 * Missing: more than one piece in flight.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "block/commit_priv.h"
#include "block/graph.h"
#include "block/image.h"
#include "vmm/base/util.h"

#define PIECE	(1 * MIB)		/* of data */
#define STRETCH	(64 * MIB)		/* of anything else */
#define IN_STEP	(8 * MIB)		/* so much the guest may be ahead when it is held */
#define PEEK_NS	(50 * NS_PER_MS)	/* between looks whether to stop */
#define AGAIN_NS (5 * NS_PER_SEC)	/* between tries to hold the drive */

/* ---- pieces ---- */

enum what { NOTHING, ZEROES, DATA };

/* What do the layers above the base have at @pos? *@len is cut to what is alike. A layer
 * that ends before @pos hides what is in a longer base. */
static int look(struct commit *c, uint64_t pos, uint64_t *len, enum what *what)
{
	struct block_node *n = c->top.node, *base = c->base.node;
	struct image_extent x;
	int r = image_status(n, c->l, pos, *len, false, &x);

	*what = NOTHING;
	while (r == 0 && !x.present) {
		*len = x.len;
		n = n->backing.node;
		if (n == base)
			return 0;
		if (pos >= n->bytes) {
			*what = ZEROES;
			return 0;
		}
		r = image_status(n, c->l, pos, MIN(*len, n->bytes - pos), false, &x);
	}
	if (r)
		return r;
	*len = x.len;
	*what = x.zero ? ZEROES : DATA;
	return 0;
}

static int copy_piece(struct commit *c, uint64_t pos, uint64_t *len, uint64_t *bytes)
{
	struct iovec iov = { .iov_base = c->buf };
	enum what what;
	int r = look(c, pos, len, &what);

	*bytes = 0;
	c->writing = false;
	if (r || what == NOTHING)
		return r;
	c->writing = what == ZEROES;
	if (what == ZEROES)
		return block_io_wait(c->base.node, c->l, BLOCK_WRITE_ZEROES, BLOCK_UNMAP, pos, NULL,
				     0, *len);
	*len = iov.iov_len = *bytes = MIN(*len, PIECE);
	r = block_io_wait(c->top.node, c->l, BLOCK_READ, 0, pos, &iov, 1, *len);
	if (r)
		return r;
	c->writing = true;
	return block_io_wait(c->base.node, c->l, BLOCK_WRITE, 0, pos, &iov, 1, *len);
}

/* Is it to end here? After @bytes were copied, *@len of progress. */
static int pace(struct commit *c, uint64_t bytes, uint64_t len)
{
	c->copied += len;
	c->all = MAX(c->all, c->copied);	/* marked since they were counted */
	if (atomic_load(&c->gone))
		return -ENODEV;
	if (c->hurry)
		return c->watch->stopped(c->watch->arg) ? -ECANCELED : 0;
	return c->watch->pace(c->watch->arg, bytes, c->copied, c->all);
}

static int copy(struct commit *c, uint64_t pos, uint64_t end, struct err *e)
{
	uint64_t len, bytes;
	int r = 0;

	for (; pos < end && r == 0; pos += len) {
		len = MIN(end - pos, STRETCH);
		r = copy_piece(c, pos, &len, &bytes);
		/* A guest that waits is not kept for better times. */
		if (r && !c->hurry) {
			len = bytes = 0;
			r = c->watch->failed(c->watch->arg, c->writing, r);
		}
		if (r == -ECANCELED)
			return r;
		if (r)
			return err_sys(e, r, "node '%s' cannot be committed to node '%s' at offset "
				       "%" PRIu64, c->top.node->name, c->base.node->name, pos);
		r = pace(c, bytes, len);
	}
	return r;
}

static int flush(struct commit *c, struct err *e)
{
	int r = block_io_wait(c->base.node, c->l, BLOCK_FLUSH, 0, 0, NULL, 0, 0);

	return r ? err_sys(e, r, "base '%s' cannot be flushed", c->base.node->name) : 0;
}

/* ---- lengths ---- */

static int grow_base(struct commit *c, struct err *e)
{
	struct block_node *base = c->base.node;
	uint64_t end = c->top.node->bytes;
	int r;

	if (base->bytes >= end)
		return 0;
	r = base->drv->set_length ? base->drv->set_length(base, end) : -ENOTSUP;
	return r ? err_sys(e, r, "base '%s' is %" PRIu64 " bytes long and cannot become as long "
			   "as '%s', %" PRIu64, base->name, (uint64_t)base->bytes,
			   c->top.node->name, end) : 0;
}

/* What a longer base has behind the top's end would come to light. */
static int hide_rest(struct commit *c, struct err *e)
{
	struct block_node *base = c->base.node;
	uint64_t pos = c->top.node->bytes;
	int r;

	if (base->bytes <= pos)
		return 0;
	r = block_io_wait(base, c->l, BLOCK_WRITE_ZEROES, BLOCK_UNMAP, pos, NULL, 0,
			  base->bytes - pos);
	return r ? err_sys(e, r, "base '%s' cannot be cleared from offset %" PRIu64, base->name,
			   pos) : 0;
}

/* ---- an active layer ---- */

/* What the guest wrote meanwhile. */
static int catch_up(struct commit *c, struct err *e)
{
	uint64_t len = 0;
	int r = 0;

	c->all += dirty_left(c->dirty);
	for (uint64_t pos = 0; r == 0 && dirty_take(c->dirty, &pos, &len); pos += len) {
		r = copy(c, pos, pos + len, e);
		if (r)		/* it may be tried again */
			dirty_mark(c->dirty, pos, len);
	}
	return r;
}

/* With the lock. */
static void doze(struct commit *c, uint64_t until)
{
	struct timespec ts = { (time_t)(until / NS_PER_SEC), (long)(until % NS_PER_SEC) };

	pthread_cond_timedwait(&c->changed, &c->lock, &ts);
}

/* Wait for @end, or until the drive's fate is known. 0, or why it is to end here. */
static int wait_turn(struct commit *c, uint64_t end)
{
	int r = 0;

	pthread_mutex_lock(&c->lock);
	while (r == 0 && (end ? clock_ns() < end :
			  c->turn == TURN_ASKED || c->turn == TURN_RETURNED)) {
		doze(c, clock_ns() + PEEK_NS);
		if (c->watch->stopped(c->watch->arg))
			r = -ECANCELED;
		else if (atomic_load(&c->gone))
			r = -ENODEV;
	}
	pthread_mutex_unlock(&c->lock);
	return r;
}

static enum commit_turn turn(struct commit *c)
{
	enum commit_turn t;

	pthread_mutex_lock(&c->lock);
	t = c->turn;
	pthread_mutex_unlock(&c->lock);
	return t;
}

/* The rest, while the guest's requests are kept. The top's own tables as well, so that
 * it closes without waiting; should that fail nothing is lost. */
static int copy_rest(struct commit *c, struct err *e)
{
	int r;

	c->hurry = true;
	r = catch_up(c, e);
	if (r == 0) {
		c->writing = true;
		r = flush(c, e);
	}
	if (r == 0)
		block_io_wait(c->top.node, c->l, BLOCK_FLUSH, 0, 0, NULL, 0, 0);
	c->hurry = false;
	return r;
}

/* Ask the main loop, and wait for its answer. */
static int ask(struct commit *c, enum commit_turn what)
{
	pthread_mutex_lock(&c->lock);
	c->turn = what;
	pthread_mutex_unlock(&c->lock);
	c->watch->post(c->watch->arg, &c->ask);
	return wait_turn(c, 0);
}

/* The last round met error @err. The guest goes on while the client is asked: -EAGAIN,
 * or what to end with. */
static int failed_at_last(struct commit *c, int err)
{
	int r = ask(c, TURN_RETURNED);

	if (r == 0)
		r = c->watch->failed(c->watch->arg, c->writing, err);
	return r ? r : -EAGAIN;
}

/* -EAGAIN: requests in flight, or the rest, took too long, or failed and are to be tried
 * again; the guest goes on. */
static int last_round(struct commit *c, struct err *e)
{
	int r = ask(c, TURN_ASKED);

	if (r == 0 && turn(c) == TURN_HELD) {
		r = copy_rest(c, e);
		if (r && r != -ECANCELED && r != -ENODEV)
			return failed_at_last(c, r);
	}
	if (r == 0 && turn(c) != TURN_HELD) {
		log_warn("node '%s': its last round took too long, and is tried again in some "
			 "seconds", c->root.node->name);
		r = wait_turn(c, clock_ns() + AGAIN_NS);
		return r ? r : -EAGAIN;
	}
	return r;
}

static int follow(struct commit *c, struct err *e)
{
	int r, wish;

	for (;;) {
		r = catch_up(c, e);
		if (r)
			return r;
		if (dirty_left(c->dirty) > IN_STEP)
			continue;
		wish = c->watch->ready(c->watch->arg, c->copied, c->all);
		if (wish < 0)
			return wish;
		if (atomic_load(&c->gone))
			return -ENODEV;
		if (wish == COMMIT_STOP)
			return flush(c, e);
		if (wish != COMMIT_COMPLETE)
			continue;
		r = last_round(c, e);
		if (r != -EAGAIN) {
			c->pivot = r == 0;
			return r;
		}
	}
}

/* ---- all of it ---- */

static int run(struct commit *c, struct err *e)
{
	int r = grow_base(c, e);

	if (r == 0)
		r = copy(c, 0, c->top.node->bytes, e);
	if (r == 0 && c->active)
		return follow(c, e);
	if (r == 0)
		r = hide_rest(c, e);
	if (r == 0)
		r = flush(c, e);
	if (r == 0)
		r = image_set_backing(c->overlay.node, c->l, c->backing_name,
				      c->base.node->drv->name, e);
	return r;
}

int commit_run(struct commit *c, struct loop *l, const struct commit_watch *w, struct err *e)
{
	int r;

	c->watch = w;
	c->l = l;
	c->all = c->top.node->bytes;
	if (posix_memalign(&c->buf, 4096, PIECE))
		return err_sys(e, -ENOMEM, "no memory for a commit");
	r = run(c, e);
	/* So that the base can be closed without waiting. */
	if (r)
		flush(c, NULL);
	free(c->buf);
	c->buf = NULL;
	if (r == -ENODEV && atomic_load(&c->gone))
		err_set(e, r, "the device of node '%s' was removed", c->root.node->name);
	return r;
}

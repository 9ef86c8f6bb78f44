/*
 * block/request.c - how a request enters a node and leaves the layer.
 *
 * Threads: a request belongs to the loop it was submitted on. Only
 * block_done_later() may be called from another loop.
 * Missing: nothing known.
 */
#include "block/graph.h"
#include "block/throttle.h"

#include <assert.h>
#include <errno.h>

#include "vmm/base/util.h"

/* A run of zeroes equals itself shifted by one byte. */
static bool buf_is_zero(const uint8_t *p, size_t len)
{
	return len == 0 || (p[0] == 0 && p[len - 1] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

static bool iov_is_zero(const struct iovec *iov, int n)
{
	for (int i = 0; i < n; i++)
		if (!buf_is_zero(iov[i].iov_base, iov[i].iov_len))
			return false;
	return true;
}

/* detect-zeroes: the guest's zeroes become a write-zeroes request. */
static void detect_zeroes(const struct block_node *n, struct block_req *r)
{
	if (r->now.op != BLOCK_WRITE || !iov_is_zero(r->iov, r->iovcnt))
		return;
	r->now.op = BLOCK_WRITE_ZEROES;
	if (n->detect_zeroes == BLOCK_DETECT_UNMAP)
		r->now.flags |= BLOCK_UNMAP;
}

/* What block allocation on a growing disk is steered by. Costs a write one load; only
 * one that goes further than all before it stores, and the others' loops see that late. */
static void note_write(struct block_node *n, const struct block_req *r)
{
	uint64_t end = r->now.offset + r->bytes;
	uint64_t old = atomic_load_explicit(&n->wr_highest_bytes, memory_order_relaxed);

	while (end > old &&
	       !atomic_compare_exchange_weak_explicit(&n->wr_highest_bytes, &old, end,
						      memory_order_relaxed, memory_order_relaxed))
		;
}

void block_submit(struct block_node *n, struct block_req *r)
{
	struct fault_point *p = atomic_load_explicit(&n->fault, memory_order_acquire);

	if (__builtin_expect(p != NULL, 0) && fault_take(n, p, r))
		return;
	block_submit_now(n, r);
}

void block_submit_now(struct block_node *n, struct block_req *r)
{
	if (__builtin_expect(n->detect_zeroes != BLOCK_DETECT_OFF, 0))
		detect_zeroes(n, r);
	/* discard=ignore holds for every node of its own: it keeps the space. */
	if (n->discard == BLOCK_DISCARD_IGNORE && r->now.op >= BLOCK_DISCARD) {
		if (r->now.op == BLOCK_DISCARD) {
			block_done_later(r, 0);
			return;
		}
		r->now.flags &= ~(uint32_t)BLOCK_UNMAP;
	}
	if (r->now.op == BLOCK_WRITE || r->now.op == BLOCK_WRITE_ZEROES)
		note_write(n, r);
	n->drv->submit(n, r);
}

void block_start(struct block_node *n, struct block_req *r)
{
	r->now = (struct block_step){ r->op, r->flags, r->offset };
	r->ended = r->done;
	r->cancelled = false;
	r->sub = NULL;
	block_submit(n, r);
}

void block_cancel(struct block_req *r)
{
	for (; r; r = r->sub) {
		r->cancelled = true;
		if (fault_cancel(r) || throttle_cancel(r))
			continue;
		/* A flush may stand for others as well, and harms nobody. */
		if (r->now.op != BLOCK_FLUSH)
			loop_io_cancel(&r->io);
	}
}

struct waiter {
	struct block_req r;
	bool done;
	int ret;
};

static void wait_done(struct block_req *r, int ret)
{
	struct waiter *w = container_of(r, struct waiter, r);

	w->ret = ret;
	w->done = true;
}

int block_io_wait(struct block_node *n, struct loop *l, enum block_op op, uint32_t flags,
		  uint64_t offset, const struct iovec *iov, int iovcnt, uint64_t bytes)
{
	struct waiter w = {
		.r = { .op = op, .flags = flags, .offset = offset, .bytes = bytes, .iov = iov,
		       .iovcnt = iovcnt, .done = wait_done, .loop = l }
	};
	int r;

	if (!l)
		return -ENOMEM;
	block_start(n, &w.r);
	while (!w.done) {
		r = loop_turn(l, UINT64_MAX);
		/* The engine broke down: the request is on our stack, and must
		 * not be left behind. */
		assert(r >= 0);
	}
	return w.ret;
}

void block_done(struct block_req *r, int ret)
{
	r->ended(r, ret);
}

void block_push(struct block_req *r, struct block_frame *f,
		void (*ended)(struct block_req *r, int ret))
{
	*f = (struct block_frame){ r->ended, r->now, r->frames };
	r->frames = f;
	r->ended = ended;
}

struct block_frame *block_pop(struct block_req *r)
{
	struct block_frame *f = r->frames;

	r->ended = f->ended;
	r->now = f->now;
	r->frames = f->next;
	return f;
}

static void done_work(struct loop_work *w)
{
	struct block_req *r = container_of(w, struct block_req, work);

	block_done(r, r->ret);
}

void block_done_later(struct block_req *r, int ret)
{
	r->ret = ret;
	r->work.cb = done_work;
	if (loop_is_current(r->loop))
		loop_defer(r->loop, &r->work);
	else
		loop_post(r->loop, &r->work);
}

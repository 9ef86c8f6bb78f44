/*
 * block/file_bounce.c - requests that O_DIRECT cannot take as they are.
 *
 * Threads: any loop; a request stays on its own. The lock of the pool is held
 *          to take or give a buffer: these requests are copied, and rare.
 * Missing: nothing known.
 *
 * Two reasons: the guest's memory is not aligned for the disk, or the request
 * does not cover whole units of it. The request takes one buffer of the
 * node's pool and goes through it piece by piece; a piece whose first or last
 * unit is only partly written is read first. When all buffers are out, it
 * waits for one: memory is bounded whatever the guest does.
 */
#include <errno.h>
#include <sys/mman.h>

#include "block/file.h"
#include "vmm/base/util.h"

int file_bounce_init(struct file_node *f, struct err *e)
{
	struct file_bounce *b = &f->bounce;

	b->mem = mmap(NULL, (size_t)FILE_BOUNCE_BYTES * FILE_BOUNCE_COUNT, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (b->mem == MAP_FAILED) {
		b->mem = NULL;
		return err_sys(e, -errno, "no memory for aligned buffers");
	}
	b->free = (1u << FILE_BOUNCE_COUNT) - 1;
	return 0;
}

void file_bounce_fini(struct file_node *f)
{
	if (f->bounce.mem)
		munmap(f->bounce.mem, (size_t)FILE_BOUNCE_BYTES * FILE_BOUNCE_COUNT);
	f->bounce.mem = NULL;
	pthread_mutex_destroy(&f->bounce.lock);
}

static void piece_start(struct block_req *r);

static void got_buffer_work(struct loop_work *w)
{
	piece_start(container_of(w, struct block_req, work));
}

/* A buffer for @r: now, or by work posted to its loop. */
static void take_buffer(struct block_req *r)
{
	struct file_bounce *b = &((struct file_node *)r->node)->bounce;
	unsigned int i;
	bool got;

	pthread_mutex_lock(&b->lock);
	got = b->free != 0;
	if (got) {
		i = (unsigned int)__builtin_ctz(b->free);
		b->free &= ~BIT(i);
		r->span.buf = b->mem + (size_t)i * FILE_BOUNCE_BYTES;
	} else {
		r->next = NULL;
		*b->tail = r;
		b->tail = &r->next;
	}
	pthread_mutex_unlock(&b->lock);
	/* Once in the list, another loop may grant it: @r is not looked at. */
	if (got)
		piece_start(r);
}

static void give_buffer(struct block_req *r)
{
	struct file_bounce *b = &((struct file_node *)r->node)->bounce;
	struct block_req *w;

	pthread_mutex_lock(&b->lock);
	w = b->waiting;
	if (w) {
		b->waiting = w->next;
		if (!b->waiting)
			b->tail = &b->waiting;
		w->span.buf = r->span.buf;
		w->work.cb = got_buffer_work;
		loop_post(w->loop, &w->work);
	} else {
		b->free |= BIT(((uint8_t *)r->span.buf - b->mem) / FILE_BOUNCE_BYTES);
	}
	pthread_mutex_unlock(&b->lock);
	r->span.buf = NULL;
}

static void bounce_end(struct block_req *r, int ret)
{
	struct file_node *f = (struct file_node *)r->node;

	give_buffer(r);
	if (r->now.op != BLOCK_READ)
		file_wrote(f, r, ret);
	if (r->span.held)
		file_range_end(f, r);
	block_done(r, ret);
}

/* The part of the present piece that the request covers. */
static void covered(const struct block_req *r, uint64_t *lo, uint64_t *hi)
{
	*lo = MAX(r->span.at, r->now.offset);
	*hi = MIN(r->span.at + r->span.len, r->now.offset + r->bytes);
}

static void piece_xfer(struct block_req *r, bool write, void (*then)(struct block_req *, int))
{
	struct block_span *s = &r->span;

	s->iov = (struct iovec){ s->buf, s->len };
	file_xfer((struct file_node *)r->node, r, &s->iov, 1, s->at, s->len, write, then);
}

static void piece_end(struct block_req *r, int ret)
{
	struct block_span *s = &r->span;
	uint64_t lo, hi;

	if (ret) {
		bounce_end(r, ret);
		return;
	}
	if (r->now.op == BLOCK_READ) {
		covered(r, &lo, &hi);
		iov_from_buf(r->iov, r->iovcnt, lo - r->now.offset,
			     (uint8_t *)s->buf + (lo - s->at), hi - lo);
	}
	s->at += s->len;
	if (s->at < s->hi)
		piece_start(r);
	else
		bounce_end(r, 0);
}

static void piece_fill(struct block_req *r, int ret)
{
	struct block_span *s = &r->span;
	uint64_t lo, hi;
	uint8_t *to;

	if (ret == 0 && r->cancelled)
		ret = -ECANCELED;
	if (ret) {
		bounce_end(r, ret);
		return;
	}
	covered(r, &lo, &hi);
	to = (uint8_t *)s->buf + (lo - s->at);
	if (r->now.op == BLOCK_WRITE_ZEROES)
		memset(to, 0, hi - lo);
	else
		iov_to_buf(r->iov, r->iovcnt, lo - r->now.offset, to, hi - lo);
	piece_xfer(r, true, piece_end);
}

static void piece_start(struct block_req *r)
{
	struct block_span *s = &r->span;
	uint64_t lo, hi;

	if (r->cancelled) {
		bounce_end(r, -ECANCELED);
		return;
	}
	s->len = (uint32_t)MIN(s->hi - s->at, (uint64_t)FILE_BOUNCE_BYTES);
	covered(r, &lo, &hi);
	if (r->now.op == BLOCK_READ)
		piece_xfer(r, false, piece_end);
	else if (lo > s->at || hi < s->at + s->len)
		piece_xfer(r, false, piece_fill);
	else
		piece_fill(r, 0);
}

void file_bounce_start(struct file_node *f, struct block_req *r)
{
	struct block_span *s = &r->span;
	uint64_t unit = f->n.request_align, end = r->now.offset + r->bytes;

	s->lo = align_down(r->now.offset, unit);
	s->hi = align_up(end, unit);
	s->at = s->lo;
	r->xfer.flags = 0;
	/* A part of a unit is written only by drives on a tracked node. A
	 * format with smaller metadata has to say so when it opens the node. */
	if (r->now.op != BLOCK_READ && !f->tracked && (s->lo != r->now.offset || s->hi != end))
		block_done_later(r, -EINVAL);
	else if (r->now.op != BLOCK_READ && f->tracked)
		file_range_begin(f, r, s->lo != r->now.offset || s->hi != end, take_buffer);
	else
		take_buffer(r);
}

/*
 * block/qcow2/op.c - requests: the way in, their contexts, and reading.
 *
 * Spec:    docs/interop/qcow2.txt, "s Cluster mapping".
 * Threads: any loop; a request and its child stay on one. The pool's lock is
 *          taken by requests that find no context, and for buffers: those
 *          requests are slow anyway.
 * Missing: pieces of one request go one after the other, not side by side.
 *
 * A read that lies in one piece, in this file or in the backing one, is handed
 * down as it is and costs a look into the map. Everything else takes one of
 * Q2_OPS contexts, or waits for one: memory is bounded whatever guests do.
 *
 * A context carries the epoch in which it began. Host clusters that are freed
 * are not used again before every context of that epoch or an earlier one has
 * ended (alloc.c), so a write that is under way never lands in somebody else's
 * cluster.
 */
#include "block/qcow2/qcow2.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

TRACE_DEFINE(qcow2_read);

/* ---- contexts ---- */

static void op_init(struct q2 *q, struct q2_op *op)
{
	op->q = q;
	op->c.loop = NULL;
}

static int init_bufs(struct q2 *q)
{
	uint64_t data = align_up(4 * q->cs + 4096, 4096);
	uint64_t each = data + align_up(q2_z_bytes(), 4096);
	uint8_t *p;

	q->buf_bytes = each * Q2_BUFS;
	q->buf_mem = sparse_map(q->buf_bytes);
	if (!q->buf_mem)
		return -ENOMEM;
	for (int i = 0; i < Q2_BUFS; i++) {
		p = q->buf_mem + each * (unsigned int)i;
		/* What the kernel reads directly is aligned to a page where
		 * clusters are that large. */
		q->bufs[i].mem = p;
		q->bufs[i].zout = p + q->cs;
		q->bufs[i].zin = p + 2 * q->cs;
		/* Memory once an image has compressed clusters. */
		q->bufs[i].z = (struct q2_zstate *)(p + data);
		if (q2_z_init(q->bufs[i].z, q->h.compression))
			return -ENOMEM;
		q->bufs[i].rd = xcalloc(1, sizeof(struct q2_op));
		op_init(q, q->bufs[i].rd);
	}
	return 0;
}

int q2_pool_init(struct q2 *q, struct err *e)
{
	q->ops = sparse_map(Q2_OPS * sizeof(*q->ops));
	if (!q->ops || init_bufs(q))
		return err_sys(e, -ENOMEM, "no memory for requests");
	for (int i = 0; i < Q2_OPS / 64; i++)
		atomic_store(&q->free_ops[i], UINT64_MAX);
	q->buf_tail = &q->buf_wait;
	q->op_tail = &q->op_wait;
	return 0;
}

void q2_pool_fini(struct q2 *q)
{
	for (int i = 0; i < Q2_BUFS; i++) {
		q2_z_fini(q->bufs[i].z);
		q->bufs[i].z = NULL;
		free(q->bufs[i].rd);
	}
	sparse_unmap(q->buf_mem, q->buf_bytes);
	sparse_unmap(q->ops, Q2_OPS * sizeof(*q->ops));
	q->ops = NULL;
	q->buf_mem = NULL;
}

static struct q2_op *take_op(struct q2 *q)
{
	uint64_t free, bit;
	struct q2_op *op;

	for (unsigned int i = 0; i < Q2_OPS / 64; i++) {
		free = atomic_load(&q->free_ops[i]);
		while (free) {
			bit = free & -free;
			if (!atomic_compare_exchange_weak(&q->free_ops[i], &free, free & ~bit))
				continue;
			op = &q->ops[i * 64 + (unsigned int)__builtin_ctzll(bit)];
			op->q = q;
			/* Before the map is looked at; see q2_frees_release(). */
			atomic_store(&op->epoch, atomic_load(&q->epoch));
			return op;
		}
	}
	return NULL;
}

/* A context is free: for the first in the line. */
static void wake_waiter(struct q2 *q)
{
	struct block_req *r = NULL;

	if (!atomic_load(&q->waiting))
		return;
	pthread_mutex_lock(&q->pool_lock);
	r = q->op_wait;
	if (r) {
		q->op_wait = r->next;
		if (!q->op_wait)
			q->op_tail = &q->op_wait;
	}
	atomic_store(&q->waiting, q->op_wait != NULL);
	pthread_mutex_unlock(&q->pool_lock);
	if (r)
		loop_post(r->loop, &r->work);
}

static void give_op(struct q2_op *op)
{
	struct q2 *q = op->q;
	unsigned int i = (unsigned int)(op - q->ops);

	atomic_store(&op->epoch, 0);
	atomic_fetch_or(&q->free_ops[i / 64], BIT64(i % 64));
	wake_waiter(q);
}

static bool any_free(struct q2 *q)
{
	for (unsigned int i = 0; i < Q2_OPS / 64; i++)
		if (atomic_load(&q->free_ops[i]))
			return true;
	return false;
}

static void again_work(struct loop_work *w)
{
	struct block_req *r = container_of(w, struct block_req, work);
	struct q2 *q = (struct q2 *)r->node;

	q2_submit(&q->n, r);
	/* It may have needed no context any more, and would never give one. (The
	 * node stays: @r ends after this call.) */
	if (any_free(q))
		wake_waiter(q);
}

/* A context for @r, or NULL: then @r is in the line for one. */
static struct q2_op *take_or_wait(struct q2 *q, struct block_req *r)
{
	struct q2_op *op = take_op(q);

	if (op)
		return op;
	r->node = &q->n;
	r->work.cb = again_work;
	r->next = NULL;
	pthread_mutex_lock(&q->pool_lock);
	atomic_store(&q->waiting, true);
	/* One may have become free before it could see us. */
	op = take_op(q);
	if (!op) {
		*q->op_tail = r;
		q->op_tail = &r->next;
	} else if (!q->op_wait) {
		atomic_store(&q->waiting, false);
	}
	pthread_mutex_unlock(&q->pool_lock);
	return op;
}

static void read_next(struct q2_op *op);

/* A read that could not be kept goes on as one that is not to be. */
static bool copy_failed(struct q2_op *op, int ret)
{
	const struct block_req *r = op->r;

	if (ret == 0 || op->op != BLOCK_POPULATE || r->now.op != BLOCK_READ || r->cancelled)
		return false;
	log_guest(&op->q->limit, op->q->n.name, "copy-on-read of %" PRIu64 " bytes at offset %"
		  PRIu64 " failed, the read goes on: %s", r->bytes, op->base, strerror(-ret));
	op->op = BLOCK_READ;
	op->pos = op->base;
	read_next(op);
	return true;
}

void q2_op_end(struct q2_op *op, int ret)
{
	struct block_req *r = op->r;

	if (!r) {
		op->done(op, ret);
		return;
	}
	if (op->buf)
		q2_put_buf(op);
	if (op->registered) {
		q2_abort(op, ret);
		return;
	}
	if (copy_failed(op, ret))
		return;
	r->sub = NULL;
	give_op(op);
	/* The submitting call may not have returned yet. */
	block_done_later(r, ret);
}

/* ---- buffers ---- */

static struct q2_buf *free_buf(struct q2 *q, uint64_t tag)
{
	struct q2_buf *hit = NULL;

	for (int i = 0; i < Q2_BUFS; i++) {
		struct q2_buf *b = &q->bufs[i];

		if (b->busy)
			continue;
		if (tag && b->tag == tag)
			return b;
		if (!hit || (hit->tag && !b->tag))
			hit = b;
	}
	return hit;
}

static void buf_work(struct loop_work *w)
{
	struct q2_op *op = container_of(w, struct q2_op, work);

	op->got_buf(op);
}

void q2_get_buf(struct q2_op *op, void (*then)(struct q2_op *op))
{
	struct q2 *q = op->q;
	struct q2_buf *b;

	op->got_buf = then;
	pthread_mutex_lock(&q->pool_lock);
	b = free_buf(q, op->entry);
	if (b) {
		b->busy = true;
		op->buf = b;
	} else {
		op->next = NULL;
		op->work.cb = buf_work;
		*q->buf_tail = op;
		q->buf_tail = &op->next;
	}
	pthread_mutex_unlock(&q->pool_lock);
	if (b)
		then(op);
}

void q2_put_buf(struct q2_op *op)
{
	struct q2 *q = op->q;
	struct q2_op *w;

	pthread_mutex_lock(&q->pool_lock);
	w = q->buf_wait;
	if (w) {
		q->buf_wait = w->next;
		if (!q->buf_wait)
			q->buf_tail = &q->buf_wait;
		w->buf = op->buf;
		loop_post(w->loop, &w->work);
	} else {
		op->buf->busy = false;
	}
	pthread_mutex_unlock(&q->pool_lock);
	op->buf = NULL;
}

/* ---- child requests ---- */

void q2_child(struct q2_op *op, struct block_node *n, enum block_op what, uint64_t off,
	      const struct iovec *iov, int cnt, uint64_t bytes,
	      void (*done)(struct block_req *c, int ret))
{
	struct block_req *c = &op->c;

	c->op = what;
	c->offset = off;
	c->bytes = bytes;
	c->iov = iov;
	c->iovcnt = cnt;
	c->done = done;
	c->loop = op->loop;
	c->flags = op->flags & BLOCK_UNMAP;
	if (what == BLOCK_READ && n == op->q->n.file.node &&
	    q2_read_flags(op->q, off, bytes, &c->flags)) {
		/* The file ends before: it was cut under us. */
		c->ended = done;
		block_done_later(c, -EIO);
		return;
	}
	block_start(n, c);
}

int q2_read_flags(struct q2 *q, uint64_t off, uint64_t bytes, uint32_t *flags)
{
	uint64_t len = atomic_load_explicit(&q->file_len, memory_order_acquire);

	if (align_up(off + bytes, Q2_TAIL) <= len)
		return 0;
	if (off >= align_up(len, q->cs))
		return -EIO;
	*flags |= BLOCK_EOF_ZEROES;
	return 0;
}

/* The entry of op->iov that has byte @off, which becomes the offset in it. */
static int seek(const struct q2_op *op, uint64_t *off)
{
	int i = 0;

	while (i < op->iovcnt && *off >= op->iov[i].iov_len)
		*off -= op->iov[i++].iov_len;
	return i;
}

int q2_slice(struct q2_op *op, uint32_t *len)
{
	uint64_t off = op->pos - op->base, got = 0, cut;
	int i = seek(op, &off), n = 0;

	for (; n < Q2_IOV && got < *len && i < op->iovcnt; i++, off = 0) {
		if (op->iov[i].iov_len == off)
			continue;
		op->v[n].iov_base = (char *)op->iov[i].iov_base + off;
		op->v[n].iov_len = MIN((uint64_t)op->iov[i].iov_len - off, *len - got);
		got += op->v[n++].iov_len;
	}
	if (got < *len) {
		/* Whole sectors only. */
		cut = got % BLOCK_SECTOR;
		got -= cut;
		while (n > 0 && cut >= op->v[n - 1].iov_len)
			cut -= op->v[--n].iov_len;
		if (n > 0)
			op->v[n - 1].iov_len -= cut;
	}
	*len = (uint32_t)got;
	return n;
}

/* ---- reading ---- */

static void piece_done(struct block_req *c, int ret)
{
	struct q2_op *op = container_of(c, struct q2_op, c);

	if (ret) {
		q2_op_end(op, ret);
		return;
	}
	op->pos += op->len;
	read_next(op);
}

/* A piece whose memory has more entries than a context holds goes through a
 * buffer. */
static void bounced(struct block_req *c, int ret)
{
	struct q2_op *op = container_of(c, struct q2_op, c);

	if (ret == 0)
		iov_from_buf(op->iov, op->iovcnt, op->pos - op->base, op->buf->zin, op->len);
	if (op->buf->rd != op)
		q2_put_buf(op);
	piece_done(c, ret);
}

static void bounce_read(struct q2_op *op)
{
	struct q2_extent x = q2_lookup(op->q, op->pos, op->len);
	struct block_node *n = x.kind == Q2_DATA ? q2_data(op->q) : op->q->n.backing.node;

	/* It may have changed while we waited for the buffer. */
	if (x.len < op->len || (x.kind != Q2_DATA && (x.kind != Q2_UNALLOC || !n))) {
		if (op->buf->rd != op)
			q2_put_buf(op);
		read_next(op);
		return;
	}
	op->v[0] = (struct iovec){ op->buf->zin, op->len };
	q2_child(op, n, BLOCK_READ, x.kind == Q2_DATA ? x.host : op->pos, op->v, 1, op->len,
		 bounced);
}

static void read_from(struct q2_op *op, struct block_node *n, uint64_t off, uint64_t len)
{
	uint32_t want = (uint32_t)MIN(len, (uint64_t)INT32_MAX & ~511u), got = want;
	int cnt = q2_slice(op, &got);

	if (got == 0) {
		op->len = (uint32_t)MIN((uint64_t)want, op->q->cs);
		op->entry = 0;
		if (op->buf)
			bounce_read(op);
		else
			q2_get_buf(op, bounce_read);
		return;
	}
	op->len = got;
	q2_child(op, n, BLOCK_READ, off, op->v, cnt, got, piece_done);
}

static void unpack(struct q2_op *op)
{
	struct q2_buf *b = op->buf;

	iov_from_buf(op->iov, op->iovcnt, op->pos - op->base, b->zout + op->skip, op->len);
	if (b->rd != op)
		q2_put_buf(op);
	op->pos += op->len;
	read_next(op);
}

static void packed_read(struct block_req *c, int ret)
{
	struct q2_op *op = container_of(c, struct q2_op, c);
	struct q2_buf *b = op->buf;
	uint64_t off, bytes;

	q2_compressed_range(op->q, op->entry, &off, &bytes);
	if (ret == 0)
		ret = q2_decompress(b->z, b->zin, bytes, b->zout, op->q->cs);
	if (ret) {
		q2_op_end(op, ret);
		return;
	}
	b->tag = op->entry;
	unpack(op);
}

static void read_packed(struct q2_op *op)
{
	struct q2_buf *b = op->buf;
	uint64_t off, bytes;

	if (b->tag == op->entry) {
		unpack(op);
		return;
	}
	b->tag = 0;
	q2_compressed_range(op->q, op->entry, &off, &bytes);
	op->v[0] = (struct iovec){ b->zin, bytes };
	q2_child(op, op->q->n.file.node, BLOCK_READ, off, op->v, 1, bytes, packed_read);
}

static void read_compressed(struct q2_op *op, const struct q2_extent *x)
{
	op->entry = x->host;
	op->skip = op->pos & (op->q->cs - 1);
	op->len = (uint32_t)x->len;
	if (op->buf)
		read_packed(op);
	else
		q2_get_buf(op, read_packed);
}

/* Bytes from @pos that the backing file has; 0: none, zeroes. */
static uint64_t backing_part(const struct q2 *q, uint64_t pos, uint64_t len)
{
	const struct block_node *b = q->n.backing.node;

	if (!b || pos >= b->bytes)
		return 0;
	return MIN(len, b->bytes - pos);
}

/* Go on at op->pos; ends the request, or leaves it to a completion. */
static void read_next(struct q2_op *op)
{
	struct q2 *q = op->q;
	struct q2_extent x;
	uint64_t n;

	while (op->pos < op->end) {
		if (op->r && op->r->cancelled) {
			q2_op_end(op, -ECANCELED);
			return;
		}
		x = q2_lookup(q, op->pos, op->end - op->pos);
		n = x.kind == Q2_UNALLOC ? backing_part(q, op->pos, x.len) : 0;
		if (x.kind == Q2_UNLOADED) {
			op->need = q2_table_of(q, op->pos >> q->cb);
			op->resume = read_next;
			q2_load(op);
			return;
		} else if (n) {
			read_from(op, q2_below(q, op->pos, n), op->pos, n);
			return;
		} else if (x.kind == Q2_DATA) {
			read_from(op, q2_data(q), x.host, x.len);
			return;
		} else if (x.kind == Q2_COMPRESSED) {
			read_compressed(op, &x);
			return;
		} else if (x.kind == Q2_BAD) {
			q2_op_end(op, -EIO);
			return;
		}
		iov_zero(op->iov, op->iovcnt, op->pos - op->base, x.len);
		op->pos += x.len;
	}
	q2_op_end(op, 0);
}

void q2_read_old(struct q2_op *op, uint64_t pos, uint64_t end, uint8_t *mem,
		 void (*done)(struct q2_op *rd, int ret))
{
	struct q2_op *rd = op->buf->rd;

	rd->q = op->q;
	rd->r = NULL;
	rd->loop = op->loop;
	rd->done = done;
	rd->up = op;
	rd->op = BLOCK_READ;
	rd->flags = 0;
	rd->base = rd->pos = pos;
	rd->end = end;
	rd->buf = op->buf;
	rd->old = (struct iovec){ mem, end - pos };
	rd->iov = &rd->old;
	rd->iovcnt = 1;
	read_next(rd);
}

/* ---- the way in ---- */

static bool copies(struct q2 *q, uint32_t flags)
{
	return (flags & BLOCK_COPY_ON_READ) && q->writable && !atomic_load(&q->broken);
}

static void populated(struct q2_op *op)
{
	op->op = BLOCK_READ;
	op->pos = op->base;
	read_next(op);
}

/* Copy on read: the image takes all of it first. */
static void copy_start(struct q2_op *op)
{
	op->op = BLOCK_POPULATE;
	op->lim = op->end;
	op->then = populated;
	q2_write_next(op);
}

/* A read in one piece: hand it down. */
static bool read_whole(struct q2 *q, struct block_req *r)
{
	struct q2_extent x = q2_lookup(q, r->now.offset, r->bytes);

	if (x.len < r->bytes)
		return false;
	if (x.kind == Q2_DATA &&
	    (q->n.data.node || align_up(x.host + r->bytes, Q2_TAIL) <=
	     atomic_load_explicit(&q->file_len, memory_order_acquire))) {
		r->now.offset = x.host;
		block_submit(q2_data(q), r);
		return true;
	}
	if (x.kind == Q2_UNALLOC && copies(q, r->now.flags))
		return false;
	if (x.kind == Q2_UNALLOC && backing_part(q, r->now.offset, r->bytes) == r->bytes) {
		/* A copy is this image's affair, never one of those below. */
		r->now.flags &= ~(uint32_t)BLOCK_COPY_ON_READ;
		block_submit(q2_below(q, r->now.offset, r->bytes), r);
		return true;
	}
	if (x.kind != Q2_ZEROES && !(x.kind == Q2_UNALLOC &&
				     backing_part(q, r->now.offset, r->bytes) == 0))
		return false;
	iov_zero(r->iov, r->iovcnt, 0, r->bytes);
	block_done_later(r, 0);
	return true;
}

static void start(struct q2_op *op)
{
	switch (op->op) {
	case BLOCK_READ:
		if (copies(op->q, op->flags))
			copy_start(op);
		else
			read_next(op);
		break;
	case BLOCK_WRITE:
	case BLOCK_POPULATE:
		q2_write_start(op);
		break;
	case BLOCK_FLUSH:
		q2_flush_start(op);
		break;
	default:
		q2_zero_start(op);
		break;
	}
}

static int check(const struct q2 *q, const struct block_req *r)
{
	uint64_t reach = atomic_load_explicit(&q->reach, memory_order_acquire);

	if (r->now.op == BLOCK_FLUSH)
		return q->stale ? -EIO : 0;
	if (r->bytes > reach || r->now.offset > reach - r->bytes)
		return -EINVAL;
	if (r->now.op == BLOCK_READ)
		return 0;
	if (!q->writable)
		return -EROFS;
	return atomic_load(&q->broken) ? -EIO : 0;
}

void q2_submit(struct block_node *n, struct block_req *r)
{
	struct q2 *q = (struct q2 *)n;
	struct q2_op *op;
	int ret = check(q, r);

	if (ret || (r->bytes == 0 && r->now.op != BLOCK_FLUSH)) {
		block_done_later(r, ret);
		return;
	}
	if (r->now.op == BLOCK_READ && read_whole(q, r))
		return;
	if (r->now.op == BLOCK_FLUSH && !n->data.node && !q2_is_dirty(q)) {
		block_submit(n->file.node, r);
		return;
	}
	op = take_or_wait(q, r);
	if (!op)
		return;
	op->r = r;
	op->loop = r->loop;
	op->op = r->now.op;
	op->flags = r->now.flags;
	op->base = op->pos = r->now.offset;
	op->end = op->pos + r->bytes;
	op->iov = r->iov;
	op->iovcnt = r->iovcnt;
	op->buf = NULL;
	op->entry = 0;
	op->registered = false;
	op->waiters = NULL;
	op->res = 0;
	r->sub = &op->c;
	start(op);
}

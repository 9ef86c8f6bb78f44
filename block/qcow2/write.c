/*
 * block/qcow2/write.c - writing: in place, or to new clusters with copy on
 * write.
 *
 * Spec:    docs/interop/qcow2.txt, "s Cluster mapping", "s Extended L2 Entries".
 * Threads: any loop; steps under meta may move to the worker.
 * Missing: nothing known.
 *
 * A write to clusters of its own (COPIED) goes down at once. Otherwise host
 * clusters are allocated and the guest's ones registered; who wants one of
 * those as well waits, everybody else goes on. The data is written, with what
 * the rest of a cluster (or subcluster) had before, and then the L2 entries
 * change in memory. The disk learns of them with a flush (flush.c).
 *
 * Populating (BLOCK_POPULATE) is the same without new data: what "the rest" had
 * before is all there is. Registered like any allocation, it never overtakes a
 * guest's write to the same cluster, nor the reverse.
 */
#include "block/qcow2/qcow2.h"

#include <assert.h>
#include <errno.h>

#define RUN_MAX		256u	/* clusters allocated at a time: fair to others */

/* ---- who allocates what, under meta ---- */

bool q2_must_wait(struct q2_op *op, uint64_t g, uint64_t n)
{
	for (struct q2_op *o = op->q->allocating; o; o = o->peer) {
		if (g < o->g0 + o->gn && o->g0 < g + n) {
			op->next = o->waiters;
			o->waiters = op;
			return true;
		}
	}
	return false;
}

static void enlist(struct q2_op *op, uint64_t g, uint32_t n)
{
	op->g0 = g;
	op->gn = n;
	op->registered = true;
	op->waiters = NULL;
	op->peer = op->q->allocating;
	op->q->allocating = op;
}

static void wake_work(struct loop_work *w)
{
	struct q2_op *op = container_of(w, struct q2_op, work);

	op->resume(op);
}

static void delist(struct q2_op *op)
{
	struct q2_op **p = &op->q->allocating, *w, *next;

	while (*p != op)
		p = &(*p)->peer;
	*p = op->peer;
	op->registered = false;
	for (w = op->waiters; w; w = next) {
		next = w->next;
		w->work.cb = wake_work;
		loop_post(w->loop, &w->work);
	}
	op->waiters = NULL;
}

/* ---- tables and entries, under meta ---- */

int q2_own_table(struct q2 *q, uint32_t t, bool may_block)
{
	uint64_t old = atomic_load(&q->l1[t]), host;
	uint32_t got;
	bool fresh;
	int r;

	if (old & OFLAG_COPIED)
		return 0;
	r = q2_alloc(q, 1, &host, &got, &fresh, may_block);
	if (r)
		return r;
	if (!old)
		q2_table_new(q, t);
	else
		q2_free_later(q, old & ENTRY_OFFSET, 1);
	q2_mark_meta(q, old & ENTRY_OFFSET, old ? q->cs : 0, false);
	q2_mark_meta(q, host, q->cs, true);
	q->l2[t].fresh = FRESH_UNWRITTEN;
	q2_tab_dirty(q, t, 0, (uint32_t)(q->cs / BLOCK_SECTOR));
	atomic_store(&q->l1[t], host | OFLAG_COPIED);
	return 0;
}

void q2_drop(struct q2 *q, uint64_t e)
{
	uint64_t off, bytes, c;

	if (e & OFLAG_COMPRESSED) {
		q2_compressed_range(q, e, &off, &bytes);
		c = off >> q->cb;
		q2_free_later(q, c << q->cb, ((off + bytes - 1) >> q->cb) - c + 1);
	} else if ((e & ENTRY_OFFSET) && !q->n.data.node) {
		q2_free_later(q, e & ENTRY_OFFSET, 1);
	}
}

bool q2_is_loaded(struct q2 *q, uint32_t t)
{
	bool yes;

	pthread_mutex_lock(&q->tab_lock);
	yes = q->l2[t].state == TAB_LOADED;
	pthread_mutex_unlock(&q->tab_lock);
	return yes;
}

/* A host cluster that the entry has already, for it alone. */
static bool has_own(const struct q2 *q, uint64_t e)
{
	return !(e & OFLAG_COMPRESSED) && (e & OFLAG_COPIED) && (e & ENTRY_OFFSET);
}

/* Whole clusters from @g that a write of op needs to allocate alike. */
static uint32_t run_length(struct q2_op *op, uint64_t g)
{
	struct q2 *q = op->q;
	uint64_t max = (op->lim - op->pos) >> q->cb, left, n;

	if ((op->pos & (q->cs - 1)) || max == 0 || q->ext || op->op == BLOCK_POPULATE)
		return 1;
	left = BIT64(q->l2_bits) - (g & (BIT64(q->l2_bits) - 1));
	max = MIN(max, left);
	max = MIN(max, (uint64_t)RUN_MAX);
	for (n = 1; n < max; n++) {
		/* Own clusters are written in place, or are zero and kept. */
		if (has_own(q, q2_entry(q, g + n, NULL)))
			break;
		for (struct q2_op *o = q->allocating; o; o = o->peer)
			if (g + n >= o->g0 && g + n < o->g0 + o->gn)
				return (uint32_t)n;
	}
	return (uint32_t)n;
}

static int alloc_step(struct q2_op *op, bool may_block)
{
	struct q2 *q = op->q;
	uint64_t g = op->pos >> q->cb, e, bitmap;
	uint32_t t = q2_table_of(q, g), n;
	struct q2_extent x;
	int r;

	op->need = t;
	if (atomic_load(&q->l1[t]) && !q2_is_loaded(q, t))
		return Q2_LOAD;
	op->resume = q2_write_next;
	if (q2_must_wait(op, g, 1))
		return Q2_WAIT;
	x = q2_lookup(q, op->pos, 1);
	if (x.kind == Q2_BAD || (x.kind == Q2_DATA && (x.copied || q->n.data.node)) ||
	    (op->op == BLOCK_POPULATE && x.kind != Q2_UNALLOC))
		return Q2_AGAIN;
	r = q2_own_table(q, t, may_block);
	if (r)
		return r;
	e = q2_entry(q, g, &bitmap);
	n = run_length(op, g);
	op->owned = op->fresh = op->whole = op->zeroes = false;
	if (q->n.data.node) {
		op->host = g << q->cb;
	} else if (has_own(q, e)) {
		op->host = e & ENTRY_OFFSET;
		n = 1;
	} else {
		r = q2_alloc(q, n, &op->host, &n, &op->fresh, may_block);
		if (r)
			return r;
		op->owned = true;
		op->whole = (e & OFLAG_COMPRESSED) || (uint32_t)bitmap;
	}
	enlist(op, g, n);
	return 0;
}

/* The bitmap when units [u0, u0 + ulen) of cluster @g have data. */
static uint64_t new_bitmap(const struct q2_op *op, uint64_t g, uint64_t old)
{
	const struct q2 *q = op->q;
	uint64_t at = op->u0 - (g << q->cb), bits;

	bits = (BIT64(op->ulen / q->sub) - 1) << (at / q->sub);
	return (old | bits) & ~(bits << 32);
}

/* A cluster of zeroes that was read to populate it needs no host cluster. */
static void link_zeroes(struct q2_op *op)
{
	struct q2 *q = op->q;

	q2_free_now(q, op->host, 1);
	q2_entry_set(q, op->g0, OFLAG_ZERO, 0);
	delist(op);
}

static int link_step(struct q2_op *op, bool may_block)
{
	struct q2 *q = op->q;
	uint64_t e, bitmap, host;

	if (op->res < 0) {
		if (op->owned)
			q2_free_now(q, op->host, op->gn);
		delist(op);
		return op->res;
	}
	op->need = q2_table_of(q, op->g0);
	/* Clean tables may have been given up meanwhile. */
	if (!q2_is_loaded(q, op->need))
		return Q2_LOAD;
	if (op->zeroes) {
		link_zeroes(op);
		return 0;
	}
	for (uint32_t i = 0; i < op->gn; i++) {
		e = q2_entry(q, op->g0 + i, &bitmap);
		host = op->host + ((uint64_t)i << q->cb);
		if (q->ext && (e & OFLAG_COMPRESSED))
			bitmap = 0;
		if (op->owned)
			q2_drop(q, e);
		q2_entry_set(q, op->g0 + i, host | OFLAG_COPIED,
			     q->ext ? new_bitmap(op, op->g0 + i, bitmap) : 0);
	}
	delist(op);
	return 0;
}

static void aborted(struct q2_op *op, int res)
{
	q2_op_end(op, res);
}

void q2_abort(struct q2_op *op, int ret)
{
	op->res = ret;
	q2_meta(op, link_step, aborted);
}

/* ---- data ---- */

static void link(struct q2_op *op);
static void data_next(struct q2_op *op);

static void linked(struct q2_op *op, int res)
{
	if (res == Q2_LOAD) {
		op->res = 0;
		op->resume = link;
		q2_load(op);
	} else if (res) {
		q2_op_end(op, res);
	} else {
		q2_write_next(op);
	}
}

static void link(struct q2_op *op)
{
	q2_meta(op, link_step, linked);
}

static void data_end(struct q2_op *op, int ret)
{
	if (op->buf)
		q2_put_buf(op);
	op->res = ret;
	link(op);
}

/* Guest data of @len bytes at op->pos, or zeroes, to @to. */
static void gather(struct q2_op *op, uint8_t *to, uint32_t len)
{
	if (op->op == BLOCK_WRITE)
		iov_to_buf(op->iov, op->iovcnt, op->pos - op->base, to, len);
	else
		memset(to, 0, len);
}

static void composed(struct block_req *c, int ret)
{
	struct q2_op *op = container_of(c, struct q2_op, c);

	op->pos = op->wend;
	data_end(op, ret);
}

/* A cluster of its own that an entry can call zero. */
static bool may_be_zeroes(const struct q2_op *op)
{
	return op->owned && !op->whole && !op->q->ext && op->q->h.version >= 3;
}

/* The old content of the units is in the buffer: lay the new over it. */
static void old_read(struct q2_op *rd, int ret)
{
	struct q2_op *op = rd->up;
	struct q2 *q = op->q;
	uint64_t disk_end = rd->end;	/* it may have grown since */
	uint8_t *mem = op->buf->mem;

	if (ret) {
		data_end(op, ret);
		return;
	}
	memset(mem + (disk_end - op->u0), 0, op->u0 + op->ulen - disk_end);
	if (op->op != BLOCK_POPULATE)
		gather(op, mem + (op->pos - op->u0), (uint32_t)(op->wend - op->pos));
	else if (may_be_zeroes(op) && q2_is_zero(mem, op->ulen)) {
		op->zeroes = true;
		op->pos = op->wend;
		data_end(op, 0);
		return;
	}
	op->v[0] = (struct iovec){ mem, op->ulen };
	q2_child(op, q2_data(q), BLOCK_WRITE, op->host + (op->u0 - (op->g0 << q->cb)), op->v, 1,
		 op->ulen, composed);
}

static void compose(struct q2_op *op)
{
	uint64_t end = MIN(op->u0 + op->ulen, op->q->n.bytes);

	q2_read_old(op, op->u0, end, op->buf->mem, old_read);
}

static void data_written(struct block_req *c, int ret)
{
	struct q2_op *op = container_of(c, struct q2_op, c);

	if (ret) {
		data_end(op, ret);
		return;
	}
	op->pos += op->len;
	data_next(op);
}

static uint64_t host_of(const struct q2_op *op)
{
	return op->host + (op->pos - (op->g0 << op->q->cb));
}

static void data_gathered(struct q2_op *op)
{
	op->len = (uint32_t)MIN(op->wend - op->pos, op->q->cs);
	gather(op, op->buf->mem, op->len);
	op->v[0] = (struct iovec){ op->buf->mem, op->len };
	q2_child(op, q2_data(op->q), BLOCK_WRITE, host_of(op), op->v, 1, op->len, data_written);
}

/* [pos, wend) lies in the allocated clusters. */
static void data_next(struct q2_op *op)
{
	uint32_t got;
	int n = 0;

	if (op->pos == op->wend) {
		data_end(op, 0);
		return;
	}
	got = (uint32_t)(op->wend - op->pos);
	if (op->op == BLOCK_WRITE)
		n = q2_slice(op, &got);
	if (got == 0) {
		op->entry = 0;
		if (op->buf)
			data_gathered(op);
		else
			q2_get_buf(op, data_gathered);
		return;
	}
	op->len = got;
	q2_child(op, q2_data(op->q), op->op == BLOCK_WRITE ? BLOCK_WRITE : BLOCK_WRITE_ZEROES,
		 host_of(op), op->v, n, got, data_written);
}

static bool reads_zero(struct q2 *q, uint64_t pos, uint64_t end)
{
	struct q2_extent x;

	for (end = MIN(end, q->n.bytes); pos < end; pos += x.len) {
		x = q2_lookup(q, pos, end - pos);
		if (x.kind != Q2_ZEROES && !(x.kind == Q2_UNALLOC && !q2_backed(q, pos)))
			return false;
	}
	return true;
}

static void data_start(struct q2_op *op)
{
	struct q2 *q = op->q;
	uint64_t unit = op->whole ? q->cs : q->sub;

	op->wend = MIN(op->lim, (op->g0 + op->gn) << q->cb);
	/* Subclusters that are there may be written in place meanwhile. */
	if (op->op == BLOCK_POPULATE)
		op->wend = op->pos + q2_lookup(q, op->pos, op->wend - op->pos).len;
	op->u0 = align_down(op->pos, unit);
	op->ulen = (uint32_t)(align_up(op->wend, unit) - op->u0);
	/* New clusters are zero, so only what was not has to be copied. */
	if (op->op != BLOCK_POPULATE &&
	    ((op->u0 == op->pos && op->u0 + op->ulen == op->wend) ||
	     (op->fresh && reads_zero(q, op->u0, op->pos) &&
	      reads_zero(q, op->wend, op->u0 + op->ulen)))) {
		data_next(op);
		return;
	}
	op->entry = 0;
	q2_get_buf(op, compose);
}

static void allocated(struct q2_op *op, int res)
{
	if (res == Q2_AGAIN) {
		q2_write_next(op);
	} else if (res == Q2_LOAD) {
		op->resume = q2_write_next;
		q2_load(op);
	} else if (res) {
		q2_op_end(op, res);
	} else {
		data_start(op);
	}
}

/* ---- in place ---- */

static void in_place_done(struct block_req *c, int ret)
{
	struct q2_op *op = container_of(c, struct q2_op, c);

	if (op->buf)
		q2_put_buf(op);
	if (ret) {
		q2_op_end(op, ret);
		return;
	}
	op->pos += op->len;
	q2_write_next(op);
}

static void in_place_gathered(struct q2_op *op)
{
	gather(op, op->buf->mem, op->len);
	op->v[0] = (struct iovec){ op->buf->mem, op->len };
	/* The cluster may be freed by now, but is not used again while we run. */
	q2_child(op, q2_data(op->q), BLOCK_WRITE, op->host, op->v, 1, op->len, in_place_done);
}

static void in_place(struct q2_op *op, const struct q2_extent *x)
{
	uint32_t want = (uint32_t)MIN(x->len, (uint64_t)INT32_MAX & ~511u), got = want;
	int n = op->op == BLOCK_WRITE ? q2_slice(op, &got) : 0;

	op->host = x->host;
	op->len = got ? got : (uint32_t)MIN((uint64_t)want, op->q->cs);
	op->entry = 0;
	if (got == 0)
		q2_get_buf(op, in_place_gathered);
	else
		q2_child(op, q2_data(op->q), op->op == BLOCK_WRITE ? BLOCK_WRITE :
			 BLOCK_WRITE_ZEROES, x->host, op->v, n, got, in_place_done);
}

/* Populating passes over what is this image's own, or zero. */
static bool nothing_to_take(const struct q2_op *op, const struct q2_extent *x)
{
	if (x->kind == Q2_UNALLOC)
		return !q2_backed(op->q, op->pos) && !(op->flags & BLOCK_EOF_ZEROES);
	return x->kind != Q2_UNLOADED && x->kind != Q2_BAD;
}

void q2_write_next(struct q2_op *op)
{
	struct q2 *q = op->q;
	struct q2_extent x;

	if (op->pos == op->lim) {
		op->then(op);
		return;
	}
	if (op->r->cancelled || atomic_load(&q->broken)) {
		q2_op_end(op, op->r->cancelled ? -ECANCELED : -EIO);
		return;
	}
	x = q2_lookup(q, op->pos, op->lim - op->pos);
	if (op->op == BLOCK_POPULATE && nothing_to_take(op, &x)) {
		op->pos += x.len;
		op->work.cb = wake_work;	/* no deeper on the stack */
		op->resume = q2_write_next;
		loop_defer(op->loop, &op->work);
		return;
	}
	/* Allocated clusters lie in the file: else a write would make it as long
	 * as the entry likes. */
	if (x.kind == Q2_DATA && !q->n.data.node &&
	    x.host >= align_up(atomic_load(&q->file_len), q->cs))
		x.kind = Q2_BAD;
	if (x.kind == Q2_BAD) {
		q2_op_end(op, q2_corrupt(q, op->pos, "L2 entry for the guest's bytes"));
	} else if (x.kind == Q2_UNLOADED) {
		op->need = q2_table_of(q, op->pos >> q->cb);
		op->resume = q2_write_next;
		q2_load(op);
	} else if (x.kind == Q2_DATA && (x.copied || q->n.data.node)) {
		in_place(op, &x);
	} else {
		q2_meta(op, alloc_step, allocated);
	}
}

static void write_end(struct q2_op *op)
{
	/* Durable when completed: data, and the way to it. */
	if (op->flags & BLOCK_FUA)
		q2_flush_start(op);
	else
		q2_op_end(op, 0);
}

void q2_write_start(struct q2_op *op)
{
	op->lim = op->end;
	op->then = write_end;
	q2_write_next(op);
}

/*
 * block/qcow2/zero.c - write-zeroes and discard.
 *
 * Spec:    docs/interop/qcow2.txt, "Standard Cluster Descriptor" (bit 0),
 *          "Subcluster Allocation Bitmap".
 * Threads: any loop; steps under meta may move to the worker.
 * Missing: parts of a cluster become zeroes by writing them, also where
 *          subclusters could be marked.
 *
 * Whole clusters become zeroes by their entry. Version 2 has no such mark:
 * there they are written, or deallocated where no backing file shines through.
 */
#include "block/qcow2/qcow2.h"

#include <errno.h>

/* Per step under meta, so that others get their turn. */
#define STEP_MAX	2048u	/* entries */
#define STEP_BYTES	(1 * GIB)

static void zero_next(struct q2_op *op);

/* An entry that reads as zeroes, keeping its host cluster with @keep. False:
 * it does already, and may stay. */
static bool zero_entry(struct q2 *q, uint64_t g, bool keep)
{
	uint64_t bitmap, e = q2_entry(q, g, &bitmap), zeroes = q->ext ? 0xffffffffull << 32 : 0;
	bool marked = q->ext ? bitmap == zeroes : e & OFLAG_ZERO;
	uint64_t host = e & (ENTRY_OFFSET | OFLAG_COPIED);

	if (!(e & OFLAG_COMPRESSED) && !(e & ENTRY_OFFSET) &&
	    (marked || (!(uint32_t)bitmap && !q2_backed(q, g << q->cb))))
		return false;
	if (keep && !(e & OFLAG_COMPRESSED) && (e & OFLAG_COPIED)) {
		if (!marked)
			q2_entry_set(q, g, host | (q->ext ? 0 : OFLAG_ZERO), zeroes);
		return true;
	}
	q2_drop(q, e);
	if (q2_backed(q, g << q->cb))
		q2_entry_set(q, g, q->ext ? 0 : OFLAG_ZERO, zeroes);
	else
		q2_entry_set(q, g, 0, 0);
	return true;
}

/* Whole clusters from op->pos; op->len becomes their bytes. */
static int zero_step(struct q2_op *op, bool may_block)
{
	struct q2 *q = op->q;
	uint64_t g = op->pos >> q->cb, first = g & (BIT64(q->l2_bits) - 1), n;
	uint32_t t = q2_table_of(q, g);
	bool keep = op->op == BLOCK_WRITE_ZEROES && !(op->flags & BLOCK_UNMAP);
	int r;

	/* The disk grew: its old last cluster is no longer all the request's. */
	op->len = 0;
	if ((op->lim & (q->cs - 1)) && op->lim != q->n.bytes)
		return 0;
	n = MIN((op->lim - op->pos + q->cs - 1) >> q->cb, BIT64(q->l2_bits) - first);
	n = MIN(n, (uint64_t)(STEP_BYTES >> q->cb));
	op->len = (uint32_t)MIN(n << q->cb, op->lim - op->pos);
	op->need = t;
	/* An empty table is not made to say "zero" where nothing is behind it. */
	if (!atomic_load(&q->l1[t]) && !q2_backed(q, op->pos))
		return 0;
	n = MIN(n, (uint64_t)STEP_MAX);
	op->len = (uint32_t)MIN(n << q->cb, op->lim - op->pos);
	if (atomic_load(&q->l1[t]) && !q2_is_loaded(q, t))
		return Q2_LOAD;
	op->resume = zero_next;
	if (q2_must_wait(op, g, n))
		return Q2_WAIT;
	r = q2_own_table(q, t, may_block);
	if (r)
		return r;
	for (uint64_t i = 0; i < n; i++)
		zero_entry(q, g + i, keep);
	return 0;
}

static void next_work(struct loop_work *w)
{
	zero_next(container_of(w, struct q2_op, work));
}

static void stepped(struct q2_op *op, int res)
{
	if (res == Q2_LOAD) {
		op->resume = zero_next;
		q2_load(op);
	} else if (res < 0) {
		q2_op_end(op, res);
	} else {
		op->pos += op->len;
		/* A large range takes many steps: one per turn of the loop, and
		 * none deeper on the stack than the last. */
		op->work.cb = next_work;
		loop_defer(op->loop, &op->work);
	}
}

/* A part of a cluster, or zeroes that have to be written: true when that is
 * under way, false when it is zero already. */
static bool write_part(struct q2_op *op, uint64_t end)
{
	struct q2 *q = op->q;
	struct q2_extent x = q2_lookup(q, op->pos, end - op->pos);

	if (x.kind == Q2_ZEROES || (x.kind == Q2_UNALLOC && !q2_backed(q, op->pos))) {
		op->pos += x.len;
		return false;
	}
	op->lim = end;
	op->then = zero_next;
	q2_write_next(op);
	return true;
}

static bool marks_zero(const struct q2_op *op)
{
	const struct q2 *q = op->q;

	if (q->n.data.node)
		return false;
	return q->h.version >= 3 || ((op->flags & BLOCK_UNMAP) && !q->n.backing.node);
}

static void zero_end(struct q2_op *op)
{
	if (op->flags & BLOCK_FUA)
		q2_flush_start(op);
	else
		q2_op_end(op, 0);
}

/* Is there a whole cluster at op->pos? @next: the end of its part. */
static bool whole_cluster(const struct q2_op *op, uint64_t *next)
{
	const struct q2 *q = op->q;

	*next = MIN(align_down(op->pos, q->cs) + q->cs, op->end);
	return !(op->pos & (q->cs - 1)) && (*next - op->pos == q->cs || *next == q->n.bytes);
}

static void zero_next(struct q2_op *op)
{
	struct q2 *q = op->q;
	uint64_t next;
	bool whole;

	while (op->pos < op->end) {
		if (op->r->cancelled) {
			q2_op_end(op, -ECANCELED);
			return;
		}
		whole = whole_cluster(op, &next);
		if (op->op == BLOCK_DISCARD &&
		    (!whole || q->n.data.node || (q->h.version < 3 && q->n.backing.node))) {
			/* Advice that cannot be followed without showing old
			 * data. */
			op->pos = whole ? op->end : next;
		} else if (whole && (op->op == BLOCK_DISCARD || marks_zero(op))) {
			op->lim = op->end == q->n.bytes ? op->end : align_down(op->end, q->cs);
			q2_meta(op, zero_step, stepped);
			return;
		} else if (write_part(op, next)) {
			return;
		}
	}
	zero_end(op);
}

void q2_zero_start(struct q2_op *op)
{
	zero_next(op);
}

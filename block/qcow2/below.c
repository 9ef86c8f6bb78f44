/*
 * block/qcow2/below.c - which node of a long chain has a cluster.
 *
 * Threads: any loop, without a lock.
 * Missing: nothing known.
 *
 * A read of something unallocated would ask each backing file in turn. Who
 * answered in the end is remembered per guest cluster, so that the next read
 * goes there at once and a chain of 500 files reads like one of two. One word
 * per cluster: the node's address, and above it 16 bits of the graph's
 * generation. Edges that change, and nodes that become writable, begin a new
 * generation, in which no older word counts (whoever changes the chain of a
 * disk in use has drained it first).
 */
#include <errno.h>
#include <sys/mman.h>

#include "block/qcow2/qcow2.h"

#define ADDRESS_BITS	48	/* of user space on x86-64 and arm64 */

static uint64_t words(const struct q2 *q)
{
	return q->below_words;
}

/* As many as the disk can have when it grows, or has now: behind these nothing is
 * learned. */
int q2_below_init(struct q2 *q)
{
	q->below_words = (uint64_t)q->table_room << q->l2_bits;
	q->below = sparse_map(words(q) * 8);
	if (q->below)
		return 0;
	q->below_words = (q->h.size + q->cs - 1) >> q->cb;
	q->below = sparse_map(words(q) * 8);
	return q->below ? 0 : -ENOMEM;
}

void q2_below_fini(struct q2 *q)
{
	sparse_unmap(q->below, words(q) * 8);
	q->below = NULL;
}

void q2_below_forget(struct block_node *n)
{
	struct q2 *q = (struct q2 *)n;

	madvise(q->below, MAX(words(q) * 8, (uint64_t)1), MADV_DONTNEED);
}

/* Clusters learned in one walk, at most. */
#define RUN_MAX		1024u

/* The node to ask for [pos, *end): nothing above it has any of that. *end comes
 * nearer where layers differ, but not below @least. */
static struct block_node *find(struct block_node *n, uint64_t pos, uint64_t least, uint64_t *end)
{
	struct q2_extent x;

	for (; n->backing.node && node_is_qcow2(n); n = n->backing.node) {
		/* What is not known yet, or may change at any time, it knows. */
		if (((struct q2 *)n)->writable || least > n->backing.node->bytes)
			break;
		x = q2_lookup((struct q2 *)n, pos, *end - pos);
		if (x.kind != Q2_UNALLOC || pos + x.len < least)
			break;
		*end = MIN(*end, pos + x.len);
		*end = MIN(*end, n->backing.node->bytes);
	}
	return n;
}

/* For the cluster of @pos. */
static struct block_node *answers(struct q2 *q, uint64_t pos)
{
	uint64_t g = pos >> q->cb, gen, w, least, end;
	struct block_node *n;

	if (g >= words(q))
		return NULL;
	gen = (uint64_t)atomic_load(&q->n.graph->generation) << ADDRESS_BITS;
	w = atomic_load_explicit(&q->below[g], memory_order_acquire);
	if (w && (w >> ADDRESS_BITS << ADDRESS_BITS) == gen)
		return (struct block_node *)(uintptr_t)(w & (BIT64(ADDRESS_BITS) - 1));
	least = MIN((g + 1) << q->cb, q->n.bytes);
	end = MIN((g + RUN_MAX) << q->cb, q->n.bytes);
	if (least > q->n.backing.node->bytes)
		return NULL;
	end = MIN(end, q->n.backing.node->bytes);
	n = find(q->n.backing.node, g << q->cb, least, &end);
	/* The whole of a cluster, or of the disk's last one. */
	for (; (uintptr_t)n >> ADDRESS_BITS == 0 && g << q->cb < end &&
	     MIN((g + 1) << q->cb, q->n.bytes) <= end && g < words(q); g++)
		atomic_store_explicit(&q->below[g], gen | (uintptr_t)n, memory_order_release);
	return n;
}

struct block_node *q2_below(struct q2 *q, uint64_t pos, uint64_t len)
{
	struct block_node *first, *next = q->n.backing.node;

	/* Nothing to skip. */
	if (!next->backing.node)
		return next;
	first = answers(q, pos);
	for (uint64_t at = align_down(pos, q->cs) + q->cs; first && at < pos + len; at += q->cs)
		if (answers(q, at) != first)
			return next;
	return first ? first : next;
}

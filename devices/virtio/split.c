/*
 * devices/virtio/split.c - the split ring: descriptor table, available ring,
 * used ring.
 *
 * Spec:    virtio 1.3 s2.7.
 * Threads: the queue's loop.
 */
#include <errno.h>

#include "devices/virtio/virtq_int.h"
#include "vmm/base/util.h"

/* s2.7: alignment and size of the parts. Both rings end in a 16-bit event
 * field, there also when VIRTIO_F_EVENT_IDX is not negotiated. */
static int split_start(struct virtq *q, const struct virtq_setup *s, struct err *e)
{
	size_t n = s->size;
	int ret;

	if (!is_pow2(n))
		return err_set(e, -EINVAL, "queue size %u is not a power of two", s->size);
	ret = ring_part(q->gm, "descriptor table", s->desc, DESC_BYTES * n,
			VRING_DESC_ALIGN_SIZE, false, &q->desc, e);
	if (ret == 0)
		ret = ring_part(q->gm, "available ring", s->driver, 6 + 2 * n,
				VRING_AVAIL_ALIGN_SIZE, false, &q->avail, e);
	if (ret == 0)
		ret = ring_part(q->gm, "used ring", s->device, 6 + 8 * n,
				VRING_USED_ALIGN_SIZE, true, &q->used, e);
	return ret;
}

static bool split_load(const struct virtq *q, const struct desc_table *t,
		       uint32_t i, struct ring_desc *d)
{
	uint64_t w[2];

	if (!desc_table_words(q, t, i, w))
		return false;
	d->addr = w[0];
	d->len = w[1];
	d->flags = w[1] >> 32;
	d->link = w[1] >> 48;
	return true;
}

/* Follow a chain through one table. Bounded by the number of entries: whoever
 * takes more steps has been somewhere twice (s2.7.5.2 forbids loops). */
static int split_walk(struct virtq *q, struct virtq_chain *c, const struct desc_table *t,
		      uint32_t i, struct ring_desc *indirect)
{
	uint32_t left = MIN(t->count, q->chain_max);
	struct ring_desc d;

	indirect->flags = 0;
	for (;;) {
		if (left-- == 0)
			return virtq_bad(q, "a chain loops or is longer than the queue");
		if (!split_load(q, t, i, &d))
			return virtq_bad(q, "an indirect table is outside RAM");
		if (d.flags & VRING_DESC_F_INDIRECT) {
			*indirect = d;
			return 0;
		}
		if (chain_add(q, c, &d) < 0)
			return -EBADMSG;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return 0;
		i = d.link;
		if (i >= t->count)
			return virtq_bad(q, "a next index is outside the table");
	}
}

/* Zero or more descriptors of the ring's own table, then possibly one that
 * names an indirect table (s2.7.5.3.2). */
static int split_chain(struct virtq *q, struct virtq_chain *c, uint16_t head)
{
	struct desc_table t = { .host = q->desc, .count = q->size };
	struct ring_desc d;

	if (split_walk(q, c, &t, head, &d) < 0)
		return -EBADMSG;
	if (!(d.flags & VRING_DESC_F_INDIRECT))
		return 0;
	if (desc_table_open(q, &d, &t) < 0 || split_walk(q, c, &t, 0, &d) < 0)
		return -EBADMSG;
	if (d.flags & VRING_DESC_F_INDIRECT)	/* s2.7.5.3.1 */
		return virtq_bad(q, "an indirect table inside an indirect table");
	return 0;
}

/* Is there an entry at avail_next? 1, 0 or -EBADMSG. */
static int split_available(struct virtq *q)
{
	if (q->avail_next != q->avail_seen)
		return 1;
	q->avail_seen = ring_load16_acquire(&q->avail->idx);
	if ((uint16_t)(q->avail_seen - q->avail_next) > q->size)
		return virtq_bad(q, "the available index ran ahead by more than the queue");
	return q->avail_next != q->avail_seen;
}

static int split_pop(struct virtq *q, struct virtq_chain *c)
{
	int ret = split_available(q);

	if (ret <= 0)
		return ret;
	c->head = ring_load16(&q->avail->ring[q->avail_next & (q->size - 1)]);
	if (c->head >= q->size)
		return virtq_bad(q, "a head index is outside the table");
	if (split_chain(q, c, c->head) < 0)
		return -EBADMSG;
	if (!virtq_claim(q, c->head))
		return virtq_bad(q, "a head index is in flight already");
	q->avail_next++;
	return 1;
}

static void split_push(struct virtq *q, const struct virtq_chain *c, uint32_t written)
{
	struct vring_used_elem *u = &q->used->ring[q->used_next & (q->size - 1)];

	ring_store32(&u->id, c->head);
	ring_store32(&u->len, written);
	q->used_next++;
}

static bool split_flush(struct virtq *q)
{
	uint16_t old = q->used_shown, event;

	q->used_shown = q->used_next;
	ring_store16_release(&q->used->idx, q->used_next);
	ring_full_barrier();
	if (!q->event_idx)	/* s2.7.7.2 */
		return !(ring_load16(&q->avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
	/* used_event stands behind the available ring: was the entry it names
	 * among those just written? */
	event = ring_load16(&q->avail->ring[q->size]);
	return (uint16_t)(event - old) < (uint16_t)(q->used_next - old);
}

/* With EVENT_IDX nothing needs doing: avail_event lies behind the driver's
 * index and names an entry that comes round only after 65535 others. */
static void split_disable_kick(struct virtq *q)
{
	if (!q->event_idx)
		ring_store16(&q->used->flags, VRING_USED_F_NO_NOTIFY);
}

static bool split_enable_kick(struct virtq *q)
{
	if (q->event_idx)	/* avail_event stands behind the used ring */
		ring_store16(&q->used->ring[q->size], q->avail_next);
	else
		ring_store16(&q->used->flags, 0);
	ring_full_barrier();
	return ring_load16(&q->avail->idx) != q->avail_next;
}

const struct virtq_format virtq_split = {
	.start = split_start, .pop = split_pop, .push = split_push,
	.flush = split_flush, .disable_kick = split_disable_kick,
	.enable_kick = split_enable_kick,
};

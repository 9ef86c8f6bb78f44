/*
 * devices/virtio/packed.c - the packed ring: one ring of descriptors that both
 * sides write, and two event suppression structures.
 *
 * Spec:    virtio 1.3 s2.8.
 * Threads: the queue's loop.
 *
 * The ring holds at most `size` descriptors that are available or in flight,
 * so the sum of the popped chains' descriptors never exceeds the size: a
 * driver that makes entries available over entries we still hold is caught by
 * that sum, whatever buffer ids it uses.
 */
#include <errno.h>

#include "devices/virtio/virtq_int.h"
#include "vmm/base/util.h"

#define F_AVAIL	(1u << VRING_PACKED_DESC_F_AVAIL)
#define F_USED	(1u << VRING_PACKED_DESC_F_USED)
#define WRAP	(1u << VRING_PACKED_EVENT_F_WRAP_CTR)

static int packed_start(struct virtq *q, const struct virtq_setup *s, struct err *e)
{
	int ret;

	/* s2.8.10.1: alignment and size; the size need not be a power of two. */
	ret = ring_part(q->gm, "descriptor ring", s->desc, (size_t)DESC_BYTES * s->size,
			VRING_DESC_ALIGN_SIZE, true, &q->desc, e);
	if (ret == 0)
		ret = ring_part(q->gm, "driver event suppression", s->driver,
				sizeof(*q->driver_event), 4, false, &q->driver_event, e);
	if (ret == 0)
		ret = ring_part(q->gm, "device event suppression", s->device,
				sizeof(*q->device_event), 4, true, &q->device_event, e);
	q->avail_wrap = q->used_wrap = q->shown_wrap = true;	/* s2.8.1 */
	return ret;
}

static struct vring_packed_desc *packed_at(const struct virtq *q, uint16_t pos)
{
	return (struct vring_packed_desc *)q->desc + pos;
}

/* Position and wrap counter, @n entries further. */
static void packed_step(const struct virtq *q, uint16_t *pos, bool *wrap, uint16_t n)
{
	uint32_t p = *pos + n;

	if (p >= q->size) {
		p -= q->size;
		*wrap = !*wrap;
	}
	*pos = p;
}

static bool packed_load(const struct virtq *q, const struct desc_table *t,
			uint32_t i, struct ring_desc *d)
{
	uint64_t w[2];

	if (!desc_table_words(q, t, i, w))
		return false;
	d->addr = w[0];
	d->len = w[1];
	d->link = w[1] >> 32;
	d->flags = w[1] >> 48;
	return true;
}

/* s2.8.1: available means AVAIL equals our wrap counter and USED does not. */
static bool packed_is_available(uint16_t flags, bool wrap)
{
	return !!(flags & F_AVAIL) == wrap && !!(flags & F_USED) != wrap;
}

/* s2.8.7: entries follow each other; all flags but WRITE, INDIRECT among
 * them, are reserved in here and ignored, so that nothing can nest. */
static int packed_table(struct virtq *q, struct virtq_chain *c, const struct ring_desc *d)
{
	struct desc_table t;
	struct ring_desc s;
	uint32_t i;

	if (desc_table_open(q, d, &t) < 0)
		return -EBADMSG;
	if (t.count > q->chain_max)
		return virtq_bad(q, "an indirect table is longer than the device takes");
	for (i = 0; i < t.count; i++) {
		if (!packed_load(q, &t, i, &s))
			return virtq_bad(q, "an indirect table is outside RAM");
		if (chain_add(q, c, &s) < 0)
			return -EBADMSG;
	}
	return 0;
}

/* Chained descriptors follow each other in the ring; the last one has the
 * buffer id (s2.8.6). Ends after the ring's free entries at the latest. */
static int packed_chain(struct virtq *q, struct virtq_chain *c)
{
	struct desc_table ring = { .host = q->desc, .count = q->size };
	uint16_t pos = q->avail_next;
	bool wrap = q->avail_wrap;
	struct ring_desc d;

	do {
		if (q->desc_inflight + c->ndesc >= q->size)
			return virtq_bad(q, "entries were made available over others in flight");
		packed_load(q, &ring, pos, &d);
		if (!(d.flags & VRING_DESC_F_INDIRECT)) {
			if (chain_add(q, c, &d) < 0)
				return -EBADMSG;
		} else if (c->ndesc) {	/* s2.8.18 */
			return virtq_bad(q, "an indirect descriptor inside a list");
		} else if (packed_table(q, c, &d) < 0) {
			return -EBADMSG;
		}
		c->ndesc++;
		packed_step(q, &pos, &wrap, 1);
	} while (d.flags & VRING_DESC_F_NEXT);
	c->head = d.link;
	if (!virtq_claim(q, c->head))
		return virtq_bad(q, "a buffer id is in flight already");
	q->avail_next = pos;
	q->avail_wrap = wrap;
	return 0;
}

static bool packed_has_more(const struct virtq *q)
{
	uint16_t flags = ring_load16_acquire(&packed_at(q, q->avail_next)->flags);

	return packed_is_available(flags, q->avail_wrap);
}

static int packed_pop(struct virtq *q, struct virtq_chain *c)
{
	if (!packed_has_more(q))
		return 0;
	if (packed_chain(q, c) < 0)
		return -EBADMSG;
	q->desc_inflight += c->ndesc;
	return 1;
}

/*
 * One used descriptor stands for the whole chain; the next one goes ndesc
 * entries further (s2.8.6). The driver looks at them in order, so keeping the
 * flags of a batch's first one back hides the batch until the flush.
 */
static void packed_push(struct virtq *q, const struct virtq_chain *c, uint32_t written)
{
	struct vring_packed_desc *d = packed_at(q, q->used_next);
	uint16_t flags = (written ? VRING_DESC_F_WRITE : 0) |
			 (q->used_wrap ? F_AVAIL | F_USED : 0);

	ring_store16(&d->id, c->head);
	ring_store32(&d->len, written);
	if (q->pushed == 0)
		q->first_flags = flags;
	else
		ring_store16(&d->flags, flags);
	packed_step(q, &q->used_next, &q->used_wrap, c->ndesc);
}

/* Was the entry that @off_wrap names among those used since the last flush?
 * Positions are counted modulo two rounds, the wrap counter being the round. */
static bool packed_event_passed(const struct virtq *q, uint16_t off_wrap)
{
	uint32_t round = 2u * q->size;
	uint32_t event = (off_wrap & ~WRAP) + (off_wrap & WRAP ? q->size : 0);
	uint32_t old = q->used_shown + (q->shown_wrap ? q->size : 0);
	uint32_t now = q->used_next + (q->used_wrap ? q->size : 0);

	if ((off_wrap & ~WRAP) >= q->size)	/* nonsense: better one too many */
		return true;
	return (event + round - old) % round < (now + round - old) % round;
}

static bool packed_flush(struct virtq *q)
{
	uint32_t event;
	bool notify;

	ring_store16_release(&packed_at(q, q->used_shown)->flags, q->first_flags);
	ring_full_barrier();
	/* One load, so that offset and flags belong together (s2.8.14). */
	event = ring_load32(q->driver_event);
	switch (event >> 16 & 3) {
	case VRING_PACKED_EVENT_FLAG_DISABLE:
		notify = false;
		break;
	case VRING_PACKED_EVENT_FLAG_DESC:
		notify = !q->event_idx || packed_event_passed(q, event);
		break;
	default:	/* enabled, or the reserved value */
		notify = true;
	}
	q->used_shown = q->used_next;
	q->shown_wrap = q->used_wrap;
	return notify;
}

static void packed_disable_kick(struct virtq *q)
{
	ring_store32(q->device_event, (uint32_t)VRING_PACKED_EVENT_FLAG_DISABLE << 16);
}

static bool packed_enable_kick(struct virtq *q)
{
	uint32_t event = VRING_PACKED_EVENT_FLAG_ENABLE << 16;

	if (q->event_idx)
		event = (uint32_t)VRING_PACKED_EVENT_FLAG_DESC << 16 |
			(q->avail_wrap ? WRAP : 0) | q->avail_next;
	ring_store32(q->device_event, event);
	ring_full_barrier();
	return packed_has_more(q);
}

const struct virtq_format virtq_packed = {
	.start = packed_start, .pop = packed_pop, .push = packed_push,
	.flush = packed_flush, .disable_kick = packed_disable_kick,
	.enable_kick = packed_enable_kick,
	.ids = 65536,	/* s2.8.5 puts no bound on buffer ids */
};

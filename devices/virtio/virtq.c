/*
 * devices/virtio/virtq.c - virtqueues: slots, chains, and the way to the two
 * ring formats in split.c and packed.c.
 *
 * Spec:    virtio 1.3 s2.6 to s2.8.
 * Threads: a live queue belongs to one loop; no locks.
 * Missing: VIRTIO_F_IN_ORDER (not offered).
 */
#include "devices/virtio/virtq.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "devices/virtio/virtq_int.h"
#include "vmm/base/sparse.h"
#include "vmm/base/util.h"

#define SLOT_ALIGN	64	/* a cache line: slots finish in any order */

/* ---- set-up ---- */

int ring_part(const struct gmem *gm, const char *name, gpa_t a, size_t bytes,
	      unsigned int align, bool write, void *ptr, struct err *e)
{
	void *p;

	if (a.v % align)
		return err_set(e, -EINVAL, "%s at 0x%llx is not aligned to %u bytes",
			       name, (unsigned long long)a.v, align);
	p = gmem_ptr(gm, a, bytes, write);
	if (!p)
		return err_set(e, -EFAULT, "%s at 0x%llx, %zu bytes, is not in RAM",
			       name, (unsigned long long)a.v, bytes);
	memcpy(ptr, &p, sizeof(p));
	return 0;
}

static void slots_create(struct virtq *q, const struct virtq_setup *s)
{
	uint32_t ids = q->format->ids ? q->format->ids : q->size;
	uint16_t i;

	q->priv_off = align_up(sizeof(struct virtq_chain), SLOT_ALIGN);
	q->iov_off = q->priv_off + align_up(s->priv_bytes, SLOT_ALIGN);
	q->slot_bytes = align_up(q->iov_off + s->iov_max * sizeof(struct iovec),
				 SLOT_ALIGN);
	q->slots = xcalloc(q->size, q->slot_bytes);
	sparse_keep(q->slots, q->size * q->slot_bytes);
	q->busy = xcalloc((ids + 63) / 64, sizeof(*q->busy));
	q->free = xcalloc(q->size, sizeof(*q->free));
	/* Slot 0 on top. */
	for (i = 0; i < q->size; i++)
		q->free[i] = q->size - 1 - i;
	q->nfree = q->size;
}

int virtq_start(struct virtq **out, const struct gmem *gm,
		const struct virtq_setup *s, struct err *e)
{
	struct virtq *q;
	int ret;

	*out = NULL;
	if (s->size == 0 || s->size > VIRTQ_SIZE_MAX)
		return err_set(e, -EINVAL, "queue size %u is not 1..%u", s->size,
			       VIRTQ_SIZE_MAX);
	assert(s->iov_max > 0);
	q = xcalloc(1, sizeof(*q));
	q->format = s->packed ? &virtq_packed : &virtq_split;
	q->gm = gm;
	q->size = s->size;
	q->event_idx = s->event_idx;
	q->indirect = s->indirect;
	q->iov_max = s->iov_max;
	/* s2.7.5.3.1: a chain is no longer than the queue. Drivers do exceed
	 * that in indirect tables; what the device's iovec can take is fine. */
	q->chain_max = MAX((uint32_t)s->size, (uint32_t)s->iov_max);
	ret = q->format->start(q, s, e);
	if (ret < 0) {
		free(q);
		return ret;
	}
	slots_create(q, s);
	*out = q;
	return 0;
}

void virtq_stop(struct virtq *q)
{
	if (!q)
		return;
	assert(virtq_inflight(q) == 0);
	free(q->free);
	free(q->busy);
	free(q->slots);
	free(q);
}

/* ---- slots ---- */

static struct virtq_chain *slot_at(const struct virtq *q, uint16_t slot)
{
	return (struct virtq_chain *)(q->slots + slot * q->slot_bytes);
}

static struct virtq_chain *slot_take(struct virtq *q)
{
	struct virtq_chain *c;

	if (q->nfree == 0)
		return NULL;
	c = slot_at(q, q->free[--q->nfree]);
	c->q = q;
	c->ndesc = c->out_n = c->in_n = 0;
	c->out_bytes = c->in_bytes = 0;
	c->priv = (uint8_t *)c + q->priv_off;
	c->iov = (struct iovec *)((uint8_t *)c + q->iov_off);
	return c;
}

static void slot_put(struct virtq *q, struct virtq_chain *c)
{
	c->q = NULL;
	q->free[q->nfree++] = ((uint8_t *)c - q->slots) / q->slot_bytes;
}

bool virtq_claim(struct virtq *q, uint16_t id)
{
	uint64_t bit = BIT64(id % 64);

	if (q->busy[id / 64] & bit)
		return false;
	q->busy[id / 64] |= bit;
	return true;
}

/* ---- chains ---- */

int virtq_bad(struct virtq *q, const char *why)
{
	q->error = why;
	return -EBADMSG;
}

/*
 * A zero-length descriptor is legal, as nothing in s2.7.5 or s2.8.5 forbids
 * it, and describes no bytes: it takes no iovec entry and its address is not
 * looked at.
 */
int chain_add(struct virtq *q, struct virtq_chain *c, const struct ring_desc *d)
{
	bool in = d->flags & VRING_DESC_F_WRITE;
	int used = c->out_n + c->in_n, n;

	if (d->len == 0)
		return 0;
	if (!in && c->in_n)	/* s2.7.4.2, s2.8.17 */
		return virtq_bad(q, "a readable descriptor follows a writable one");
	/* s2.7.5.2: 2^32 bytes in total at most. We stop one byte short, so
	 * that 32 bits hold every sum. */
	if ((uint64_t)c->out_bytes + c->in_bytes + d->len > UINT32_MAX)
		return virtq_bad(q, "a chain is longer than 2^32 bytes");
	n = gmem_pin(q->gm, gpa(d->addr), d->len, in, c->iov + used, q->iov_max - used);
	if (n == -E2BIG)
		return virtq_bad(q, "a chain has more segments than the device takes");
	if (n < 0)
		return virtq_bad(q, "a descriptor points outside RAM");
	if (in) {
		c->in_n += n;
		c->in_bytes += d->len;
	} else {
		c->out_n += n;
		c->out_bytes += d->len;
	}
	return 0;
}

int desc_table_open(struct virtq *q, const struct ring_desc *d, struct desc_table *t)
{
	if (!q->indirect)
		return virtq_bad(q, "an indirect descriptor, but the feature is off");
	if (d->flags & VRING_DESC_F_NEXT)	/* s2.7.5.3.1 */
		return virtq_bad(q, "an indirect descriptor has NEXT set");
	if (d->len == 0 || d->len % DESC_BYTES)
		return virtq_bad(q, "an indirect table's length is no multiple of 16");
	t->host = gmem_ptr(q->gm, gpa(d->addr), d->len, false);
	t->base = gpa(d->addr);
	t->count = d->len / DESC_BYTES;
	t->indirect = true;
	return 0;
}

bool desc_table_words(const struct virtq *q, const struct desc_table *t,
		      uint32_t i, uint64_t w[2])
{
	const uint8_t *p;
	uint64_t copy[2];

	if (t->host) {
		p = t->host + (size_t)i * DESC_BYTES;
		w[0] = ring_word(p);
		w[1] = ring_word(p + 8);
		return true;
	}
	/* The table crosses from one region of RAM to the next, or is not RAM. */
	if (gmem_read(q->gm, gpa_add(t->base, (uint64_t)i * DESC_BYTES), copy, sizeof(copy)))
		return false;
	w[0] = le64toh(copy[0]);
	w[1] = le64toh(copy[1]);
	return true;
}

/* ---- the device's side ---- */

int virtq_pop(struct virtq *q, struct virtq_chain **out)
{
	struct virtq_chain *c = slot_take(q);
	int ret;

	*out = NULL;
	/* Every descriptor is in flight. A driver that has made one more
	 * available broke its ring, and is found out when a slot is free. */
	if (!c)
		return 0;
	ret = q->format->pop(q, c);
	if (ret <= 0) {
		slot_put(q, c);
		return ret;
	}
	*out = c;
	return 1;
}

void virtq_drop(struct virtq *q, struct virtq_chain *c)
{
	assert(c->q == q);	/* a chain is given back once */
	q->busy[c->head / 64] &= ~BIT64(c->head % 64);
	q->desc_inflight -= c->ndesc;
	slot_put(q, c);
}

void virtq_push(struct virtq *q, struct virtq_chain *c, uint32_t written)
{
	assert(c->q == q);
	q->format->push(q, c, written);
	q->pushed++;
	virtq_drop(q, c);
}

bool virtq_flush(struct virtq *q)
{
	if (!q->pushed)
		return false;
	q->pushed = 0;
	return q->format->flush(q);
}

void virtq_disable_kick(struct virtq *q)
{
	q->format->disable_kick(q);
}

bool virtq_enable_kick(struct virtq *q)
{
	bool more = q->format->enable_kick(q);

	/* With every slot in flight there cannot be more (see virtq_pop());
	 * a driver that pretends so is not to keep us asking. */
	return more && q->nfree;
}

const char *virtq_error(const struct virtq *q)
{
	return q->error ? q->error : "no error";
}

uint16_t virtq_inflight(const struct virtq *q)
{
	return q->size - q->nfree;
}

uint16_t virtq_size(const struct virtq *q)
{
	return q->size;
}

struct virtq_chain *virtq_slot(struct virtq *q, uint16_t slot)
{
	struct virtq_chain *c = slot_at(q, slot);

	assert(slot < q->size);
	return c->q ? c : NULL;
}

void virtq_get_base(const struct virtq *q, uint16_t *avail, uint16_t *used)
{
	uint16_t wrap = 1u << VRING_PACKED_EVENT_F_WRAP_CTR;
	bool packed = q->format == &virtq_packed;

	*avail = q->avail_next | (packed && q->avail_wrap ? wrap : 0);
	*used = q->used_next | (packed && q->used_wrap ? wrap : 0);
}

size_t chain_read(const struct virtq_chain *c, size_t off, void *buf, size_t len)
{
	return iov_to_buf(c->iov, c->out_n, off, buf, len);
}

size_t chain_write(const struct virtq_chain *c, size_t off, const void *buf, size_t len)
{
	return iov_from_buf(c->iov + c->out_n, c->in_n, off, buf, len);
}

/*
 * tests/dev/lib_virtio_ring.c - the driver's side of a virtqueue.
 */
#include "tests/dev/lib_virtio_ring.h"

#include <assert.h>
#include <string.h>

#include "vmm/base/util.h"

static struct vring_desc *sdesc(struct drv_ring *r, uint16_t i)
{
	return (struct vring_desc *)r->desc_host + i;
}

static struct vring_packed_desc *pdesc(struct drv_ring *r, uint16_t i)
{
	return (struct vring_packed_desc *)r->desc_host + i;
}

static struct vring_avail *avail(struct drv_ring *r)
{
	return (struct vring_avail *)r->driver_host;
}

static struct vring_used *used(struct drv_ring *r)
{
	return (struct vring_used *)r->device_host;
}

static uint16_t load16(const void *p)
{
	return __atomic_load_n((const uint16_t *)p, __ATOMIC_SEQ_CST);
}

static void store16(void *p, uint16_t v)
{
	__atomic_store_n((uint16_t *)p, v, __ATOMIC_SEQ_CST);
}

void drv_ring_init(struct drv_ring *r, struct gmem *gm, uint64_t at,
		   uint16_t size, bool packed, bool event_idx)
{
	uint16_t i;

	memset(r, 0, sizeof(*r));
	assert(size <= DRV_SIZE_MAX);
	r->gm = gm;
	r->size = size;
	r->packed = packed;
	r->event_idx = event_idx;
	r->desc = at;
	r->driver = at + 0x8000;
	r->device = at + 0xc000;
	assert(gmem_zero(gm, gpa(at), DRV_RING_BYTES) == 0);
	r->desc_host = gmem_ptr(gm, gpa(r->desc), 16 * size, true);
	r->driver_host = gmem_ptr(gm, gpa(r->driver), 6 + 2 * size, true);
	r->device_host = gmem_ptr(gm, gpa(r->device), 6 + 8 * size, true);
	assert(r->desc_host && r->driver_host && r->device_host);
	r->avail_wrap = r->used_wrap = r->kicked_wrap = true;
	for (i = 0; i < size; i++)
		r->free[i] = size - 1 - i;
	r->nfree = r->room = size;
}

/* ---- adding ---- */

void drv_put_entry(struct drv_ring *r, uint64_t table, uint32_t i, uint64_t addr,
		   uint32_t len, uint16_t flags, uint16_t link)
{
	uint64_t high = r->packed ? (uint64_t)flags << 48 | (uint64_t)link << 32 | len :
				    (uint64_t)link << 48 | (uint64_t)flags << 32 | len;
	uint64_t w[2] = { htole64(addr), htole64(high) };
	uint64_t at = table + 16ull * i, *host = gmem_ptr(r->gm, gpa(at), 16, true);

	if (!host || (uintptr_t)host % 8) {
		assert(gmem_write(r->gm, gpa(at), w, 16) == 0);
		return;
	}
	/* The device may be looking: single stores, as a CPU makes them. */
	__atomic_store_n(host, w[0], __ATOMIC_RELAXED);
	__atomic_store_n(host + 1, w[1], __ATOMIC_RELAXED);
}

void drv_put_desc(struct drv_ring *r, uint16_t i, uint64_t addr, uint32_t len,
		  uint16_t flags, uint16_t link)
{
	drv_put_entry(r, r->desc, i, addr, len, flags, link);
}

void drv_table(struct drv_ring *r, uint64_t table, const struct drv_buf *b, int n)
{
	int i;

	for (i = 0; i < n; i++)
		drv_put_entry(r, table, i, b[i].addr, b[i].len,
			      (b[i].write ? VRING_DESC_F_WRITE : 0) |
			      (i + 1 < n && !r->packed ? VRING_DESC_F_NEXT : 0),
			      r->packed ? 0 : i + 1);
}

static uint16_t avail_bits(bool wrap)
{
	return wrap ? DRV_F_AVAIL : DRV_F_USED;
}

static void packed_advance(struct drv_ring *r, uint16_t *pos, bool *wrap, uint16_t n)
{
	*pos += n;
	if (*pos >= r->size) {
		*pos -= r->size;
		*wrap = !*wrap;
	}
}

void drv_set_avail_idx(struct drv_ring *r, uint16_t idx)
{
	r->avail_next = idx;
	store16(&avail(r)->idx, idx);
}

void drv_offer(struct drv_ring *r, uint16_t i, uint16_t n)
{
	if (r->packed) {
		uint16_t flags = pdesc(r, i)->flags & ~(DRV_F_AVAIL | DRV_F_USED);

		store16(&pdesc(r, i)->flags, flags | avail_bits(r->avail_wrap));
		packed_advance(r, &r->avail_next, &r->avail_wrap, n);
	} else {
		avail(r)->ring[r->avail_next & (r->size - 1)] = i;
		drv_set_avail_idx(r, r->avail_next + 1);
	}
}

static uint16_t split_add(struct drv_ring *r, const struct drv_buf *b, int n)
{
	uint16_t head = 0, at = 0, i;

	assert(n > 0 && n <= r->nfree);
	for (i = 0; i < n; i++) {
		uint16_t d = r->free[--r->nfree];

		if (i == 0) {
			head = d;
		} else {
			r->link[at] = d;
			sdesc(r, at)->next = htole16(d);
			sdesc(r, at)->flags |= htole16(VRING_DESC_F_NEXT);
		}
		drv_put_desc(r, d, b[i].addr, b[i].len,
			     b[i].write ? VRING_DESC_F_WRITE : 0, 0);
		at = d;
	}
	r->chain[head] = n;
	drv_offer(r, head, n);
	return head;
}

static uint16_t packed_add(struct drv_ring *r, const struct drv_buf *b, int n, uint16_t extra)
{
	uint16_t id = r->free[--r->nfree], first = r->avail_next, pos = first;
	bool wrap = r->avail_wrap;
	int i;

	assert(n > 0 && n <= r->room);
	for (i = 0; i < n; i++) {
		uint16_t flags = (b[i].write ? VRING_DESC_F_WRITE : 0) | extra |
				 (i + 1 < n ? VRING_DESC_F_NEXT : 0);

		/* The first one turns available last (s2.8.21.1). */
		drv_put_desc(r, pos, b[i].addr, b[i].len,
			     i ? flags | avail_bits(wrap) : flags | (wrap ? 0 : DRV_F_AVAIL),
			     i + 1 < n ? 0 : id);
		packed_advance(r, &pos, &wrap, 1);
	}
	r->chain[id] = n;
	r->room -= n;
	drv_offer(r, first, n);
	return id;
}

uint16_t drv_add(struct drv_ring *r, const struct drv_buf *b, int n)
{
	return r->packed ? packed_add(r, b, n, 0) : split_add(r, b, n);
}

uint16_t drv_add_indirect(struct drv_ring *r, const struct drv_buf *b, int n, uint64_t table)
{
	struct drv_buf t = { table, 16 * n, false };
	uint16_t d;

	drv_table(r, table, b, n);
	if (r->packed)
		return packed_add(r, &t, 1, VRING_DESC_F_INDIRECT);
	d = r->free[--r->nfree];
	drv_put_desc(r, d, table, 16 * n, VRING_DESC_F_INDIRECT, 0);
	r->chain[d] = 1;
	drv_offer(r, d, 1);
	return d;
}

/* ---- used buffers ---- */

static bool split_used(struct drv_ring *r, uint16_t *id, uint32_t *len)
{
	struct vring_used_elem *u;
	uint16_t d, n;

	if (load16(&used(r)->idx) == r->used_next)
		return false;
	u = &used(r)->ring[r->used_next++ & (r->size - 1)];
	*len = le32toh(u->len);
	*id = d = le32toh(u->id);
	assert(d < r->size);
	for (n = r->chain[*id]; n; n--, d = r->link[d])
		r->free[r->nfree++] = d;
	r->chain[*id] = 0;
	return true;
}

static bool packed_used(struct drv_ring *r, uint16_t *id, uint32_t *len)
{
	struct vring_packed_desc *d = pdesc(r, r->used_next);
	uint16_t flags = load16(&d->flags), n;

	if (!!(flags & DRV_F_AVAIL) != r->used_wrap || !!(flags & DRV_F_USED) != r->used_wrap)
		return false;
	*id = le16toh(d->id);
	*len = le32toh(d->len);
	assert(*id < r->size);
	n = r->chain[*id];
	r->chain[*id] = 0;
	r->free[r->nfree++] = *id;
	r->room += n;
	packed_advance(r, &r->used_next, &r->used_wrap, n);
	return true;
}

bool drv_used(struct drv_ring *r, uint16_t *id, uint32_t *len)
{
	return r->packed ? packed_used(r, id, len) : split_used(r, id, len);
}

/* ---- notifications ---- */

static bool packed_wants_kick(struct drv_ring *r)
{
	struct vring_packed_desc_event *e = (void *)r->device_host;
	uint16_t off = load16(&e->off_wrap) & 0x7fff, flags = load16(&e->flags);
	bool wrap = load16(&e->off_wrap) & 0x8000;
	uint16_t pos = r->kicked_at;
	bool w = r->kicked_wrap;

	if (flags != VRING_PACKED_EVENT_FLAG_DESC)
		return flags == VRING_PACKED_EVENT_FLAG_ENABLE;
	/* Walk over what was added: is the event's position among it? */
	for (; pos != r->avail_next || w != r->avail_wrap; packed_advance(r, &pos, &w, 1))
		if (pos == off && w == wrap)
			return true;
	return false;
}

bool drv_wants_kick(struct drv_ring *r)
{
	uint16_t event, i;
	bool yes = false;

	if (r->packed) {
		yes = packed_wants_kick(r);
	} else if (!r->event_idx) {
		yes = !(load16(&used(r)->flags) & VRING_USED_F_NO_NOTIFY);
	} else {
		event = load16(&used(r)->ring[r->size]);
		for (i = r->kicked_at; i != r->avail_next; i++)
			yes |= i == event;
	}
	r->kicked_at = r->avail_next;
	r->kicked_wrap = r->avail_wrap;
	return yes;
}

static void event_put(struct drv_ring *r, uint16_t off_wrap, uint16_t flags)
{
	struct vring_packed_desc_event *e = (void *)r->driver_host;

	e->off_wrap = htole16(off_wrap);
	store16(&e->flags, flags);
}

void drv_irq_off(struct drv_ring *r)
{
	if (r->packed)
		event_put(r, 0, VRING_PACKED_EVENT_FLAG_DISABLE);
	else if (r->event_idx)	/* half the index space away */
		store16(&avail(r)->ring[r->size], r->used_next + 0x8000);
	else
		store16(&avail(r)->flags, VRING_AVAIL_F_NO_INTERRUPT);
}

void drv_irq_on(struct drv_ring *r)
{
	if (r->packed)
		event_put(r, 0, VRING_PACKED_EVENT_FLAG_ENABLE);
	else if (r->event_idx)
		drv_irq_at(r, 0);
	else
		store16(&avail(r)->flags, 0);
}

void drv_irq_at(struct drv_ring *r, uint16_t ahead)
{
	uint16_t pos = r->used_next;
	bool wrap = r->used_wrap;

	if (!r->packed) {
		store16(&avail(r)->ring[r->size], r->used_next + ahead);
		return;
	}
	packed_advance(r, &pos, &wrap, ahead);
	event_put(r, pos | (wrap ? 0x8000 : 0), VRING_PACKED_EVENT_FLAG_DESC);
}

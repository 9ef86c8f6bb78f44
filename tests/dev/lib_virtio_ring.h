/*
 * tests/dev/lib_virtio_ring.h - the driver's side of a virtqueue, both formats.
 *
 * Written from the specification's driver requirements (virtio 1.3 s2.7.13,
 * s2.8.21), not from the device's code. The careful calls keep every rule; the
 * raw ones write what a hostile driver would.
 */
#ifndef TESTS_DEV_LIB_VIRTIO_RING_H
#define TESTS_DEV_LIB_VIRTIO_RING_H

#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/gmem.h"

#define DRV_SIZE_MAX	1024
#define DRV_RING_BYTES	0x10000u	/* guest memory one ring takes at most */
#define DRV_F_AVAIL	(1u << VRING_PACKED_DESC_F_AVAIL)
#define DRV_F_USED	(1u << VRING_PACKED_DESC_F_USED)

/* A piece of a buffer; @write: for the device to write. */
struct drv_buf {
	uint64_t addr;
	uint32_t len;
	bool write;
};

struct drv_ring {
	struct gmem *gm;
	bool packed, event_idx;
	uint16_t size;
	uint64_t desc, driver, device;	/* guest addresses of the parts */
	uint8_t *desc_host, *driver_host, *device_host;
	uint16_t avail_next, used_next;	/* index or position */
	bool avail_wrap, used_wrap;
	uint16_t kicked_at;		/* avail_next when last asked about a kick */
	bool kicked_wrap;
	uint16_t free[DRV_SIZE_MAX];	/* stack of descriptors (split), ids (packed) */
	uint16_t nfree;
	uint16_t room;			/* packed: ring entries free */
	uint16_t chain[DRV_SIZE_MAX];	/* by head or id: descriptors it took */
	uint16_t link[DRV_SIZE_MAX];	/* split: our copy of next */
};

/* A fresh ring of @size at guest address @at. */
void drv_ring_init(struct drv_ring *r, struct gmem *gm, uint64_t at,
		   uint16_t size, bool packed, bool event_idx);

/* Make a buffer available; returns its head or id. */
uint16_t drv_add(struct drv_ring *r, const struct drv_buf *b, int n);
/* The same through an indirect table at guest address @table. */
uint16_t drv_add_indirect(struct drv_ring *r, const struct drv_buf *b, int n, uint64_t table);
/* Fill an indirect table in the ring's format. */
void drv_table(struct drv_ring *r, uint64_t table, const struct drv_buf *b, int n);
/* The next used buffer, if there is one. */
bool drv_used(struct drv_ring *r, uint16_t *id, uint32_t *len);

/* Does the device ask for a kick for what was added since the last call? */
bool drv_wants_kick(struct drv_ring *r);
/* Ask for interrupts: never, always, or when the @ahead'th used descriptor from
 * now on is written (0: the next one; EVENT_IDX only). */
void drv_irq_off(struct drv_ring *r);
void drv_irq_on(struct drv_ring *r);
void drv_irq_at(struct drv_ring *r, uint16_t ahead);

/* ---- raw ---- */

/* Descriptor @i of the ring: @link is next (split) or the id (packed). */
void drv_put_desc(struct drv_ring *r, uint16_t i, uint64_t addr, uint32_t len,
		  uint16_t flags, uint16_t link);
/* Entry @i of an indirect table. */
void drv_put_entry(struct drv_ring *r, uint64_t table, uint32_t i, uint64_t addr,
		   uint32_t len, uint16_t flags, uint16_t link);
/* Offer the chain that starts with the descriptor written last at @i: split:
 * puts head @i in the available ring; packed: @i must be avail_next, and its
 * flags get the availability bits. @n descriptors (packed). */
void drv_offer(struct drv_ring *r, uint16_t i, uint16_t n);
void drv_set_avail_idx(struct drv_ring *r, uint16_t idx);	/* split */

#endif

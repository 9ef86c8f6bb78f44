/*
 * devices/virtio/virtq.h - the one virtqueue walker: split and packed rings.
 *
 * Spec:    virtio 1.3 s2.7 (split), s2.8 (packed).
 * Threads: a live queue belongs to one loop; no locks. Set-up and stop happen
 *          while no loop runs it.
 *
 * The guest's rings are hostile. A chain is copied once into a slot that was
 * allocated when the queue was set up (one per descriptor, so the memory in
 * flight is bounded by the queue size); a head that is in flight already, an
 * index out of range, a loop, a nested indirect table or an address outside
 * RAM makes virtq_pop() fail with -EBADMSG: the caller marks the device
 * NEEDS_RESET, in one place (virtio_broken()).
 */
#ifndef DEVICES_VIRTIO_VIRTQ_H
#define DEVICES_VIRTIO_VIRTQ_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/base/err.h"
#include "vmm/core/gmem.h"

#define VIRTQ_SIZE_MAX	1024	/* what roost offers; the ring format allows 32768 */

struct virtq;

/*
 * One chain of buffers, device-readable parts first (s2.7.4.2), as an iovec of
 * guest memory. Lives in its queue's slot from virtq_pop() to virtq_push().
 */
struct virtq_chain {
	struct virtq *q;
	uint16_t head;		/* descriptor index (split) or buffer id (packed) */
	uint16_t ndesc;		/* descriptors the chain took (packed ring) */
	uint16_t out_n, in_n;	/* iovec entries: readable, then writable */
	uint32_t out_bytes, in_bytes;
	struct iovec *iov;	/* out_n + in_n entries, owned by the slot */
	void *priv;		/* the device's preallocated request for this slot */
};

/* Addresses and size as the driver gave them, latched at enable. */
struct virtq_setup {
	uint16_t size;
	gpa_t desc, driver, device;
	bool packed, event_idx, indirect;
	uint16_t iov_max;	/* segments per chain the device accepts */
	size_t priv_bytes;	/* device bytes per slot */
};

/* Check that all ring parts are RAM and aligned, allocate the slots. */
int virtq_start(struct virtq **out, const struct gmem *gm,
		const struct virtq_setup *s, struct err *e);
/* Free; nothing may be in flight. NULL is allowed. */
void virtq_stop(struct virtq *q);

/* Next available chain: 1 and *c, 0 when there is none, -EBADMSG when the ring
 * or the chain breaks the specification; virtq_error() then says how. */
int virtq_pop(struct virtq *q, struct virtq_chain **c);
const char *virtq_error(const struct virtq *q);
/* Give a chain back with @written bytes; the slot is free afterwards. Visible
 * to the driver at the next virtq_flush(). */
void virtq_push(struct virtq *q, struct virtq_chain *c, uint32_t written);
/* Forget a chain: the slot is free afterwards, the driver is told nothing. For
 * queues that are being reset. */
void virtq_drop(struct virtq *q, struct virtq_chain *c);
/* Publish pushed chains; true when the driver wants an interrupt. */
bool virtq_flush(struct virtq *q);

/* Suppress or ask for kicks. virtq_enable_kick() returns true when chains
 * arrived meanwhile: then pop again instead of waiting. */
void virtq_disable_kick(struct virtq *q);
bool virtq_enable_kick(struct virtq *q);

uint16_t virtq_inflight(const struct virtq *q);
uint16_t virtq_size(const struct virtq *q);
/* The chain in slot 0..size-1, NULL when the slot is free. For a device that
 * looks for its requests; their memory was zeroed when the queue started. */
struct virtq_chain *virtq_slot(struct virtq *q, uint16_t slot);

/* Position state for save and for vhost hand-over: available index, used
 * index (packed: with wrap counters in bit 15). */
void virtq_get_base(const struct virtq *q, uint16_t *avail, uint16_t *used);

/* Copies into and out of a chain: @off counts from the first readable (out)
 * or writable (in) byte; returns the bytes copied, short at the chain's end. */
size_t chain_read(const struct virtq_chain *c, size_t off, void *buf, size_t len);
size_t chain_write(const struct virtq_chain *c, size_t off, const void *buf, size_t len);

#endif

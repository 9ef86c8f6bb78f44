/*
 * devices/virtio/virtq_int.h - what the two ring formats share.
 *
 * Spec:    virtio 1.3 s2.7 (split), s2.8 (packed).
 * Threads: see virtq.h.
 *
 * Only virtq.c, split.c and packed.c include this file.
 *
 * Everything in the rings may change while it is read: each field is loaded
 * once, by one machine load, into a local; the local is checked and used.
 */
#ifndef DEVICES_VIRTIO_VIRTQ_INT_H
#define DEVICES_VIRTIO_VIRTQ_INT_H

#include <endian.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/virtio/virtq.h"

#define DESC_BYTES	16u	/* both formats (s2.7.5, s2.8.13) */

struct virtq_format;

struct virtq {
	const struct virtq_format *format;
	const struct gmem *gm;
	const char *error;	/* why the last pop failed; a literal */
	bool event_idx, indirect;
	bool avail_wrap, used_wrap;	/* packed: the wrap counters (s2.8.1) */
	uint16_t size;
	uint16_t iov_max;	/* entries of each slot's iovec */
	uint32_t chain_max;	/* descriptors one chain may walk through */

	/* The parts of the ring, resolved once; guest memory. */
	uint8_t *desc;
	struct vring_avail *avail;	/* split */
	struct vring_used *used;
	struct vring_packed_desc_event *driver_event, *device_event; /* packed */

	uint16_t avail_next;	/* next to pop: index (split), position (packed) */
	uint16_t avail_seen;	/* split: avail->idx as last loaded */
	uint16_t used_next;	/* next to write: index or position */
	uint16_t used_shown;	/* split: used->idx; packed: used_next at the
				 * last flush */
	bool shown_wrap;	/* packed: wrap counter that goes with it */
	uint16_t first_flags;	/* packed: flags of the batch's first used
				 * descriptor, at used_shown, kept back */
	uint32_t pushed;	/* since the last flush */
	uint32_t desc_inflight;	/* packed: ring entries of popped chains */

	/* One slot per descriptor. Slots are taken last in first out, so a
	 * shallow queue keeps touching the same few pages. */
	uint8_t *slots;
	size_t slot_bytes, priv_off, iov_off;
	uint16_t *free;		/* stack of free slot numbers */
	uint16_t nfree;
	uint64_t *busy;		/* bitmap of heads (split) or ids (packed) in flight */
};

struct virtq_format {
	int (*start)(struct virtq *q, const struct virtq_setup *s, struct err *e);
	int (*pop)(struct virtq *q, struct virtq_chain *c);
	void (*push)(struct virtq *q, const struct virtq_chain *c, uint32_t written);
	bool (*flush)(struct virtq *q);
	void (*disable_kick)(struct virtq *q);
	bool (*enable_kick)(struct virtq *q);
	uint32_t ids;		/* heads or ids that can be told apart; 0: size */
};

extern const struct virtq_format virtq_split, virtq_packed;

/* One descriptor of either format, copied and in host order. @link is `next`
 * (split) or the buffer id (packed). */
struct ring_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, link;
};

/* A descriptor table: the ring's own or an indirect one. */
struct desc_table {
	const uint8_t *host;	/* NULL: not contiguous in host memory */
	gpa_t base;		/* used when host is NULL */
	uint32_t count;
	bool indirect;
};

/* virtq_pop()'s failure: remember @why, return -EBADMSG. */
int virtq_bad(struct virtq *q, const char *why);
/* Append what @d describes to @c's iovec; 0 or -EBADMSG. */
int chain_add(struct virtq *q, struct virtq_chain *c, const struct ring_desc *d);
/* The table an indirect descriptor names (s2.7.5.3, s2.8.7). */
int desc_table_open(struct virtq *q, const struct ring_desc *d, struct desc_table *t);
/* The 16 bytes of entry @i, two little-endian words; false: not RAM. */
bool desc_table_words(const struct virtq *q, const struct desc_table *t,
		      uint32_t i, uint64_t w[2]);
/* Mark @id in flight; false when it already is. */
bool virtq_claim(struct virtq *q, uint16_t id);
/* A ring part at @a: aligned, and RAM as a whole? */
int ring_part(const struct gmem *gm, const char *name, gpa_t a, size_t bytes,
	      unsigned int align, bool write, void *ptr, struct err *e);

/* A table in guest memory need not be aligned (s2.7.5.3 asks for nothing). */
struct word64 {
	uint64_t v;
} __attribute__((packed, may_alias));

static inline uint64_t ring_word(const void *p)
{
	if ((uintptr_t)p % 8 == 0)
		return le64toh(__atomic_load_n((const uint64_t *)p, __ATOMIC_RELAXED));
	return le64toh(((const volatile struct word64 *)p)->v);
}

static inline uint16_t ring_load16(const void *p)
{
	return le16toh(__atomic_load_n((const uint16_t *)p, __ATOMIC_RELAXED));
}

/* Pairs with the driver's barrier before it moved the index or the flags:
 * what the driver wrote earlier is visible to our later loads. */
static inline uint16_t ring_load16_acquire(const void *p)
{
	return le16toh(__atomic_load_n((const uint16_t *)p, __ATOMIC_ACQUIRE));
}

static inline void ring_store16(void *p, uint16_t v)
{
	__atomic_store_n((uint16_t *)p, htole16(v), __ATOMIC_RELAXED);
}

/* Everything we wrote to the guest is visible before the new value is. */
static inline void ring_store16_release(void *p, uint16_t v)
{
	__atomic_store_n((uint16_t *)p, htole16(v), __ATOMIC_RELEASE);
}

static inline void ring_store32(void *p, uint32_t v)
{
	__atomic_store_n((uint32_t *)p, htole32(v), __ATOMIC_RELAXED);
}

static inline uint32_t ring_load32(const void *p)
{
	return le32toh(__atomic_load_n((const uint32_t *)p, __ATOMIC_RELAXED));
}

/*
 * Both sides store, then load what the other stores: "used, then does the
 * driver want to know?" against "want to know, then is something used?". Only
 * a full barrier between the two keeps one of them from missing the other
 * (s2.7.7, s2.7.10, s2.8.19). On x86 this is the one place where it costs.
 */
static inline void ring_full_barrier(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

#endif

/*
 * tests/dev/lib_virtio.h - a small virtio driver for device tests: a VM with a
 * root complex, capabilities found as a guest finds them, negotiation, queues,
 * MSI-X. And the hostile suite that every virtio device runs.
 *
 *	struct vdrv *v = vdrv_create("{'driver': 'virtio-rng-pci'}", VDRV_SPLIT);
 *	vdrv_start(v);
 *	id = drv_add(&v->ring[0], bufs, n);
 *	vdrv_kick(v, 0);
 *	rig_turn(v->rig);
 *	cr_assert(drv_used(&v->ring[0], &id, &len));
 *	vdrv_destroy(v);
 */
#ifndef TESTS_DEV_LIB_VIRTIO_H
#define TESTS_DEV_LIB_VIRTIO_H

#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/virtio/virtio.h"
#include "pci/pci.h"
#include "tests/dev/lib_rig.h"
#include "tests/dev/lib_virtio_ring.h"

#define VDRV_RAM	(8ull << 20)
#define VDRV_RINGS	0x100000ull	/* ring i at rings_at + i * DRV_RING_BYTES */
#define VDRV_RINGS_ALT	0x200000ull
#define VDRV_TABLE	0x300000ull	/* indirect tables */
#define VDRV_DATA	0x400000ull	/* buffers */
#define VDRV_QUEUES	8

enum vdrv_flags {
	VDRV_SPLIT = 0,
	VDRV_PACKED = 1 << 0,
	VDRV_EVENT_IDX = 1 << 1,
};

struct vdrv {
	struct rig *rig;
	struct dev *dev;		/* NULL once destroyed */
	struct virtio_dev *v;
	uint16_t bdf;
	uint64_t common, isr, config, notify;	/* guest addresses */
	uint32_t notify_mult;
	uint16_t window_cap;		/* VIRTIO_PCI_CAP_PCI_CFG */
	uint16_t msix_cap;
	uint64_t msix_table;
	int flags;			/* enum vdrv_flags: what to negotiate */
	uint64_t refuse;		/* features not to take */
	uint64_t features;		/* negotiated */
	uint16_t queues;
	uint64_t rings_at;		/* VDRV_RINGS unless a test moves it */
	struct drv_ring ring[VDRV_QUEUES];
};

/* ---- VM ---- */

/* A VM with pcie.0, block layer and 8 MiB of RAM; @types may be NULL for the
 * virtio devices. */
struct rig *vdrv_rig(const struct dev_type *const *types);
/* Such a VM and the device @json in it, found by its capabilities. */
struct vdrv *vdrv_create(const char *json, int flags);
/* The same in a VM that has what the device needs already. */
struct vdrv *vdrv_attach(struct rig *r, const char *json, int flags);
void vdrv_destroy(struct vdrv *v);	/* with its VM */
/* Create, as a raw drive @id, a temporary file of @bytes; it is unlinked. */
void vdrv_drive(struct rig *r, const char *id, const char *options, uint64_t bytes);

/* ---- registers ---- */

uint64_t vdrv_read(struct vdrv *v, uint32_t off, unsigned int width);	/* common */
void vdrv_write(struct vdrv *v, uint32_t off, unsigned int width, uint64_t val);
uint8_t vdrv_status(struct vdrv *v);
void vdrv_set_status(struct vdrv *v, uint8_t bits);	/* or'ed in */
uint64_t vdrv_device_features(struct vdrv *v);
void vdrv_driver_features(struct vdrv *v, uint64_t f);
uint32_t vdrv_pci_read(struct vdrv *v, uint16_t off, unsigned int width);
void vdrv_pci_write(struct vdrv *v, uint16_t off, unsigned int width, uint32_t val);

/* ---- the driver's steps (s3.1.1) ---- */

/* Write 0 and turn the loop until it reads 0. */
void vdrv_reset(struct vdrv *v);
/* ACKNOWLEDGE to FEATURES_OK: all features but those in v->refuse, the ring
 * format as v->flags say. True when the device took them. */
bool vdrv_negotiate(struct vdrv *v);
/* Give queue @i a ring of @size (0: the device's maximum) and enable it. */
void vdrv_queue(struct vdrv *v, uint16_t i, uint16_t size);
/* All of it, up to DRIVER_OK, and turn the loop. */
void vdrv_start(struct vdrv *v);
void vdrv_kick(struct vdrv *v, uint16_t i);
/* Let everything that can happen on the queues' loops happen; I/O that goes to
 * the kernel may still be in flight. */
void vdrv_settle(struct vdrv *v);
/* Kick queue @i, turn until a buffer is used, at most some seconds. */
bool vdrv_wait_used(struct vdrv *v, uint16_t i, uint16_t *id, uint32_t *len);
/* Enable MSI-X; vector n sends data n. Queue i gets vector i + 1. */
void vdrv_msix(struct vdrv *v);

/* ---- hostile suite ---- */

/* What a device brings to the suite. */
struct hostile {
	const char *name;		/* for messages */
	struct vdrv *(*create)(int flags);
	/* A valid request on queue 0 with data at VDRV_DATA: fills @b, returns
	 * how many pieces. */
	int (*request)(struct drv_buf *b);
};

/* Every case; each is a function in lib_virtio_hostile.c. */
#define HOSTILE_CASES(X, suite, h)					\
	X(suite, h, zero_length_descriptors)				\
	X(suite, h, looping_descriptors)				\
	X(suite, h, nested_indirect)					\
	X(suite, h, indirect_with_next)					\
	X(suite, h, buffer_over_ram_end)				\
	X(suite, h, device_registers_as_buffer)				\
	X(suite, h, duplicate_heads)					\
	X(suite, h, index_ahead)					\
	X(suite, h, flood)						\
	X(suite, h, any_width_anywhere)					\
	X(suite, h, wrong_width)					\
	X(suite, h, select_beyond_queues)				\
	X(suite, h, features_not_offered)				\
	X(suite, h, notify_before_driver_ok)				\
	X(suite, h, queue_changed_while_live)				\
	X(suite, h, ring_outside_ram)					\
	X(suite, h, reset_in_flight)					\
	X(suite, h, reset_not_awaited)					\
	X(suite, h, machine_reset_in_flight)				\
	X(suite, h, unplug_in_flight)					\
	X(suite, h, no_bus_master)					\
	X(suite, h, queue_reset_in_flight)				\
	X(suite, h, reset_storm)

/* Run a case with each kind of ring. */
void hostile_run(const struct hostile *h,
		 void (*run)(struct vdrv *v, const struct hostile *h));

#define HOSTILE_DECLARE(suite, h, case_)				\
	void hostile_##case_(struct vdrv *v, const struct hostile *h);
HOSTILE_CASES(HOSTILE_DECLARE,,)

#define HOSTILE_TEST(suite, h, case_)					\
	Test(suite, test_##suite##_##case_##_is_survived)		\
	{								\
		hostile_run(&(h), hostile_##case_);			\
	}
/* The whole suite as tests of a device. */
#define HOSTILE_SUITE(suite, h) HOSTILE_CASES(HOSTILE_TEST, suite, h)

#endif

/*
 * devices/virtio/virtio.h - what every virtio device shares: features, status,
 * queues, configuration, and the PCI transport it is reached through.
 *
 * Spec:    virtio 1.3 s2 (basic facilities), s4.1 (PCI).
 * Threads: registers run on vCPU threads under the device lock. A queue runs
 *          on its loop without a lock, between start (DRIVER_OK) and stop
 *          (reset). Writing 0 to device_status starts a reset: queues stop,
 *          requests in flight are cancelled or awaited on their loops, and the
 *          register keeps reading non-zero until none is left, so that no vCPU
 *          ever waits (s2.4.2 lets the driver poll).
 *
 * struct virtio_dev embeds its PCI function: every machine roost builds has a
 * root complex.
 */
#ifndef DEVICES_VIRTIO_VIRTIO_H
#define DEVICES_VIRTIO_VIRTIO_H

#include <linux/virtio_config.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/virtio/virtq.h"
#include "pci/pci.h"
#include "vmm/loop/loop.h"

#define VIRTIO_QUEUES_MAX 64

struct virtio_dev;
struct virtio_queue;

/* What a virtio device type provides (dev_type.class_ops). */
struct virtio_ops {
	uint16_t device_id;		/* s5 */
	uint32_t pci_class;
	uint64_t features;		/* offered beside the ring features */
	uint16_t config_size;		/* bytes of device config */
	/* Queue counts and sizes may depend on properties: set in init with
	 * virtio_queue_add(). */

	/* Device config (s2.5); @cfg is the image v->config. Called before a
	 * read when it must be fresh; may be NULL. Device lock. */
	void (*config_read)(struct virtio_dev *v);
	/* The driver wrote [off, off+len). Default: ignored. Device lock. */
	void (*config_write)(struct virtio_dev *v, uint16_t off, uint16_t len, const void *val);
	/* FEATURES_OK: may refuse by returning < 0. Device lock. */
	int (*features_ok)(struct virtio_dev *v, uint64_t features);
	/* DRIVER_OK and the last step of a reset. Device lock. May be NULL. */
	int (*start)(struct virtio_dev *v);
	void (*stopped)(struct virtio_dev *v);

	/* Data path, on the queue's loop. Pop until empty; return 0 or the
	 * negative result of virtq_pop(), which breaks the device. */
	int (*kick)(struct virtio_dev *v, struct virtio_queue *q);
	/* Per slot set-up when a queue starts (its loop is known). Optional. */
	void (*slot_init)(struct virtio_dev *v, struct virtio_queue *q, struct virtq_chain *c);
	/* Reset began: cancel what is in flight on this queue as far as that
	 * is possible; completions still come back. On the queue's loop. */
	void (*cancel)(struct virtio_dev *v, struct virtio_queue *q);
};

struct virtio_queue {
	struct virtio_dev *v;
	uint16_t index;
	uint16_t size_max;		/* offered to the driver */
	size_t priv_bytes;		/* per slot, for the device's request */
	uint16_t iov_max;
	struct loop *loop;		/* where kicks and completions run */
	struct loop_event kick;		/* ioeventfd */
	struct virtq *vq;		/* NULL unless running; owned by the loop */
	/* driver's registers, device lock; latched at DRIVER_OK */
	uint16_t size;
	bool enabled;
	uint16_t vector;
	uint64_t desc, driver, device;
	/* loop */
	bool stopping;
	struct loop_work stop_work, flush_work;
	uint64_t kicks, interrupts, requests;	/* statistics, loop */
};

struct virtio_dev {
	struct pci_dev pci;
	const struct virtio_ops *ops;
	/* properties of class virtio, e.g. disable-modern, packed, event_idx,
	 * indirect_desc, ioeventfd, vectors: see virtio_pci.c */
	bool packed, event_idx, indirect, use_ioeventfd;
	int disable_legacy;		/* enum prop_auto */
	bool disable_modern;
	uint32_t vectors;		/* MSI-X vectors; 0: none, default queues+1 */
	/* device lock */
	uint64_t features_offered, features_driver;
	uint64_t features;		/* negotiated, valid from FEATURES_OK */
	uint8_t status;			/* VIRTIO_CONFIG_S_* */
	_Atomic uint8_t isr;
	uint16_t config_vector;
	_Atomic uint32_t config_generation;
	uint8_t config[256];		/* device config image */
	struct virtio_queue queue[VIRTIO_QUEUES_MAX];
	uint16_t queues;
	_Atomic bool live;		/* DRIVER_OK and not broken */
	_Atomic bool broken;		/* NEEDS_RESET */
	_Atomic int stopping_queues;	/* reset in progress: queues not idle yet */
	void *transport;		/* virtio_pci.c's registers; owned */
};

extern const struct dev_class virtio_class;	/* parent: pci_class */

/* During init: add queue number v->queues. @loop NULL: the main loop. */
struct virtio_queue *virtio_queue_add(struct virtio_dev *v, uint16_t size,
				      uint16_t iov_max, size_t priv_bytes, struct loop *loop);

/* ---- data path, on the queue's loop ---- */

/* Give back a chain; the interrupt is sent once per turn for all of them. */
void virtio_push(struct virtio_queue *q, struct virtq_chain *c, uint32_t written);
/* The ring or a request broke the rules: log, DEVICE_NEEDS_RESET, config
 * interrupt. Any thread. */
void virtio_broken(struct virtio_dev *v, const char *why);
/* Device config changed: new generation, config interrupt. Any thread. */
void virtio_config_changed(struct virtio_dev *v);

static inline bool virtio_has(const struct virtio_dev *v, unsigned int bit)
{
	return v->features & (1ull << bit);
}

#endif

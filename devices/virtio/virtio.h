/*
 * devices/virtio/virtio.h - what every virtio device shares: features, status,
 * queues, configuration, and the PCI transport it is reached through.
 *
 * Spec:    virtio 1.3 s2 (basic facilities), s3 (initialization), s4.1 (PCI).
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
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/virtio/virtq.h"
#include "pci/pci.h"
#include "vmm/loop/loop.h"

#define VIRTIO_QUEUES_MAX	64
#define VIRTIO_CONFIG_MAX	256
#define VIRTIO_VECTORS_AUTO	UINT32_MAX	/* one per queue, one for the config */

struct virtio_dev;
struct virtio_queue;
struct virtio_pci;

/* What a virtio device type provides (dev_type.class_ops). */
struct virtio_ops {
	uint16_t device_id;		/* s5 */
	uint32_t pci_class;		/* 24 bits */
	uint64_t features;		/* offered beside the ring features; init
					 * may add to v->features_offered */
	uint16_t config_size;		/* bytes of device config */
	/* Queue counts and sizes may depend on properties: set in init with
	 * virtio_queue_add(). */

	/* Device config (s2.5); the image is v->config. Called before a read
	 * when it must be fresh; may be NULL. Device lock. */
	void (*config_read)(struct virtio_dev *v);
	/* The driver wrote [off, off+len). Default: ignored. Device lock. */
	void (*config_write)(struct virtio_dev *v, uint16_t off, uint16_t len, const void *val);
	/* FEATURES_OK: may refuse by returning < 0. Device lock. */
	int (*features_ok)(struct virtio_dev *v, uint64_t features);
	/* DRIVER_OK, before the queues start, and the last step of a reset,
	 * when no queue runs. Device lock. May be NULL. */
	int (*start)(struct virtio_dev *v);
	void (*stopped)(struct virtio_dev *v);

	/* Data path, on the queue's loop: virtio_pop() until it returns no
	 * more, and return its last result: < 0 breaks the device. Return 1 to
	 * be left alone until virtio_rekick(). */
	int (*kick)(struct virtio_dev *v, struct virtio_queue *q);
	/* Reset began: end what is in flight on this queue as soon as that is
	 * possible; every chain still comes back through virtio_push(), which
	 * then tells the driver nothing. On the queue's loop. May be NULL when
	 * requests end by themselves. */
	void (*cancel)(struct virtio_dev *v, struct virtio_queue *q);
};

enum virtio_queue_state {
	VIRTIO_QUEUE_IDLE,		/* no virtq */
	VIRTIO_QUEUE_LIVE,
	VIRTIO_QUEUE_STOPPING,		/* until nothing is in flight */
};

struct virtio_queue {
	struct virtio_dev *v;
	uint16_t index;
	uint16_t size_max;		/* offered to the driver */
	uint16_t iov_max;
	size_t priv_bytes;		/* per slot, for the device's request */
	struct loop *loop;		/* where kicks and completions run */
	struct loop_event kick;		/* ioeventfd */
	/* the driver's registers, device lock; latched at start */
	uint16_t size;
	bool enabled;
	uint64_t desc, driver, device;
	_Atomic uint16_t vector;
	/* device lock */
	enum virtio_queue_state state;
	struct virtq *vq_next;		/* started, not yet taken by the loop */
	/* loop */
	struct virtq *vq;
	bool running;			/* kicks are served, pushes are shown */
	bool cancelled;			/* ops->cancel has been called */
	uint16_t budget;		/* chains this turn may still pop */
	struct loop_work ctl_work, kick_work, flush_work;
	struct loop_signal irq;		/* irqfd of a busy queue; fd -1: none */
	uint16_t irq_vector;		/* which vector it is of */
	/* Statistics: counted by the loop, read by anybody. */
	_Atomic uint64_t kicks, interrupts, requests;
};

struct virtio_dev {
	struct pci_dev pci;
	const struct virtio_ops *ops;
	/* properties of class virtio, see virtio.c */
	bool packed, event_idx, indirect, use_ioeventfd, ring_reset;
	bool iommu_platform, ats;
	int disable_legacy;		/* enum prop_auto */
	bool disable_modern;
	uint32_t vectors;		/* MSI-X vectors, 0: none */
	/* device lock */
	uint64_t features_offered, features_driver;
	uint64_t features;		/* negotiated, constant while queues run */
	uint8_t status_wanted;		/* written while a reset goes on */
	bool legacy_driver;		/* it uses the legacy interface */
	bool started;			/* ops->start has run */
	bool resetting;			/* queues are not idle yet */
	bool machine_reset;		/* dev_reset_done() is owed */
	int queues_busy;		/* not idle, while resetting */
	pthread_cond_t idle;		/* resetting became false */
	uint8_t config[VIRTIO_CONFIG_MAX];	/* device config image */
	/* any thread */
	_Atomic uint8_t status;		/* VIRTIO_CONFIG_S_* */
	_Atomic uint8_t isr;
	_Atomic uint16_t config_vector;
	_Atomic uint32_t config_generation;
	_Atomic bool config_dirty;	/* changed since the driver last read it */
	_Atomic bool broken;		/* NEEDS_RESET */
	struct virtio_queue queue[VIRTIO_QUEUES_MAX];
	uint16_t queues;
	struct loop_work reset_done_work;
	_Atomic bool irqfd;		/* busy queues interrupt through irqfds */
	struct virtio_pci *transport;	/* virtio_pci.c's registers; owned */
};

/* Parent: pci_class. The first decides by the properties disable-legacy and
 * disable-modern which interfaces it has; the others are fixed. */
extern const struct dev_class virtio_class;
extern const struct dev_class virtio_modern_class;	/* NAME-non-transitional */
extern const struct dev_class virtio_transitional_class; /* NAME-transitional */

/* During init: add queue number v->queues. @loop NULL: the main loop. */
struct virtio_queue *virtio_queue_add(struct virtio_dev *v, uint16_t size,
				      uint16_t iov_max, size_t priv_bytes, struct loop *loop);

/* ---- data path, on the queue's loop ---- */

/* virtq_pop() with a budget of one ring per turn: when it is used up this
 * returns 0 and the device's kick is called again in the next turn. */
int virtio_pop(struct virtio_queue *q, struct virtq_chain **c);
/* Give back a chain; the interrupt is sent once per turn for all of them. */
void virtio_push(struct virtio_queue *q, struct virtq_chain *c, uint32_t written);
/* Call the device's kick as if the driver had kicked (rate limits). */
void virtio_rekick(struct virtio_queue *q);

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

/*
 * devices/virtio/virtio_int.h - between the virtio core and its transport.
 *
 * Spec:    virtio 1.3 s2.1 to s2.4, s2.6.1.
 * Threads: device lock held, unless a comment says otherwise.
 */
#ifndef DEVICES_VIRTIO_VIRTIO_INT_H
#define DEVICES_VIRTIO_VIRTIO_INT_H

#include "devices/virtio/virtio.h"

/* ---- called by the transport ---- */

/* Write and read device_status. Through the legacy interface there is no
 * FEATURES_OK (s3.1.2). */
void virtio_status_write(struct virtio_dev *v, uint8_t val, bool legacy);
uint8_t virtio_status_read(const struct virtio_dev *v);
void virtio_queue_enable(struct virtio_queue *q);
void virtio_queue_reset(struct virtio_queue *q);	/* s2.6.1 */
/* A legacy driver gave the queue's address, and may use it before DRIVER_OK
 * (s3.1.2). */
void virtio_queue_start_early(struct virtio_queue *q);
/* The driver's available buffer notification. Any thread. */
void virtio_queue_notify(struct virtio_queue *q);
/* Device config, @len bytes at @off. */
void virtio_config_get(struct virtio_dev *v, uint32_t off, void *buf, uint32_t len);
void virtio_config_set(struct virtio_dev *v, uint32_t off, const void *buf, uint32_t len);

static inline bool virtio_driver_ok(const struct virtio_dev *v)
{
	return v->status & VIRTIO_CONFIG_S_DRIVER_OK;
}

/* ---- between virtio.c and virtio_queue.c ---- */

/* The last queue is idle: end the reset. */
void virtio_reset_finish(struct virtio_dev *v);
void virtio_queue_init(struct virtio_dev *v, uint16_t i);
/* Kicks reach the queue's loop from here, to there. Main loop, no lock held. */
int virtio_queue_watch(struct virtio_queue *q, struct err *e);
void virtio_queue_unwatch(struct virtio_queue *q);
/* Nothing of an idle queue is left on its loop afterwards, but a flush if that
 * is the main loop. */
void virtio_queue_forget(struct virtio_queue *q);
void virtio_queue_registers_reset(struct virtio_queue *q);
/* Latch the registers and let the queue run; a bad ring breaks the device. */
void virtio_queue_start(struct virtio_queue *q);
void virtio_queue_stop(struct virtio_queue *q);

/* ---- virtio_pci.c ---- */

int virtio_pci_attach(struct virtio_dev *v, struct err *e);
int virtio_pci_start(struct virtio_dev *v, struct err *e);
void virtio_pci_stop(struct virtio_dev *v);
void virtio_pci_detach(struct virtio_dev *v);
/* The registers' reset values. */
void virtio_pci_reset(struct virtio_dev *v);
/* Used buffer notification, at the latest when this turn ends; and forget what
 * is not sent yet. The queue's loop. */
void virtio_pci_queue_irq(struct virtio_queue *q);
void virtio_pci_queue_irq_drop(struct virtio_queue *q);
/* Configuration change notification. Any thread. */
void virtio_pci_config_irq(struct virtio_dev *v);

#endif

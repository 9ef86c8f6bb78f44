/*
 * devices/virtio/virtio_pci.h - what the two interfaces of the PCI transport,
 * virtio_pci.c and virtio_legacy.c, share.
 *
 * Spec:    virtio 1.3 s4.1.4.3, s4.1.4.10.
 * Threads: device lock held, unless a comment says otherwise.
 */
#ifndef DEVICES_VIRTIO_VIRTIO_PCI_H
#define DEVICES_VIRTIO_VIRTIO_PCI_H

#include "devices/virtio/virtio.h"

struct virtio_pci {
	uint8_t common[64];		/* image of the common configuration */
	bool master;			/* as command_written() last saw it */
	/* which queues have an ioeventfd, modern and legacy */
	bool doorbell[VIRTIO_QUEUES_MAX], legacy_doorbell[VIRTIO_QUEUES_MAX];
	uint16_t window_cap;		/* VIRTIO_PCI_CAP_PCI_CFG */
	bool legacy;			/* has the legacy interface */
	uint8_t legacy_regs[24];	/* image of that interface's header */
};

/* ---- virtio_pci.c ---- */
uint8_t virtio_pci_isr_read(struct virtio_dev *v);
uint16_t virtio_pci_vector(const struct virtio_dev *v, uint16_t vector);
/* Does KVM take this device's kicks? */
bool virtio_pci_kernel_kicks(const struct virtio_dev *v);
void virtio_pci_no_doorbell(struct virtio_dev *v, uint16_t queue);

/* ---- virtio_legacy.c ---- */

/* PCI device id of a transitional device (s4.1.2.1); 0: there is none. */
uint16_t virtio_legacy_id(uint16_t device_id);
/* Add BAR 0. */
int virtio_legacy_add(struct virtio_dev *v, struct err *e);
void virtio_legacy_reset(struct virtio_dev *v);

#endif

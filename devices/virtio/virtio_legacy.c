/*
 * devices/virtio/virtio_legacy.c - the legacy interface of transitional
 * devices: registers in I/O space, BAR 0.
 *
 * Spec:    virtio 1.3 s4.1.4.10, s4.1.5.1.3.1 and the other "Legacy Interface"
 *          sections.
 * Threads: device lock held.
 * Missing: big-endian guests. A legacy driver does not wait for the end of a
 *          reset, as no bit tells it; requests that are in flight when it
 *          resets the device may write their data until they end.
 */
#include <linux/virtio_pci.h>

#include "devices/virtio/virtio_int.h"
#include "devices/virtio/virtio_pci.h"
#include "vmm/base/util.h"
#include "vmm/core/kvm.h"
#include "vmm/core/reg.h"
#include "vmm/core/vm.h"

#define LEGACY_BAR	0
#define QUEUE_ALIGN	4096u	/* s4.1.5.1.3.1 */

static const struct {
	uint16_t virtio, pci;
} legacy_ids[] = {	/* s4.1.2.1 */
	{ 1, 0x1000 }, { 2, 0x1001 }, { 5, 0x1002 }, { 3, 0x1003 },
	{ 8, 0x1004 }, { 4, 0x1005 }, { 9, 0x1009 },
};

uint16_t virtio_legacy_id(uint16_t device_id)
{
	unsigned int i;

	for (i = 0; i < ARRAY_LEN(legacy_ids); i++)
		if (legacy_ids[i].virtio == device_id)
			return legacy_ids[i].pci;
	return 0;
}

/* ---- registers ---- */

static struct virtio_dev *to_virtio(struct dev *d)
{
	return DEV_OF(d, struct virtio_dev);
}

static struct virtio_queue *selected(struct virtio_dev *v)
{
	uint16_t i = get_le16(v->transport->legacy_regs + VIRTIO_PCI_QUEUE_SEL);

	return i < v->queues ? &v->queue[i] : NULL;
}

static uint64_t host_features_rd(struct dev *d, const struct reg *r, uint32_t i)
{
	return (uint32_t)to_virtio(d)->features_offered;
}

static uint64_t guest_features_rd(struct dev *d, const struct reg *r, uint32_t i)
{
	return (uint32_t)to_virtio(d)->features_driver;
}

static void guest_features_wr(struct dev *d, const struct reg *r, uint32_t i, uint64_t val)
{
	struct virtio_dev *v = to_virtio(d);

	if (!v->started || v->resetting)
		v->features_driver = val;
}

static uint64_t queue_rd(struct dev *d, const struct reg *r, uint32_t i)
{
	struct virtio_queue *q = selected(to_virtio(d));

	if (!q)
		return 0;
	switch (r->off) {
	case VIRTIO_PCI_QUEUE_PFN:
		return q->desc / QUEUE_ALIGN;
	case VIRTIO_PCI_QUEUE_NUM:
		return q->size_max;
	case VIRTIO_MSI_QUEUE_VECTOR:
		return q->vector;
	}
	return 0;
}

/* s2.7.2: the three parts follow each other, the used ring on a page. */
static void queue_pfn_wr(struct dev *d, const struct reg *r, uint32_t i, uint64_t pfn)
{
	struct virtio_queue *q = selected(to_virtio(d));
	uint64_t n;

	if (!q)
		return;
	if (pfn == 0) {
		virtio_queue_reset(q);
		return;
	}
	if (q->enabled)
		return;
	n = q->size;
	q->desc = pfn * QUEUE_ALIGN;
	q->driver = q->desc + 16 * n;
	q->device = align_up(q->driver + 6 + 2 * n, QUEUE_ALIGN);
	virtio_queue_start_early(q);
}

static void notify_wr(struct dev *d, const struct reg *r, uint32_t i, uint64_t val)
{
	struct virtio_dev *v = to_virtio(d);

	if (val < v->queues)
		virtio_queue_notify(&v->queue[val]);
}

static uint64_t status_rd(struct dev *d, const struct reg *r, uint32_t i)
{
	return virtio_status_read(to_virtio(d));
}

static void status_wr(struct dev *d, const struct reg *r, uint32_t i, uint64_t val)
{
	virtio_status_write(to_virtio(d), val, true);
}

static uint64_t isr_rd(struct dev *d, const struct reg *r, uint32_t i)
{
	return virtio_pci_isr_read(to_virtio(d));
}

static uint64_t config_vector_rd(struct dev *d, const struct reg *r, uint32_t i)
{
	return to_virtio(d)->config_vector;
}

static void config_vector_wr(struct dev *d, const struct reg *r, uint32_t i, uint64_t val)
{
	to_virtio(d)->config_vector = virtio_pci_vector(to_virtio(d), val);
}

static void queue_vector_wr(struct dev *d, const struct reg *r, uint32_t i, uint64_t val)
{
	struct virtio_queue *q = selected(to_virtio(d));

	if (q)
		q->vector = virtio_pci_vector(q->v, val);
}

static const struct reg legacy_regs[] = {
	/* name		 off				width reset wmask w1c */
	{ "host_features", VIRTIO_PCI_HOST_FEATURES,	4, 0, 0, 0, .rd = host_features_rd },
	{ "guest_features", VIRTIO_PCI_GUEST_FEATURES,	4, 0, 0xffffffff, 0,
	  .rd = guest_features_rd, .wr = guest_features_wr },
	{ "queue_address", VIRTIO_PCI_QUEUE_PFN,	4, 0, 0xffffffff, 0,
	  .rd = queue_rd, .wr = queue_pfn_wr },
	{ "queue_size",	   VIRTIO_PCI_QUEUE_NUM,	2, 0, 0, 0, .rd = queue_rd },
	{ "queue_select",  VIRTIO_PCI_QUEUE_SEL,	2, 0, 0xffff, 0 },
	{ "queue_notify",  VIRTIO_PCI_QUEUE_NOTIFY,	2, 0, 0xffff, 0, .wr = notify_wr },
	{ "device_status", VIRTIO_PCI_STATUS,		1, 0, 0xff, 0,
	  .rd = status_rd, .wr = status_wr },
	{ "isr_status",	   VIRTIO_PCI_ISR,		1, 0, 0, 0, .rd = isr_rd },
	/* these two are there while MSI-X is enabled */
	{ "config_vector", VIRTIO_MSI_CONFIG_VECTOR,	2, 0, 0xffff, 0,
	  .rd = config_vector_rd, .wr = config_vector_wr },
	{ "queue_vector",  VIRTIO_MSI_QUEUE_VECTOR,	2, 0, 0xffff, 0,
	  .rd = queue_rd, .wr = queue_vector_wr },
	{ 0 }
};

/* s4.1.4.10: where the device's configuration starts. */
static uint32_t header_size(const struct virtio_dev *v)
{
	return VIRTIO_PCI_CONFIG_OFF(msix_enabled(&v->pci));
}

static uint64_t legacy_read(struct bus_win *w, uint64_t off, unsigned int width)
{
	struct virtio_dev *v = to_virtio(w->dev);
	uint32_t header = header_size(v);
	uint64_t val = 0;

	if (off < header)
		return reg_read(legacy_regs, w->dev, v->transport->legacy_regs, header,
				off, width);
	virtio_config_get(v, off - header, &val, width);
	return le64toh(val);
}

static void legacy_write(struct bus_win *w, uint64_t off, unsigned int width, uint64_t val)
{
	struct virtio_dev *v = to_virtio(w->dev);
	uint32_t header = header_size(v);
	uint8_t bytes[8];

	if (off < header) {
		reg_write(legacy_regs, w->dev, v->transport->legacy_regs, header,
			  off, width, val);
		return;
	}
	put_le(bytes, width, val);
	virtio_config_set(v, off - header, bytes, width);
}

static const struct bus_win_ops legacy_ops = { legacy_read, legacy_write };

/* One port for all queues: KVM compares the queue number. */
static void legacy_moved(struct pci_dev *p, int bar, bool mapped, uint64_t addr)
{
	struct virtio_dev *v = to_virtio(&p->dev);
	bool *on = v->transport->legacy_doorbell;
	uint16_t i;

	if (!virtio_pci_kernel_kicks(v))
		return;
	for (i = 0; i < v->queues; i++) {
		if (!mapped && !on[i])
			continue;
		on[i] = !kvm_ioeventfd(p->dev.vm->kvm, BUS_PIO, addr + VIRTIO_PCI_QUEUE_NOTIFY,
				       2, v->queue[i].kick.fd, true, i, mapped);
		if (mapped && !on[i])
			virtio_pci_no_doorbell(v, i);
		on[i] = on[i] && mapped;
	}
}

int virtio_legacy_add(struct virtio_dev *v, struct err *e)
{
	struct bus_win win = { .name = "virtio-legacy", .ops = &legacy_ops };
	uint32_t need = VIRTIO_PCI_CONFIG_OFF(true) + v->ops->config_size;

	for (win.size = 32; win.size < need; win.size *= 2)
		;
	return pci_bar_add(&v->pci, LEGACY_BAR, PCI_BASE_ADDRESS_SPACE_IO, &win,
			   legacy_moved, e);
}

void virtio_legacy_reset(struct virtio_dev *v)
{
	reg_reset(legacy_regs, v->transport->legacy_regs, sizeof(v->transport->legacy_regs));
}

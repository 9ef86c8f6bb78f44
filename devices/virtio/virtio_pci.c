/*
 * devices/virtio/virtio_pci.c - virtio over PCI: identity, BARs, registers,
 * doorbells and interrupts.
 *
 * Spec:    virtio 1.3 s4.1.
 * Threads: registers under the device lock; the *_irq functions on any thread.
 * Missing: the administration queue, shared memory regions.
 *
 * The modern interface is one 64-bit prefetchable BAR of four pages: common
 * configuration, ISR, device configuration, notification. Each queue has a
 * doorbell address of its own in the last page, so that KVM needs to compare
 * no data; kicks then never leave the kernel (ioeventfd). Writes that do come
 * here, because there is no KVM or no ioeventfd left, do the same by hand.
 */
#include "devices/virtio/virtio.h"

#include <errno.h>
#include <linux/kvm.h>
#include <linux/virtio_pci.h>
#include <stdlib.h>

#include "devices/virtio/virtio_int.h"
#include "devices/virtio/virtio_pci.h"
#include "vmm/base/util.h"
#include "vmm/core/kvm.h"
#include "vmm/core/reg.h"
#include "vmm/core/vm.h"

#define VENDOR		0x1af4	/* s4.1.2 */
#define DEVICE_MODERN	0x1040	/* plus the virtio device id */
#define SUBSYSTEM	0x1100	/* what QEMU's devices have; s4.1.2.1: >= 0x40 */

/* The same BARs as QEMU uses, so that guests see what they know. */
#define MSIX_BAR	1
#define MODERN_BAR	4
#define PAGE		0x1000u
#define COMMON_OFF	(0 * PAGE)
#define ISR_OFF		(1 * PAGE)
#define CONFIG_OFF	(2 * PAGE)
#define NOTIFY_OFF	(3 * PAGE)
#define MODERN_SIZE	(4 * PAGE)
#define NOTIFY_MULT	4u	/* bytes between doorbells */

#define ISR_QUEUE	1	/* s4.1.4.5; ISR_CONFIG has a name in the header */
#define COMMON_SIZE	64	/* struct virtio_pci_common_cfg of 1.3 */
#define IRQFD_AFTER	256	/* interrupts: more than a light device makes in a boot */
#define VECTORS_MAX	2048	/* s4.1.5.1.2 */

/* ---- interrupts ---- */

static void fire(struct virtio_dev *v, uint16_t vector, uint8_t isr)
{
	if (msix_enabled(&v->pci)) {
		if (vector != VIRTIO_MSI_NO_VECTOR)
			msix_fire(&v->pci, vector);
		return;
	}
	v->isr |= isr;
	pci_intx_set(&v->pci, true);
}

/*
 * A message costs a system call of its own. An irqfd costs none, as its signal
 * goes to the kernel together with the loop's next I/O and wait; but setting up
 * its route takes KVM a grace period, so only a queue that has proved busy gets
 * one.
 */
static bool has_irqfd(struct virtio_queue *q, uint16_t vector)
{
	struct virtio_dev *v = q->v;
	struct err e = ERR_INIT;

	if (!v->irqfd || q->interrupts < IRQFD_AFTER || !msix_enabled(&v->pci) ||
	    vector == VIRTIO_MSI_NO_VECTOR)
		return false;
	if (q->irq.fd >= 0 && q->irq_vector == vector)
		return true;
	virtio_pci_queue_irq_drop(q);
	if (msix_irqfd(&v->pci, vector, &q->irq.fd, &e) < 0) {
		log_info("%s; interrupts go as messages", e.text);
		q->irq.fd = -1;
		v->irqfd = false;
		return false;
	}
	q->irq_vector = vector;
	return true;
}

void virtio_pci_queue_irq(struct virtio_queue *q)
{
	uint16_t vector = q->vector;

	if (has_irqfd(q, vector))
		loop_signal_raise(q->loop, &q->irq);
	else
		fire(q->v, vector, ISR_QUEUE);
}

/* The descriptor is the vector's (pci/msix.c). */
void virtio_pci_queue_irq_drop(struct virtio_queue *q)
{
	if (q->irq.fd < 0)
		return;
	loop_signal_drop(q->loop, &q->irq);
	q->irq.fd = -1;
}

void virtio_pci_config_irq(struct virtio_dev *v)
{
	/* s4.1.4.5.1: this bit is set with MSI-X as well. */
	v->isr |= VIRTIO_PCI_ISR_CONFIG;
	fire(v, v->config_vector, VIRTIO_PCI_ISR_CONFIG);
}

/* Reading clears the register and the line. A loop may raise both between the
 * two steps: then the line goes up again. */
uint8_t virtio_pci_isr_read(struct virtio_dev *v)
{
	uint8_t isr = atomic_exchange(&v->isr, 0);

	pci_intx_set(&v->pci, false);
	if (v->isr && !msix_enabled(&v->pci))
		pci_intx_set(&v->pci, true);
	return isr;
}

/* s4.1.5.1.2.1: what cannot be mapped reads back as NO_VECTOR. */
uint16_t virtio_pci_vector(const struct virtio_dev *v, uint16_t vector)
{
	return vector < msix_vectors(&v->pci) ? vector : VIRTIO_MSI_NO_VECTOR;
}

/* ---- common configuration (s4.1.4.3) ---- */

static struct virtio_dev *to_virtio(struct dev *d)
{
	return DEV_OF(d, struct virtio_dev);
}

static uint32_t image32(const struct virtio_dev *v, uint32_t off)
{
	return get_le32(v->transport->common + off);
}

/* The queue that queue_select names, NULL when there is none. */
static struct virtio_queue *selected(struct virtio_dev *v)
{
	uint16_t i = get_le16(v->transport->common + VIRTIO_PCI_COMMON_Q_SELECT);

	return i < v->queues ? &v->queue[i] : NULL;
}

/* The image follows the selected queue: half of a 64-bit address may be
 * written, and the core merges it with the half that is in the image. */
static void image_load(struct virtio_dev *v)
{
	struct virtio_queue *q = selected(v);
	uint8_t *image = v->transport->common;

	put_le64(image + VIRTIO_PCI_COMMON_Q_DESCLO, q ? q->desc : 0);
	put_le64(image + VIRTIO_PCI_COMMON_Q_AVAILLO, q ? q->driver : 0);
	put_le64(image + VIRTIO_PCI_COMMON_Q_USEDLO, q ? q->device : 0);
}

static uint64_t device_feature_rd(struct dev *d, const struct reg *r, uint32_t i)
{
	struct virtio_dev *v = to_virtio(d);
	uint32_t sel = image32(v, VIRTIO_PCI_COMMON_DFSELECT);

	return sel < 2 ? (uint32_t)(v->features_offered >> (32 * sel)) : 0;
}

static uint64_t driver_feature_rd(struct dev *d, const struct reg *r, uint32_t i)
{
	struct virtio_dev *v = to_virtio(d);
	uint32_t sel = image32(v, VIRTIO_PCI_COMMON_GFSELECT);

	return sel < 2 ? (uint32_t)(v->features_driver >> (32 * sel)) : 0;
}

/* s3.1.1: no new bits after FEATURES_OK. */
static void driver_feature_wr(struct dev *d, const struct reg *r, uint32_t i, uint64_t val)
{
	struct virtio_dev *v = to_virtio(d);
	uint32_t sel = image32(v, VIRTIO_PCI_COMMON_GFSELECT);

	if (sel > 1 || (!v->resetting && (v->status & VIRTIO_CONFIG_S_FEATURES_OK)))
		return;
	v->features_driver &= ~((uint64_t)UINT32_MAX << (32 * sel));
	v->features_driver |= val << (32 * sel);
}

static uint64_t config_vector_rd(struct dev *d, const struct reg *r, uint32_t i)
{
	return to_virtio(d)->config_vector;
}

static void config_vector_wr(struct dev *d, const struct reg *r, uint32_t i, uint64_t val)
{
	to_virtio(d)->config_vector = virtio_pci_vector(to_virtio(d), val);
}

static uint64_t num_queues_rd(struct dev *d, const struct reg *r, uint32_t i)
{
	return to_virtio(d)->queues;
}

static uint64_t status_rd(struct dev *d, const struct reg *r, uint32_t i)
{
	return virtio_status_read(to_virtio(d));
}

static void status_wr(struct dev *d, const struct reg *r, uint32_t i, uint64_t val)
{
	virtio_status_write(to_virtio(d), val, false);
}

static uint64_t generation_rd(struct dev *d, const struct reg *r, uint32_t i)
{
	return (uint8_t)to_virtio(d)->config_generation;
}

static void queue_select_wr(struct dev *d, const struct reg *r, uint32_t i, uint64_t val)
{
	image_load(to_virtio(d));
}

static uint64_t queue_rd(struct dev *d, const struct reg *r, uint32_t i)
{
	struct virtio_queue *q = selected(to_virtio(d));

	if (!q)
		return 0;
	switch (r->off) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		return q->size;
	case VIRTIO_PCI_COMMON_Q_MSIX:
		return q->vector;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		return q->enabled;
	case VIRTIO_PCI_COMMON_Q_NOFF:
	case VIRTIO_PCI_COMMON_Q_NDATA:
		return q->index;
	case VIRTIO_PCI_COMMON_Q_RESET:
		return q->state == VIRTIO_QUEUE_STOPPING && !q->v->resetting;
	}
	return 0;
}

/* Size and addresses are the driver's until it enables the queue; a change
 * after that, or a size that was not offered, is ignored (s4.1.4.3.2). What
 * takes effect was latched when the queue started, in any case. */
static void queue_setup_wr(struct dev *d, const struct reg *r, uint32_t i, uint64_t val)
{
	struct virtio_dev *v = to_virtio(d);
	struct virtio_queue *q = selected(v);

	if (q && !q->enabled) {
		if (r->off == VIRTIO_PCI_COMMON_Q_SIZE && val && val <= q->size_max)
			q->size = val;
		else if (r->off == VIRTIO_PCI_COMMON_Q_DESCLO)
			q->desc = val;
		else if (r->off == VIRTIO_PCI_COMMON_Q_AVAILLO)
			q->driver = val;
		else if (r->off == VIRTIO_PCI_COMMON_Q_USEDLO)
			q->device = val;
	}
	image_load(v);
}

static void queue_vector_wr(struct dev *d, const struct reg *r, uint32_t i, uint64_t val)
{
	struct virtio_queue *q = selected(to_virtio(d));

	if (q)
		q->vector = virtio_pci_vector(q->v, val);
}

static void queue_enable_wr(struct dev *d, const struct reg *r, uint32_t i, uint64_t val)
{
	struct virtio_queue *q = selected(to_virtio(d));

	if (q && val == 1)
		virtio_queue_enable(q);
}

static void queue_reset_wr(struct dev *d, const struct reg *r, uint32_t i, uint64_t val)
{
	struct virtio_queue *q = selected(to_virtio(d));

	if (q && val == 1 && virtio_has(q->v, VIRTIO_F_RING_RESET))
		virtio_queue_reset(q);
}

#define RW16	0xffffull
#define RW32	0xffffffffull
#define RW64	UINT64_MAX

static const struct reg common_regs[] = {
	/* name, off, width, reset, wmask, w1c */
	{ "device_feature_select", VIRTIO_PCI_COMMON_DFSELECT, 4, 0, RW32, 0 },
	{ "device_feature", VIRTIO_PCI_COMMON_DF, 4, 0, 0, 0, .rd = device_feature_rd },
	{ "driver_feature_select", VIRTIO_PCI_COMMON_GFSELECT, 4, 0, RW32, 0 },
	{ "driver_feature", VIRTIO_PCI_COMMON_GF, 4, 0, RW32, 0,
	  .rd = driver_feature_rd, .wr = driver_feature_wr },
	{ "config_msix_vector", VIRTIO_PCI_COMMON_MSIX, 2, 0, RW16, 0,
	  .rd = config_vector_rd, .wr = config_vector_wr },
	{ "num_queues", VIRTIO_PCI_COMMON_NUMQ, 2, 0, 0, 0, .rd = num_queues_rd },
	{ "device_status", VIRTIO_PCI_COMMON_STATUS, 1, 0, 0xff, 0,
	  .rd = status_rd, .wr = status_wr },
	{ "config_generation", VIRTIO_PCI_COMMON_CFGGENERATION, 1, 0, 0, 0,
	  .rd = generation_rd },
	{ "queue_select", VIRTIO_PCI_COMMON_Q_SELECT, 2, 0, RW16, 0, .wr = queue_select_wr },
	{ "queue_size", VIRTIO_PCI_COMMON_Q_SIZE, 2, 0, RW16, 0,
	  .rd = queue_rd, .wr = queue_setup_wr },
	{ "queue_msix_vector", VIRTIO_PCI_COMMON_Q_MSIX, 2, 0, RW16, 0,
	  .rd = queue_rd, .wr = queue_vector_wr },
	{ "queue_enable", VIRTIO_PCI_COMMON_Q_ENABLE, 2, 0, RW16, 0,
	  .rd = queue_rd, .wr = queue_enable_wr },
	{ "queue_notify_off", VIRTIO_PCI_COMMON_Q_NOFF, 2, 0, 0, 0, .rd = queue_rd },
	{ "queue_desc", VIRTIO_PCI_COMMON_Q_DESCLO, 8, 0, RW64, 0, .wr = queue_setup_wr },
	{ "queue_driver", VIRTIO_PCI_COMMON_Q_AVAILLO, 8, 0, RW64, 0, .wr = queue_setup_wr },
	{ "queue_device", VIRTIO_PCI_COMMON_Q_USEDLO, 8, 0, RW64, 0, .wr = queue_setup_wr },
	{ "queue_notif_config_data", VIRTIO_PCI_COMMON_Q_NDATA, 2, 0, 0, 0, .rd = queue_rd },
	{ "queue_reset", VIRTIO_PCI_COMMON_Q_RESET, 2, 0, RW16, 0,
	  .rd = queue_rd, .wr = queue_reset_wr },
	{ 0 }
};

/* ---- the modern BAR ---- */

static uint64_t modern_read(struct bus_win *w, uint64_t off, unsigned int width)
{
	struct virtio_dev *v = to_virtio(w->dev);
	uint64_t val = 0;

	switch (off & ~(uint64_t)(PAGE - 1)) {
	case COMMON_OFF:
		return off + width > COMMON_SIZE ? 0 :
			reg_read(common_regs, w->dev, v->transport->common,
				 COMMON_SIZE, off, width);
	case ISR_OFF:
		return off == ISR_OFF ? virtio_pci_isr_read(v) : 0;
	case CONFIG_OFF:
		virtio_config_get(v, off - CONFIG_OFF, &val, width);
		return le64toh(val);
	}
	return 0;
}

static void modern_write(struct bus_win *w, uint64_t off, unsigned int width, uint64_t val)
{
	struct virtio_dev *v = to_virtio(w->dev);
	uint8_t bytes[8];
	uint64_t i;

	switch (off & ~(uint64_t)(PAGE - 1)) {
	case COMMON_OFF:
		if (off + width <= COMMON_SIZE)
			reg_write(common_regs, w->dev, v->transport->common,
				  COMMON_SIZE, off, width, val);
		break;
	case CONFIG_OFF:
		put_le(bytes, width, val);
		virtio_config_set(v, off - CONFIG_OFF, bytes, width);
		break;
	case NOTIFY_OFF:	/* the address says which queue */
		i = (off - NOTIFY_OFF) / NOTIFY_MULT;
		if (i < v->queues)
			virtio_queue_notify(&v->queue[i]);
		break;
	}
}

static const struct bus_win_ops modern_ops = { modern_read, modern_write };

/* ---- doorbells in the kernel ---- */

/* Length 0 means any width: KVM then takes its fast path, which does not decode
 * the guest's instruction. */
static unsigned int doorbell_width(const struct virtio_dev *v)
{
	return kvm_check(v->pci.dev.vm->kvm, KVM_CAP_IOEVENTFD_ANY_LENGTH) > 0 ? 0 : 2;
}

static void doorbells(struct virtio_dev *v, uint64_t base, bool on)
{
	struct virtio_pci *t = v->transport;
	struct kvm *kvm = v->pci.dev.vm->kvm;
	unsigned int width = doorbell_width(v);
	uint64_t addr;
	uint16_t i;

	for (i = 0; i < v->queues; i++) {
		addr = base + NOTIFY_OFF + NOTIFY_MULT * i;
		if (on)
			t->doorbell[i] = !kvm_ioeventfd(kvm, BUS_MMIO, addr, width,
							v->queue[i].kick.fd, false, 0, true);
		else if (t->doorbell[i])
			t->doorbell[i] = kvm_ioeventfd(kvm, BUS_MMIO, addr, width,
						       v->queue[i].kick.fd, false, 0, false);
		if (on && !t->doorbell[i])
			virtio_pci_no_doorbell(v, i);
	}
}

bool virtio_pci_kernel_kicks(const struct virtio_dev *v)
{
	return v->use_ioeventfd && v->pci.dev.vm->kvm;
}

/* The guest put two doorbells at one address, or KVM has no more: the writes
 * come to us instead. */
void virtio_pci_no_doorbell(struct virtio_dev *v, uint16_t queue)
{
	dev_guest_error(&v->pci.dev, "no ioeventfd for queue %u; its kicks will be slow",
			queue);
}

static void modern_moved(struct pci_dev *p, int bar, bool mapped, uint64_t addr)
{
	struct virtio_dev *v = to_virtio(&p->dev);

	if (virtio_pci_kernel_kicks(v))
		doorbells(v, addr, mapped);
}

/* Buffers that came while the function was no bus master wait in the rings. */
static void command_written(struct pci_dev *p, uint16_t off, unsigned int len)
{
	struct virtio_dev *v = to_virtio(&p->dev);
	bool master = pci_master(p);
	uint16_t i;

	for (i = 0; master && !v->transport->master && i < v->queues; i++)
		if (v->queue[i].state == VIRTIO_QUEUE_LIVE)
			virtio_queue_notify(&v->queue[i]);
	v->transport->master = master;
}

/* ---- capabilities (s4.1.4) ---- */

static uint16_t add_cap(struct pci_dev *p, uint8_t type, uint8_t len, uint8_t bar,
			uint32_t off, uint32_t size)
{
	uint16_t at = pci_cap_add(p, PCI_CAP_ID_VNDR, len);

	p->config[at + VIRTIO_PCI_CAP_LEN] = len;
	p->config[at + VIRTIO_PCI_CAP_CFG_TYPE] = type;
	p->config[at + VIRTIO_PCI_CAP_BAR] = bar;
	pci_set32(p, at + VIRTIO_PCI_CAP_OFFSET, off);
	pci_set32(p, at + VIRTIO_PCI_CAP_LENGTH, size);
	return at;
}

/* What PCI_CFG addresses at present, if the driver set it up properly. */
static bool window_target(struct virtio_dev *v, uint32_t *off, uint32_t *len)
{
	struct pci_dev *p = &v->pci;
	uint16_t cap = v->transport->window_cap;

	*off = pci_get32(p, cap + VIRTIO_PCI_CAP_OFFSET);
	*len = pci_get32(p, cap + VIRTIO_PCI_CAP_LENGTH);
	return p->config[cap + VIRTIO_PCI_CAP_BAR] == MODERN_BAR &&
	       (*len == 1 || *len == 2 || *len == 4) && *off % *len == 0 &&
	       *off < MODERN_SIZE;
}

static void window_reading(struct pci_dev *p, uint16_t at, unsigned int width)
{
	struct virtio_dev *v = to_virtio(&p->dev);
	uint32_t off, len;

	if (window_target(v, &off, &len))
		pci_set32(p, v->transport->window_cap + sizeof(struct virtio_pci_cap),
			  modern_read(&p->bar[MODERN_BAR].win, off, len));
}

/* Also called, with the reset values, after a reset: length 0 does nothing. */
static void window_written(struct pci_dev *p, uint16_t at, unsigned int width)
{
	struct virtio_dev *v = to_virtio(&p->dev);
	uint32_t off, len, val;

	if (!window_target(v, &off, &len))
		return;
	val = pci_get32(p, v->transport->window_cap + sizeof(struct virtio_pci_cap));
	modern_write(&p->bar[MODERN_BAR].win, off, len,
		     len == 4 ? val : val & (BIT(8 * len) - 1));
}

static void add_window(struct virtio_dev *v)
{
	struct pci_dev *p = &v->pci;
	uint16_t at = add_cap(p, VIRTIO_PCI_CAP_PCI_CFG, sizeof(struct virtio_pci_cfg_cap),
			      0, 0, 0);
	uint16_t data = at + sizeof(struct virtio_pci_cap);

	v->transport->window_cap = at;
	p->wmask[at + VIRTIO_PCI_CAP_BAR] = 0xff;
	memset(p->wmask + at + VIRTIO_PCI_CAP_OFFSET, 0xff, 8);	/* and length */
	memset(p->wmask + data, 0xff, 4);
	pci_read_hook_add(p, data, 4, window_reading, window_written);
}

static int add_modern(struct virtio_dev *v, struct err *e)
{
	struct bus_win win = { .name = "virtio", .size = MODERN_SIZE, .ops = &modern_ops };
	struct pci_dev *p = &v->pci;
	uint16_t at;

	add_cap(p, VIRTIO_PCI_CAP_COMMON_CFG, sizeof(struct virtio_pci_cap),
		MODERN_BAR, COMMON_OFF, PAGE);
	add_cap(p, VIRTIO_PCI_CAP_ISR_CFG, sizeof(struct virtio_pci_cap),
		MODERN_BAR, ISR_OFF, PAGE);
	add_cap(p, VIRTIO_PCI_CAP_DEVICE_CFG, sizeof(struct virtio_pci_cap),
		MODERN_BAR, CONFIG_OFF, PAGE);
	at = add_cap(p, VIRTIO_PCI_CAP_NOTIFY_CFG, sizeof(struct virtio_pci_notify_cap),
		     MODERN_BAR, NOTIFY_OFF, PAGE);
	pci_set32(p, at + VIRTIO_PCI_NOTIFY_CAP_MULT, NOTIFY_MULT);
	add_window(v);
	return pci_bar_add(p, MODERN_BAR, PCI_BASE_ADDRESS_MEM_TYPE_64 |
			   PCI_BASE_ADDRESS_MEM_PREFETCH, &win, modern_moved, e);
}

/* ---- life ---- */

static void set_ids(struct virtio_dev *v)
{
	struct pci_ops ids = {
		.vendor = VENDOR, .subvendor = VENDOR, .class = v->ops->pci_class,
		.device = DEVICE_MODERN + v->ops->device_id,
		.subdevice = SUBSYSTEM, .revision = 1,	/* s4.1.2.1 */
	};

	if (v->transport->legacy) {	/* s4.1.2.3 */
		ids.device = virtio_legacy_id(v->ops->device_id);
		ids.subdevice = v->ops->device_id;
		ids.revision = 0;
	}
	pci_set_ids(&v->pci, &ids);
}

/* "auto" as QEMU has it, except that pcie.0 counts as PCI Express, too. */
static int choose_interfaces(struct virtio_dev *v, struct err *e)
{
	const char *path = v->pci.dev.path;
	bool legacy = v->disable_legacy == PROP_OFF;

	if (v->disable_legacy == PROP_AUTO)
		legacy = v->disable_modern || !v->pci.bus->express;
	if (!legacy && v->disable_modern)
		return err_set(e, -EINVAL, "%s: disable-legacy=on and disable-modern=on leave "
			       "no interface; set one of them to off", path);
	if (legacy && !virtio_legacy_id(v->ops->device_id)) {
		if (v->disable_legacy == PROP_OFF || v->disable_modern)
			return err_set(e, -EINVAL, "%s: this device has no legacy interface; "
				       "use disable-legacy=on", path);
		legacy = false;
	}
	v->transport->legacy = legacy;
	return 0;
}

int virtio_pci_attach(struct virtio_dev *v, struct err *e)
{
	int ret;

	v->transport = xcalloc(1, sizeof(*v->transport));
	ret = choose_interfaces(v, e);
	if (ret < 0)
		return ret;
	set_ids(v);
	return 0;
}

static int add_vectors(struct virtio_dev *v, struct err *e)
{
	uint32_t n = v->vectors;

	if (n == VIRTIO_VECTORS_AUTO)
		n = v->queues + 1;
	if (n > VECTORS_MAX)
		return err_set(e, -ERANGE, "%s: vectors=%u is not 0..%u", v->pci.dev.path, n,
			       VECTORS_MAX);
	return n ? msix_init(&v->pci, n, MSIX_BAR, e) : 0;
}

int virtio_pci_start(struct virtio_dev *v, struct err *e)
{
	struct pci_dev *p = &v->pci;
	int ret;

	/* PCIe 5.0 s1.3.2.3: integrated endpoints have no I/O space, so a
	 * function with the legacy interface is a conventional one on pcie.0. */
	if ((!v->transport->legacy || p->bus->bridge) && pci_express_endpoint_add(p))
		pci_pm_add(p, 0);
	v->irqfd = p->dev.vm->kvm;
	pci_intx_init(p, 1);
	pci_hook_add(p, PCI_COMMAND, 2, command_written);
	ret = add_vectors(v, e);
	if (ret == 0 && !v->disable_modern)
		ret = add_modern(v, e);
	if (ret == 0 && v->transport->legacy)
		ret = virtio_legacy_add(v, e);
	return ret;
}

/* The BARs have left the bus by now, and the doorbells with them. */
void virtio_pci_stop(struct virtio_dev *v)
{
	pci_intx_set(&v->pci, false);
}

void virtio_pci_detach(struct virtio_dev *v)
{
	free(v->transport);
	v->transport = NULL;
}

void virtio_pci_reset(struct virtio_dev *v)
{
	reg_reset(common_regs, v->transport->common, COMMON_SIZE);
	image_load(v);
	virtio_legacy_reset(v);
	v->isr = 0;
	pci_intx_set(&v->pci, false);
}

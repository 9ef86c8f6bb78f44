/*
 * pci/msi.c - message signalled interrupts from config space.
 *
 * Spec:    PCI Local Bus 3.0 s6.8.1, s6.8.3.
 * Threads: msi_fire from any thread; writes under the device lock. m->lock, a
 *          leaf above the interrupt chip, keeps the mask, the pending bits and
 *          the message together, so that nothing fired is lost while a vector
 *          is being unmasked. It is held while the message is sent: once a
 *          guest's mask write returns, no message of that vector follows.
 * Missing: nothing known.
 */
#include <assert.h>
#include <stdlib.h>

#include "pci/internal.h"
#include "vmm/base/util.h"
#include "vmm/core/vm.h"

struct msi {
	uint16_t cap;
	uint8_t vectors;	/* offered, a power of two */
	bool maskable;
	pthread_mutex_t lock;
	/* lock; what the registers said when they were last written */
	bool enabled;
	uint8_t allotted;	/* vectors the guest allows, a power of two */
	uint32_t mask, pending;
	struct irq_msg msg;
};

/* Offsets of the 64-bit form (s6.8.1), which is the only one here. */
#define MSI_SIZE	(PCI_MSI_DATA_64 + 2)
#define MSI_SIZE_MASK	(PCI_MSI_PENDING_64 + 4)

static void send(struct pci_dev *p, struct msi *m, uint8_t vector)
{
	struct irq_msg msg = m->msg;

	/* s6.8.3.4: the function may modify the low bits of the data. */
	msg.data = (msg.data & ~(uint32_t)(m->allotted - 1)) | vector;
	msg.devid = pci_rid(p);
	irq_msi(p->dev.vm->irq, &msg);
}

static void show_pending(struct pci_dev *p, const struct msi *m)
{
	if (m->maskable)
		pci_poke32(p, m->cap + PCI_MSI_PENDING_64, m->pending);
}

/* Send what has become possible. Lock held. */
static void deliver(struct pci_dev *p, struct msi *m)
{
	uint32_t ready = m->pending & ~m->mask;

	if (!ready || !m->enabled || !pci_master(p))
		return;
	m->pending &= ~ready;
	show_pending(p, m);
	for (; ready; ready &= ready - 1)
		send(p, m, (uint8_t)__builtin_ctz(ready));
}

static void latch(struct pci_dev *p, struct msi *m)
{
	uint16_t flags = pci_get16(p, m->cap + PCI_MSI_FLAGS);
	uint8_t want = (flags & PCI_MSI_FLAGS_QSIZE) >> 4;

	m->enabled = flags & PCI_MSI_FLAGS_ENABLE;
	m->allotted = want > 5 ? m->vectors : (uint8_t)MIN(1u << want, m->vectors);
	m->msg.addr = pci_get32(p, m->cap + PCI_MSI_ADDRESS_LO) |
		      (uint64_t)pci_get32(p, m->cap + PCI_MSI_ADDRESS_HI) << 32;
	m->msg.data = pci_get16(p, m->cap + PCI_MSI_DATA_64);
	m->mask = m->maskable ? pci_get32(p, m->cap + PCI_MSI_MASK_64) : 0;
	if (!m->enabled)
		m->pending = 0;
	show_pending(p, m);
}

void msi_update(struct pci_dev *p)
{
	struct msi *m = p->msi;

	if (!m)
		return;
	pthread_mutex_lock(&m->lock);
	latch(p, m);
	deliver(p, m);
	pthread_mutex_unlock(&m->lock);
}

static void msi_written(struct pci_dev *p, uint16_t off, unsigned int len)
{
	msi_update(p);
}

void msi_fire(struct pci_dev *p, uint8_t vector)
{
	struct msi *m = p->msi;

	assert(m && vector < m->vectors);
	pthread_mutex_lock(&m->lock);
	if (m->enabled) {
		/* Fewer vectors than asked for: they are shared. */
		m->pending |= BIT(vector & (m->allotted - 1));
		show_pending(p, m);
		deliver(p, m);
	}
	pthread_mutex_unlock(&m->lock);
}

bool msi_enabled(const struct pci_dev *p)
{
	return p->msi && (pci_peek8(p, p->msi->cap + PCI_MSI_FLAGS) & PCI_MSI_FLAGS_ENABLE);
}

int msi_init(struct pci_dev *p, uint8_t vectors, bool mask_per_vector, struct err *e)
{
	struct msi *m = xcalloc(1, sizeof(*m));
	uint16_t flags = PCI_MSI_FLAGS_64BIT;
	uint16_t cap;

	assert(is_pow2(vectors) && vectors <= 32 && !p->msi);
	cap = pci_cap_add(p, PCI_CAP_ID_MSI, mask_per_vector ? MSI_SIZE_MASK : MSI_SIZE);
	flags |= (uint16_t)(__builtin_ctz(vectors) << 1);
	if (mask_per_vector)
		flags |= PCI_MSI_FLAGS_MASKBIT;
	pci_set16(p, cap + PCI_MSI_FLAGS, flags);
	put_le16(p->wmask + cap + PCI_MSI_FLAGS, PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE);
	put_le32(p->wmask + cap + PCI_MSI_ADDRESS_LO, ~3u);
	put_le32(p->wmask + cap + PCI_MSI_ADDRESS_HI, UINT32_MAX);
	put_le16(p->wmask + cap + PCI_MSI_DATA_64, UINT16_MAX);
	if (mask_per_vector)
		put_le32(p->wmask + cap + PCI_MSI_MASK_64, UINT32_MAX >> (32 - vectors));
	m->cap = cap;
	m->vectors = vectors;
	m->maskable = mask_per_vector;
	m->allotted = 1;
	pthread_mutex_init(&m->lock, NULL);
	p->msi = m;
	pci_hook_add(p, cap, mask_per_vector ? MSI_SIZE_MASK : MSI_SIZE, msi_written);
	return 0;
}

void msi_fini(struct pci_dev *p)
{
	if (!p->msi)
		return;
	pthread_mutex_destroy(&p->msi->lock);
	free(p->msi);
	p->msi = NULL;
}

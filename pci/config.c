/*
 * pci/config.c - config space as bytes with masks.
 *
 * Spec:    PCI Local Bus 3.0 s6.1, s6.2; PCIe Base 5.0 s7.5.1.
 * Threads: guest accesses hold the config lock and the device lock. Single
 *          bytes are stored and loaded atomically, because any thread may look
 *          at the command register and set the interrupt status bit.
 * Missing: nothing known.
 *
 * A byte the guest writes becomes (old & ~wmask) | (new & wmask), then loses
 * the bits that are set in new & w1cmask. Nothing else happens here: whoever
 * cares about bytes registers a hook for them, which runs after the write and
 * sees the resulting contents.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "pci/internal.h"
#include "vmm/base/util.h"

/* PCI 3.0 s6.2.2; parity and SERR# bits are kept though nothing raises them. */
#define COMMAND_WMASK	(PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | \
			 PCI_COMMAND_PARITY | PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE)
#define STATUS_W1C	(PCI_STATUS_PARITY | PCI_STATUS_SIG_TARGET_ABORT | \
			 PCI_STATUS_REC_TARGET_ABORT | PCI_STATUS_REC_MASTER_ABORT | \
			 PCI_STATUS_SIG_SYSTEM_ERROR | PCI_STATUS_DETECTED_PARITY)

#define CONFIG_PCI_SIZE	256	/* PCI 3.0 s6.1: before the extended space */

uint8_t pci_peek8(const struct pci_dev *p, uint16_t off)
{
	return __atomic_load_n(&p->config[off], __ATOMIC_RELAXED);
}

void pci_poke8(struct pci_dev *p, uint16_t off, uint8_t val)
{
	__atomic_store_n(&p->config[off], val, __ATOMIC_RELAXED);
}

void pci_poke16(struct pci_dev *p, uint16_t off, uint16_t val)
{
	pci_poke8(p, off, (uint8_t)val);
	pci_poke8(p, off + 1, (uint8_t)(val >> 8));
}

void pci_poke32(struct pci_dev *p, uint16_t off, uint32_t val)
{
	pci_poke16(p, off, (uint16_t)val);
	pci_poke16(p, off + 2, (uint16_t)(val >> 16));
}

void pci_flip8(struct pci_dev *p, uint16_t off, uint8_t bits, bool on)
{
	if (on)
		__atomic_fetch_or(&p->config[off], bits, __ATOMIC_RELAXED);
	else
		__atomic_fetch_and(&p->config[off], (uint8_t)~bits, __ATOMIC_RELAXED);
}

void pci_set16(struct pci_dev *p, uint16_t off, uint16_t val)
{
	pci_poke16(p, off, val);
}

void pci_set32(struct pci_dev *p, uint16_t off, uint32_t val)
{
	pci_poke32(p, off, val);
}

uint16_t pci_get16(const struct pci_dev *p, uint16_t off)
{
	return (uint16_t)(pci_peek8(p, off) | pci_peek8(p, off + 1) << 8);
}

uint32_t pci_get32(const struct pci_dev *p, uint16_t off)
{
	return pci_get16(p, off) | (uint32_t)pci_get16(p, off + 2) << 16;
}

bool pci_master(const struct pci_dev *p)
{
	/* A bridge above whose own bit is clear should hold the request back,
	 * too. It does not: SeaBIOS boots from disks behind ports without ever
	 * setting that bit, and QEMU lets it. */
	return pci_peek8(p, PCI_COMMAND) & PCI_COMMAND_MASTER;
}

/* ---- guest accesses ---- */

static bool hook_covers(const struct pci_config_hook *h, uint16_t off, unsigned int len)
{
	return off < h->off + h->len && h->off < off + len;
}

uint32_t pci_config_load(struct pci_dev *p, uint16_t off, unsigned int len)
{
	uint32_t val = 0;
	int i;

	assert(len >= 1 && len <= 4 && off + len <= PCI_CFG_SIZE);
	for (i = 0; i < p->hooks; i++)
		if (p->hook[i].reading && hook_covers(&p->hook[i], off, len))
			p->hook[i].reading(p, off, len);
	for (i = 0; i < (int)len; i++)
		val |= (uint32_t)pci_peek8(p, (uint16_t)(off + i)) << (8 * i);
	return val;
}

static void store_byte(struct pci_dev *p, uint16_t off, uint8_t val)
{
	uint8_t old, new, w, w1c;

	if (off >= p->mask_bytes)
		return;
	w = p->wmask[off];
	w1c = p->w1cmask[off];
	if (!(w | w1c))
		return;
	/* Another thread may set a read-only bit in the same byte meanwhile. */
	old = pci_peek8(p, off);
	do {
		new = (uint8_t)((old & ~w) | (val & w));
		new &= (uint8_t)~(val & w1c);
	} while (!__atomic_compare_exchange_n(&p->config[off], &old, new, true,
					      __ATOMIC_RELAXED, __ATOMIC_RELAXED));
}

void pci_config_store(struct pci_dev *p, uint16_t off, unsigned int len, uint32_t val)
{
	unsigned int i;
	int h;

	assert(len >= 1 && len <= 4 && off + len <= PCI_CFG_SIZE);
	for (i = 0; i < len; i++)
		store_byte(p, (uint16_t)(off + i), (uint8_t)(val >> (8 * i)));
	for (h = 0; h < p->hooks; h++)
		if (p->hook[h].written && hook_covers(&p->hook[h], off, len))
			p->hook[h].written(p, off, len);
}

/* ---- set-up ---- */

void pci_read_hook_add(struct pci_dev *p, uint16_t off, uint16_t len,
		       void (*reading)(struct pci_dev *, uint16_t, unsigned int),
		       void (*written)(struct pci_dev *, uint16_t, unsigned int))
{
	assert(p->hooks < PCI_CONFIG_HOOKS && off + len <= PCI_CFG_SIZE);
	p->hook[p->hooks++] = (struct pci_config_hook){ off, len, written, reading };
}

void pci_hook_add(struct pci_dev *p, uint16_t off, uint16_t len,
		  void (*written)(struct pci_dev *, uint16_t, unsigned int))
{
	pci_read_hook_add(p, off, len, NULL, written);
}

static void command_written(struct pci_dev *p, uint16_t off, unsigned int len)
{
	pci_bars_update(p);
	pci_intx_update(p);
	msi_update(p);		/* bus mastering gates messages */
	msix_update(p);
	if (p->child)
		p->child_stale = true;
	pci_slot_switched_on(p);
}

static void *grown(uint8_t *mask, uint16_t old, uint16_t bytes)
{
	mask = xrealloc(mask, bytes);
	memset(mask + old, 0, (size_t)(bytes - old));
	return mask;
}

void pci_config_grow(struct pci_dev *p, uint16_t bytes)
{
	if (bytes <= p->mask_bytes)
		return;
	p->wmask = grown(p->wmask, p->mask_bytes, bytes);
	p->w1cmask = grown(p->w1cmask, p->mask_bytes, bytes);
	p->reset_config = grown(p->reset_config, p->mask_bytes, bytes);
	p->mask_bytes = bytes;
}

void pci_config_create(struct pci_dev *p, bool bridge)
{
	void *page;

	/* A page of its own: see the header of pci.h. */
	if (posix_memalign(&page, PCI_CFG_SIZE, PCI_CFG_SIZE))
		abort();	/* out of memory, as xcalloc() */
	p->config = memset(page, 0, PCI_CFG_SIZE);
	pci_config_grow(p, CONFIG_PCI_SIZE);
	p->cap_next = PCI_STD_HEADER_SIZEOF;
	p->ecap_next = PCI_CFG_SPACE_SIZE;
	put_le16(p->wmask + PCI_COMMAND, COMMAND_WMASK);
	put_le16(p->w1cmask + PCI_STATUS, STATUS_W1C);
	p->wmask[PCI_CACHE_LINE_SIZE] = 0xff;
	p->wmask[PCI_INTERRUPT_LINE] = 0xff;
	if (bridge)
		p->config[PCI_HEADER_TYPE] = PCI_HEADER_TYPE_BRIDGE;
	if (p->multifunction)
		p->config[PCI_HEADER_TYPE] |= 0x80;	/* PCI 3.0 s6.2.1 */
	pci_hook_add(p, PCI_COMMAND, 2, command_written);
}

void pci_config_destroy(struct pci_dev *p)
{
	free(p->config);
	free(p->wmask);
	free(p->w1cmask);
	free(p->reset_config);
	p->config = p->wmask = p->w1cmask = p->reset_config = NULL;
	p->mask_bytes = 0;
}

void pci_set_ids(struct pci_dev *p, const struct pci_ops *ids)
{
	pci_set16(p, PCI_VENDOR_ID, ids->vendor);
	pci_set16(p, PCI_DEVICE_ID, ids->device);
	pci_poke8(p, PCI_CLASS_REVISION, ids->revision);
	pci_poke8(p, PCI_CLASS_PROG, (uint8_t)ids->class);
	pci_set16(p, PCI_CLASS_DEVICE, (uint16_t)(ids->class >> 8));
	if (ids->bridge)	/* there a capability holds them */
		return;
	pci_set16(p, PCI_SUBSYSTEM_VENDOR_ID, ids->subvendor);
	pci_set16(p, PCI_SUBSYSTEM_ID, ids->subdevice);
}

void pci_config_snapshot(struct pci_dev *p)
{
	memcpy(p->reset_config, p->config, p->mask_bytes);
}

/* The presence bits of ports are no state of the guest's: they stay. */
void pci_config_restore(struct pci_dev *p)
{
	int h;

	for (uint16_t i = 0; i < p->mask_bytes; i++) {
		uint8_t guest = p->wmask[i] | p->w1cmask[i];

		pci_flip8(p, i, guest & p->reset_config[i], true);
		pci_flip8(p, i, guest & (uint8_t)~p->reset_config[i], false);
	}
	for (h = 0; h < p->hooks; h++)
		if (p->hook[h].written)
			p->hook[h].written(p, p->hook[h].off, p->hook[h].len);
}

/*
 * pci/cap.c - the capability lists, and the capabilities that stand alone:
 * power management and the bridges' subsystem ids.
 *
 * Spec:    PCI Local Bus 3.0 s6.7; PCI Power Management 1.2 s3.2; PCI-to-PCI
 *          Bridge 1.2 s3.2.5.13; PCIe Base 5.0 s7.6.3 (extended list).
 * Threads: lists are built on the main loop before the guest sees the function;
 *          pm_written runs under the device lock.
 * Missing: D1, D2 and D3cold: nothing would be saved.
 */
#include <assert.h>

#include "pci/internal.h"
#include "vmm/base/util.h"

uint16_t pci_cap_add(struct pci_dev *p, uint8_t id, uint8_t len)
{
	uint16_t off = p->cap_next;

	assert(len >= 2 && off + len <= PCI_CFG_SPACE_SIZE);
	pci_poke8(p, off, id);
	if (p->cap_last)
		pci_poke8(p, p->cap_last + PCI_CAP_LIST_NEXT, (uint8_t)off);
	else
		pci_poke8(p, PCI_CAPABILITY_LIST, (uint8_t)off);
	pci_flip8(p, PCI_STATUS, PCI_STATUS_CAP_LIST, true);
	p->cap_last = off;
	p->cap_next = (uint16_t)align_up(off + len, 4);
	return off;
}

uint16_t pci_ecap_add(struct pci_dev *p, uint16_t id, uint8_t version, uint16_t len)
{
	uint16_t off = p->ecap_next;

	assert(len >= 4 && off + len <= PCI_CFG_SIZE);
	pci_config_grow(p, (uint16_t)(off + len));
	pci_set32(p, off, id | (uint32_t)(version & 0xf) << 16);
	if (p->ecap_last)	/* the next pointer is the top 12 bits */
		pci_set16(p, p->ecap_last + 2,
			  (uint16_t)((pci_get16(p, p->ecap_last + 2) & 0xf) | off << 4));
	p->ecap_last = off;
	p->ecap_next = (uint16_t)align_up(off + len, 4);
	return off;
}

/* ---- power management ---- */

bool pci_in_d0(const struct pci_dev *p)
{
	return !p->pm_cap ||
	       !(pci_peek8(p, p->pm_cap + PCI_PM_CTRL) & PCI_PM_CTRL_STATE_MASK);
}

/* s3.2.4: writing a state the function lacks is completed and ignored. The
 * state before is whether the function was in D3hot, which p->pm_d3 keeps. */
static void pm_written(struct pci_dev *p, uint16_t off, unsigned int len)
{
	uint16_t ctrl = p->pm_cap + PCI_PM_CTRL;
	uint8_t state = pci_peek8(p, ctrl) & PCI_PM_CTRL_STATE_MASK;

	if (state == 1 || state == 2) {
		pci_flip8(p, ctrl, PCI_PM_CTRL_STATE_MASK, p->pm_d3);
		return;
	}
	p->pm_d3 = state == 3;
	pci_bars_update(p);
	if (p->child)
		p->child_stale = true;
}

uint16_t pci_pm_add(struct pci_dev *p, uint16_t pme)
{
	uint16_t off = pci_cap_add(p, PCI_CAP_ID_PM, PCI_PM_SIZEOF);

	pci_set16(p, off + PCI_PM_PMC, 3 | pme);	/* s3.2.3: version 1.2 */
	/* D3hot to D0 keeps all state, so no driver has to restore it. */
	pci_set16(p, off + PCI_PM_CTRL, PCI_PM_CTRL_NO_SOFT_RESET);
	put_le16(p->wmask + off + PCI_PM_CTRL,
		 PCI_PM_CTRL_STATE_MASK | (pme ? PCI_PM_CTRL_PME_ENABLE : 0));
	put_le16(p->w1cmask + off + PCI_PM_CTRL, pme ? PCI_PM_CTRL_PME_STATUS : 0);
	p->pm_cap = off;
	pci_hook_add(p, off + PCI_PM_CTRL, 2, pm_written);
	return off;
}

/* ---- subsystem ids of bridges ---- */

void pci_ssvid_add(struct pci_dev *p, uint16_t vendor, uint16_t device)
{
	uint16_t off = pci_cap_add(p, PCI_CAP_ID_SSVID, 8);

	pci_set16(p, off + PCI_SSVID_VENDOR_ID, vendor);
	pci_set16(p, off + PCI_SSVID_DEVICE_ID, device);
}

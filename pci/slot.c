/*
 * pci/slot.c - the slot behind a port: hot-plug registers, presence and link
 * changes, and what the PCI class does when a function comes or goes.
 *
 * Spec:    PCIe Base 5.0 s6.7 (hot-plug), s7.5.3.9 to s7.5.3.11 (slot registers).
 * Threads: registers change under the config lock, by a vCPU (hook) or by the
 *          main loop; the operations of pci_plug_ops run on the main loop.
 * Missing: attention button and indicator, MRL sensor, power controller,
 *          electromechanical interlock: see below.
 *
 * What a slot offers is chosen by what Linux does with it. Each thing that a
 * slot claims to have is waited for: five seconds after an attention button, one
 * after power is switched off, for every command that may complete. So there is
 * none of these. A device that comes raises presence and link changes, which the
 * guest acts on at once; link active reporting spares it a second. The power
 * indicator costs nothing and tells when the guest has let go of a device. How
 * the guest is asked to do that is the platform's affair (pci_root.eject).
 */
#include <errno.h>

#include "pci/internal.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/core/vm.h"

TRACE_DEFINE(pci_slot_status);
TRACE_DEFINE(pci_slot_control);

#define SLOT_CAPS	(PCI_EXP_SLTCAP_HPC | PCI_EXP_SLTCAP_HPS | PCI_EXP_SLTCAP_PIP | \
			 PCI_EXP_SLTCAP_NCCS)
#define CONTROL_WMASK	(PCI_EXP_SLTCTL_PDCE | PCI_EXP_SLTCTL_HPIE | PCI_EXP_SLTCTL_PIC | \
			 PCI_EXP_SLTCTL_DLLSCE)
#define STATUS_CHANGES	(PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_DLLSC)
#define NUMBER_SHIFT	19

static uint16_t status(const struct pci_dev *port)
{
	return pci_get16(port, port->express_cap + PCI_EXP_SLTSTA);
}

static uint16_t control(const struct pci_dev *port)
{
	return pci_get16(port, port->express_cap + PCI_EXP_SLTCTL);
}

static void status_flip(struct pci_dev *port, uint16_t bits, bool on)
{
	uint16_t off = port->express_cap + PCI_EXP_SLTSTA;

	pci_flip8(port, off, (uint8_t)bits, on);
	pci_flip8(port, off + 1, (uint8_t)(bits >> 8), on);
}

static void set_indicator(struct pci_dev *port, uint16_t pic)
{
	uint16_t off = port->express_cap + PCI_EXP_SLTCTL;

	pci_poke16(port, off, (uint16_t)((control(port) & ~PCI_EXP_SLTCTL_PIC) | pic));
	port->child->slot_hp.indicator = pic;
}

/* Function 0 is what the guest looks at first: with it the slot is occupied. */
static struct pci_dev *occupant(const struct pci_bus *b)
{
	struct pci_dev *zero = b->slot[0];

	return zero && zero->visible ? zero : NULL;
}

/* ---- the interrupt ---- */

/* s6.7.3.4: a change that is reported, and reporting is on. A message goes out
 * when this becomes true, a pin follows it. */
static void interrupt_update(struct pci_dev *port)
{
	struct pci_slot_hp *h = &port->child->slot_hp;
	uint16_t ctl = control(port), wanted = 0;
	bool on;

	if (ctl & PCI_EXP_SLTCTL_PDCE)
		wanted |= PCI_EXP_SLTSTA_PDC;
	if (ctl & PCI_EXP_SLTCTL_DLLSCE)
		wanted |= PCI_EXP_SLTSTA_DLLSC;
	on = (ctl & PCI_EXP_SLTCTL_HPIE) && (status(port) & wanted);
	if (msi_enabled(port)) {
		if (on && !h->raised)
			msi_fire(port, 0);
		pci_intx_set(port, false);
	} else {
		pci_intx_set(port, on);
	}
	h->raised = on;
}

/* ---- presence and link ---- */

bool pci_slot_link_up(const struct pci_dev *port)
{
	return pci_get16(port, port->express_cap + PCI_EXP_LNKSTA) & PCI_EXP_LNKSTA_DLLLA;
}

void pci_slot_presence(struct pci_dev *port, bool present, bool tell)
{
	uint16_t cap = port->express_cap;
	bool was_present = status(port) & PCI_EXP_SLTSTA_PDS;
	bool was_up = pci_slot_link_up(port);
	bool up = present && !(pci_get16(port, cap + PCI_EXP_LNKCTL) & PCI_EXP_LNKCTL_LD);

	status_flip(port, PCI_EXP_SLTSTA_PDS, present);
	pci_flip8(port, cap + PCI_EXP_LNKSTA + 1, PCI_EXP_LNKSTA_DLLLA >> 8, up);
	if (!tell || !port->child->hotplug)
		return;
	if (present != was_present)
		status_flip(port, PCI_EXP_SLTSTA_PDC, true);
	if (up != was_up)
		status_flip(port, PCI_EXP_SLTSTA_DLLSC, true);
	trace(pci_slot_status, "%s 0x%x", port->dev.path, status(port));
	interrupt_update(port);
}

/* ---- control register ---- */

/* The guest switched the power indicator. Off means that the device may be
 * taken, on that it is in use. */
static void indicator_written(struct pci_dev *port, uint16_t pic)
{
	struct pci_dev *zero = occupant(port->child);
	struct pci_slot_hp *h = &port->child->slot_hp;

	h->indicator = pic;
	if (!zero)
		return;
	h->let_go = pic == PCI_EXP_SLTCTL_PWR_IND_OFF;
	if (h->let_go)
		dev_unplug_answer(&zero->dev, true);
	else if (pic == PCI_EXP_SLTCTL_PWR_IND_ON)
		dev_plug_taken(&zero->dev);
}

void pci_slot_switched_on(struct pci_dev *p)
{
	struct pci_dev *zero = p->bus->slot[p->devfn & ~7];

	if (p->dev.hotplugged && zero &&
	    (pci_peek8(p, PCI_COMMAND) & (PCI_COMMAND_MEMORY | PCI_COMMAND_IO)))
		dev_plug_taken(&zero->dev);
}

static void slot_written(struct pci_dev *port, uint16_t off, unsigned int len)
{
	uint16_t pic = control(port) & PCI_EXP_SLTCTL_PIC;

	trace(pci_slot_control, "%s 0x%x status 0x%x", port->dev.path, control(port),
	      status(port));
	if (pic != port->child->slot_hp.indicator)
		indicator_written(port, pic);
	interrupt_update(port);
}

/* What firmware leaves: no changes to report, the light as the slot is. */
void pci_slot_settle(struct pci_dev *port)
{
	if (!port->child || !port->child->hotplug)
		return;
	status_flip(port, STATUS_CHANGES, false);
	set_indicator(port, occupant(port->child) ? PCI_EXP_SLTCTL_PWR_IND_ON
						  : PCI_EXP_SLTCTL_PWR_IND_OFF);
	port->child->slot_hp.let_go = false;
	interrupt_update(port);
}

void pci_slot_add(struct pci_dev *port, uint16_t number, bool hotplug)
{
	uint16_t cap = port->express_cap;

	pci_set16(port, cap + PCI_EXP_FLAGS,
		  pci_get16(port, cap + PCI_EXP_FLAGS) | PCI_EXP_FLAGS_SLOT);
	pci_set32(port, cap + PCI_EXP_SLTCAP,
		  (hotplug ? SLOT_CAPS : 0) | (uint32_t)number << NUMBER_SHIFT);
	port->child->hotplug = hotplug;
	if (!hotplug)
		return;
	put_le16(port->wmask + cap + PCI_EXP_SLTCTL, CONTROL_WMASK);
	put_le16(port->w1cmask + cap + PCI_EXP_SLTSTA, STATUS_CHANGES);
	set_indicator(port, PCI_EXP_SLTCTL_PWR_IND_OFF);
	pci_hook_add(port, cap + PCI_EXP_SLTCTL, 4, slot_written);
}

uint16_t pci_slot_number(const struct pci_dev *port)
{
	return (uint16_t)(pci_get32(port, port->express_cap + PCI_EXP_SLTCAP) >> NUMBER_SHIFT);
}

/* ---- functions that come and go ---- */

static struct pci_dev *to_pci(const struct dev *d)
{
	return (struct pci_dev *)(uintptr_t)d;
}

static int slot_check(struct dev *d, struct err *e)
{
	const struct pci_bus *b = to_pci(d)->bus;

	if (b->hotplug)
		return 0;
	return err_set(e, -EINVAL, "Bus '%s' does not support hotplugging; '%s' stays for as "
		       "long as the VM does", b->name, d->path);
}

/* All functions of the slot, function 0 first. */
static int slot_group(struct dev *d, struct dev **list)
{
	const struct pci_dev *p = to_pci(d);
	int fn, n = 0;

	for (fn = 0; fn < 8; fn++)
		if (p->bus->slot[(p->devfn & ~7) | fn])
			list[n++] = &p->bus->slot[(p->devfn & ~7) | fn]->dev;
	return n;
}

/* A guest that has not switched on anything of a new device cannot miss it. */
static bool untouched(struct dev *d)
{
	struct dev *list[DEV_GROUP_MAX];
	uint16_t on = 0;
	int i, n = slot_group(d, list);

	if (dev_plug_state(d) != DEV_PLUG_PLUGGING)
		return false;
	for (i = 0; i < n; i++)
		on |= pci_get16(to_pci(list[i]), PCI_COMMAND);
	return !(on & (PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER));
}

static int slot_request(struct dev *d)
{
	struct pci_bus *b = to_pci(d)->bus;
	struct pci_root *r = b->root;
	bool let_go;

	pthread_mutex_lock(&r->lock);
	let_go = b->slot_hp.let_go || untouched(d);
	pthread_mutex_unlock(&r->lock);
	if (let_go)
		return 1;
	if (r->eject)
		r->eject(r, b);
	return 0;
}

/* The link goes down. BARs stay where they are for the driver's last words. */
static bool slot_tear(struct dev *d)
{
	struct pci_bus *b = to_pci(d)->bus;
	struct pci_root *r = b->root;
	uint16_t ctl;
	bool told;

	pthread_mutex_lock(&r->lock);
	ctl = control(b->bridge);
	told = (ctl & PCI_EXP_SLTCTL_HPIE) &&
	       (ctl & (PCI_EXP_SLTCTL_PDCE | PCI_EXP_SLTCTL_DLLSCE)) &&
	       !b->slot_hp.let_go && !untouched(d);
	if (told)
		pci_slot_presence(b->bridge, false, true);
	pthread_mutex_unlock(&r->lock);
	return told;
}

static void slot_state(struct dev *d, enum dev_plug_state s)
{
	to_pci(d)->bus->slot_hp.last = s;
}

static json_t *slot_place(const struct dev *d)
{
	const struct pci_bus *b = to_pci(d)->bus;

	return b->bridge ? json_pack("{s:s, s:i}", "bus", b->name, "slot",
				     (int)pci_slot_number(b->bridge)) : NULL;
}

static void slot_hide(struct dev *d)
{
	pci_hide(to_pci(d), !d->vm->resetting);	/* a booting guest looks by itself */
	pci_intx_unwire(to_pci(d));
}

const struct dev_plug_ops pci_plug_ops = {
	.check = slot_check, .group = slot_group, .request = slot_request,
	.tear = slot_tear,
	.state = slot_state, .place = slot_place, .hide = slot_hide,
};

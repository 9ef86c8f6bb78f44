/*
 * pci/eject.c - how the platform asks a guest to let go of a device: ACPI's
 * eject request, for slots that have no attention button.
 *
 * Spec:    ACPI 6.4 s5.6.6 (Notify 3), s6.3.3 (_EJ0), s6.3.5 (_OST).
 * Threads: registers on vCPU threads, no lock held; they take the config lock.
 *          pci_eject_request() on the main loop.
 * Missing: nothing known.
 *
 * A native hot-plug slot has one way to ask, the attention button, and Linux
 * gives the user five seconds to press it again. A guest that has taken native
 * hot-plug still serves eject requests for its slots' devices, and at once: the
 * general purpose event makes AML (vmm/arch/x86/acpi_ssdt.c) read which slots
 * are asked for and notify their devices. Unplugging then is: stop the driver,
 * _EJ0, gone; the native driver sees an empty slot go down.
 *
 * Registers, all of 32 bits: REQUEST gives the number of a slot that is asked
 * for, counted from 1, and forgets it, or 0; EJECT takes the number of a slot
 * whose device the guest has let go; RESULT takes number | _OST's status << 16.
 */
#include "pci/internal.h"
#include "vmm/base/util.h"
#include "vmm/core/vm.h"

TRACE_DEFINE(pci_eject);

enum { REG_REQUEST = 0, REG_EJECT = 4, REG_RESULT = 8 };

#define OST_SUCCESS	0x00
#define OST_PENDING	0x84	/* table 6.13: ejection in progress */

void pci_eject_count(struct pci_root *r)
{
	struct pci_bus *b = NULL;
	uint16_t n = 0;

	while ((b = pci_port_next(r, b)))
		if (b->hotplug)
			b->slot_hp.number = ++n;
}

static struct pci_bus *bus_of(const struct pci_root *r, uint16_t number)
{
	struct pci_bus *b;

	for (b = r->buses; b && number; b = b->next)
		if (b->slot_hp.number == number)
			return b;
	return NULL;
}

void pci_eject_request(struct pci_root *r, struct pci_bus *b)
{
	pthread_mutex_lock(&r->lock);
	b->slot_hp.requested = true;
	pthread_mutex_unlock(&r->lock);
	trace(pci_eject, "request %s, slot %u", b->name, b->slot_hp.number);
	r->eject_raise(r);
}

/* The slot whose number is lowest, so that each is found in its turn. */
static uint16_t take_request(struct pci_root *r)
{
	struct pci_bus *b, *first = NULL;

	for (b = r->buses; b; b = b->next)
		if (b->slot_hp.requested &&
		    (!first || b->slot_hp.number < first->slot_hp.number))
			first = b;
	if (!first)
		return 0;
	first->slot_hp.requested = false;
	return first->slot_hp.number;
}

static uint64_t eject_read(struct bus_win *w, uint64_t off, unsigned int width)
{
	struct pci_root *r = w->arg;
	uint64_t val = 0;

	if (off != REG_REQUEST || width != 4)
		return 0;
	pthread_mutex_lock(&r->lock);
	val = take_request(r);
	pthread_mutex_unlock(&r->lock);
	trace(pci_eject, "guest takes slot %u", (unsigned int)val);
	return val;
}

static void answer(struct pci_root *r, uint16_t number, bool granted)
{
	struct pci_bus *b;

	pthread_mutex_lock(&r->lock);
	b = bus_of(r, number);
	if (b && b->slot[0] && b->slot[0]->visible)
		dev_unplug_answer(&b->slot[0]->dev, granted);
	pthread_mutex_unlock(&r->lock);
}

static void eject_write(struct bus_win *w, uint64_t off, unsigned int width, uint64_t val)
{
	struct pci_root *r = w->arg;
	uint32_t status = (uint32_t)val >> 16;

	if (width != 4)
		return;
	trace(pci_eject, "guest writes 0x%x to +%u", (uint32_t)val, (unsigned int)off);
	if (off == REG_EJECT)
		answer(r, (uint16_t)val, true);
	else if (off == REG_RESULT && status != OST_SUCCESS && status != OST_PENDING)
		answer(r, (uint16_t)val, false);
}

static const struct bus_win_ops eject_ops = { .read = eject_read, .write = eject_write };

int pci_eject_create(struct pci_root *r, uint16_t port)
{
	r->eject_win = (struct bus_win){ .name = "pci-eject", .ops = &eject_ops, .arg = r,
					 .size = PCI_EJECT_BYTES };
	r->eject = pci_eject_request;
	return bus_map(r->vm->bus[BUS_PIO], &r->eject_win, port);
}

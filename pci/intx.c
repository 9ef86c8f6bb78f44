/*
 * pci/intx.c - wired interrupts: from a function's pin to the root's line.
 *
 * Spec:    PCI Local Bus 3.0 s2.2.6, s6.2.2, s6.2.3 (disable and status bits);
 *          PCI-to-PCI Bridge 1.2 s9.1, PCIe Base 5.0 s2.2.8.1 (swizzle).
 * Threads: any. intx_lock keeps the wanted level, the disable bit and the line
 *          together; it is taken under any device lock and takes only irq's.
 * Missing: nothing known.
 */
#include <assert.h>

#include "pci/internal.h"
#include "vmm/core/vm.h"

void pci_intx_init(struct pci_dev *p, uint8_t pin)
{
	assert(pin <= 4);
	pci_poke8(p, PCI_INTERRUPT_PIN, pin);
}

/* Each bridge turns the pins by the device number below it. */
void pci_intx_wire(struct pci_dev *p)
{
	uint8_t pin = pci_peek8(p, PCI_INTERRUPT_PIN);
	struct pci_root *r = p->bus->root;
	const struct pci_bus *b = p->bus;
	uint8_t slot = p->devfn >> 3;

	if (!pin || !r->intx_gsi)
		return;
	pin--;
	for (; b->bridge; b = b->bridge->bus) {
		pin = (pin + slot) % 4;
		slot = b->bridge->devfn >> 3;
	}
	irq_pin_init(&p->intx, r->vm->irq, r->intx_gsi(r, slot, pin));
	p->intx_wired = true;
}

void pci_intx_unwire(struct pci_dev *p)
{
	pthread_mutex_lock(&p->intx_lock);
	if (p->intx_wired)
		irq_pin_set(&p->intx, false);
	p->intx_wired = false;
	pthread_mutex_unlock(&p->intx_lock);
}

/* intx_lock held. The status bit shows the level also while disabled. */
static void apply(struct pci_dev *p)
{
	bool disabled = pci_get16(p, PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE;

	pci_flip8(p, PCI_STATUS, PCI_STATUS_INTERRUPT, p->intx_level);
	if (p->intx_wired)
		irq_pin_set(&p->intx, p->intx_level && !disabled);
}

void pci_intx_set(struct pci_dev *p, bool level)
{
	pthread_mutex_lock(&p->intx_lock);
	if (level != p->intx_level) {
		p->intx_level = level;
		apply(p);
	}
	pthread_mutex_unlock(&p->intx_lock);
}

void pci_intx_update(struct pci_dev *p)
{
	pthread_mutex_lock(&p->intx_lock);
	apply(p);
	pthread_mutex_unlock(&p->intx_lock);
}

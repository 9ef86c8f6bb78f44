/*
 * pci/expander.c - PCIe expander (1b36:000b): another root complex of the
 * machine, with a bus number of its own choice and a NUMA node.
 *
 * Spec:    none: the function on pcie.0 is a name tag, as QEMU's pxb-pcie is. What
 *          makes a root complex is in ACPI (PCI Firmware 3.2 s4.2: one PNP0A08
 *          device, with its bus range and windows, for each).
 * Threads: main loop.
 * Missing: an IOMMU that could be bypassed.
 *
 * Its bus is a root bus: no bridge is above, ports go there as on pcie.0. Bus
 * numbers from bus_nr up to the next root bus are its own; its windows are cut
 * from the end of the machine's (enumerate.c).
 */
#include <errno.h>

#include "pci/internal.h"
#include "vmm/base/util.h"
#include "vmm/core/vm.h"

struct expander {
	struct pci_dev pci;
	struct pci_bus *bus;	/* owned */
	/* properties */
	uint8_t bus_nr;
	uint16_t numa_node;
	bool bypass_iommu;
};

static const struct prop expander_props[] = {
	PROP_U8(struct expander, bus_nr, "bus_nr", 1, 255, 0,
		"number of its bus; those up to the next root bus are behind it"),
	PROP_U16(struct expander, numa_node, "numa_node", 0, PCI_NUMA_NONE, PCI_NUMA_NONE,
		 "NUMA node of what is behind it; default: none"),
	PROP_BOOL(struct expander, bypass_iommu, "bypass_iommu", false,
		  "taken for QEMU's sake: there is no IOMMU to bypass"),
	PROP_END
};

static int check(const struct expander *x, struct err *e)
{
	const struct pci_dev *p = &x->pci;
	struct pci_bus *b = NULL;

	if (p->bus != p->bus->root->bus0)
		return err_set(e, -EINVAL, "%s: a pxb-pcie goes on 'pcie.0', not on '%s'",
			       p->dev.path, p->bus->name);
	if (!x->bus_nr)
		return err_set(e, -EINVAL, "%s: a pxb-pcie needs bus_nr=, the number of its bus; "
			       "128 leaves half of all numbers to pcie.0", p->dev.path);
	if (x->numa_node != PCI_NUMA_NONE && x->numa_node >= p->dev.vm->numa_nodes)
		return err_set(e, -ENOENT, "%s: numa_node=%u: there is no such NUMA node; add "
			       "-numa node,nodeid=%u", p->dev.path, x->numa_node, x->numa_node);
	while ((b = pci_root_bus_next(p->bus->root, b)))
		if (b->number == x->bus_nr)
			return err_set(e, -EEXIST, "%s: bus_nr=%u is the number of '%s' already; "
				       "choose another", p->dev.path, x->bus_nr, b->name);
	if (pci_bus_find(p->bus->root, p->dev.path))
		return err_set(e, -EEXIST, "%s: there is a PCI bus of that name already",
			       p->dev.path);
	return 0;
}

static int expander_init(struct dev *d, struct err *e)
{
	struct expander *x = DEV_OF(d, struct expander);
	int r = check(x, e);

	if (r)
		return r;
	x->bus = pci_bus_create(x->pci.bus->root, d->path, NULL);
	x->bus->express = true;
	x->bus->expander = &x->pci;
	x->bus->number = x->bus_nr;
	x->bus->numa_node = x->numa_node;
	return 0;
}

static void expander_fini(struct dev *d)
{
	pci_bus_destroy(DEV_OF(d, struct expander)->bus);
}

static const struct pci_ops expander_ops = {
	.vendor = 0x1b36, .device = 0x000b, .subvendor = 0x1af4, .subdevice = 0x1100,
	.class = 0x060000, .conventional = true, .root_only = true,
};

const struct dev_type pxb_pcie_type = {
	.name = "pxb-pcie", .help = "PCIe expander: another root complex",
	.class = &pci_class, .size = sizeof(struct expander), .props = expander_props,
	.ops = { .init = expander_init, .fini = expander_fini },
	.class_ops = &expander_ops, .flags = DEV_NO_HOTPLUG,
};

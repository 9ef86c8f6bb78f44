/*
 * pci/pcie_pci_bridge.c - PCIe to PCI bridge (1b36:000e): a conventional PCI
 * bus with 32 slots.
 *
 * Spec:    PCI Express to PCI/PCI-X Bridge 1.0; PCIe Base 5.0 s7.5.3.
 * Threads: main loop; see config.c for what the guest does.
 * Missing: SHPC hot-plug, so there is neither its BAR nor an interrupt.
 *
 * All 32 slots may be used, slot 0 included, as QEMU allows on this bridge
 * (libvirt starts at slot 1).
 */
#include "pci/bridge.h"
#include "vmm/base/util.h"

struct pcie_pci_bridge {
	struct pci_bridge b;
};

static const struct prop pcie_pci_bridge_props[] = {
	PCI_BRIDGE_PROPS(struct pcie_pci_bridge, b),
	PROP_END
};

static int pcie_pci_bridge_init(struct dev *d, struct err *e)
{
	struct pci_bridge *b = DEV_OF(d, struct pci_bridge);
	struct pci_dev *p = &b->pci;
	int r = pci_bridge_init(b, false, e);

	if (r)
		return r;
	pci_pm_add(p, 0);
	pci_express_add(p, PCI_EXP_TYPE_PCI_BRIDGE, 0);
	pci_express_follow_port(p);
	pci_ssvid_add(p, 0x1af4, 0x1100);
	pci_aer_add(p);
	return 0;
}

static const struct pci_ops pcie_pci_bridge_ops = {
	.vendor = 0x1b36, .device = 0x000e, .class = 0x060400,
	.express_only = true, .bridge = true,
};

const struct dev_type pcie_pci_bridge_type = {
	.name = "pcie-pci-bridge", .help = "PCIe to PCI bridge: 32 conventional slots",
	.class = &pci_class, .size = sizeof(struct pcie_pci_bridge),
	.props = pcie_pci_bridge_props,
	.ops = { .init = pcie_pci_bridge_init },
	.class_ops = &pcie_pci_bridge_ops, .flags = DEV_NO_HOTPLUG,
};

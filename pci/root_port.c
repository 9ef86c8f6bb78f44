/*
 * pci/root_port.c - PCIe root port (1b36:000c): one slot for one PCIe device.
 *
 * Spec:    PCIe Base 5.0 s1.3.1, s7.5.1.3; properties as QEMU's pcie-root-port.
 * Threads: main loop; see config.c for what the guest does.
 * Missing: errors and power management events, which nothing here has.
 *
 * The port's own interrupt, raised by its slot (slot.c), is MSI, or INTA where
 * the guest has no MSI.
 */
#include <errno.h>

#include "pci/bridge.h"
#include "vmm/base/util.h"
#include "vmm/core/vm.h"

struct root_port {
	struct pci_bridge b;
	/* properties */
	struct pci_chassis slot;
	uint8_t port;
	bool hotplug;
	int speed, width;	/* indices */
};

static const char *const speed_words[] = { "2_5", "5", "8", "16", NULL };
static const char *const width_words[] = { "1", "2", "4", "8", "12", "16", "32", NULL };
static const uint8_t widths[] = { 1, 2, 4, 8, 12, 16, 32 };

static const struct prop root_port_props[] = {
	PCI_CHASSIS_PROPS(struct root_port, slot),
	PROP_U8(struct root_port, port, "port", 0, 255, 0,
		"port number; default: slot and function of its address",
		.flags = PROP_GUEST),
	PROP_BOOL(struct root_port, hotplug, "hotplug", true,
		  "devices may come and go while the guest runs", .flags = PROP_GUEST),
	PROP_ENUM(struct root_port, speed, "x-speed", speed_words, 3,
		  "link speed in GT/s", .flags = PROP_GUEST),
	PROP_ENUM(struct root_port, width, "x-width", width_words, 6,
		  "link width in lanes", .flags = PROP_GUEST),
	PCI_BRIDGE_PROPS(struct root_port, b),
	PROP_END
};

static int root_port_init(struct dev *d, struct err *e)
{
	struct root_port *rp = DEV_OF(d, struct root_port);
	struct pci_dev *p = &rp->b.pci;
	int r;

	if (!json_object_get(d->args, "port"))
		rp->port = p->devfn;
	if ((r = pci_chassis_choose(p, &rp->slot, e)) || (r = pci_bridge_init(&rp->b, true, e)))
		return r;
	p->child->chassis = rp->slot;
	p->child->last_slot = 0;	/* a link leads to device 0 only */
	pci_intx_init(p, 1);
	pci_pm_add(p, PCI_PM_CAP_PME_D0 | PCI_PM_CAP_PME_D3hot | PCI_PM_CAP_PME_D3cold);
	r = msi_init(p, 1, true, e);
	if (r)
		return r;
	pci_express_add(p, PCI_EXP_TYPE_ROOT_PORT, rp->port);
	pci_express_link(p, (uint8_t)(rp->speed + 1), widths[rp->width]);
	pci_slot_add(p, rp->slot.slot, rp->hotplug);
	pci_ssvid_add(p, 0x1af4, 0x1100);
	pci_aer_add(p);
	pci_acs_add(p);
	return 0;
}

static const struct pci_ops root_port_ops = {
	.vendor = 0x1b36, .device = 0x000c, .class = 0x060400,
	.root_only = true, .bridge = true,
};

const struct dev_type pcie_root_port_type = {
	.name = "pcie-root-port", .help = "PCIe root port: a slot for one PCIe device",
	.class = &pci_class, .size = sizeof(struct root_port), .props = root_port_props,
	.ops = { .init = root_port_init },
	.class_ops = &root_port_ops, .flags = DEV_NO_HOTPLUG,
};

/*
 * pci/switch.c - a PCIe switch, made of an upstream port (104c:8232) and up to
 * 32 downstream ports (104c:8233) on the bus inside it.
 *
 * Spec:    PCIe Base 5.0 s1.3.3, s7.5.3; IDs of TI's XIO3130.
 * Threads: main loop; see config.c for what the guest does.
 * Missing: the chip's own registers, which no driver uses.
 */
#include "pci/bridge.h"
#include "vmm/base/util.h"
#include "vmm/core/vm.h"

/* ---- upstream ---- */

struct x3130_upstream {
	struct pci_bridge b;
};

static const struct prop upstream_props[] = {
	PCI_BRIDGE_PROPS(struct x3130_upstream, b),
	PROP_END
};

static int upstream_init(struct dev *d, struct err *e)
{
	struct pci_bridge *b = DEV_OF(d, struct pci_bridge);
	struct pci_dev *p = &b->pci;
	int r = pci_bridge_init(b, true, e);

	if (r)
		return r;
	p->child->inside_switch = true;
	pci_pm_add(p, 0);
	r = msi_init(p, 1, true, e);
	if (r)
		return r;
	pci_express_add(p, PCI_EXP_TYPE_UPSTREAM, 0);
	pci_express_follow_port(p);
	pci_ssvid_add(p, 0x1af4, 0x1100);
	pci_aer_add(p);
	return 0;
}

static const struct pci_ops upstream_ops = {
	.vendor = 0x104c, .device = 0x8232, .revision = 2, .class = 0x060400,
	.express_only = true, .upstream = true, .bridge = true,
};

const struct dev_type x3130_upstream_type = {
	.name = "x3130-upstream", .help = "upstream port of a PCIe switch",
	.class = &pci_class, .size = sizeof(struct x3130_upstream), .props = upstream_props,
	.ops = { .init = upstream_init },
	.class_ops = &upstream_ops, .flags = DEV_NO_HOTPLUG,
};

/* ---- downstream ---- */

struct xio3130_downstream {
	struct pci_bridge b;
	/* properties */
	struct pci_chassis slot;
	uint8_t port;
	bool hotplug;
};

static const struct prop downstream_props[] = {
	PCI_CHASSIS_PROPS(struct xio3130_downstream, slot),
	PROP_U8(struct xio3130_downstream, port, "port", 0, 255, 0,
		"port number; default: slot and function of its address",
		.flags = PROP_GUEST),
	PROP_BOOL(struct xio3130_downstream, hotplug, "hotplug", true,
		  "devices may come and go while the guest runs", .flags = PROP_GUEST),
	PCI_BRIDGE_PROPS(struct xio3130_downstream, b),
	PROP_END
};

/* The switch's end towards the root has the links' speed and width. */
static void link_as_upstream(struct pci_dev *p)
{
	const struct pci_dev *up = p->bus->bridge;
	uint32_t link = pci_get32(up, up->express_cap + PCI_EXP_LNKCAP);

	pci_express_link(p, link & PCI_EXP_LNKCAP_SLS, (link & PCI_EXP_LNKCAP_MLW) >> 4);
}

static int downstream_init(struct dev *d, struct err *e)
{
	struct xio3130_downstream *x = DEV_OF(d, struct xio3130_downstream);
	struct pci_dev *p = &x->b.pci;
	int r;

	if (!json_object_get(d->args, "port"))
		x->port = p->devfn >> 3;
	if ((r = pci_chassis_choose(p, &x->slot, e)) || (r = pci_bridge_init(&x->b, true, e)))
		return r;
	p->child->chassis = x->slot;
	p->child->last_slot = 0;	/* a link leads to device 0 only */
	pci_intx_init(p, 1);
	pci_pm_add(p, 0);
	r = msi_init(p, 1, true, e);
	if (r)
		return r;
	pci_express_add(p, PCI_EXP_TYPE_DOWNSTREAM, x->port);
	link_as_upstream(p);
	pci_slot_add(p, x->slot.slot, x->hotplug);
	pci_ssvid_add(p, 0x1af4, 0x1100);
	pci_aer_add(p);
	pci_acs_add(p);
	return 0;
}

static const struct pci_ops downstream_ops = {
	.vendor = 0x104c, .device = 0x8233, .revision = 1, .class = 0x060400,
	.express_only = true, .downstream = true, .bridge = true,
};

const struct dev_type xio3130_downstream_type = {
	.name = "xio3130-downstream", .help = "PCIe switch's port: a slot for one PCIe device",
	.class = &pci_class, .size = sizeof(struct xio3130_downstream),
	.props = downstream_props,
	.ops = { .init = downstream_init },
	.class_ops = &downstream_ops, .flags = DEV_NO_HOTPLUG,
};

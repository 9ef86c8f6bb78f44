/*
 * pci/class.c - the device class pci: a function's life from slot to nothing.
 *
 * Spec:    none of its own.
 * Threads: main loop. A function becomes visible to vCPUs, and leaves them,
 *          under the config lock.
 * Missing: nothing known.
 */
#include "pci/internal.h"
#include "vmm/base/util.h"
#include "vmm/core/vm.h"

static const struct prop pci_props[] = {
	PROP_STR(struct pci_dev, bus_name, "bus", NULL,
		 "the PCI bus: pcie.0 or a bridge's id"),
	PROP_STR(struct pci_dev, addr, "addr", NULL,
		 "SLOT[.FUNCTION] in hexadecimal; default: the first empty slot",
		 .flags = PROP_GUEST),
	PROP_BOOL(struct pci_dev, multifunction, "multifunction", false,
		  "other functions share this slot", .flags = PROP_GUEST),
	PROP_END
};

/* Types of classes above pci (virtio) name ops of their own. */
static const struct pci_ops *ops_of(const struct dev *d)
{
	return d->type->class == &pci_class ? d->type->class_ops : NULL;
}

static int pci_attach(struct dev *d, struct err *e)
{
	struct pci_dev *p = DEV_OF(d, struct pci_dev);
	const struct pci_ops *ops = ops_of(d);
	int r = pci_place(p, ops, e);

	if (r)
		return r;
	pthread_mutex_init(&p->intx_lock, NULL);
	pci_config_create(p, ops && ops->bridge);
	if (ops)
		pci_set_ids(p, ops);
	return 0;
}

/* The port above learns whether its slot is occupied, which is whether there is
 * a function 0 (functions that come earlier wait for it). Config lock. */
static void update_port(const struct pci_bus *b, bool tell)
{
	if (b->bridge && pci_express_is_port(b->bridge))
		pci_slot_presence(b->bridge, b->slot[0] && b->slot[0]->visible, tell);
}

/* A guest that has not run yet finds everything by itself. */
static bool guest_runs(const struct dev *d)
{
	return d->hotplugged && atomic_load(&d->vm->state) != VM_PRELAUNCH;
}

static void need_io(struct pci_dev *p)
{
	int n;

	for (n = 0; n < PCI_BARS; n++)
		if (p->bar[n].win.size && pci_bar_space(p, n) == PCI_SPACE_IO)
			pci_bridge_enable_io(p->bus->bridge);
}

static int pci_start(struct dev *d, struct err *e)
{
	struct pci_dev *p = DEV_OF(d, struct pci_dev);
	struct pci_root *r = p->bus->root;

	need_io(p);
	pci_config_snapshot(p);
	pci_intx_wire(p);
	pthread_mutex_lock(&r->lock);
	p->visible = true;
	if (p->child)
		pci_routes_update(r);
	if (p == p->bus->slot[0])
		p->bus->slot_hp.let_go = false;
	if (guest_runs(d))
		pci_bridge_check_room(p->bus);
	update_port(p->bus, guest_runs(d));
	pthread_mutex_unlock(&r->lock);
	return 0;
}

void pci_hide(struct pci_dev *p, bool tell)
{
	struct pci_root *r = p->bus->root;

	pthread_mutex_lock(&r->lock);
	p->visible = false;
	if (p == p->bus->slot[0])
		p->bus->slot_hp.requested = false;
	pthread_mutex_lock(&p->dev.lock);	/* for the moved callbacks */
	pci_bars_unmap(p);
	pthread_mutex_unlock(&p->dev.lock);
	if (p->child)
		pci_routes_update(r);
	update_port(p->bus, tell);
	pthread_mutex_unlock(&r->lock);
}

static void pci_stop(struct dev *d)
{
	struct pci_dev *p = DEV_OF(d, struct pci_dev);

	pci_hide(p, false);
	pci_intx_unwire(p);
}

static void pci_detach(struct dev *d)
{
	struct pci_dev *p = DEV_OF(d, struct pci_dev);
	struct pci_bus *b = p->bus;

	if (!b)
		return;
	msix_fini(p);
	msi_fini(p);
	pci_bus_destroy(p->child);
	pthread_mutex_lock(&b->root->lock);
	b->slot[p->devfn] = NULL;
	p->bus = NULL;
	pthread_mutex_unlock(&b->root->lock);
	pci_config_destroy(p);
	pthread_mutex_destroy(&p->intx_lock);
}

/* No vCPU runs; config and device locks are not needed and not taken, because
 * devices behind a bridge reset themselves. */
static int pci_reset(struct dev *d)
{
	struct pci_dev *p = DEV_OF(d, struct pci_dev);

	pci_config_restore(p);
	msix_reset(p);
	if (p->child)
		pci_routes_update(p->bus->root);
	pci_slot_settle(p);
	p->child_stale = false;
	return 0;
}

const struct dev_class pci_class = {
	.name = "pci",
	.props = pci_props,
	.attach = pci_attach,
	.start = pci_start,
	.stop = pci_stop,
	.detach = pci_detach,
	.reset = pci_reset,
	.plug = &pci_plug_ops,
};

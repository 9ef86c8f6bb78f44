/*
 * pci/query.c - the PCI devices of a VM as QMP's query-pci shows them.
 *
 * Spec:    QEMU's qapi/pci.json; what is roost's own begins with __org.roost_.
 * Threads: main loop, config lock held while registers are read.
 * Missing: nothing known.
 */
#include <stdio.h>

#include "pci/bridge.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/core/vm.h"

/* Classes that a machine here can have (PCI Code and ID Assignment 1.15). */
static const char *class_text(uint16_t class)
{
	static const struct {
		uint16_t class;
		const char *text;
	} known[] = {
		{ 0x0100, "SCSI controller" }, { 0x0106, "SATA controller" },
		{ 0x0108, "NVMe controller" }, { 0x0180, "Storage controller" },
		{ 0x0200, "Ethernet controller" }, { 0x0280, "Network controller" },
		{ 0x0300, "VGA controller" }, { 0x0380, "Display controller" },
		{ 0x0500, "RAM controller" }, { 0x0600, "Host bridge" },
		{ 0x0601, "ISA bridge" }, { 0x0604, "PCI bridge" },
		{ 0x0780, "Communication controller" }, { 0x0880, "System peripheral" },
		{ 0x0c03, "USB controller" }, { 0x0c05, "SMBus" },
	};

	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (known[i].class == class)
			return known[i].text;
	return NULL;
}

static json_t *class_info(const struct pci_dev *p)
{
	uint16_t class = pci_get16(p, PCI_CLASS_DEVICE);
	json_t *o = json_pack("{s:i}", "class", class);

	if (class_text(class))
		json_put_str(o, "desc", class_text(class));
	return o;
}

static json_t *ids(const struct pci_dev *p)
{
	json_t *o = json_pack("{s:i, s:i}", "vendor", pci_get16(p, PCI_VENDOR_ID),
			      "device", pci_get16(p, PCI_DEVICE_ID));

	if (p->child)
		return o;
	json_object_set_new(o, "subsystem", json_integer(pci_get16(p, PCI_SUBSYSTEM_ID)));
	json_object_set_new(o, "subsystem-vendor",
			    json_integer(pci_get16(p, PCI_SUBSYSTEM_VENDOR_ID)));
	return o;
}

static json_t *region(const struct pci_dev *p, int n)
{
	const struct pci_bar *b = &p->bar[n];
	bool io = b->flags & PCI_BASE_ADDRESS_SPACE_IO;
	json_t *o = json_pack("{s:i, s:s, s:I, s:I}", "bar", n, "type", io ? "io" : "memory",
			      "address", (json_int_t)(b->mapped ? b->addr : UINT64_MAX),
			      "size", (json_int_t)b->win.size);

	if (io)
		return o;
	json_object_set_new(o, "prefetch", json_boolean(b->flags & PCI_BASE_ADDRESS_MEM_PREFETCH));
	json_object_set_new(o, "mem_type_64",
			    json_boolean(b->flags & PCI_BASE_ADDRESS_MEM_TYPE_64));
	return o;
}

static json_t *regions(const struct pci_dev *p)
{
	json_t *list = json_array();

	for (int n = 0; n < PCI_BARS; n++)
		if (p->bar[n].win.size)
			json_array_append_new(list, region(p, n));
	return list;
}

static json_t *range(const struct pci_dev *p, enum pci_space s)
{
	uint64_t base, last;

	pci_bridge_window(p, s, &base, &last);
	return json_pack("{s:I, s:I}", "base", (json_int_t)base, "limit", (json_int_t)last);
}

static json_t *bus_info(const struct pci_dev *p)
{
	return json_pack("{s:i, s:i, s:i, s:o, s:o, s:o}",
			 "number", pci_peek8(p, PCI_PRIMARY_BUS),
			 "secondary", pci_peek8(p, PCI_SECONDARY_BUS),
			 "subordinate", pci_peek8(p, PCI_SUBORDINATE_BUS),
			 "io_range", range(p, PCI_SPACE_IO),
			 "memory_range", range(p, PCI_SPACE_MEM),
			 "prefetchable_range", range(p, PCI_SPACE_PREF));
}

/* What happened last in a slot is its state while it is empty. */
static enum dev_plug_state slot_state(const struct pci_bus *b)
{
	const struct pci_dev *p = pci_port_holds(b);

	if (p)
		return dev_plug_state(&p->dev);
	return b->slot_hp.last == DEV_PLUG_EJECTED || b->slot_hp.last == DEV_PLUG_SURPRISE ?
		b->slot_hp.last : DEV_PLUG_EMPTY;
}

static json_t *slot_info(const struct pci_dev *port)
{
	const struct pci_bus *b = port->child;

	return json_pack("{s:i, s:b, s:s}", "number", (int)pci_slot_number(port),
			 "hotplug", b->hotplug, "state", dev_plug_state_name(slot_state(b)));
}

static json_t *bus_devices(const struct pci_bus *b, int number);

static json_t *bridge_info(const struct pci_dev *p)
{
	json_t *o = json_pack("{s:o, s:o}", "bus", bus_info(p), "devices",
			      bus_devices(p->child, pci_peek8(p, PCI_SECONDARY_BUS)));

	if (pci_express_is_port(p))
		json_object_set_new(o, "__org.roost_slot", slot_info(p));
	return o;
}

static json_t *device_info(const struct pci_dev *p, int bus)
{
	uint8_t pin = pci_peek8(p, PCI_INTERRUPT_PIN);
	json_t *o = json_pack("{s:i, s:i, s:i, s:o, s:o, s:i, s:s, s:s, s:o}", "bus", bus,
			      "slot", p->devfn >> 3, "function", p->devfn & 7,
			      "class_info", class_info(p), "id", ids(p), "irq_pin", pin,
			      "qdev_id", p->dev.id ? p->dev.id : "",
			      "__org.roost_driver", p->dev.type->name, "regions", regions(p));

	if (pin)
		json_object_set_new(o, "irq", json_integer(pci_peek8(p, PCI_INTERRUPT_LINE)));
	if (p->child)
		json_object_set_new(o, "pci_bridge", bridge_info(p));
	return o;
}

static json_t *bus_devices(const struct pci_bus *b, int number)
{
	json_t *list = json_array();

	for (int i = 0; i < 256; i++)
		if (b->slot[i])
			json_array_append_new(list, device_info(b->slot[i], number));
	return list;
}

json_t *pci_query(struct pci_root *r)
{
	json_t *list = json_array();
	struct pci_bus *b = NULL;

	pthread_mutex_lock(&r->lock);
	while ((b = pci_root_bus_next(r, b)))
		json_array_append_new(list, json_pack("{s:i, s:s, s:o}", "bus", b->number,
						      "__org.roost_id", b->name, "devices",
						      bus_devices(b, b->number)));
	pthread_mutex_unlock(&r->lock);
	return list;
}

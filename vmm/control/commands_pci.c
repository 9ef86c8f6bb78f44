/*
 * vmm/control/commands_pci.c - query-pci, and the event of a slot's state.
 *
 * Spec:    QEMU's qapi/pci.json; what is roost's own has its prefix.
 * Threads: main loop.
 */
#include "pci/pci.h"
#include "vmm/control/qmp.h"
#include "vmm/core/vm.h"

static int query_pci(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct pci_root *r = qmp_vm(q)->pci;

	*ret = r ? pci_query(r) : json_array();
	return 0;
}

static const struct qmp_cmd cmds[] = {
	{ .name = "query-pci", .help = "PCI buses and devices", .run = query_pci,
	  .ret = "[PciInfo]" },
	{ 0 }
};

static const struct qmp_event events[] = {
	{ "__org.roost_SLOT_STATE", "q_obj___org.roost_SLOT_STATE-arg",
	  "a device that comes or goes has got further" },
	{ 0 }
};

static void states(struct qmp *q, json_t *info)
{
	for (int i = 0; i < DEV_PLUG_STATES; i++)
		qmp_schema_word(info, dev_plug_state_name((enum dev_plug_state)i));
}

static const struct qmp_member slot_data[] = {
	{ "bus", "str" }, { "slot", "int" }, { "*device", "str" }, { "path", "str" },
	{ "state", "__org.roost_SlotState" }, { 0 }
};
static const struct qmp_member pci_info[] = {
	{ "bus", "int" }, { "devices", "[PciDeviceInfo]" }, { "__org.roost_id", "str" }, { 0 }
};
static const struct qmp_member device_info[] = {
	{ "bus", "int" }, { "slot", "int" }, { "function", "int" },
	{ "class_info", "PciDeviceClass" }, { "id", "PciDeviceId" }, { "*irq", "int" },
	{ "irq_pin", "int" }, { "qdev_id", "str" }, { "*pci_bridge", "PciBridgeInfo" },
	{ "regions", "[PciMemoryRegion]" }, { "__org.roost_driver", "str" }, { 0 }
};
static const struct qmp_member class_info[] = {
	{ "*desc", "str" }, { "class", "int" }, { 0 }
};
static const struct qmp_member id_info[] = {
	{ "device", "int" }, { "vendor", "int" }, { "*subsystem", "int" },
	{ "*subsystem-vendor", "int" }, { 0 }
};
static const struct qmp_member bridge_info[] = {
	{ "bus", "PciBusInfo" }, { "*devices", "[PciDeviceInfo]" },
	{ "*__org.roost_slot", "__org.roost_SlotInfo" }, { 0 }
};
static const struct qmp_member bus_info[] = {
	{ "number", "int" }, { "secondary", "int" }, { "subordinate", "int" },
	{ "io_range", "PciMemoryRange" }, { "memory_range", "PciMemoryRange" },
	{ "prefetchable_range", "PciMemoryRange" }, { 0 }
};
static const struct qmp_member range_info[] = { { "base", "int" }, { "limit", "int" }, { 0 } };
static const struct qmp_member region_info[] = {
	{ "bar", "int" }, { "type", "str" }, { "address", "int" }, { "size", "int" },
	{ "*prefetch", "bool" }, { "*mem_type_64", "bool" }, { 0 }
};
static const struct qmp_member slot_info[] = {
	{ "number", "int" }, { "hotplug", "bool" }, { "state", "__org.roost_SlotState" }, { 0 }
};

static const struct qmp_type types[] = {
	{ .name = "q_obj___org.roost_SLOT_STATE-arg", .members = slot_data },
	{ .name = "__org.roost_SlotState", .meta = QMP_ENUM, .make = states },
	{ .name = "__org.roost_SlotInfo", .members = slot_info },
	{ .name = "PciInfo", .members = pci_info },
	{ .name = "PciDeviceInfo", .members = device_info },
	{ .name = "PciDeviceClass", .members = class_info },
	{ .name = "PciDeviceId", .members = id_info },
	{ .name = "PciBridgeInfo", .members = bridge_info },
	{ .name = "PciBusInfo", .members = bus_info },
	{ .name = "PciMemoryRange", .members = range_info },
	{ .name = "PciMemoryRegion", .members = region_info },
	{ 0 }
};

const struct qmp_table qmp_table_pci = { .cmds = cmds, .events = events, .types = types };

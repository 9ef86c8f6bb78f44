/*
 * The whole tree: two hundred ports, switches, query-pci and its picture.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pci/bridge.h"
#include "tests/dev/lib_pci.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"

static struct rig *r;

static void setup(void)
{
	r = pci_rig();
}

static void teardown(void)
{
	pci_rig_end(r);
}

TestSuite(pci_topology, .init = setup, .fini = teardown);

static void expect_picture(const char *text)
{
	json_t *q = pci_query(r->vm->pci);
	char *picture = pci_topology_text(q);

	cr_expect_str_eq(picture, text);
	free(picture);
	json_decref(q);
}

Test(pci_topology, test_picture_shows_what_is_where_and_what_is_free)
{
	pci_port(r, "'id': 'rp1'");
	pci_port(r, "'id': 'rp2'");
	pci_port(r, "'id': 'rp3', 'hotplug': false");
	rig_device(r, "{'driver': 'pcie-pci-bridge', 'id': 'pb', 'bus': 'rp3'}");
	pci_fn(r, "'id': 'disk0', 'bus': 'rp1'");
	pci_fn(r, "'bus': 'pb', 'addr': '5'");
	pci_enumerate_ok(r);
	expect_picture("pcie.0\n"
		       "|- 00.0  mch  8086:29c0\n"
		       "|- 01.0  rp1 pcie-root-port, slot 1: present\n"
		       "|  `- 00.0  disk0 tpci  1234:5678\n"
		       "|- 01.1  rp2 pcie-root-port, slot 2: empty\n"
		       "`- 01.2  rp3 pcie-root-port, slot 3: present, no hot-plug\n"
		       "   `- 00.0  pb pcie-pci-bridge\n"
		       "      `- 05.0  tpci  1234:5678\n"
		       "1 of 2 hot-plug ports is free: rp2\n");
}

Test(pci_topology, test_picture_has_every_root_complex)
{
	rig_device(r, "{'driver': 'pxb-pcie', 'id': 'x1', 'bus_nr': 32}");
	pci_port(r, "'id': 'rp1', 'bus': 'x1'");
	pci_enumerate_ok(r);
	expect_picture("pcie.0\n"
		       "|- 00.0  mch  8086:29c0\n"
		       "`- 01.0  x1 pxb-pcie  1b36:000b\n"
		       "x1, bus 20\n"
		       "`- 00.0  rp1 pcie-root-port, slot 1: empty\n"
		       "1 of 1 hot-plug ports is free: rp1\n");
}

Test(pci_topology, test_picture_of_anything_is_drawn)
{
	json_t *odd = json_pack("[n, i, {s:[n, {s:i, s:{s:s, s:{s:n}}}]}]", 7, "devices",
				"slot", -1, "pci_bridge", "devices", "no", "__org.roost_slot",
				"state");
	char *picture;

	cr_assert_not_null(odd);
	picture = pci_topology_text(odd);
	cr_expect(strstr(picture, "pcie.0"));
	free(picture);
	picture = pci_topology_text(NULL);
	cr_expect_str_eq(picture, "");
	free(picture);
	json_decref(odd);
}

Test(pci_topology, test_query_tells_windows_and_states)
{
	json_t *q, *port, *bus;

	pci_port(r, "'id': 'rp1', 'pref64-reserve': '64G', 'io-reserve': '4K'");
	pci_enumerate_ok(r);
	q = pci_query(r->vm->pci);
	port = json_array_get(json_object_get(json_array_get(q, 0), "devices"), 1);
	cr_expect_str_eq(json_str(port, "qdev_id", ""), "rp1");
	port = json_object_get(port, "pci_bridge");
	cr_expect_str_eq(json_str(json_object_get(port, "__org.roost_slot"), "state", ""),
			 "empty");
	bus = json_object_get(port, "bus");
	cr_expect_eq(json_integer_value(json_object_get(bus, "secondary")), 1);
	bus = json_object_get(bus, "prefetchable_range");
	cr_expect_eq(json_integer_value(json_object_get(bus, "limit")) -
		     json_integer_value(json_object_get(bus, "base")), 64 * GIB - 1);
	json_decref(q);
}

Test(pci_topology, test_two_hundred_ports_have_buses_and_windows)
{
	struct pci_bus *b = NULL;
	uint64_t base, last;
	char id[32];
	int i, n = 0;

	for (i = 0; i < 200; i++) {
		snprintf(id, sizeof(id), "'id': 'p%d'", i);
		pci_port(r, id);
	}
	pci_enumerate_ok(r);
	while ((b = pci_port_next(r->vm->pci, b))) {
		n++;
		cr_expect_eq(pci_peek8(b->bridge, PCI_SECONDARY_BUS), n);
		cr_expect_eq(b->slot_hp.number, n);
		pci_bridge_window(b->bridge, PCI_SPACE_PREF, &base, &last);
		cr_expect_eq(last - base, 32 * MIB - 1);
		pci_bridge_window(b->bridge, PCI_SPACE_MEM, &base, &last);
		cr_expect_eq(last - base, 2 * MIB - 1);
		cr_expect_eq(pci_peek8(b->bridge, PCI_IO_BASE), 0);
	}
	cr_expect_eq(n, 200);
}

Test(pci_topology, test_switch_ports_are_types_of_their_own)
{
	uint16_t up = BDF(1, 0, 0), down = BDF(2, 0, 0), cap;

	pci_port(r, "'id': 'rp', 'x-speed': '8', 'x-width': '4'");
	rig_device(r, "{'driver': 'x3130-upstream', 'id': 'up', 'bus': 'rp'}");
	rig_device(r, "{'driver': 'xio3130-downstream', 'id': 'd1', 'bus': 'up'}");
	rig_device(r, "{'driver': 'xio3130-downstream', 'id': 'd2', 'bus': 'up'}");
	pci_fn(r, "'id': 'f', 'bus': 'd2', 'express': true, 'mem32': 4096, 'pin': 1");
	pci_enumerate_ok(r);
	cr_expect_eq(ecam_read(r, up, 0, 4), 0x8232104c);
	cr_expect_eq(ecam_read(r, down, 0, 4), 0x8233104c);
	cr_expect_eq(ecam_read(r, BDF(4, 0, 0), 0, 4), 0x56781234);
	cap = find_cap(r, up, PCI_CAP_ID_EXP);
	cr_expect_eq(ecam_read(r, up, cap + PCI_EXP_FLAGS, 2), 0x52);
	cr_expect_eq(ecam_read(r, up, cap + PCI_EXP_LNKSTA, 2) & 0x3ff, 0x43);
	cap = find_cap(r, down, PCI_CAP_ID_EXP);
	cr_expect_eq(ecam_read(r, down, cap + PCI_EXP_FLAGS, 2), 0x162);
	cr_expect_eq(ecam_read(r, down, cap + PCI_EXP_SLTCAP, 4) & PCI_EXP_SLTCAP_HPC,
		     PCI_EXP_SLTCAP_HPC);
	cr_expect_neq(find_ecap(r, down, PCI_EXT_CAP_ID_ACS), 0);
	cr_expect_eq(find_ecap(r, up, PCI_EXT_CAP_ID_ACS), 0);
	cr_expect(((struct tpci *)dev_find(r->vm, "f"))->pci.bar[0].mapped);
}

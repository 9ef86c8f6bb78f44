/*
 * Placement: bus= and addr=, the first free slot, and the sentences of those
 * that cannot be placed.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/dev/lib_pci.h"

static struct rig *r;

static void setup(void)
{
	r = pci_rig();
}

static void teardown(void)
{
	pci_rig_end(r);
}

TestSuite(pci_place, .init = setup, .fini = teardown);

#define expect_refused(json, ...) do {						\
	struct err e_ = ERR_INIT;						\
	cr_expect_lt(rig_device_error(r, json, &e_), 0);			\
	cr_expect_str_eq(e_.text, __VA_ARGS__);					\
} while (0)

Test(pci_place, test_addr_missing_takes_first_free_slot)
{
	cr_expect_eq(pci_fn(r, NULL)->pci.devfn, 1 << 3);
	cr_expect_eq(pci_fn(r, "'addr': '2'")->pci.devfn, 2 << 3);
	cr_expect_eq(pci_fn(r, NULL)->pci.devfn, 3 << 3);
	cr_expect_eq(ecam_read(r, BDF(0, 3, 0), 0, 4), 0x56781234);
}

Test(pci_place, test_addr_text_is_hexadecimal_slot_and_function)
{
	cr_expect_eq(pci_fn(r, "'addr': '1f'")->pci.devfn, 0x1f << 3);
	cr_expect_eq(pci_fn(r, "'addr': '0x1e'")->pci.devfn, 0x1e << 3);
	cr_expect_eq(pci_fn(r, "'addr': '10.0', 'multifunction': true")->pci.devfn, 0x80);
	cr_expect_eq(pci_fn(r, "'addr': '0x10.0x3'")->pci.devfn, 0x83);
	cr_expect_eq(ecam_read(r, BDF(0, 16, 0), PCI_HEADER_TYPE, 1), 0x80);
	cr_expect_eq(ecam_read(r, BDF(0, 16, 3), PCI_HEADER_TYPE, 1), 0);
}

Test(pci_place, test_addr_number_is_a_devfn)
{
	cr_expect_eq(pci_fn(r, "'addr': 40")->pci.devfn, 40);
	expect_refused("{'driver': 'tpci', 'id': 'x', 'addr': 256}",
		       "x: addr=256: a number is slot * 8 + function, 0..255");
}

#define HOW "expected SLOT or SLOT.FUNCTION in hexadecimal, as in 3 or 1f.2"

Test(pci_place, test_addr_malformed_is_refused)
{
	expect_refused("{'driver': 'tpci', 'id': 'x', 'addr': '20'}",
		       "x: addr=20: the slot must be 0..1f (hexadecimal)");
	expect_refused("{'driver': 'tpci', 'id': 'x', 'addr': '3.8'}",
		       "x: addr=3.8: the function must be 0..7");
	expect_refused("{'driver': 'tpci', 'id': 'x', 'addr': '3.'}",
		       "x: addr=3.: expected a function 0..7 after the dot");
	expect_refused("{'driver': 'tpci', 'id': 'x', 'addr': 'x3'}",
		       "x: addr=x3: " HOW);
	expect_refused("{'driver': 'tpci', 'id': 'x', 'addr': '-1'}",
		       "x: addr=-1: " HOW);
}

Test(pci_place, test_slot_taken_names_who_has_it)
{
	pci_fn(r, "'id': 'first', 'addr': '5'");
	expect_refused("{'driver': 'tpci', 'id': 'x', 'addr': '5'}",
		       "x: slot 5 function 0 on 'pcie.0' is taken by 'first'");
	expect_refused("{'driver': 'tpci', 'id': 'x', 'addr': '0'}",
		       "x: slot 0 function 0 on 'pcie.0' is taken by 'mch[0]'");
}

Test(pci_place, test_bus_unknown_names_the_nearest)
{
	pci_port(r, "'id': 'port1'");
	expect_refused("{'driver': 'tpci', 'id': 'x', 'bus': 'port11'}",
		       "x: bus=port11: there is no such bus; did you mean 'port1'?");
	expect_refused("{'driver': 'tpci', 'id': 'x', 'bus': 'zzzzzzzz'}",
		       "x: bus=zzzzzzzz: there is no such bus");
}

/* As in openEuler's command lines. */
Test(pci_place, test_pci_0_is_the_root_bus_where_no_bus_has_the_name)
{
	struct pci_dev *p = DEV_OF(rig_device(r, "{'driver': 'tpci', 'bus': 'pci.0', 'addr': '0x6'}"),
				   struct pci_dev);

	cr_expect_eq(p->bus, r->vm->pci->bus0);
	rig_device(r, "{'driver': 'pcie-pci-bridge', 'id': 'pci.0'}");
	p = DEV_OF(rig_device(r, "{'driver': 'tpci', 'bus': 'pci.0', 'addr': '0x6'}"),
		   struct pci_dev);
	cr_expect_str_eq(p->bus->name, "pci.0");
}

Test(pci_place, test_port_takes_one_slot_only)
{
	pci_port(r, "'id': 'rp'");
	expect_refused("{'driver': 'tpci', 'id': 'x', 'bus': 'rp', 'addr': '1'}",
		       "x: addr=1: behind the port 'rp' there is only slot 0");
	cr_expect_eq(pci_fn(r, "'id': 'a', 'bus': 'rp'")->pci.devfn, 0);
	expect_refused("{'driver': 'tpci', 'id': 'x', 'bus': 'rp'}",
		       "x: the port 'rp' is taken by 'a'; add another port");
}

Test(pci_place, test_function_needs_multifunction_at_function_0)
{
	pci_fn(r, "'id': 'a', 'addr': '5'");
	expect_refused("{'driver': 'tpci', 'id': 'x', 'addr': '5.1'}",
		       "x: function 1 of slot 5 on 'pcie.0' needs multifunction=on "
		       "at function 0, which is 'a'");
	pci_fn(r, "'id': 'b', 'addr': '6.1'");
	expect_refused("{'driver': 'tpci', 'id': 'x', 'addr': '6'}",
		       "x: slot 6 on 'pcie.0' has other functions already, so its "
		       "function 0 needs multifunction=on");
	pci_fn(r, "'id': 'c', 'addr': '6', 'multifunction': true");
}

Test(pci_place, test_function_without_function_0_is_found_at_enumeration)
{
	struct err e = ERR_INIT;

	pci_fn(r, "'id': 'b', 'addr': '6.1'");
	cr_expect_lt(pci_enumerate(r->vm->pci, &e), 0);
	cr_expect_str_eq(e.text, "b: slot 6 on 'pcie.0' has a function 1 but no function 0, "
			 "so no guest would find it");
}

Test(pci_place, test_kinds_of_bus_and_device_must_match)
{
	pci_port(r, "'id': 'rp'");
	rig_device(r, "{'driver': 'pcie-pci-bridge', 'id': 'pb', 'addr': '9'}");
	expect_refused("{'driver': 'tpci-conventional', 'id': 'x', 'bus': 'rp'}",
		       "x: tpci-conventional is a conventional PCI device, 'rp' takes PCIe "
		       "devices only; use 'pcie.0' or a pcie-pci-bridge");
	expect_refused("{'driver': 'tpci-express', 'id': 'x', 'bus': 'pb'}",
		       "x: tpci-express is a PCIe device, 'pb' is a conventional PCI bus; "
		       "use 'pcie.0' or a pcie-root-port");
	expect_refused("{'driver': 'pcie-root-port', 'id': 'x', 'bus': 'rp'}",
		       "x: a pcie-root-port goes on the root bus 'pcie.0', not on 'rp'");
	rig_device(r, "{'driver': 'tpci-conventional', 'bus': 'pb'}");
	rig_device(r, "{'driver': 'tpci-conventional'}");
	rig_device(r, "{'driver': 'tpci-express', 'bus': 'rp'}");
}

Test(pci_place, test_conventional_bus_has_32_slots)
{
	rig_device(r, "{'driver': 'pcie-pci-bridge', 'id': 'pb'}");
	cr_expect_eq(pci_fn(r, "'bus': 'pb'")->pci.devfn, 0);
	cr_expect_eq(pci_fn(r, "'bus': 'pb', 'addr': '1f'")->pci.devfn, 0xf8);
	cr_expect_eq(pci_fn(r, "'bus': 'pb'")->pci.devfn, 1 << 3);
}

Test(pci_place, test_expander_is_refused_where_it_cannot_be)
{
	rig_device(r, "{'driver': 'pxb-pcie', 'id': 'x1', 'bus_nr': 32}");
	expect_refused("{'driver': 'pxb-pcie', 'id': 'x'}",
		       "x: a pxb-pcie needs bus_nr=, the number of its bus; 128 leaves half of all "
		       "numbers to pcie.0");
	expect_refused("{'driver': 'pxb-pcie', 'id': 'x', 'bus_nr': 32}",
		       "x: bus_nr=32 is the number of 'x1' already; choose another");
	expect_refused("{'driver': 'pxb-pcie', 'id': 'x', 'bus_nr': 64, 'bus': 'x1'}",
		       "x: a pxb-pcie goes on 'pcie.0', not on 'x1'");
	expect_refused("{'driver': 'pcie-root-port', 'id': 'x1', 'bus': 'x1'}",
		       "pcie-root-port: id 'x1' is taken by a pxb-pcie; choose another");
}

Test(pci_place, test_root_bus_full_is_refused)
{
	int slot;

	for (slot = 1; slot < 32; slot++)
		pci_fn(r, NULL);
	expect_refused("{'driver': 'tpci', 'id': 'x'}", "x: bus 'pcie.0' has no free slot");
}

static uint32_t slot_number(uint16_t bdf)
{
	return (uint32_t)ecam_read(r, bdf, find_cap(r, bdf, PCI_CAP_ID_EXP) +
				   PCI_EXP_SLTCAP, 4) >> 19;
}

static uint32_t port_number(uint16_t bdf)
{
	return (uint32_t)ecam_read(r, bdf, find_cap(r, bdf, PCI_CAP_ID_EXP) +
				   PCI_EXP_LNKCAP, 4) >> 24;
}

Test(pci_place, test_ports_without_numbers_fill_slots_of_eight)
{
	char id[32];

	for (int i = 0; i < 20; i++) {
		snprintf(id, sizeof(id), "'id': 'p%d'", i);
		pci_port(r, id);
	}
	cr_expect_eq(ecam_read(r, BDF(0, 1, 0), PCI_HEADER_TYPE, 1), 0x81);
	cr_expect_eq(ecam_read(r, BDF(0, 1, 7), PCI_HEADER_TYPE, 1), 0x01);
	cr_expect_eq(ecam_read(r, BDF(0, 3, 3), 0, 4), 0x000c1b36);
	cr_expect_eq(ecam_read(r, BDF(0, 3, 4), 0, 4), 0xffffffff);
	cr_expect_eq(slot_number(BDF(0, 1, 0)), 1);
	cr_expect_eq(slot_number(BDF(0, 3, 3)), 20);
	cr_expect_eq(port_number(BDF(0, 1, 0)), 0x8);
	cr_expect_eq(port_number(BDF(0, 1, 1)), 0x9);
	cr_expect_eq(port_number(BDF(0, 3, 3)), 0x1b);
}

Test(pci_place, test_ports_of_the_complete_form_keep_their_numbers)
{
	pci_port(r, "'id': 'a', 'port': '0x8', 'chassis': 1, 'multifunction': true, "
		 "'addr': '0x1'");
	rig_device(r, "{'driver': 'pcie-pci-bridge', 'id': 'b', 'bus': 'a', 'addr': '0x0'}");
	pci_port(r, "'id': 'c', 'port': '0x9', 'chassis': 3, 'addr': '0x1.0x1'");
	pci_port(r, "'id': 'd', 'addr': '0x2'");
	cr_expect_eq(port_number(BDF(0, 1, 1)), 9);
	cr_expect_eq(slot_number(BDF(0, 1, 1)), 3);
	cr_expect_eq(slot_number(BDF(0, 2, 0)), 4);
	cr_expect_eq(ecam_read(r, BDF(0, 1, 0), PCI_HEADER_TYPE, 1), 0x81);
}

Test(pci_place, test_chassis_must_ascend_and_differ)
{
	pci_port(r, "'id': 'a', 'chassis': 2");
	pci_port(r, "'id': 'b', 'chassis': 4");
	expect_refused("{'driver': 'pcie-root-port', 'id': 'x', 'chassis': 3}",
		       "x: chassis=3 comes after chassis=4 of 'b', but they must ascend; give "
		       "it 5 or more, or leave it out");
	expect_refused("{'driver': 'pcie-root-port', 'id': 'x', 'chassis': 4}",
		       "x: chassis=4: 'b' has this chassis; give it 5 or more, or a slot= of "
		       "its own");
	pci_port(r, "'id': 'c', 'chassis': 4, 'slot': 9");
	pci_port(r, "'id': 'd', 'chassis': 255");
	expect_refused("{'driver': 'pcie-root-port', 'id': 'x'}",
		       "x: there is no chassis after 255; give some ports the same chassis= and "
		       "different slot=");
}

Test(pci_place, test_ports_of_one_chassis_have_different_slots)
{
	pci_port(r, "'id': 'd', 'chassis': 1, 'slot': 7");
	pci_port(r, "'id': 'e', 'chassis': 1, 'slot': 8");
	expect_refused("{'driver': 'pcie-root-port', 'id': 'x', 'chassis': 1, 'slot': 7}",
		       "x: slot=7: 'd' has this slot of chassis 1; give one of them "
		       "another slot or chassis");
}

/* ---- places that nobody names ---- */

Test(pci_place, test_devices_without_a_place_take_free_ports_then_the_root_bus)
{
	pci_port(r, "'id': 'p1'");
	pci_port(r, "'id': 'p2'");
	cr_expect_str_eq(pci_fn(r, "'id': 'a'")->pci.bus->name, "p1");
	cr_expect_str_eq(pci_fn(r, "'id': 'b'")->pci.bus->name, "p2");
	cr_expect_str_eq(pci_fn(r, "'id': 'c'")->pci.bus->name, "pcie.0");
	cr_expect_str_eq(pci_fn(r, "'id': 'd', 'addr': '9'")->pci.bus->name, "pcie.0");
}

Test(pci_place, test_places_that_others_name_are_left_to_them)
{
	pci_port(r, "'id': 'p1', 'addr': '8'");
	pci_port(r, "'id': 'p2', 'addr': '9'");
	r->vm->desc = json_pack("{s:[{s:s},{s:s}]}", "devices", "bus", "p1", "addr", "1.0");
	cr_expect_str_eq(pci_fn(r, "'id': 'a'")->pci.bus->name, "p2");
	cr_expect_eq(pci_fn(r, "'id': 'c'")->pci.devfn, 2 << 3);
}

Test(pci_place, test_conventional_devices_go_behind_the_bridge)
{
	struct pci_dev *p;

	pci_port(r, "'id': 'p1'");
	rig_device(r, "{'driver': 'pcie-pci-bridge', 'id': 'pb'}");
	cr_expect_str_eq(pci_bus_find(r->vm->pci, "pb")->bridge->bus->name, "p1");
	for (int i = 0; i < 3; i++) {
		p = (struct pci_dev *)rig_device(r, "{'driver': 'tpci-conventional'}");
		cr_expect_str_eq(p->bus->name, "pb");
		cr_expect_eq(p->devfn, i << 3);
	}
}

/* ---- switches ---- */

Test(pci_place, test_switch_has_its_ports_inside)
{
	struct pci_dev *p;

	pci_port(r, "'id': 'rp'");
	rig_device(r, "{'driver': 'x3130-upstream', 'id': 'up', 'bus': 'rp'}");
	rig_device(r, "{'driver': 'xio3130-downstream', 'id': 'd1', 'bus': 'up', 'addr': '3', "
		   "'chassis': 7}");
	p = (struct pci_dev *)rig_device(r, "{'driver': 'xio3130-downstream', 'id': 'd2'}");
	cr_expect_str_eq(p->bus->name, "up");
	cr_expect_eq(p->devfn, 0);
	cr_expect_str_eq(pci_fn(r, "'id': 'a'")->pci.bus->name, "d1");
	expect_refused("{'driver': 'tpci', 'id': 'x', 'bus': 'up'}",
		       "x: 'up' is the inside of a switch, which takes xio3130-downstream ports "
		       "only; put tpci behind one of these");
	expect_refused("{'driver': 'xio3130-downstream', 'id': 'x', 'bus': 'd2'}",
		       "x: a xio3130-downstream goes on the bus of an x3130-upstream, not on "
		       "'d2'");
	expect_refused("{'driver': 'x3130-upstream', 'id': 'x', 'bus': 'pcie.0'}",
		       "x: a x3130-upstream goes behind a port, not on 'pcie.0'; add a "
		       "pcie-root-port and give its id as bus=");
}

Test(pci_place, test_refused_device_leaves_its_slot_free)
{
	struct err e = ERR_INIT;

	cr_expect_lt(rig_device_error(r, "{'driver': 'tpci', 'addr': '9', 'mem32': 7}", &e), 0);
	cr_expect_eq(ecam_read(r, BDF(0, 9, 0), 0, 4), 0xffffffff);
	pci_fn(r, "'addr': '9'");
}

/*
 * Placement: bus= and addr=, the first free slot, and the sentences of those
 * that cannot be placed.
 */
#include <criterion/criterion.h>
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
	rig_device(r, "{'driver': 'pcie-pci-bridge', 'id': 'pb'}");
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

Test(pci_place, test_root_bus_full_is_refused)
{
	int slot;

	for (slot = 1; slot < 32; slot++)
		pci_fn(r, NULL);
	expect_refused("{'driver': 'tpci', 'id': 'x'}", "x: bus 'pcie.0' has no free slot");
}

Test(pci_place, test_ports_of_one_chassis_have_different_slots)
{
	pci_port(r, "'id': 'a'");
	pci_port(r, "'id': 'b'");
	pci_port(r, "'id': 'c', 'chassis': 2");
	pci_port(r, "'id': 'd', 'slot': 7");
	cr_expect_eq(ecam_read(r, BDF(0, 1, 0), find_cap(r, BDF(0, 1, 0), PCI_CAP_ID_EXP) +
			       PCI_EXP_SLTCAP, 4) >> 19, 0);
	cr_expect_eq(ecam_read(r, BDF(0, 2, 0), find_cap(r, BDF(0, 2, 0), PCI_CAP_ID_EXP) +
			       PCI_EXP_SLTCAP, 4) >> 19, 1);
	expect_refused("{'driver': 'pcie-root-port', 'id': 'x', 'slot': 7}",
		       "x: slot=7: 'd' has this slot of chassis 0; give one of them "
		       "another slot or chassis");
}

Test(pci_place, test_refused_device_leaves_its_slot_free)
{
	struct err e = ERR_INIT;

	cr_expect_lt(rig_device_error(r, "{'driver': 'tpci', 'addr': '9', 'mem32': 7}", &e), 0);
	cr_expect_eq(ecam_read(r, BDF(0, 9, 0), 0, 4), 0xffffffff);
	pci_fn(r, "'addr': '9'");
}

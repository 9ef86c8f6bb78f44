/*
 * Bridges: windows gate what is behind, bus numbers route, pins are turned,
 * ports tell the truth about link and slot.
 */
#include <criterion/criterion.h>

#include "pci/internal.h"
#include "tests/dev/lib_pci.h"
#include "vmm/base/util.h"

#define PORT BDF(0, 2, 0)
#define BRIDGE BDF(1, 0, 0)
#define FN BDF(2, 5, 0)		/* on the conventional bus */
#define ON (PCI_COMMAND_MEMORY | PCI_COMMAND_IO)

static struct rig *r;
static struct tpci *t;

static void numbers(uint16_t bdf, uint8_t primary, uint8_t sec, uint8_t sub)
{
	ecam_write(r, bdf, PCI_PRIMARY_BUS, 4, primary | sec << 8 | sub << 16);
}

static void mem_window(uint16_t bdf, uint32_t base, uint32_t last)
{
	ecam_write(r, bdf, PCI_MEMORY_BASE, 4, base >> 16 | (last & 0xfff00000));
}

static void setup(void)
{
	r = pci_rig();
	pci_port(r, "'id': 'rp', 'addr': '2', 'slot': 9, 'port': 17");
	rig_device(r, "{'driver': 'pcie-pci-bridge', 'id': 'pb', 'bus': 'rp'}");
	t = pci_fn(r, "'id': 'f', 'bus': 'pb', 'addr': '5', 'mem32': 4096, "
		   "'pref64': 65536, 'io': 64, 'pin': 1, 'express': true");
	numbers(PORT, 0, 1, 2);
	numbers(BRIDGE, 1, 2, 2);
	ecam_write(r, FN, PCI_COMMAND, 2, ON);
	ecam_write(r, FN, PCI_BASE_ADDRESS_0, 4, 0xd0000000);
	ecam_write(r, FN, PCI_BASE_ADDRESS_2, 8, 0x900000000);
	ecam_write(r, FN, PCI_BASE_ADDRESS_4, 4, 0x3000);
}

static void teardown(void)
{
	pci_rig_end(r);
}

TestSuite(pci_bridge, .init = setup, .fini = teardown);

static void open_all(void)
{
	mem_window(PORT, 0xd0000000, 0xd01fffff);
	mem_window(BRIDGE, 0xd0000000, 0xd00fffff);
	ecam_write(r, PORT, PCI_COMMAND, 2, ON);
	ecam_write(r, BRIDGE, PCI_COMMAND, 2, ON);
}

Test(pci_bridge, test_header_is_type_one_with_64bit_prefetch_window)
{
	cr_expect_eq(ecam_read(r, PORT, PCI_VENDOR_ID, 4), 0x000c1b36);
	cr_expect_eq(ecam_read(r, BRIDGE, PCI_VENDOR_ID, 4), 0x000e1b36);
	cr_expect_eq(ecam_read(r, PORT, PCI_CLASS_REVISION, 4) >> 8, 0x060400);
	cr_expect_eq(ecam_read(r, PORT, PCI_HEADER_TYPE, 1), 1);
	cr_expect_eq(ecam_read(r, PORT, PCI_PREF_MEMORY_BASE, 2) & 0xf, 1);
	cr_expect_eq(ecam_read(r, PORT, PCI_PREF_MEMORY_LIMIT, 2) & 0xf, 1);
}

Test(pci_bridge, test_routing_follows_the_bus_numbers)
{
	cr_expect_eq(ecam_read(r, FN, PCI_VENDOR_ID, 2), 0x1234);
	numbers(PORT, 0, 1, 1);		/* bus 2 is outside the port's range */
	cr_expect_eq(ecam_read(r, FN, PCI_VENDOR_ID, 2), 0xffff);
	numbers(PORT, 0, 0x40, 0x50);
	cr_expect_eq(ecam_read(r, BDF(0x40, 0, 0), PCI_VENDOR_ID, 4), 0x000e1b36);
	cr_expect_eq(ecam_read(r, BRIDGE, PCI_VENDOR_ID, 2), 0xffff);
	numbers(BDF(0x40, 0, 0), 0x40, 0x41, 0x41);
	cr_expect_eq(ecam_read(r, BDF(0x41, 5, 0), PCI_VENDOR_ID, 2), 0x1234);
	numbers(PORT, 0, 5, 4);
	cr_expect_eq(ecam_read(r, BDF(5, 0, 0), PCI_VENDOR_ID, 2), 0xffff);
	numbers(PORT, 0, 0, 255);	/* not configured: bus 0 stays the root */
	cr_expect_eq(ecam_read(r, 0, PCI_VENDOR_ID, 4), 0x29c08086);
	cr_expect_eq(ecam_read(r, PORT, PCI_VENDOR_ID, 4), 0x000c1b36);
}

Test(pci_bridge, test_memory_bar_needs_every_window_and_enable_above)
{
	mem_window(PORT, 0xd0000000, 0xd01fffff);
	mem_window(BRIDGE, 0xd0000000, 0xd00fffff);
	cr_expect_not(t->pci.bar[0].mapped);
	ecam_write(r, PORT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	cr_expect_not(t->pci.bar[0].mapped);
	ecam_write(r, BRIDGE, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	cr_expect_eq(rig_mmio_read(r, 0xd0000000, 4), 0x5a00);
	ecam_write(r, PORT, PCI_COMMAND, 2, 0);
	cr_expect_eq(rig_mmio_read(r, 0xd0000000, 4), 0xffffffff);
}

Test(pci_bridge, test_memory_window_moved_is_reevaluated)
{
	open_all();
	cr_expect(t->pci.bar[0].mapped);
	mem_window(PORT, 0xd0100000, 0xd01fffff);
	cr_expect_not(t->pci.bar[0].mapped);
	mem_window(PORT, 0xd0100000, 0xd00fffff);	/* base above limit */
	cr_expect_not(t->pci.bar[0].mapped);
	mem_window(PORT, 0xc0000000, 0xdfffffff);
	cr_expect(t->pci.bar[0].mapped);
	ecam_write(r, BRIDGE, PCI_MEMORY_LIMIT + 1, 1, 0xcf);	/* one byte */
	cr_expect_not(t->pci.bar[0].mapped);
}

Test(pci_bridge, test_prefetch_window_above_4g_forwards_64bit_bar)
{
	open_all();
	cr_expect_not(t->pci.bar[2].mapped);
	ecam_write(r, PORT, PCI_PREF_MEMORY_BASE, 4, 0x00100000);
	ecam_write(r, PORT, PCI_PREF_BASE_UPPER32, 8, 0x0000000900000009ull);
	ecam_write(r, BRIDGE, PCI_PREF_MEMORY_BASE, 4, 0);
	ecam_write(r, BRIDGE, PCI_PREF_BASE_UPPER32, 8, 0x0000000900000009ull);
	cr_expect_eq(ecam_read(r, BRIDGE, PCI_PREF_MEMORY_BASE, 4), 0x00010001);
	ecam_write(r, PORT, PCI_PREF_MEMORY_BASE, 4, 0);
	cr_expect_eq(rig_mmio_read(r, 0x900000000, 4), 0x5a02);
	ecam_write(r, PORT, PCI_PREF_BASE_UPPER32, 4, 0xa);
	cr_expect_eq(rig_mmio_read(r, 0x900000000, 4), 0xffffffff);
}

Test(pci_bridge, test_io_window_exists_where_needed_and_gates)
{
	pci_port(r, "'id': 'empty', 'addr': '3', 'slot': 10");
	ecam_write(r, BDF(0, 3, 0), PCI_IO_BASE, 2, 0xf0f0);
	cr_expect_eq(ecam_read(r, BDF(0, 3, 0), PCI_IO_BASE, 2), 0);
	open_all();
	ecam_write(r, PORT, PCI_IO_BASE, 2, 0x3030);
	cr_expect_eq(ecam_read(r, PORT, PCI_IO_BASE, 2), 0x3030);
	cr_expect_not(t->pci.bar[4].mapped);
	ecam_write(r, BRIDGE, PCI_IO_BASE, 2, 0x4030);
	cr_expect_eq(rig_pio_read(r, 0x3000, 4), 0x5a04);
	ecam_write(r, PORT, PCI_IO_BASE, 2, 0x4040);
	cr_expect_eq(rig_pio_read(r, 0x3000, 4), 0xffffffff);
}

Test(pci_bridge, test_d3_closes_the_windows)
{
	uint16_t pm = find_cap(r, PORT, PCI_CAP_ID_PM);

	open_all();
	ecam_write(r, PORT, pm + PCI_PM_CTRL, 2, 3);
	cr_expect_not(t->pci.bar[0].mapped);
	ecam_write(r, PORT, pm + PCI_PM_CTRL, 2, 0);
	cr_expect(t->pci.bar[0].mapped);
}

Test(pci_bridge, test_link_disable_hides_what_is_behind)
{
	uint16_t exp = find_cap(r, PORT, PCI_CAP_ID_EXP);

	open_all();
	ecam_write(r, PORT, exp + PCI_EXP_LNKCTL, 2, PCI_EXP_LNKCTL_LD);
	cr_expect_eq(ecam_read(r, BRIDGE, 0, 4), 0xffffffff);
	cr_expect_not(t->pci.bar[0].mapped);
	cr_expect_eq(ecam_read(r, PORT, exp + PCI_EXP_LNKSTA, 2) & PCI_EXP_LNKSTA_DLLLA, 0);
	cr_expect_neq(ecam_read(r, PORT, exp + PCI_EXP_SLTSTA, 2) & PCI_EXP_SLTSTA_PDS, 0);
	ecam_write(r, PORT, exp + PCI_EXP_LNKCTL, 2, 0);
	cr_expect_eq(ecam_read(r, BRIDGE, 0, 4), 0x000e1b36);
	cr_expect(t->pci.bar[0].mapped);
}

Test(pci_bridge, test_intx_is_turned_at_each_bridge)
{
	/* INTA of slot 5 leaves as INTB; the bridge is slot 0 behind the port:
	 * INTB; the port sits in slot 2 of the root bus. */
	pci_intx_set(&t->pci, true);
	cr_expect(rig_level(r, T_GSI + (2 + 1) % 8));
	pci_intx_set(&t->pci, false);
	cr_expect_not(rig_level(r, T_GSI + 3));
}

Test(pci_bridge, test_function_on_conventional_bus_has_no_express_capability)
{
	cr_expect_eq(find_cap(r, FN, PCI_CAP_ID_EXP), 0);
	cr_expect_neq(find_cap(r, FN, PCI_CAP_ID_PM), 0);
}

/* ---- the port's capabilities ---- */

Test(pci_bridge, test_port_link_and_slot_are_consistent)
{
	uint16_t exp = find_cap(r, PORT, PCI_CAP_ID_EXP);
	uint32_t cap = (uint32_t)ecam_read(r, PORT, exp + PCI_EXP_LNKCAP, 4);
	uint16_t sta = (uint16_t)ecam_read(r, PORT, exp + PCI_EXP_LNKSTA, 2);
	uint32_t slot = (uint32_t)ecam_read(r, PORT, exp + PCI_EXP_SLTCAP, 4);

	cr_expect_eq(ecam_read(r, PORT, exp + PCI_EXP_FLAGS, 2), 0x142);
	cr_expect_eq(cap & PCI_EXP_LNKCAP_SLS, PCI_EXP_LNKCAP_SLS_16_0GB);
	cr_expect_eq((cap & PCI_EXP_LNKCAP_MLW) >> 4, 32);
	cr_expect_eq(cap >> 24, 17);
	cr_expect_eq(sta & 0x3ff, cap & 0x3ff);
	cr_expect_neq(sta & PCI_EXP_LNKSTA_DLLLA, 0);
	cr_expect_eq(slot >> 19, 9);
	cr_expect_eq(slot & 0x7ffff, PCI_EXP_SLTCAP_HPC | PCI_EXP_SLTCAP_HPS |
		     PCI_EXP_SLTCAP_PIP | PCI_EXP_SLTCAP_NCCS);
	cr_expect_eq(ecam_read(r, PORT, exp + PCI_EXP_SLTSTA, 2), PCI_EXP_SLTSTA_PDS);
	cr_expect_eq(ecam_read(r, PORT, exp + PCI_EXP_LNKCAP2, 4), 0x1e);
}

Test(pci_bridge, test_port_properties_choose_speed_and_width)
{
	uint16_t bdf = BDF(0, 7, 0), end = BDF(9, 0, 0), exp;

	pci_port(r, "'id': 'p7', 'addr': '7', 'slot': 11, 'x-speed': '8', 'x-width': '4'");
	pci_fn(r, "'bus': 'p7', 'express': true");
	numbers(bdf, 0, 9, 9);
	exp = find_cap(r, bdf, PCI_CAP_ID_EXP);
	cr_expect_eq(ecam_read(r, bdf, exp + PCI_EXP_LNKCAP, 2) & 0x3ff, 0x43);
	exp = find_cap(r, end, PCI_CAP_ID_EXP);
	cr_expect_eq(ecam_read(r, end, exp + PCI_EXP_FLAGS, 2), 0x02);
	cr_expect_eq(ecam_read(r, end, exp + PCI_EXP_LNKCAP, 2) & 0x3ff, 0x43);
	cr_expect_eq(ecam_read(r, end, exp + PCI_EXP_LNKSTA, 2) & 0x3ff, 0x43);
}

Test(pci_bridge, test_port_empty_says_so)
{
	uint16_t bdf = BDF(0, 7, 0), exp;

	pci_port(r, "'id': 'p7', 'addr': '7', 'slot': 11");
	exp = find_cap(r, bdf, PCI_CAP_ID_EXP);
	cr_expect_eq(ecam_read(r, bdf, exp + PCI_EXP_SLTSTA, 2), 0);
	cr_expect_eq(ecam_read(r, bdf, exp + PCI_EXP_LNKSTA, 2) & PCI_EXP_LNKSTA_DLLLA, 0);
}

Test(pci_bridge, test_port_has_error_reporting_and_access_control)
{
	uint16_t aer = find_ecap(r, PORT, PCI_EXT_CAP_ID_ERR);
	uint16_t acs = find_ecap(r, PORT, PCI_EXT_CAP_ID_ACS);
	uint16_t ssvid = find_cap(r, PORT, PCI_CAP_ID_SSVID);

	cr_assert_eq(aer, 0x100);
	cr_expect_eq(ecam_read(r, PORT, aer, 4) & 0xfffff, 0x20001);
	cr_expect_eq(ecam_read(r, PORT, aer + PCI_ERR_UNCOR_SEVER, 4), 0x62030);
	ecam_write(r, PORT, aer + PCI_ERR_ROOT_COMMAND, 4, 0xffffffff);
	cr_expect_eq(ecam_read(r, PORT, aer + PCI_ERR_ROOT_COMMAND, 4), 7);
	cr_assert_neq(acs, 0);
	ecam_write(r, PORT, acs + PCI_ACS_CTRL, 2, 0xffff);
	cr_expect_eq(ecam_read(r, PORT, acs + PCI_ACS_CTRL, 2), 0x5f);
	cr_expect_eq(ecam_read(r, PORT, ssvid + PCI_SSVID_VENDOR_ID, 4), 0x11001af4);
	cr_expect_eq(ecam_read(r, PORT, PCI_CFG_SIZE - 4, 4), 0);
}

Test(pci_bridge, test_reset_closes_everything)
{
	open_all();
	rig_reset(r);
	cr_expect_not(t->pci.bar[0].mapped);
	cr_expect_eq(ecam_read(r, PORT, PCI_PRIMARY_BUS, 4), 0);
	cr_expect_eq(ecam_read(r, BRIDGE, 0, 4), 0xffffffff);
}

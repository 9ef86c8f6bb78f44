/*
 * BARs: sizing, moving, toggling, 64-bit halves, overlap, wired interrupts.
 */
#include <criterion/criterion.h>

#include "tests/dev/lib_pci.h"
#include "vmm/base/util.h"

#define FN BDF(0, 3, 0)
#define BAR(n) (PCI_BASE_ADDRESS_0 + 4 * (n))
#define ON (PCI_COMMAND_MEMORY | PCI_COMMAND_IO)

static struct rig *r;
static struct tpci *t;

static void setup(void)
{
	r = pci_rig();
	t = pci_fn(r, "'id': 'f', 'addr': '3', 'mem32': 4096, 'pref64': 17179869184, "
		   "'io': 32, 'mem32b': 16, 'pin': 2");
}

static void teardown(void)
{
	pci_rig_end(r);
}

TestSuite(pci_bar, .init = setup, .fini = teardown);

static uint32_t sized(int n)
{
	ecam_write(r, FN, BAR(n), 4, 0xffffffff);
	return (uint32_t)ecam_read(r, FN, BAR(n), 4);
}

Test(pci_bar, test_sizing_all_ones_shows_size_and_type)
{
	cr_expect_eq(sized(0), 0xfffff000);
	cr_expect_eq(sized(1), 0);
	cr_expect_eq(sized(2), 0x0000000c);
	cr_expect_eq(sized(3), 0xfffffffc);
	cr_expect_eq(sized(4), 0xffffffe1);
	cr_expect_eq(sized(5), 0xfffffff0);
	cr_expect_eq(ecam_read(r, FN, PCI_ROM_ADDRESS, 4), 0);
}

Test(pci_bar, test_sizing_with_decoding_on_maps_nothing)
{
	ecam_write(r, FN, PCI_COMMAND, 2, ON);
	cr_expect_eq(sized(0), 0xfffff000);
	cr_expect_eq(sized(4), 0xffffffe1);
	cr_expect_eq(rig_mmio_read(r, 0xfffff000, 4), 0xffffffff);
	cr_expect_not(t->pci.bar[0].mapped);
	cr_expect_eq(t->moves[0], 0);
}

Test(pci_bar, test_command_bits_toggle_their_space_only)
{
	ecam_write(r, FN, BAR(0), 4, 0xd0000000);
	ecam_write(r, FN, BAR(4), 4, 0xc000);
	cr_expect_eq(rig_mmio_read(r, 0xd0000000, 4), 0xffffffff);
	ecam_write(r, FN, PCI_COMMAND, 1, PCI_COMMAND_IO);
	cr_expect_eq(rig_pio_read(r, 0xc000, 4), 0x5a04);
	cr_expect_eq(rig_mmio_read(r, 0xd0000000, 4), 0xffffffff);
	ecam_write(r, FN, PCI_COMMAND, 1, PCI_COMMAND_MEMORY);
	cr_expect_eq(rig_pio_read(r, 0xc000, 4), 0xffffffff);
	cr_expect_eq(rig_mmio_read(r, 0xd0000000, 4), 0x5a00);
	cr_expect_eq(t->moves[0], 1);
	cr_expect_eq(t->moves[4], 2);
}

Test(pci_bar, test_move_while_enabled_follows_and_tells_the_device)
{
	ecam_write(r, FN, PCI_COMMAND, 2, ON);
	ecam_write(r, FN, BAR(0), 4, 0xd0000000);
	ecam_write(r, FN, BAR(0), 4, 0xd0100000);
	cr_expect_eq(rig_mmio_read(r, 0xd0000000, 4), 0xffffffff);
	rig_mmio_write(r, 0xd0100008, 4, 0x1234);
	cr_expect_eq(t->seen_off, 8);
	cr_expect_eq(t->seen_val, 0x1234);
	cr_expect_eq(t->moves[0], 3, "appears, leaves, appears");
	ecam_write(r, FN, BAR(0) + 2, 1, 0x20);		/* one byte of it */
	cr_expect_eq(rig_mmio_read(r, 0xd0200000, 4), 0x5a00);
}

Test(pci_bar, test_64bit_halves_written_one_by_one_end_at_the_address)
{
	ecam_write(r, FN, PCI_COMMAND, 2, ON);
	ecam_write(r, FN, BAR(3), 4, 0x10);
	cr_expect_eq(rig_mmio_read(r, 0x1000000000, 4), 0x5a02);
	ecam_write(r, FN, BAR(2), 4, 0);
	ecam_write(r, FN, BAR(3), 4, 0x14);
	cr_expect_eq(rig_mmio_read(r, 0x1000000000, 4), 0xffffffff);
	cr_expect_eq(rig_mmio_read(r, 0x1400000000 + 17179869184 - 4, 4), 0x5a02);
	cr_expect_eq(ecam_read(r, FN, BAR(2), 8), 0x140000000cull);
}

Test(pci_bar, test_address_beyond_the_space_maps_nothing)
{
	ecam_write(r, FN, PCI_COMMAND, 2, ON);
	ecam_write(r, FN, BAR(3), 4, 0x7ffffff0);
	cr_expect_not(t->pci.bar[2].mapped);
	ecam_write(r, FN, BAR(4), 4, 0xfffe0000);	/* ports end at 64 KiB */
	cr_expect_not(t->pci.bar[4].mapped);
	ecam_write(r, FN, BAR(3), 4, 0x10);
	cr_expect(t->pci.bar[2].mapped);
}

Test(pci_bar, test_overlap_with_ecam_leaves_ecam_in_charge)
{
	ecam_write(r, FN, PCI_COMMAND, 2, ON);
	ecam_write(r, FN, BAR(0), 4, T_ECAM);
	cr_expect_eq(ecam_read(r, 0, 0, 4), 0x29c08086);
	ecam_write(r, FN, BAR(0), 4, 0xd0000000);
	cr_expect_eq(rig_mmio_read(r, 0xd0000000, 4), 0x5a00);
}

Test(pci_bar, test_overlap_of_two_functions_heals_when_one_moves)
{
	struct tpci *o = pci_fn(r, "'id': 'g', 'addr': '4', 'mem32': 4096");

	ecam_write(r, FN, PCI_COMMAND, 2, ON);
	ecam_write(r, BDF(0, 4, 0), PCI_COMMAND, 2, ON);
	ecam_write(r, FN, BAR(0), 4, 0xd0000000);
	ecam_write(r, BDF(0, 4, 0), BAR(0), 4, 0xd0000000);
	ecam_write(r, BDF(0, 4, 0), BAR(0), 4, 0xd0001000);
	rig_mmio_write(r, 0xd0000000, 4, 1);
	rig_mmio_write(r, 0xd0001000, 4, 2);
	cr_expect_eq(t->seen_val, 1);
	cr_expect_eq(o->seen_val, 2);
}

Test(pci_bar, test_destroyed_function_leaves_no_window)
{
	ecam_write(r, FN, PCI_COMMAND, 2, ON);
	ecam_write(r, FN, BAR(0), 4, 0xd0000000);
	dev_destroy(&t->pci.dev);
	cr_expect_eq(rig_mmio_read(r, 0xd0000000, 4), 0xffffffff);
	cr_expect_eq(ecam_read(r, FN, 0, 4), 0xffffffff);
	t = pci_fn(r, "'id': 'f', 'addr': '3'");	/* the slot is free again */
}

Test(pci_bar, test_size_not_a_power_of_two_is_refused_with_a_sentence)
{
	struct err e = ERR_INIT;

	cr_expect_lt(rig_device_error(r, "{'driver': 'tpci', 'id': 'x', 'mem32': 5000}", &e), 0);
	cr_expect_str_eq(e.text, "x: BAR 0 cannot be 5000 bytes; a power of two is needed");
}

/* ---- wired interrupts ---- */

#define GSI_3B (T_GSI + 4)	/* slot 3, INTB */

Test(pci_bar, test_intx_level_shows_in_status_and_on_the_line)
{
	pci_intx_set(&t->pci, true);
	cr_expect(rig_level(r, GSI_3B));
	cr_expect_neq(ecam_read(r, FN, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT, 0);
	pci_intx_set(&t->pci, false);
	cr_expect_not(rig_level(r, GSI_3B));
	cr_expect_eq(ecam_read(r, FN, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT, 0);
}

Test(pci_bar, test_intx_disable_bit_drops_the_line_and_keeps_the_status)
{
	pci_intx_set(&t->pci, true);
	ecam_write(r, FN, PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE);
	cr_expect_not(rig_level(r, GSI_3B));
	cr_expect_neq(ecam_read(r, FN, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT, 0);
	ecam_write(r, FN, PCI_COMMAND, 2, 0);
	cr_expect(rig_level(r, GSI_3B));
}

Test(pci_bar, test_intx_shared_line_stays_up_while_one_asserts)
{
	struct tpci *o = pci_fn(r, "'id': 'g', 'addr': '4', 'pin': 1");

	pci_intx_set(&t->pci, true);
	pci_intx_set(&o->pci, true);
	pci_intx_set(&t->pci, false);
	cr_expect(rig_level(r, GSI_3B));
	dev_destroy(&o->pci.dev);
	cr_expect_not(rig_level(r, GSI_3B));
}

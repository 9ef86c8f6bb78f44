/*
 * Config space: masks byte by byte, partial and unaligned writes, the two ways
 * in, capability lists, and the host bridge.
 */
#include <criterion/criterion.h>

#include "pci/internal.h"
#include "tests/dev/lib_pci.h"
#include "vmm/base/util.h"

#define FN BDF(0, 3, 0)

static struct rig *r;
static struct tpci *t;

static void setup(void)
{
	r = pci_rig();
	t = pci_fn(r, "'id': 'f', 'addr': '3', 'mem32': 4096, 'msix': 3, 'msi': 4, "
		   "'pin': 1, 'express': true");
}

static void teardown(void)
{
	pci_rig_end(r);
}

TestSuite(pci_config, .init = setup, .fini = teardown);

Test(pci_config, test_header_fresh_has_ids_and_read_only_fields)
{
	cr_expect_eq(ecam_read(r, FN, PCI_VENDOR_ID, 4), 0x56781234);
	cr_expect_eq(ecam_read(r, FN, PCI_CLASS_REVISION, 4), 0xff000007);
	cr_expect_eq(ecam_read(r, FN, PCI_SUBSYSTEM_VENDOR_ID, 4), 0x11001af4);
	cr_expect_eq(ecam_read(r, FN, PCI_HEADER_TYPE, 1), 0);
	cr_expect_eq(ecam_read(r, FN, PCI_INTERRUPT_PIN, 1), 1);
	ecam_write(r, FN, PCI_VENDOR_ID, 4, 0);
	ecam_write(r, FN, PCI_CLASS_REVISION, 4, 0);
	ecam_write(r, FN, PCI_INTERRUPT_PIN, 1, 3);
	cr_expect_eq(ecam_read(r, FN, PCI_VENDOR_ID, 4), 0x56781234);
	cr_expect_eq(ecam_read(r, FN, PCI_CLASS_REVISION, 4), 0xff000007);
	cr_expect_eq(ecam_read(r, FN, PCI_INTERRUPT_PIN, 1), 1);
}

Test(pci_config, test_masks_every_byte_obeys_write_and_w1c)
{
	int off, bad = 0;

	for (off = 0; off < t->pci.mask_bytes; off++) {
		uint8_t w = t->pci.wmask[off], c = t->pci.w1cmask[off];
		uint8_t before = (uint8_t)ecam_read(r, FN, (uint16_t)off, 1), want;

		ecam_write(r, FN, (uint16_t)off, 1, 0xff);
		want = (uint8_t)((before | w) & ~c);
		bad += (uint8_t)ecam_read(r, FN, (uint16_t)off, 1) != want &&
		       off != t->pci.pm_cap + PCI_PM_CTRL;
		ecam_write(r, FN, (uint16_t)off, 1, 0);
		want = (uint8_t)(want & ~w);
		bad += (uint8_t)ecam_read(r, FN, (uint16_t)off, 1) != want;
	}
	cr_expect_eq(bad, 0);
}

Test(pci_config, test_write_unaligned_changes_only_the_bytes_it_covers)
{
	ecam_write(r, FN, PCI_CACHE_LINE_SIZE, 1, 0x11);
	ecam_write(r, FN, PCI_INTERRUPT_LINE, 1, 0x22);
	ecam_write(r, FN, PCI_CACHE_LINE_SIZE - 1, 4, 0xaabbccdd);
	cr_expect_eq(ecam_read(r, FN, PCI_CACHE_LINE_SIZE, 1), 0xcc);
	ecam_write(r, FN, PCI_INTERRUPT_LINE - 3, 4, 0x99000000);
	cr_expect_eq(ecam_read(r, FN, PCI_INTERRUPT_LINE, 1), 0x99);
	cr_expect_eq(ecam_read(r, FN, PCI_INTERRUPT_LINE - 1, 2), 0x9900);
}

Test(pci_config, test_status_error_bits_clear_by_writing_one)
{
	pci_flip8(&t->pci, PCI_STATUS + 1, 0xf8, true);
	ecam_write(r, FN, PCI_STATUS, 2, PCI_STATUS_REC_MASTER_ABORT);
	cr_expect_eq(ecam_read(r, FN, PCI_STATUS, 2) & 0xff00, 0xd800);
	ecam_write(r, FN, PCI_COMMAND, 4, 0xffff0000);
	cr_expect_eq(ecam_read(r, FN, PCI_STATUS, 2) & 0xff00, 0);
	cr_expect_neq(ecam_read(r, FN, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST, 0);
}

Test(pci_config, test_access_across_functions_is_split_at_the_edge)
{
	uint64_t v = ecam_read(r, FN, PCI_CFG_SIZE - 4, 8);

	cr_expect_eq(v, 0xffffffff00000000ull, "function 3.1 is absent");
	ecam_write(r, BDF(0, 2, 7), PCI_CFG_SIZE - 4, 8, 0);
	cr_expect_eq(ecam_read(r, FN, PCI_VENDOR_ID, 4), 0x56781234);
}

Test(pci_config, test_absent_function_reads_ones_and_ignores_writes)
{
	cr_expect_eq(ecam_read(r, BDF(0, 9, 0), 0, 4), 0xffffffff);
	cr_expect_eq(ecam_read(r, BDF(7, 3, 0), 0, 2), 0xffff);
	cr_expect_eq(cf8_read(r, BDF(0, 9, 0), 0, 4), 0xffffffff);
	ecam_write(r, BDF(0, 9, 0), 4, 4, 0xffffffff);
	ecam_write(r, BDF(255, 31, 7), 4092, 4, 0xffffffff);
}

Test(pci_config, test_ecam_and_ports_agree_on_every_byte)
{
	int off, bad = 0;

	for (off = 0; off < 256; off++)
		bad += ecam_read(r, FN, (uint16_t)off, 1) !=
		       cf8_read(r, FN, (uint16_t)off, 1);
	for (off = 0; off < 256; off += 2)
		bad += ecam_read(r, FN, (uint16_t)off, 2) !=
		       cf8_read(r, FN, (uint16_t)off, 2);
	for (off = 0; off < 256; off += 4)
		bad += ecam_read(r, FN, (uint16_t)off, 4) !=
		       cf8_read(r, FN, (uint16_t)off, 4);
	cr_expect_eq(bad, 0);
	cf8_write(r, FN, PCI_INTERRUPT_LINE, 1, 0x77);
	cr_expect_eq(ecam_read(r, FN, PCI_INTERRUPT_LINE, 1), 0x77);
}

Test(pci_config, test_ports_without_enable_bit_do_nothing)
{
	rig_pio_write(r, 0xcf8, 4, (uint32_t)FN << 8);
	cr_expect_eq(rig_pio_read(r, 0xcfc, 4), 0xffffffff);
	rig_pio_write(r, 0xcf8, 4, 0x80000000u);
	rig_pio_write(r, 0xcf8, 2, 0xffff);		/* not a dword: ignored */
	rig_pio_write(r, 0xcfb, 1, 1);
	cr_expect_eq(rig_pio_read(r, 0xcf8, 4), 0x80000000u);
	cr_expect_eq(rig_pio_read(r, 0xcfc, 4), 0x29c08086);
}

static uint8_t cf9_seen;
static uint8_t cf9_rd(struct pci_root *root) { return 0x5c; }
static void cf9_wr(struct pci_root *root, uint8_t v) { cf9_seen = v; }

Test(pci_config, test_port_cf9_byte_reaches_the_machine_and_not_the_address)
{
	r->vm->pci->cf9_read = cf9_rd;
	r->vm->pci->cf9_write = cf9_wr;
	rig_pio_write(r, 0xcf8, 4, 0x80001800u);
	rig_pio_write(r, 0xcf9, 1, 0x06);
	cr_expect_eq(cf9_seen, 6);
	cr_expect_eq(rig_pio_read(r, 0xcf9, 1), 0x5c);
	cr_expect_eq(rig_pio_read(r, 0xcf8, 4), 0x80001800u);
}

Test(pci_config, test_capabilities_are_listed_once_and_end)
{
	cr_expect_neq(find_cap(r, FN, PCI_CAP_ID_MSIX), 0);
	cr_expect_neq(find_cap(r, FN, PCI_CAP_ID_MSI), 0);
	cr_expect_neq(find_cap(r, FN, PCI_CAP_ID_EXP), 0);
	cr_expect_neq(find_cap(r, FN, PCI_CAP_ID_PM), 0);
	cr_expect_eq(find_cap(r, FN, PCI_CAP_ID_VNDR), 0);
	cr_expect_eq(find_cap(r, FN, PCI_CAP_ID_MSIX) % 4, 0);
}

Test(pci_config, test_express_on_root_bus_is_integrated_endpoint_without_link)
{
	uint16_t cap = find_cap(r, FN, PCI_CAP_ID_EXP);

	cr_expect_eq(ecam_read(r, FN, cap + PCI_EXP_FLAGS, 2), 0x92);
	cr_expect_eq(ecam_read(r, FN, cap + PCI_EXP_LNKCAP, 4), 0);
	cr_expect_eq(ecam_read(r, FN, cap + PCI_EXP_LNKSTA, 2), 0);
}

Test(pci_config, test_power_state_unknown_is_ignored_and_d3_hides_bars)
{
	uint16_t pm = find_cap(r, FN, PCI_CAP_ID_PM);

	ecam_write(r, FN, PCI_BASE_ADDRESS_0, 4, 0xd0000000);
	ecam_write(r, FN, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	cr_expect_eq(rig_mmio_read(r, 0xd0000000, 4), 0x5a00);
	ecam_write(r, FN, pm + PCI_PM_CTRL, 2, 2);
	cr_expect_eq(ecam_read(r, FN, pm + PCI_PM_CTRL, 2) & 3, 0);
	ecam_write(r, FN, pm + PCI_PM_CTRL, 2, 3);
	cr_expect_eq(rig_mmio_read(r, 0xd0000000, 4), 0xffffffff);
	ecam_write(r, FN, pm + PCI_PM_CTRL, 2, 1);
	cr_expect_eq(ecam_read(r, FN, pm + PCI_PM_CTRL, 2) & 3, 3);
	ecam_write(r, FN, pm + PCI_PM_CTRL, 2, 0);
	cr_expect_eq(rig_mmio_read(r, 0xd0000000, 4), 0x5a00);
}

Test(pci_config, test_reset_restores_what_the_guest_may_change)
{
	ecam_write(r, FN, PCI_BASE_ADDRESS_0, 4, 0xd0000000);
	ecam_write(r, FN, PCI_COMMAND, 2, 0x507);
	ecam_write(r, FN, PCI_INTERRUPT_LINE, 1, 5);
	rig_reset(r);
	cr_expect_eq(ecam_read(r, FN, PCI_BASE_ADDRESS_0, 4), 0);
	cr_expect_eq(ecam_read(r, FN, PCI_COMMAND, 2), 0);
	cr_expect_eq(ecam_read(r, FN, PCI_INTERRUPT_LINE, 1), 0);
	cr_expect_eq(rig_mmio_read(r, 0xd0000000, 4), 0xffffffff);
}

/* ---- host bridge ---- */

Test(pci_config, test_host_bridge_moves_and_hides_ecam)
{
	cr_expect_eq(ecam_read(r, 0, PCI_VENDOR_ID, 4), 0x29c08086);
	cr_expect_eq(ecam_read(r, 0, 0x60, 4), T_ECAM | 1);
	cf8_write(r, 0, 0x60, 4, 0xa0000001);
	cr_expect_eq(ecam_read(r, 0, PCI_VENDOR_ID, 4), 0xffffffff);
	cr_expect_eq(rig_mmio_read(r, 0xa0000000, 4), 0x29c08086);
	cf8_write(r, 0, 0x60, 4, 0xa0000003);		/* 128 buses */
	cr_expect_eq(rig_mmio_read(r, 0xa0000000, 4), 0x29c08086);
	cr_expect_eq(r->vm->pci->ecam.size, 128 * MIB);
	cf8_write(r, 0, 0x60, 4, 0xa0000000);
	cr_expect_eq(rig_mmio_read(r, 0xa0000000, 4), 0xffffffff);
	rig_reset(r);
	cr_expect_eq(ecam_read(r, 0, PCI_VENDOR_ID, 4), 0x29c08086);
	cr_expect_eq(r->vm->pci->ecam.size, 256 * MIB);
}

/* ---- read hooks ---- */

static void refresh(struct pci_dev *p, uint16_t off, unsigned int len)
{
	pci_poke8(p, 0xf0, pci_peek8(p, 0xf0) + 1);
}

Test(pci_config, test_read_hook_refreshes_only_its_bytes)
{
	pci_read_hook_add(&t->pci, 0xf0, 4, refresh, NULL);
	cr_expect_eq(ecam_read(r, FN, 0xec, 4), 0);
	cr_expect_eq(ecam_read(r, FN, 0xf0, 4), 1);
	cr_expect_eq(ecam_read(r, FN, 0xf0, 1), 2);
	cr_expect_eq(ecam_read(r, FN, 0xf4, 4), 0);
}

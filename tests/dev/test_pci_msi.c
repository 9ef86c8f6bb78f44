/*
 * MSI and MSI-X: masks, pending bits, what is lost and what must not be; the
 * thread tests run under ThreadSanitizer as well.
 */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/dev/lib_pci.h"
#include "vmm/base/util.h"

#define FN BDF(0, 3, 0)
#define TABLE 0xd0000000ull
#define VECTORS 40
#define ENTRY(n) (TABLE + 16 * (n))
#define MASTER_MEM (PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY)
#define MSI_VECTORS 4

static struct rig *r;
static struct tpci *t;
static uint64_t pba;
static uint16_t msix_cap, msi_cap;

static void setup(void)
{
	r = pci_rig();
	t = pci_fn(r, "'id': 'f', 'addr': '3', 'msix': 40, 'msi': 4");
	msix_cap = find_cap(r, FN, PCI_CAP_ID_MSIX);
	msi_cap = find_cap(r, FN, PCI_CAP_ID_MSI);
	ecam_write(r, FN, PCI_BASE_ADDRESS_1, 4, TABLE);
	ecam_write(r, FN, PCI_COMMAND, 2, MASTER_MEM);
	pba = TABLE + (ecam_read(r, FN, msix_cap + PCI_MSIX_PBA, 4) & ~7ull);
}

static void teardown(void)
{
	pci_rig_end(r);
}

TestSuite(pci_msi, .init = setup, .fini = teardown);

static void entry_set(int n, uint32_t addr, uint32_t data, bool masked)
{
	rig_mmio_write(r, ENTRY(n), 4, addr);
	rig_mmio_write(r, ENTRY(n) + 4, 4, 0);
	rig_mmio_write(r, ENTRY(n) + 8, 4, data);
	rig_mmio_write(r, ENTRY(n) + 12, 4, masked);
}

static void msix_flags(uint16_t flags)
{
	ecam_write(r, FN, msix_cap + PCI_MSIX_FLAGS, 2, flags);
}

static uint64_t pending(void)
{
	return rig_mmio_read(r, pba, 8);
}

Test(pci_msi, test_msix_capability_describes_table_and_pba)
{
	cr_expect_eq(ecam_read(r, FN, msix_cap + PCI_MSIX_FLAGS, 2), VECTORS - 1);
	cr_expect_eq(ecam_read(r, FN, msix_cap + PCI_MSIX_TABLE, 4), 1);
	cr_expect_eq(ecam_read(r, FN, msix_cap + PCI_MSIX_PBA, 4), 0x801);
	cr_expect_eq(rig_mmio_read(r, ENTRY(0) + 12, 4), 1, "masked after reset");
	cr_expect_eq(rig_mmio_read(r, ENTRY(VECTORS - 1) + 12, 4), 1);
}

Test(pci_msi, test_msix_fire_enabled_sends_the_entrys_message)
{
	entry_set(5, 0xfee01004, 0x4021, false);
	msix_flags(PCI_MSIX_FLAGS_ENABLE);
	msix_fire(&t->pci, 5);
	cr_assert_eq(rig_msis(r), 1);
	cr_expect_eq(rig_last_msi(r).addr, 0xfee01004);
	cr_expect_eq(rig_last_msi(r).data, 0x4021);
	cr_expect_eq(rig_last_msi(r).devid, FN);
	cr_expect_eq(pending(), 0);
}

Test(pci_msi, test_msix_fire_disabled_is_dropped)
{
	entry_set(5, 0xfee00000, 1, false);
	msix_fire(&t->pci, 5);
	cr_expect_eq(pending(), 0);
	msix_flags(PCI_MSIX_FLAGS_ENABLE);
	cr_expect_eq(rig_msis(r), 0);
	msix_fire(&t->pci, VECTORS);
	msix_fire(&t->pci, 0xffff);
	cr_expect_eq(rig_msis(r), 0);
}

Test(pci_msi, test_msix_vector_masked_pends_and_is_sent_once_on_unmask)
{
	entry_set(33, 0xfee00000, 7, true);
	msix_flags(PCI_MSIX_FLAGS_ENABLE);
	msix_fire(&t->pci, 33);
	msix_fire(&t->pci, 33);
	cr_expect_eq(rig_msis(r), 0);
	cr_expect_eq(pending(), 1ull << 33);
	cr_expect_eq(rig_mmio_read(r, pba + 4, 4), 2);
	cr_expect_eq(rig_mmio_read(r, pba + 4, 1), 2);
	rig_mmio_write(r, ENTRY(33) + 12, 4, 0);
	cr_expect_eq(rig_msis(r), 1);
	cr_expect_eq(pending(), 0);
}

Test(pci_msi, test_msix_function_mask_holds_all_vectors)
{
	entry_set(0, 0xfee00000, 1, false);
	entry_set(1, 0xfee00000, 2, true);
	msix_flags(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	msix_fire(&t->pci, 0);
	msix_fire(&t->pci, 1);
	cr_expect_eq(rig_msis(r), 0);
	cr_expect_eq(pending(), 3);
	msix_flags(PCI_MSIX_FLAGS_ENABLE);
	cr_expect_eq(rig_msis(r), 1);
	cr_expect_eq(rig_last_msi(r).data, 1);
	cr_expect_eq(pending(), 2);
}

Test(pci_msi, test_msix_without_bus_mastering_waits_for_it)
{
	entry_set(0, 0xfee00000, 1, false);
	msix_flags(PCI_MSIX_FLAGS_ENABLE);
	ecam_write(r, FN, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	msix_fire(&t->pci, 0);
	cr_expect_eq(rig_msis(r), 0);
	ecam_write(r, FN, PCI_COMMAND, 2, MASTER_MEM);
	cr_expect_eq(rig_msis(r), 1);
}

Test(pci_msi, test_msix_table_quadword_writes_set_both_halves)
{
	rig_mmio_write(r, ENTRY(2), 8, 0x00000001fee02008ull);
	rig_mmio_write(r, ENTRY(2) + 8, 8, 0x0000000000000055ull);
	cr_expect_eq(rig_mmio_read(r, ENTRY(2), 8), 0x00000001fee02008ull);
	msix_flags(PCI_MSIX_FLAGS_ENABLE);
	msix_fire(&t->pci, 2);
	cr_expect_eq(rig_last_msi(r).addr, 0x1fee02008ull);
	cr_expect_eq(rig_last_msi(r).data, 0x55);
}

Test(pci_msi, test_msix_table_odd_accesses_do_no_harm)
{
	uint64_t before = rig_mmio_read(r, ENTRY(2), 8);

	rig_mmio_write(r, ENTRY(2), 1, 0xff);
	rig_mmio_write(r, ENTRY(2) + 2, 2, 0xffff);
	rig_mmio_write(r, ENTRY(2) + 1, 4, 0xffffffff);		/* misaligned */
	cr_expect_eq(rig_mmio_read(r, ENTRY(2), 8), before);
	rig_mmio_write(r, ENTRY(VECTORS), 4, 0xffffffff);	/* behind the table */
	rig_mmio_write(r, ENTRY(VECTORS - 1) + 12, 8, 0);	/* across its end */
	rig_mmio_write(r, pba, 8, UINT64_MAX);
	rig_mmio_write(r, TABLE + 4092, 8, UINT64_MAX);
	cr_expect_eq(rig_mmio_read(r, ENTRY(VECTORS), 4), 0);
	cr_expect_eq(pending(), 0);
	cr_expect_eq(rig_mmio_read(r, TABLE + 4092, 4), 0);
	rig_mmio_write(r, ENTRY(0), 4, 0xffffffff);
	cr_expect_eq(rig_mmio_read(r, ENTRY(0), 4), 0xfffffffc, "low address bits");
	rig_mmio_write(r, ENTRY(0) + 12, 4, 0xfffffffe);
	cr_expect_eq(rig_mmio_read(r, ENTRY(0) + 12, 4), 0, "only the mask bit");
}

Test(pci_msi, test_msix_reset_masks_and_forgets)
{
	entry_set(0, 0xfee00000, 1, true);
	msix_flags(PCI_MSIX_FLAGS_ENABLE);
	msix_fire(&t->pci, 0);
	rig_reset(r);
	cr_expect_not(msix_enabled(&t->pci));
	ecam_write(r, FN, PCI_BASE_ADDRESS_1, 4, TABLE);
	ecam_write(r, FN, PCI_COMMAND, 2, MASTER_MEM);
	cr_expect_eq(pending(), 0);
	cr_expect_eq(rig_mmio_read(r, ENTRY(0), 4), 0);
	cr_expect_eq(rig_mmio_read(r, ENTRY(0) + 12, 4), 1);
}

/* ---- irqfd ---- */

static int route_of(int fd)
{
	int i;

	for (i = 0; i < RIG_ROUTES; i++)
		if (r->route_on[i] && r->route_fd[i] == fd)
			return i;
	return -1;
}

Test(pci_msi, test_irqfd_follows_mask_and_message)
{
	struct err e = ERR_INIT;
	uint64_t one = 1;
	int fd = -1, i;

	cr_assert_eq(msix_irqfd(&t->pci, 3, &fd, &e), 0, "%s", e.text);
	cr_expect_eq(route_of(fd), -1, "masked: the kernel does not listen");
	entry_set(3, 0xfee03000, 0x31, false);
	msix_flags(PCI_MSIX_FLAGS_ENABLE);
	i = route_of(fd);
	cr_assert_geq(i, 0);
	cr_expect_eq(r->route[i].addr, 0xfee03000);
	cr_expect_eq(r->route[i].data, 0x31);
	rig_mmio_write(r, ENTRY(3) + 12, 4, 1);
	cr_expect_eq(route_of(fd), -1);
	cr_assert_eq(write(fd, &one, 8), 8);
	cr_expect_eq(pending(), 8, "what the eventfd holds is pending");
	rig_mmio_write(r, ENTRY(3) + 8, 4, 0x32);
	rig_mmio_write(r, ENTRY(3) + 12, 4, 0);
	cr_assert_eq(route_of(fd), i);
	cr_expect_eq(r->route[i].data, 0x32);
}

Test(pci_msi, test_irqfd_asked_twice_is_the_same_and_goes_with_the_device)
{
	struct err e = ERR_INIT;
	int fd = -1, again = -1, i;

	cr_assert_eq(msix_irqfd(&t->pci, 3, &fd, &e), 0);
	cr_assert_eq(msix_irqfd(&t->pci, 3, &again, &e), 0);
	cr_expect_eq(fd, again);
	entry_set(3, 0xfee03000, 0x31, false);
	msix_flags(PCI_MSIX_FLAGS_ENABLE);
	i = route_of(fd);
	dev_destroy(&t->pci.dev);
	cr_expect_not(r->route_on[i]);
}

/* ---- MSI ---- */

static void msi_on(unsigned int log2_vectors)
{
	ecam_write(r, FN, msi_cap + PCI_MSI_ADDRESS_LO, 4, 0xfee05000);
	ecam_write(r, FN, msi_cap + PCI_MSI_ADDRESS_HI, 4, 0);
	ecam_write(r, FN, msi_cap + PCI_MSI_DATA_64, 2, 0x60);
	ecam_write(r, FN, msi_cap + PCI_MSI_FLAGS, 2,
		   PCI_MSI_FLAGS_ENABLE | log2_vectors << 4);
}

Test(pci_msi, test_msi_vectors_change_the_low_bits_of_the_data)
{
	cr_expect_eq(ecam_read(r, FN, msi_cap + PCI_MSI_FLAGS, 2),
		     PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_MASKBIT | 2 << 1);
	msi_on(2);
	msi_fire(&t->pci, 3);
	cr_expect_eq(rig_last_msi(r).addr, 0xfee05000);
	cr_expect_eq(rig_last_msi(r).data, 0x63);
	msi_fire(&t->pci, 0);
	cr_expect_eq(rig_last_msi(r).data, 0x60);
}

Test(pci_msi, test_msi_with_fewer_vectors_shares_them)
{
	msi_on(1);
	msi_fire(&t->pci, 3);
	cr_expect_eq(rig_last_msi(r).data, 0x61);
	msi_on(0);
	msi_fire(&t->pci, 3);
	cr_expect_eq(rig_last_msi(r).data, 0x60);
	msi_on(7);			/* reserved: as many as there are */
	msi_fire(&t->pci, 3);
	cr_expect_eq(rig_last_msi(r).data, 0x63);
}

Test(pci_msi, test_msi_masked_pends_and_is_sent_on_unmask)
{
	msi_on(2);
	ecam_write(r, FN, msi_cap + PCI_MSI_MASK_64, 4, 0xffffffff);
	cr_expect_eq(ecam_read(r, FN, msi_cap + PCI_MSI_MASK_64, 4), 0xf);
	msi_fire(&t->pci, 1);
	msi_fire(&t->pci, 2);
	cr_expect_eq(rig_msis(r), 0);
	cr_expect_eq(ecam_read(r, FN, msi_cap + PCI_MSI_PENDING_64, 4), 6);
	ecam_write(r, FN, msi_cap + PCI_MSI_MASK_64, 1, 0xd);
	cr_expect_eq(rig_msis(r), 1);
	cr_expect_eq(rig_last_msi(r).data, 0x61);
	cr_expect_eq(ecam_read(r, FN, msi_cap + PCI_MSI_PENDING_64, 4), 4);
	ecam_write(r, FN, msi_cap + PCI_MSI_FLAGS, 2, 0);
	cr_expect_eq(ecam_read(r, FN, msi_cap + PCI_MSI_PENDING_64, 4), 0);
	msi_fire(&t->pci, 0);
	cr_expect_eq(rig_msis(r), 1);
}

Test(pci_msi, test_msi_without_bus_mastering_waits_for_it)
{
	msi_on(2);
	ecam_write(r, FN, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	msi_fire(&t->pci, 1);
	cr_expect_eq(rig_msis(r), 0);
	ecam_write(r, FN, PCI_COMMAND, 2, MASTER_MEM);
	cr_expect_eq(rig_msis(r), 1);
}

/* ---- threads ---- */

#define FIRES 20000

static atomic_bool stop;

static void *fire_all(void *arg)
{
	uint16_t vector = (uint16_t)(uintptr_t)arg;
	int i;

	for (i = 0; i < FIRES; i++)
		msix_fire(&t->pci, vector);
	return NULL;
}

static void *fire_intx(void *arg)
{
	int i;

	for (i = 0; i < FIRES; i++) {
		pci_intx_set(&t->pci, i & 1);
		msi_fire(&t->pci, 0);
		(void)pci_master(&t->pci);
	}
	return NULL;
}

/* A guest that masks, moves and unmasks while two threads fire. */
static void *toggle_masks(void *arg)
{
	uint32_t n = 0;

	while (!atomic_load(&stop)) {
		rig_mmio_write(r, ENTRY(0) + 12, 4, 1);
		rig_mmio_write(r, ENTRY(0) + 8, 8, (n & 1) ? 0x41 : 0x42);
		msix_flags(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
		msix_flags(PCI_MSIX_FLAGS_ENABLE);
		(void)pending();
		n++;
	}
	return NULL;
}

Test(pci_msi, test_threads_fire_against_mask_writes_loses_nothing)
{
	pthread_t guest, io[2];

	entry_set(0, 0xfee00000, 0x41, false);
	entry_set(1, 0xfee00000, 0x51, false);
	msix_flags(PCI_MSIX_FLAGS_ENABLE);
	atomic_store(&stop, false);
	pthread_create(&guest, NULL, toggle_masks, NULL);
	pthread_create(&io[0], NULL, fire_all, (void *)0);
	pthread_create(&io[1], NULL, fire_all, (void *)1);
	pthread_join(io[0], NULL);
	pthread_join(io[1], NULL);
	atomic_store(&stop, true);
	pthread_join(guest, NULL);
	/* The guest left everything unmasked: nothing may be pending. */
	cr_expect_eq(pending(), 0);
	cr_expect_gt(rig_msis(r), 0);
}

/* Each fire is followed by a wait for its message: a lost one would hang. */
Test(pci_msi, test_threads_unmask_race_delivers_each_fire, .timeout = 60)
{
	pthread_t guest;
	int i, spins;

	entry_set(0, 0xfee00000, 0x41, false);
	msix_flags(PCI_MSIX_FLAGS_ENABLE);
	atomic_store(&stop, false);
	pthread_create(&guest, NULL, toggle_masks, NULL);
	for (i = 0; i < 2000; i++) {
		uint32_t before = rig_msis(r);

		msix_fire(&t->pci, 0);
		for (spins = 0; rig_msis(r) == before && spins < 10000000; spins++)
			;
		cr_assert_neq(rig_msis(r), before, "fire %d was lost", i);
	}
	atomic_store(&stop, true);
	pthread_join(guest, NULL);
}

static void *write_config(void *arg)
{
	while (!atomic_load(&stop)) {
		ecam_write(r, FN, PCI_COMMAND, 2, MASTER_MEM | PCI_COMMAND_INTX_DISABLE);
		ecam_write(r, FN, msi_cap + PCI_MSI_MASK_64, 4, 1);
		(void)ecam_read(r, FN, PCI_COMMAND, 4);
		ecam_write(r, FN, msi_cap + PCI_MSI_MASK_64, 4, 0);
		ecam_write(r, FN, PCI_COMMAND, 2, MASTER_MEM);
	}
	return NULL;
}

Test(pci_msi, test_threads_intx_and_msi_against_config_writes)
{
	pthread_t guest, io;

	msi_on(2);
	atomic_store(&stop, false);
	pthread_create(&guest, NULL, write_config, NULL);
	pthread_create(&io, NULL, fire_intx, NULL);
	pthread_join(io, NULL);
	atomic_store(&stop, true);
	pthread_join(guest, NULL);
	cr_expect_eq(ecam_read(r, FN, msi_cap + PCI_MSI_PENDING_64, 4), 0);
	cr_expect_neq(ecam_read(r, FN, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT, 0);
}

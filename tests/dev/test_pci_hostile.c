/*
 * A guest that writes anything anywhere: a million random config and MMIO
 * accesses over a whole topology. Nothing may crash, hang or leak out of its
 * function, and afterwards a reset brings everything back.
 */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>

#include "tests/dev/lib_pci.h"
#include "vmm/base/util.h"

#define STEPS 1000000

static struct rig *r;
static struct tpci *deep, *flat;

static void setup(void)
{
	r = pci_rig();
	pci_port(r, "'id': 'a', 'addr': '2', 'multifunction': true");
	pci_port(r, "'id': 'b', 'addr': '2.1'");
	pci_port(r, "'id': 'c', 'addr': '3', 'io-reserve': '4K'");
	rig_device(r, "{'driver': 'pcie-pci-bridge', 'id': 'pb', 'bus': 'b'}");
	deep = pci_fn(r, "'bus': 'pb', 'addr': '1', 'mem32': '1M', 'pref64': '16M', 'io': 64, "
		      "'msix': 65, 'pin': 3, 'express': true");
	pci_fn(r, "'bus': 'a', 'mem32': 4096, 'msix': 2048, 'express': true");
	flat = pci_fn(r, "'addr': '4', 'mem32': 65536, 'mem64': '1G', 'io': 4, 'msi': 32, "
		      "'pin': 1, 'express': true");
	pci_enumerate_ok(r);
}

static void teardown(void)
{
	pci_rig_end(r);
}

TestSuite(pci_hostile, .init = setup, .fini = teardown);

static uint64_t rnd(uint64_t *s)	/* xorshift64 */
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

/* Values and places where something happens, more often than chance. */
static uint64_t pick_value(uint64_t *s)
{
	static const uint64_t nasty[] = {
		0, UINT64_MAX, 0x80000000, 0xfffff000, 0xb0000000, 0xc0000007, 7, 0x547,
		0x010100, 0x020100, 0xff0000, 0xffff0000, 0xe0000000e0000000ull, 1, 0x80,
	};
	uint64_t v = rnd(s);

	return v & 1 ? nasty[(v >> 8) % ARRAY_LEN(nasty)] : v >> 3;
}

static uint16_t pick_bdf(uint64_t *s)
{
	static const uint16_t known[] = {
		BDF(0, 0, 0), BDF(0, 2, 0), BDF(0, 2, 1), BDF(0, 3, 0), BDF(0, 4, 0),
		BDF(1, 0, 0), BDF(2, 0, 0), BDF(3, 1, 0),
	};
	uint64_t v = rnd(s);

	return v % 8 ? known[(v >> 8) % ARRAY_LEN(known)] : (uint16_t)(v >> 16);
}

static void one_step(uint64_t *s)
{
	static const uint8_t widths[] = { 1, 2, 4, 8 };
	uint64_t v = rnd(s);
	unsigned int width = widths[v & 3];
	uint16_t off = (uint16_t)((v & 0x30) ? (v >> 8) & 0xff : (v >> 8) & 0xfff);
	uint16_t bdf = pick_bdf(s);
	uint64_t val = pick_value(s);

	switch ((v >> 40) % 8) {
	case 0: case 1: case 2:
		ecam_write(r, bdf, off, width, val);
		break;
	case 3:
		ecam_read(r, bdf, off, width);
		break;
	case 4:
		cf8_write(r, bdf, off, width > 4 ? 4 : width, (uint32_t)val);
		break;
	case 5:
		rig_mmio_write(r, 0xc0000000 + (val & 0x3fffffff), width, rnd(s));
		break;
	case 6:
		rig_mmio_read(r, val, width);
		break;
	default:
		rig_pio_write(r, (uint16_t)(0xcf8 + (v >> 50) % 8), width, val);
	}
}

Test(pci_hostile, test_million_random_accesses_end_and_reset_heals, .timeout = 60)
{
	uint64_t s = 0x9e3779b97f4a7c15ull;
	int i;

	for (i = 0; i < STEPS; i++)
		one_step(&s);
	rig_reset(r);
	pci_enumerate_ok(r);
	cr_expect_eq(ecam_read(r, BDF(3, 1, 0), 0, 4), 0x56781234);
	cr_expect_eq(rig_mmio_read(r, deep->pci.bar[0].addr, 4), 0x5a00);
	cr_expect_eq(rig_mmio_read(r, flat->pci.bar[2].addr, 4), 0x5a02);
	pci_intx_set(&deep->pci, true);
	cr_expect(rig_level(r, T_GSI + 2 + 3), "INTC turned by slots 1, 0, 2");
}

Test(pci_hostile, test_identity_survives_anything)
{
	uint64_t s = 42;
	int i;

	for (i = 0; i < 50000; i++)
		ecam_write(r, BDF(0, 4, 0), (uint16_t)(rnd(&s) & 0xfff), 4, rnd(&s));
	cr_expect_eq(ecam_read(r, BDF(0, 4, 0), PCI_VENDOR_ID, 4), 0x56781234);
	cr_expect_eq(ecam_read(r, BDF(0, 4, 0), PCI_CLASS_REVISION, 4), 0xff000007);
	cr_expect_neq(find_cap(r, BDF(0, 4, 0), PCI_CAP_ID_MSI), 0);
}

static atomic_bool stop;

static void *fire(void *arg)
{
	uint16_t n = 0;

	while (!atomic_load(&stop)) {
		msix_fire(&deep->pci, n++ % 70);
		msi_fire(&flat->pci, n % 32);
		pci_intx_set(&deep->pci, n & 1);
		(void)pci_master(&deep->pci);
		(void)msix_enabled(&deep->pci);
	}
	return NULL;
}

static void *guest(void *arg)
{
	uint64_t s = (uintptr_t)arg;
	int i;

	for (i = 0; i < 20000; i++)
		one_step(&s);
	return NULL;
}

Test(pci_hostile, test_threads_two_vcpus_against_interrupts, .timeout = 60)
{
	pthread_t io, cpu[2];

	atomic_store(&stop, false);
	pthread_create(&io, NULL, fire, NULL);
	pthread_create(&cpu[0], NULL, guest, (void *)1);
	pthread_create(&cpu[1], NULL, guest, (void *)2);
	pthread_join(cpu[0], NULL);
	pthread_join(cpu[1], NULL);
	atomic_store(&stop, true);
	pthread_join(io, NULL);
	rig_reset(r);
	pci_enumerate_ok(r);
	cr_expect_eq(rig_mmio_read(r, deep->pci.bar[0].addr, 4), 0x5a00);
}

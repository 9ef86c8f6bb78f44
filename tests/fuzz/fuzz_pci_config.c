/*
 * tests/fuzz/fuzz_pci_config.c - config and MMIO accesses over a topology.
 *
 * The input is a list of 12-byte steps: what, whose function, offset, width,
 * value. Each input starts from a reset machine.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/dev/lib_pci.h"
#include "vmm/base/util.h"

#define STEP 12
#define STEPS_MAX 4096

static struct rig *r;
static struct tpci *deep, *flat;

static void build(void)
{
	r = pci_rig();
	pci_port(r, "'id': 'a', 'addr': '2', 'io-reserve': '4K'");
	pci_port(r, "'id': 'b', 'addr': '3'");
	rig_device(r, "{'driver': 'pcie-pci-bridge', 'id': 'pb', 'bus': 'a'}");
	deep = pci_fn(r, "'bus': 'pb', 'addr': '1', 'mem32': 4096, 'pref64': '1M', 'io': 64, "
		      "'msix': 65, 'pin': 3, 'express': true");
	flat = pci_fn(r, "'addr': '4', 'mem32': 65536, 'mem64': '1M', 'io': 4, 'msi': 32, "
		      "'pin': 1, 'express': true");
}

static uint16_t bdf_of(uint8_t n)
{
	static const uint16_t known[] = {
		BDF(0, 0, 0), BDF(0, 2, 0), BDF(0, 3, 0), BDF(0, 4, 0), BDF(1, 0, 0), BDF(2, 1, 0),
	};

	return n < 0xc0 ? known[n % ARRAY_LEN(known)] : (uint16_t)(n << 3);
}

static void step(const uint8_t *s)
{
	unsigned int width = 1u << (s[3] & 3);
	uint16_t bdf = bdf_of(s[1]), off = s[2] | (s[3] & 0xf0) << 4;
	uint64_t val = get_le64(s + 4);

	switch (s[0] % 8) {
	case 0:
		ecam_write(r, bdf, off, width, val);
		break;
	case 1:
		ecam_read(r, bdf, off, width);
		break;
	case 2:
		cf8_write(r, bdf, off, MIN(width, 4u), (uint32_t)val);
		break;
	case 3:
		rig_mmio_write(r, val >> 24, width, val);
		break;
	case 4:
		rig_mmio_read(r, val, width);
		break;
	case 5:
		rig_pio_write(r, (uint16_t)(0xcf8 + (off & 7)), width, val);
		break;
	case 6:
		msix_fire(&deep->pci, off);
		msi_fire(&flat->pci, off % 32);
		break;
	default:
		pci_intx_set(off & 1 ? &deep->pci : &flat->pci, val & 1);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct err e = ERR_INIT;
	size_t i;

	if (!r)
		build();
	rig_reset(r);
	assert(pci_enumerate(r->vm->pci, &e) == 0);
	for (i = 0; i + STEP <= len && i < (size_t)STEPS_MAX * STEP; i += STEP)
		step(data + i);
	assert(pci_config_read(r->vm->pci, BDF(0, 4, 0), 0, 4) == 0x56781234);
	return 0;
}

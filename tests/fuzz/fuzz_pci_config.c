/*
 * tests/fuzz/fuzz_pci_config.c - config and MMIO accesses over a topology.
 *
 * The input is a list of 12-byte steps: what, whose function, offset, width,
 * value. Each input starts from a reset machine. Devices come and go at port b
 * meanwhile, with the guest's consent or without.
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
	rig_device(r, "{'driver': 'pxb-pcie', 'id': 'x', 'addr': '5', 'bus_nr': 64}");
	pci_port(r, "'id': 'c', 'bus': 'x', 'addr': '1'");
	pci_fn(r, "'bus': 'c', 'mem32': 4096, 'pref64': '1M', 'express': true");
	deep = pci_fn(r, "'bus': 'pb', 'addr': '1', 'mem32': 4096, 'pref64': '1M', 'io': 64, "
		      "'msix': 65, 'pin': 3, 'express': true");
	flat = pci_fn(r, "'addr': '4', 'mem32': 65536, 'mem64': '1M', 'io': 4, 'msi': 32, "
		      "'pin': 1, 'express': true");
}

/* Up to three functions at the port, with and without function 0. */
static void hotplug(uint8_t how, uint8_t fn)
{
	static const char *const ids[] = { "h0", "h1", "h2" };
	const char *id = ids[fn % ARRAY_LEN(ids)];
	struct dev_unplug_opts o = { .force = how & 2, .timeout_ms = how & 4 ? 1 : 0 };
	struct err e = ERR_INIT;
	struct dev *d = dev_find(r->vm, id);
	json_t *args;

	if (how & 1) {
		args = json_pack("{s:s, s:s, s:s, s:i, s:b, s:i}", "driver", "tpci", "id", id,
				 "bus", "b", "addr", fn % (int)ARRAY_LEN(ids), "multifunction",
				 1, "mem32", 4096);
		dev_plug(r->vm, args, NULL, &e);
		json_decref(args);
	} else if (how & 8 && d) {
		dev_unplug_answer(d, how & 16);
	} else {
		dev_unplug(r->vm, id, &o, &e);
	}
	if (how & 32)
		loop_turn(r->loop, 0);
}

static uint16_t bdf_of(uint8_t n)
{
	static const uint16_t known[] = {
		BDF(0, 0, 0), BDF(0, 2, 0), BDF(0, 3, 0), BDF(0, 4, 0), BDF(1, 0, 0), BDF(2, 1, 0),
		BDF(3, 0, 0), BDF(3, 0, 1), BDF(0, 5, 0), BDF(64, 1, 0), BDF(65, 0, 0),
	};

	return n < 0xc0 ? known[n % ARRAY_LEN(known)] : (uint16_t)(n << 3);
}

static void step(const uint8_t *s)
{
	unsigned int width = 1u << (s[3] & 3);
	uint16_t bdf = bdf_of(s[1]), off = s[2] | (s[3] & 0xf0) << 4;
	uint64_t val = get_le64(s + 4);

	switch (s[0] % 9) {
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
	case 8:
		hotplug(s[4], s[5]);
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
	atomic_store(&r->vm->state, VM_RUNNING);
	for (i = 0; i < 3; i++)		/* what the input before left */
		hotplug(2 | 32, (uint8_t)i);
	rig_turn(r);
	rig_reset(r);
	assert(pci_enumerate(r->vm->pci, &e) == 0);
	for (i = 0; i + STEP <= len && i < (size_t)STEPS_MAX * STEP; i += STEP)
		step(data + i);
	rig_turn(r);
	assert(r->vm->resets_pending == 0);
	assert(pci_config_read(r->vm->pci, BDF(0, 4, 0), 0, 4) == 0x56781234);
	return 0;
}

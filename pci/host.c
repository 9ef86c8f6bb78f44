/*
 * pci/host.c - the root complex: ECAM, the port pair 0xcf8/0xcfc, and the host
 * bridge at 00:00.0.
 *
 * Spec:    PCIe Base 5.0 s7.2.2 (ECAM); PCI Local Bus 3.0 s3.2.2.3.2 (0xcf8);
 *          Intel 3 Series Express Chipset s5.1.16 (PCIEXBAR).
 * Threads: windows are called on vCPU threads with no lock held and take the
 *          config lock inside pci_config_*(); cf8_addr is under it, too.
 * Missing: PAM and SMRAM (firmware images are a later matter).
 */
#include <errno.h>
#include <stdlib.h>

#include "pci/internal.h"
#include "vmm/base/util.h"
#include "vmm/core/vm.h"

#define ECAM_PRIORITY	10	/* a BAR that a guest puts over it stays hidden */
#define CF8_ENABLE	BIT(31)
#define CF8_DATA	4	/* offset of 0xcfc */

/* ---- ECAM ---- */

/* Up to 8 bytes at any alignment, function by function, dword by dword. */
static unsigned int ecam_step(uint64_t off, unsigned int left)
{
	unsigned int step = 4 - (off & 3);

	return MIN(step, left);
}

static uint64_t ecam_read(struct bus_win *w, uint64_t off, unsigned int width)
{
	uint64_t val = 0;
	unsigned int done, n;

	for (done = 0; done < width; done += n) {
		n = ecam_step(off + done, width - done);
		val |= (uint64_t)pci_config_read(w->arg, (uint16_t)((off + done) >> 12),
						 (off + done) & 0xfff, n) << (8 * done);
	}
	return val;
}

static void ecam_write(struct bus_win *w, uint64_t off, unsigned int width, uint64_t val)
{
	unsigned int done, n;

	for (done = 0; done < width; done += n) {
		n = ecam_step(off + done, width - done);
		pci_config_write(w->arg, (uint16_t)((off + done) >> 12),
				 (off + done) & 0xfff, n, (uint32_t)(val >> (8 * done)));
	}
}

static const struct bus_win_ops ecam_ops = {
	.read = ecam_read, .write = ecam_write, .unaligned = true,
};

/* ---- ports 0xcf8 to 0xcff ---- */

static uint32_t cf8_get(struct pci_root *r)
{
	return __atomic_load_n(&r->cf8_addr, __ATOMIC_RELAXED);
}

static uint64_t cf8_addr_read(struct pci_root *r, uint64_t off, unsigned int width)
{
	if (off == 0 && width == 4)
		return cf8_get(r);
	if (off == 1 && width == 1 && r->cf9_read)
		return r->cf9_read(r);
	return UINT64_MAX;
}

/* Only whole dwords are the address (s3.2.2.3.2). Of an address only the bits
 * that mean something are kept. */
static void cf8_addr_write(struct pci_root *r, uint64_t off, unsigned int width, uint64_t val)
{
	if (off == 0 && width == 4)
		__atomic_store_n(&r->cf8_addr, (uint32_t)val & 0x80fffffc, __ATOMIC_RELAXED);
	else if (off == 1 && width == 1 && r->cf9_write)
		r->cf9_write(r, (uint8_t)val);
}

static uint64_t cf8_read(struct bus_win *w, uint64_t off, unsigned int width)
{
	struct pci_root *r = w->arg;
	uint32_t a = cf8_get(r);

	if (off < CF8_DATA)
		return cf8_addr_read(r, off, width);
	if (!(a & CF8_ENABLE) || off + width > CF8_DATA + 4)
		return UINT64_MAX;
	return pci_config_read(r, (uint16_t)(a >> 8),
			       (uint16_t)((a & 0xfc) + off - CF8_DATA), width);
}

static void cf8_write(struct bus_win *w, uint64_t off, unsigned int width, uint64_t val)
{
	struct pci_root *r = w->arg;
	uint32_t a = cf8_get(r);

	if (off < CF8_DATA)
		cf8_addr_write(r, off, width, val);
	else if ((a & CF8_ENABLE) && off + width <= CF8_DATA + 4)
		pci_config_write(r, (uint16_t)(a >> 8),
				 (uint16_t)((a & 0xfc) + off - CF8_DATA), width, (uint32_t)val);
}

static const struct bus_win_ops cf8_ops = {
	.read = cf8_read, .write = cf8_write, .unaligned = true,
};

/* ---- the host bridge ---- */

#define PCIEXBAR	0x60
#define PCIEXBAR_ENABLE	BIT(0)
#define PCIEXBAR_WMASK	0x0000000ffc000007ull

static const struct pci_ops host_bridge_ops = {
	.vendor = 0x8086, .device = 0x29c0, .subvendor = 0x1af4, .subdevice = 0x1100,
	.class = 0x060000, .conventional = true, .root_only = true,
};

static uint64_t pciexbar(const struct pci_dev *p)
{
	return pci_get32(p, PCIEXBAR) | (uint64_t)pci_get32(p, PCIEXBAR + 4) << 32;
}

/* The guest moved or toggled ECAM: 256, 128 or 64 buses. Config lock, or the
 * vCPUs do not run. */
static void pciexbar_written(struct pci_dev *p, uint16_t off, unsigned int len)
{
	struct pci_root *r = p->bus->root;
	uint64_t v = pciexbar(p);
	unsigned int buses = 256 >> ((v >> 1) & 3);
	uint64_t base = v & PCIEXBAR_WMASK & ~(buses * MIB - 1) & ~7ull;

	bus_unmap(&r->ecam);
	if (!(v & PCIEXBAR_ENABLE) || buses < 64)
		return;
	r->ecam.size = MIN(buses, r->win.buses + 1u) * MIB;
	bus_map(r->vm->bus[BUS_MMIO], &r->ecam, base);
}

/* Windows that have no PCIEXBAR bits for their base cannot be moved. */
static bool pciexbar_fits(const struct pci_windows *w)
{
	return !(w->ecam_base & ~(PCIEXBAR_WMASK & ~7ull)) && !(w->ecam_base % (256 * MIB));
}

static int host_bridge_init(struct dev *d, struct err *e)
{
	struct pci_dev *p = DEV_OF(d, struct pci_dev);
	struct pci_root *r = p->bus->root;

	r->ecam.size = (r->win.buses + 1u) * MIB;
	if (bus_map(d->vm->bus[BUS_MMIO], &r->ecam, r->win.ecam_base))
		return err_set(e, -ENOSPC, "%s: ECAM at 0x%llx lies beyond the address space",
			       d->path, (unsigned long long)r->win.ecam_base);
	if (!pciexbar_fits(&r->win))
		return 0;
	pci_set32(p, PCIEXBAR, (uint32_t)r->win.ecam_base | PCIEXBAR_ENABLE);
	pci_set32(p, PCIEXBAR + 4, (uint32_t)(r->win.ecam_base >> 32));
	put_le64(p->wmask + PCIEXBAR, PCIEXBAR_WMASK);
	pci_hook_add(p, PCIEXBAR, 8, pciexbar_written);
	return 0;
}

/* Being the first device, this is the last to go: the windows go with it. */
static void host_bridge_fini(struct dev *d)
{
	struct pci_root *r = d->vm->pci;

	bus_unmap(&r->ecam);
	bus_unmap(&r->cf8);
	bus_unmap(&r->eject_win);
}

const struct dev_type pci_host_bridge_type = {
	.name = "mch", .help = "host bridge of the q35 machine",
	.class = &pci_class, .size = sizeof(struct pci_dev),
	.ops = { .init = host_bridge_init, .fini = host_bridge_fini },
	.class_ops = &host_bridge_ops, .flags = DEV_BUILTIN | DEV_NO_HOTPLUG,
};

/* ---- the root complex ---- */

static int add_host_bridge(struct vm *vm, struct err *e)
{
	json_t *args = json_pack("{s:s, s:s}", "driver", pci_host_bridge_type.name,
				 "addr", "0.0");
	struct dev *d;
	int r = dev_create_type(vm, &pci_host_bridge_type, args, &d, e);

	json_decref(args);
	return r;
}

int pci_root_create(struct vm *vm, const struct pci_windows *w, bool cf8, struct err *e)
{
	struct pci_root *r = xcalloc(1, sizeof(*r));
	int err;

	r->vm = vm;
	r->win = *w;
	pthread_mutex_init(&r->lock, NULL);
	r->bus0 = pci_bus_create(r, "pcie.0", NULL);
	r->bus0->express = true;
	r->by_number[0] = r->bus0;
	r->ecam = (struct bus_win){ .name = "pci-ecam", .ops = &ecam_ops, .arg = r,
				    .priority = ECAM_PRIORITY };
	r->cf8 = (struct bus_win){ .name = "pci-cf8", .ops = &cf8_ops, .arg = r, .size = 8 };
	vm->pci = r;
	if (cf8)
		bus_map(vm->bus[BUS_PIO], &r->cf8, 0xcf8);
	err = add_host_bridge(vm, e);
	if (err) {
		bus_unmap(&r->cf8);
		pci_root_destroy(r);
		vm->pci = NULL;
	}
	return err;
}

void pci_root_destroy(struct pci_root *r)
{
	struct pci_bus *bus0;

	if (!r)
		return;
	bus0 = r->bus0;
	r->bus0 = NULL;
	pci_bus_destroy(bus0);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

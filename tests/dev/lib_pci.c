/*
 * tests/dev/lib_pci.c - see lib_pci.h.
 */
#include <criterion/criterion.h>
#include <stdio.h>

#include "tests/dev/lib_pci.h"
#include "vmm/base/util.h"

static uint64_t tpci_read(struct bus_win *w, uint64_t off, unsigned int width)
{
	return 0x5a00 | (uintptr_t)w->arg;
}

static void tpci_write(struct bus_win *w, uint64_t off, unsigned int width, uint64_t val)
{
	struct tpci *t = (struct tpci *)w->dev;

	t->seen_off = off;
	t->seen_val = val;
	t->writes++;
}

static const struct bus_win_ops tpci_ops = { .read = tpci_read, .write = tpci_write };

static void tpci_moved(struct pci_dev *p, int bar, bool mapped, uint64_t addr)
{
	((struct tpci *)p)->moves[bar]++;
}

static int add(struct tpci *t, int bar, uint8_t flags, uint64_t size, struct err *e)
{
	struct bus_win w = { .name = "tpci", .size = size, .ops = &tpci_ops,
			     .arg = (void *)(uintptr_t)bar };

	return size ? pci_bar_add(&t->pci, bar, flags, &w, tpci_moved, e) : 0;
}

static int tpci_init(struct dev *d, struct err *e)
{
	struct tpci *t = DEV_OF(d, struct tpci);
	int r = add(t, T_BAR_MEM32, 0, t->mem32, e);

	if (r == 0)
		r = add(t, T_BAR_MEM32_B, 0, t->mem32b, e);
	if (r == 0)
		r = add(t, T_BAR_64, PCI_BASE_ADDRESS_MEM_TYPE_64 |
			PCI_BASE_ADDRESS_MEM_PREFETCH, t->pref64, e);
	if (r == 0)
		r = add(t, T_BAR_64, PCI_BASE_ADDRESS_MEM_TYPE_64, t->mem64, e);
	if (r == 0)
		r = add(t, T_BAR_IO, PCI_BASE_ADDRESS_SPACE_IO, t->io, e);
	if (r == 0 && t->msix)
		r = msix_init(&t->pci, (uint16_t)t->msix, T_BAR_MSIX, e);
	if (r == 0 && t->msi)
		r = msi_init(&t->pci, (uint8_t)t->msi, true, e);
	if (t->express) {
		pci_express_endpoint_add(&t->pci);
		pci_pm_add(&t->pci, 0);
	}
	pci_intx_init(&t->pci, (uint8_t)t->pin);
	return r;
}

static const struct prop tpci_props[] = {
	PROP_SIZE(struct tpci, mem32, "mem32", 0, UINT64_MAX, 0, "BAR 0"),
	PROP_SIZE(struct tpci, mem32b, "mem32b", 0, UINT64_MAX, 0, "BAR 5"),
	PROP_SIZE(struct tpci, pref64, "pref64", 0, UINT64_MAX, 0, "BAR 2"),
	PROP_SIZE(struct tpci, mem64, "mem64", 0, UINT64_MAX, 0, "BAR 2"),
	PROP_SIZE(struct tpci, io, "io", 0, UINT64_MAX, 0, "BAR 4"),
	PROP_U32(struct tpci, msix, "msix", 0, 2048, 0, "vectors, BAR 1"),
	PROP_U32(struct tpci, msi, "msi", 0, 32, 0, "vectors"),
	PROP_U32(struct tpci, pin, "pin", 0, 4, 0, "interrupt pin"),
	PROP_BOOL(struct tpci, express, "express", false, "PCIe capability"),
	PROP_END
};

static const struct pci_ops tpci_any = {
	.vendor = 0x1234, .device = 0x5678, .subvendor = 0x1af4, .subdevice = 0x1100,
	.revision = 7, .class = 0xff0000,
};
static const struct pci_ops tpci_old = {
	.vendor = 0x1234, .device = 0x5679, .class = 0xff0000, .conventional = true,
};
static const struct pci_ops tpci_new = {
	.vendor = 0x1234, .device = 0x567a, .class = 0xff0000, .express_only = true,
};

#define TPCI_TYPE(n, o) { \
	.name = n, .help = "test function", .class = &pci_class, \
	.size = sizeof(struct tpci), .props = tpci_props, \
	.ops = { .init = tpci_init }, .class_ops = &(o), \
}
const struct dev_type tpci_type = TPCI_TYPE("tpci", tpci_any);
const struct dev_type tpci_conventional_type = TPCI_TYPE("tpci-conventional", tpci_old);
const struct dev_type tpci_express_type = TPCI_TYPE("tpci-express", tpci_new);

const struct dev_type *const pci_test_types[] = {
	&tpci_type, &tpci_conventional_type, &tpci_express_type,
	&pxb_pcie_type, &pcie_root_port_type, &pcie_pci_bridge_type, &x3130_upstream_type,
	&xio3130_downstream_type, NULL
};

/* ---- the rig ---- */

static uint32_t test_gsi(struct pci_root *r, uint8_t slot, uint8_t pin)
{
	return T_GSI + (slot + pin) % 8;
}

struct pci_windows pci_test_windows(void)
{
	return (struct pci_windows){
		.ecam_base = T_ECAM, .buses = 255,
		.mmio32_base = T_MEM32, .mmio32_size = T_MEM32_SIZE,
		.mmio64_base = T_MEM64, .mmio64_size = T_MEM64_SIZE,
		.pio_base = T_PIO, .pio_size = T_PIO_SIZE,
	};
}

struct rig *pci_rig_with(const struct pci_windows *w)
{
	struct rig *r = rig_create(pci_test_types, MIB);
	struct err e = ERR_INIT;

	cr_assert_eq(pci_root_create(r->vm, w, true, &e), 0, "%s", e.text);
	r->vm->pci->intx_gsi = test_gsi;
	return r;
}

struct rig *pci_rig(void)
{
	struct pci_windows w = pci_test_windows();

	return pci_rig_with(&w);
}

void pci_rig_end(struct rig *r)
{
	struct pci_root *root = r->vm->pci;

	rig_destroy(r);
	pci_root_destroy(root);
}

static struct dev *make(struct rig *r, const char *type, const char *members)
{
	char text[512];

	snprintf(text, sizeof(text), "{'driver': '%s'%s%s}", type,
		 members ? ", " : "", members ? members : "");
	return rig_device(r, text);
}

struct tpci *pci_fn(struct rig *r, const char *members)
{
	return (struct tpci *)make(r, "tpci", members);
}

struct pci_dev *pci_port(struct rig *r, const char *members)
{
	return (struct pci_dev *)make(r, "pcie-root-port", members);
}

/* ---- config accesses ---- */

uint64_t ecam_read(struct rig *r, uint16_t bdf, uint16_t off, unsigned int width)
{
	return rig_mmio_read(r, T_ECAM + ((uint64_t)bdf << 12) + off, width);
}

void ecam_write(struct rig *r, uint16_t bdf, uint16_t off, unsigned int width, uint64_t val)
{
	rig_mmio_write(r, T_ECAM + ((uint64_t)bdf << 12) + off, width, val);
}

static void cf8_select(struct rig *r, uint16_t bdf, uint16_t off)
{
	rig_pio_write(r, 0xcf8, 4, 0x80000000u | (uint32_t)bdf << 8 | (off & 0xfc));
}

uint32_t cf8_read(struct rig *r, uint16_t bdf, uint16_t off, unsigned int width)
{
	cf8_select(r, bdf, off);
	return (uint32_t)rig_pio_read(r, (uint16_t)(0xcfc + (off & 3)), width);
}

void cf8_write(struct rig *r, uint16_t bdf, uint16_t off, unsigned int width, uint32_t val)
{
	cf8_select(r, bdf, off);
	rig_pio_write(r, (uint16_t)(0xcfc + (off & 3)), width, val);
}

uint16_t find_cap(struct rig *r, uint16_t bdf, uint8_t id)
{
	uint8_t at = (uint8_t)ecam_read(r, bdf, PCI_CAPABILITY_LIST, 1);
	int n;

	for (n = 0; at && n < 48; n++) {
		if (ecam_read(r, bdf, at, 1) == id)
			return at;
		at = (uint8_t)ecam_read(r, bdf, at + PCI_CAP_LIST_NEXT, 1);
	}
	return 0;
}

uint16_t find_ecap(struct rig *r, uint16_t bdf, uint16_t id)
{
	uint16_t at = PCI_CFG_SPACE_SIZE;
	int n;

	for (n = 0; at && n < 256; n++) {
		uint32_t head = (uint32_t)ecam_read(r, bdf, at, 4);

		if ((head & 0xffff) == id)
			return at;
		at = (uint16_t)(head >> 20);
	}
	return 0;
}

void pci_enumerate_ok(struct rig *r)
{
	struct err e = ERR_INIT;

	cr_assert_eq(pci_enumerate(r->vm->pci, &e), 0, "%s", e.text);
}

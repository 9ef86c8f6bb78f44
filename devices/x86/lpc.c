/*
 * devices/x86/lpc.c - ICH9 LPC bridge: config registers and reset ports.
 * Spec:    Intel ICH9 datasheet (316972) s13.1 (config registers), s13.7.4
 *          (port 92h), s13.7.5 (RST_CNT at CF9h), s13.8.1 (APM).
 * Threads: config writes and port accesses on vCPU threads, device lock held;
 *          RST_CNT without a lock (pci/host.c calls it).
 * Missing: PIRQ routing to the 8259s (interrupts of PCI go to the IOAPIC), the
 *          root complex register block (RCBA) behind its register, GPIO, LPC
 *          decode ranges.
 *
 * Without firmware PMBASE and ACPI_CNTL start as firmware would set them.
 */
#include <errno.h>

#include "devices/x86/lpc.h"
#include "devices/x86/x86_devices.h"
#include "vmm/base/util.h"
#include "vmm/core/reg.h"
#include "vmm/core/vm.h"

TRACE_DEFINE(lpc_reset);

/* Config space (s13.1) */
#define CFG_PMBASE	0x40
#define CFG_ACPI_CNTL	0x44
#define CFG_GPIOBASE	0x48
#define CFG_GC		0x4c
#define CFG_PIRQ_A	0x60	/* A..D, then E..H at 0x68 */
#define CFG_PIRQ_E	0x68
#define CFG_SIRQ_CNTL	0x64
#define CFG_LPC_IO_DEC	0x80
#define CFG_LPC_EN	0x82
#define CFG_GEN1_DEC	0x84
#define CFG_GEN_PMCON_1	0xa0
#define CFG_FWH_SEL1	0xd0
#define CFG_FWH_DEC_EN1	0xd8
#define CFG_BIOS_CNTL	0xdc
#define CFG_RCBA	0xf0

#define PMBASE_MASK	0xff80u
#define PMBASE_IO	0x1u		/* read-only: it is I/O space */
#define ACPI_EN		BIT(7)
#define PIRQ_OFF	0x80u

#define PORT_APM	0xb2
#define APM_ACPI_ENABLE	2
#define APM_ACPI_DISABLE 3
#define PORT_92		0x92
#define INIT_NOW	BIT(0)
#define RST_CPU		BIT(2)		/* 0 to 1 resets */
#define RST_CNT_KEPT	0x0a		/* SYS_RST, FULL_RST */

static void reset_request(struct lpc *l, const char *how)
{
	trace(lpc_reset, "%s", how);
	vm_request(l->pci.dev.vm, VM_REQ_RESET, VM_CAUSE_GUEST_RESET);
}

/* ---- ports ---- */

static uint8_t cf9_read(struct pci_root *r)
{
	struct lpc *l = r->cf9_arg;

	return __atomic_load_n(&l->cf9, __ATOMIC_RELAXED);
}

static void cf9_write(struct pci_root *r, uint8_t val)
{
	struct lpc *l = r->cf9_arg;

	__atomic_store_n(&l->cf9, val & RST_CNT_KEPT, __ATOMIC_RELAXED);
	if (val & RST_CPU)
		reset_request(l, "port 0xcf9");
}

static uint64_t port92_read(struct bus_win *w, uint64_t off, unsigned int width)
{
	return DEV_OF(w->dev, struct lpc)->port92;
}

static void port92_write(struct bus_win *w, uint64_t off, unsigned int width, uint64_t val)
{
	struct lpc *l = DEV_OF(w->dev, struct lpc);
	bool rises = (val & INIT_NOW) && !(l->port92 & INIT_NOW);

	l->port92 = val & 0x3;		/* bit 1: A20, which is always open */
	if (rises)
		reset_request(l, "port 0x92");
}

static const struct bus_win_ops port92_ops = { .read = port92_read, .write = port92_write };

static uint64_t apm_read(struct bus_win *w, uint64_t off, unsigned int width)
{
	return DEV_OF(w->dev, struct lpc)->apm[off];
}

static void apm_write(struct bus_win *w, uint64_t off, unsigned int width, uint64_t val)
{
	struct lpc *l = DEV_OF(w->dev, struct lpc);

	for (unsigned int i = 0; i < width; i++)
		l->apm[off + i] = (uint8_t)(val >> (8 * i));
	if (off == 0 && (l->apm[0] == APM_ACPI_ENABLE || l->apm[0] == APM_ACPI_DISABLE))
		lpc_pm_set_acpi(l, l->apm[0] == APM_ACPI_ENABLE);
}

static const struct bus_win_ops apm_ops = { .read = apm_read, .write = apm_write };

/* ---- config space ---- */

/* PMBASE and ACPI_EN decide where the PM block is; 0 is nowhere. */
static void pm_map(struct pci_dev *p, uint16_t off, unsigned int len)
{
	struct lpc *l = (struct lpc *)p;
	uint16_t base = pci_get32(p, CFG_PMBASE) & PMBASE_MASK;

	if (!(p->config[CFG_ACPI_CNTL] & ACPI_EN) || base == 0 ||
	    bus_map(p->dev.vm->bus[BUS_PIO], &l->pm_win, base) < 0)
		bus_unmap(&l->pm_win);
}

static void wmask32(struct pci_dev *p, uint16_t off, uint32_t mask)
{
	put_le32(p->wmask + off, mask);
}

static void config_init(struct pci_dev *p)
{
	pci_set32(p, CFG_PMBASE, X86_PM_BASE | PMBASE_IO);
	wmask32(p, CFG_PMBASE, PMBASE_MASK);
	p->config[CFG_ACPI_CNTL] = ACPI_EN;	/* SCI on interrupt 9: select 0 */
	p->wmask[CFG_ACPI_CNTL] = ACPI_EN | 7;
	pci_set32(p, CFG_GPIOBASE, 1);
	wmask32(p, CFG_GPIOBASE, 0xff80);
	p->wmask[CFG_GC] = 0x10;
	for (unsigned int i = 0; i < 4; i++) {
		p->config[CFG_PIRQ_A + i] = p->config[CFG_PIRQ_E + i] = PIRQ_OFF;
		p->wmask[CFG_PIRQ_A + i] = p->wmask[CFG_PIRQ_E + i] = 0x8f;
	}
	p->config[CFG_SIRQ_CNTL] = 0x10;
	p->wmask[CFG_SIRQ_CNTL] = 0xff;
	put_le16(p->wmask + CFG_LPC_IO_DEC, 0x1377);
	put_le16(p->wmask + CFG_LPC_EN, 0x3f0f);
	for (unsigned int i = 0; i < 4; i++)
		wmask32(p, (uint16_t)(CFG_GEN1_DEC + i * 4), 0x00fcfffd);
	put_le16(p->wmask + CFG_GEN_PMCON_1, 0x0617);
	pci_set32(p, CFG_FWH_SEL1, 0x00112233);
	wmask32(p, CFG_FWH_SEL1, 0xffffffff);
	pci_set16(p, CFG_FWH_DEC_EN1, 0xffcf);
	put_le16(p->wmask + CFG_FWH_DEC_EN1, 0xffcf);
	p->wmask[CFG_BIOS_CNTL] = 0x3;
	wmask32(p, CFG_RCBA, 0xffffc001);
	pci_hook_add(p, CFG_PMBASE, CFG_ACPI_CNTL + 1 - CFG_PMBASE, pm_map);
}

/* ---- life ---- */

static int lpc_reset(struct dev *d)
{
	struct lpc *l = DEV_OF(d, struct lpc);

	l->apm[0] = l->apm[1] = 0;
	l->port92 = 0x2;
	l->cf9 = 0;
	lpc_pm_reset(l);
	return 0;	/* the PM window follows when pci resets the config space */
}

static int lpc_init(struct dev *d, struct err *e)
{
	struct lpc *l = DEV_OF(d, struct lpc);
	struct bus *pio = d->vm->bus[BUS_PIO];
	int ret;

	l->overflow.watch.fd = -1;
	l->pm_win = (struct bus_win){
		.name = "ich9-pm", .dev = d, .size = X86_PM_SIZE,
		.regs = lpc_pm_regs, .image = l->pm,
	};
	l->apm_win = (struct bus_win){
		.name = "apm", .dev = d, .size = 2, .ops = &apm_ops,
	};
	l->port92_win = (struct bus_win){
		.name = "port92", .dev = d, .size = 1, .ops = &port92_ops,
	};
	config_init(&l->pci);
	ret = lpc_pm_init(l, e);
	if (ret == 0)
		ret = bus_map(pio, &l->apm_win, PORT_APM);
	if (ret == 0)
		ret = bus_map(pio, &l->port92_win, PORT_92);
	if (ret < 0)
		return ret;
	d->vm->pci->cf9_arg = l;
	d->vm->pci->cf9_read = cf9_read;
	d->vm->pci->cf9_write = cf9_write;
	pm_map(&l->pci, CFG_PMBASE, 4);
	return 0;
}

static void lpc_fini(struct dev *d)
{
	struct lpc *l = DEV_OF(d, struct lpc);

	if (d->vm->pci->cf9_arg == l) {
		d->vm->pci->cf9_read = NULL;
		d->vm->pci->cf9_write = NULL;
	}
	bus_unmap(&l->port92_win);
	bus_unmap(&l->apm_win);
	bus_unmap(&l->pm_win);
	lpc_pm_fini(l);
}

static const struct pci_ops lpc_ops = {
	.vendor = 0x8086, .device = 0x2918, .subvendor = 0x1af4, .subdevice = 0x1100,
	.revision = 2, .class = 0x060100, .conventional = true, .root_only = true,
};

const struct dev_type lpc_type = {
	.name = "ICH9-LPC", .help = "ICH9 LPC bridge with power management",
	.class = &pci_class, .class_ops = &lpc_ops,
	.size = sizeof(struct lpc), .regs = lpc_pm_regs,
	.flags = DEV_BUILTIN | DEV_NO_HOTPLUG,
	.ops = { .init = lpc_init, .fini = lpc_fini, .reset = lpc_reset },
};

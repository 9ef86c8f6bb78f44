/*
 * vmm/arch/x86/acpi.c - the ACPI tables of the q35-like machine.
 *
 * Spec:    ACPI 6.4 ch. 5 (tables); PCI Firmware 3.2 s4.1.2 (MCFG); Microsoft
 *          "Windows ACPI Emulated Devices Table" (WAET).
 * Threads: main loop.
 * Missing: HMAT, processor objects (the MADT describes the CPUs),
 *          an RSDT for ACPI 1.0 systems.
 */
#include "vmm/arch/x86/acpi.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "vmm/arch/x86/layout.h"
#include "vmm/base/util.h"

#define TABLE_ALIGN	64	/* what the FACS needs */

#define OEM_ID		"ROOST "
#define OEM_TABLE_ID	"ROOSTQ35"
#define CREATOR_ID	"ROST"

/* ---- the area ---- */

uint8_t *acpi_table_new(struct acpi_area *a, size_t len, uint64_t *at)
{
	uint64_t off = align_up(a->base + a->used, TABLE_ALIGN) - a->base;

	if (off > a->size || len > a->size - off) {
		a->full = true;
		return NULL;
	}
	a->used = off + len;
	*at = a->base + off;
	memset(a->host + off, 0, len);
	return a->host + off;
}

uint8_t acpi_checksum(const uint8_t *p, size_t len)
{
	uint8_t sum = 0;

	while (len--)
		sum = (uint8_t)(sum + *p++);
	return (uint8_t)-sum;
}

void acpi_table_finish(uint8_t *t, size_t len, const char *sig, uint8_t revision)
{
	memcpy(t, sig, 4);
	put_le32(t + 4, (uint32_t)len);
	t[8] = revision;
	t[9] = 0;
	memcpy(t + 10, OEM_ID, 6);
	memcpy(t + 16, OEM_TABLE_ID, 8);
	put_le32(t + 24, 1);		/* OEM revision */
	memcpy(t + 28, CREATOR_ID, 4);
	put_le32(t + 32, 1);		/* creator revision */
	t[9] = acpi_checksum(t, len);
}

/* Generic address structure (5.2.3.2). */
static void put_gas(uint8_t *p, uint8_t space, uint8_t bits, uint8_t access, uint64_t addr)
{
	p[0] = space;		/* 1: I/O ports */
	p[1] = bits;
	p[2] = 0;		/* bit offset */
	p[3] = access;		/* 1 byte, 2 word, 3 dword */
	put_le64(p + 4, addr);
}

/* ---- FADT and FACS ---- */

#define FADT_BYTES	276
#define FADT_REVISION	6
#define FADT_MINOR	4

#define IAPC_LEGACY_DEVICES	BIT(0)
#define IAPC_8042		BIT(1)
#define IAPC_NO_VGA		BIT(2)
#define IAPC_NO_CMOS_RTC	BIT(5)

#define FADT_WBINVD		BIT(0)
#define FADT_PROC_C1		BIT(2)
#define FADT_SLP_BUTTON		BIT(5)	/* set: no fixed sleep button */
#define FADT_FIX_RTC		BIT(6)	/* set: no wake by the fixed RTC bit */
#define FADT_RESET_REG_SUP	BIT(10)
#define FADT_APIC_PHYSICAL	BIT(19)

#define RESET_PORT	0xcf9
#define RESET_VALUE	0x0f	/* full reset: RST_CPU, SYS_RST, FULL_RST */

static uint32_t fadt_flags(const struct acpi_info *a)
{
	uint32_t f = FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_FIX_RTC |
		     FADT_RESET_REG_SUP;

	/* The logical flat mode addresses 8 CPUs. */
	return a->cpus > 8 ? f | FADT_APIC_PHYSICAL : f;
}

static uint16_t fadt_boot_arch(const struct acpi_info *a)
{
	return (uint16_t)((a->com_ports ? IAPC_LEGACY_DEVICES : 0) | IAPC_NO_VGA |
			  (a->i8042 ? IAPC_8042 : 0) | (a->rtc ? 0 : IAPC_NO_CMOS_RTC));
}

/* The ICH9 PM block's registers, once as ports and once as addresses. */
static void fadt_pm_block(uint8_t *t, uint16_t pm)
{
	put_le32(t + 56, pm);			/* PM1a event */
	put_le32(t + 64, pm + 4u);		/* PM1a control */
	put_le32(t + 76, pm + 8u);		/* PM timer */
	put_le32(t + 80, pm + 0x20u);		/* GPE0 */
	t[88] = 4;
	t[89] = 2;
	t[91] = 4;
	t[92] = 16;
	put_gas(t + 148, 1, 32, 2, pm);
	put_gas(t + 172, 1, 16, 2, pm + 4u);
	put_gas(t + 208, 1, 32, 3, pm + 8u);
	put_gas(t + 220, 1, 128, 1, pm + 0x20u);
}

static uint64_t fadt_new(struct acpi_area *area, const struct acpi_info *a,
			 uint64_t facs, uint64_t dsdt)
{
	uint64_t at = 0;
	uint8_t *t = acpi_table_new(area, FADT_BYTES, &at);

	if (!t)
		return 0;
	put_le32(t + 36, (uint32_t)facs);
	put_le32(t + 40, (uint32_t)dsdt);
	t[45] = 1;				/* preferred profile: desktop */
	put_le16(t + 46, a->sci_irq);
	/* SMI_CMD stays 0: the machine is in ACPI mode from the start. */
	fadt_pm_block(t, a->pm_base);
	put_le16(t + 96, 0xfff);		/* no C2 */
	put_le16(t + 98, 0xfff);		/* no C3 */
	t[108] = a->rtc ? 0x32 : 0;		/* CMOS byte of the century */
	put_le16(t + 109, fadt_boot_arch(a));
	put_le32(t + 112, fadt_flags(a));
	put_gas(t + 116, 1, 8, 1, RESET_PORT);
	t[128] = RESET_VALUE;
	t[131] = FADT_MINOR;
	put_le64(t + 140, dsdt);
	memcpy(t + 268, "ROOST\0\0\0", 8);	/* hypervisor vendor */
	acpi_table_finish(t, FADT_BYTES, "FACP", FADT_REVISION);
	return at;
}

static uint64_t facs_new(struct acpi_area *area)
{
	uint64_t at = 0;
	uint8_t *t = acpi_table_new(area, 64, &at);

	if (!t)
		return 0;
	memcpy(t, "FACS", 4);
	put_le32(t + 4, 64);
	t[32] = 2;	/* version; the table has no checksum */
	return at;
}

/* ---- MADT ---- */

#define MADT_HEAD		44
#define MADT_PCAT_COMPAT	BIT(0)
#define MADT_ENABLED		BIT(0)
#define MADT_HIGH_LEVEL		0x000d	/* polarity high, trigger level */
#define MADT_CPU_MAX		16	/* the longer of the two entries */
#define MADT_FIXED		(12 + 2 * 10 + 6)

static uint8_t *madt_cpu(uint8_t *p, uint32_t index, uint32_t apic_id)
{
	if (apic_id < 255) {
		p[0] = 0;		/* processor local APIC */
		p[1] = 8;
		p[2] = (uint8_t)index;
		p[3] = (uint8_t)apic_id;
		put_le32(p + 4, MADT_ENABLED);
		return p + 8;
	}
	p[0] = 9;			/* processor local x2APIC */
	p[1] = 16;
	put_le32(p + 4, apic_id);
	put_le32(p + 8, MADT_ENABLED);
	put_le32(p + 12, index);
	return p + 16;
}

static uint8_t *madt_override(uint8_t *p, uint8_t irq, uint32_t gsi, uint16_t flags)
{
	p[0] = 2;
	p[1] = 10;
	p[3] = irq;
	put_le32(p + 4, gsi);
	put_le16(p + 8, flags);
	return p + 10;
}

static uint8_t *madt_rest(uint8_t *p, const struct acpi_info *a)
{
	p[0] = 1;			/* IOAPIC, id 0, inputs from GSI 0 */
	p[1] = 12;
	put_le32(p + 4, X86_IOAPIC_BASE);
	p += 12;
	p = madt_override(p, 0, 2, 0);	/* the PIT, as on every chip set */
	p = madt_override(p, a->sci_irq, a->sci_irq, MADT_HIGH_LEVEL);
	p[0] = 4;			/* NMI on every CPU's LINT1 */
	p[1] = 6;
	p[2] = 0xff;
	p[5] = 1;
	return p + 6;
}

static uint64_t madt_new(struct acpi_area *area, const struct acpi_info *a)
{
	size_t room = MADT_HEAD + (size_t)a->cpus * MADT_CPU_MAX + MADT_FIXED, len;
	uint64_t at = 0;
	uint8_t *t = acpi_table_new(area, room, &at), *p;

	if (!t)
		return 0;
	put_le32(t + 36, X86_LAPIC_BASE);
	put_le32(t + 40, a->no_pic ? 0 : MADT_PCAT_COMPAT);
	p = t + MADT_HEAD;
	for (uint32_t i = 0; i < a->cpus; i++)
		p = madt_cpu(p, i, x86_apic_id(a->topo, i));
	len = (size_t)(madt_rest(p, a) - t);
	assert(len <= room);
	acpi_table_finish(t, len, "APIC", 5);
	return at;
}

/* ---- MCFG, WAET, XSDT, RSDP ---- */

static uint64_t mcfg_new(struct acpi_area *area, const struct acpi_info *a)
{
	uint64_t at = 0;
	uint8_t *t = acpi_table_new(area, 60, &at);

	if (!t)
		return 0;
	put_le64(t + 44, a->ecam_base);
	t[54] = 0;			/* first and last bus */
	t[55] = a->hosts[a->host_count - 1].last_bus;
	acpi_table_finish(t, 60, "MCFG", 1);
	return at;
}

/* One read of the PM timer suffices: it does not tear. */
static uint64_t waet_new(struct acpi_area *area)
{
	uint64_t at = 0;
	uint8_t *t = acpi_table_new(area, 40, &at);

	if (!t)
		return 0;
	put_le32(t + 36, BIT(1));
	acpi_table_finish(t, 40, "WAET", 1);
	return at;
}

static uint64_t xsdt_new(struct acpi_area *area, const uint64_t *tables, size_t n)
{
	size_t len = ACPI_HEADER_BYTES + n * 8;
	uint64_t at = 0;
	uint8_t *t = acpi_table_new(area, len, &at);

	if (!t)
		return 0;
	for (size_t i = 0; i < n; i++)
		put_le64(t + ACPI_HEADER_BYTES + i * 8, tables[i]);
	acpi_table_finish(t, len, "XSDT", 1);
	return at;
}

static int rsdp_write(struct gmem *gm, uint64_t at, uint64_t xsdt)
{
	uint8_t r[36] = { 0 };

	memcpy(r, "RSD PTR ", 8);
	memcpy(r + 9, OEM_ID, 6);
	r[15] = 2;			/* revision */
	put_le32(r + 20, sizeof(r));
	put_le64(r + 24, xsdt);
	r[8] = acpi_checksum(r, 20);
	r[32] = acpi_checksum(r, sizeof(r));
	return gmem_write(gm, gpa(at), r, sizeof(r));
}

int acpi_build(struct gmem *gm, const struct acpi_info *a, uint64_t base,
	       uint64_t space, uint64_t *rsdp, uint64_t *used, struct err *e)
{
	struct acpi_area area = {
		.host = gmem_ptr(gm, gpa(base), space, true), .base = base, .size = space,
	};
	uint64_t dsdt = 0, facs, xsdt, tables[7];
	size_t n = 4;

	if (!area.host)
		return err_set(e, -EFAULT, "the ACPI tables at 0x%llx are not in RAM",
			       (unsigned long long)base);
	facs = facs_new(&area);
	acpi_dsdt_new(&area, a, &dsdt);
	tables[0] = fadt_new(&area, a, facs, dsdt);	/* must come first */
	tables[1] = madt_new(&area, a);
	tables[2] = mcfg_new(&area, a);
	tables[3] = waet_new(&area);
	tables[4] = acpi_ssdt_new(&area, a);
	if (tables[4])
		n++;
	if (a->nodes) {
		tables[n++] = acpi_srat_new(&area, a);
		tables[n++] = acpi_slit_new(&area, a);
	}
	xsdt = xsdt_new(&area, tables, n);
	if (area.full)
		return err_set(e, -ENOSPC, "the ACPI tables do not fit into %llu bytes",
			       (unsigned long long)space);
	*rsdp = X86_BIOS_LOW_BASE;
	*used = area.used;
	if (rsdp_write(gm, *rsdp, xsdt) < 0)
		return err_set(e, -EFAULT, "the ACPI root pointer at 0x%llx is not in RAM",
			       (unsigned long long)*rsdp);
	return 0;
}

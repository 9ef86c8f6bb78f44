/*
 * vmm/arch/x86/acpi_dsdt.c - the compiled DSDT with this machine's values.
 *
 * Spec:    ACPI 6.4 s20.2 (AML encoding), s6.4.3.5 (address space descriptors).
 * Threads: main loop.
 *
 * dsdt.asl holds recognisable constants; they are found by their bytes and
 * written over. A value that is not there exactly once is our bug.
 */
#include <assert.h>
#include <string.h>

#include "vmm/arch/x86/acpi.h"
#include "vmm/arch/x86/dsdt.aml.h"
#include "vmm/base/util.h"

#define AML_NAME_OP	0x08
#define AML_BYTE_PREFIX	0x0a
#define ADDR_MIN_FIXED	BIT(2)	/* general flags */
#define ADDR_MAX_FIXED	BIT(3)

/* Resource types of address space descriptors. */
enum addr_space { ADDR_MEMORY, ADDR_IO, ADDR_BUS };

/* The only place where @what stands in the table. */
static uint8_t *find_once(uint8_t *t, size_t len, const void *what, size_t n)
{
	uint8_t *at = memmem(t, len, what, n);

	assert(at && !memmem(at + 1, len - (size_t)(at + 1 - t), what, n));
	return at;
}

/* Name (@name, byte) */
static void set_name(uint8_t *t, const char *name, uint8_t val)
{
	uint8_t what[6] = { AML_NAME_OP, 0, 0, 0, 0, AML_BYTE_PREFIX };

	memcpy(what + 1, name, 4);
	find_once(t, sizeof(dsdt_aml), what, sizeof(what))[6] = val;
}

/*
 * An address space descriptor: tag, length (2 bytes), type, two flag bytes,
 * then granularity, minimum, maximum, translation, length, of @width each.
 */
static void set_window(uint8_t *t, enum addr_space type, unsigned int width,
		       uint64_t min_now, uint64_t base, uint64_t size)
{
	uint8_t tag = width == 2 ? 0x88 : width == 4 ? 0x87 : 0x8a;
	uint8_t what[4] = { tag, (uint8_t)(3 + 5 * width), 0, (uint8_t)type };
	uint8_t *at = t, *found = NULL;

	while ((at = memmem(at, sizeof(dsdt_aml) - (size_t)(at - t), what, sizeof(what)))) {
		if (get_le(at + 6 + width, width) == min_now) {
			assert(!found);
			found = at;
		}
		at++;
	}
	assert(found);
	/* A window of no bytes: length 0, neither end fixed (table 6.46). The
	 * granularity keeps iasl from taking it for a placeholder. */
	if (size == 0) {
		found[4] &= (uint8_t)~(ADDR_MIN_FIXED | ADDR_MAX_FIXED);
		put_le(found + 6, width, 0xfff);
	}
	put_le(found + 6 + width, width, size ? base : 0);
	put_le(found + 6 + 2 * width, width, size ? base + size - 1 : 0);
	put_le(found + 6 + 4 * width, width, size);
}

static uint8_t sta(bool present)
{
	return present ? 0x0f : 0x00;	/* present, enabled, shown, working */
}

uint8_t *acpi_dsdt_new(struct acpi_area *area, const struct acpi_info *a, uint64_t *at)
{
	uint8_t *t = acpi_table_new(area, sizeof(dsdt_aml), at);
	const struct acpi_host *h = &a->hosts[0];

	if (!t)
		return NULL;
	/* What dsdt.asl has as constants. */
	assert(a->pm_base == 0x600 && a->pci_gsi_base == 16 && a->ecam_base == 0xb0000000);
	memcpy(t, dsdt_aml, sizeof(dsdt_aml));
	set_window(t, ADDR_BUS, 2, 0, 0, h->last_bus + 1u);
	set_window(t, ADDR_IO, 2, 0x1000, h->pio_base, h->pio_size);
	set_window(t, ADDR_MEMORY, 4, 0xc0000000, h->mmio32_base, h->mmio32_size);
	set_window(t, ADDR_MEMORY, 8, 0x8000000000, h->mmio64_base, h->mmio64_size);
	set_name(t, "STRT", sta(a->rtc));
	set_name(t, "STKB", sta(a->i8042));
	set_name(t, "STMO", sta(a->i8042));
	set_name(t, "STC1", sta(a->com_ports & BIT(0)));
	set_name(t, "STC2", sta(a->com_ports & BIT(1)));
	set_name(t, "STC3", sta(a->com_ports & BIT(2)));
	set_name(t, "STC4", sta(a->com_ports & BIT(3)));
	set_name(t, "STPV", sta(a->pvpanic));
	t[9] = 0;
	t[9] = acpi_checksum(t, sizeof(dsdt_aml));
	return t;
}

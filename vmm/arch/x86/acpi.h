/*
 * vmm/arch/x86/acpi.h - writing ACPI tables: what the files share.
 */
#ifndef VMM_ARCH_X86_ACPI_H
#define VMM_ARCH_X86_ACPI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/arch/x86/x86.h"

#define ACPI_HEADER_BYTES 36

/* A stretch of guest memory that tables are put into, one after the other. */
struct acpi_area {
	uint8_t *host;		/* of base; RAM of one region */
	uint64_t base, size, used;
	bool full;		/* a table did not fit */
};

/*
 * Room for a table of @len bytes, zeroed, at a multiple of 64; *at gets its
 * guest address. NULL when the area is full.
 */
uint8_t *acpi_table_new(struct acpi_area *a, size_t len, uint64_t *at);
/* Fill the header of @t (signature, revision, our ids) and its checksum. */
void acpi_table_finish(uint8_t *t, size_t len, const char *sig, uint8_t revision);
/* The byte that makes @len bytes at @p sum up to 0, when its own is 0. */
uint8_t acpi_checksum(const uint8_t *p, size_t len);

/* acpi_dsdt.c: the compiled DSDT with this machine's values. */
uint8_t *acpi_dsdt_new(struct acpi_area *area, const struct acpi_info *a, uint64_t *at);

/* acpi_numa.c */
uint64_t acpi_srat_new(struct acpi_area *area, const struct acpi_info *a);
uint64_t acpi_slit_new(struct acpi_area *area, const struct acpi_info *a);

/* acpi_ssdt.c: objects of hot-plug slots; 0 when there is none. */
uint64_t acpi_ssdt_new(struct acpi_area *area, const struct acpi_info *a);

#endif

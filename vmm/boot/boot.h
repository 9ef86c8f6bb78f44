/*
 * vmm/boot/boot.h - put a kernel into guest memory.
 *
 * Loaders parse hostile files: every offset and size is checked against the
 * file's real length and against RAM. Errors are one sentence with the path.
 */
#ifndef VMM_BOOT_BOOT_H
#define VMM_BOOT_BOOT_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/err.h"
#include "vmm/core/gmem.h"

enum boot_entry {
	BOOT_LINUX64,		/* x86 boot protocol, 64-bit entry, boot_params */
	BOOT_PVH,		/* 32-bit protected mode, hvm_start_info */
	BOOT_ARM64,
};

struct boot_range {
	uint64_t base, size;
	uint32_t type;		/* E820: 1 RAM, 2 reserved, 3 ACPI, 4 NVS */
};

/* What the loaders need to know; filled by the machine. */
struct boot_info {
	const char *kernel;	/* path */
	const char *initrd;	/* path or NULL */
	const char *cmdline;	/* never NULL */
	struct boot_range map[32];
	int map_count;
	uint64_t acpi_rsdp;	/* guest address, 0: none */
	uint64_t ram_low_end;	/* end of RAM below 4 GiB */
	uint64_t tables_base;	/* first byte the loader must keep clear of */
};

/* What the CPU starts with. */
struct boot_state {
	enum boot_entry kind;
	uint64_t entry;		/* guest address */
	uint64_t arg;		/* boot_params, start_info, device tree */
	uint64_t gdt, page_tables;	/* placed by the loader (x86 64-bit) */
};

/* Read kernel and initrd into memory and build the hand-off structures. May
 * be repeated after a reset. */
int boot_load(struct gmem *gm, const struct boot_info *info,
	      struct boot_state *out, struct err *e);

#endif

/*
 * vmm/boot/pvh.c - the start-info structures of the PVH entry.
 *
 * Spec:    Xen docs/misc/pvh.pandoc and public/arch-x86/hvm/start_info.h,
 *          version 1 of the structure.
 * Threads: main loop, before the vCPUs run or while they are parked.
 *
 * The whole hand-off is one page: start_info, one module entry, the memory
 * map. The CPU starts in flat 32-bit protected mode without paging.
 */
#include <assert.h>
#include <errno.h>

#include "vmm/base/util.h"
#include "vmm/boot/loader.h"

#define START_INFO_MAGIC	0x336ec578u
#define START_INFO_BYTES	56
#define MODULE_BYTES		32
#define MEMMAP_BYTES		24
#define MODULE_OFFSET		64	/* in the page */
#define MEMMAP_OFFSET		128

static void start_info_fill(uint8_t *p, const struct boot_info *info,
			    const struct initrd *rd)
{
	put_le32(p, START_INFO_MAGIC);
	put_le32(p + 4, 1);				/* version */
	put_le32(p + 12, rd->size ? 1 : 0);		/* nr_modules */
	put_le64(p + 16, rd->size ? BOOT_PVH_INFO + MODULE_OFFSET : 0);
	put_le64(p + 24, BOOT_CMDLINE);
	put_le64(p + 32, info->acpi_rsdp);
	put_le64(p + 40, BOOT_PVH_INFO + MEMMAP_OFFSET);
	put_le32(p + 48, (uint32_t)info->map_count);
	put_le64(p + MODULE_OFFSET, rd->base);
	put_le64(p + MODULE_OFFSET + 8, rd->size);
	p += MEMMAP_OFFSET;
	for (int i = 0; i < info->map_count; i++, p += MEMMAP_BYTES) {
		put_le64(p, info->map[i].base);
		put_le64(p + 8, info->map[i].size);
		put_le32(p + 16, info->map[i].type);
	}
}

int pvh_handoff(struct gmem *gm, const struct boot_info *info,
		const struct initrd *rd, struct boot_state *out, struct err *e)
{
	uint8_t page[4096] = { 0 };
	/* Flat segments for the 32-bit entry: code at 8, data at 16. */
	uint8_t gdt[24] = { 0 };

	static_assert(START_INFO_BYTES <= MODULE_OFFSET, "layout");
	static_assert(MODULE_OFFSET + MODULE_BYTES <= MEMMAP_OFFSET, "layout");
	static_assert(MEMMAP_OFFSET + ARRAY_LEN(info->map) * MEMMAP_BYTES <= sizeof(page),
		      "the map fits into the page");
	assert(info->map_count >= 0 && info->map_count <= (int)ARRAY_LEN(info->map));
	start_info_fill(page, info, rd);
	put_le64(gdt + 8, 0x00cf9b000000ffffull);
	put_le64(gdt + 16, 0x00cf93000000ffffull);
	if (gmem_write(gm, gpa(BOOT_PVH_INFO), page, sizeof(page)) < 0 ||
	    gmem_write(gm, gpa(BOOT_GDT), gdt, sizeof(gdt)) < 0)
		return err_set(e, -EFAULT, "the boot structures need the first 640 KiB of "
			       "guest RAM");
	out->kind = BOOT_PVH;
	out->arg = BOOT_PVH_INFO;
	out->gdt = BOOT_GDT;
	return 0;
}

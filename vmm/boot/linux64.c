/*
 * vmm/boot/linux64.c - what a 64-bit Linux entry finds: zero page, GDT and
 * identity page tables.
 *
 * Spec:    Linux Documentation/x86/boot.rst "64-bit Boot Protocol",
 *          Documentation/x86/zero-page.rst; Intel SDM vol. 3 s3.4.5 (segment
 *          descriptors), s4.5 (4-level paging).
 * Threads: main loop, before the vCPUs run or while they are parked.
 * Missing: setup_data, EFI hand-over.
 */
#include <assert.h>
#include <errno.h>

#include "vmm/base/util.h"
#include "vmm/boot/loader.h"

/* Zero page offsets (zero-page.rst). */
#define ZP_SIZE			4096
#define ZP_ACPI_RSDP_ADDR	0x070
#define ZP_E820_ENTRIES		0x1e8
#define ZP_HDR			0x1f1
#define ZP_BOOT_FLAG		0x1fe
#define ZP_HEADER_MAGIC		0x202
#define ZP_VERSION		0x206
#define ZP_TYPE_OF_LOADER	0x210
#define ZP_LOADFLAGS		0x211
#define ZP_RAMDISK_IMAGE	0x218
#define ZP_RAMDISK_SIZE		0x21c
#define ZP_HEAP_END_PTR		0x224
#define ZP_CMD_LINE_PTR		0x228
#define ZP_KERNEL_ALIGNMENT	0x230
#define ZP_CMDLINE_SIZE		0x238
#define ZP_SETUP_DATA		0x250
#define ZP_E820_TABLE		0x2d0
#define ZP_E820_BYTES		20	/* base, size, type, packed */

#define LOADER_UNDEFINED	0xff	/* boot.rst: no number assigned */
#define LOADED_HIGH		BIT(0)
#define QUIET_FLAG		BIT(5)
#define KEEP_SEGMENTS		BIT(6)
#define CAN_USE_HEAP		BIT(7)

/* boot.rst: code at selector 0x10, data at 0x18. */
#define GDT_CODE64	0x00af9b000000ffffull	/* execute/read, long mode */
#define GDT_DATA	0x00cf93000000ffffull	/* read/write, 4 GiB */

#define PTE_PRESENT	BIT64(0)
#define PTE_WRITE	BIT64(1)
#define PTE_LARGE	BIT64(7)
#define PD_COUNT	4			/* 4 GiB */

static int bad_ram(struct err *e)
{
	return err_set(e, -EFAULT, "the boot structures need the first 640 KiB of guest RAM");
}

static int gdt_write(struct gmem *gm)
{
	uint8_t gdt[32] = { 0 };

	put_le64(gdt + 0x10, GDT_CODE64);
	put_le64(gdt + 0x18, GDT_DATA);
	return gmem_write(gm, gpa(BOOT_GDT), gdt, sizeof(gdt));
}

/* 2 MiB pages: every 64-bit CPU has them, 1 GiB ones are optional. */
static int page_tables_write(struct gmem *gm)
{
	const uint64_t flags = PTE_PRESENT | PTE_WRITE;
	uint8_t *t = gmem_ptr(gm, gpa(BOOT_PAGE_TABLES), (2 + PD_COUNT) * 4096, true);

	if (!t)
		return -EFAULT;
	memset(t, 0, 2 * 4096);
	put_le64(t, (BOOT_PAGE_TABLES + 4096) | flags);
	for (unsigned int i = 0; i < PD_COUNT; i++)
		put_le64(t + 4096 + i * 8, (BOOT_PAGE_TABLES + (2 + i) * 4096ull) | flags);
	for (unsigned int i = 0; i < PD_COUNT * 512; i++)
		put_le64(t + 2 * 4096 + i * 8, i * 2 * MIB | flags | PTE_LARGE);
	return 0;
}

static void e820_fill(uint8_t *zp, const struct boot_info *info)
{
	uint8_t *p = zp + ZP_E820_TABLE;

	static_assert(ARRAY_LEN(info->map) <= 128, "the zero page holds 128");
	assert(info->map_count >= 0 && info->map_count <= (int)ARRAY_LEN(info->map));
	zp[ZP_E820_ENTRIES] = (uint8_t)info->map_count;
	for (int i = 0; i < info->map_count; i++, p += ZP_E820_BYTES) {
		put_le64(p, info->map[i].base);
		put_le64(p + 8, info->map[i].size);
		put_le32(p + 16, info->map[i].type);
	}
}

static void header_default(uint8_t *zp)
{
	put_le16(zp + ZP_BOOT_FLAG, 0xaa55);
	memcpy(zp + ZP_HEADER_MAGIC, "HdrS", 4);
	put_le16(zp + ZP_VERSION, 0x020c);
	zp[ZP_LOADFLAGS] = LOADED_HIGH;
	put_le32(zp + ZP_KERNEL_ALIGNMENT, 0x1000000);
	put_le32(zp + ZP_CMDLINE_SIZE, BOOT_CMDLINE_DEFAULT);
}

int linux64_handoff(struct gmem *gm, const struct boot_info *info,
		    const uint8_t *hdr, size_t hdr_len, const struct initrd *rd,
		    struct boot_state *out, struct err *e)
{
	uint8_t zp[ZP_SIZE] = { 0 };

	if (hdr)
		memcpy(zp + ZP_HDR, hdr, hdr_len);
	else
		header_default(zp);
	zp[ZP_TYPE_OF_LOADER] = LOADER_UNDEFINED;
	/* No real-mode code runs, so there is no heap for it. */
	zp[ZP_LOADFLAGS] &= (uint8_t)~(CAN_USE_HEAP | KEEP_SEGMENTS | QUIET_FLAG);
	put_le16(zp + ZP_HEAP_END_PTR, 0);
	put_le64(zp + ZP_SETUP_DATA, 0);
	put_le32(zp + ZP_CMD_LINE_PTR, (uint32_t)BOOT_CMDLINE);
	put_le32(zp + ZP_RAMDISK_IMAGE, (uint32_t)rd->base);
	put_le32(zp + ZP_RAMDISK_SIZE, (uint32_t)rd->size);
	put_le64(zp + ZP_ACPI_RSDP_ADDR, info->acpi_rsdp);
	e820_fill(zp, info);
	if (gmem_write(gm, gpa(BOOT_PARAMS), zp, sizeof(zp)) < 0 ||
	    gdt_write(gm) < 0 || page_tables_write(gm) < 0)
		return bad_ram(e);
	out->kind = BOOT_LINUX64;
	out->arg = BOOT_PARAMS;
	out->gdt = BOOT_GDT;
	out->page_tables = BOOT_PAGE_TABLES;
	return 0;
}

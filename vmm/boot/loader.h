/*
 * vmm/boot/loader.h - what the kernel loaders share among themselves.
 *
 * Threads: main loop, before the vCPUs run or while they are parked.
 */
#ifndef VMM_BOOT_LOADER_H
#define VMM_BOOT_LOADER_H

#include "vmm/boot/boot.h"

/*
 * Where the x86 hand-off structures live: all in the first 640 KiB, which
 * neither a kernel (1 MiB and up) nor the BIOS area uses. Linux reserves
 * what it still needs of them before it allocates memory.
 */
#define BOOT_GDT		0x00000500ull
#define BOOT_PVH_INFO		0x00006000ull	/* start_info, module, map: 4 KiB */
#define BOOT_PARAMS		0x00007000ull	/* the zero page: 4 KiB */
#define BOOT_PAGE_TABLES	0x00009000ull	/* PML4, PDPT, 4 PDs: 24 KiB */
#define BOOT_CMDLINE		0x00020000ull
#define BOOT_CMDLINE_ROOM	0x00010000ull	/* bytes, NUL included */
#define BOOT_KERNEL_MIN		0x00100000ull	/* no kernel byte below 1 MiB */

/* COMMAND_LINE_SIZE of x86 Linux less its NUL, for kernels whose file does not
 * tell: a longer line would be cut off in silence. */
#define BOOT_CMDLINE_DEFAULT	2047u

/* The first bytes of a kernel file that a loader decides on. */
#define BOOT_HEAD_BYTES		4096u

struct kernel_file {
	const char *path;
	int fd;			/* owned by boot_load() */
	uint64_t size;		/* bytes, from fstat() */
	uint8_t head[BOOT_HEAD_BYTES];	/* zero beyond the end of the file */
};

/* An initrd in guest memory; size 0: none. */
struct initrd {
	uint64_t base, size;
};

/* Loaders. @k->head passed the magic check of the format. */
int bzimage_load(struct gmem *gm, const struct boot_info *info,
		 struct kernel_file *k, struct boot_state *out, struct err *e);
int elf_load(struct gmem *gm, const struct boot_info *info,
	     struct kernel_file *k, struct boot_state *out, struct err *e);

/* Open @path for reading; refuses everything but a regular file or a block
 * device. @what ("kernel", "initrd") is for the sentence. */
int boot_open(const char *path, const char *what, int *fd, uint64_t *size,
	      struct err *e);
/* File bytes [off, off+len) straight into guest memory at @at. */
int boot_read(struct gmem *gm, uint64_t at, int fd, uint64_t off, uint64_t len,
	      const char *path, struct err *e);
/* Make [at, at+len) read as zero, untouched host pages where possible. */
int boot_zero(struct gmem *gm, uint64_t at, uint64_t len, struct err *e);

/*
 * Place info->initrd as high as it fits below @limit (exclusive) and above
 * @floor. Succeeds with size 0 when there is none.
 */
int initrd_load(struct gmem *gm, const struct boot_info *info, uint64_t floor,
		uint64_t limit, struct initrd *rd, struct err *e);

/* Copy the command line to BOOT_CMDLINE; more than @max bytes is an error. */
int cmdline_write(struct gmem *gm, const struct boot_info *info, uint64_t max,
		  struct err *e);

/* @hdr: the setup header as the file has it, @hdr_len bytes from 0x1f1 (NULL:
 * the kernel has none and gets a minimal one). Fills zero page, GDT and page
 * tables, and @out but its entry. */
int linux64_handoff(struct gmem *gm, const struct boot_info *info,
		    const uint8_t *hdr, size_t hdr_len, const struct initrd *rd,
		    struct boot_state *out, struct err *e);
int pvh_handoff(struct gmem *gm, const struct boot_info *info,
		const struct initrd *rd, struct boot_state *out, struct err *e);

#endif

/*
 * vmm/boot/bzimage.c - Linux bzImage through its 64-bit entry point.
 *
 * Spec:    Linux Documentation/x86/boot.rst, "The Real-Mode Kernel Header" and
 *          "64-bit Boot Protocol".
 * Threads: main loop, before the vCPUs run or while they are parked.
 * Missing: kernels older than protocol 2.12 and 32-bit ones.
 *
 * The file is setup code (unused here), then the compressed kernel. The header
 * comes from the file: each field is checked before it is believed.
 */
#include <errno.h>

#include "vmm/base/util.h"
#include "vmm/boot/loader.h"

/* Offsets in the file and in the zero page alike; boot.rst's names. */
#define HDR_START		0x1f1
#define HDR_SETUP_SECTS		0x1f1
#define HDR_JUMP_LEN		0x201	/* the header ends at 0x202 + this byte */
#define HDR_VERSION		0x206
#define HDR_LOADFLAGS		0x211
#define HDR_INITRD_ADDR_MAX	0x22c
#define HDR_KERNEL_ALIGNMENT	0x230
#define HDR_RELOCATABLE		0x234
#define HDR_XLOADFLAGS		0x236
#define HDR_CMDLINE_SIZE	0x238
#define HDR_PREF_ADDRESS	0x258
#define HDR_INIT_SIZE		0x260
#define HDR_END_MAX		0x290	/* the zero page's next field */

#define LOADED_HIGH		BIT(0)
#define XLF_KERNEL_64		BIT(0)
#define ENTRY_64_OFFSET		0x200	/* from the load address */

struct bz_header {
	uint64_t setup_bytes;	/* where the protected-mode part starts */
	uint64_t kernel_bytes;
	uint64_t init_size;	/* RAM from the load address while it unpacks */
	uint64_t pref_address;
	uint64_t initrd_limit;	/* exclusive */
	uint32_t cmdline_max;
	size_t hdr_len;		/* bytes from HDR_START */
};

static int bz_parse(const struct kernel_file *k, struct bz_header *h, struct err *e)
{
	const uint8_t *p = k->head;
	uint16_t version = get_le16(p + HDR_VERSION);
	unsigned int sects = p[HDR_SETUP_SECTS] ? p[HDR_SETUP_SECTS] : 4;
	size_t end = 0x202u + p[HDR_JUMP_LEN];

	if (version < 0x020c)
		return err_set(e, -ENOEXEC, "kernel '%s' speaks boot protocol %u.%02u; "
			       "2.12 (Linux 3.8) or later with a 64-bit entry is needed",
			       k->path, version >> 8, version & 0xff);
	if (!(get_le16(p + HDR_XLOADFLAGS) & XLF_KERNEL_64))
		return err_set(e, -ENOEXEC, "kernel '%s' is a 32-bit kernel; only 64-bit "
			       "ones can be started",
			       k->path);
	if (!(p[HDR_LOADFLAGS] & LOADED_HIGH))
		return err_set(e, -ENOEXEC, "kernel '%s' is a zImage for low memory; a "
			       "bzImage is needed",
			       k->path);
	if (end < HDR_INIT_SIZE + 4 || end > HDR_END_MAX)
		return err_set(e, -ENOEXEC, "kernel '%s': its setup header ends at 0x%zx, "
			       "outside 0x264..0x290; the file is damaged",
			       k->path, end);
	h->hdr_len = end - HDR_START;
	h->setup_bytes = (sects + 1) * 512ull;
	if (k->size <= h->setup_bytes + ENTRY_64_OFFSET)
		return err_set(e, -ENODATA, "kernel '%s' is truncated: it has %llu bytes, "
			       "its setup part alone %llu",
			       k->path, (unsigned long long)k->size,
			       (unsigned long long)h->setup_bytes);
	h->kernel_bytes = k->size - h->setup_bytes;
	h->init_size = MAX((uint64_t)get_le32(p + HDR_INIT_SIZE), h->kernel_bytes);
	h->pref_address = get_le64(p + HDR_PREF_ADDRESS);
	h->initrd_limit = get_le32(p + HDR_INITRD_ADDR_MAX) + 1ull;
	h->cmdline_max = get_le32(p + HDR_CMDLINE_SIZE);
	return 0;
}

/* syssize counts 16-byte paragraphs of the protected-mode part: a file that
 * has fewer was cut off. Longer files carry a signature behind it. */
static int bz_check_length(const struct kernel_file *k, const struct bz_header *h,
			   struct err *e)
{
	uint64_t want = get_le32(k->head + 0x1f4) * 16ull;

	if (h->kernel_bytes + 15 < want)
		return err_set(e, -ENODATA, "kernel '%s' is truncated: it has %llu bytes "
			       "and should have %llu",
			       k->path, (unsigned long long)k->size,
			       (unsigned long long)(h->setup_bytes + want));
	return 0;
}

/*
 * Even a relocatable kernel moves itself up to pref_address before it unpacks
 * (arch/x86/boot/compressed/head_64.S), so loading it lower gains nothing:
 * the preferred address and init_size decide how much RAM is needed.
 */
static int bz_place(const struct boot_info *info, const struct kernel_file *k,
		    const struct bz_header *h, struct err *e)
{
	uint32_t align = get_le32(k->head + HDR_KERNEL_ALIGNMENT);
	uint64_t at = h->pref_address, top = info->tables_base;

	if (at < BOOT_KERNEL_MIN || at >= 1ull << 32 ||
	    (k->head[HDR_RELOCATABLE] && align && at % align))
		return err_set(e, -ENOEXEC, "kernel '%s': its load address 0x%llx makes no "
			       "sense; the file is damaged",
			       k->path, (unsigned long long)at);
	if (at >= top || h->init_size > top - at)
		return err_set(e, -ENOMEM, "kernel '%s' needs RAM up to %llu MiB while it "
			       "unpacks, the guest has %llu MiB; give it more memory (-m)",
			       k->path,
			       (unsigned long long)((at + h->init_size + MIB - 1) / MIB),
			       (unsigned long long)(info->ram_low_end / MIB));
	return 0;
}

int bzimage_load(struct gmem *gm, const struct boot_info *info,
		 struct kernel_file *k, struct boot_state *out, struct err *e)
{
	struct bz_header h = { 0 };
	struct initrd rd;
	int ret;

	if ((ret = bz_parse(k, &h, e)) < 0 ||
	    (ret = bz_check_length(k, &h, e)) < 0 ||
	    (ret = bz_place(info, k, &h, e)) < 0 ||
	    (ret = cmdline_write(gm, info, h.cmdline_max, e)) < 0 ||
	    (ret = initrd_load(gm, info, h.pref_address + h.init_size,
			       h.initrd_limit, &rd, e)) < 0 ||
	    (ret = boot_read(gm, h.pref_address, k->fd, h.setup_bytes,
			     h.kernel_bytes, k->path, e)) < 0)
		return ret;
	out->entry = h.pref_address + ENTRY_64_OFFSET;
	return linux64_handoff(gm, info, k->head + HDR_START, h.hdr_len, &rd, out, e);
}

/*
 * vmm/boot/boot.c - open a kernel file, find its format, call its loader.
 *
 * Threads: main loop, before the vCPUs run or while they are parked.
 * Missing: arm64 Image, multiboot, 32-bit and real-mode entry.
 */
#include "vmm/boot/boot.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/util.h"
#include "vmm/boot/loader.h"

/* Enough for the pieces of one kernel in a gmem of GMEM_REGIONS_MAX regions. */
#define READ_IOVS 8

int boot_open(const char *path, const char *what, int *fd, uint64_t *size,
	      struct err *e)
{
	struct stat st;
	int ret;

	/* O_NONBLOCK: a FIFO would otherwise hold us here for ever. */
	*fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (*fd < 0)
		return err_sys(e, -errno, "%s '%s' cannot be opened", what, path);
	if (fstat(*fd, &st) < 0) {
		ret = err_sys(e, -errno, "%s '%s' cannot be examined", what, path);
	} else if (S_ISDIR(st.st_mode)) {
		ret = err_set(e, -EISDIR, "%s '%s' is a directory; give a file",
			      what, path);
	} else if (S_ISBLK(st.st_mode)) {
		ret = ioctl(*fd, BLKGETSIZE64, size) < 0 ?
		      err_sys(e, -errno, "%s '%s': its size is unknown", what, path) : 0;
	} else if (!S_ISREG(st.st_mode)) {
		ret = err_set(e, -EINVAL, "%s '%s' is neither a regular file nor a block "
			      "device",
			      what, path);
	} else {
		*size = (uint64_t)st.st_size;
		ret = 0;
	}
	if (ret < 0)
		fd_close(fd);
	return ret;
}

int boot_read(struct gmem *gm, uint64_t at, int fd, uint64_t off, uint64_t len,
	      const char *path, struct err *e)
{
	struct iovec iov[READ_IOVS];
	struct iovec *v = iov;
	int n = gmem_pin(gm, gpa(at), len, true, iov, READ_IOVS);

	if (n < 0)
		return err_set(e, n, "'%s': guest addresses 0x%llx to 0x%llx are not all RAM",
			       path, (unsigned long long)at,
			       (unsigned long long)(at + len - 1));
	while (n > 0) {
		ssize_t got = preadv(fd, v, n, (off_t)off);
		int left;

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_sys(e, -errno, "'%s' cannot be read", path);
		if (got == 0)	/* it shrank after fstat() */
			return err_set(e, -ENODATA, "'%s' is truncated", path);
		off += (uint64_t)got;
		left = iov_advance(v, n, (size_t)got);
		n = left;
	}
	return 0;
}

static bool is_anonymous(const struct gmem *gm, uint64_t at)
{
	for (int i = 0; i < gm->count; i++)
		if (at - gm->region[i].base < gm->region[i].size)
			return gm->region[i].fd < 0;
	return false;
}

int boot_zero(struct gmem *gm, uint64_t at, uint64_t len, struct err *e)
{
	const uint64_t page = 4096;
	uint64_t from = align_up(at, page), to = align_down(at + len, page);
	void *host;

	/* Giving the pages back leaves zeroes without touching one: a kernel's
	 * bss is megabytes that it may never use. */
	if (to > from && (host = gmem_ptr(gm, gpa(from), to - from, true)) &&
	    madvise(host, to - from, is_anonymous(gm, from) ? MADV_DONTNEED :
		    MADV_REMOVE) == 0) {
		if (gmem_zero(gm, gpa(at), from - at) < 0 ||
		    gmem_zero(gm, gpa(to), at + len - to) < 0)
			goto bad;
		return 0;
	}
	if (gmem_zero(gm, gpa(at), len) == 0)
		return 0;
bad:
	return err_set(e, -EFAULT, "guest addresses 0x%llx to 0x%llx are not all RAM",
		       (unsigned long long)at, (unsigned long long)(at + len - 1));
}

int cmdline_write(struct gmem *gm, const struct boot_info *info, uint64_t max,
		  struct err *e)
{
	size_t len = strlen(info->cmdline);

	max = MIN(max, (uint64_t)BOOT_CMDLINE_ROOM - 1);
	if (len > max)
		return err_set(e, -E2BIG, "the kernel command line (-append) has %zu "
			       "bytes; kernel '%s' takes at most %llu",
			       len, info->kernel, (unsigned long long)max);
	if (gmem_write(gm, gpa(BOOT_CMDLINE), info->cmdline, len + 1) < 0)
		return err_set(e, -EFAULT, "the command line does not fit into guest RAM");
	return 0;
}

static bool is_bzimage(const uint8_t *h)
{
	/* boot.rst: boot_flag at 0x1fe, "HdrS" at 0x202 since 2.00. */
	return get_le16(h + 0x1fe) == 0xaa55 && !memcmp(h + 0x202, "HdrS", 4);
}

static bool is_elf(const uint8_t *h)
{
	return !memcmp(h, ELFMAG, SELFMAG);
}

/* Name what people really pass by mistake. */
static int not_a_kernel(const struct kernel_file *k, struct err *e)
{
	const char *is = "";

	if (!memcmp(k->head, "\x1f\x8b", 2))
		is = " (it is gzip data: unpack it first)";
	else if (!memcmp(k->head, "\xfd" "7zXZ", 5) ||
		 !memcmp(k->head, "\x28\xb5\x2f\xfd", 4))
		is = " (it is compressed: unpack it first)";
	else if (!memcmp(k->head, "070701", 6))
		is = " (it is a cpio archive: did you mean -initrd?)";
	else if (!memcmp(k->head, "QFI\xfb", 4))
		is = " (it is a qcow2 image: did you mean -drive?)";
	else if (!memcmp(k->head + 56, "ARM\x64", 4))
		is = " (it is an arm64 kernel)";
	else if (get_le16(k->head + 0x1fe) == 0xaa55)
		is = " (it is a boot sector or disk image: did you mean -drive?)";
	return err_set(e, -ENOEXEC, "kernel '%s' is neither a bzImage nor an ELF file%s",
		       k->path, is);
}

int boot_load(struct gmem *gm, const struct boot_info *info,
	      struct boot_state *out, struct err *e)
{
	struct kernel_file k = { .path = info->kernel, .fd = -1 };
	uint64_t head;
	int ret;

	memset(out, 0, sizeof(*out));
	ret = boot_open(k.path, "kernel", &k.fd, &k.size, e);
	if (ret < 0)
		return ret;
	head = MIN(k.size, (uint64_t)BOOT_HEAD_BYTES);
	if (head < 64) {
		ret = err_set(e, -ENOEXEC, "kernel '%s' has only %llu bytes",
			      k.path, (unsigned long long)k.size);
		goto out;
	}
	ret = fd_read_full(k.fd, k.head, head, 0);
	if (ret < 0) {
		err_sys(e, ret, "kernel '%s' cannot be read", k.path);
		goto out;
	}
	if (is_elf(k.head))
		ret = elf_load(gm, info, &k, out, e);
	else if (is_bzimage(k.head))
		ret = bzimage_load(gm, info, &k, out, e);
	else
		ret = not_a_kernel(&k, e);
out:
	fd_close(&k.fd);
	return ret;
}

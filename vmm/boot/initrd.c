/*
 * vmm/boot/initrd.c - put the initial RAM disk into guest memory.
 *
 * Threads: main loop, before the vCPUs run or while they are parked.
 * Missing: above 4 GiB; several files in one option.
 */
#include <errno.h>

#include "vmm/base/util.h"
#include "vmm/boot/loader.h"

int initrd_load(struct gmem *gm, const struct boot_info *info, uint64_t floor,
		uint64_t limit, struct initrd *rd, struct err *e)
{
	uint64_t size, room;
	int fd = -1, ret;

	rd->base = rd->size = 0;
	if (!info->initrd)
		return 0;
	ret = boot_open(info->initrd, "initrd", &fd, &size, e);
	if (ret < 0)
		return ret;
	/* Page aligned, so that Linux can give whole pages back. */
	limit = align_down(MIN(limit, info->tables_base), 4096);
	floor = align_up(floor, 4096);
	room = limit > floor ? limit - floor : 0;
	if (size == 0) {
		ret = err_set(e, -ENODATA, "initrd '%s' is empty", info->initrd);
	} else if (size > room) {
		ret = err_set(e, -E2BIG, "initrd '%s' has %llu KiB; beside the kernel "
			      "guest RAM has room for %llu KiB; give the guest more memory "
			      "(-m)",
			      info->initrd, (unsigned long long)((size + 1023) / 1024),
			      (unsigned long long)(room / 1024));
	} else {
		rd->base = align_down(limit - size, 4096);
		rd->size = size;
		ret = boot_read(gm, rd->base, fd, 0, size, info->initrd, e);
	}
	fd_close(&fd);
	return ret;
}

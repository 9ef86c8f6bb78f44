/*
 * block/file_open.c - find a file or device, its length, its alignment and what
 * kind of cache it has.
 *
 * Threads: main loop.
 * Missing: nothing known.
 */
#include "block/file.h"
#include "block/graph.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "vmm/base/fds.h"
#include "vmm/base/util.h"

#define ALIGN_MAX	4096	/* the largest logical block of any disk */

/* Before opening: opening some devices does something (a watchdog, a tape). */
static int check_type(const struct file_node *f, const struct stat *st, const char *path,
		      struct err *e)
{
	if (S_ISDIR(st->st_mode))
		return err_set(e, -EISDIR, "%s is a directory, not a disk; give an image file or "
			       "a block device", path);
	if (!S_ISREG(st->st_mode) && !S_ISBLK(st->st_mode))
		return err_set(e, -EINVAL, "%s is neither a regular file nor a block device", path);
	if (!f->device && S_ISBLK(st->st_mode))
		return err_set(e, -EINVAL, "%s is a block device; use driver=host_device", path);
	if (f->device && S_ISREG(st->st_mode))
		return err_set(e, -EINVAL, "%s is a regular file; use driver=file", path);
	return 0;
}

static bool opens_without_direct(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	close(fd);
	return true;
}

int file_explain_open(const struct file_node *f, bool read_only, int err, struct err *e)
{
	const char *path = f->n.filename;

	switch (err) {
	case ENOENT:
		if (fds_is_path(path))
			return err_set(e, -err, "%s: there is no such set; make it with add-fd",
				       path);
		return err_set(e, -err, "%s: No such file or directory; check the path, or make a "
			       "new disk with 'truncate -s 10G %s'", path, path);
	case EACCES:
	case EPERM:
		if (fds_is_path(path))
			return err_set(e, -err, "%s: none of its descriptors was opened for %s; "
				       "add one with add-fd", path, read_only ? "reading only" :
				       "reading and writing");
		return err_set(e, -err, "%s: Permission denied to %s it; change its owner or "
			       "mode%s", path, read_only ? "read" : "write",
			       read_only ? "" : ", or use readonly=on");
	case EROFS:
		return err_set(e, -err, "%s is on a read-only file system or device; use "
			       "readonly=on", path);
	case ENOMEDIUM:
		return err_set(e, -err, "there is no medium in %s; insert one", path);
	case EINVAL:
		if (f->n.cache_direct && opens_without_direct(path))
			return err_set(e, -err, "the file system of %s has no O_DIRECT; use "
				       "cache=writeback or cache.direct=off", path);
	}
	return err_sys(e, -err, "cannot open %s", path);
}

static bool may_fall_back(int err)
{
	return err == EACCES || err == EPERM || err == EROFS;
}

/* "/dev/fdset/3": a client opened it for us. */
static int open_passed(const struct file_node *f, int flags)
{
	int fd = fds_open(f->n.graph->fds, f->n.filename, flags);

	if (fd < 0)
		return fd;
	if (f->n.cache_direct && fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_DIRECT) < 0) {
		close(fd);
		return -EINVAL;
	}
	return fd;
}

/* A write-protected device opens for writing, and then refuses each write: found
 * out here. */
int file_try_open(const struct file_node *f, bool read_only)
{
	int flags = O_CLOEXEC | O_NOCTTY | (f->n.cache_direct ? O_DIRECT : 0);
	int ro = 0, fd;

	flags |= read_only ? O_RDONLY : O_RDWR;
	if (fds_is_path(f->n.filename)) {
		fd = open_passed(f, flags);
	} else {
		fd = open(f->n.filename, flags);
		if (fd < 0)
			fd = -errno;
	}
	if (fd >= 0 && f->device && !read_only && ioctl(fd, BLKROGET, &ro) == 0 && ro) {
		close(fd);
		return -EROFS;
	}
	return fd;
}

static int open_as_asked(struct file_node *f)
{
	f->fd = file_try_open(f, f->n.read_only);
	if (f->fd < 0 && f->n.auto_read_only && !f->n.read_only && may_fall_back(-f->fd)) {
		f->n.read_only = true;
		f->fd = file_try_open(f, true);
	}
	return MIN(f->fd, 0);
}

int file_open_path(struct file_node *f, struct err *e)
{
	const char *path = f->n.filename;
	struct stat st;
	int r;

	if (!*path)
		return err_set(e, -EINVAL, "filename= is empty");
	if (fds_is_path(path))
		r = 0;		/* looked at once it is open */
	else if (stat(path, &st) < 0)
		return file_explain_open(f, f->n.read_only, errno, e);
	else
		r = check_type(f, &st, path, e);
	if (r)
		return r;
	r = open_as_asked(f);
	if (r)
		return file_explain_open(f, f->n.read_only, -r, e);
	/* The name may mean another file by now. */
	if (fstat(f->fd, &st) < 0)
		return err_sys(e, -errno, "cannot examine %s", path);
	return check_type(f, &st, path, e);
}

int file_probe_length(struct file_node *f, struct err *e)
{
	struct stat st;

	if (f->device) {
		if (ioctl(f->fd, BLKGETSIZE64, &f->n.bytes) < 0)
			return errno == ENOMEDIUM ? file_explain_open(f, f->n.read_only, errno, e) :
			       err_sys(e, -errno, "cannot learn the size of %s", f->n.filename);
		return 0;
	}
	if (fstat(f->fd, &st) < 0)
		return err_sys(e, -errno, "cannot examine %s", f->n.filename);
	f->n.bytes = (uint64_t)st.st_size;
	return 0;
}

/* statx(2) tells since Linux 6.1. False: ask otherwise. */
static bool align_by_statx(struct file_node *f, bool *direct_works)
{
	struct statx stx = { 0 };

	if (statx(f->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) < 0 ||
	    !(stx.stx_mask & STATX_DIOALIGN))
		return false;
	f->n.request_align = stx.stx_dio_offset_align;
	f->mem_align = stx.stx_dio_mem_align;
	*direct_works = f->n.request_align && f->mem_align;
	return true;
}

/* A read that is aligned enough works; so does one at the end of the file. */
static int align_by_trial(struct file_node *f)
{
	void *buf;
	int r = -EINVAL;

	if (posix_memalign(&buf, ALIGN_MAX, ALIGN_MAX))
		return -ENOMEM;
	for (uint32_t a = BLOCK_SECTOR; a <= ALIGN_MAX; a *= 2) {
		if (pread(f->fd, buf, a, 0) >= 0) {
			f->n.request_align = f->mem_align = a;
			r = 0;
			break;
		}
		r = -errno;
		if (r != -EINVAL)
			break;
	}
	free(buf);
	return r;
}

int file_probe_align(struct file_node *f, struct err *e)
{
	bool direct_works = true;
	int sector = 0, r;

	if (f->device && ioctl(f->fd, BLKSSZGET, &sector) == 0)
		f->n.discard_align = (uint32_t)sector;
	if (!f->n.cache_direct)
		return 0;
	if (!align_by_statx(f, &direct_works)) {
		if (sector) {
			f->n.request_align = f->mem_align = (uint32_t)sector;
		} else {
			r = align_by_trial(f);
			if (r)
				return err_sys(e, r, "cannot read %s", f->n.filename);
		}
	}
	if (!direct_works)
		return err_set(e, -EINVAL, "the file system of %s has no O_DIRECT for it; use "
			       "cache=writeback or cache.direct=off", f->n.filename);
	if (!is_pow2(f->n.request_align) || f->n.request_align > FILE_BOUNCE_BYTES ||
	    !is_pow2(f->mem_align) || f->mem_align > ALIGN_MAX)
		return err_set(e, -EINVAL, "%s wants direct I/O in units of %" PRIu32 " bytes; use "
			       "cache=writeback or cache.direct=off", f->n.filename,
			       f->n.request_align);
	/* The last unit could neither be read nor written whole. */
	if (f->n.bytes % BLOCK_SECTOR == 0 && f->n.bytes % f->n.request_align)
		return err_set(e, -EINVAL, "%s is %" PRIu64 " bytes long, but its disk takes "
			       "direct I/O in units of %" PRIu32 " bytes; use cache=writeback, or "
			       "make it longer with 'truncate -s %%%" PRIu32 " %s'", f->n.filename,
			       f->n.bytes, f->n.request_align, f->n.request_align, f->n.filename);
	return 0;
}

/* The word in the queue/write_cache of block device @dev. */
static bool device_writes_through(dev_t dev)
{
	static const char *const places[] = { "queue", "../queue" };	/* of a partition */
	char path[96], word[32];
	ssize_t n;
	int fd;

	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s/write_cache", major(dev),
			 minor(dev), places[i]);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		n = read(fd, word, sizeof(word));
		close(fd);
		return n >= 13 && memcmp(word, "write through", 13) == 0;
	}
	return false;
}

/*
 * On ext4 and XFS a finished O_DIRECT write is on the device, and the size of a
 * disk image does not change. Other file systems (copy on write, network) have
 * layers of their own between: nothing is assumed of them.
 */
void file_probe_cache(struct file_node *f)
{
	struct statfs fs;
	struct stat st;

	if (!f->n.cache_direct || fstat(f->fd, &st) < 0)
		return;
	if (f->device)
		f->n.write_through = device_writes_through(st.st_rdev);
	else if (fstatfs(f->fd, &fs) == 0 &&
		 (fs.f_type == EXT4_SUPER_MAGIC || fs.f_type == XFS_SUPER_MAGIC))
		f->n.write_through = device_writes_through(st.st_dev);
}

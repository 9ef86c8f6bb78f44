/*
 * block/file.c - protocol nodes on local files (file) and block devices
 * (host_device).
 *
 * Threads: open, close and permissions on the main loop; requests on any loop
 *          (file_io.c).
 * Missing: registered files and buffers (the loop's interface takes
 *          plain descriptors).
 */
#include "block/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "block/graph.h"
#include "vmm/base/util.h"

static const char *const aio_words[] = { "threads", "native", "io_uring", NULL };

static const struct prop file_props[] = {
	PROP_STR(struct file_node, filename, "filename", NULL,
		 "path of the image file or block device", .flags = PROP_REQUIRED),
	PROP_ONOFFAUTO(struct file_node, locking, "locking", PROP_AUTO,
		       "lock the file against other programs, as QEMU does; auto: where the "
		       "file system can"),
	/* QEMU's three engines. Here the loop that submits has one engine for
	 * everything, chosen when it starts: io_uring, or threads where that is
	 * forbidden. All words mean that engine. */
	PROP_ENUM(struct file_node, aio, "aio", aio_words, 2,
		  "accepted; every word means the event loop's own engine: io_uring, or threads "
		  "where that is forbidden", .flags = PROP_RUNTIME),
	PROP_END
};

static int file_open_common(struct block_node *n, bool device, struct err *e)
{
	struct file_node *f = (struct file_node *)n;
	int r;

	f->device = device;
	f->fd = -1;
	f->mem_align = 1;
	n->request_align = n->discard_align = 1;
	f->lock.off = f->locking == PROP_OFF;
	file_sync_init(&f->sync);
	file_ranges_init(&f->ranges);
	pthread_mutex_init(&f->bounce.lock, NULL);
	f->bounce.tail = &f->bounce.waiting;
	atomic_init(&f->can_discard, true);
	atomic_init(&f->can_punch, true);
	atomic_init(&f->can_zero_range, true);
	n->filename = graph_path(f->filename);

	r = file_open_path(f, e);
	if (r == 0)
		r = file_probe_length(f, e);
	if (r == 0)
		r = file_probe_align(f, e);
	if (r)
		return r;
	f->zeroes = mmap(NULL, FILE_ZERO_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (f->zeroes == MAP_FAILED) {
		f->zeroes = NULL;
		return err_sys(e, -errno, "no memory for a zero buffer");
	}
	file_probe_cache(f);
	/* Drives work in sectors: below that there is nothing to keep apart. */
	f->tracked = n->request_align > BLOCK_SECTOR;
	return n->cache_direct ? file_bounce_init(f, e) : 0;
}

static int file_open(struct block_node *n, struct err *e)
{
	return file_open_common(n, false, e);
}

static int host_device_open(struct block_node *n, struct err *e)
{
	return file_open_common(n, true, e);
}

static void file_close(struct block_node *n)
{
	struct file_node *f = (struct file_node *)n;

	if (f->zeroes)
		munmap(f->zeroes, FILE_ZERO_BYTES);
	file_bounce_fini(f);
	file_ranges_fini(&f->ranges);
	file_sync_fini(&f->sync);
	fd_close(&f->fd);
}

static int file_set_perm(struct block_node *n, uint32_t perm, uint32_t shared, struct err *e)
{
	struct file_node *f = (struct file_node *)n;

	return file_lock_set(&f->lock, f->fd, n->filename, perm, shared,
			     f->locking == PROP_ON, e);
}

static int file_set_length(struct block_node *n, uint64_t bytes)
{
	struct file_node *f = (struct file_node *)n;

	if (f->device)
		return bytes <= n->bytes ? 0 : -ENOSPC;
	if (bytes > INT64_MAX)
		return -EFBIG;
	if (ftruncate(f->fd, (off_t)bytes) < 0)
		return -errno;
	n->bytes = bytes;
	/* The new length is metadata that a flush has to make durable. */
	file_touch(f, FILE_DIRTY);
	return 0;
}

int64_t block_node_allocated(const struct block_node *n)
{
	struct statx st;

	while (n->file.node)
		n = n->file.node;
	if (n->drv != &block_driver_file)
		return -1;
	/* What is known without asking a file server. */
	if (statx(((const struct file_node *)n)->fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC,
		  STATX_BLOCKS, &st) < 0)
		return -1;
	return (int64_t)st.stx_blocks * 512;
}

const struct block_driver block_driver_file = {
	.name = "file", .help = "a regular file", .protocol = true,
	.size = sizeof(struct file_node), .props = file_props,
	.open = file_open, .close = file_close, .submit = file_submit,
	.set_perm = file_set_perm, .set_length = file_set_length, .reopen = file_reopen,
	.set_direct = file_set_direct,
};

const struct block_driver block_driver_host_device = {
	.name = "host_device", .help = "a block device of the host", .protocol = true,
	.size = sizeof(struct file_node), .props = file_props,
	.open = host_device_open, .close = file_close, .submit = file_submit,
	.set_perm = file_set_perm, .set_length = file_set_length, .reopen = file_reopen,
	.set_direct = file_set_direct,
};

/*
 * block/file_reopen.c - a file or device that is in use becomes writable, or
 * read-only again; its cache mode changes.
 *
 * Threads: main loop; requests on any loop go on (not while the cache mode changes).
 * Missing: nothing known.
 *
 * The new descriptor takes the number of the old one (dup3(2)), so that requests
 * find it without a look at anything, and those in flight keep the old file. What
 * was written is durable before a file becomes read-only: the new descriptor would
 * not hear of writes that fail later.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "block/file.h"
#include "block/graph.h"
#include "vmm/base/util.h"

static bool is_same(const struct stat *a, const struct stat *b)
{
	if (S_ISBLK(a->st_mode) && S_ISBLK(b->st_mode))
		return a->st_rdev == b->st_rdev;
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Put @fd in the place of the node's descriptor. */
static int replace(struct file_node *f, int fd, struct err *e)
{
	struct stat old, new;
	int r;

	if (fstat(f->fd, &old) < 0 || fstat(fd, &new) < 0)
		return err_sys(e, -errno, "cannot examine %s", f->n.filename);
	if (!is_same(&old, &new))
		return err_set(e, -ESTALE, "%s is another file than the one in use; put that one "
			       "back, or remove the node and add it again", f->n.filename);
	r = file_lock_move(&f->lock, f->fd, fd);
	if (r)
		return err_sys(e, r, "%s cannot be locked", f->n.filename);
	/* Of numbers that are open both: only a signal's EINTR or EBUSY, which Linux
	 * gives to a race with open(2), and both go away. */
	while (dup3(fd, f->fd, O_CLOEXEC) < 0)
		;
	return 0;
}

int file_reopen(struct block_node *n, bool write, struct err *e)
{
	struct file_node *f = (struct file_node *)n;
	int fd = file_try_open(f, !write), r;

	if (fd < 0)
		return file_explain_open(f, !write, -fd, e);
	r = replace(f, fd, e);
	close(fd);
	return r;
}

/* As file_open_common() finds them for a new descriptor. */
static int probe(struct file_node *f, struct err *e)
{
	int r;

	f->mem_align = 1;
	f->n.request_align = f->n.discard_align = 1;
	f->n.write_through = false;
	r = file_probe_align(f, e);
	if (r == 0 && f->n.cache_direct && !f->bounce.mem)
		r = file_bounce_init(f, e);
	if (r)
		return r;
	file_probe_cache(f);
	f->tracked = f->n.request_align > BLOCK_SECTOR;
	return 0;
}

/* The aligned buffers stay when nobody needs them any more: without use they are
 * addresses only. */
int file_set_direct(struct block_node *n, bool direct, struct err *e)
{
	struct file_node *f = (struct file_node *)n;
	struct err ignored = ERR_INIT;
	int r;

	n->cache_direct = direct;
	r = file_reopen(n, !n->read_only, e);
	if (r) {
		n->cache_direct = !direct;
		return r;
	}
	r = probe(f, e);
	if (r == 0)
		return 0;
	n->cache_direct = !direct;
	if (file_reopen(n, !n->read_only, &ignored) || probe(f, &ignored))
		log_err("node '%s' cannot go back to cache.direct=%s: %s", n->name,
			direct ? "off" : "on", ignored.text);
	return r;
}

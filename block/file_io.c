/*
 * block/file_io.c - the data path of file and host_device.
 *
 * Spec:    io_uring_enter(2), pwritev2(2), fallocate(2), block ioctls.
 * Threads: any loop; a request stays on its own. Nothing here locks or
 *          allocates.
 * Missing: registered files and fixed buffers.
 *
 * A short transfer is continued. A read that ends early although the request
 * lies inside the disk means that the file shrank under us: -EIO. (QEMU hands
 * the guest zeroes there; a disk that silently loses data is worse than one
 * that says so.) A write that moves nothing means -ENOSPC.
 */
#include "block/file.h"

#include <errno.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <unistd.h>

#include "vmm/base/util.h"

/* -EINTR and -EAGAIN without progress: a kernel that answers so for ever must
 * not keep a loop busy for ever. */
#define TRIES_MAX	100

static void xfer_issue(struct block_req *r)
{
	struct file_node *f = (struct file_node *)r->node;
	struct block_xfer *x = &r->xfer;
	struct loop_io *io = &r->io;

	io->op = x->write ? LOOP_IO_WRITEV : LOOP_IO_READV;
	io->fd = f->fd;
	io->flags = x->flags;
	io->off = x->off;
	/* What is left of a cut entry goes alone, so that no array is copied. */
	io->iov = x->rest.iov_len ? &x->rest : x->iov;
	io->iovcnt = x->rest.iov_len ? 1 : x->iovcnt;
	loop_io_submit(r->loop, io);
}

static void xfer_advance(struct block_xfer *x, uint64_t n)
{
	x->off += n;
	x->left -= n;
	x->tries = 0;
	if (x->rest.iov_len) {
		if (n < x->rest.iov_len) {
			x->rest.iov_base = (char *)x->rest.iov_base + n;
			x->rest.iov_len -= n;
			return;
		}
		n -= x->rest.iov_len;
		x->rest.iov_len = 0;
	}
	while (x->iovcnt > 0 && n >= x->iov->iov_len) {
		n -= x->iov->iov_len;
		x->iov++;
		x->iovcnt--;
	}
	if (n > 0) {
		x->rest.iov_base = (char *)x->iov->iov_base + n;
		x->rest.iov_len = x->iov->iov_len - n;
		x->iov++;
		x->iovcnt--;
	}
}

static bool is_transient(int64_t res)
{
	return res == -EINTR || res == -EAGAIN;
}

/* The file ended: what is left reads as zeroes (BLOCK_EOF_ZEROES). */
static void xfer_zero_rest(struct block_xfer *x)
{
	size_t left = x->left;

	if (x->rest.iov_len)
		memset(x->rest.iov_base, 0, MIN(left, x->rest.iov_len));
	left -= MIN(left, x->rest.iov_len);
	iov_zero(x->iov, x->iovcnt, 0, left);
}

static void xfer_done(struct loop_io *io)
{
	struct block_req *r = container_of(io, struct block_req, io);
	struct block_xfer *x = &r->xfer;
	int64_t n = io->res;

	if (__builtin_expect(n == (int64_t)x->left, 1)) {
		x->then(r, 0);
		return;
	}
	if (n == 0 && !x->write && (r->now.flags & BLOCK_EOF_ZEROES)) {
		xfer_zero_rest(x);
		x->then(r, 0);
		return;
	}
	if (n == 0 || n > (int64_t)x->left)
		n = x->write ? -ENOSPC : -EIO;
	if (r->cancelled && (n > 0 || is_transient(n)))
		n = -ECANCELED;
	if (n < 0 && (!is_transient(n) || ++x->tries > TRIES_MAX)) {
		x->then(r, (int)n);
		return;
	}
	if (n > 0)
		xfer_advance(x, (uint64_t)n);
	xfer_issue(r);
}

void file_xfer(struct file_node *f, struct block_req *r, const struct iovec *iov, int iovcnt,
	       uint64_t off, uint64_t bytes, bool write,
	       void (*then)(struct block_req *r, int ret))
{
	struct block_xfer *x = &r->xfer;

	x->iov = iov;
	x->iovcnt = iovcnt;
	x->rest.iov_len = 0;
	x->off = off;
	x->left = bytes;
	x->tries = 0;
	x->write = write;
	x->flags = write && (r->now.flags & BLOCK_FUA) && !f->n.cache_no_flush ? LOOP_IO_DSYNC : 0;
	x->then = then;
	r->node = &f->n;
	r->io.cb = xfer_done;
	xfer_issue(r);
}

/*
 * A DSYNC write that fails may have collected the error of other writes, which
 * the kernel reports once per descriptor: the next fdatasync would then succeed
 * over lost data. O_DIRECT reports a full disk before it syncs, so those errors
 * are the write's own; and where nothing else was reported done since the last
 * flush, or a finished write is durable already, there is nothing else to lose.
 */
static bool spoils_sync(const struct file_node *f, int ret)
{
	if (!f->n.cache_direct)
		return true;
	return ret != -ENOSPC && ret != -EDQUOT && ret != -EFBIG && !f->n.write_through &&
		atomic_load(&f->sync.dirty) == FILE_DIRTY;
}

void file_touch(struct file_node *f, enum file_dirty how)
{
	int is = atomic_load(&f->sync.dirty);

	/* Stored only when it grows: queues on several threads share it. */
	while (is < (int)how && !atomic_compare_exchange_weak(&f->sync.dirty, &is, how))
		;
}

void file_wrote(struct file_node *f, struct block_req *r, int ret)
{
	bool durable = r->xfer.flags & LOOP_IO_DSYNC;

	if (ret < 0 && ret != -ECANCELED && durable && spoils_sync(f, ret))
		file_sync_lost(f, ret);
	/* A request with FUA that is not durable yet is not reported either: it
	 * flushes, and fails with the flush. */
	if (ret < 0 || (!durable && (r->now.flags & BLOCK_FUA)))
		file_touch(f, FILE_TOUCHED);
	else if (!durable)
		file_touch(f, FILE_DIRTY);
}

static void rw_done(struct block_req *r, int ret)
{
	struct file_node *f = (struct file_node *)r->node;

	if (r->xfer.write)
		file_wrote(f, r, ret);
	if (r->span.held)
		file_range_end(f, r);
	block_done(r, ret);
}

static void rw_start(struct block_req *r)
{
	struct file_node *f = (struct file_node *)r->node;

	file_xfer(f, r, r->iov, r->iovcnt, r->now.offset, r->bytes,
		  r->now.op == BLOCK_WRITE, rw_done);
}

static bool unit_aligned(const struct file_node *f, const struct block_req *r)
{
	return ((r->now.offset | r->bytes) & (f->n.request_align - 1)) == 0;
}

/* O_DIRECT takes bases aligned for DMA and pieces of whole blocks. */
static bool iov_aligned(const struct file_node *f, const struct block_req *r)
{
	uintptr_t base = 0, len = 0;

	for (int i = 0; i < r->iovcnt; i++) {
		base |= (uintptr_t)r->iov[i].iov_base;
		len |= r->iov[i].iov_len;
	}
	return (base & (f->mem_align - 1)) == 0 && (len & (f->n.request_align - 1)) == 0;
}

static void file_rw(struct file_node *f, struct block_req *r)
{
	r->node = &f->n;
	r->span.held = false;
	if (f->n.cache_direct && (!unit_aligned(f, r) || !iov_aligned(f, r))) {
		file_bounce_start(f, r);
	} else if (f->tracked && r->now.op == BLOCK_WRITE) {
		r->span.lo = r->now.offset;
		r->span.hi = r->now.offset + r->bytes;
		file_range_begin(f, r, false, rw_start);
	} else {
		rw_start(r);
	}
}

/* ---- discard ---- */

static bool is_unsupported(int64_t ret)
{
	return ret == -EOPNOTSUPP || ret == -ENOSYS || ret == -ENOTTY;
}

/* A discard is advice: what the host cannot do is no error of the guest. */
static void discard_done(struct loop_io *io)
{
	struct block_req *r = container_of(io, struct block_req, io);
	struct file_node *f = (struct file_node *)r->node;
	int ret = (int)io->res;

	if (is_unsupported(ret))
		atomic_store_explicit(&f->can_discard, false, memory_order_relaxed);
	if (is_unsupported(ret) || ret == -EINVAL)
		ret = 0;
	block_done(r, ret);
}

static void file_discard(struct file_node *f, struct block_req *r)
{
	uint64_t unit = MAX(f->n.discard_align, f->n.request_align);
	uint64_t lo = align_up(r->now.offset, unit);
	uint64_t hi = align_down(r->now.offset + r->bytes, unit);
	struct loop_io *io = &r->io;

	if (lo >= hi || !atomic_load_explicit(&f->can_discard, memory_order_relaxed)) {
		block_done_later(r, 0);
		return;
	}
	r->node = &f->n;
	io->op = f->device ? LOOP_IO_IOCTL_RANGE : LOOP_IO_FALLOCATE;
	io->cmd = BLKDISCARD;
	io->flags = f->device ? 0 : FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	io->fd = f->fd;
	io->off = lo;
	io->len = hi - lo;
	io->cb = discard_done;
	loop_io_submit(r->loop, io);
}

/* ---- write-zeroes ---- */

static void zero_start(struct block_req *r);

static void zero_end(struct block_req *r, int ret)
{
	struct file_node *f = (struct file_node *)r->node;

	if (r->span.held)
		file_range_end(f, r);
	block_done(r, ret);
}

/* Last resort: written, a piece at a time, from one page of zeroes. */
static void zero_piece(struct block_req *r, int ret)
{
	struct file_node *f = (struct file_node *)r->node;
	struct block_span *s = &r->span;

	s->at += s->len;
	if (ret == 0 && s->at < s->hi && r->cancelled)
		ret = -ECANCELED;
	if (ret || s->at == s->hi) {
		file_wrote(f, r, ret);
		zero_end(r, ret);
		return;
	}
	s->len = (uint32_t)MIN(s->hi - s->at, (uint64_t)FILE_ZERO_BYTES);
	s->iov = (struct iovec){ f->zeroes, s->len };
	file_xfer(f, r, &s->iov, 1, s->at, s->len, true, zero_piece);
}

static void zero_write(struct block_req *r)
{
	r->span.at = r->span.lo;
	r->span.len = 0;
	zero_piece(r, 0);
}

static void zero_done(struct loop_io *io)
{
	struct block_req *r = container_of(io, struct block_req, io);
	struct file_node *f = (struct file_node *)r->node;
	_Atomic bool *tried = io->flags & FALLOC_FL_PUNCH_HOLE ? &f->can_punch : &f->can_zero_range;
	int ret = (int)io->res;

	if (r->cancelled && is_transient(ret))
		ret = -ECANCELED;
	if (is_unsupported(ret)) {
		atomic_store_explicit(tried, false, memory_order_relaxed);
		zero_start(r);
	} else if (ret == -EINVAL || ret == -EBUSY || ret == -EPERM || is_transient(ret)) {
		zero_write(r);	/* not this range, not now: write it */
	} else {
		r->xfer.flags = 0;	/* not durable yet */
		file_wrote(f, r, ret);
		if (ret == 0 && (r->now.flags & BLOCK_FUA)) {
			if (r->span.held)
				file_range_end(f, r);
			file_flush(f, r);
		} else {
			zero_end(r, ret);
		}
	}
}

/* The cheapest way left; each failure takes one away. */
static void zero_start(struct block_req *r)
{
	struct file_node *f = (struct file_node *)r->node;
	struct loop_io *io = &r->io;

	if ((r->now.flags & BLOCK_UNMAP) && f->n.discard == BLOCK_DISCARD_UNMAP &&
	    atomic_load_explicit(&f->can_punch, memory_order_relaxed)) {
		io->flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	} else if (atomic_load_explicit(&f->can_zero_range, memory_order_relaxed)) {
		io->flags = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
	} else {
		zero_write(r);
		return;
	}
	io->op = LOOP_IO_FALLOCATE;
	io->fd = f->fd;
	io->off = r->span.lo;
	io->len = r->span.hi - r->span.lo;
	io->cb = zero_done;
	loop_io_submit(r->loop, io);
}

static void file_zero(struct file_node *f, struct block_req *r)
{
	r->node = &f->n;
	r->span.held = false;
	r->span.lo = r->now.offset;
	r->span.hi = r->now.offset + r->bytes;
	if (!unit_aligned(f, r))
		file_bounce_start(f, r);
	else if (f->tracked)
		file_range_begin(f, r, false, zero_start);
	else
		zero_start(r);
}

bool file_hole(const struct file_node *f, uint64_t pos, uint64_t *len)
{
	off_t data = lseek(f->fd, (off_t)pos, SEEK_DATA), end;
	bool hole = data < 0 ? errno == ENXIO : (uint64_t)data > pos;

	end = hole ? data : lseek(f->fd, (off_t)pos, SEEK_HOLE);
	if (end > (off_t)pos)
		*len = MIN(*len, (uint64_t)end - pos);
	return hole;
}

void file_submit(struct block_node *n, struct block_req *r)
{
	struct file_node *f = (struct file_node *)n;

	/* Also what a format writes for itself: see file_sync.c. */
	if (__builtin_expect(atomic_load_explicit(&n->durable, memory_order_relaxed), 0) &&
	    (r->now.op == BLOCK_WRITE || r->now.op == BLOCK_WRITE_ZEROES))
		r->now.flags |= BLOCK_FUA;
	switch (r->now.op) {
	case BLOCK_READ:
	case BLOCK_WRITE:
		file_rw(f, r);
		break;
	case BLOCK_FLUSH:
		file_flush(f, r);
		break;
	case BLOCK_DISCARD:
		file_discard(f, r);
		break;
	case BLOCK_WRITE_ZEROES:
		file_zero(f, r);
		break;
	default:
		block_done_later(r, -ENOTSUP);
		break;
	}
}

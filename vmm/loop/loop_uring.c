/*
 * vmm/loop/loop_uring.c - the io_uring engine.
 * Spec:    io_uring(7), io_uring_setup(2), io_uring_enter(2); kernel 5.10 on.
 * Threads: the loop's.
 * Missing: registered buffers; nothing here needs them yet.
 *
 * Nothing is put into the submission ring before the turn ends. Sources that
 * changed wait in the dirty list and file I/O in a queue, and both are drained
 * right before the io_uring_enter() that submits and waits: a descriptor that
 * is closed and whose number is used again between two turns can never be in
 * the ring, and the queue takes any number of requests. A large batch of file
 * I/O alone takes an enter or two before that one: see piece_of_batch().
 *
 * Descriptors are one-shot polls, armed again in the batch after their
 * callback: that costs no system call and checks the level anew. Eventfds are
 * multishot polls that are never read: each signal wakes the poll, so a kick
 * costs neither a read nor an entry in the ring.
 */
#include <assert.h>
#include <errno.h>
#include <linux/fs.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/loop/loop_priv.h"

enum {
	SQ_ENTRIES = 256,	/* one turn's batch; more take another enter */
	CQ_ENTRIES = 2048,
	INFLIGHT_MAX = CQ_ENTRIES - 256, /* room left for polls: no overflow */
	PIECES = 3,		/* that a batch for an idle disk is cut into */
	PIECE_MIN = 8,		/* requests */
};

/* User data: the low bits tell what; a struct loop_io has them clear. */
enum {
	UD_IO = 0,
	UD_SLOT = 1,		/* slot << 3, generation << 32 */
	UD_IGNORE = 2,
	UD_SIGNAL = 3,
	UD_MASK = 7,
};

struct loop_uring {
	struct io_uring ring;
	bool have_ring;
	bool disabled;		/* IORING_SETUP_R_DISABLED until start */
	bool multishot;		/* 5.13; before it an eventfd needs read() */
	uint32_t inflight;	/* file I/O in the kernel */
	uint32_t queued;	/* file I/O in @queue */
	uint32_t dirty;		/* list of slots to look at */
	struct loop_io_list queue;
};

static uint64_t slot_data(uint32_t i, uint32_t gen)
{
	return (uint64_t)gen << 32 | i << 3 | UD_SLOT;
}

/* ---- set-up ---- */

/*
 * Best first. With DEFER_TASKRUN (6.1) completions are gathered in the wait
 * instead of interrupting the thread, COOP_TASKRUN (5.19) is the next best;
 * TASKRUN_FLAG shows in the ring when the kernel wants to be entered. The
 * thread that enables a ring made with R_DISABLED is its single issuer.
 */
static const unsigned int setup_flags[] = {
	IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER |
		IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
		IORING_SETUP_R_DISABLED,
	IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN |
		IORING_SETUP_TASKRUN_FLAG,
	0,
};

enum { SETUP_BEST = 0, SETUP_PLAIN = 1 };

static int ring_create(struct loop_uring *u, size_t first)
{
	struct io_uring_params p;
	int r = -EINVAL;
	size_t i;

	for (i = first; i < ARRAY_LEN(setup_flags) && r == -EINVAL; i++) {
		memset(&p, 0, sizeof(p));
		p.flags = setup_flags[i] | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
		p.cq_entries = CQ_ENTRIES;
		r = io_uring_queue_init_params(SQ_ENTRIES, &u->ring, &p);
	}
	if (r < 0)
		return r;
	u->have_ring = true;
	u->disabled = p.flags & IORING_SETUP_R_DISABLED;
	/* No flag tells of multishot polls; RSRC_TAGS is of the same release. */
	u->multishot = p.features & IORING_FEAT_RSRC_TAGS;
	return p.features & IORING_FEAT_NODROP ? 0 : -ENOSYS;
}

static int uring_init(struct loop *l, struct err *e)
{
	struct loop_uring *u = calloc(1, sizeof(*u));
	int r;

	l->uring = u;
	if (!u)
		return err_set(e, -ENOMEM, "io_uring: out of memory");
	u->dirty = LOOP_NONE;
	r = ring_create(u, SETUP_BEST);
	if (r == -EPERM || r == -EACCES)
		return err_set(e, r, "io_uring is forbidden here");
	if (r == -ENOSYS)
		return err_set(e, r, "this kernel has no io_uring, or too old a one");
	if (r < 0)
		return err_sys(e, r, "io_uring cannot be used");
	return 0;
}

static void uring_fini(struct loop *l)
{
	struct loop_uring *u = l->uring;

	if (!u)
		return;
	assert(!u->inflight && !u->queue.head);
	if (u->have_ring)
		io_uring_queue_exit(&u->ring);
	free(u);
	l->uring = NULL;
}

static int uring_start(struct loop *l)
{
	struct loop_uring *u = l->uring;
	int r;

	if (u->disabled) {
		/* liburing 2.3's shared library lacks io_uring_enable_rings(). */
		r = io_uring_register((unsigned int)u->ring.ring_fd,
				      IORING_REGISTER_ENABLE_RINGS, NULL, 0);
		if (r < 0)
			return r;
		u->disabled = false;
	}
	/* Spares a look-up per enter (5.18); of no matter where it fails. */
	io_uring_register_ring_fd(&u->ring);
	return 0;
}

/* ---- filling the submission ring ---- */

static void slot_mark(struct loop *l, uint32_t i)
{
	struct loop_slot *s = &l->slot[i];

	if (s->dirty)
		return;
	s->dirty = true;
	s->next = l->uring->dirty;
	l->uring->dirty = i;
}

static int uring_update(struct loop *l, uint32_t i)
{
	slot_mark(l, i);
	return 0;
}

static struct io_uring_sqe *sqe_get(struct loop_uring *u, uint64_t data)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

	if (sqe) {
		memset(sqe, 0, sizeof(*sqe));
		io_uring_sqe_set_data64(sqe, data);
	}
	return sqe;
}

/* liburing's prep functions overwrite what sqe_get() cleared except the data. */
static void slot_arm(struct loop_uring *u, struct loop_slot *s, struct io_uring_sqe *sqe)
{
	const struct loop_event *ev = s->src;
	const struct loop_fd *w = s->src;

	if (s->kind == SLOT_FD)
		io_uring_prep_poll_add(sqe, w->fd, w->events);
	else if (u->multishot)
		io_uring_prep_poll_multishot(sqe, ev->fd, POLLIN);
	else
		io_uring_prep_poll_add(sqe, ev->fd, POLLIN);
}

static bool slot_wanted(const struct loop_slot *s)
{
	if (s->kind == SLOT_FD)
		return ((const struct loop_fd *)s->src)->events != 0;
	return s->kind == SLOT_EVENT;
}

/* Bring the kernel's view of slot @i up to date; false when the ring is full
 * and the rest has to wait for the next enter. */
static bool slot_sync(struct loop *l, uint32_t i)
{
	struct loop_uring *u = l->uring;
	struct loop_slot *s = &l->slot[i];
	struct io_uring_sqe *sqe;

	if (s->armed) {
		sqe = sqe_get(u, UD_IGNORE);
		if (!sqe)
			return false;
		io_uring_prep_poll_remove(sqe, slot_data(i, s->gen));
		sqe->user_data = UD_IGNORE;
		s->armed = false;
		s->gen++;
	}
	if (slot_wanted(s)) {
		sqe = sqe_get(u, 0);
		if (!sqe)
			return false;
		slot_arm(u, s, sqe);
		sqe->user_data = slot_data(i, s->gen);
		s->armed = true;
	} else if (s->kind == SLOT_DEAD) {
		s->dirty = false;
		loop_slot_free(l, i);
		return true;
	}
	s->dirty = false;
	s->next = LOOP_NONE;
	return true;
}

static bool fill_slots(struct loop *l)
{
	struct loop_uring *u = l->uring;
	uint32_t i, next;

	while ((i = u->dirty) != LOOP_NONE) {
		next = l->slot[i].next;
		if (!slot_sync(l, i))
			return false;
		u->dirty = next;
	}
	return true;
}

/* One buffer needs no iovec import in the kernel; its length is 32 bits. */
static void io_prep_rw(struct io_uring_sqe *sqe, const struct loop_io *io)
{
	bool write = io->op == LOOP_IO_WRITEV;
	int op;

	if (io->iovcnt == 1 && io->iov->iov_len <= INT32_MAX) {
		op = write ? IORING_OP_WRITE : IORING_OP_READ;
		io_uring_prep_rw(op, sqe, io->fd, io->iov->iov_base,
				 (unsigned int)io->iov->iov_len, io->off);
	} else {
		op = write ? IORING_OP_WRITEV : IORING_OP_READV;
		io_uring_prep_rw(op, sqe, io->fd, io->iov, io->iovcnt, io->off);
	}
	if (write && (io->flags & LOOP_IO_DSYNC))
		sqe->rw_flags = RWF_DSYNC;
}

static void io_prep(struct io_uring_sqe *sqe, const struct loop_io *io)
{
	switch (io->op) {
	case LOOP_IO_READV:
	case LOOP_IO_WRITEV:
		io_prep_rw(sqe, io);
		break;
	case LOOP_IO_FSYNC:
		io_uring_prep_fsync(sqe, io->fd, io->flags & LOOP_IO_DATASYNC ?
				    IORING_FSYNC_DATASYNC : 0);
		break;
	case LOOP_IO_FALLOCATE:
		io_uring_prep_fallocate(sqe, io->fd, (int)io->flags, io->off, io->len);
		break;
	case LOOP_IO_IOCTL_RANGE:
		assert(0);	/* goes to the pool, see uring_io_submit() */
	}
	io_uring_sqe_set_data(sqe, (void *)io);
}

static void queue_add(struct loop_uring *u, struct loop_io *io)
{
	io->state = IO_QUEUED;
	loop_io_list_add(&u->queue, io);
	u->queued++;
}

static struct loop_io *queue_take(struct loop_uring *u)
{
	u->queued--;
	return loop_io_list_take(&u->queue);
}

/*
 * The kernel gives a disk nothing before it has gone through all of a batch. A
 * disk that has ended all at once has nothing to do until then, and we nothing
 * until it ends all at once again: both work by turns (seen with virtio disks).
 * So, where the kernel has little in hand, the first requests go down while the
 * rest are prepared; a system call more for a third of the batch.
 */
static uint32_t piece_of_batch(const struct loop_uring *u)
{
	/* Completions are there: the disk's work is under way, or was none (a cached
	 * read ends where it is submitted). */
	if (u->inflight >= u->queued || io_uring_cq_ready(&u->ring))
		return UINT32_MAX;
	return MAX(u->queued / PIECES, (uint32_t)PIECE_MIN);
}

static bool fill_ios(struct loop *l)
{
	struct loop_uring *u = l->uring;
	uint32_t piece = piece_of_batch(u);
	struct io_uring_sqe *sqe;
	struct loop_io *io;

	while ((io = u->queue.head)) {
		if (io->state == IO_CANCELED) {
			loop_io_done(l, queue_take(u), -ECANCELED);
			continue;
		}
		if (u->inflight >= INFLIGHT_MAX)
			return true;	/* completions make room */
		if (io_uring_sq_ready(&u->ring) >= piece)
			return false;
		sqe = sqe_get(u, 0);
		if (!sqe)
			return false;
		io_prep(sqe, queue_take(u));
		io->state = IO_KERNEL;
		u->inflight++;
	}
	return true;
}

static bool fill_signals(struct loop *l)
{
	static const uint64_t one = 1;
	struct loop_uring *u = l->uring;
	struct io_uring_sqe *sqe;
	struct loop_signal *s;

	while ((s = l->signals)) {
		sqe = sqe_get(u, 0);
		if (!sqe)
			return false;
		io_uring_prep_write(sqe, s->fd, &one, sizeof(one), 0);
		sqe->user_data = UD_SIGNAL;
		if (u->ring.features & IORING_FEAT_CQE_SKIP)
			sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
		l->signals = s->next;
		s->queued = false;
	}
	return true;
}

/* False: the ring is full, or has a piece: submit and come again. Signals first:
 * they are interrupts a guest waits for. */
static bool uring_fill(struct loop *l)
{
	return fill_signals(l) && fill_slots(l) && fill_ios(l);
}

/* ---- entering the kernel ---- */

static bool uring_ready(struct loop *l)
{
	struct io_uring *ring = &l->uring->ring;

	return io_uring_cq_ready(ring) ||
		(__atomic_load_n(ring->sq.kflags, __ATOMIC_RELAXED) &
		 (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW));
}

/* Submit and gather what is complete, without waiting. */
static int uring_submit(struct loop *l)
{
	l->stats.syscalls++;
	return io_uring_submit_and_get_events(&l->uring->ring);
}

static int uring_sleep(struct loop *l, uint64_t timeout_ns)
{
	struct __kernel_timespec ts = {
		.tv_sec = (int64_t)(timeout_ns / NS_PER_SEC),
		.tv_nsec = (long long)(timeout_ns % NS_PER_SEC),
	};
	struct io_uring_cqe *cqe;
	int r;

	l->stats.syscalls++;
	r = io_uring_submit_and_wait_timeout(&l->uring->ring, &cqe, 1,
			timeout_ns == UINT64_MAX ? NULL : &ts, NULL);
	loop_awake(l);
	return r;
}

static void uring_flush(struct loop *l)
{
	struct loop_uring *u = l->uring;
	bool more;

	do {
		more = !uring_fill(l);
		if (io_uring_sq_ready(&u->ring) && uring_submit(l) < 0)
			break;
	} while (more);
}

/*
 * Out of memory (EAGAIN) and a full completion backlog (EBUSY, kernels before
 * 5.19) pass: completions are reaped and what was not taken stays in the ring
 * for the next turn. Returns 0 when the loop may go on.
 */
static int enter_error(int r)
{
	if (r == -EAGAIN || r == -EBUSY) {
		usleep(100);	/* nothing else can be done meanwhile */
		return 0;
	}
	return r == -EINTR || r == -ETIME || r >= 0 ? 0 : r;
}

static int uring_enter(struct loop *l, uint64_t timeout_ns)
{
	struct loop_uring *u = l->uring;
	unsigned int had;
	int r;

	while (!uring_fill(l)) {
		had = io_uring_sq_ready(&u->ring);
		r = enter_error(uring_submit(l));
		if (r < 0)
			return r;
		if (io_uring_sq_ready(&u->ring) >= had)
			break;
	}
	if (timeout_ns && !io_uring_cq_ready(&u->ring) && loop_sleep(l))
		return enter_error(uring_sleep(l, timeout_ns));
	if (io_uring_sq_ready(&u->ring) || (!io_uring_cq_ready(&u->ring) && uring_ready(l)))
		return enter_error(uring_submit(l));
	return 0;
}

/* ---- completions ---- */

static int complete_fd(struct loop *l, struct loop_slot *s, uint32_t i, int32_t res)
{
	struct loop_fd *w = s->src;

	s->armed = false;
	s->gen++;
	if (res < 0) {
		w->events = 0;
		res = POLLNVAL;
	}
	slot_mark(l, i);
	loop_dispatch_fd(l, s, (uint32_t)res);
	return 1;
}

static int complete_event(struct loop *l, struct loop_slot *s, uint32_t i,
			  int32_t res, bool more)
{
	struct loop_event *ev = s->src;
	uint64_t count;

	if (!more) {
		s->armed = false;
		s->gen++;
		if (res < 0) {
			log_err("event loop '%s': eventfd %d cannot be watched: %s",
				l->name, ev->fd, strerror(-res));
			return 0;
		}
		slot_mark(l, i);
	}
	if (!l->uring->multishot) {	/* a one-shot poll sees the level */
		l->stats.syscalls++;
		(void)!read(ev->fd, &count, sizeof(count));
	}
	loop_dispatch_event(l, s);
	return 1;
}

static int complete_slot(struct loop *l, uint64_t data, int32_t res, uint32_t flags)
{
	uint32_t i = (uint32_t)data >> 3;
	struct loop_slot *s = loop_slot_get(l, i, (uint32_t)(data >> 32));

	if (!s)
		return 0;	/* removed or changed meanwhile */
	if (s->kind == SLOT_FD)
		return complete_fd(l, s, i, res);
	return complete_event(l, s, i, res, flags & IORING_CQE_F_MORE);
}

static int complete_io(struct loop *l, struct loop_io *io, int32_t res)
{
	assert(io->state == IO_KERNEL);
	l->uring->inflight--;
	loop_io_call(l, io, res);
	return 1;
}

static int complete(struct loop *l, uint64_t data, int32_t res, uint32_t flags)
{
	if ((data & UD_MASK) == UD_IO)
		return complete_io(l, (struct loop_io *)(uintptr_t)data, res);
	if ((data & UD_MASK) == UD_SLOT)
		return complete_slot(l, data, res, flags);
	return 0;
}

/* What is there now; what callbacks add is for the next turn. */
static int uring_reap(struct loop *l)
{
	struct io_uring *ring = &l->uring->ring;
	unsigned int ready = io_uring_cq_ready(ring);
	struct io_uring_cqe *cqe;
	uint64_t data;
	uint32_t flags;
	int32_t res;
	int n = 0;

	while (ready-- && !io_uring_peek_cqe(ring, &cqe)) {
		data = cqe->user_data;
		res = cqe->res;
		flags = cqe->flags;
		io_uring_cqe_seen(ring, cqe);
		n += complete(l, data, res, flags);
	}
	return n;
}

static int uring_wait(struct loop *l, uint64_t timeout_ns)
{
	int r = uring_enter(l, timeout_ns);

	return r < 0 ? r : uring_reap(l);
}

/* ---- requests ---- */

static void uring_io_submit(struct loop *l, struct loop_io *io)
{
	if (io->op == LOOP_IO_IOCTL_RANGE) {
		loop_pool_submit(l, io);
		return;
	}
	queue_add(l->uring, io);
}

/* The cancellation itself goes out at once: no later than the completion that
 * would free @io, which is only seen in the next reap. */
static void uring_io_cancel(struct loop *l, struct loop_io *io)
{
	struct loop_uring *u = l->uring;
	struct io_uring_sqe *sqe;

	if (io->state == IO_POOL) {
		loop_pool_cancel(l, io);
	} else if (io->state == IO_QUEUED) {
		io->state = IO_CANCELED;
	} else if (io->state == IO_KERNEL) {
		sqe = sqe_get(u, 0);
		if (!sqe && uring_submit(l) >= 0)
			sqe = sqe_get(u, 0);
		if (!sqe)
			return;	/* then it completes in its own time */
		io_uring_prep_cancel(sqe, io, 0);
		sqe->user_data = UD_IGNORE;
	}
}

/*
 * A ring's descriptor does not become readable for work that DEFER_TASKRUN has
 * put off, and an eventfd registered with the ring is not signalled reliably
 * when another eventfd is the cause (seen on 6.18). So an embedded loop gets a
 * ring without it; nothing is in the first one yet.
 */
static int uring_pollfd(struct loop *l)
{
	struct loop_uring *u = l->uring;
	int r;

	if (u->disabled) {
		io_uring_queue_exit(&u->ring);
		u->have_ring = false;
		r = ring_create(u, SETUP_PLAIN);
		if (r < 0)
			return r;
	}
	return u->ring.ring_fd;
}

const struct loop_engine loop_uring_engine = {
	.aio = LOOP_AIO_URING,
	.init = uring_init, .fini = uring_fini, .start = uring_start,
	.wait = uring_wait, .flush = uring_flush, .ready = uring_ready,
	.update = uring_update,
	.io_submit = uring_io_submit, .io_cancel = uring_io_cancel,
	.pollfd = uring_pollfd,
};

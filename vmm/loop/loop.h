/*
 * vmm/loop/loop.h - one thread's event loop: descriptors, timers, posted work
 * and file I/O over one io_uring.
 *
 * A loop is run by exactly one thread: the main loop by the caller of
 * loop_run(), an I/O thread's by a thread of its own (iothread.h). Functions
 * marked [any] may be called from any thread, all others only on the loop's
 * own thread or before it runs. The first turn makes the calling thread the
 * loop's own for good (a fork before it is allowed, a fork after it is not).
 *
 * Every source is a struct the caller embeds; the loop allocates nothing after
 * creation, except for a larger table when sources are added. File I/O
 * requests submitted during one turn go to the kernel in one system call at
 * its end, the same call that then waits.
 *
 * Where io_uring is forbidden the loop says so once and runs on epoll with a
 * small thread pool (LOOP_AIO_THREADS), behind this same interface.
 */
#ifndef VMM_LOOP_LOOP_H
#define VMM_LOOP_LOOP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/base/err.h"

struct loop;

enum loop_aio {
	LOOP_AIO_AUTO,		/* io_uring, else threads */
	LOOP_AIO_URING,
	LOOP_AIO_THREADS,
};

/* Create a loop; @name (copied) appears in messages and thread names. */
int loop_create(struct loop **out, const char *name, enum loop_aio aio, struct err *e);
/* All sources must have been removed and file I/O awaited; where that hangs the
 * loop is left behind with a warning. NULL is allowed. */
void loop_destroy(struct loop *l);
/* Run until loop_quit(); returns 0, or -errno when the engine broke down. */
int loop_run(struct loop *l);
/* One turn: wait at most @timeout_ns (UINT64_MAX: for ever), dispatch. Returns
 * the number of callbacks made or -errno. Never inside a callback. For tests,
 * for set-up that waits, and for embedding clients. */
int loop_turn(struct loop *l, uint64_t timeout_ns);
void loop_quit(struct loop *l);			/* [any] */
bool loop_quitting(const struct loop *l);	/* [any] asked, not yet obeyed */
/* True on the loop's thread, and on every thread while the loop has none. */
bool loop_is_current(const struct loop *l);	/* [any] */
const char *loop_name(const struct loop *l);	/* [any] */
/* LOOP_AIO_URING or LOOP_AIO_THREADS: which engine runs. */
enum loop_aio loop_aio(const struct loop *l);	/* [any] */
/* A pollable descriptor, readable when loop_turn() has work (embedding). It
 * belongs to the loop and must be asked for before the first turn, -EBUSY
 * later; that turn then makes it work. Such turns cost more system calls. */
int loop_pollfd(struct loop *l);

/*
 * Spin for up to @max_ns before sleeping, adapting to what arrives: a wait that
 * ends within @max_ns multiplies the next spin by @grow (0: 2), a longer one
 * divides it by @shrink (0: back to none). @max_ns 0, the default, never spins.
 */
void loop_set_poll(struct loop *l, uint64_t max_ns, uint64_t grow, uint64_t shrink);

/* ---- descriptors ---- */

/*
 * Watch @fd for @events (POLLIN, POLLOUT, …), level-triggered: the callback
 * runs in every turn in which the condition holds; POLLHUP and POLLERR are
 * always watched for. @lock, when not NULL, is held around the callback (the
 * owner's device lock). One source per descriptor. A regular file is always
 * ready. After a descriptor that cannot be polled the callback gets POLLNVAL
 * once and the source is paused.
 */
struct loop_fd {
	int fd;
	uint32_t events;
	void (*cb)(struct loop_fd *w, uint32_t revents);
	pthread_mutex_t *lock;
	/* private */
	struct loop *loop;	/* NULL: not added */
	uint32_t slot;
};
int loop_fd_add(struct loop *l, struct loop_fd *w);
void loop_fd_mod(struct loop_fd *w, uint32_t events);	/* 0: paused */
/* After return the callback does not run again; allowed inside it. Does
 * nothing when @w is not added. The descriptor may be closed right away; the
 * kernel lets go of the file by the end of the turn. */
void loop_fd_del(struct loop_fd *w);

/*
 * An eventfd source: @cb runs once per batch of signals. The loop watches for
 * signals, not for the level, and leaves the counter alone, so a kick costs no
 * read(); whoever is added to an eventfd that was signalled before runs once.
 */
struct loop_event {
	int fd;			/* an eventfd, owned by the caller */
	void (*cb)(struct loop_event *ev);
	pthread_mutex_t *lock;
	/* private */
	struct loop *loop;
	uint32_t slot;
};
int loop_event_add(struct loop *l, struct loop_event *ev);
void loop_event_del(struct loop_event *ev);

/*
 * Signal an eventfd (an irqfd) with the system call that ends this turn: no
 * write() of its own. Raised twice in a turn it is signalled once. Must be
 * dropped before the descriptor is closed. Make it with EFD_NONBLOCK: io_uring
 * writes to it right away then, and takes a detour over a poll otherwise.
 */
struct loop_signal {
	int fd;
	/* private */
	struct loop_signal *next;
	bool queued;
};
void loop_signal_raise(struct loop *l, struct loop_signal *s);
void loop_signal_drop(struct loop *l, struct loop_signal *s);

/* ---- timers ---- */

struct loop_timer {
	void (*cb)(struct loop_timer *t);
	pthread_mutex_t *lock;
	/* private; a node of the loop's pairing heap (loop_timer.c) */
	struct loop *loop;
	uint64_t deadline_ns;
	uint64_t seq;
	struct loop_timer *child, *next, *prev;
	bool armed;
};
void loop_timer_init(struct loop *l, struct loop_timer *t,
		     void (*cb)(struct loop_timer *), pthread_mutex_t *lock);
/* Fire once at @deadline_ns of CLOCK_MONOTONIC; re-arming moves it. Equal
 * deadlines fire in the order they were armed. */
void loop_timer_arm(struct loop_timer *t, uint64_t deadline_ns);
void loop_timer_cancel(struct loop_timer *t);

/* ---- work from other threads ---- */

/* Run @cb once on the loop. A struct that is queued already is not queued
 * twice: returns false. The struct may be reused or freed from @cb on. */
struct loop_work {
	void (*cb)(struct loop_work *w);
	/* private */
	struct loop_work *next;
	_Atomic bool queued;
};
bool loop_post(struct loop *l, struct loop_work *w);		/* [any] */
/* Take back work that was posted (not deferred) and not called yet; nobody may
 * post it meanwhile. For owners that go away. On the loop's thread. */
void loop_work_cancel(struct loop *l, struct loop_work *w);
/* Run @fn(@arg) on the loop and wait for it; direct when already there or when
 * the loop does not run yet. [any], but never from a thread the loop waits
 * for, and never with a device lock held. */
void loop_call(struct loop *l, void (*fn)(void *arg), void *arg);
/* Defer to the end of this turn, same thread, same rules as loop_post. */
void loop_defer(struct loop *l, struct loop_work *w);

/* ---- file I/O ---- */

enum loop_io_op {
	LOOP_IO_READV,
	LOOP_IO_WRITEV,
	LOOP_IO_FSYNC,		/* with LOOP_IO_DATASYNC: fdatasync */
	LOOP_IO_FALLOCATE,	/* mode in @flags */
	LOOP_IO_IOCTL_RANGE,	/* BLKDISCARD/BLKZEROOUT: @cmd on [off, off+len) */
};
#define LOOP_IO_DATASYNC	1u
#define LOOP_IO_DSYNC		2u	/* RWF_DSYNC on a write: durable alone */
#define LOOP_IO_POS		UINT64_MAX	/* @off: at the file's own position */

/*
 * One asynchronous file operation, embedded in the caller's request. @iov must
 * stay valid until @cb. @res is bytes or -errno as the kernel gave it (short
 * transfers are the caller's to continue). Submitted in batches; completes on
 * the loop it was submitted to, never inside loop_io_submit().
 */
struct loop_io {
	enum loop_io_op op;
	int fd;
	uint32_t flags;
	const struct iovec *iov;
	int iovcnt;
	uint64_t off;
	uint64_t len;
	unsigned long cmd;
	void (*cb)(struct loop_io *io);
	int64_t res;
	/* private */
	struct loop *loop;
	struct loop_io *next;
	uint8_t state;		/* enum loop_io_state; zero: idle */
};
void loop_io_submit(struct loop *l, struct loop_io *io);
/* Ask the kernel to cancel; @cb still runs once, with -ECANCELED or a result.
 * Does nothing for a request that is not submitted. */
void loop_io_cancel(struct loop_io *io);

/* Counters since creation, for statistics and the benches. */
struct loop_stats {
	uint64_t turns;
	uint64_t syscalls;	/* io_uring_enter or epoll_wait and friends */
	uint64_t ios;
	uint64_t events;	/* callbacks of descriptors and eventfds */
};
struct loop_stats loop_stats(const struct loop *l);	/* loop's thread */

#endif

/*
 * vmm/loop/loop.h - one thread's event loop: descriptors, timers, posted work
 * and file I/O over one io_uring.
 *
 * A loop is run by exactly one thread: the main loop by the caller of
 * loop_run(), an I/O thread's by a thread of its own (iothread.h). Functions
 * marked [any] may be called from any thread, all others only on the loop's
 * own thread or before it runs.
 *
 * Every source is a struct the caller embeds; the loop allocates nothing after
 * creation. File I/O requests submitted during one turn go to the kernel in
 * one system call at its end, the same call that then waits.
 *
 * Where io_uring is forbidden the loop says so once and runs on epoll with a
 * small thread pool (LOOP_AIO_THREADS), behind this same interface.
 */
#ifndef VMM_LOOP_LOOP_H
#define VMM_LOOP_LOOP_H

#include <pthread.h>
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
/* All sources must have been removed. NULL is allowed. */
void loop_destroy(struct loop *l);
/* Run until loop_quit(); returns 0. */
int loop_run(struct loop *l);
/* One turn: wait at most @timeout_ns (UINT64_MAX: for ever), dispatch. Returns
 * the number of callbacks made or -errno. For tests and embedding clients. */
int loop_turn(struct loop *l, uint64_t timeout_ns);
void loop_quit(struct loop *l);			/* [any] */
bool loop_is_current(const struct loop *l);	/* [any] */
const char *loop_name(const struct loop *l);	/* [any] */
enum loop_aio loop_aio(const struct loop *l);	/* [any] */
/* A pollable descriptor, readable when loop_turn() has work (embedding). */
int loop_pollfd(const struct loop *l);

/* ---- descriptors ---- */

/*
 * Watch @fd for @events (POLLIN, POLLOUT, …), level-triggered in effect: the
 * callback runs in every turn in which the condition holds. @lock, when not
 * NULL, is held around the callback (the owner's device lock).
 */
struct loop_fd {
	int fd;
	uint32_t events;
	void (*cb)(struct loop_fd *w, uint32_t revents);
	pthread_mutex_t *lock;
	/* private */
	struct loop *loop;
	uint32_t gen;
	uint32_t slot;
};
int loop_fd_add(struct loop *l, struct loop_fd *w);
void loop_fd_mod(struct loop_fd *w, uint32_t events);	/* 0: paused */
/* After return the callback does not run again; allowed inside it. */
void loop_fd_del(struct loop_fd *w);

/*
 * An eventfd source: the loop reads the counter itself (so a kick costs no
 * read() of its own in the callback) and calls @cb once per batch of signals.
 */
struct loop_event {
	int fd;			/* an eventfd, owned by the caller */
	void (*cb)(struct loop_event *ev);
	pthread_mutex_t *lock;
	/* private */
	struct loop *loop;
	uint64_t count;
	uint32_t gen;
	uint32_t slot;
};
int loop_event_add(struct loop *l, struct loop_event *ev);
void loop_event_del(struct loop_event *ev);

/* ---- timers ---- */

struct loop_timer {
	void (*cb)(struct loop_timer *t);
	pthread_mutex_t *lock;
	/* private */
	struct loop *loop;
	uint64_t deadline_ns;
	uint32_t heap_index;	/* 0: not armed */
};
void loop_timer_init(struct loop *l, struct loop_timer *t,
		     void (*cb)(struct loop_timer *), pthread_mutex_t *lock);
/* Fire once at @deadline_ns of CLOCK_MONOTONIC; re-arming moves it. */
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

/*
 * One asynchronous file operation, embedded in the caller's request. @iov must
 * stay valid until @cb. @res is bytes or -errno as the kernel gave it (short
 * transfers are the caller's to continue). Submitted in batches; completes on
 * the loop it was submitted to.
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
};
void loop_io_submit(struct loop *l, struct loop_io *io);
/* Ask the kernel to cancel; @cb still runs once, with -ECANCELED or a result. */
void loop_io_cancel(struct loop_io *io);

/* Counters since creation, for statistics and the benches. */
struct loop_stats {
	uint64_t turns;
	uint64_t syscalls;	/* io_uring_enter or epoll_wait and friends */
	uint64_t ios;
	uint64_t events;
};
struct loop_stats loop_stats(const struct loop *l);

#endif

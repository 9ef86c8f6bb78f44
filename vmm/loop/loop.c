/*
 * vmm/loop/loop.c - the event loop's common part: life, turns, sources.
 * Threads: as marked in loop.h.
 * Missing: nothing known.
 *
 * One turn: the engine hands what is queued to the kernel, waits and calls
 * back for what arrived; then come completions, timers, posted and deferred
 * work. An engine (loop_uring.c, loop_epoll.c) knows descriptors and file I/O
 * only; all else is here, in loop_timer.c and in loop_work.c.
 */
#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/loop/loop_priv.h"

enum {
	POLL_START_NS = 4000,	/* first spin: about what a sleep costs */
	POLL_GROW = 2,
};

/* A value that tells living threads apart and can be stored atomically. */
static uintptr_t loop_self(void)
{
	static __thread char self;

	return (uintptr_t)&self;
}

/* Completions that did not come through the engine's wait. */
static int loop_done_run(struct loop *l)
{
	struct loop_io_list list;
	struct loop_io *io;
	int n = 0;

	loop_pool_reap(l);
	list = l->done;
	l->done.head = NULL;
	for (; (io = loop_io_list_take(&list)); n++) {
		loop_io_call(l, io, io->res);
	}
	return n;
}

/* ---- sleeping and waking ---- */

/*
 * The poster stores its work and then looks at asleep; the loop stores asleep
 * and then looks for work. Both are sequentially consistent, so at least one
 * sees the other, and a busy loop is never written to.
 */
bool loop_sleep(struct loop *l)
{
	atomic_store(&l->asleep, true);
	if (!loop_work_pending(l) && !atomic_load(&l->quit))
		return true;
	atomic_store_explicit(&l->asleep, false, memory_order_relaxed);
	return false;
}

void loop_awake(struct loop *l)
{
	atomic_store_explicit(&l->asleep, false, memory_order_relaxed);
}

void loop_wake(struct loop *l)
{
	static const uint64_t one = 1;

	/* The load keeps the line shared while the loop is busy. */
	if (!atomic_load(&l->asleep) || !atomic_exchange(&l->asleep, false))
		return;
	while (write(l->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static void wake_cb(struct loop_event *ev)
{
	/* The turn that this starts finds the work. */
}

void loop_touch(struct loop *l)
{
	if (l->embed_fd < 0 || l->in_turn || l->touched)
		return;
	l->touched = true;
	loop_wake(l);
}

void loop_quit(struct loop *l)
{
	atomic_store(&l->quit, true);
	loop_wake(l);
}

bool loop_quitting(const struct loop *l)
{
	return atomic_load_explicit(&l->quit, memory_order_relaxed);
}

bool loop_is_current(const struct loop *l)
{
	uintptr_t owner = atomic_load_explicit(&l->owner, memory_order_acquire);

	return !owner || owner == loop_self();
}

void loop_disown(struct loop *l)
{
	atomic_store_explicit(&l->owner, 0, memory_order_release);
}

/* ---- turns ---- */

static int loop_start(struct loop *l)
{
	uintptr_t self = loop_self();
	uintptr_t owner = atomic_load_explicit(&l->owner, memory_order_acquire);

	if (owner && owner != self)
		return -EPERM;
	if (!owner)
		atomic_store_explicit(&l->owner, self, memory_order_release);
	if (l->started)
		return 0;
	l->started = true;
	return l->eng->start(l);
}

static uint64_t loop_timeout(struct loop *l, uint64_t timeout_ns)
{
	uint64_t next = loop_timer_next(l), now;

	if (next == UINT64_MAX || !timeout_ns)
		return timeout_ns;
	now = clock_ns();
	return next <= now ? 0 : MIN(timeout_ns, next - now);
}

void loop_set_poll(struct loop *l, uint64_t max_ns, uint64_t grow, uint64_t shrink)
{
	l->poll_max_ns = max_ns;
	l->poll_grow = grow ? grow : POLL_GROW;
	l->poll_shrink = shrink;
	l->poll_ns = MIN(l->poll_ns, max_ns);
}

static void cpu_relax(void)
{
#ifdef __x86_64__
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* Spin until something is there. Returns true when it is. */
static bool loop_spin(struct loop *l, uint64_t start, uint64_t budget_ns)
{
	l->eng->flush(l);
	do {
		if (l->eng->ready(l) || loop_work_pending(l) ||
		    atomic_load_explicit(&l->quit, memory_order_relaxed))
			return true;
		cpu_relax();
	} while (clock_ns() - start < budget_ns);
	return false;
}

/* The wait took @took_ns: would a spin have caught it? */
static void loop_poll_adapt(struct loop *l, uint64_t took_ns)
{
	if (took_ns <= l->poll_ns)
		return;
	if (took_ns > l->poll_max_ns)
		l->poll_ns = l->poll_shrink ? l->poll_ns / l->poll_shrink : 0;
	else
		l->poll_ns = MIN(l->poll_max_ns, l->poll_ns ?
				 l->poll_ns * l->poll_grow : POLL_START_NS);
}

static int loop_wait(struct loop *l, uint64_t timeout_ns)
{
	uint64_t start;
	int r;

	if (!l->poll_max_ns || !timeout_ns)
		return l->eng->wait(l, timeout_ns);
	start = clock_ns();
	if (l->poll_ns && loop_spin(l, start, MIN(l->poll_ns, timeout_ns)))
		return l->eng->wait(l, 0);
	r = l->eng->wait(l, timeout_ns);
	loop_poll_adapt(l, clock_ns() - start);
	return r;
}

/* Between turns of an embedded loop everything must be able to wake its
 * client: hand over what is queued, arm the timer, count as asleep. */
static void loop_embed_arm(struct loop *l)
{
	uint64_t next = loop_timer_next(l);
	struct itimerspec its = { 0 };

	l->eng->flush(l);
	if (next != UINT64_MAX) {
		its.it_value.tv_sec = next / NS_PER_SEC;
		its.it_value.tv_nsec = MAX(next % NS_PER_SEC, 1ull);
	}
	timerfd_settime(l->embed_timer, TFD_TIMER_ABSTIME, &its, NULL);
	l->stats.syscalls++;
	l->touched = false;
	if (!loop_sleep(l)) {
		atomic_store(&l->asleep, true);
		loop_touch(l);
	}
}

int loop_turn(struct loop *l, uint64_t timeout_ns)
{
	int n, r = loop_start(l);

	if (r < 0)
		return r;
	assert(!l->in_turn);
	l->in_turn = true;
	loop_awake(l);
	l->stats.turns++;
	n = loop_wait(l, loop_work_pending(l) ? 0 : loop_timeout(l, timeout_ns));
	if (n >= 0) {
		n += loop_done_run(l);
		n += loop_timer_run(l);
		n += loop_work_run(l);
		n += loop_defer_run(l);
	}
	l->in_turn = false;
	if (l->embed_fd >= 0)
		loop_embed_arm(l);
	return n;
}

int loop_run(struct loop *l)
{
	int r = 0;

	while (!atomic_exchange(&l->quit, false) && r >= 0)
		r = loop_turn(l, UINT64_MAX);
	if (r < 0)
		log_err("event loop '%s' stopped: %s", l->name, strerror(-r));
	return MIN(r, 0);
}

static int embed_watch(struct loop *l, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN };

	if (fd < 0)
		return fd;
	return epoll_ctl(l->embed_fd, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

int loop_pollfd(struct loop *l)
{
	int r = 0;

	if (l->embed_fd >= 0)
		return l->embed_fd;
	if (l->started)
		return -EBUSY;
	l->embed_timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	l->embed_fd = epoll_create1(EPOLL_CLOEXEC);
	if (l->embed_timer < 0 || l->embed_fd < 0)
		r = -errno;
	if (r >= 0)
		r = embed_watch(l, l->embed_timer);
	if (r >= 0)
		r = embed_watch(l, l->eng->pollfd(l));
	if (r < 0) {
		fd_close(&l->embed_timer);
		fd_close(&l->embed_fd);
		return r;
	}
	return l->embed_fd;
}

/* ---- life ---- */

static int engine_init(struct loop *l, const struct loop_engine *eng, struct err *e)
{
	int r;

	l->eng = eng;
	r = eng->init(l, e);
	if (r < 0)
		eng->fini(l);
	return r;
}

/* io_uring where it is allowed; said once per process where it is not. */
static int engine_choose(struct loop *l, enum loop_aio aio, struct err *e)
{
	static _Atomic bool said;
	struct err why = ERR_INIT;

	if (aio == LOOP_AIO_THREADS)
		return engine_init(l, &loop_epoll_engine, e);
	if (aio == LOOP_AIO_URING)
		return engine_init(l, &loop_uring_engine, e);
	if (!engine_init(l, &loop_uring_engine, &why))
		return 0;
	if (!atomic_exchange(&said, true))
		log_info("%s; file I/O uses threads", why.text);
	return engine_init(l, &loop_epoll_engine, e);
}

int loop_create(struct loop **out, const char *name, enum loop_aio aio, struct err *e)
{
	struct loop *l = aligned_alloc(_Alignof(struct loop), sizeof(*l));
	int r;

	if (!l)
		return err_set(e, -ENOMEM, "event loop '%s': out of memory", name);
	memset(l, 0, sizeof(*l));
	l->name = xstrdup(name);
	l->slot_free = LOOP_NONE;
	l->deferred_tail = &l->deferred;
	l->embed_fd = l->embed_timer = -1;
	l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->wake_fd < 0) {
		r = err_sys(e, -errno, "event loop '%s': eventfd", name);
		goto fail;
	}
	r = engine_choose(l, aio, e);
	if (r < 0)
		goto fail;
	l->wake = (struct loop_event){ .fd = l->wake_fd, .cb = wake_cb };
	r = loop_event_add(l, &l->wake);
	if (r < 0) {
		err_sys(e, r, "event loop '%s': eventfd", name);
		goto fail;
	}
	*out = l;
	return 0;
fail:
	loop_destroy(l);
	return r;
}

void loop_destroy(struct loop *l)
{
	if (!l)
		return;
	if (l->io_active) {
		/* Storage that hangs: kernel or threads still use this memory. */
		log_warn("event loop '%s': %u file operations did not end; left behind",
			 l->name, l->io_active);
		return;
	}
	/* A few instructions of a thread whose work has run already. */
	while (atomic_load_explicit(&l->posting, memory_order_acquire))
		sched_yield();
	loop_pool_destroy(l);
	if (l->eng)
		l->eng->fini(l);
	fd_close(&l->embed_fd);
	fd_close(&l->embed_timer);
	fd_close(&l->wake_fd);
	free(l->slot);
	free(l->name);
	free(l);
}

const char *loop_name(const struct loop *l)
{
	return l->name;
}

enum loop_aio loop_aio(const struct loop *l)
{
	return l->eng->aio;
}

struct loop_stats loop_stats(const struct loop *l)
{
	return l->stats;
}

/*
 * vmm/loop/loop_epoll.c - the engine for hosts that forbid io_uring: epoll for
 * descriptors, the thread pool for file I/O.
 * Threads: the loop's.
 * Missing: nothing known.
 *
 * Eventfds are watched edge-triggered and never read, as in the other engine.
 * epoll refuses regular files, which are always ready: those slots are marked,
 * counted, and called in every turn.
 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/loop/loop_priv.h"

enum { EVENTS_PER_TURN = 64 };	/* the rest is reported in the next turn */

struct loop_epoll {
	int fd;
	int always;		/* slots that are always ready */
	bool ms_only;		/* no epoll_pwait2 (before 5.11) */
	bool peeked;		/* event[] holds @count from a spin */
	int count;
	struct epoll_event event[EVENTS_PER_TURN];
};

static int epoll_engine_init(struct loop *l, struct err *e)
{
	struct loop_epoll *p = calloc(1, sizeof(*p));

	l->epoll = p;
	if (!p)
		return err_set(e, -ENOMEM, "event loop '%s': out of memory", l->name);
	p->fd = epoll_create1(EPOLL_CLOEXEC);
	if (p->fd < 0)
		return err_sys(e, -errno, "event loop '%s': epoll", l->name);
	return 0;
}

static void epoll_engine_fini(struct loop *l)
{
	if (!l->epoll)
		return;
	fd_close(&l->epoll->fd);
	free(l->epoll);
	l->epoll = NULL;
}

static int epoll_start(struct loop *l)
{
	return 0;
}

/* ---- descriptors ---- */

static int slot_fd(const struct loop_slot *s)
{
	return s->kind == SLOT_FD ? ((const struct loop_fd *)s->src)->fd :
		((const struct loop_event *)s->src)->fd;
}

/* The events to ask epoll for; 0: none, not even POLLHUP. */
static uint32_t slot_events(const struct loop_slot *s)
{
	if (s->kind == SLOT_FD)
		return ((const struct loop_fd *)s->src)->events;
	return EPOLLIN | EPOLLET;
}

static void slot_set_always(struct loop *l, struct loop_slot *s, bool on)
{
	l->epoll->always += on - s->always;
	s->always = on;
}

/*
 * Take the slot out. Its descriptor may be closed already: then the kernel has
 * done so itself, unless a duplicate lives, whose events name a generation
 * that is gone.
 */
static void slot_disarm(struct loop *l, struct loop_slot *s)
{
	if (s->armed) {
		epoll_ctl(l->epoll->fd, EPOLL_CTL_DEL, (int)s->next, NULL);
		l->stats.syscalls++;
		s->armed = false;
		s->gen++;
	}
	slot_set_always(l, s, false);
}

/* While armed, the slot's list link holds the descriptor it was armed with. */
static int slot_arm(struct loop *l, struct loop_slot *s, uint32_t i, uint32_t events)
{
	struct epoll_event ev = { .events = events };
	int fd = slot_fd(s);
	int op = s->armed ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

	ev.data.u64 = (uint64_t)s->gen << 32 | i;
	l->stats.syscalls++;
	if (epoll_ctl(l->epoll->fd, op, fd, &ev) < 0) {
		if (errno != EPERM)
			return -errno;
		slot_set_always(l, s, true);
		return 0;
	}
	s->armed = true;
	s->next = (uint32_t)fd;
	return 0;
}

static int epoll_update(struct loop *l, uint32_t i)
{
	struct loop_slot *s = &l->slot[i];
	uint32_t events;

	if (s->kind == SLOT_DEAD) {
		slot_disarm(l, s);
		loop_slot_free(l, i);
		return 0;
	}
	events = slot_events(s);
	if (events)
		return slot_arm(l, s, i, events);
	slot_disarm(l, s);
	return 0;
}

/* ---- waiting ---- */

static int wait_call(struct loop *l, uint64_t timeout_ns)
{
	struct loop_epoll *p = l->epoll;
	struct timespec ts = {
		.tv_sec = (time_t)(timeout_ns / NS_PER_SEC),
		.tv_nsec = (long)(timeout_ns % NS_PER_SEC),
	};
	uint64_t ms = timeout_ns / NS_PER_MS;
	int n;

	if (!p->ms_only) {
		l->stats.syscalls++;
		n = epoll_pwait2(p->fd, p->event, EVENTS_PER_TURN,
				 timeout_ns == UINT64_MAX ? NULL : &ts, NULL);
		if (n >= 0 || errno != ENOSYS)
			return n < 0 ? -errno : n;
		p->ms_only = true;
	}
	if (timeout_ns % NS_PER_MS)
		ms++;		/* never wake before a timer is due */
	l->stats.syscalls++;
	n = epoll_wait(p->fd, p->event, EVENTS_PER_TURN,
		       timeout_ns == UINT64_MAX ? -1 : (int)MIN(ms, 3600000ull));
	return n < 0 ? -errno : n;
}

static int dispatch(struct loop *l, const struct epoll_event *ev)
{
	struct loop_slot *s = loop_slot_get(l, (uint32_t)ev->data.u64,
					    (uint32_t)(ev->data.u64 >> 32));

	if (!s)
		return 0;	/* removed or changed in this turn */
	if (s->kind == SLOT_FD)
		loop_dispatch_fd(l, s, ev->events);
	else
		loop_dispatch_event(l, s);
	return 1;
}

static int dispatch_always(struct loop *l)
{
	uint32_t i, count = l->slot_count;
	int n = 0;

	for (i = 0; i < count && l->epoll->always; i++) {
		struct loop_slot *s = &l->slot[i];

		if (s->kind != SLOT_FD || !s->always)
			continue;
		loop_dispatch_fd(l, s, slot_events(s) & (POLLIN | POLLOUT));
		n++;
	}
	return n;
}

static void epoll_flush(struct loop *l)
{
	static const uint64_t one = 1;
	struct loop_signal *s;

	while ((s = l->signals)) {
		l->signals = s->next;
		s->queued = false;
		l->stats.syscalls++;
		(void)!write(s->fd, &one, sizeof(one));
	}
}

static bool epoll_ready(struct loop *l)
{
	struct loop_epoll *p = l->epoll;

	if (!p->peeked) {
		p->count = wait_call(l, 0);
		p->peeked = p->count > 0;
	}
	return p->peeked || p->always;
}

static int epoll_wait_turn(struct loop *l, uint64_t timeout_ns)
{
	struct loop_epoll *p = l->epoll;
	int i, count, n = 0;

	epoll_flush(l);
	if (p->always || p->peeked || (timeout_ns && !loop_sleep(l)))
		timeout_ns = 0;
	count = p->peeked ? p->count : wait_call(l, timeout_ns);
	loop_awake(l);
	p->peeked = false;
	if (count < 0)
		return count == -EINTR ? 0 : count;
	for (i = 0; i < count; i++)
		n += dispatch(l, &p->event[i]);
	return p->always ? n + dispatch_always(l) : n;
}

/* ---- file I/O ---- */

static void epoll_io_cancel(struct loop *l, struct loop_io *io)
{
	loop_pool_cancel(l, io);
}

static int epoll_pollfd(struct loop *l)
{
	return l->epoll->fd;
}

const struct loop_engine loop_epoll_engine = {
	.aio = LOOP_AIO_THREADS,
	.init = epoll_engine_init, .fini = epoll_engine_fini, .start = epoll_start,
	.wait = epoll_wait_turn, .flush = epoll_flush, .ready = epoll_ready,
	.update = epoll_update,
	.io_submit = loop_pool_submit, .io_cancel = epoll_io_cancel,
	.pollfd = epoll_pollfd,
};

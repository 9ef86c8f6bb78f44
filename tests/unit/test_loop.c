/*
 * tests/unit/test_loop.c - the event loop, each case on both engines.
 * Threads: some cases post from threads of their own; TSAN runs them too.
 * Missing: kernels older than the one the tests run on.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/loop/iothread.h"
#include "vmm/loop/loop.h"

#define MS	NS_PER_MS

/* One case, two tests: the io_uring engine and the epoll engine. */
#define BOTH(name)							\
	static void name(struct loop *l);				\
	Test(loop, test_loop_##name##_uring)				\
	{								\
		run_case(name, LOOP_AIO_URING);				\
	}								\
	Test(loop, test_loop_##name##_threads)				\
	{								\
		run_case(name, LOOP_AIO_THREADS);			\
	}								\
	static void name(struct loop *l)

static void run_case(void (*fn)(struct loop *), enum loop_aio aio)
{
	struct err e = ERR_INIT;
	struct loop *l;

	if (loop_create(&l, "test", aio, &e) < 0)
		cr_skip_test("%s", e.text);
	cr_assert_eq(loop_aio(l), aio);
	fn(l);
	loop_destroy(l);
}

static void turn_until(struct loop *l, const int *count, int want)
{
	uint64_t end = clock_ns() + 20000 * MS;

	while (*count < want && clock_ns() < end)
		cr_assert_geq(loop_turn(l, 100 * MS), 0);
	cr_assert_eq(*count, want, "%d, not %d", *count, want);
}

static void turn_idle(struct loop *l, int turns)
{
	while (turns--)
		cr_assert_geq(loop_turn(l, 0), 0);
}

/* ---- timers ---- */

static char fired[64];
static int fired_n;

struct mark_timer {
	struct loop_timer t;
	char mark;
	struct loop_timer *rearm, *cancel;
};

static void mark_cb(struct loop_timer *t)
{
	struct mark_timer *m = (struct mark_timer *)t;

	fired[fired_n++] = m->mark;
	if (m->rearm)
		loop_timer_arm(m->rearm, 1);
	if (m->cancel)
		loop_timer_cancel(m->cancel);
}

BOTH(timers_fire_by_deadline_then_by_arming)
{
	static const uint64_t when[] = { 50, 10, 30, 10, 40, 20, 10, 60 };
	struct mark_timer t[8] = { 0 };
	size_t i;

	for (i = 0; i < ARRAY_LEN(t); i++) {
		loop_timer_init(l, &t[i].t, mark_cb, NULL);
		t[i].mark = (char)('a' + i);
		loop_timer_arm(&t[i].t, when[i]);
	}
	loop_timer_cancel(&t[2].t);
	loop_timer_arm(&t[7].t, 5);
	cr_assert_eq(loop_turn(l, UINT64_MAX), 7);
	cr_assert_str_eq(fired, "hbdgfea");
}

BOTH(timer_cancels_another_that_expired)
{
	struct mark_timer a = { .mark = 'a' }, b = { .mark = 'b' };

	loop_timer_init(l, &a.t, mark_cb, NULL);
	loop_timer_init(l, &b.t, mark_cb, NULL);
	a.cancel = &b.t;
	loop_timer_arm(&a.t, 1);
	loop_timer_arm(&b.t, 2);
	turn_idle(l, 2);
	cr_assert_str_eq(fired, "a");
}

BOTH(timer_rearming_in_the_past_leaves_the_turn)
{
	struct mark_timer a = { .mark = 'a' };

	loop_timer_init(l, &a.t, mark_cb, NULL);
	a.rearm = &a.t;
	loop_timer_arm(&a.t, 1);
	turn_idle(l, 3);
	cr_assert_str_eq(fired, "aaa");
	loop_timer_cancel(&a.t);
}

BOTH(timer_ends_a_sleep_not_early)
{
	struct mark_timer a = { .mark = 'a' };
	uint64_t due = clock_ns() + 5 * MS + 300000;

	loop_timer_init(l, &a.t, mark_cb, NULL);
	loop_timer_arm(&a.t, due);
	turn_until(l, &fired_n, 1);
	cr_assert_geq(clock_ns(), due);
}

/* Thousands in pseudo-random order, a third cancelled: the heap stays a heap. */
struct order_timer {
	struct loop_timer t;
};
static uint64_t order_last;
static int order_n;

static void order_cb(struct loop_timer *t)
{
	cr_assert_geq(t->deadline_ns, order_last);
	order_last = t->deadline_ns;
	order_n++;
}

BOTH(timers_many_fire_in_order)
{
	static struct order_timer t[3000];
	uint32_t x = 12345;
	size_t i;

	for (i = 0; i < ARRAY_LEN(t); i++) {
		x = x * 1664525 + 1013904223;
		loop_timer_init(l, &t[i].t, order_cb, NULL);
		loop_timer_arm(&t[i].t, 1 + x % 1000);
	}
	for (i = 0; i < ARRAY_LEN(t); i += 3)
		loop_timer_cancel(&t[i].t);
	turn_idle(l, 1);
	cr_assert_eq(order_n, 2000);
}

/* ---- posted and deferred work ---- */

enum { POSTERS = 4, POSTS = 2000 };

struct count_work {
	struct loop_work w;
	int *count;
};

static void count_cb(struct loop_work *w)
{
	(*((struct count_work *)w)->count)++;
}

struct poster {
	struct loop *l;
	struct count_work w[POSTS];
};

static void *poster_main(void *arg)
{
	struct poster *p = arg;
	int i;

	for (i = 0; i < POSTS; i++)
		loop_post(p->l, &p->w[i].w);
	return NULL;
}

BOTH(posts_of_many_threads_all_run)
{
	static struct poster p[POSTERS];
	pthread_t t[POSTERS];
	int i, k, count = 0;

	for (i = 0; i < POSTERS; i++) {
		p[i].l = l;
		for (k = 0; k < POSTS; k++)
			p[i].w[k] = (struct count_work){ { .cb = count_cb }, &count };
	}
	loop_turn(l, 0);
	for (i = 0; i < POSTERS; i++)
		pthread_create(&t[i], NULL, poster_main, &p[i]);
	turn_until(l, &count, POSTERS * POSTS);
	for (i = 0; i < POSTERS; i++)
		pthread_join(t[i], NULL);
}

static struct loop_work *seen[8];
static int seen_n;

static void seen_cb(struct loop_work *w)
{
	seen[seen_n++] = w;
}

BOTH(post_keeps_order_and_takes_a_struct_once)
{
	struct loop_work a = { .cb = seen_cb }, b = { .cb = seen_cb };

	cr_assert(loop_post(l, &a));
	cr_assert(loop_post(l, &b));
	cr_assert_not(loop_post(l, &a));
	turn_idle(l, 1);
	cr_assert_eq(seen_n, 2);
	cr_assert_eq(seen[0], &a);
	cr_assert_eq(seen[1], &b);
	cr_assert(loop_post(l, &a));
	turn_idle(l, 1);
	cr_assert_eq(seen_n, 3);
}

struct again_work {
	struct loop_work w;
	struct loop *l;
	int runs;
};

static void again_cb(struct loop_work *w)
{
	struct again_work *a = (struct again_work *)w;

	a->runs++;
	loop_defer(a->l, w);
}

BOTH(defer_from_deferred_work_waits_for_the_next_turn)
{
	struct again_work a = { { .cb = again_cb }, l, 0 };

	loop_turn(l, 0);
	loop_defer(l, &a.w);
	cr_assert_eq(loop_turn(l, UINT64_MAX), 1);
	cr_assert_eq(loop_turn(l, UINT64_MAX), 1);
	cr_assert_eq(a.runs, 2);
}

static void set_flag(void *arg)
{
	*(pthread_t *)arg = pthread_self();
}

Test(loop, test_loop_call_runs_on_the_iothread)
{
	struct err e = ERR_INIT;
	struct iothread *t;
	pthread_t who = pthread_self();

	cr_assert_eq(iothread_create(&t, "io0", NULL, LOOP_AIO_AUTO, &e), 0, "%s", e.text);
	cr_assert_gt(iothread_tid(t), 0);
	cr_assert_str_eq(iothread_id(t), "io0");
	loop_call(iothread_loop(t), set_flag, &who);
	cr_assert_not(pthread_equal(who, pthread_self()));
	iothread_destroy(t);
}

Test(loop, test_loop_call_without_a_thread_is_direct)
{
	pthread_t who;
	struct loop *l;

	cr_assert_eq(loop_create(&l, "test", LOOP_AIO_AUTO, NULL), 0);
	loop_call(l, set_flag, &who);
	cr_assert(pthread_equal(who, pthread_self()));
	loop_destroy(l);
}

Test(loop, test_iothread_bad_property_is_named)
{
	json_t *args = json_pack("{s:s, s:s}", "id", "io0", "poll-max-ns", "many");
	struct err e = ERR_INIT;
	struct iothread *t;

	cr_assert_lt(iothread_create(&t, "io0", args, LOOP_AIO_AUTO, &e), 0);
	cr_assert_not_null(strstr(e.text, "iothread 'io0'"));
	cr_assert_not_null(strstr(e.text, "poll-max-ns"));
	json_decref(args);
}

Test(loop, test_iothread_that_spins_serves_posts)
{
	json_t *args = json_pack("{s:i}", "poll-max-ns", 200000);
	struct err e = ERR_INIT;
	struct iothread *t;
	pthread_t who;
	int i;

	cr_assert_eq(iothread_create(&t, "io0", args, LOOP_AIO_AUTO, &e), 0, "%s", e.text);
	for (i = 0; i < 1000; i++)
		loop_call(iothread_loop(t), set_flag, &who);
	iothread_destroy(t);
	json_decref(args);
}

Test(loop, test_loop_turn_on_a_second_thread_is_refused)
{
	struct err e = ERR_INIT;
	struct iothread *t;
	pthread_t who;

	cr_assert_eq(iothread_create(&t, "io0", NULL, LOOP_AIO_AUTO, &e), 0);
	loop_call(iothread_loop(t), set_flag, &who);
	cr_assert_eq(loop_turn(iothread_loop(t), 0), -EPERM);
	cr_assert_not(loop_is_current(iothread_loop(t)));
	iothread_destroy(t);
}

/* ---- descriptors ---- */

struct count_fd {
	struct loop_fd w;
	int count;
	uint32_t revents;
	struct loop_fd *kill[2];
	struct loop *add_to;
	struct loop_fd *add;
};

static void count_fd_cb(struct loop_fd *w, uint32_t revents)
{
	struct count_fd *c = (struct count_fd *)w;

	c->count++;
	c->revents = revents;
	if (c->kill[0])
		loop_fd_del(c->kill[0]);
	if (c->kill[1])
		loop_fd_del(c->kill[1]);
	if (c->add)
		cr_assert_eq(loop_fd_add(c->add_to, c->add), 0);
	c->add = NULL;
}

static void pair(int fd[2])
{
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
}

BOTH(fd_is_level_triggered_until_read)
{
	struct count_fd c = { 0 };
	char buf[8];
	int fd[2];

	pair(fd);
	c.w = (struct loop_fd){ .fd = fd[0], .events = POLLIN, .cb = count_fd_cb };
	cr_assert_eq(loop_fd_add(l, &c.w), 0);
	turn_idle(l, 2);
	cr_assert_eq(c.count, 0);
	cr_assert_eq(write(fd[1], "x", 1), 1);
	turn_until(l, &c.count, 3);
	cr_assert_eq(c.revents, POLLIN);
	cr_assert_eq(read(fd[0], buf, sizeof(buf)), 1);
	c.count = 0;
	turn_idle(l, 3);
	cr_assert_leq(c.count, 1);	/* one may have been under way */
	loop_fd_del(&c.w);
	close(fd[0]);
	close(fd[1]);
}

BOTH(fd_paused_stays_silent_until_resumed)
{
	struct count_fd c = { 0 };
	int fd[2];

	pair(fd);
	c.w = (struct loop_fd){ .fd = fd[0], .events = POLLIN, .cb = count_fd_cb };
	cr_assert_eq(loop_fd_add(l, &c.w), 0);
	loop_fd_mod(&c.w, 0);
	close(fd[1]);		/* even a hang-up */
	turn_idle(l, 3);
	cr_assert_eq(c.count, 0);
	loop_fd_mod(&c.w, POLLIN);
	turn_until(l, &c.count, 1);
	cr_assert(c.revents & POLLHUP);
	loop_fd_del(&c.w);
	close(fd[0]);
}

BOTH(fd_events_change_while_armed)
{
	struct count_fd c = { 0 };
	int fd[2];

	pair(fd);
	c.w = (struct loop_fd){ .fd = fd[0], .events = POLLIN, .cb = count_fd_cb };
	cr_assert_eq(loop_fd_add(l, &c.w), 0);
	turn_idle(l, 2);
	loop_fd_mod(&c.w, POLLOUT);
	turn_until(l, &c.count, 1);
	cr_assert_eq(c.revents, POLLOUT);
	loop_fd_del(&c.w);
	close(fd[0]);
	close(fd[1]);
}

/* Three are ready in one batch; whichever comes first removes the others. */
BOTH(fd_removed_in_the_same_batch_is_not_called)
{
	struct count_fd c[3] = { 0 };
	int fd[3][2], i;

	for (i = 0; i < 3; i++) {
		pair(fd[i]);
		cr_assert_eq(write(fd[i][1], "x", 1), 1);
		c[i].w = (struct loop_fd){ .fd = fd[i][0], .events = POLLIN, .cb = count_fd_cb };
		c[i].kill[0] = &c[(i + 1) % 3].w;
		c[i].kill[1] = &c[(i + 2) % 3].w;
		cr_assert_eq(loop_fd_add(l, &c[i].w), 0);
	}
	turn_idle(l, 1);
	cr_assert_eq(c[0].count + c[1].count + c[2].count, 1);
	for (i = 0; i < 3; i++) {
		loop_fd_del(&c[i].w);
		close(fd[i][0]);
		close(fd[i][1]);
	}
}

BOTH(fd_removing_itself_and_adding_another_reuses_the_slot_safely)
{
	struct count_fd a = { 0 }, b = { 0 };
	int fd[2], other[2];

	pair(fd);
	pair(other);
	a.w = (struct loop_fd){ .fd = fd[0], .events = POLLOUT, .cb = count_fd_cb };
	b.w = (struct loop_fd){ .fd = other[0], .events = POLLIN, .cb = count_fd_cb };
	a.kill[0] = &a.w;
	a.add_to = l;
	a.add = &b.w;
	cr_assert_eq(loop_fd_add(l, &a.w), 0);
	turn_until(l, &a.count, 1);
	turn_idle(l, 3);
	cr_assert_eq(a.count, 1);
	cr_assert_eq(b.count, 0);
	cr_assert_eq(write(other[1], "x", 1), 1);
	turn_until(l, &b.count, 1);
	loop_fd_del(&b.w);
}

/* The number is used again for another file while the old watch was armed. */
BOTH(fd_number_reused_late_completion_is_dropped)
{
	struct count_fd a = { 0 }, b = { 0 };
	int fd[2], other[2];

	pair(fd);
	a.w = (struct loop_fd){ .fd = fd[0], .events = POLLIN, .cb = count_fd_cb };
	cr_assert_eq(loop_fd_add(l, &a.w), 0);
	turn_idle(l, 1);
	cr_assert_eq(write(fd[1], "x", 1), 1);	/* now under way */
	loop_fd_del(&a.w);
	close(fd[0]);
	pair(other);
	cr_assert_eq(other[0], fd[0]);
	b.w = (struct loop_fd){ .fd = other[0], .events = POLLIN, .cb = count_fd_cb };
	cr_assert_eq(loop_fd_add(l, &b.w), 0);
	turn_idle(l, 4);
	cr_assert_eq(a.count, 0);
	cr_assert_eq(b.count, 0);
	loop_fd_del(&b.w);
}

BOTH(fd_of_a_regular_file_is_always_ready)
{
	char path[] = "/tmp/roost-loop-XXXXXX";
	struct count_fd c = { 0 };
	int fd = mkstemp(path);

	unlink(path);
	c.w = (struct loop_fd){ .fd = fd, .events = POLLIN, .cb = count_fd_cb };
	cr_assert_eq(loop_fd_add(l, &c.w), 0);
	turn_until(l, &c.count, 3);
	loop_fd_mod(&c.w, 0);
	turn_idle(l, 2);
	c.count = 0;
	turn_idle(l, 2);
	cr_assert_eq(c.count, 0);
	loop_fd_del(&c.w);
	close(fd);
}

BOTH(fd_lock_is_held_around_the_callback)
{
	pthread_mutex_t lock;
	pthread_mutexattr_t a;
	struct count_fd c = { 0 };
	int fd[2];

	pthread_mutexattr_init(&a);
	pthread_mutexattr_settype(&a, PTHREAD_MUTEX_ERRORCHECK);
	pthread_mutex_init(&lock, &a);
	pair(fd);
	c.w = (struct loop_fd){ .fd = fd[0], .events = POLLOUT, .cb = count_fd_cb,
				.lock = &lock };
	c.kill[0] = &c.w;
	cr_assert_eq(loop_fd_add(l, &c.w), 0);
	turn_until(l, &c.count, 1);
	cr_assert_eq(pthread_mutex_lock(&lock), 0);	/* was released again */
	pthread_mutex_unlock(&lock);
}

BOTH(fd_many_sources_are_all_served)
{
	static struct count_fd c[200];
	int fd[2], i, total = 0;

	pair(fd);
	for (i = 0; i < 200; i++) {
		int one = dup(fd[0]);

		c[i].w = (struct loop_fd){ .fd = one, .events = POLLOUT, .cb = count_fd_cb };
		c[i].kill[0] = &c[i].w;
		cr_assert_eq(loop_fd_add(l, &c[i].w), 0);
	}
	turn_idle(l, 8);
	for (i = 0; i < 200; i++)
		total += c[i].count;
	cr_assert_eq(total, 200);
}

/* ---- eventfds ---- */

struct count_event {
	struct loop_event ev;
	int count;
};

static void count_event_cb(struct loop_event *ev)
{
	((struct count_event *)ev)->count++;
}

static void kick(int fd)
{
	uint64_t one = 1;

	cr_assert_eq(write(fd, &one, sizeof(one)), 8);
}

BOTH(event_batches_signals_and_never_misses_one)
{
	struct count_event c = { .ev.cb = count_event_cb };
	int i, want;

	c.ev.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	cr_assert_eq(loop_event_add(l, &c.ev), 0);
	turn_idle(l, 2);
	cr_assert_eq(c.count, 0);
	for (i = 0; i < 100; i++) {
		want = c.count + 1;
		kick(c.ev.fd);
		turn_until(l, &c.count, want);
	}
	for (i = 0; i < 50; i++)
		kick(c.ev.fd);
	turn_idle(l, 3);
	cr_assert_gt(c.count, 100);
	cr_assert_leq(c.count, 103);
	loop_event_del(&c.ev);
	want = c.count;
	kick(c.ev.fd);
	turn_idle(l, 2);
	cr_assert_eq(c.count, want);
	close(c.ev.fd);
}

BOTH(event_blocking_eventfd_works_too)
{
	struct count_event c = { .ev.cb = count_event_cb };

	c.ev.fd = eventfd(0, EFD_CLOEXEC);
	cr_assert_eq(loop_event_add(l, &c.ev), 0);
	kick(c.ev.fd);
	turn_until(l, &c.count, 1);
	kick(c.ev.fd);
	turn_until(l, &c.count, 2);
	loop_event_del(&c.ev);
	close(c.ev.fd);
}

struct sem_event {
	struct loop_event ev;
	sem_t seen;
};

static void sem_event_cb(struct loop_event *ev)
{
	sem_post(&((struct sem_event *)ev)->seen);
}

struct event_call {
	struct loop *l;
	struct sem_event *s;
};

static void event_call_add(void *arg)
{
	struct event_call *c = arg;

	cr_assert_eq(loop_event_add(c->l, &c->s->ev), 0);
}

static void event_call_del(void *arg)
{
	struct event_call *c = arg;

	loop_event_del(&c->s->ev);
}

/* A kick from another thread always reaches an iothread, asleep or not. */
static void kick_iothread(enum loop_aio aio, uint64_t poll_ns)
{
	struct sem_event s = { .ev.cb = sem_event_cb };
	json_t *args = json_pack("{s:I}", "poll-max-ns", (json_int_t)poll_ns);
	struct event_call c = { .s = &s };
	struct err e = ERR_INIT;
	struct iothread *t;
	int i;

	if (iothread_create(&t, "k", args, aio, &e) < 0)
		cr_skip_test("%s", e.text);
	sem_init(&s.seen, 0, 0);
	s.ev.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	c.l = iothread_loop(t);
	loop_call(c.l, event_call_add, &c);
	for (i = 0; i < 2000; i++) {
		kick(s.ev.fd);
		while (sem_wait(&s.seen) < 0)
			;
	}
	loop_call(c.l, event_call_del, &c);
	iothread_destroy(t);
	close(s.ev.fd);
	json_decref(args);
}

Test(loop, test_loop_kicks_reach_an_iothread_uring)
{
	kick_iothread(LOOP_AIO_URING, 0);
}

Test(loop, test_loop_kicks_reach_an_iothread_threads)
{
	kick_iothread(LOOP_AIO_THREADS, 0);
}

Test(loop, test_loop_kicks_reach_a_spinning_iothread_uring)
{
	kick_iothread(LOOP_AIO_URING, 50000);
}

Test(loop, test_loop_kicks_reach_a_spinning_iothread_threads)
{
	kick_iothread(LOOP_AIO_THREADS, 50000);
}

BOTH(signal_is_raised_once_by_the_end_of_the_turn)
{
	struct loop_signal s = { .fd = eventfd(0, EFD_NONBLOCK) };
	struct loop_signal gone = { .fd = eventfd(0, EFD_NONBLOCK) };
	uint64_t v = 0;

	loop_signal_raise(l, &s);
	loop_signal_raise(l, &gone);
	loop_signal_raise(l, &s);
	loop_signal_drop(l, &gone);
	turn_idle(l, 1);
	cr_assert_eq(read(s.fd, &v, sizeof(v)), 8);
	cr_assert_eq(v, 1);
	cr_assert_lt(read(gone.fd, &v, sizeof(v)), 0);
	loop_signal_raise(l, &s);
	turn_idle(l, 1);
	cr_assert_eq(read(s.fd, &v, sizeof(v)), 8);
	close(s.fd);
	close(gone.fd);
}

/* ---- file I/O ---- */

struct test_io {
	struct loop_io io;
	struct iovec iov[2];
	char buf[64];
	int *count;
};

static void io_cb(struct loop_io *io)
{
	(*((struct test_io *)io)->count)++;
}

static int scratch(void)
{
	char path[] = "/tmp/roost-loop-XXXXXX";
	int fd = mkstemp(path);

	cr_assert_geq(fd, 0);
	unlink(path);
	return fd;
}

static void io_set(struct test_io *t, enum loop_io_op op, int fd, uint64_t off,
		   size_t len, int *count)
{
	*t = (struct test_io){ .count = count };
	t->iov[0] = (struct iovec){ t->buf, len / 2 };
	t->iov[1] = (struct iovec){ t->buf + len / 2, len - len / 2 };
	t->io = (struct loop_io){ .op = op, .fd = fd, .iov = t->iov, .iovcnt = 2,
				  .off = off, .cb = io_cb };
}

BOTH(io_writes_and_reads_back)
{
	struct test_io w, r, s, f;
	int count = 0, fd = scratch();

	io_set(&w, LOOP_IO_WRITEV, fd, 4096, 11, &count);
	memcpy(w.buf, "hello world", 11);
	w.io.flags = LOOP_IO_DSYNC;
	loop_io_submit(l, &w.io);
	cr_assert_eq(count, 0);
	turn_until(l, &count, 1);
	cr_assert_eq(w.io.res, 11);

	io_set(&r, LOOP_IO_READV, fd, 4096, 64, &count);
	io_set(&s, LOOP_IO_FSYNC, fd, 0, 0, &count);
	s.io.flags = LOOP_IO_DATASYNC;
	io_set(&f, LOOP_IO_FALLOCATE, fd, 8192, 0, &count);
	f.io.len = 4096;
	loop_io_submit(l, &r.io);
	loop_io_submit(l, &s.io);
	loop_io_submit(l, &f.io);
	turn_until(l, &count, 4);
	cr_assert_geq(r.io.res, 11);
	cr_assert_arr_eq(r.buf, "hello world", 11);
	cr_assert_eq(s.io.res, 0);
	cr_assert_eq(f.io.res, 0);
	cr_assert_eq(lseek(fd, 0, SEEK_END), 12288);
	close(fd);
}

BOTH(io_single_buffer_and_file_position)
{
	struct test_io a, b;
	int count = 0, fd = scratch();
	char buf[8] = "";

	io_set(&a, LOOP_IO_WRITEV, fd, LOOP_IO_POS, 3, &count);
	io_set(&b, LOOP_IO_WRITEV, fd, LOOP_IO_POS, 3, &count);
	a.iov[0] = (struct iovec){ "abc", 3 };
	b.iov[0] = (struct iovec){ "def", 3 };
	a.io.iovcnt = b.io.iovcnt = 1;
	loop_io_submit(l, &a.io);
	turn_until(l, &count, 1);
	loop_io_submit(l, &b.io);
	turn_until(l, &count, 2);
	cr_assert_eq(pread(fd, buf, sizeof(buf), 0), 6);
	cr_assert_str_eq(buf, "abcdef");
	close(fd);
}

BOTH(io_error_is_the_kernels)
{
	struct test_io r;
	int count = 0;

	io_set(&r, LOOP_IO_READV, -1, 0, 8, &count);
	loop_io_submit(l, &r.io);
	turn_until(l, &count, 1);
	cr_assert_eq(r.io.res, -EBADF);
}

BOTH(io_ioctl_on_a_regular_file_is_refused)
{
	struct test_io r;
	int count = 0, fd = scratch();

	io_set(&r, LOOP_IO_IOCTL_RANGE, fd, 0, 0, &count);
	r.io.cmd = 0x1277;	/* BLKDISCARD */
	r.io.len = 512;
	loop_io_submit(l, &r.io);
	turn_until(l, &count, 1);
	cr_assert_eq(r.io.res, -ENOTTY);
	close(fd);
}

enum { MANY = 10000 };

/* More than the rings hold, in one turn; each completes once and right. */
BOTH(io_ten_thousand_at_once_complete)
{
	static struct test_io io[MANY];
	int i, count = 0, fd = scratch();
	char buf[8];

	for (i = 0; i < MANY; i++) {
		io_set(&io[i], LOOP_IO_WRITEV, fd, (uint64_t)i * 8, 8, &count);
		snprintf(io[i].buf, sizeof(io[i].buf), "%07d", i);
		loop_io_submit(l, &io[i].io);
	}
	turn_until(l, &count, MANY);
	for (i = 0; i < MANY; i++)
		cr_assert_eq(io[i].io.res, 8);
	for (i = 0; i < MANY; i += 999) {
		cr_assert_eq(pread(fd, buf, 8, i * 8), 8);
		cr_assert_eq(atoi(buf), i);
	}
	cr_assert_eq(loop_stats(l).ios, MANY);
	close(fd);
}

BOTH(io_cancelled_before_the_turn_ends_never_reaches_the_file)
{
	static struct test_io io[64];
	int i, count = 0, fd = scratch();

	for (i = 0; i < 64; i++) {
		io_set(&io[i], LOOP_IO_WRITEV, fd, 0, 8, &count);
		loop_io_submit(l, &io[i].io);
	}
	for (i = 0; i < 64; i++)
		loop_io_cancel(&io[i].io);
	loop_io_cancel(&io[0].io);	/* twice is once */
	turn_until(l, &count, 64);
	for (i = 0; i < 64; i++)
		cr_assert(io[i].io.res == -ECANCELED || io[i].io.res == 8);
	loop_io_cancel(&io[0].io);	/* idle: nothing */
	turn_idle(l, 2);
	cr_assert_eq(count, 64);
	close(fd);
}

/* io_uring cancels a read of an empty pipe that would never end; a pool thread
 * is stuck in it until the peer acts, so this one is for one engine. */
Test(loop, test_loop_io_in_flight_is_cancelled_uring)
{
	struct test_io r;
	struct loop *l;
	int p[2], count = 0;

	if (loop_create(&l, "test", LOOP_AIO_URING, NULL) < 0)
		cr_skip_test("no io_uring here");
	cr_assert_eq(pipe(p), 0);
	io_set(&r, LOOP_IO_READV, p[0], LOOP_IO_POS, 8, &count);
	loop_io_submit(l, &r.io);
	turn_idle(l, 3);
	cr_assert_eq(count, 0);
	loop_io_cancel(&r.io);
	turn_until(l, &count, 1);
	cr_assert_eq(r.io.res, -ECANCELED);
	loop_destroy(l);
}

struct chain_io {
	struct test_io t;
	struct loop *l;
	int left;
};

static void chain_cb(struct loop_io *io)
{
	struct chain_io *c = (struct chain_io *)io;

	(*c->t.count)++;
	if (--c->left)
		loop_io_submit(c->l, io);
}

BOTH(io_resubmitted_from_its_callback_works)
{
	struct chain_io c;
	int count = 0, fd = scratch();

	io_set(&c.t, LOOP_IO_WRITEV, fd, 0, 8, &count);
	c.t.io.cb = chain_cb;
	c.l = l;
	c.left = 100;
	loop_io_submit(l, &c.t.io);
	turn_until(l, &count, 100);
	close(fd);
}

/* ---- which engine ---- */

static void forbid_io_uring(int error)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { ARRAY_LEN(f), f };

	cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	cr_assert_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog), 0);
}

static int lines;
static char last_line[256];

static void count_lines(enum log_level level, const char *line, void *arg)
{
	lines++;
	snprintf(last_line, sizeof(last_line), "%s", line);
}

static void check_fallback(int error, const char *text)
{
	struct err e = ERR_INIT;
	struct loop *l, *m;

	log_set_sink(count_lines, NULL);
	forbid_io_uring(error);
	cr_assert_eq(loop_create(&l, "a", LOOP_AIO_AUTO, &e), 0, "%s", e.text);
	cr_assert_eq(loop_create(&m, "b", LOOP_AIO_AUTO, &e), 0, "%s", e.text);
	cr_assert_eq(loop_aio(l), LOOP_AIO_THREADS);
	cr_assert_eq(lines, 1);
	cr_assert_not_null(strstr(last_line, text), "%s", last_line);
	loop_destroy(m);
	cr_assert_eq(loop_create(&m, "c", LOOP_AIO_URING, &e), -error);
	cr_assert_not_null(strstr(e.text, "io_uring"), "%s", e.text);
	loop_destroy(l);
}

Test(loop, test_loop_auto_with_io_uring_forbidden_says_so_once)
{
	check_fallback(EPERM, "forbidden");
}

Test(loop, test_loop_auto_without_io_uring_in_the_kernel_says_so_once)
{
	check_fallback(ENOSYS, "has no io_uring");
}

Test(loop, test_loop_auto_without_locked_memory_says_so_once)
{
	check_fallback(ENOMEM, "cannot be used");
}

/* ---- life and embedding ---- */

static void quit_cb(struct loop_timer *t)
{
	loop_quit(t->loop);
}

BOTH(run_ends_at_quit)
{
	struct loop_timer t;

	loop_timer_init(l, &t, quit_cb, NULL);
	loop_timer_arm(&t, 1);
	cr_assert_eq(loop_run(l), 0);
	loop_quit(l);
	cr_assert_eq(loop_run(l), 0);	/* asked before it ran */
}

static int readable(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms);
}

static void *post_later(void *arg)
{
	struct { struct loop *l; struct loop_work *w; } *a = arg;

	usleep(10000);
	loop_post(a->l, a->w);
	return NULL;
}

BOTH(pollfd_shows_descriptors_timers_posts_and_io)
{
	struct mark_timer timer = { .mark = 't' };
	int count = 0, io_count = 0, fd[2], pfd = loop_pollfd(l), file = scratch();
	struct count_work w = { { .cb = count_cb }, &count };
	struct { struct loop *l; struct loop_work *w; } arg = { l, &w.w };
	struct count_fd c = { 0 };
	struct test_io io;
	pthread_t t;

	cr_assert_geq(pfd, 0);
	turn_idle(l, 3);
	cr_assert_eq(readable(pfd, 0), 0);

	pair(fd);
	c.w = (struct loop_fd){ .fd = fd[0], .events = POLLIN, .cb = count_fd_cb };
	cr_assert_eq(loop_fd_add(l, &c.w), 0);
	cr_assert_eq(readable(pfd, 5000), 1);	/* the change itself */
	turn_idle(l, 2);
	cr_assert_eq(readable(pfd, 0), 0);
	cr_assert_eq(write(fd[1], "x", 1), 1);
	cr_assert_eq(readable(pfd, 5000), 1);
	c.kill[0] = &c.w;
	turn_until(l, &c.count, 1);
	turn_idle(l, 2);
	cr_assert_eq(readable(pfd, 0), 0);

	loop_timer_init(l, &timer.t, mark_cb, NULL);
	loop_timer_arm(&timer.t, clock_ns() + 20 * MS);
	turn_idle(l, 2);
	cr_assert_eq(fired_n, 0);
	cr_assert_eq(readable(pfd, 5000), 1);
	turn_until(l, &fired_n, 1);

	pthread_create(&t, NULL, post_later, &arg);
	turn_idle(l, 2);
	cr_assert_eq(readable(pfd, 5000), 1);
	turn_until(l, &count, 1);
	pthread_join(t, NULL);
	turn_idle(l, 2);

	io_set(&io, LOOP_IO_WRITEV, file, 0, 8, &io_count);
	loop_io_submit(l, &io.io);
	cr_assert_eq(readable(pfd, 5000), 1);
	turn_idle(l, 1);
	if (!io_count)
		cr_assert_eq(readable(pfd, 5000), 1);
	turn_until(l, &io_count, 1);
	close(file);
}

/* ---- what a request costs ---- */

/*
 * A stand-in for a block queue: a kick makes @depth reads, the last of which
 * raises the interrupt. All system calls of the loop are counted.
 */
struct queue {
	struct loop_event kick;
	struct loop_signal irq;
	struct loop *l;
	struct test_io io[32];
	int depth, done, count;
};

static void queue_io_cb(struct loop_io *io)
{
	struct queue *q = container_of(((struct test_io *)io)->count, struct queue, count);

	q->count++;
	if (++q->done % q->depth == 0)
		loop_signal_raise(q->l, &q->irq);
}

static void queue_kick_cb(struct loop_event *ev)
{
	struct queue *q = (struct queue *)ev;
	int i;

	for (i = 0; i < q->depth; i++)
		loop_io_submit(q->l, &q->io[i].io);
}

/* System calls per thousand requests. */
static uint64_t queue_cost(int depth, int rounds)
{
	static struct queue q;
	struct loop_stats before, after;
	int i, fd = scratch();
	uint64_t v;

	if (loop_create(&q.l, "cost", LOOP_AIO_URING, NULL) < 0)
		cr_skip_test("no io_uring here");
	cr_assert_eq(ftruncate(fd, 65536), 0);
	q.depth = depth;
	for (i = 0; i < depth; i++) {
		io_set(&q.io[i], LOOP_IO_READV, fd, (uint64_t)i * 64, 64, &q.count);
		q.io[i].io.cb = queue_io_cb;
	}
	q.irq.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	q.kick = (struct loop_event){ .fd = eventfd(0, EFD_CLOEXEC), .cb = queue_kick_cb };
	cr_assert_eq(loop_event_add(q.l, &q.kick), 0);
	turn_idle(q.l, 2);
	before = loop_stats(q.l);
	for (i = 0; i < rounds; i++) {
		kick(q.kick.fd);
		turn_until(q.l, &q.done, (i + 1) * depth);
		turn_idle(q.l, 1);	/* the interrupt goes out with this wait */
		cr_assert_eq(read(q.irq.fd, &v, sizeof(v)), 8);
	}
	after = loop_stats(q.l);
	loop_event_del(&q.kick);
	loop_destroy(q.l);
	return (after.syscalls - before.syscalls) * 1000 / (uint64_t)(rounds * depth);
}

Test(loop, test_loop_request_at_depth_1_costs_two_system_calls)
{
	/* The third is this test's own: a zero wait instead of the next
	 * kick's, so that the interrupt can be awaited here. */
	cr_assert_leq(queue_cost(1, 200), 3000);
}

Test(loop, test_loop_request_at_depth_32_costs_a_tenth_of_a_system_call)
{
	cr_assert_leq(queue_cost(32, 100), 150);
}

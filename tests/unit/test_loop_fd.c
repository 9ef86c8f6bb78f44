/*
 * tests/unit/test_loop_fd.c - the event loop: descriptors and eventfds.
 * Threads: kicks come from this thread to I/O threads (TSAN).
 * Missing: nothing known.
 */
#include <poll.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/lib_loop.h"
#include "vmm/loop/iothread.h"

/* ---- descriptors ---- */

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

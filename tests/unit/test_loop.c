/*
 * tests/unit/test_loop.c - the event loop: timers, work, engines, life.
 * Threads: some cases post from threads of their own; TSAN runs them too.
 * Missing: kernels older than the one the tests run on.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/unit/lib_loop.h"
#include "vmm/base/log.h"
#include "vmm/loop/iothread.h"

/* ---- messages ---- */

static int lines;
static char last_line[256];

static void count_lines(enum log_level level, const char *line, void *arg)
{
	lines++;
	snprintf(last_line, sizeof(last_line), "%s", line);
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

struct flag_work {
	struct loop_work w;
	struct loop *l;
	_Atomic bool ran;
};

static void flag_cb(struct loop_work *w)
{
	((struct flag_work *)w)->ran = true;
}

static void *flag_main(void *arg)
{
	struct flag_work *f = arg;

	loop_post(f->l, &f->w);
	return NULL;
}

/* The poster may still have to wake a loop that ran its work and is to go. */
Test(loop, test_loop_waits_for_a_poster_before_it_goes)
{
	struct err e = ERR_INIT;

	for (int i = 0; i < 200; i++) {
		struct flag_work f = { .w.cb = flag_cb };
		struct iothread *io;
		pthread_t t;

		cr_assert_eq(iothread_create(&io, "io", NULL, LOOP_AIO_AUTO, &e), 0);
		f.l = iothread_loop(io);
		pthread_create(&t, NULL, flag_main, &f);
		while (!f.ran)
			sched_yield();
		iothread_destroy(io);
		pthread_join(t, NULL);
	}
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

/* ---- life ---- */

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

/* Storage that hangs must not keep the process from ending. */
Test(loop, test_loop_destroyed_with_io_stuck_is_left_behind)
{
	static struct test_io r;
	struct loop *l;
	int p[2], count = 0;

	cr_assert_eq(loop_create(&l, "stuck", LOOP_AIO_THREADS, NULL), 0);
	cr_assert_eq(pipe(p), 0);
	io_set(&r, LOOP_IO_READV, p[0], LOOP_IO_POS, 8, &count);
	loop_io_submit(l, &r.io);
	turn_idle(l, 2);
	log_set_sink(count_lines, NULL);
	loop_destroy(l);
	cr_assert_eq(lines, 1);
	cr_assert_not_null(strstr(last_line, "'stuck': 1 file operations"));
}

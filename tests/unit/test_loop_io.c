/*
 * tests/unit/test_loop_io.c - the event loop: file I/O, its cost, embedding.
 * Threads: the pool's, and one that posts (TSAN).
 * Missing: block devices; tests/unit/test_block_host.c has them.
 */
#include <linux/magic.h>
#include <sys/vfs.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/unit/lib_loop.h"

/* ---- file I/O ---- */

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
	struct statfs fs;
	int fd = scratch();

	/* tmpfs has no read that does not wait: the kernel's workers then end
	 * requests one by one. */
	cr_assert_eq(fstatfs(fd, &fs), 0);
	close(fd);
	if (fs.f_type == TMPFS_MAGIC)
		cr_skip_test("/var/tmp is a tmpfs");
	cr_assert_leq(queue_cost(32, 100), 150);
}

/* System calls of the one turn that hands @n reads to the kernel. */
static uint64_t turn_cost(struct loop *l, int fd, int n)
{
	struct test_io io[32];
	struct loop_stats before;
	uint64_t cost;
	int i, count = 0;

	for (i = 0; i < n; i++) {
		io_set(&io[i], LOOP_IO_READV, fd, (uint64_t)i * 64, 64, &count);
		loop_io_submit(l, &io[i].io);
	}
	before = loop_stats(l);
	loop_turn(l, 0);
	cost = loop_stats(l).syscalls - before.syscalls;
	turn_until(l, &count, n);
	return cost;
}

/* The first of a large batch are on their way while the rest are prepared. */
Test(loop, test_loop_cuts_a_large_batch_for_an_idle_disk)
{
	struct loop *l;
	int fd = scratch();

	if (loop_create(&l, "pieces", LOOP_AIO_URING, NULL) < 0)
		cr_skip_test("no io_uring here");
	cr_assert_eq(ftruncate(fd, 65536), 0);
	turn_idle(l, 2);
	cr_assert_eq(turn_cost(l, fd, 8), 1);
	cr_assert_geq(turn_cost(l, fd, 32), 2);
	cr_assert_leq(turn_cost(l, fd, 32), 3);
	loop_destroy(l);
}

/* ---- embedding ---- */

static int fired_n;

static void fired_cb(struct loop_timer *t)
{
	fired_n++;
}

struct count_work {
	struct loop_work w;
	int *count;
};

static void count_cb(struct loop_work *w)
{
	(*((struct count_work *)w)->count)++;
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
	struct loop_timer timer;
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

	loop_timer_init(l, &timer, fired_cb, NULL);
	loop_timer_arm(&timer, clock_ns() + 20 * MS);
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

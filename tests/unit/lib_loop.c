/*
 * tests/unit/lib_loop.c - what the tests of the event loop share.
 */
#include "tests/unit/lib_loop.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

void run_case(void (*fn)(struct loop *), enum loop_aio aio)
{
	struct err e = ERR_INIT;
	struct loop *l;

	if (loop_create(&l, "test", aio, &e) < 0)
		cr_skip_test("%s", e.text);
	cr_assert_eq(loop_aio(l), aio);
	fn(l);
	loop_destroy(l);
}

void turn_until(struct loop *l, const int *count, int want)
{
	uint64_t end = clock_ns() + 20000 * MS;

	while (*count < want && clock_ns() < end)
		cr_assert_geq(loop_turn(l, 100 * MS), 0);
	cr_assert_eq(*count, want, "%d, not %d", *count, want);
}

void turn_idle(struct loop *l, int turns)
{
	while (turns--)
		cr_assert_geq(loop_turn(l, 0), 0);
}

void count_fd_cb(struct loop_fd *w, uint32_t revents)
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

void pair(int fd[2])
{
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
}

void kick(int fd)
{
	uint64_t one = 1;

	cr_assert_eq(write(fd, &one, sizeof(one)), 8);
}

static void io_cb(struct loop_io *io)
{
	(*((struct test_io *)io)->count)++;
}

/* On a disk: /tmp may be a tmpfs, which io_uring serves differently. */
int scratch(void)
{
	char path[] = "/var/tmp/roost-loop-XXXXXX";
	int fd = mkstemp(path);

	cr_assert_geq(fd, 0);
	unlink(path);
	return fd;
}

void io_set(struct test_io *t, enum loop_io_op op, int fd, uint64_t off,
	    size_t len, int *count)
{
	*t = (struct test_io){ .count = count };
	t->iov[0] = (struct iovec){ t->buf, len / 2 };
	t->iov[1] = (struct iovec){ t->buf + len / 2, len - len / 2 };
	t->io = (struct loop_io){ .op = op, .fd = fd, .iov = t->iov, .iovcnt = 2,
				  .off = off, .cb = io_cb };
}

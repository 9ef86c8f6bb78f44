/*
 * tests/unit/lib_loop.h - what the tests of the event loop share.
 */
#ifndef TESTS_UNIT_LIB_LOOP_H
#define TESTS_UNIT_LIB_LOOP_H

#include <criterion/criterion.h>

#include "vmm/base/util.h"
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

void run_case(void (*fn)(struct loop *), enum loop_aio aio);
/* Turn until *@count is @want; it must become that within seconds. */
void turn_until(struct loop *l, const int *count, int want);
void turn_idle(struct loop *l, int turns);

/* ---- descriptors ---- */

struct count_fd {
	struct loop_fd w;
	int count;
	uint32_t revents;
	struct loop_fd *kill[2];
	struct loop *add_to;
	struct loop_fd *add;
};
void count_fd_cb(struct loop_fd *w, uint32_t revents);
void pair(int fd[2]);		/* two ends of a socket, non-blocking */
void kick(int fd);		/* signal an eventfd */

/* ---- file I/O ---- */

struct test_io {
	struct loop_io io;
	struct iovec iov[2];
	char buf[64];
	int *count;
};
int scratch(void);		/* an empty file without a name */
/* A request for @len bytes at @off, in two pieces; its end adds to *@count. */
void io_set(struct test_io *t, enum loop_io_op op, int fd, uint64_t off,
	    size_t len, int *count);

#endif

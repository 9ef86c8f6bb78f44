/*
 * tests/unit/lib_char.h - what the tests of the chardevs share: a loop, a set,
 * a directory, and a front end that records what it is told. Test suites take
 * char_test_begin() and char_test_end() as .init and .fini.
 */
#ifndef TESTS_UNIT_LIB_CHAR_H
#define TESTS_UNIT_LIB_CHAR_H

#include <criterion/criterion.h>

#include "vmm/base/util.h"
#include "vmm/char/char.h"

#define RING	65536

extern struct loop *l;
extern struct char_set *set;
extern struct err e;
extern char dir[64];		/* of this test */

/* A front end that records what it is told. */
struct recorder {
	struct char_front f;
	size_t room;
	char in[65536];
	size_t in_len;
	int opened, closed, breaks, writable, winsize;
};
extern struct recorder rec;

void char_test_begin(void);
void char_test_end(void);

const char *in_dir(const char *name);	/* of the last four calls */
/* -chardev with these arguments; the result of char_add(), text in e. */
int try_add(struct chardev **c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
struct chardev *connected(struct chardev *c);	/* to rec */
void turns(int n);
void write_all(struct chardev *c, const char *s);
void read_expect(int fd, const char *want);	/* exactly, within seconds */
void file_expect(const char *path, const char *want);
/* Write until nothing more is taken; returns the bytes taken. */
size_t fill(struct chardev *c);

/* Turn the loop until @cond holds; a macro so that it is evaluated each time. */
#define until(cond) do {						\
	uint64_t end_ = clock_ns() + 10 * NS_PER_SEC;			\
	while (!(cond) && clock_ns() < end_)				\
		cr_assert_geq(loop_turn(l, 10 * NS_PER_MS), 0);		\
	cr_assert(cond);						\
} while (0)

#endif

/*
 * tests/unit/lib_char.c - what the tests of the chardevs share.
 */
#include "tests/unit/lib_char.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/base/json.h"
#include "vmm/base/log.h"

struct loop *l;
struct char_set *set;
struct err e;
char dir[64];

static size_t rec_can_read(struct char_front *f)
{
	return ((struct recorder *)f)->room;
}

static void rec_read(struct char_front *f, const uint8_t *buf, size_t len)
{
	struct recorder *r = (struct recorder *)f;

	cr_assert_leq(len, r->room);
	memcpy(r->in + r->in_len, buf, len);
	r->in_len += len;
	r->room -= len;
}

static void rec_writable(struct char_front *f)
{
	((struct recorder *)f)->writable++;
}

static void rec_event(struct char_front *f, enum char_event ev)
{
	struct recorder *r = (struct recorder *)f;

	r->opened += ev == CHAR_OPENED;
	r->closed += ev == CHAR_CLOSED;
	r->breaks += ev == CHAR_BREAK;
	r->winsize += ev == CHAR_WINSIZE;
}

struct recorder rec = {
	.f = { .can_read = rec_can_read, .read = rec_read,
	       .writable = rec_writable, .event = rec_event },
	.room = sizeof(rec.in),
};

static void quiet(enum log_level level, const char *line, void *arg)
{
}

void char_test_begin(void)
{
	e = (struct err)ERR_INIT;
	log_set_sink(quiet, NULL);
	snprintf(dir, sizeof(dir), "/tmp/roost-char-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	cr_assert_eq(loop_create(&l, "test", LOOP_AIO_AUTO, &e), 0, "%s", e.text);
	set = char_set_create(l);
}

void char_test_end(void)
{
	char cmd[96];

	char_set_destroy(set);
	loop_destroy(l);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	cr_assert_eq(system(cmd), 0);
}

const char *in_dir(const char *name)
{
	static char path[4][128];
	static int next;

	next = (next + 1) % 4;
	snprintf(path[next], sizeof(path[next]), "%s/%s", dir, name);
	return path[next];
}

int try_add(struct chardev **c, const char *fmt, ...)
{
	char text[512];
	json_t *args;
	va_list ap;
	int r;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	args = json_from_keyval(text, "backend", 0, "-chardev", &e);
	cr_assert_not_null(args, "%s", e.text);
	r = char_add(set, args, c, &e);
	json_decref(args);
	return r;
}

struct chardev *connected(struct chardev *c)
{
	cr_assert_eq(char_connect(c, &rec.f, "test", &e), 0, "%s", e.text);
	return c;
}

void turns(int n)
{
	while (n--)
		cr_assert_geq(loop_turn(l, 2 * NS_PER_MS), 0);
}

void write_all(struct chardev *c, const char *s)
{
	cr_assert_eq(char_write(c, s, strlen(s)), strlen(s));
}

void read_expect(int fd, const char *want)
{
	char buf[256] = "";
	size_t n = 0, len = strlen(want);
	uint64_t end = clock_ns() + 10 * NS_PER_SEC;
	ssize_t r;

	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	while (n < len && clock_ns() < end) {
		r = read(fd, buf + n, sizeof(buf) - 1 - n);
		n += r > 0 ? (size_t)r : 0;
		loop_turn(l, NS_PER_MS);
	}
	cr_assert_str_eq(buf, want);
}

void file_expect(const char *path, const char *want)
{
	char buf[256] = "";
	int fd = open(path, O_RDONLY);

	cr_assert_geq(fd, 0);
	cr_assert_geq(read(fd, buf, sizeof(buf) - 1), 0);
	close(fd);
	cr_assert_str_eq(buf, want);
}

/* Fill until nothing more is taken; returns the bytes taken. */
size_t fill(struct chardev *c)
{
	static char block[4096];
	size_t n, total = 0;
	int dry = 0;

	while (dry < 3) {
		n = char_write(c, block, sizeof(block));
		total += n;
		dry = n ? 0 : dry + 1;
		turns(1);
		cr_assert_lt(total, 64u << 20);
	}
	return total;
}

/*
 * tests/unit/test_char_change.c - another back end for a front end that stays.
 * Threads: one, and a writer as a vCPU is one.
 * Missing: nothing known.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/lib_char.h"
#include "vmm/base/json.h"

static struct chardev *chr;	/* rec's */
static int moves;

static void rec_moved(struct char_front *f, struct chardev *to)
{
	chr = to;
	moves++;
}

static void begin(void)
{
	char_test_begin();
	rec.f.moved = rec_moved;
}

TestSuite(charchange, .init = begin, .fini = char_test_end);

__attribute__((format(printf, 1, 2))) static int try_change(const char *fmt, ...)
{
	char text[512];
	json_t *args;
	va_list ap;
	int r;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	e = (struct err)ERR_INIT;
	args = json_from_keyval(text, "backend", 0, "-chardev", &e);
	cr_assert_not_null(args, "%s", e.text);
	r = char_change(set, args, NULL, &e);
	json_decref(args);
	return r;
}

static void expect_refused(int r, int want, const char *text)
{
	struct chardev *was = chr;

	cr_assert_eq(r, want, "%d: %s", r, e.text);
	cr_assert_not_null(strstr(e.text, text), "%s", e.text);
	cr_assert_eq(moves, 0);
	cr_assert_eq(char_find(set, "a"), was);
}

static int open_slave(void)
{
	int fd = open(char_filename(chr) + strlen("pty:"), O_RDWR | O_NOCTTY | O_NONBLOCK);

	cr_assert_geq(fd, 0);
	return fd;
}

static void add(const char *args)
{
	cr_assert_eq(try_add(&chr, "%s", args), 0, "%s", e.text);
	connected(chr);
}

Test(charchange, test_char_change_pty_to_file_to_socket_keeps_the_front)
{
	int pair[2], fd;
	char byte;

	add("pty,id=a");
	fd = open_slave();
	until(rec.opened == 1);
	write_all(chr, "to the pty");
	read_expect(fd, "to the pty");

	cr_assert_eq(try_change("file,id=a,path=%s", in_dir("out")), 0, "%s", e.text);
	cr_assert(moves == 1 && char_find(set, "a") == chr);
	cr_assert_str_eq(char_backend(chr), "file");
	turns(3);
	cr_assert(rec.closed == 0 && rec.opened == 1);	/* a peer was there all the time */
	write_all(chr, "to the file");

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	cr_assert_eq(try_change("socket,id=a,fd=%d", pair[0]), 0, "%s", e.text);
	write_all(chr, "to the socket");
	read_expect(pair[1], "to the socket");
	char_drain(set, NS_PER_SEC);
	file_expect(in_dir("out"), "to the file");
	cr_assert_eq(write(pair[1], "typed", 5), 5);
	until(rec.in_len == 5);
	cr_assert_arr_eq(rec.in, "typed", 5);
	cr_assert_eq(read(fd, &byte, 1), 0);		/* that terminal is gone */
	close(pair[1]);
	until(rec.closed == 1);
	close(fd);
}

/* No turn of the loop between: nothing is lost and nothing comes twice. */
Test(charchange, test_char_change_moves_output_that_waits)
{
	int pair[2];
	char byte;

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	cr_assert_eq(try_add(&chr, "socket,id=a,fd=%d", pair[0]), 0, "%s", e.text);
	connected(chr);
	write_all(chr, "one ");
	cr_assert_eq(try_change("file,id=a,path=%s", in_dir("out")), 0, "%s", e.text);
	write_all(chr, "two ");
	cr_assert_eq(try_change("file,id=a,path=%s", in_dir("out2")), 0, "%s", e.text);
	write_all(chr, "three");
	char_drain(set, NS_PER_SEC);
	file_expect(in_dir("out"), "one two ");
	file_expect(in_dir("out2"), "three");
	cr_assert_eq(read(pair[1], &byte, 1), 0);
	close(pair[1]);
}

Test(charchange, test_char_change_wakes_a_front_that_waits_for_room)
{
	int pair[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	cr_assert_eq(try_add(&chr, "socket,id=a,fd=%d", pair[0]), 0, "%s", e.text);
	connected(chr);
	fill(chr);
	cr_assert_eq(rec.writable, 0);
	cr_assert_eq(try_change("null,id=a"), 0, "%s", e.text);
	cr_assert_eq(rec.writable, 1);
	write_all(chr, "goes nowhere");
	close(pair[1]);
}

Test(charchange, test_char_change_tells_when_the_peer_is_another)
{
	int fd;

	add("null,id=a");
	until(rec.opened == 1);
	cr_assert_eq(try_change("pty,id=a"), 0, "%s", e.text);
	cr_assert_eq(rec.closed, 1);
	fd = open_slave();
	until(rec.opened == 2);
	cr_assert_eq(try_change("pty,id=a"), 0, "%s", e.text);
	cr_assert_eq(rec.closed, 2);
	cr_assert_eq(try_change("null,id=a"), 0, "%s", e.text);
	until(rec.opened == 3);
	close(fd);
}

Test(charchange, test_char_change_of_an_unused_one)
{
	cr_assert_eq(try_add(NULL, "null,id=a"), 0);
	cr_assert_eq(try_add(NULL, "null,id=b"), 0);
	cr_assert_eq(try_change("file,id=a,path=%s", in_dir("out")), 0, "%s", e.text);
	write_all(connected(char_find(set, "a")), "x");
	char_drain(set, NS_PER_SEC);
	file_expect(in_dir("out"), "x");
	cr_assert_not_null(char_find(set, "b"));
	cr_assert_eq(char_del(set, "b", &e), 0);
}

Test(charchange, test_char_change_failure_keeps_the_old)
{
	int fd;

	add("pty,id=a");
	fd = open_slave();
	until(rec.opened == 1);
	write_all(chr, "before ");
	expect_refused(try_change("file,id=a,path=%s", in_dir("no/file")), -ENOENT,
		       "its directory does not exist");
	expect_refused(try_change("null,id=a,logfile=%s", in_dir("no/log")), -ENOENT, "logfile");
	expect_refused(try_change("teapot,id=a"), -EINVAL, "no backend 'teapot'");
	expect_refused(try_change("null,id=a,colour=red"), -EINVAL, "colour");
	expect_refused(try_change("null,id=a,mux=on"), -EINVAL, "mux=on");
	write_all(chr, "after");
	read_expect(fd, "before after");
	cr_assert_eq(write(fd, "in", 2), 2);
	until(rec.in_len == 2);
	cr_assert(rec.closed == 0 && rec.opened == 1);
	close(fd);
}

Test(charchange, test_char_change_unknown_id_says_so)
{
	add("null,id=a");
	expect_refused(try_change("null,id=b"), -ENOENT, "'b'");
	cr_assert_null(char_find(set, "b"));
}

Test(charchange, test_char_change_refuses_who_cannot_follow)
{
	add("null,id=a");
	rec.f.moved = NULL;
	expect_refused(try_change("null,id=a"), -EBUSY, "in use by test");
}

Test(charchange, test_char_change_refuses_mux_and_consoles_below)
{
	add("null,id=a,mux=on");
	expect_refused(try_change("null,id=a"), -EBUSY, "mux=on");
	cr_assert_eq(try_add(NULL, "null,id=low"), 0);
	expect_refused(try_change("console,id=low,path=%s,chardev=low", in_dir("con")), -EINVAL,
		       "on itself");
	cr_assert_eq(char_has_front(char_find(set, "low")), false);
	cr_assert_eq(try_add(NULL, "console,id=c,path=%s,chardev=low", in_dir("con")), 0, "%s",
		     e.text);
	expect_refused(try_change("null,id=low"), -EBUSY, "chardev 'c'");
}

Test(charchange, test_char_change_of_a_console_lets_go_of_the_one_below)
{
	cr_assert_eq(try_add(NULL, "null,id=low"), 0);
	cr_assert_eq(try_add(&chr, "console,id=a,path=%s,chardev=low", in_dir("con")), 0, "%s",
		     e.text);
	connected(chr);
	write_all(chr, "x");
	cr_assert_eq(try_change("console,id=a,path=%s", in_dir("con2")), 0, "%s", e.text);
	cr_assert_eq(char_has_front(char_find(set, "low")), false);
	cr_assert_eq(access(in_dir("con"), F_OK), -1);
	cr_assert_eq(char_del(set, "low", &e), 0);
	cr_assert_eq(try_change("null,id=a"), 0, "%s", e.text);
	turns(2);
}

static size_t tapped;

static void tap_output(struct char_tap *t, const void *buf, size_t len)
{
	tapped += len;
}

static void tap_accept(struct char_tap *t)
{
}

Test(charchange, test_char_change_takes_a_tap_along)
{
	struct char_tap tap = { tap_output, tap_accept };

	add("null,id=a");
	char_set_tap(chr, &tap);
	cr_assert_eq(try_change("null,id=a"), 0, "%s", e.text);
	write_all(chr, "abc");
	cr_assert_eq(tapped, 3);
	char_set_tap(chr, NULL);
}

/* ---- a writer on another thread ---- */

enum { FILES = 40, PER_FILE_NS = 2 * 1000 * 1000 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool stop;
static uint32_t written;

static void *writer(void *arg)
{
	while (!atomic_load(&stop)) {
		pthread_mutex_lock(&lock);	/* the ring's size is a multiple of four */
		if (char_write(chr, &written, sizeof(written)) == sizeof(written))
			written++;
		pthread_mutex_unlock(&lock);
	}
	return NULL;
}

static void write_on_thread_through(int files)
{
	uint64_t until_ns;
	pthread_t t;

	cr_assert_eq(pthread_create(&t, NULL, writer, NULL), 0);
	for (int i = 1; i < files; i++) {
		for (until_ns = clock_ns() + PER_FILE_NS; clock_ns() < until_ns;)
			turns(1);
		cr_assert_eq(try_change("file,id=a,path=%s/%d", dir, i), 0, "%s", e.text);
	}
	atomic_store(&stop, true);
	pthread_join(t, NULL);
	char_drain(set, 5 * NS_PER_SEC);
}

/* The files one after the other are what was written. */
Test(charchange, test_char_change_under_a_writer_loses_nothing)
{
	uint32_t got, want = 0;
	char path[80];

	cr_assert_eq(try_add(&chr, "file,id=a,path=%s/0", dir), 0, "%s", e.text);
	rec.f.lock = &lock;
	connected(chr);
	write_on_thread_through(FILES);
	for (int i = 0; i < FILES; i++) {
		snprintf(path, sizeof(path), "%s/%d", dir, i);
		int fd = open(path, O_RDONLY | O_CLOEXEC);

		while (read(fd, &got, sizeof(got)) == sizeof(got))
			cr_assert_eq(got, want++, "file %d", i);
		close(fd);
	}
	cr_assert_eq(want, written);
	cr_assert_gt(want, 1000);
}

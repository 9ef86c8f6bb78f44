/*
 * tests/unit/test_char.c - chardevs: each back end, back pressure, Ctrl-A.
 * Threads: one case writes from threads of its own (TSAN).
 * Missing: a terminal that really vanishes.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "vmm/base/json.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/char/char.h"

#define RING	65536

static struct loop *l;
static struct char_set *set;
static struct err e;
static char dir[64];

/* A front end that records what it is told. */
struct recorder {
	struct char_front f;
	size_t room;
	char in[65536];
	size_t in_len;
	int opened, closed, breaks, writable;
};

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
}

static struct recorder rec = {
	.f = { .can_read = rec_can_read, .read = rec_read,
	       .writable = rec_writable, .event = rec_event },
	.room = sizeof(rec.in),
};

static void quiet(enum log_level level, const char *line, void *arg)
{
}

static void setup(void)
{
	e = (struct err)ERR_INIT;
	log_set_sink(quiet, NULL);
	snprintf(dir, sizeof(dir), "/tmp/roost-char-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	cr_assert_eq(loop_create(&l, "test", LOOP_AIO_AUTO, &e), 0, "%s", e.text);
	set = char_set_create(l);
}

static void teardown(void)
{
	char cmd[96];

	char_set_destroy(set);
	loop_destroy(l);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	cr_assert_eq(system(cmd), 0);
}

TestSuite(chardev, .init = setup, .fini = teardown);

static const char *in_dir(const char *name)
{
	static char path[4][128];
	static int next;

	next = (next + 1) % 4;
	snprintf(path[next], sizeof(path[next]), "%s/%s", dir, name);
	return path[next];
}

static int try_add(struct chardev **c, const char *fmt, ...)
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

static struct chardev *connected(struct chardev *c)
{
	cr_assert_eq(char_connect(c, &rec.f, "test", &e), 0, "%s", e.text);
	return c;
}

static void turns(int n)
{
	while (n--)
		cr_assert_geq(loop_turn(l, 2 * NS_PER_MS), 0);
}

/* Turn the loop until @cond holds; a macro so that it is evaluated each time. */
#define until(cond) do {						\
	uint64_t end_ = clock_ns() + 10 * NS_PER_SEC;			\
	while (!(cond) && clock_ns() < end_)				\
		cr_assert_geq(loop_turn(l, 10 * NS_PER_MS), 0);		\
	cr_assert(cond);						\
} while (0)

static void write_all(struct chardev *c, const char *s)
{
	cr_assert_eq(char_write(c, s, strlen(s)), strlen(s));
}

static void read_expect(int fd, const char *want)
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

static void file_expect(const char *path, const char *want)
{
	char buf[256] = "";
	int fd = open(path, O_RDONLY);

	cr_assert_geq(fd, 0);
	cr_assert_geq(read(fd, buf, sizeof(buf) - 1), 0);
	close(fd);
	cr_assert_str_eq(buf, want);
}

/* Fill until nothing more is taken; returns the bytes taken. */
static size_t fill(struct chardev *c)
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

/* ---- the set ---- */

Test(chardev, test_char_add_duplicate_id_refused)
{
	cr_assert_eq(try_add(NULL, "null,id=a"), 0);
	cr_assert_eq(try_add(NULL, "null,id=a"), -EEXIST);
	cr_assert_not_null(strstr(e.text, "'a'"));
}

Test(chardev, test_char_add_unknown_backend_lists_the_known)
{
	cr_assert_eq(try_add(NULL, "spicevmc,id=a"), -EINVAL);
	cr_assert_str_eq(e.text, "chardev 'a': there is no backend 'spicevmc'; choose one "
			 "of stdio, pty, file, socket, null");
}

Test(chardev, test_char_add_bad_property_leaves_descriptors_alone)
{
	cr_assert_lt(try_add(NULL, "socket,id=a,path=/x,wait=perhaps"), 0);
	cr_assert_not_null(strstr(e.text, "chardev 'a'"));
	cr_assert_geq(fcntl(0, F_GETFD), 0);
	cr_assert_null(char_find(set, "a"));
}

Test(chardev, test_char_connect_twice_refused)
{
	struct recorder other = rec;
	struct chardev *c;

	cr_assert_eq(try_add(&c, "null,id=a"), 0);
	connected(c);
	cr_assert_eq(char_connect(c, &other.f, "other", &e), -EBUSY);
	cr_assert_not_null(strstr(e.text, "in use by test"));
	cr_assert_eq(char_del(set, "a", &e), -EBUSY);
	char_connect(c, NULL, NULL, NULL);
	cr_assert_eq(char_del(set, "a", &e), 0);
	cr_assert_null(char_find(set, "a"));
}

Test(chardev, test_char_null_takes_everything)
{
	static char big[3 * RING];
	struct chardev *c;

	cr_assert_eq(try_add(&c, "null,id=a"), 0);
	cr_assert_eq(char_write(connected(c), big, sizeof(big)), sizeof(big));
	cr_assert_str_eq(char_filename(c), "null");
}

Test(chardev, test_char_legacy_forms)
{
	struct chardev *c, *d;

	cr_assert_eq(char_add_legacy(set, "none", "s0", &c, &e), 0);
	cr_assert_null(c);
	cr_assert_eq(char_add_legacy(set, "null", "s1", &c, &e), 0);
	cr_assert_eq(char_add_legacy(set, "chardev:s1", "s2", &d, &e), 0);
	cr_assert_eq(c, d);
	cr_assert_eq(char_add_legacy(set, "chardev:nope", "s2", &d, &e), -ENOENT);
	e = (struct err)ERR_INIT;
	cr_assert_eq(char_add_legacy(set, "tcp::4444", "s3", &d, &e), -EINVAL);
	cr_assert_not_null(strstr(e.text, "'tcp::4444'"));
	e = (struct err)ERR_INIT;
	char spec[128];
	snprintf(spec, sizeof(spec), "unix:%s,server,nowait", in_dir("sock"));
	cr_assert_eq(char_add_legacy(set, spec, "s4", &d, &e), 0, "%s", e.text);
	cr_assert_eq(char_wait(set, &e), 0);
	snprintf(spec, sizeof(spec), "file:%s", in_dir("a,b"));
	cr_assert_eq(char_add_legacy(set, spec, "s5", &d, &e), 0, "%s", e.text);
	cr_assert_eq(access(in_dir("a,b"), F_OK), 0);
}

/* ---- file ---- */

Test(chardev, test_char_file_receives_all_output)
{
	struct chardev *c;

	cr_assert_eq(try_add(&c, "file,id=a,path=%s", in_dir("out")), 0, "%s", e.text);
	write_all(c, "one ");
	write_all(c, "two");
	char_drain(set, NS_PER_SEC);
	file_expect(in_dir("out"), "one two");
	cr_assert(char_is_open(c));
}

Test(chardev, test_char_file_truncates_unless_append)
{
	struct chardev *c;

	cr_assert_eq(try_add(&c, "file,id=a,path=%s", in_dir("out")), 0);
	write_all(c, "old");
	char_drain(set, NS_PER_SEC);
	cr_assert_eq(char_del(set, "a", &e), 0);
	cr_assert_eq(try_add(&c, "file,id=b,path=%s,append=on", in_dir("out")), 0);
	write_all(c, "+new");
	char_drain(set, NS_PER_SEC);
	file_expect(in_dir("out"), "old+new");
	cr_assert_eq(char_del(set, "b", &e), 0);
	cr_assert_eq(try_add(&c, "file,id=c,path=%s", in_dir("out")), 0);
	file_expect(in_dir("out"), "");
}

Test(chardev, test_char_file_many_megabytes_arrive_in_order)
{
	struct chardev *c;
	uint32_t i = 0, got;
	size_t n;
	int fd;

	cr_assert_eq(try_add(&c, "file,id=a,path=%s", in_dir("out")), 0);
	connected(c);
	while (i < 300000) {
		n = char_write(c, &i, sizeof(i));
		if (n == sizeof(i)) {
			i++;
			continue;
		}
		cr_assert_eq(n, 0);	/* the ring's size is a multiple */
		int before = rec.writable;
		until(rec.writable > before);
	}
	char_drain(set, 5 * NS_PER_SEC);
	fd = open(in_dir("out"), O_RDONLY);
	for (i = 0; i < 300000; i++) {
		cr_assert_eq(read(fd, &got, sizeof(got)), sizeof(got));
		cr_assert_eq(got, i);
	}
	close(fd);
}

Test(chardev, test_char_file_in_missing_directory_says_so)
{
	cr_assert_eq(try_add(NULL, "file,id=a,path=%s", in_dir("no/file")), -ENOENT);
	cr_assert_not_null(strstr(e.text, "its directory does not exist"), "%s", e.text);
}

Test(chardev, test_char_file_directory_refused)
{
	cr_assert_eq(try_add(NULL, "file,id=a,path=%s", dir), -EISDIR);
	cr_assert_not_null(strstr(e.text, dir));
}

Test(chardev, test_char_file_fifo_without_reader_refused)
{
	cr_assert_eq(mkfifo(in_dir("fifo"), 0600), 0);
	cr_assert_eq(try_add(NULL, "file,id=a,path=%s", in_dir("fifo")), -ENXIO);
	cr_assert_not_null(strstr(e.text, "start the reader first"));
}

/* SIGPIPE has its default disposition here: it would end the test. */
Test(chardev, test_char_file_fifo_reader_leaves_no_signal)
{
	struct chardev *c;
	int fd;

	cr_assert_eq(mkfifo(in_dir("fifo"), 0600), 0);
	fd = open(in_dir("fifo"), O_RDONLY | O_NONBLOCK);
	cr_assert_eq(try_add(&c, "file,id=a,path=%s", in_dir("fifo")), 0, "%s", e.text);
	connected(c);
	write_all(c, "hello");
	read_expect(fd, "hello");
	close(fd);
	write_all(c, "gone");
	until(!char_is_open(c));
	write_all(c, "more");
}

Test(chardev, test_char_file_on_a_full_device_goes_on)
{
	struct chardev *c;

	cr_assert_eq(try_add(&c, "file,id=a,path=/dev/full"), 0, "%s", e.text);
	write_all(connected(c), "x");
	until(!char_is_open(c));
	for (int i = 0; i < 2 * RING; i++)
		cr_assert_eq(char_write(c, "x", 1), 1);
}

Test(chardev, test_char_logfile_gets_a_copy)
{
	struct chardev *c;

	cr_assert_eq(try_add(&c, "null,id=a,logfile=%s", in_dir("log")), 0, "%s", e.text);
	write_all(c, "logged");
	char_drain(set, NS_PER_SEC);
	file_expect(in_dir("log"), "logged");
	cr_assert_lt(try_add(NULL, "null,id=b,logfile=%s", in_dir("no/log")), 0);
	cr_assert_not_null(strstr(e.text, "logfile"));
}

/* Deleted while a write is in flight: it ends by itself. */
Test(chardev, test_char_file_deleted_while_writing_is_freed)
{
	struct chardev *c;

	cr_assert_eq(try_add(&c, "file,id=a,path=%s", in_dir("out")), 0);
	write_all(c, "data");
	cr_assert_eq(char_del(set, "a", &e), 0);
	turns(3);
	cr_assert_eq(try_add(&c, "file,id=a,path=%s", in_dir("out2")), 0);
	write_all(c, "data");
	turns(1);
	cr_assert_eq(char_del(set, "a", &e), 0);
}

/* ---- pty ---- */

static int open_slave(struct chardev *c)
{
	int fd = open(char_filename(c) + strlen("pty:"), O_RDWR | O_NOCTTY | O_NONBLOCK);

	cr_assert_geq(fd, 0);
	return fd;
}

static struct chardev *add_pty(void)
{
	struct chardev *c;

	cr_assert_eq(try_add(&c, "pty,id=a"), 0, "%s", e.text);
	cr_assert_eq(strncmp(char_filename(c), "pty:/dev/pts/", 13), 0);
	return connected(c);
}

Test(chardev, test_char_pty_carries_both_ways_raw)
{
	struct chardev *c = add_pty();
	int fd = open_slave(c);

	until(rec.opened == 1);
	cr_assert(char_is_open(c));
	write_all(c, "line\r\nnext\n");
	read_expect(fd, "line\r\nnext\n");
	cr_assert_eq(write(fd, "abc\r\x03", 5), 5);
	until(rec.in_len == 5);
	cr_assert_arr_eq(rec.in, "abc\r\x03", 5);
	close(fd);
	until(rec.closed == 1);
}

Test(chardev, test_char_pty_reader_comes_and_goes)
{
	struct chardev *c = add_pty();
	int i, fd;

	for (i = 0; i < 20; i++) {
		fd = open_slave(c);
		until(rec.opened == i + 1);
		write_all(c, "hi");
		read_expect(fd, "hi");
		close(fd);
		until(rec.closed == i + 1);
	}
	turns(3);
	cr_assert_eq(rec.opened, 20);
}

Test(chardev, test_char_pty_without_reader_keeps_the_last_output)
{
	struct chardev *c = add_pty();
	static char got[RING + 1];
	size_t n = 0, i;
	char line[16];
	ssize_t r;
	int fd;

	for (i = 0; i < 20000; i++) {	/* 160 KB: never refused */
		snprintf(line, sizeof(line), "%07zu\n", i);
		write_all(c, line);
	}
	turns(2);
	fd = open_slave(c);
	until(rec.opened == 1);
	while (n < RING) {
		r = read(fd, got + n, RING - n);
		n += r > 0 ? (size_t)r : 0;
		loop_turn(l, NS_PER_MS);
	}
	cr_assert_eq(strncmp(got + RING - 8, "0019999\n", 8), 0);
	cr_assert_eq(strncmp(got, "0011808\n", 8), 0);
	close(fd);
}

/* A reader that does not read: the writer is told to wait, then to go on, and
 * every byte arrives. */
Test(chardev, test_char_pty_back_pressure_loses_nothing)
{
	struct chardev *c = add_pty();
	int fd = open_slave(c);
	size_t taken, got = 0;
	char buf[8192];
	ssize_t r;

	until(rec.opened == 1);
	taken = fill(c);
	cr_assert_geq(taken, RING);
	cr_assert_eq(rec.writable, 0);
	while (got < taken) {
		r = read(fd, buf, sizeof(buf));
		got += r > 0 ? (size_t)r : 0;
		loop_turn(l, NS_PER_MS);
	}
	until(rec.writable >= 1);
	cr_assert_eq(got, taken);
	close(fd);
}

Test(chardev, test_char_pty_stuck_reader_leaving_frees_the_writer)
{
	struct chardev *c = add_pty();
	int fd = open_slave(c);

	until(rec.opened == 1);
	fill(c);
	close(fd);
	until(rec.writable == 1);
	write_all(c, "on at full speed");
}

Test(chardev, test_char_pty_input_waits_for_room)
{
	struct chardev *c = add_pty();
	int fd = open_slave(c);

	rec.room = 2;
	until(rec.opened == 1);
	cr_assert_eq(write(fd, "abcdef", 6), 6);
	until(rec.in_len == 2);
	turns(3);
	cr_assert_eq(rec.in_len, 2);
	rec.room = 1;
	char_accept_input(c);
	until(rec.in_len == 3);
	rec.room = 100;
	char_accept_input(c);
	until(rec.in_len == 6);
	cr_assert_arr_eq(rec.in, "abcdef", 6);
	close(fd);
}

Test(chardev, test_char_pty_path_is_a_link_while_it_lives)
{
	char target[64] = "";
	struct chardev *c;

	cr_assert_eq(try_add(&c, "pty,id=a,path=%s", in_dir("tty")), 0, "%s", e.text);
	cr_assert_gt(readlink(in_dir("tty"), target, sizeof(target) - 1), 0);
	cr_assert_str_eq(target, char_filename(c) + 4);
	cr_assert_eq(char_del(set, "a", &e), 0);
	cr_assert_lt(access(in_dir("tty"), F_OK), 0);
}

/* ---- socket ---- */

static int dial(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	cr_assert_eq(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static int serve(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	cr_assert_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	cr_assert_eq(listen(fd, 1), 0);
	return fd;
}

static struct chardev *add_server(void)
{
	struct chardev *c;

	cr_assert_eq(try_add(&c, "socket,id=a,path=%s,server=on,wait=off", in_dir("s")),
		     0, "%s", e.text);
	return connected(c);
}

Test(chardev, test_char_socket_server_serves_one_client_after_another)
{
	struct chardev *c = add_server();
	char want[128];
	int i, fd;

	for (i = 0; i < 5; i++) {
		fd = dial(in_dir("s"));
		until(rec.opened == i + 1);
		snprintf(want, sizeof(want), "unix:%s,server=on", in_dir("s"));
		cr_assert_str_eq(char_filename(c), want);
		write_all(c, "hello");
		read_expect(fd, "hello");
		cr_assert_eq(write(fd, "x", 1), 1);
		until(rec.in_len == (size_t)i + 1);
		close(fd);
		until(rec.closed == i + 1);
		cr_assert_eq(strncmp(char_filename(c), "disconnected:unix:", 18), 0);
	}
}

Test(chardev, test_char_socket_second_client_waits_its_turn)
{
	struct chardev *c = add_server();
	int first = dial(in_dir("s")), second;

	until(rec.opened == 1);
	second = dial(in_dir("s"));
	turns(3);
	cr_assert_eq(rec.opened, 1);
	write_all(c, "1");
	read_expect(first, "1");
	close(first);
	until(rec.opened == 2);
	write_all(c, "2");
	read_expect(second, "2");
	close(second);
}

Test(chardev, test_char_socket_without_client_drops_output)
{
	struct chardev *c = add_server();
	int fd;

	write_all(c, "nobody hears");
	fd = dial(in_dir("s"));
	until(rec.opened == 1);
	write_all(c, "this");
	read_expect(fd, "this");
	close(fd);
}

Test(chardev, test_char_socket_back_pressure_and_sudden_end)
{
	struct chardev *c = add_server();
	int fd = dial(in_dir("s"));

	until(rec.opened == 1);
	cr_assert_geq(fill(c), RING);
	close(fd);		/* with unread data: a reset */
	until(rec.closed == 1);
	until(rec.writable == 1);
	fd = dial(in_dir("s"));
	until(rec.opened == 2);
	write_all(c, "fresh");
	read_expect(fd, "fresh");
	close(fd);
}

Test(chardev, test_char_socket_client_connects_and_reconnects)
{
	int s = serve(in_dir("s")), fd;
	struct chardev *c;

	cr_assert_eq(try_add(&c, "socket,id=a,path=%s,reconnect=1", in_dir("s")), 0);
	connected(c);
	until(rec.opened == 1);
	fd = accept(s, NULL, NULL);
	write_all(c, "one");
	read_expect(fd, "one");
	close(fd);
	until(rec.closed == 1);
	until(rec.opened == 2);
	fd = accept4(s, NULL, NULL, SOCK_NONBLOCK);
	write_all(c, "two");
	read_expect(fd, "two");
	close(fd);
	close(s);
}

Test(chardev, test_char_socket_client_without_server_is_refused)
{
	cr_assert_eq(try_add(NULL, "socket,id=a,path=%s", in_dir("none")), -ENOENT);
	cr_assert_not_null(strstr(e.text, "cannot connect to"));
}

Test(chardev, test_char_socket_stale_path_is_taken_over)
{
	close(serve(in_dir("s")));
	cr_assert_eq(access(in_dir("s"), F_OK), 0);
	add_server();
	close(dial(in_dir("s")));
	until(rec.opened == 1);
}

Test(chardev, test_char_socket_live_path_is_refused)
{
	int s = serve(in_dir("s"));

	cr_assert_eq(try_add(NULL, "socket,id=a,path=%s,server=on,wait=off", in_dir("s")),
		     -EADDRINUSE);
	cr_assert_not_null(strstr(e.text, "another process listens"));
	cr_assert_eq(access(in_dir("s"), F_OK), 0);
	close(s);
}

Test(chardev, test_char_socket_path_that_is_a_file_is_left_alone)
{
	close(open(in_dir("s"), O_CREAT | O_WRONLY, 0600));
	cr_assert_eq(try_add(NULL, "socket,id=a,path=%s,server=on", in_dir("s")), -EEXIST);
	cr_assert_eq(access(in_dir("s"), F_OK), 0);
}

Test(chardev, test_char_socket_path_too_long_names_the_limit)
{
	char name[140];

	memset(name, 'n', sizeof(name));
	name[139] = '\0';
	cr_assert_eq(try_add(NULL, "socket,id=a,path=/%s,server=on", name), -ENAMETOOLONG);
	cr_assert_not_null(strstr(e.text, "at most 107"), "%s", e.text);
}

Test(chardev, test_char_socket_path_is_removed_at_the_end)
{
	add_server();
	char_connect(char_find(set, "a"), NULL, NULL, NULL);
	cr_assert_eq(char_del(set, "a", &e), 0);
	cr_assert_lt(access(in_dir("s"), F_OK), 0);
}

Test(chardev, test_char_socket_inherited_listener)
{
	int s = serve(in_dir("s")), fd;
	struct chardev *c;

	cr_assert_eq(try_add(&c, "socket,id=a,fd=%d,server=on,wait=off", s), 0, "%s", e.text);
	connected(c);
	fd = dial(in_dir("s"));
	until(rec.opened == 1);
	write_all(c, "hello");
	read_expect(fd, "hello");
	close(fd);
}

Test(chardev, test_char_socket_inherited_connection)
{
	struct chardev *c;
	int fd[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	cr_assert_eq(try_add(&c, "socket,id=a,fd=%d", fd[0]), 0, "%s", e.text);
	connected(c);
	until(rec.opened == 1);		/* was open before the front end came */
	write_all(c, "hello");
	read_expect(fd[1], "hello");
}

Test(chardev, test_char_socket_bad_descriptors_are_named)
{
	cr_assert_eq(try_add(NULL, "socket,id=a,fd=77,server=on"), -EINVAL);
	cr_assert_not_null(strstr(e.text, "descriptor 77 is not an open stream socket"));
	e = (struct err)ERR_INIT;
	cr_assert_eq(try_add(NULL, "socket,id=a,fd=x"), -EINVAL);
	e = (struct err)ERR_INIT;
	cr_assert_eq(try_add(NULL, "socket,id=a"), -EINVAL);
	cr_assert_not_null(strstr(e.text, "needs one of path= and fd="));
}

static void *dial_later(void *path)
{
	usleep(20000);
	dial(path);
	return NULL;
}

Test(chardev, test_char_wait_returns_with_the_first_client)
{
	char path[128];
	pthread_t t;

	snprintf(path, sizeof(path), "%s", in_dir("s"));
	cr_assert_eq(try_add(NULL, "socket,id=a,path=%s,server=on", path), 0);
	pthread_create(&t, NULL, dial_later, path);
	cr_assert_eq(char_wait(set, &e), 0);
	cr_assert(char_is_open(char_find(set, "a")));
	pthread_join(t, NULL);
}

Test(chardev, test_char_wait_ends_when_the_loop_is_told_to)
{
	cr_assert_eq(try_add(NULL, "socket,id=a,path=%s,server=on", in_dir("s")), 0);
	loop_quit(l);
	cr_assert_eq(char_wait(set, &e), -EINTR);
	cr_assert_not_null(strstr(e.text, "no client has connected"));
}

/* ---- writers on other threads ---- */

enum { WRITERS = 3, PER_WRITER = 20000 };

static void *writer(void *arg)
{
	struct chardev *c = arg;
	int i;

	for (i = 0; i < PER_WRITER;)
		if (char_write(c, "y", 1))
			i++;
		else
			usleep(100);
	return NULL;
}

Test(chardev, test_char_writers_on_threads_lose_nothing)
{
	struct chardev *c = add_server();
	int fd = dial(in_dir("s")), i, got = 0;
	pthread_t t[WRITERS];
	char buf[4096];
	ssize_t r;

	until(rec.opened == 1);
	for (i = 0; i < WRITERS; i++)
		pthread_create(&t[i], NULL, writer, c);
	while (got < WRITERS * PER_WRITER) {
		loop_turn(l, NS_PER_MS);
		r = read(fd, buf, sizeof(buf));
		got += r > 0 ? (int)r : 0;
	}
	for (i = 0; i < WRITERS; i++)
		pthread_join(t[i], NULL);
	cr_assert_eq(got, WRITERS * PER_WRITER);
	close(fd);
}

/* ---- stdio and Ctrl-A ---- */

static char escapes[16];

static void on_escape(char key, void *arg)
{
	escapes[strlen(escapes)] = key;
}

/* Standard input and output become the slave of a terminal whose master is
 * returned. */
static int take_terminal(void)
{
	int slave, m = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);

	cr_assert_geq(m, 0);
	grantpt(m);
	unlockpt(m);
	slave = open(ptsname(m), O_RDWR | O_NOCTTY);
	dup2(slave, 0);
	dup2(slave, 1);
	close(slave);
	return m;
}

static tcflag_t lflags(void)
{
	struct termios t;

	cr_assert_eq(tcgetattr(0, &t), 0);
	return t.c_lflag;
}

static struct chardev *add_legacy(const char *spec)
{
	struct chardev *c;

	cr_assert_eq(char_add_legacy(set, spec, "serial0", &c, &e), 0, "%s", e.text);
	char_set_escape(set, on_escape, NULL);
	return connected(c);
}

Test(chardev, test_char_stdio_terminal_is_raw_and_restored)
{
	int m = take_terminal();
	struct chardev *c;

	cr_assert(lflags() & ICANON);
	c = add_legacy("mon:stdio");
	cr_assert_not(lflags() & (ICANON | ECHO | ISIG));
	cr_assert_not(fcntl(0, F_GETFL) & O_NONBLOCK);
	cr_assert_not(fcntl(1, F_GETFL) & O_NONBLOCK);
	write_all(c, "login: ");
	read_expect(m, "login: ");
	char_restore_terminal();
	cr_assert(lflags() & ICANON);
	char_resume_terminal();
	cr_assert_not(lflags() & ICANON);
	char_connect(c, NULL, NULL, NULL);
	cr_assert_eq(char_del(set, "serial0", &e), 0);
	cr_assert_eq(lflags() & (ICANON | ECHO | ISIG), ICANON | ECHO | ISIG);
}

Test(chardev, test_char_stdio_plain_keeps_signals)
{
	take_terminal();
	add_legacy("stdio");
	cr_assert(lflags() & ISIG);
	cr_assert_not(lflags() & ICANON);
}

Test(chardev, test_char_stdio_twice_refused)
{
	struct chardev *c;

	take_terminal();
	add_legacy("stdio");
	cr_assert_eq(char_add_legacy(set, "stdio", "b", &c, &e), -EBUSY);
	cr_assert_not_null(strstr(e.text, "only one can"));
}

Test(chardev, test_char_escapes_reach_owner_and_front_end)
{
	int m = take_terminal();
	char help[512] = "";

	add_legacy("mon:stdio");
	cr_assert_eq(write(m, "a\x01xb\x01\x01" "c\x01" "b\x01qd\x01" "c\x01s", 16), 16);
	until(rec.in_len == 5);
	cr_assert_arr_eq(rec.in, "ab\x01" "cd", 5);
	cr_assert_str_eq(escapes, "xcs");
	cr_assert_eq(rec.breaks, 1);
	cr_assert_eq(write(m, "\x01h", 2), 2);
	turns(4);
	cr_assert_gt(read(m, help, sizeof(help) - 1), 0);
	cr_assert_not_null(strstr(help, "Ctrl-A x   end"));
}

Test(chardev, test_char_escape_works_while_the_guest_is_stuck)
{
	int m = take_terminal(), i;
	struct chardev *c;
	char block[512];

	rec.room = 0;
	c = add_legacy("mon:stdio");
	memset(block, 'z', sizeof(block));
	for (i = 0; i < 40; i++) {
		cr_assert_gt(write(m, block, sizeof(block)), 0);
		turns(2);
	}
	cr_assert_eq(write(m, "\x01x", 2), 2);
	until(escapes[0] == 'x');
	cr_assert_eq(rec.in_len, 0);
	rec.room = sizeof(rec.in);
	char_accept_input(c);
	until(rec.in_len == 4096);	/* what is typed ahead is bounded */
}

Test(chardev, test_char_without_mux_has_no_escapes)
{
	int m = take_terminal();

	add_legacy("stdio");
	cr_assert_eq(write(m, "\x01x", 2), 2);
	until(rec.in_len == 2);
	cr_assert_str_eq(escapes, "");
}

Test(chardev, test_char_stdio_redirected_to_a_file)
{
	int in = open("/dev/null", O_RDONLY);
	int out = open(in_dir("out"), O_CREAT | O_RDWR, 0600);
	struct chardev *c;

	dup2(in, 0);
	dup2(out, 1);
	c = add_legacy("stdio");
	write_all(c, "to a file");
	char_drain(set, NS_PER_SEC);
	file_expect(in_dir("out"), "to a file");
}

Test(chardev, test_char_stdio_broken_pipe_is_survived)
{
	struct chardev *c;
	int p[2], in[2];

	cr_assert_eq(pipe(p), 0);
	cr_assert_eq(pipe(in), 0);
	dup2(in[0], 0);
	dup2(p[1], 1);
	close(p[1]);
	c = add_legacy("stdio");
	write_all(c, "heard");
	read_expect(p[0], "heard");
	close(p[0]);
	write_all(c, "unheard");
	until(!char_is_open(c));
	write_all(c, "still running");
	cr_assert_eq(write(in[1], "k", 1), 1);
	until(rec.in_len == 1);
}

Test(chardev, test_char_stdio_on_sockets)
{
	struct chardev *c;
	int fd[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	dup2(fd[0], 0);
	dup2(fd[0], 1);
	fcntl(fd[1], F_SETFL, O_NONBLOCK);
	c = add_legacy("stdio");
	write_all(c, "out");
	read_expect(fd[1], "out");
	cr_assert_eq(write(fd[1], "in", 2), 2);
	until(rec.in_len == 2);
	cr_assert_not(fcntl(0, F_GETFL) & O_NONBLOCK);
}

Test(chardev, test_char_stdio_end_of_input_leaves_output)
{
	int in[2], out[2];
	struct chardev *c;

	cr_assert_eq(pipe(in), 0);
	cr_assert_eq(pipe(out), 0);
	dup2(in[0], 0);
	dup2(out[1], 1);
	c = add_legacy("stdio");
	close(in[1]);
	turns(4);
	write_all(c, "still here");
	read_expect(out[0], "still here");
}

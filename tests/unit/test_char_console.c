/*
 * tests/unit/test_char_console.c - the console server: many watch, one writes.
 * Threads: one.
 * Missing: nothing known.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/unit/lib_char.h"
#include "vmm/char/char_console.h"

TestSuite(charconsole, .init = char_test_begin, .fini = char_test_end);

/* ---- a client ---- */

struct client {
	int fd;
	bool framed;
	int role;		/* -1: not told */
	bool closed;
	char notice[200];	/* the last */
	uint8_t *got;
	size_t len;
	uint8_t raw[1 << 17];
	size_t raw_len;
};

static int dial(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", in_dir("con"));
	cr_assert_eq(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0, "%s", strerror(errno));
	return fd;
}

static struct client *join(int flags)
{
	struct client *k = xcalloc(1, sizeof(*k));
	uint8_t hello[2] = { CONSOLE_VERSION, (uint8_t)flags };

	k->fd = dial();
	k->role = -1;
	k->framed = flags >= 0;
	k->got = xcalloc(1, 8 << 20);
	if (k->framed)
		cr_assert_eq(write(k->fd, hello, 2), 2);
	return k;
}

static void leave(struct client *k)
{
	close(k->fd);
	free(k->got);
	free(k);
}

static void say(struct client *k, uint8_t type, const void *p, size_t len)
{
	uint8_t f[CONSOLE_HEAD + CONSOLE_INPUT_MAX] = { type, (uint8_t)len, (uint8_t)(len >> 8) };

	memcpy(f + CONSOLE_HEAD, p, len);
	cr_assert_eq(write(k->fd, f, CONSOLE_HEAD + len), (ssize_t)(CONSOLE_HEAD + len));
}

static void take_frame(struct client *k, uint8_t type, const uint8_t *p, size_t len)
{
	switch (type) {
	case CONSOLE_OUTPUT:
		memcpy(k->got + k->len, p, len);
		k->len += len;
		break;
	case CONSOLE_NOTICE:
		snprintf(k->notice, sizeof(k->notice), "%.*s", (int)len, (const char *)p);
		break;
	case CONSOLE_ROLE:
		cr_assert_eq(len, 1);
		k->role = *p;
		break;
	default:
		cr_assert_fail("frame of type %u", type);
	}
}

/* Read up to @max bytes of what there is, turn the loop once. */
static void listen_some(struct client *k, size_t max)
{
	size_t at = 0, len;
	ssize_t n;

	cr_assert_geq(loop_turn(l, NS_PER_MS), 0);
	n = read(k->fd, k->raw + k->raw_len, MIN(max, sizeof(k->raw) - k->raw_len));
	k->closed |= n == 0;
	k->raw_len += n > 0 ? (size_t)n : 0;
	if (!k->framed) {
		memcpy(k->got + k->len, k->raw, k->raw_len);
		k->len += k->raw_len;
		k->raw_len = 0;
		return;
	}
	if (k->raw_len && k->raw[0] == CONSOLE_VERSION)
		at = 1;
	while (k->raw_len - at >= CONSOLE_HEAD) {
		len = get_le16(k->raw + at + 1);
		if (k->raw_len - at < CONSOLE_HEAD + len)
			break;
		take_frame(k, k->raw[at], k->raw + at + CONSOLE_HEAD, len);
		at += CONSOLE_HEAD + len;
	}
	memmove(k->raw, k->raw + at, k->raw_len - at);
	k->raw_len -= at;
}

#define hear(k, cond) do {						\
	uint64_t stop_ = clock_ns() + 10 * NS_PER_SEC;			\
	while (!(cond) && clock_ns() < stop_)				\
		listen_some(k, sizeof((k)->raw));			\
	cr_assert(cond, "%s: got '%s', notice '%s', role %d", #cond,	\
		  (char *)(k)->got, (k)->notice, (k)->role);		\
} while (0)

static struct chardev *add_console(const char *more)
{
	struct chardev *c;

	cr_assert_eq(try_add(&c, "console,id=con,path=%s%s", in_dir("con"), more), 0, "%s",
		     e.text);
	return connected(c);
}

/* ---- watching ---- */

Test(charconsole, test_console_everybody_sees_from_the_first_byte)
{
	struct chardev *c = add_console("");
	struct client *k[3];
	struct stat st;
	int i;

	write_all(c, "Linux version\n");
	for (i = 0; i < 3; i++) {
		k[i] = join(0);
		hear(k[i], !strcmp((char *)k[i]->got, "Linux version\n"));
	}
	write_all(c, "login: ");
	for (i = 0; i < 3; i++)
		hear(k[i], !strcmp((char *)k[i]->got, "Linux version\nlogin: "));
	cr_assert_eq(rec.opened, 1);
	cr_assert_eq(stat(in_dir("con"), &st), 0);
	cr_assert_eq(st.st_mode & 0777, 0600);
	for (i = 0; i < 3; i++)
		leave(k[i]);
	until(rec.closed == 1);
}

Test(charconsole, test_console_plain_client_needs_no_protocol)
{
	struct chardev *c = add_console("");
	struct client *k = join(-1), *late;

	write_all(c, "boot\n");
	hear(k, !strcmp((char *)k->got, "boot\n"));
	cr_assert_eq(write(k->fd, "root\n", 5), 5);
	until(rec.in_len == 5);
	late = join(-1);
	cr_assert_eq(write(late->fd, "x", 1), 1);
	hear(late, strstr((char *)late->got, "boot\n"));
	hear(late, strstr((char *)late->got, "[console: another client has the keyboard; "
			  "you watch]\r\n"));
	turns(3);
	cr_assert_eq(rec.in_len, 5);
	leave(k);
	leave(late);
}

Test(charconsole, test_console_late_hello_is_understood)
{
	struct chardev *c = add_console("");
	struct client *k = join(-1);
	uint8_t hello[2] = { CONSOLE_VERSION, 0 };

	write_all(c, "boot\n");
	hear(k, k->len == 5);		/* taken for a plain one by now */
	k->framed = true;
	cr_assert_eq(write(k->fd, hello, 1), 1);
	turns(3);
	cr_assert_eq(write(k->fd, hello + 1, 1), 1);
	hear(k, k->role == 1);
	write_all(c, "on\n");
	hear(k, !strcmp((char *)k->got, "boot\non\n"));
	leave(k);
}

/* ---- writing ---- */

Test(charconsole, test_console_first_come_writes_and_the_next_follows)
{
	struct client *a, *b;

	add_console("");
	a = join(0);
	hear(a, a->role == 1);
	b = join(0);
	hear(b, b->role == 0 && strstr(b->notice, "another client has the keyboard"));
	say(b, CONSOLE_INPUT, "no", 2);
	say(a, CONSOLE_INPUT, "yes", 3);
	until(rec.in_len == 3);
	cr_assert_arr_eq(rec.in, "yes", 3);
	leave(a);
	hear(b, b->role == 1 && strstr(b->notice, "you have the keyboard now"));
	say(b, CONSOLE_INPUT, "me", 2);
	until(rec.in_len == 5);
	leave(b);
}

Test(charconsole, test_console_take_over_and_read_only)
{
	struct client *a, *b, *ro;

	add_console("");
	a = join(0);
	hear(a, a->role == 1);
	ro = join(CONSOLE_READ_ONLY);
	hear(ro, ro->role == 0);
	b = join(CONSOLE_TAKE);
	hear(b, b->role == 1);
	hear(a, a->role == 0 && strstr(a->notice, "took the keyboard"));
	say(a, CONSOLE_TAKE_OVER, "", 0);
	hear(a, a->role == 1);
	hear(b, b->role == 0);
	say(a, CONSOLE_LET_GO, "", 0);
	hear(b, b->role == 1);
	leave(b);
	turns(5);
	say(ro, CONSOLE_INPUT, "x", 1);		/* never promoted */
	turns(5);
	cr_assert_eq(rec.in_len, 0);
	cr_assert_eq(ro->role, 0);
	leave(a);
	leave(ro);
}

/* What the writer before typed fills the guest's side: the first bytes of a
 * newcomer, who is not known to be a plain one yet, have to wait. */
Test(charconsole, test_console_plain_newcomer_types_behind_input_that_waits)
{
	static char text[4096];
	struct client *k;

	memset(text, 'a', sizeof(text));
	add_console("");
	rec.room = 0;
	k = join(-1);
	cr_assert_eq(write(k->fd, text, sizeof(text)), (ssize_t)sizeof(text));
	turns(300);
	leave(k);
	turns(3);
	k = join(-1);
	cr_assert_eq(write(k->fd, "later", 5), 5);
	turns(5);
	rec.room = sizeof(rec.in);
	char_accept_input(char_find(set, "con"));
	until(rec.in_len == sizeof(text) + 5);
	cr_assert_arr_eq(rec.in + sizeof(text) - 1, "alater", 6);
	leave(k);
}

Test(charconsole, test_console_input_waits_for_the_guest)
{
	static uint8_t text[20000];
	struct client *k;
	size_t i, sent = 0;
	ssize_t n;

	for (i = 0; i < sizeof(text); i++)
		text[i] = (uint8_t)('a' + i % 26);
	add_console("");
	rec.room = 0;
	k = join(-1);
	while (rec.in_len < sizeof(text)) {
		n = write(k->fd, text + sent, sizeof(text) - sent);
		sent += n > 0 ? (size_t)n : 0;
		turns(1);
		rec.room = 700;
		char_accept_input(char_find(set, "con"));
		turns(1);
	}
	cr_assert_arr_eq(rec.in, text, sizeof(text));
	leave(k);
}

/* What was typed last counts, also of a client that does not stay. */
Test(charconsole, test_console_input_of_a_client_that_left_arrives)
{
	struct client *k;

	add_console("");
	rec.room = 0;
	k = join(0);
	hear(k, k->role == 1);
	say(k, CONSOLE_INPUT, "poweroff\n", 9);
	turns(2);
	say(k, CONSOLE_INPUT, "now\n", 4);
	leave(k);
	turns(5);
	rec.room = 100;
	char_accept_input(char_find(set, "con"));
	until(rec.in_len == 13);
	until(rec.closed == 1);
}

Test(charconsole, test_console_window_size_is_the_writers)
{
	static const uint8_t wide[] = { 132, 0, 50, 0 }, small[] = { 80, 0, 24, 0 };
	struct chardev *c = add_console("");
	struct client *a = join(0), *b;
	uint16_t cols, rows;

	hear(a, a->role == 1);
	b = join(0);
	hear(b, b->role == 0);
	say(b, CONSOLE_SIZE, small, 4);
	say(a, CONSOLE_SIZE, wide, 4);
	until(rec.winsize == 1);
	char_winsize(c, &cols, &rows);
	cr_assert(cols == 132 && rows == 50);
	leave(a);
	until(rec.winsize == 2);
	char_winsize(c, &cols, &rows);
	cr_assert(cols == 80 && rows == 24);
	leave(b);
}

/* ---- slow ones ---- */

static uint8_t stream(size_t i)
{
	return (uint8_t)((i * 2654435761u) >> 13);
}

/* Write stream bytes from *@at on until @end or until nothing is taken. */
static void write_stream(struct chardev *c, size_t *at, size_t end)
{
	uint8_t buf[4096];
	size_t i, n = MIN(sizeof(buf), end - *at);

	for (i = 0; i < n; i++)
		buf[i] = stream(*at + i);
	*at += char_write(c, buf, n);
}

/* Two megabytes to a writer that reads little at a time: every byte. */
Test(charconsole, test_console_writer_loses_nothing)
{
	enum { TOTAL = 2 << 20 };
	struct chardev *c = add_console("");
	struct client *k = join(0);
	size_t at = 0, i;

	hear(k, k->role == 1);
	while (k->len < TOTAL) {
		write_stream(c, &at, TOTAL);
		listen_some(k, 3000);
	}
	for (i = 0; i < TOTAL; i++)
		cr_assert_eq(k->got[i], stream(i), "byte %zu", i);
	cr_assert_str_eq(k->notice, "");
	leave(k);
}

/* A watcher that does not read is no burden, and is told what it missed. */
Test(charconsole, test_console_slow_watcher_skips_with_a_mark)
{
	enum { TOTAL = 3 << 20 };
	struct chardev *c = add_console("");
	struct client *a = join(0), *slow;
	unsigned long long lost;
	size_t at = 0, i;

	hear(a, a->role == 1);
	slow = join(0);
	hear(slow, slow->role == 0);
	while (a->len < TOTAL) {
		write_stream(c, &at, TOTAL);
		listen_some(a, sizeof(a->raw));
	}
	*slow->notice = '\0';
	hear(slow, sscanf(slow->notice, "%llu bytes skipped", &lost) == 1);
	hear(slow, slow->len + lost == TOTAL);
	for (i = 1; i <= 4096; i++)
		cr_assert_eq(slow->got[slow->len - i], stream(TOTAL - i));
	leave(a);
	leave(slow);
}

/* A writer that stands still holds the guest up for two seconds, once. */
Test(charconsole, test_console_stuck_writer_does_not_stop_the_guest)
{
	struct chardev *c = add_console("");
	struct client *k = join(0);
	uint64_t start;
	size_t at = 0;

	hear(k, k->role == 1);
	start = clock_ns();
	while (at < 4 << 20) {
		write_stream(c, &at, 4 << 20);
		turns(1);
		cr_assert_lt(clock_ns() - start, 20 * NS_PER_SEC);
	}
	cr_expect_gt(clock_ns() - start, 1500 * NS_PER_MS);
	cr_expect_gt(rec.writable, 0);
	hear(k, strstr(k->notice, "bytes skipped"));
	/* It reads again: it loses nothing again. */
	hear(k, k->got[k->len - 1] == stream((4 << 20) - 1));
	cr_assert_geq(fill(c), RING);
	leave(k);
}

/* ---- hostile ones ---- */

Test(charconsole, test_console_garbage_is_survived)
{
	struct chardev *c = add_console("");
	static uint8_t junk[3000];
	struct client *good, *k;
	int i;

	for (i = 0; i < 200; i++) {
		k = join(i % 3 ? 0 : -1);
		for (size_t j = 0; j < sizeof(junk); j++)
			junk[j] = (uint8_t)rand();
		cr_assert_gt(write(k->fd, junk, (size_t)(1 + rand() % 2999)), 0);
		turns(1);
		if (i % 2)
			shutdown(k->fd, SHUT_WR);
		turns(1);
		leave(k);
	}
	k = join(0);
	say(k, CONSOLE_INPUT, "", 0);
	memset(junk, 0xff, 3);
	cr_assert_eq(write(k->fd, junk, 3), 3);		/* a frame of 65535 bytes */
	hear(k, k->closed);
	leave(k);
	good = join(CONSOLE_TAKE);
	hear(good, good->role == 1);
	write_all(c, "still here");
	hear(good, strstr((char *)good->got, "still here"));
	leave(good);
}

Test(charconsole, test_console_thousands_of_connects_are_bounded)
{
	struct rlimit old, many = { 4096, 4096 };
	struct chardev *c = add_console("");
	struct client *k;
	int fd[100], i, round, refused = 0;
	char text[64];

	getrlimit(RLIMIT_NOFILE, &old);
	setrlimit(RLIMIT_NOFILE, &many);
	for (round = 0; round < 30; round++) {
		for (i = 0; i < 100; i++) {
			struct sockaddr_un a = { .sun_family = AF_UNIX };

			fd[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
			snprintf(a.sun_path, sizeof(a.sun_path), "%s", in_dir("con"));
			while (connect(fd[i], (struct sockaddr *)&a, sizeof(a)) < 0)
				turns(1);	/* the backlog is full */
		}
		turns(10);
		for (i = 0; i < 100; i++) {
			refused += read(fd[i], text, sizeof(text)) > 0 &&
				strncmp(text, "[console: too many", 18) == 0;
			close(fd[i]);
		}
		turns(5);
	}
	cr_assert_eq(refused, 30 * (100 - (int)CONSOLE_CLIENTS));
	k = join(0);
	write_all(c, "x");
	hear(k, k->role == 1 && k->len == 1);
	leave(k);
}

/* ---- with a pty ---- */

Test(charconsole, test_console_on_a_pty_serves_both)
{
	struct chardev *c, *pty;
	struct client *k;
	int fd;

	cr_assert_eq(try_add(&pty, "pty,id=p"), 0);
	c = add_console(",chardev=p");
	write_all(c, "boot\n");
	turns(3);
	fd = open(char_filename(pty) + strlen("pty:"), O_RDWR | O_NOCTTY | O_NONBLOCK);
	cr_assert_geq(fd, 0);
	read_expect(fd, "boot\n");
	cr_assert_eq(write(fd, "tty", 3), 3);
	until(rec.in_len == 3);
	k = join(0);
	hear(k, k->role == 0 && !strcmp((char *)k->got, "boot\n"));
	say(k, CONSOLE_TAKE_OVER, "", 0);
	hear(k, k->role == 1);
	read_expect(fd, "\r\n[console: another client took the keyboard; you watch]\r\n");
	cr_assert_eq(write(fd, "zzz", 3), 3);
	turns(50);		/* a pty passes things on when it likes */
	cr_assert_eq(rec.in_len, 3);
	say(k, CONSOLE_INPUT, "sock", 4);
	until(rec.in_len == 7);
	cr_assert_arr_eq(rec.in, "ttysock", 7);
	leave(k);
	read_expect(fd, "\r\n[console: you have the keyboard now]\r\n");
	cr_assert_eq(write(fd, "!", 1), 1);
	until(rec.in_len == 8);
	close(fd);
	until(rec.closed == 1);
}

Test(charconsole, test_console_mistakes_are_named)
{
	add_console("");
	cr_assert_lt(try_add(NULL, "console,id=b"), 0);
	cr_assert_not_null(strstr(e.text, "path"), "%s", e.text);
	e = (struct err)ERR_INIT;
	cr_assert_eq(try_add(NULL, "console,id=b,path=%s", in_dir("con")), -EADDRINUSE);
	e = (struct err)ERR_INIT;
	cr_assert_eq(try_add(NULL, "console,id=b,path=%s,chardev=x", in_dir("c2")), -ENOENT);
	cr_assert_not_null(strstr(e.text, "chardev=x"), "%s", e.text);
	e = (struct err)ERR_INIT;
	cr_assert_eq(try_add(NULL, "console,id=b,path=%s,chardev=con", in_dir("c2")), -EBUSY);
	cr_assert_not_null(strstr(e.text, "in use by test"), "%s", e.text);
}

Test(charconsole, test_console_is_drained_at_the_end)
{
	struct chardev *c = add_console("");
	struct client *k = join(0);

	hear(k, k->role == 1);
	write_all(c, "reboot: Power down\n");
	char_drain(set, NS_PER_SEC);
	char_connect(c, NULL, NULL, NULL);
	cr_assert_eq(char_del(set, "con", &e), 0);
	hear(k, k->closed);
	cr_assert_str_eq((char *)k->got, "reboot: Power down\n");
	cr_assert_lt(access(in_dir("con"), F_OK), 0);
	leave(k);
}

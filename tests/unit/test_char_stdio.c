/*
 * tests/unit/test_char_stdio.c - standard input and output, and Ctrl-A.
 * Threads: one.
 * Missing: a terminal that really vanishes; job control (needs a session).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "tests/unit/lib_char.h"

TestSuite(charstdio, .init = char_test_begin, .fini = char_test_end);

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

Test(charstdio, test_char_stdio_terminal_is_raw_and_restored)
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

Test(charstdio, test_char_stdio_plain_keeps_signals)
{
	take_terminal();
	add_legacy("stdio");
	cr_assert(lflags() & ISIG);
	cr_assert_not(lflags() & ICANON);
}

Test(charstdio, test_char_stdio_twice_refused)
{
	struct chardev *c;

	take_terminal();
	add_legacy("stdio");
	cr_assert_eq(char_add_legacy(set, "stdio", "b", &c, &e), -EBUSY);
	cr_assert_not_null(strstr(e.text, "only one can"));
}

Test(charstdio, test_char_escapes_reach_owner_and_front_end)
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

Test(charstdio, test_char_escape_works_while_the_guest_is_stuck)
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

Test(charstdio, test_char_without_mux_has_no_escapes)
{
	int m = take_terminal();

	add_legacy("stdio");
	cr_assert_eq(write(m, "\x01x", 2), 2);
	until(rec.in_len == 2);
	cr_assert_str_eq(escapes, "");
}

Test(charstdio, test_char_stdio_redirected_to_a_file)
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

Test(charstdio, test_char_stdio_broken_pipe_is_survived)
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

Test(charstdio, test_char_stdio_on_sockets)
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

Test(charstdio, test_char_stdio_end_of_input_leaves_output)
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

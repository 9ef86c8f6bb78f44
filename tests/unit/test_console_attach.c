/*
 * tests/unit/test_console_attach.c - the person's end of a console, in a child
 * process on a terminal or on pipes.
 * Threads: one.
 * Missing: nothing known.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "tests/unit/lib_char.h"
#include "vmm/run/console_attach.h"

static struct chardev *con;
static pid_t child;
static int tty = -1, slave = -1;	/* the terminal, and our own hold on it */
static int to = -1, from = -1;		/* pipes */
static struct termios before;

static void begin(void)
{
	char_test_begin();
	cr_assert_eq(try_add(&con, "console,id=con,path=%s", in_dir("con")), 0, "%s", e.text);
	connected(con);
}

static void end(void)
{
	fd_close(&tty);
	fd_close(&slave);
	fd_close(&to);
	fd_close(&from);
	char_test_end();
}

TestSuite(consoleattach, .init = begin, .fini = end);

/* The child's life. Its stderr goes nowhere. */
static void attach(int in, int out, unsigned int flags)
{
	const char *path = in_dir("con");
	struct err why = ERR_INIT;
	int null = open("/dev/null", O_WRONLY);

	dup2(in, 0);
	dup2(out, 1);
	dup2(null, 2);
	_exit(console_attach(path, "vm", flags, &why) ? 7 : 0);
}

static void on_terminal(unsigned int flags)
{
	char name[64];

	tty = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	cr_assert(tty >= 0 && grantpt(tty) == 0 && unlockpt(tty) == 0);
	cr_assert_eq(ptsname_r(tty, name, sizeof(name)), 0);
	slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
	cr_assert_eq(tcgetattr(slave, &before), 0);
	child = fork();
	if (child == 0) {
		setsid();
		int fd = open(name, O_RDWR);

		attach(fd, fd, flags);
	}
}

static void on_pipes(unsigned int flags)
{
	int in[2], out[2];

	cr_assert_eq(pipe2(in, O_CLOEXEC), 0);
	cr_assert_eq(pipe2(out, O_CLOEXEC), 0);
	child = fork();
	if (child == 0) {
		close(in[1]);
		close(out[0]);
		attach(in[0], out[1], flags);
	}
	close(in[0]);
	close(out[1]);
	to = in[1];
	from = out[0];
}

static void child_ends(int want)
{
	uint64_t stop = clock_ns() + 10 * NS_PER_SEC;
	int status = -1;

	while (waitpid(child, &status, WNOHANG) == 0 && clock_ns() < stop)
		turns(1);
	cr_assert_eq(status, want, "status 0x%x", status);
}

static void expect_restored(void)
{
	struct termios now;

	cr_assert_eq(tcgetattr(slave, &now), 0);
	cr_assert_eq(now.c_lflag, before.c_lflag);
	cr_assert_eq(now.c_iflag, before.c_iflag);
	cr_assert_eq(now.c_oflag, before.c_oflag);
}

static void expect_raw(void)
{
	struct termios now;

	cr_assert_eq(tcgetattr(slave, &now), 0);
	cr_assert_eq(now.c_lflag & (ICANON | ECHO | ISIG), 0);
}

Test(consoleattach, test_console_attach_on_a_terminal_until_the_escape)
{
	write_all(con, "boot> ");
	on_terminal(0);
	read_expect(tty, "boot> ");
	expect_raw();
	cr_assert_eq(write(tty, "ls\r\x03", 4), 4);
	until(rec.in_len == 4);
	cr_assert_arr_eq(rec.in, "ls\r\x03", 4);
	cr_assert_eq(write(tty, "x\x1d" "y", 3), 3);
	child_ends(0);
	expect_restored();
	until(rec.closed == 1);
	cr_assert_eq(rec.in_len, 5);		/* x, and nothing behind Ctrl-] */
}

Test(consoleattach, test_console_attach_signals_restore_the_terminal)
{
	static const int sigs[] = { SIGTERM, SIGINT, SIGHUP, SIGSEGV, SIGABRT };
	bool fatal;

	write_all(con, ">");
	for (size_t i = 0; i < ARRAY_LEN(sigs); i++) {
		on_terminal(0);
		read_expect(tty, ">");
		expect_raw();
		kill(child, sigs[i]);
		fatal = sigs[i] == SIGSEGV || sigs[i] == SIGABRT;
		if (fatal) {
			int status = 0;

			cr_assert_eq(waitpid(child, &status, 0), child);
			cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == sigs[i]);
		} else {
			child_ends(0);
		}
		expect_restored();
		fd_close(&tty);
		fd_close(&slave);
		turns(3);
	}
}

Test(consoleattach, test_console_attach_passes_the_window_size)
{
	struct winsize w = { .ws_row = 50, .ws_col = 132 };
	uint16_t cols, rows;

	write_all(con, ">");
	on_terminal(0);
	read_expect(tty, ">");
	cr_assert_eq(ioctl(tty, TIOCSWINSZ, &w), 0);
	until(rec.winsize >= 1);
	char_winsize(con, &cols, &rows);
	cr_assert(cols == 132 && rows == 50);
	cr_assert_eq(write(tty, "\x1d", 1), 1);
	child_ends(0);
}

Test(consoleattach, test_console_attach_read_only_types_nothing)
{
	write_all(con, ">");
	on_terminal(CONSOLE_ATTACH_READ_ONLY);
	read_expect(tty, ">");
	cr_assert_eq(write(tty, "rm -rf /\r", 9), 9);
	turns(20);
	cr_assert_eq(rec.in_len, 0);
	cr_assert_eq(write(tty, "\x1d", 1), 1);
	child_ends(0);
}

/* On pipes every byte counts, in both directions, notices go elsewhere. */
Test(consoleattach, test_console_attach_on_pipes_is_exact)
{
	enum { TOTAL = 300000 };
	uint8_t byte, got[4096];
	size_t sent = 0, seen = 0;
	ssize_t n;

	on_pipes(0);
	fcntl(from, F_SETFL, O_NONBLOCK);
	until(rec.opened == 1);
	while (seen < TOTAL) {
		for (; sent < TOTAL; sent++) {
			byte = (uint8_t)(sent * 31 >> 3);
			if (!char_write(con, &byte, 1))
				break;
		}
		turns(1);
		n = read(from, got, sizeof(got));
		for (ssize_t i = 0; i < n; i++, seen++)
			cr_assert_eq(got[i], (uint8_t)(seen * 31 >> 3), "byte %zu", seen);
	}
	cr_assert_eq(write(to, "a\x1d" "b", 3), 3);
	until(rec.in_len == 3);
	cr_assert_arr_eq(rec.in, "a\x1d" "b", 3);
	fd_close(&to);			/* its end is no reason to go */
	write_all(con, "more");
	read_expect(from, "more");
	fd_close(&from);		/* but that nobody reads is */
	write_all(con, "nobody");
	child_ends(0);
}

/* Its input at the end, as with </dev/null: it watches as long as somebody reads. */
Test(consoleattach, test_console_attach_watches_a_quiet_guest_until_nobody_reads)
{
	write_all(con, "boot> ");
	on_pipes(0);
	fd_close(&to);
	read_expect(from, "boot> ");
	turns(20);
	cr_assert_eq(waitpid(child, NULL, WNOHANG), 0);
	write_all(con, "more");
	read_expect(from, "more");
	fd_close(&from);		/* and the guest writes nothing */
	child_ends(0);
}

Test(consoleattach, test_console_attach_types_what_is_there_though_nobody_reads)
{
	on_pipes(0);
	until(rec.opened == 1);
	cr_assert_eq(kill(child, SIGSTOP), 0);
	cr_assert_eq(write(to, "poweroff\n", 9), 9);
	fd_close(&to);
	fd_close(&from);
	cr_assert_eq(kill(child, SIGCONT), 0);
	child_ends(0);
	until(rec.in_len == 9);
	cr_assert_arr_eq(rec.in, "poweroff\n", 9);
}

Test(consoleattach, test_console_attach_ends_with_the_console)
{
	on_pipes(0);
	until(rec.opened == 1);
	write_all(con, "reboot: Power down\n");
	char_drain(set, NS_PER_SEC);
	char_connect(con, NULL, NULL, NULL);
	cr_assert_eq(char_del(set, "con", &e), 0);
	child_ends(0);
	read_expect(from, "reboot: Power down\n");
}

Test(consoleattach, test_console_attach_without_a_console_says_so)
{
	struct err why = ERR_INIT;

	cr_assert_eq(console_attach(in_dir("none"), "vm", 0, &why), -ENOENT);
	cr_assert_not_null(strstr(why.text, "cannot reach the console"), "%s", why.text);
}

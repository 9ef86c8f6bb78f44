/*
 * vmm/run/console_attach.c - the person's end of a console.
 * Threads: the only one of the process.
 * Missing: nothing known.
 *
 * Nothing is read while what was read before has not been passed on, in either
 * direction, so memory is bounded and the console learns that we are slow.
 */
#include "vmm/run/console_attach.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/util.h"
#include "vmm/char/char.h"
#include "vmm/char/char_console.h"
#include "vmm/char/char_term.h"

enum {
	CTRL_RIGHT_BRACKET = 0x1d,
	FRAME_MAX = CONSOLE_HEAD + UINT16_MAX,
	PIECE = 4096,		/* a pipe that polls writable takes so much at once */
};

struct attach {
	const char *name;
	int sock, signals;
	bool terminal;		/* standard input is one */
	bool in_open;		/* there is more to read from it */
	bool framed;		/* the server said so */
	bool left;		/* the person wants to go */
	bool gone;		/* the console is */
	uint8_t to[CONSOLE_HEAD * 2 + CONSOLE_INPUT_MAX + 8];	/* for the server */
	size_t to_off, to_len;
	uint8_t from[FRAME_MAX];	/* from the server: frames not complete */
	size_t from_len;
	size_t show_off, show_end;	/* of from[]: output to show */
	size_t used;		/* of from[]: the frame that is being shown */
};

/* ---- messages ---- */

/* The terminal may be raw. */
static void tell(const struct attach *a, const char *text, size_t len)
{
	dprintf(STDERR_FILENO, "%s[%s: %.*s]%s", a->terminal ? "\r\n" : "", a->name, (int)len,
		text, a->terminal ? "\r\n" : "\n");
}

static void tell_text(const struct attach *a, const char *text)
{
	tell(a, text, strlen(text));
}

/* ---- to the server ---- */

static void put_frame(struct attach *a, uint8_t type, const void *p, size_t len)
{
	if (a->to_len + CONSOLE_HEAD + len > sizeof(a->to))
		return;		/* a size that is followed by another one */
	a->to[a->to_len] = type;
	put_le16(a->to + a->to_len + 1, (uint16_t)len);
	memcpy(a->to + a->to_len + CONSOLE_HEAD, p, len);
	a->to_len += CONSOLE_HEAD + len;
}

static void put_size(struct attach *a)
{
	struct winsize w;
	uint8_t size[4];

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) < 0)
		return;
	put_le16(size, w.ws_col);
	put_le16(size + 2, w.ws_row);
	put_frame(a, CONSOLE_SIZE, size, sizeof(size));
}

static int flush_to(struct attach *a)
{
	ssize_t n = send(a->sock, a->to + a->to_off, a->to_len - a->to_off,
			 MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	a->to_off += (size_t)n;
	if (a->to_off == a->to_len)
		a->to_off = a->to_len = 0;
	return 0;
}

static void read_input(struct attach *a)
{
	uint8_t buf[CONSOLE_INPUT_MAX], *stop;
	ssize_t n = read(STDIN_FILENO, buf, sizeof(buf));
	size_t len;

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		a->in_open = false;
		a->left = a->terminal;		/* it was hung up */
		put_frame(a, CONSOLE_LET_GO, "", 0);
		return;
	}
	len = (size_t)n;
	stop = a->terminal ? memchr(buf, CTRL_RIGHT_BRACKET, len) : NULL;
	if (stop) {
		a->left = true;
		len = (size_t)(stop - buf);
	}
	if (len)
		put_frame(a, CONSOLE_INPUT, buf, len);
}

/* ---- from the server ---- */

/* Look at the next frame; output is left to be shown. False: not all is there. */
static bool next_frame(struct attach *a)
{
	size_t len;

	if (!a->framed) {
		const uint8_t *v = memchr(a->from, CONSOLE_VERSION, a->from_len);

		a->framed = v != NULL;
		a->show_off = 0;
		a->show_end = v ? (size_t)(v - a->from) : a->from_len;
		a->used = a->show_end + (v != NULL);
		return a->used > 0;
	}
	if (a->from_len < CONSOLE_HEAD)
		return false;
	len = get_le16(a->from + 1);
	if (a->from_len < CONSOLE_HEAD + len)
		return false;
	a->show_off = a->show_end = 0;
	a->used = CONSOLE_HEAD + len;
	if (a->from[0] == CONSOLE_OUTPUT) {
		a->show_off = CONSOLE_HEAD;
		a->show_end = a->used;
	} else if (a->from[0] == CONSOLE_NOTICE) {
		tell(a, (const char *)a->from + CONSOLE_HEAD, len);
	}
	return true;
}

static void drop_used(struct attach *a)
{
	a->from_len -= a->used;
	memmove(a->from, a->from + a->used, a->from_len);
	a->used = a->show_off = a->show_end = 0;
}

static bool has_output(struct attach *a)
{
	while (a->show_off == a->show_end) {
		if (a->used)
			drop_used(a);
		if (!next_frame(a))
			return false;
	}
	return true;
}

static int show(struct attach *a)
{
	ssize_t n = write(STDOUT_FILENO, a->from + a->show_off,
			  MIN(a->show_end - a->show_off, (size_t)PIECE));

	if (n < 0)
		return errno == EINTR || errno == EAGAIN ? 0 : -errno;
	a->show_off += (size_t)n;
	return 0;
}

static void receive(struct attach *a)
{
	ssize_t n = recv(a->sock, a->from + a->from_len, sizeof(a->from) - a->from_len,
			 MSG_DONTWAIT);

	if (n > 0)
		a->from_len += (size_t)n;
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		a->gone = true;
}

/* ---- signals ---- */

static void on_fatal(int sig)
{
	char_restore_terminal();
	signal(sig, SIG_DFL);
	raise(sig);
}

static void on_signal(struct attach *a)
{
	struct signalfd_siginfo si;

	if (read(a->signals, &si, sizeof(si)) != sizeof(si))
		return;
	switch (si.ssi_signo) {
	case SIGTSTP:		/* from elsewhere: Ctrl-Z is the guest's */
		char_restore_terminal();
		raise(SIGSTOP);
		break;
	case SIGCONT:
		char_resume_terminal();
		put_size(a);
		break;
	case SIGWINCH:
		put_size(a);
		break;
	default:
		a->left = true;
	}
}

static int catch_signals(struct attach *a, sigset_t *old)
{
	static const int fatal[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT };
	static const int ours[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH };
	struct sigaction sa = { .sa_handler = on_fatal, .sa_flags = SA_RESETHAND };
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_LEN(ours); i++)
		sigaddset(&set, ours[i]);
	for (size_t i = 0; i < ARRAY_LEN(fatal); i++)
		sigaction(fatal[i], &sa, NULL);
	signal(SIGPIPE, SIG_IGN);	/* a vanished reader is an EPIPE */
	sigprocmask(SIG_BLOCK, &set, old);
	a->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return a->signals < 0 ? -errno : 0;
}

/* ---- the whole ---- */

static int dial(const char *path, struct err *e)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd, r;

	if (strlen(path) >= sizeof(sa.sun_path))
		return err_set(e, -ENAMETOOLONG, "the console's path '%s' is too long for a "
			       "socket", path);
	memcpy(sa.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0)
		return fd;
	r = -errno;
	fd_close(&fd);
	return err_sys(e, r, "cannot reach the console '%s'", path);
}

/* One wait, and what came of it. */
static int turn(struct attach *a)
{
	bool shows = has_output(a), sends = a->to_len > 0;
	struct pollfd p[] = {
		{ .fd = a->signals, .events = POLLIN },
		/* Not looked at when nothing can be done with it. */
		{ .fd = shows && !sends ? -1 : a->sock,
		  .events = (short)((shows ? 0 : POLLIN) | (sends ? POLLOUT : 0)) },
		{ .fd = a->in_open && !sends ? STDIN_FILENO : -1, .events = POLLIN },
		/* A quiet guest too: that its reader went ends us, but not before what
		 * is there to be typed went out. */
		{ .fd = shows || !sends ? STDOUT_FILENO : -1,
		  .events = (short)(shows ? POLLOUT : 0) },
	};
	int r = 0;

	if (poll(p, ARRAY_LEN(p), -1) < 0)
		return errno == EINTR ? 0 : -errno;
	if (p[0].revents)
		on_signal(a);
	if (p[2].revents)
		read_input(a);
	if (p[3].revents && shows)
		r = show(a);
	else if ((p[3].revents & (POLLERR | POLLHUP)) && !p[2].revents)
		r = -EPIPE;
	if (r == 0 && p[1].revents && a->to_len && flush_to(a) < 0) {
		/* There is nobody to type for, but perhaps more to show. */
		a->in_open = false;
		a->to_off = a->to_len = 0;
	}
	if (!shows && (p[1].revents & ~POLLOUT))
		receive(a);
	return r;
}

/* What was typed before Ctrl-] still goes, if it goes at once. */
static void say_goodbye(struct attach *a)
{
	if (a->to_len && !a->gone)
		flush_to(a);
}

static int converse(struct attach *a, unsigned int flags)
{
	int r = 0;

	a->to[0] = CONSOLE_VERSION;
	a->to[1] = (uint8_t)((flags & CONSOLE_ATTACH_READ_ONLY ? CONSOLE_READ_ONLY : 0) |
			     (flags & CONSOLE_ATTACH_TAKE ? CONSOLE_TAKE : 0));
	a->to_len = 2;
	put_size(a);
	/* At once: a console takes silence for a client without protocol. */
	flush_to(a);
	while (r == 0 && !a->left && !(a->gone && !has_output(a)))
		r = turn(a);
	say_goodbye(a);
	return r;
}

int console_attach(const char *path, const char *name, unsigned int flags, struct err *e)
{
	struct attach a = { .name = name, .signals = -1, .in_open = true };
	sigset_t old;
	int r;

	a.terminal = isatty(STDIN_FILENO);
	a.sock = dial(path, e);
	if (a.sock < 0)
		return a.sock;
	r = catch_signals(&a, &old);
	if (a.terminal && r == 0) {
		tell_text(&a, "console; Ctrl-] leaves");
		r = char_term_enter(STDIN_FILENO, false);
	}
	if (r == 0)
		r = converse(&a, flags);
	if (a.terminal) {
		char_term_leave();
		tell_text(&a, a.left ? "left" : "the console has ended");
	}
	sigprocmask(SIG_SETMASK, &old, NULL);
	fd_close(&a.signals);
	fd_close(&a.sock);
	if (r == -EPIPE)	/* whoever read standard output has had enough */
		return 0;
	return r < 0 ? err_sys(e, r, "%s: the console's standard input or output", name) : 0;
}

/*
 * vmm/char/char_stdio.c - the process's standard input and output.
 * Threads: loop.
 * Missing: nothing known.
 *
 * Descriptors 0 and 1 are shared with whoever started us: O_NONBLOCK on them
 * would show in his shell. So terminals and pipes are opened a second time
 * through /proc, sockets take MSG_DONTWAIT, and what can be had neither way is
 * written by asynchronous I/O, as are regular files.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/char/char_priv.h"
#include "vmm/char/char_term.h"

struct char_stdio {
	struct chardev c;	/* first */
	int signal;		/* enum prop_auto */
	int in, out;		/* our own descriptors; -1: none */
	bool has_term;
	bool claimed;
};

static const struct prop stdio_props[] = {
	PROP_ONOFFAUTO(struct char_stdio, signal, "signal", PROP_AUTO,
		       "Ctrl-C ends roost instead of going to the guest; auto: on, "
		       "but off with mux=on"),
	PROP_END
};

static atomic_flag stdio_taken = ATOMIC_FLAG_INIT;	/* the process has one */

/* A descriptor of our own for @fd that does not wait. Returns -1 where there is
 * none: a regular file, or a terminal of another user. */
static int own_fd(int fd, int mode)
{
	char path[32];
	struct stat st;

	if (fstat(fd, &st) < 0 || S_ISREG(st.st_mode))
		return -1;
	if (S_ISSOCK(st.st_mode))
		return fcntl(fd, F_DUPFD_CLOEXEC, 3);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

static int open_in(struct char_stdio *s)
{
	if (fcntl(STDIN_FILENO, F_GETFD) < 0)
		return 0;	/* closed: no input */
	s->in = own_fd(STDIN_FILENO, O_RDONLY);
	if (s->in < 0)		/* a poll comes before each read */
		s->in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
	return s->in < 0 ? -errno : 0;
}

static int open_out(struct char_stdio *s)
{
	int fd;

	if (fcntl(STDOUT_FILENO, F_GETFD) < 0)
		return 0;
	s->out = own_fd(STDOUT_FILENO, O_WRONLY);
	if (s->out >= 0)
		return 0;
	fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return -errno;
	char_aio_init(&s->c, &s->c.out_aio, &s->c.out, fd);
	return 0;
}

static int stdio_open(struct chardev *c, struct err *e)
{
	struct char_stdio *s = (struct char_stdio *)c;
	int r;

	s->in = s->out = -1;
	if (atomic_flag_test_and_set(&stdio_taken))
		return err_set(e, -EBUSY, "chardev '%s': another chardev has standard input "
			       "and output; only one can", c->id);
	s->claimed = true;
	r = open_in(s);
	if (r >= 0)
		r = open_out(s);
	if (r >= 0)
		r = char_watch(c, s->in, s->out);
	if (r < 0)
		return err_sys(e, r, "chardev '%s': standard input or output", c->id);
	if (isatty(STDIN_FILENO)) {
		bool signals = s->signal == PROP_ON || (s->signal == PROP_AUTO && !c->mux);

		s->has_term = char_term_enter(STDIN_FILENO, signals) == 0;
	}
	char_set_open(c, s->out >= 0 || c->out_aio.fd >= 0 || s->in >= 0, false);
	char_ask_winsize(c, STDIN_FILENO);
	return 0;
}

static void stdio_close(struct chardev *c)
{
	struct char_stdio *s = (struct char_stdio *)c;

	if (s->has_term)
		char_term_leave();
	char_unwatch(c);
	fd_close(&s->in);
	fd_close(&s->out);
	if (s->claimed)
		atomic_flag_clear(&stdio_taken);
}

static ssize_t stdio_read(struct chardev *c, void *buf, size_t len)
{
	char_ask_winsize(c, c->in.fd);
	return char_fd_read(c, buf, len);
}

static ssize_t stdio_write(struct chardev *c, const struct iovec *iov, int n)
{
	struct char_stdio *s = (struct char_stdio *)c;

	return s->out < 0 ? (ssize_t)iov_bytes(iov, n) : char_fd_write(c, iov, n);
}

/* The end of input is not the end of output. */
static void stdio_hangup(struct chardev *c, bool output, int error)
{
	struct char_stdio *s = (struct char_stdio *)c;

	if (!output) {
		loop_fd_del(&c->in);
		fd_close(&s->in);
		c->in.fd = -1;
		return;
	}
	log_warn("chardev '%s': standard output is gone (%s); output is lost",
		 c->id, strerror(error));
	loop_fd_del(&c->out_watch);
	fd_close(&s->out);
	c->out_watch.fd = -1;
	char_set_open(c, false, true);
}

const struct char_driver char_stdio_driver = {
	.name = "stdio", .help = "standard input and output of this process",
	.size = sizeof(struct char_stdio), .props = stdio_props,
	.open = stdio_open, .close = stdio_close,
	.read = stdio_read, .write = stdio_write, .hangup = stdio_hangup,
};

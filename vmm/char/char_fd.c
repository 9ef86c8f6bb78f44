/*
 * vmm/char/char_fd.c - a chardev's descriptors: watching, reading, writing.
 * Threads: loop.
 * Missing: nothing known.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/char/char_priv.h"

static enum char_fd_kind fd_kind(int fd)
{
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return CHAR_FD_PLAIN;
	return S_ISSOCK(st.st_mode) ? CHAR_FD_SOCKET :
		S_ISFIFO(st.st_mode) ? CHAR_FD_PIPE : CHAR_FD_PLAIN;
}

int char_watch(struct chardev *c, int in, int out)
{
	int r = 0;

	c->in_kind = fd_kind(in);
	c->out_kind = fd_kind(out);
	c->in.fd = in;
	c->out_watch.fd = out == in ? -1 : out;
	c->in.events = c->out_watch.events = 0;
	c->gone = false;
	if (in >= 0)
		r = loop_fd_add(c->loop, &c->in);
	if (r >= 0 && c->out_watch.fd >= 0)
		r = loop_fd_add(c->loop, &c->out_watch);
	return r;
}

void char_unwatch(struct chardev *c)
{
	loop_fd_del(&c->in);
	loop_fd_del(&c->out_watch);
	c->in.fd = c->out_watch.fd = -1;
	c->want_out = false;
}

void char_rewatch(struct chardev *c)
{
	bool one = c->out_watch.fd < 0;
	/* Without room for input a peer that goes is noticed all the same. */
	uint32_t events = c->want_in ? POLLIN : c->gone ? 0 : POLLHUP;

	if (one && c->want_out)
		events |= POLLOUT;
	loop_fd_mod(&c->in, events);
	if (!one)
		loop_fd_mod(&c->out_watch, c->want_out ? POLLOUT : 0);
}

/* Keep or close the descriptors of one message. */
static void receive_fds(struct chardev *c, struct msghdr *m)
{
	struct cmsghdr *h;
	size_t i, n;
	int fd;

	for (h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (i = 0; i < n; i++) {
			memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof(fd));
			if (c->keep_fds && c->fd_count < CHAR_FDS_MAX)
				c->fds[c->fd_count++] = fd;
			else
				close(fd);
		}
	}
}

static ssize_t socket_read(struct chardev *c, void *buf, size_t len)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(CHAR_FDS_MAX * sizeof(int))];
	} control;
	struct iovec iov = { buf, len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			    .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(c->in.fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n >= 0)
		receive_fds(c, &m);
	return n;
}

ssize_t char_fd_read(struct chardev *c, void *buf, size_t len)
{
	ssize_t n;

	do {
		n = c->in_kind == CHAR_FD_SOCKET ? socket_read(c, buf, len) :
			read(c->in.fd, buf, len);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/*
 * A pipe without readers raises SIGPIPE, and the library leaves the process's
 * dispositions alone: the signal is blocked for the call and, if the call
 * raised it, taken back.
 */
static ssize_t pipe_write(int fd, const struct iovec *iov, int n)
{
	struct timespec zero = { 0 };
	sigset_t pipe_set, old, pending;
	ssize_t r;
	int error;

	sigpending(&pending);
	sigemptyset(&pipe_set);
	sigaddset(&pipe_set, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe_set, &old);
	r = writev(fd, iov, n);
	error = errno;
	if (r < 0 && error == EPIPE && !sigismember(&pending, SIGPIPE))
		sigtimedwait(&pipe_set, NULL, &zero);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	errno = error;
	return r;
}

static ssize_t socket_write(int fd, const struct iovec *iov, int n)
{
	struct msghdr msg = { .msg_iov = (struct iovec *)(uintptr_t)iov,
			      .msg_iovlen = (size_t)n };

	return sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}

ssize_t char_fd_write(struct chardev *c, const struct iovec *iov, int n)
{
	int fd = c->out_watch.fd >= 0 ? c->out_watch.fd : c->in.fd;
	ssize_t r;

	do {
		r = c->out_kind == CHAR_FD_SOCKET ? socket_write(fd, iov, n) :
			c->out_kind == CHAR_FD_PIPE ? pipe_write(fd, iov, n) :
			writev(fd, iov, n);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

/*
 * vmm/char/char_pty.c - a pseudo terminal for whoever opens its slave.
 * Threads: loop.
 * Missing: nothing known.
 *
 * While nobody has the slave open the master reports POLLHUP all the time, so
 * it is not watched then; inotify tells when the slave is opened. Each reader
 * that comes when none is there is shown the last replay= bytes first.
 *
 * A change of the window's size is seen with the next input: Linux tells only
 * the processes whose controlling terminal it is.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/char/char_priv.h"

#define PROBE_NS (200 * NS_PER_MS)	/* where inotify cannot be had */

struct char_pty {
	struct chardev c;	/* first */
	char *path;		/* symbolic link to make */
	int master;
	char slave[64];
	struct loop_fd opened;	/* inotify; fd -1: the timer instead */
	struct loop_timer probe;
	bool linked;
};

static const struct prop pty_props[] = {
	PROP_STR(struct char_pty, path, "path", NULL,
		 "symbolic link to make to the terminal's device"),
	CHAR_PROP_REPLAY(struct char_pty, CHAR_RING_BYTES),
	PROP_END
};

static bool has_reader(const struct char_pty *p)
{
	struct pollfd pfd = { .fd = p->master, .events = 0 };

	return poll(&pfd, 1, 0) == 0;
}

static void pty_attach(struct char_pty *p)
{
	if (p->c.open || !has_reader(p))
		return;
	if (char_watch(&p->c, p->master, p->master) < 0)
		return;		/* out of memory: the next open tries again */
	char_set_open(&p->c, true, false);
	char_ask_winsize(&p->c, p->master);
}

static void probe_cb(struct loop_timer *t)
{
	struct char_pty *p = container_of(t, struct char_pty, probe);

	pty_attach(p);
	if (!p->c.open)
		loop_timer_arm(t, clock_ns() + PROBE_NS);
}

static void opened_cb(struct loop_fd *w, uint32_t revents)
{
	struct char_pty *p = container_of(w, struct char_pty, opened);
	char buf[sizeof(struct inotify_event) + NAME_MAX + 1];

	while (read(w->fd, buf, sizeof(buf)) > 0)
		;		/* only that something happened matters */
	pty_attach(p);
}

static void pty_hangup(struct chardev *c, bool output, int error)
{
	struct char_pty *p = (struct char_pty *)c;

	if (has_reader(p))
		return;		/* another one came meanwhile */
	char_unwatch(c);
	char_set_open(c, false, false);
	if (p->opened.fd < 0)
		loop_timer_arm(&p->probe, clock_ns() + PROBE_NS);
}

static ssize_t pty_read(struct chardev *c, void *buf, size_t len)
{
	char_ask_winsize(c, c->in.fd);
	return char_fd_read(c, buf, len);
}

/* ---- life ---- */

/* The slave's settings outlive its being open as long as the master is: raw,
 * so that a reader sees what the guest wrote. */
static int slave_set_raw(struct char_pty *p)
{
	int r, fd = open(p->slave, O_RDWR | O_NOCTTY | O_CLOEXEC);
	struct termios t;

	if (fd < 0)
		return -errno;
	r = tcgetattr(fd, &t);
	if (!r) {
		cfmakeraw(&t);
		r = tcsetattr(fd, TCSANOW, &t);
	}
	if (r < 0)
		r = -errno;
	close(fd);
	return r;
}

static int pty_make(struct char_pty *p)
{
	p->master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	if (p->master < 0 || grantpt(p->master) < 0 || unlockpt(p->master) < 0)
		return -errno;
	if (ptsname_r(p->master, p->slave, sizeof(p->slave)))
		return -errno;
	return slave_set_raw(p);
}

static int pty_watch_slave(struct char_pty *p)
{
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

	if (fd < 0 || inotify_add_watch(fd, p->slave, IN_OPEN) < 0) {
		fd_close(&fd);
		loop_timer_arm(&p->probe, clock_ns() + PROBE_NS);
		return 0;
	}
	p->opened.fd = fd;
	p->opened.events = POLLIN;
	return loop_fd_add(p->c.loop, &p->opened);
}

/*
 * Links we make are younger than the terminal they lead to. One that leads
 * nowhere, or to a terminal that came after it (numbers are used again), was
 * left by a process that was killed.
 */
static bool link_is_stale(const char *path)
{
	char target[64];
	struct stat link, tty;
	ssize_t n = readlink(path, target, sizeof(target) - 1);

	if (n < 0 || lstat(path, &link) < 0)
		return false;
	target[n] = '\0';
	if (strncmp(target, "/dev/pts/", 9))
		return false;
	if (stat(target, &tty) < 0)
		return errno == ENOENT;
	return tty.st_ctim.tv_sec > link.st_ctim.tv_sec ||
		(tty.st_ctim.tv_sec == link.st_ctim.tv_sec &&
		 tty.st_ctim.tv_nsec > link.st_ctim.tv_nsec);
}

static int pty_link(struct char_pty *p, struct err *e)
{
	if (!p->path)
		return 0;
	if (link_is_stale(p->path))
		unlink(p->path);
	if (symlink(p->slave, p->path) == 0) {
		p->linked = true;
		return 0;
	}
	if (errno == EEXIST)
		return err_set(e, -EEXIST, "chardev '%s': '%s' exists and is no link that a "
			       "dead process left; remove it or choose another path",
			       p->c.id, p->path);
	return err_sys(e, -errno, "chardev '%s': cannot make the link '%s'", p->c.id, p->path);
}

/* Somebody may have put another in its place. */
static void pty_unlink(const struct char_pty *p)
{
	char target[sizeof(p->slave)];
	ssize_t n = readlink(p->path, target, sizeof(target));

	if (n == (ssize_t)strlen(p->slave) && !memcmp(target, p->slave, (size_t)n))
		unlink(p->path);
}

static int pty_open(struct chardev *c, struct err *e)
{
	struct char_pty *p = (struct char_pty *)c;
	int r;

	p->master = -1;
	p->opened = (struct loop_fd){ .fd = -1, .cb = opened_cb };
	loop_timer_init(c->loop, &p->probe, probe_cb, NULL);
	r = pty_make(p);
	if (r >= 0)
		r = pty_watch_slave(p);
	if (r < 0)
		return err_sys(e, r, "chardev '%s': cannot make a pseudo terminal", c->id);
	r = pty_link(p, e);
	if (r < 0)
		return r;
	char_set_filename(c, "pty:%s", p->slave);
	log_info("char device redirected to %s (label %s)", p->slave, c->id);
	return 0;
}

static void pty_close(struct chardev *c)
{
	struct char_pty *p = (struct char_pty *)c;

	loop_timer_cancel(&p->probe);
	loop_fd_del(&p->opened);
	fd_close(&p->opened.fd);
	char_unwatch(c);
	fd_close(&p->master);
	if (p->linked)
		pty_unlink(p);
}

const struct char_driver char_pty_driver = {
	.name = "pty", .help = "a pseudo terminal of the host",
	.size = sizeof(struct char_pty), .props = pty_props,
	.open = pty_open, .close = pty_close,
	.read = pty_read, .write = char_fd_write, .hangup = pty_hangup,
};

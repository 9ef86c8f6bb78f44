/*
 * vmm/char/char_serial.c - a terminal device of the host: a real serial port, a
 * USB adapter, the other end of somebody's pty.
 * Threads: loop.
 * Missing: the guest's line settings and modem lines do not reach the device;
 *          its speed stays what it is (set it with stty).
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/char/char_priv.h"

struct char_serial {
	struct chardev c;	/* first */
	char *path;
	int fd;
	bool changed;		/* saved has to be put back */
	struct termios saved;
};

static const struct prop serial_props[] = {
	PROP_STR(struct char_serial, path, "path", NULL, "terminal device, /dev/ttyS0 for one",
		 .flags = PROP_REQUIRED),
	PROP_END
};

static int set_raw(struct char_serial *s)
{
	struct termios t;

	if (tcgetattr(s->fd, &s->saved) < 0)
		return -errno;
	t = s->saved;
	cfmakeraw(&t);
	t.c_cflag |= CLOCAL | CREAD;	/* without a carrier too */
	if (tcsetattr(s->fd, TCSANOW, &t) < 0)
		return -errno;
	s->changed = true;
	return 0;
}

static int serial_open(struct chardev *c, struct err *e)
{
	struct char_serial *s = (struct char_serial *)c;
	int r;

	s->fd = open(s->path, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (s->fd < 0)
		return err_sys(e, -errno, "chardev '%s': cannot open '%s'", c->id, s->path);
	r = set_raw(s);
	if (r == -ENOTTY)
		return err_set(e, r, "chardev '%s': '%s' is not a terminal device; a file is "
			       "-chardev file,path=%s", c->id, s->path, s->path);
	if (r >= 0)
		r = char_watch(c, s->fd, s->fd);
	if (r < 0)
		return err_sys(e, r, "chardev '%s': '%s'", c->id, s->path);
	char_set_open(c, true, false);
	return 0;
}

static void serial_close(struct chardev *c)
{
	struct char_serial *s = (struct char_serial *)c;

	char_unwatch(c);
	if (s->changed)
		tcsetattr(s->fd, TCSANOW, &s->saved);
	fd_close(&s->fd);
}

/* The adapter was pulled out. */
static void serial_hangup(struct chardev *c, bool output, int error)
{
	struct char_serial *s = (struct char_serial *)c;

	log_warn("chardev '%s': '%s' is gone%s%s; output is lost", c->id, s->path,
		 error ? ": " : "", error ? strerror(error) : "");
	char_unwatch(c);
	s->changed = false;
	fd_close(&s->fd);
	char_set_open(c, false, true);
}

const struct char_driver char_serial_driver = {
	.name = "serial", .help = "a terminal device of the host",
	.size = sizeof(struct char_serial), .props = serial_props,
	.open = serial_open, .close = serial_close,
	.read = char_fd_read, .write = char_fd_write, .hangup = serial_hangup,
};

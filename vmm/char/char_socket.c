/*
 * vmm/char/char_socket.c - a stream socket, as server or client.
 * Threads: loop.
 * Missing: TCP by host and port (an inherited TCP socket works), TLS, telnet.
 *
 * A server has one client at a time; the next waits in the backlog until the
 * present one goes.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/char/char_priv.h"

#define ACCEPT_RETRY_NS	NS_PER_SEC	/* out of descriptors and the like */

struct char_socket {
	struct chardev c;	/* first */
	char *path;
	char *fd_prop;
	bool server;
	bool wait;
	bool nowait;		/* the old spelling of wait=off */
	uint32_t reconnect;	/* seconds, 0: never */
	struct loop_fd listen;	/* fd -1: a client */
	int conn;		/* -1: none */
	struct loop_timer retry;	/* reconnect, or accept again */
	bool bound;		/* the path is ours to remove */
};

static const struct prop socket_props[] = {
	PROP_STR(struct char_socket, path, "path", NULL, "path of the unix socket"),
	PROP_STR(struct char_socket, fd_prop, "fd", NULL,
		 "number of an inherited socket, listening or connected"),
	PROP_BOOL(struct char_socket, server, "server", false,
		  "listen for a client instead of connecting"),
	PROP_BOOL(struct char_socket, wait, "wait", true,
		  "a server waits for its first client before the guest starts"),
	PROP_BOOL(struct char_socket, nowait, "nowait", false, "same as wait=off",
		  .flags = PROP_HIDDEN),
	PROP_U32(struct char_socket, reconnect, "reconnect", 0, 3600, 0,
		 "a client connects again this long after losing its peer, 0 for never",
		 .unit = "s"),
	PROP_END
};

static void name_it(struct char_socket *s)
{
	const char *off = s->conn < 0 ? "disconnected:" : "";

	if (s->path)
		char_set_filename(&s->c, "%sunix:%s%s", off, s->path,
				  s->server ? ",server=on" : "");
	else
		char_set_filename(&s->c, "%sfd:%s%s", off, s->fd_prop,
				  s->server ? ",server=on" : "");
}

/* ---- addresses ---- */

static int unix_address(struct char_socket *s, struct sockaddr_un *a, struct err *e)
{
	size_t len = strlen(s->path);

	if (len >= sizeof(a->sun_path))
		return err_set(e, -ENAMETOOLONG, "chardev '%s': socket path '%s' has %zu "
			       "characters; at most %zu are possible", s->c.id, s->path,
			       len, sizeof(a->sun_path) - 1);
	memset(a, 0, sizeof(*a));
	a->sun_family = AF_UNIX;
	memcpy(a->sun_path, s->path, len);
	return 0;
}

static int unix_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? -errno : fd;
}

/* Something is at the path. A socket that nobody listens on is what a killed
 * process left: it goes. Anything else stays. */
static int clear_path(struct char_socket *s, const struct sockaddr_un *a, struct err *e)
{
	struct stat st;
	int fd, r;

	if (lstat(s->path, &st) < 0)
		return 0;
	if (!S_ISSOCK(st.st_mode))
		return err_set(e, -EEXIST, "chardev '%s': '%s' exists and is no socket; "
			       "remove it or choose another path", s->c.id, s->path);
	fd = unix_socket();
	if (fd < 0)
		return err_sys(e, fd, "chardev '%s': socket", s->c.id);
	r = connect(fd, (const struct sockaddr *)a, sizeof(*a)) < 0 ? errno : 0;
	close(fd);
	if (r != ECONNREFUSED)
		return err_set(e, -EADDRINUSE, "chardev '%s': another process listens on "
			       "'%s'; choose another path", s->c.id, s->path);
	unlink(s->path);
	return 0;
}

static int listen_on_path(struct char_socket *s, struct err *e)
{
	struct sockaddr_un a;
	int r = unix_address(s, &a, e);

	if (r >= 0)
		r = clear_path(s, &a, e);
	if (r < 0)
		return r;
	s->listen.fd = unix_socket();
	if (s->listen.fd < 0)
		return err_sys(e, s->listen.fd, "chardev '%s': socket", s->c.id);
	if (bind(s->listen.fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return err_sys(e, -errno, "chardev '%s': cannot make the socket '%s'",
			       s->c.id, s->path);
	s->bound = true;
	if (listen(s->listen.fd, 1) < 0)
		return err_sys(e, -errno, "chardev '%s': cannot listen on '%s'",
			       s->c.id, s->path);
	return 0;
}

/* ---- peers ---- */

static int peer_attach(struct char_socket *s, int fd)
{
	int r;

	s->conn = fd;
	name_it(s);
	r = char_watch(&s->c, fd, fd);
	if (r < 0)
		return r;
	loop_fd_mod(&s->listen, 0);
	char_set_open(&s->c, true, false);
	return 0;
}

static void peer_detach(struct char_socket *s)
{
	bool was_open = s->c.open;

	char_unwatch(&s->c);
	fd_close(&s->conn);
	name_it(s);
	loop_fd_mod(&s->listen, POLLIN);
	if (was_open)
		char_set_open(&s->c, false, true);
	if (!s->server && s->reconnect)
		loop_timer_arm(&s->retry, clock_ns() + s->reconnect * NS_PER_SEC);
}

static void socket_hangup(struct chardev *c, bool output, int error)
{
	peer_detach((struct char_socket *)c);
}

static void accept_cb(struct loop_fd *w, uint32_t revents)
{
	struct char_socket *s = container_of(w, struct char_socket, listen);
	int fd;

	if (s->conn >= 0)
		return;
	fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) {
		log_warn("chardev '%s': cannot accept a client: %s", s->c.id, strerror(errno));
		loop_fd_mod(w, 0);
		loop_timer_arm(&s->retry, clock_ns() + ACCEPT_RETRY_NS);
	}
	if (fd >= 0 && peer_attach(s, fd) < 0)
		peer_detach(s);
}

static int client_connect(struct char_socket *s, struct err *e)
{
	struct sockaddr_un a;
	int fd, r = unix_address(s, &a, e);

	if (r < 0)
		return r;
	fd = unix_socket();
	if (fd < 0)
		return err_sys(e, fd, "chardev '%s': socket", s->c.id);
	/* A unix socket connects at once or not at all (EAGAIN: backlog full). */
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		r = -errno;
		close(fd);
		return err_sys(e, r, "chardev '%s': cannot connect to '%s'", s->c.id, s->path);
	}
	r = peer_attach(s, fd);
	return r < 0 ? err_sys(e, r, "chardev '%s'", s->c.id) : 0;
}

static void retry_cb(struct loop_timer *t)
{
	struct char_socket *s = container_of(t, struct char_socket, retry);

	if (s->server)
		loop_fd_mod(&s->listen, s->conn < 0 ? POLLIN : 0);
	else if (s->conn < 0 && client_connect(s, NULL) < 0)
		peer_detach(s);	/* arms the timer again */
}

/* ---- life ---- */

static int inherit(struct char_socket *s, struct err *e)
{
	int one = 0, type = 0, fd;
	socklen_t len = sizeof(int);
	uint64_t v;

	if (parse_u64(s->fd_prop, &v) < 0 || v > INT32_MAX)
		return err_set(e, -EINVAL, "chardev '%s': fd=%s is not the number of a "
			       "descriptor", s->c.id, s->fd_prop);
	fd = (int)v;
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_STREAM)
		return err_set(e, -EINVAL, "chardev '%s': descriptor %d is not an open "
			       "stream socket", s->c.id, fd);
	len = sizeof(int);
	getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &one, &len);
	if (s->server && !one)
		return err_set(e, -EINVAL, "chardev '%s': descriptor %d does not listen; "
			       "leave out server=on", s->c.id, fd);
	if (!s->server && one)
		return err_set(e, -EINVAL, "chardev '%s': descriptor %d listens; add "
			       "server=on", s->c.id, fd);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	if (s->server) {
		s->listen.fd = fd;
		return 0;
	}
	return peer_attach(s, fd);
}

static int socket_check(struct char_socket *s, struct err *e)
{
	if (!s->path == !s->fd_prop)
		return err_set(e, -EINVAL, "chardev '%s' needs one of path= and fd=", s->c.id);
	if (s->server && s->reconnect)
		return err_set(e, -EINVAL, "chardev '%s': reconnect= is for clients; leave "
			       "out server=on", s->c.id);
	return 0;
}

static int socket_open(struct chardev *c, struct err *e)
{
	struct char_socket *s = (struct char_socket *)c;
	int r = socket_check(s, e);

	s->conn = -1;
	s->listen = (struct loop_fd){ .fd = -1, .events = POLLIN, .cb = accept_cb };
	loop_timer_init(c->loop, &s->retry, retry_cb, NULL);
	if (r < 0)
		return r;
	if (s->fd_prop)
		r = inherit(s, e);
	else if (s->server)
		r = listen_on_path(s, e);
	else if (!s->reconnect)
		r = client_connect(s, e);
	else if (client_connect(s, NULL) < 0)
		peer_detach(s);		/* the server may come later */
	if (r < 0)
		return r;
	name_it(s);
	if (!s->server)
		return 0;
	c->waiting = s->wait && !s->nowait;
	r = loop_fd_add(c->loop, &s->listen);
	return r < 0 ? err_sys(e, r, "chardev '%s'", c->id) : 0;
}

static void socket_close(struct chardev *c)
{
	struct char_socket *s = (struct char_socket *)c;

	loop_timer_cancel(&s->retry);
	loop_fd_del(&s->listen);
	fd_close(&s->listen.fd);
	char_unwatch(c);
	fd_close(&s->conn);
	if (s->bound)
		unlink(s->path);
}

const struct char_driver char_socket_driver = {
	.name = "socket", .help = "a unix stream socket, or an inherited socket",
	.size = sizeof(struct char_socket), .props = socket_props,
	.open = socket_open, .close = socket_close,
	.read = char_fd_read, .write = char_fd_write, .hangup = socket_hangup,
};

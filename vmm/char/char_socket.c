/*
 * vmm/char/char_socket.c - a stream socket, as server or client.
 * Threads: loop.
 * Missing: TLS, telnet, websocket.
 *
 * A server has one client at a time; the next waits in the backlog until the
 * present one goes, or is the front end's where that serves several (QMP).
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/fds.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/char/char_addr.h"
#include "vmm/char/char_priv.h"

#define ACCEPT_RETRY_NS	NS_PER_SEC	/* out of descriptors and the like */
#define CONNECT_MS	5000	/* before the guest runs; QEMU waits for ever */

struct char_socket {
	struct chardev c;	/* first */
	char *path;
	bool abstract, tight;	/* the path is no file's */
	char *host, *port;
	bool ipv4, ipv6;
	bool nodelay;
	bool telnet;
	char *fd_prop;
	bool server;
	bool wait;
	bool nowait;		/* the old spelling of wait=off */
	uint32_t reconnect;	/* seconds, 0: never */
	struct char_addr addr;	/* not with fd= */
	struct loop_fd listen;	/* a client's: while it connects; fd -1: neither */
	int conn;		/* -1: none */
	struct loop_timer retry;	/* reconnect, or accept again */
	bool bound;		/* addr.path is ours to remove */
};

static const struct prop socket_props[] = {
	PROP_STR(struct char_socket, path, "path", NULL, "path of the unix socket"),
	PROP_BOOL(struct char_socket, abstract, "abstract", false,
		  "the path is a name in Linux's abstract namespace"),
	PROP_BOOL(struct char_socket, tight, "tight", true,
		  "an abstract name is not filled up with zero bytes"),
	PROP_STR(struct char_socket, host, "host", NULL,
		 "host name or address for TCP; a server's may be empty"),
	PROP_STR(struct char_socket, port, "port", NULL, "port number or service for TCP"),
	PROP_BOOL(struct char_socket, ipv4, "ipv4", false, "IPv4 only"),
	PROP_BOOL(struct char_socket, ipv6, "ipv6", false, "IPv6 only"),
	PROP_BOOL(struct char_socket, nodelay, "nodelay", false,
		  "TCP sends small pieces at once"),
	PROP_BOOL(struct char_socket, telnet, "telnet", false,
		  "telnet protocol; there is none, so only off", .flags = PROP_HIDDEN),
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
	CHAR_PROP_REPLAY(struct char_socket, 0),
	PROP_END
};

/* The front end serves several clients. */
static bool takes_extra(const struct char_socket *s)
{
	return s->c.front && s->c.front->extra;
}

static void name_it(struct char_socket *s)
{
	const char *off = s->conn < 0 ? "disconnected:" : "";

	if (s->fd_prop)
		char_set_filename(&s->c, "%sfd:%s%s", off, s->fd_prop,
				  s->server ? ",server=on" : "");
	else
		char_set_filename(&s->c, "%s%s:%s%s", off, s->path ? "unix" : "tcp",
				  s->path ? s->path : s->addr.text,
				  s->server ? ",server=on" : "");
}

/* ---- peers ---- */

static int peer_attach(struct char_socket *s, int fd)
{
	int r, one = 1;

	s->conn = fd;
	name_it(s);
	if (s->nodelay)		/* fails on what is not TCP, harmlessly */
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	r = char_watch(&s->c, fd, fd);
	if (r < 0)
		return r;
	if (s->server && !takes_extra(s))
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
	if (s->server)
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

	if (s->conn >= 0 && !takes_extra(s))
		return;
	fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) {
		log_warn("chardev '%s': cannot accept a client: %s", s->c.id, strerror(errno));
		loop_fd_mod(w, 0);
		loop_timer_arm(&s->retry, clock_ns() + ACCEPT_RETRY_NS);
	}
	if (fd >= 0 && s->conn >= 0)
		s->c.front->extra(s->c.front, fd);
	else if (fd >= 0 && peer_attach(s, fd) < 0)
		peer_detach(s);
}

/* @fd, taken over, is connected or failed to. */
static int connected(struct char_socket *s, int fd)
{
	socklen_t len = sizeof(int);
	int error = 0, r;

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (!error) {
		r = peer_attach(s, fd);
		if (r < 0)
			peer_detach(s);		/* closes it */
		return r;
	}
	close(fd);
	return -error;
}

/* A connection of reconnect='s is made or refused. */
static void connect_cb(struct loop_fd *w, uint32_t revents)
{
	struct char_socket *s = container_of(w, struct char_socket, listen);
	int fd = w->fd;

	loop_fd_del(w);
	w->fd = -1;
	if (connected(s, fd) < 0)
		peer_detach(s);		/* arms the timer again */
}

/* Without waiting; try again later when it fails. */
static void client_reconnect(struct char_socket *s)
{
	bool pending;
	int fd = char_addr_connect(&s->addr, &pending);

	if (fd >= 0 && pending) {
		s->listen = (struct loop_fd){ .fd = fd, .events = POLLOUT, .cb = connect_cb };
		if (loop_fd_add(s->c.loop, &s->listen) == 0)
			return;
		fd_close(&s->listen.fd);
		fd = -1;
	}
	if (fd < 0 || connected(s, fd) < 0)
		peer_detach(s);
}

static int client_connect(struct char_socket *s, struct err *e)
{
	struct pollfd pfd = { .events = POLLOUT };
	bool pending;
	int fd = char_addr_connect(&s->addr, &pending), r = fd;

	pfd.fd = fd;
	if (fd >= 0) {
		r = pending && poll(&pfd, 1, CONNECT_MS) == 0 ? -ETIMEDOUT : 0;
		if (r < 0)
			close(fd);
		else
			r = connected(s, fd);
	}
	return r < 0 ? err_sys(e, r, "chardev '%s': cannot connect to '%s'", s->c.id,
			       s->addr.text) : 0;
}

static void retry_cb(struct loop_timer *t)
{
	struct char_socket *s = container_of(t, struct char_socket, retry);

	if (s->server)
		loop_fd_mod(&s->listen, s->conn < 0 || takes_extra(s) ? POLLIN : 0);
	else if (s->conn < 0)
		client_reconnect(s);
}

/* ---- life ---- */

/* A number is inherited, a name is what a client gave a descriptor. */
static int named_fd(struct char_socket *s, struct err *e)
{
	uint64_t v;
	int fd;

	if (parse_u64(s->fd_prop, &v) == 0 && v <= INT32_MAX)
		return (int)v;
	fd = s->c.set->fds ? fds_take(s->c.set->fds, s->fd_prop) : -ENOENT;
	return fd >= 0 ? fd : err_set(e, -EINVAL, "chardev '%s': fd=%s is not the number of a "
				      "descriptor, nor a name that getfd gave one", s->c.id,
				      s->fd_prop);
}

static int inherit_fd(struct char_socket *s, int fd, struct err *e)
{
	int one = 0, type = 0;
	socklen_t len = sizeof(int);

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

static int inherit(struct char_socket *s, struct err *e)
{
	bool named = *s->fd_prop < '0' || *s->fd_prop > '9';
	int fd = named_fd(s, e), r;

	if (fd < 0)
		return fd;
	r = inherit_fd(s, fd, e);
	/* What did not become listen's or conn's is nobody's. */
	if (r < 0 && named && s->conn != fd)
		close(fd);
	return r;
}

static int socket_check(struct char_socket *s, struct err *e)
{
	if (!!s->path + !!s->fd_prop + (s->host || s->port) != 1)
		return err_set(e, -EINVAL, "chardev '%s' needs one of path=, fd= and "
			       "host=,port=", s->c.id);
	if (s->host && !s->port)
		return err_set(e, -EINVAL, "chardev '%s': host=%s needs port= as well",
			       s->c.id, s->host);
	if (s->telnet)
		return err_set(e, -EINVAL, "chardev '%s': telnet=on is not supported; use a "
			       "client that sends plain bytes", s->c.id);
	if (s->server && s->reconnect)
		return err_set(e, -EINVAL, "chardev '%s': reconnect= is for clients; leave "
			       "out server=on", s->c.id);
	if (s->fd_prop && s->reconnect)
		return err_set(e, -EINVAL, "chardev '%s': an inherited socket cannot "
			       "reconnect; leave out reconnect=", s->c.id);
	return 0;
}

static int make_address(struct char_socket *s, struct err *e)
{
	int family = s->ipv4 == s->ipv6 ? AF_UNSPEC : s->ipv4 ? AF_INET : AF_INET6;

	if (s->fd_prop)
		return 0;
	if (s->path)
		return char_addr_unix(&s->addr, s->c.id, s->path, s->abstract, s->tight, e);
	return char_addr_inet(&s->addr, s->c.id, s->host ? s->host : "", s->port, s->server,
			      family, e);
}

static int listen_there(struct char_socket *s, struct err *e)
{
	int fd = char_addr_listen(&s->addr, s->c.id, 1, 0, e);

	if (fd < 0)
		return fd;
	s->listen.fd = fd;
	s->bound = s->addr.path != NULL;
	return 0;
}

static int open_endpoint(struct char_socket *s, struct err *e)
{
	if (s->fd_prop)
		return inherit(s, e);
	if (s->server)
		return listen_there(s, e);
	if (!s->reconnect)
		return client_connect(s, e);
	client_reconnect(s);		/* the server may come later */
	return 0;
}

static int socket_open(struct chardev *c, struct err *e)
{
	struct char_socket *s = (struct char_socket *)c;
	int r = socket_check(s, e);

	s->conn = -1;
	s->listen = (struct loop_fd){ .fd = -1, .events = POLLIN, .cb = accept_cb };
	loop_timer_init(c->loop, &s->retry, retry_cb, NULL);
	if (r >= 0)
		r = make_address(s, e);
	if (r >= 0)
		r = open_endpoint(s, e);
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
		unlink(s->addr.path);
}

const struct char_driver char_socket_driver = {
	.name = "socket", .help = "a unix or TCP socket, made here or inherited",
	.size = sizeof(struct char_socket), .props = socket_props,
	.open = socket_open, .close = socket_close,
	.read = char_fd_read, .write = char_fd_write, .hangup = socket_hangup,
};

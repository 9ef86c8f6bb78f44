/*
 * vmm/run/qmpc.c - a small synchronous QMP client for the native verbs.
 * Spec:    QEMU's QMP specification: one JSON object per line.
 * Threads: one at a time per client.
 * Missing: descriptor passing.
 */
#include "vmm/run/qmpc.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/json.h"
#include "vmm/base/util.h"

#define READ_BYTES	(64 * 1024)
#define RETRY_MS	20		/* the backlog of a busy server is full */

struct qmpc {
	int fd;
	int timeout_ms;		/* of one command */
	char *who, *path;	/* for errors */
	char *in;		/* bytes received, [done, len) not yet used */
	size_t done, len, room;
	size_t scanned;		/* no newline in [done, scanned) */
	json_t *events;		/* kept while a reply was awaited */
	json_t *greeting;
};

/* ---- waiting ---- */

/* UINT64_MAX: for ever. */
static uint64_t deadline_in(int timeout_ms)
{
	return timeout_ms < 0 ? UINT64_MAX : clock_ns() + (uint64_t)timeout_ms * NS_PER_MS;
}

static int wait_for(const struct qmpc *c, short what, uint64_t deadline)
{
	struct pollfd p = { .fd = c->fd, .events = what };
	uint64_t now = clock_ns();
	int ms = -1, r;

	/* What is there already may be taken after the deadline, too. */
	if (deadline != UINT64_MAX)
		ms = now < deadline ? (int)((deadline - now) / NS_PER_MS) + 1 : 0;
	r = poll(&p, 1, ms);
	if (r < 0)
		return -errno;
	return r ? 0 : -ETIMEDOUT;
}

/* The sentence for what stopped a conversation. */
static int broken(const struct qmpc *c, int r, struct err *e)
{
	switch (r) {
	case -ETIMEDOUT:
		return err_set(e, r, "%s does not answer on %s within %d ms; it may hang: "
			       "see roost log %s, or end it with roost kill %s", c->who,
			       c->path, c->timeout_ms, c->who, c->who);
	case -EPIPE:
	case -ECONNRESET:
		return err_set(e, -EPIPE, "%s has gone: it closed %s", c->who, c->path);
	case -EPROTO:
		return err_set(e, r, "%s: what answers on %s does not speak QMP", c->who, c->path);
	case -EINTR:
		return err_set(e, r, "interrupted");
	default:
		return err_sys(e, r, "%s: %s", c->who, c->path);
	}
}

/* ---- lines ---- */

static int fill(struct qmpc *c, uint64_t deadline)
{
	ssize_t n;
	int r;

	if (c->done) {
		memmove(c->in, c->in + c->done, c->len - c->done);
		c->len -= c->done;
		c->scanned -= c->done;
		c->done = 0;
	}
	if (c->len > QMPC_LINE_MAX)
		return -EPROTO;
	if (c->room - c->len < READ_BYTES) {
		c->room = c->room * 2 + READ_BYTES;
		c->in = xrealloc(c->in, c->room);
	}
	r = wait_for(c, POLLIN, deadline);
	if (r)
		return r;
	n = recv(c->fd, c->in + c->len, READ_BYTES, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	c->len += (size_t)n;
	return n ? 0 : -EPIPE;
}

/* The next object; blank lines between them are skipped. */
static int read_object(struct qmpc *c, uint64_t deadline, json_t **out)
{
	char *nl;
	size_t len;
	int r;

	for (;;) {
		nl = c->len > c->scanned ?
		     memchr(c->in + c->scanned, '\n', c->len - c->scanned) : NULL;
		if (!nl) {
			c->scanned = c->len;
			r = fill(c, deadline);
			if (r)
				return r;
			continue;
		}
		len = (size_t)(nl - (c->in + c->done));
		if (len && c->in[c->done + len - 1] == '\r')
			len--;
		*out = len ? json_loadb(c->in + c->done, len, 0, NULL) : NULL;
		c->done = c->scanned = (size_t)(nl + 1 - c->in);
		if (!len && deadline != UINT64_MAX && clock_ns() >= deadline)
			return -ETIMEDOUT;
		if (!len)
			continue;
		if (json_is_object(*out))
			return 0;
		json_decref(*out);
		*out = NULL;
		return -EPROTO;
	}
}

static int send_all(struct qmpc *c, const char *buf, size_t len, uint64_t deadline)
{
	ssize_t n;
	int r;

	while (len) {
		n = send(c->fd, buf, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n >= 0) {
			buf += n;
			len -= (size_t)n;
			continue;
		}
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		r = wait_for(c, POLLOUT, deadline);
		if (r)
			return r;
	}
	return 0;
}

static void keep_event(struct qmpc *c, json_t *ev)
{
	if (json_array_size(c->events) >= QMPC_EVENTS_MAX)
		json_array_remove(c->events, 0);
	json_array_append_new(c->events, ev);
}

/* ---- commands ---- */

static int await_reply(struct qmpc *c, uint64_t deadline, json_t **reply)
{
	int r;

	for (;;) {
		r = read_object(c, deadline, reply);
		if (r)
			return r;
		if (json_object_get(*reply, "return") || json_object_get(*reply, "error"))
			return 0;
		if (!json_object_get(*reply, "event")) {
			json_decref(*reply);
			return -EPROTO;
		}
		keep_event(c, *reply);
		/* A peer that floods us with events answers nothing either. */
		if (deadline != UINT64_MAX && clock_ns() >= deadline)
			return -ETIMEDOUT;
	}
}

int qmpc_raw(struct qmpc *c, const json_t *request, json_t **reply, struct err *e)
{
	uint64_t deadline = deadline_in(c->timeout_ms);
	char *text = json_dumps(request, JSON_COMPACT | JSON_ENCODE_ANY);
	char *line;
	int r;

	*reply = NULL;
	if (!text)
		return err_set(e, -EINVAL, "%s: the request is not valid UTF-8", c->who);
	line = xasprintf("%s\r\n", text);
	free(text);
	r = send_all(c, line, strlen(line), deadline);
	free(line);
	if (r == 0)
		r = await_reply(c, deadline, reply);
	return r ? broken(c, r, e) : 0;
}

static enum err_class class_of(const json_t *error)
{
	const char *word = json_str(error, "class", "GenericError");

	for (int i = 0; i < ERR_CLASS_MAX; i++)
		if (strcmp(err_class_name((enum err_class)i), word) == 0)
			return (enum err_class)i;
	return ERR_GENERIC;
}

int qmpc_run(struct qmpc *c, const char *command, json_t *args, json_t **ret, struct err *e)
{
	json_t *req = json_pack("{s:s}", "execute", command), *reply, *error;
	int r;

	if (ret)
		*ret = NULL;
	if (args)
		json_object_set_new(req, "arguments", args);
	r = qmpc_raw(c, req, &reply, e);
	json_decref(req);
	if (r)
		return r;
	error = json_object_get(reply, "error");
	if (error)
		r = err_class(e, class_of(error), -EREMOTEIO, "%s",
			      json_str(error, "desc", "error without a description"));
	else if (ret)
		*ret = json_incref(json_object_get(reply, "return"));
	json_decref(reply);
	return r;
}

int qmpc_event(struct qmpc *c, int timeout_ms, json_t **event, struct err *e)
{
	uint64_t deadline = deadline_in(timeout_ms);
	int r;

	*event = json_array_get(c->events, 0);
	if (*event) {
		json_incref(*event);
		json_array_remove(c->events, 0);
		return 0;
	}
	do {
		r = read_object(c, deadline, event);
		if (r == 0 && json_object_get(*event, "event"))
			return 0;
		if (r == 0)
			json_decref(*event);
	} while (r == 0 && (deadline == UINT64_MAX || clock_ns() < deadline));
	*event = NULL;
	if (r == 0 || r == -ETIMEDOUT)
		return -ETIMEDOUT;
	return broken(c, r, e);
}

/* ---- life ---- */

static int check_peer(const struct qmpc *c, struct err *e)
{
	struct ucred u = { 0 };
	socklen_t len = sizeof(u);

	if (getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &u, &len) < 0)
		return err_sys(e, -errno, "%s: %s", c->who, c->path);
	if (u.uid != geteuid() && u.uid != 0 && geteuid() != 0)
		return err_set(e, -EPERM, "%s: %s is served by user %u, not by you or root",
			       c->who, c->path, u.uid);
	return 0;
}

static int connect_to(struct qmpc *c, uint64_t deadline, struct err *e)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int r;

	if (strlen(c->path) >= sizeof(a.sun_path))
		return err_set(e, -ENAMETOOLONG, "%s: the socket path %s is longer than %zu "
			       "characters", c->who, c->path, sizeof(a.sun_path) - 1);
	memcpy(a.sun_path, c->path, strlen(c->path));
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->fd < 0)
		return err_sys(e, -errno, "%s: no socket", c->who);
	/* A unix socket connects at once, or its backlog is full. */
	while (connect(c->fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		r = -errno;
		if (r != -EAGAIN && r != -EINTR)
			return err_sys(e, r, "%s: cannot connect to %s", c->who, c->path);
		if (clock_ns() >= deadline)
			return broken(c, -ETIMEDOUT, e);
		usleep(RETRY_MS * 1000);
	}
	return check_peer(c, e);
}

static int greet(struct qmpc *c, uint64_t deadline, struct err *e)
{
	json_t *o, *qmp;
	int r = read_object(c, deadline, &o);

	if (r)
		return broken(c, r, e);
	qmp = json_object_get(o, "QMP");
	c->greeting = json_incref(qmp);
	json_decref(o);
	if (!json_is_object(qmp))
		return broken(c, -EPROTO, e);
	return qmpc_run(c, "qmp_capabilities", NULL, NULL, e);
}

int qmpc_open(struct qmpc **out, const char *who, const char *path, int timeout_ms,
	      struct err *e)
{
	struct qmpc *c = xcalloc(1, sizeof(*c));
	uint64_t deadline = deadline_in(timeout_ms);
	int r;

	c->fd = -1;
	c->who = xstrdup(who);
	c->path = xstrdup(path);
	c->timeout_ms = timeout_ms;
	c->events = json_array();
	r = connect_to(c, deadline, e);
	if (r == 0)
		r = greet(c, deadline, e);
	if (r) {
		qmpc_close(c);
		c = NULL;
	}
	*out = c;
	return r;
}

void qmpc_close(struct qmpc *c)
{
	if (!c)
		return;
	fd_close(&c->fd);
	json_decref(c->events);
	json_decref(c->greeting);
	free(c->who);
	free(c->path);
	free(c->in);
	free(c);
}

int qmpc_fd(const struct qmpc *c)
{
	return c->fd;
}

const json_t *qmpc_greeting(const struct qmpc *c)
{
	return c->greeting;
}

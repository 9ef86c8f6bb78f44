/*
 * vmm/run/agent.c - the guest's agent, asked through the socket of its channel.
 *
 * Spec:    QEMU's qga/qapi-schema.json (guest-sync-delimited, guest-fsfreeze-freeze).
 * Threads: the only one of the process.
 * Missing: answers other than numbers.
 *
 * What the guest sends is nobody's promise: a line has a length, an answer a time, and
 * what is printed of it no control characters. Answers to an earlier client may still
 * be in the channel: guest-sync-delimited gets a byte 0xff before its own, which no
 * JSON has.
 */
#include "vmm/run/agent.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/run/qmpc.h"

#define CHANNEL		"org.qemu.guest_agent.0"
#define LINE_MAX_BYTES	65536u
#define SYNC_MS		3000
#define SENTINEL	0xff

struct agent {
	int fd;
	const char *vm;
	size_t len;
	char in[LINE_MAX_BYTES];
};

/* ---- where it is ---- */

/* The string property @name of the device at @path, the caller's; NULL: none. */
static char *get(struct qmpc *q, const char *path, const char *name)
{
	json_t *val = NULL;
	char *text = NULL;

	if (qmpc_run(q, "qom-get", json_pack("{s:s, s:s}", "path", path, "property", name), &val,
		     NULL) == 0 && json_is_string(val))
		text = xstrdup(json_string_value(val));
	json_decref(val);
	return text;
}

/* The chardev of the channel's port below @parent, the caller's; NULL: none. */
static char *find_chardev(struct qmpc *q, const char *parent)
{
	json_t *list = NULL, *item;
	char *path, *name, *chardev = NULL;
	size_t i;

	if (qmpc_run(q, "qom-list", json_pack("{s:s}", "path", parent), &list, NULL))
		return NULL;
	json_array_foreach(list, i, item) {
		if (chardev || strcmp(json_str(item, "type", ""), "child<virtserialport>"))
			continue;
		path = xasprintf("%s/%s", parent, json_str(item, "name", ""));
		name = get(q, path, "name");
		if (name && strcmp(name, CHANNEL) == 0)
			chardev = get(q, path, "chardev");
		free(name);
		free(path);
	}
	json_decref(list);
	return chardev;
}

/* "/run/a.sock" of "disconnected:unix:/run/a.sock,server=on", the caller's. */
static char *socket_of(const char *filename)
{
	const char *unix_ = strstr(filename, "unix:"), *end;

	if (!unix_ || !strstr(unix_, ",server"))
		return NULL;
	unix_ += strlen("unix:");
	end = strstr(unix_, ",server");
	return xasprintf("%.*s", (int)(end - unix_), unix_);
}

int agent_socket(struct qmpc *q, const char *vm, char **path, struct err *e)
{
	char *chardev = find_chardev(q, "/machine/peripheral");
	json_t *list = NULL, *c;
	size_t i;
	int r;

	*path = NULL;
	if (!chardev)
		chardev = find_chardev(q, "/machine/peripheral-anon");
	if (!chardev)
		return err_set(e, -ENOENT, "%s has no channel for a guest agent; start it with "
			       "-device virtio-serial-pci -chardev socket,id=ga,path=…,server=on,"
			       "wait=off -device virtserialport,chardev=ga,name=" CHANNEL, vm);
	r = qmpc_run(q, "query-chardev", NULL, &list, e);
	json_array_foreach(list, i, c)
		if (!*path && strcmp(json_str(c, "label", ""), chardev) == 0)
			*path = socket_of(json_str(c, "filename", ""));
	if (r == 0 && !*path)
		r = err_set(e, -ENOTSUP, "%s: the guest agent's chardev '%s' is no listening unix "
			    "socket; use -chardev socket,path=…,server=on", vm, chardev);
	json_decref(list);
	free(chardev);
	return r;
}

/* ---- talking ---- */

static int silent(const struct agent *a, const char *command, struct err *e)
{
	return err_set(e, -ETIME, "%s: the guest agent does not answer %s; is qemu-guest-agent "
		       "running in the guest, and nobody else connected to its channel?", a->vm,
		       command);
}

static int send_line(struct agent *a, const char *text, size_t len, struct err *e)
{
	ssize_t n;

	while (len > 0) {
		n = send(a->fd, text, len, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, -errno, "%s: the guest agent's channel", a->vm);
		text += n;
		len -= (size_t)n;
	}
	return 0;
}

/* More of what it says, until @end. */
static int fill(struct agent *a, const char *command, uint64_t end, struct err *e)
{
	struct pollfd p = { .fd = a->fd, .events = POLLIN };
	uint64_t now = clock_ns();
	ssize_t n;
	int r;

	r = now < end ? poll(&p, 1, (int)((end - now) / NS_PER_MS) + 1) : 0;
	if (r == 0 || (r < 0 && errno != EINTR))
		return r ? err_sys(e, -errno, "poll") : silent(a, command, e);
	if (a->len == sizeof(a->in))
		return err_set(e, -EPROTO, "%s: the guest agent's answer to %s has no end", a->vm,
			       command);
	n = recv(a->fd, a->in + a->len, sizeof(a->in) - a->len, MSG_DONTWAIT);
	if (n == 0)
		return err_set(e, -EPIPE, "%s: the guest agent's channel was closed", a->vm);
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		return err_sys(e, -errno, "%s: the guest agent's channel", a->vm);
	a->len += n > 0 ? (size_t)n : 0;
	return 0;
}

static void take(struct agent *a, size_t bytes)
{
	memmove(a->in, a->in + bytes, a->len - bytes);
	a->len -= bytes;
}

/* What @command returned, a new reference. */
static int answer(struct agent *a, const char *command, uint64_t end, json_t **ret, struct err *e)
{
	json_t *reply;
	char *nl, text[256];
	int r;

	while (!(nl = memchr(a->in, '\n', a->len))) {
		r = fill(a, command, end, e);
		if (r)
			return r;
	}
	reply = json_loadb(a->in, (size_t)(nl - a->in), 0, NULL);
	take(a, (size_t)(nl + 1 - a->in));
	*ret = json_incref(json_object_get(reply, "return"));
	r = 0;
	if (!*ret) {
		snprintf(text, sizeof(text), "%s", json_str(json_object_get(reply, "error"), "desc",
							    "no answer that makes sense"));
		util_printable(text);
		r = err_set(e, -EREMOTEIO, "%s: the guest agent to %s: %s", a->vm, command, text);
	}
	json_decref(reply);
	return r;
}

int agent_run(struct agent *a, const char *command, int timeout_ms, json_int_t *ret,
	      struct err *e)
{
	uint64_t end = clock_ns() + (uint64_t)timeout_ms * NS_PER_MS;
	char *line = xasprintf("{\"execute\": \"%s\"}\n", command);
	json_t *val = NULL;
	int r = send_line(a, line, strlen(line), e);

	free(line);
	if (r == 0)
		r = answer(a, command, end, &val, e);
	if (r == 0)
		*ret = json_integer_value(val);
	json_decref(val);
	return r;
}

/* Everything before the answer to this is older. */
static int sync_lines(struct agent *a, struct err *e)
{
	static const char command[] = "guest-sync-delimited";
	uint64_t end = clock_ns() + (uint64_t)SYNC_MS * NS_PER_MS;
	json_int_t id = (json_int_t)(clock_ns() & INT32_MAX);
	char *line = xasprintf("%c{\"execute\": \"%s\", \"arguments\": {\"id\": %lld}}\n", SENTINEL,
			       command, (long long)id), *mark;
	json_t *val = NULL;
	int r = send_line(a, line, strlen(line), e);

	free(line);
	while (r == 0 && json_integer_value(val) != id) {
		json_decref(val);
		val = NULL;
		while (r == 0 && !(mark = memchr(a->in, SENTINEL, a->len))) {
			a->len = 0;
			r = fill(a, command, end, e);
		}
		if (r)
			break;
		take(a, (size_t)(mark + 1 - a->in));
		r = answer(a, command, end, &val, e);
	}
	json_decref(val);
	return r;
}

int agent_open(struct agent **out, const char *vm, const char *path, struct err *e)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct timeval limit = { .tv_sec = SYNC_MS / 1000 };
	struct agent *a;
	int r = 0;

	if (strlen(path) >= sizeof(addr.sun_path))
		return err_set(e, -ENAMETOOLONG, "%s: the path of the guest agent's socket is too "
			       "long: %.200s", vm, path);
	memcpy(addr.sun_path, path, strlen(path) + 1);
	a = xcalloc(1, sizeof(*a));
	a->vm = vm;
	a->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (a->fd < 0)
		r = err_sys(e, -errno, "socket");
	/* A backlog that nobody empties does not hold us. */
	if (r == 0)
		setsockopt(a->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (r == 0 && connect(a->fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		r = err_sys(e, -errno, "%s: the guest agent's socket %s", vm, path);
	if (r == 0)
		r = sync_lines(a, e);
	if (r) {
		agent_close(a);
		return r;
	}
	*out = a;
	return 0;
}

void agent_close(struct agent *a)
{
	if (!a)
		return;
	fd_close(&a->fd);
	free(a);
}

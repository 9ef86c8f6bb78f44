/*
 * vmm/control/qmp.c - QMP sessions over chardevs.
 *
 * Spec:    QEMU's QMP specification: greeting, capability negotiation, replies
 *          with the request's id, events to every negotiated session.
 * Threads: main loop.
 * Missing: out-of-band execution, descriptor passing.
 *
 * A client is hostile: a request longer than INPUT_MAX ends the session's
 * input with an error, and a client that does not read is disconnected from
 * events once OUTPUT_MAX bytes wait, never buffered without bound.
 */
#include "vmm/control/qmp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "vmm/base/json.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/char/char.h"
#include "vmm/core/vm.h"
#include "vmm/base/version.h"

#define INPUT_MAX	(64 * KIB)	/* one request; transactions stay far below */
#define OUTPUT_MAX	(64 * KIB)	/* unread replies and events of one client */
#define NEST_LIMIT	64		/* brackets in a request; jansson allows 2048 */

struct session {
	struct char_front front;	/* first */
	struct qmp *q;
	struct chardev *chr;
	bool negotiated;
	bool lost_output;	/* events were dropped; said once */
	/* request being received */
	char in[INPUT_MAX];
	size_t in_len;
	int depth;		/* open brackets */
	bool in_string, escaped, too_long;
	/* replies the chardev did not take yet */
	char *out;
	size_t out_len;
	struct session *next;
};

struct qmp {
	struct vm *vm;
	struct vm_listener listener;
	struct session *sessions;
};

TRACE_DEFINE(qmp_request);
TRACE_DEFINE(qmp_reply);

/* ---- output ---- */

static void session_flush(struct session *s)
{
	size_t n = char_write(s->chr, s->out, s->out_len);

	memmove(s->out, s->out + n, s->out_len - n);
	s->out_len -= n;
}

/* Queue @msg; false when the client reads too slowly. */
static bool session_send(struct session *s, const json_t *msg)
{
	size_t len = json_dumpb(msg, NULL, 0, JSON_COMPACT | JSON_PRESERVE_ORDER);

	if (s->out_len + len + 2 > OUTPUT_MAX)
		return false;
	s->out = xrealloc(s->out, s->out_len + len + 2);
	json_dumpb(msg, s->out + s->out_len, len, JSON_COMPACT | JSON_PRESERVE_ORDER);
	trace(qmp_reply, "%.*s", (int)len, s->out + s->out_len);
	memcpy(s->out + s->out_len + len, "\r\n", 2);
	s->out_len += len + 2;
	session_flush(s);
	return true;
}

static void on_writable(struct char_front *f)
{
	struct session *s = container_of(f, struct session, front);

	session_flush(s);
	if (s->out_len == 0 && s->too_long == false)
		char_accept_input(s->chr);
}

json_t *qmp_version(void)
{
	return json_pack("{s:{s:i,s:i,s:i},s:s}", "qemu", "major", QMP_QEMU_MAJOR,
			 "minor", QMP_QEMU_MINOR, "micro", QMP_QEMU_MICRO,
			 "package", "roost " ROOST_VERSION);
}

static void session_greet(struct session *s)
{
	json_t *hello = json_pack("{s:{s:o,s:[]}}", "QMP", "version", qmp_version(),
				  "capabilities");

	session_send(s, hello);
	json_decref(hello);
}

/* ---- execution ---- */

static json_t *error_reply(const struct err *e)
{
	return json_pack("{s:{s:s,s:s}}", "error", "class", err_class_name(e->class),
			 "desc", e->text);
}

static const struct qmp_cmd *find_cmd(const char *name)
{
	for (const struct qmp_cmd *c = qmp_commands; c->name; c++)
		if (strcmp(c->name, name) == 0)
			return c;
	return NULL;
}

static int run_cmd(struct qmp *q, const struct qmp_cmd *c, const json_t *args,
		   json_t **ret, struct err *e)
{
	static const struct prop none[] = { PROP_END };
	const struct prop *const tables[] = { c->args ? c->args : none, NULL };
	void *a = xcalloc(1, c->args_size);
	int r;

	prop_defaults(tables, a);
	r = prop_apply(tables, a, args, NULL, c->name, e);
	if (r == 0)
		r = c->run(q, a, ret, e);
	prop_free(tables, a);
	free(a);
	return r;
}

/* Members of a request other than the four known ones are an error. */
static int check_members(const json_t *req, struct err *e)
{
	static const char *const known[] = { "execute", "arguments", "id", "control" };
	void *it;
	size_t i;

	for (it = json_object_iter((json_t *)(uintptr_t)req); it;
	     it = json_object_iter_next((json_t *)(uintptr_t)req, it)) {
		for (i = 0; i < ARRAY_LEN(known); i++)
			if (strcmp(json_object_iter_key(it), known[i]) == 0)
				break;
		if (i == ARRAY_LEN(known))
			return err_set(e, -EINVAL, "QMP input member '%s' is unexpected",
				       json_object_iter_key(it));
	}
	return 0;
}

static int execute(struct qmp *q, const json_t *req, json_t **ret, struct err *e)
{
	const json_t *args = json_object_get(req, "arguments");
	const struct qmp_cmd *c;
	const char *name;
	int r;

	if (!json_is_object(req))
		return err_set(e, -EINVAL, "QMP input must be a JSON object");
	r = check_members(req, e);
	if (r)
		return r;
	name = json_str(req, "execute", NULL);
	if (!name)
		return err_set(e, -EINVAL, "QMP input lacks member 'execute'");
	if (args && !json_is_object(args))
		return err_set(e, -EINVAL, "QMP input member 'arguments' must be an object");
	c = find_cmd(name);
	if (!c)
		return err_class(e, ERR_COMMAND_NOT_FOUND, -ENOENT,
				 "The command %s has not been found", name);
	return run_cmd(q, c, args, ret, e);
}

json_t *qmp_execute(struct qmp *q, const json_t *req)
{
	struct err e = ERR_INIT;
	json_t *ret = NULL, *reply, *id;
	int r = execute(q, req, &ret, &e);

	if (r < 0) {
		json_decref(ret);
		reply = error_reply(&e);
	} else {
		reply = json_pack("{s:o}", "return", ret ? ret : json_object());
	}
	id = json_object_get(req, "id");
	if (id)
		json_object_set(reply, "id", id);
	return reply;
}

static json_t *negotiate(struct session *s, const json_t *req)
{
	struct err e = ERR_INIT;
	const char *name = json_str(req, "execute", "");
	json_t *reply, *id = json_object_get(req, "id");

	if (strcmp(name, "qmp_capabilities") == 0) {
		if (s->negotiated)
			err_class(&e, ERR_COMMAND_NOT_FOUND, -EINVAL, "Capabilities negotiation "
				  "is already complete, command 'qmp_capabilities' ignored");
		s->negotiated = true;
		reply = err_is_set(&e) ? error_reply(&e) : json_pack("{s:{}}", "return");
	} else if (!s->negotiated && *name) {
		err_class(&e, ERR_COMMAND_NOT_FOUND, -EINVAL,
			  "Expecting capabilities negotiation with 'qmp_capabilities'");
		reply = error_reply(&e);
	} else {
		return NULL;
	}
	if (id)
		json_object_set(reply, "id", id);
	return reply;
}

/* ---- input ---- */

static void session_request(struct session *s)
{
	json_error_t je;
	struct err e = ERR_INIT;
	json_t *req, *reply;

	trace(qmp_request, "%.*s", (int)s->in_len, s->in);
	req = json_loadb(s->in, s->in_len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &je);
	if (!req) {
		err_set(&e, -EINVAL, "JSON parse error, %s", je.text);
		reply = error_reply(&e);
	} else {
		reply = negotiate(s, req);
		if (!reply)
			reply = qmp_execute(s->q, req);
	}
	if (!session_send(s, reply))
		log_warn("QMP client on %s does not read; reply dropped", char_id(s->chr));
	json_decref(reply);
	json_decref(req);
}

static void session_reset_input(struct session *s)
{
	s->in_len = 0;
	s->depth = 0;
	s->in_string = s->escaped = s->too_long = false;
}

/* Follow brackets and strings; true when a whole object has been seen. Text
 * outside objects is collected up to a line end, so that rubbish is answered. */
static bool scan_byte(struct session *s, char c)
{
	if (s->in_string) {
		if (s->escaped)
			s->escaped = false;
		else if (c == '\\')
			s->escaped = true;
		else if (c == '"')
			s->in_string = false;
		return false;
	}
	if (c == '"') {
		s->in_string = true;
	} else if (c == '{' || c == '[') {
		s->depth++;
	} else if (c == '}' || c == ']') {
		s->depth--;
		return s->depth <= 0;
	}
	return c == '\n' && s->depth == 0 && s->in_len > 1;
}

static void session_byte(struct session *s, char c)
{
	struct err e = ERR_INIT;
	json_t *reply;

	if (s->in_len == 0 && strchr(" \t\r\n", c) && c)
		return;
	if (s->in_len == INPUT_MAX || s->depth > NEST_LIMIT) {
		s->too_long = true;
		s->in_len = 0;
	}
	s->in[s->in_len++] = c;
	if (!scan_byte(s, c))
		return;
	if (s->too_long) {
		err_set(&e, -E2BIG, "QMP request exceeds %llu bytes or %d levels",
			INPUT_MAX, NEST_LIMIT);
		reply = error_reply(&e);
		session_send(s, reply);
		json_decref(reply);
	} else {
		session_request(s);
	}
	session_reset_input(s);
}

/* Back pressure: no new request is read while replies wait to be read. */
static size_t on_can_read(struct char_front *f)
{
	struct session *s = container_of(f, struct session, front);

	return s->out_len ? 0 : 4096;
}

static void on_read(struct char_front *f, const uint8_t *buf, size_t len)
{
	struct session *s = container_of(f, struct session, front);

	for (size_t i = 0; i < len; i++)
		session_byte(s, (char)buf[i]);
}

static void on_event(struct char_front *f, enum char_event ev)
{
	struct session *s = container_of(f, struct session, front);

	if (ev == CHAR_BREAK)
		return;
	session_reset_input(s);
	s->negotiated = false;
	s->lost_output = false;
	s->out_len = 0;
	if (ev == CHAR_OPENED)
		session_greet(s);
}

/* ---- events ---- */

static json_t *event_message(const char *name, json_t *data)
{
	struct timeval tv;
	json_t *ev;

	gettimeofday(&tv, NULL);
	ev = json_pack("{s:{s:I,s:I},s:s}", "timestamp", "seconds", (json_int_t)tv.tv_sec,
		       "microseconds", (json_int_t)tv.tv_usec, "event", name);
	if (data)
		json_object_set(ev, "data", data);
	return ev;
}

static void on_vm_event(struct vm_listener *l, const char *name, json_t *data)
{
	struct qmp *q = container_of(l, struct qmp, listener);
	json_t *ev = event_message(name, data);

	for (struct session *s = q->sessions; s; s = s->next) {
		if (!s->negotiated || session_send(s, ev) || s->lost_output)
			continue;
		s->lost_output = true;
		log_warn("QMP client on %s does not read; events to it are dropped",
			 char_id(s->chr));
	}
	json_decref(ev);
}

/* ---- life ---- */

struct qmp *qmp_create(struct vm *vm)
{
	struct qmp *q = xcalloc(1, sizeof(*q));

	q->vm = vm;
	q->listener.event = on_vm_event;
	vm_listen(vm, &q->listener);
	return q;
}

struct vm *qmp_vm(struct qmp *q)
{
	return q->vm;
}

int qmp_serve(struct qmp *q, struct chardev *c, struct err *e)
{
	struct session *s = xcalloc(1, sizeof(*s));
	int r;

	s->q = q;
	s->chr = c;
	s->front = (struct char_front){ .can_read = on_can_read, .read = on_read,
					.writable = on_writable, .event = on_event };
	s->next = q->sessions;
	q->sessions = s;
	r = char_connect(c, &s->front, "qmp", e);
	if (r) {
		q->sessions = s->next;
		free(s);
	}
	return r;
}

void qmp_destroy(struct qmp *q)
{
	struct session *s;

	if (!q)
		return;
	vm_unlisten(q->vm, &q->listener);
	while ((s = q->sessions)) {
		q->sessions = s->next;
		char_connect(s->chr, NULL, NULL, NULL);
		free(s->out);
		free(s);
	}
	free(q);
}

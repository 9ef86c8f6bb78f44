/*
 * vmm/control/session.c - QMP sessions over chardevs.
 *
 * Spec:    QEMU's QMP specification: greeting, capability negotiation, replies
 *          with the request's id, out-of-band execution, events to every
 *          negotiated session, 0xff to bring the parser back to its start.
 * Threads: main loop.
 *
 * A client is hostile: what it may have waiting is bounded. One read, at most
 * eight parsed requests, one unread reply; no request is begun while a reply
 * waits to be read. Events that do not fit are dropped and counted, and an
 * out-of-band reply that does not fit ends the session.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "vmm/base/json.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/char/char.h"
#include "vmm/control/qmp_priv.h"

#define INPUT_MAX	(64 * KIB)	/* one request; transactions stay far below */
#define OUTPUT_MAX	(64 * KIB)	/* unread events of one client */
#define NEST_LIMIT	64		/* brackets in a request; jansson allows 2048 */
#define RAW_MAX		4096		/* one read */
#define QUEUE_MAX	8		/* parsed requests, as in QEMU */
#define CLIENTS_MAX	16	/* beside the one per chardev */
#define RESYNC		'\xff'		/* no JSON text has this byte */

struct session {
	struct char_front front;	/* first */
	struct qmp *q;
	struct chardev *chr;
	bool negotiated, oob;
	uint64_t dropped;	/* events since the client last kept up */
	/* bytes received and not looked at yet */
	char raw[RAW_MAX];
	size_t raw_len;
	/* request being received */
	char in[INPUT_MAX];
	size_t in_len;
	int depth;		/* open brackets */
	bool in_string, escaped, too_long;
	/* what waits for the request before it */
	struct session_item {
		json_t *msg;
		bool is_reply;	/* to what was no JSON; else a request */
	} queue[QUEUE_MAX];
	int queued;
	bool busy;		/* an in-band command has not answered */
	bool pumping;		/* session_pump() is on the stack */
	/* replies and events the chardev did not take yet */
	char *out;
	size_t out_len;
	bool extra;		/* the chardev is ours, made for a further client */
	struct loop_work gone;	/* an extra one's end, after its callback */
	struct session *next;
};

TRACE_DEFINE(qmp_request);
TRACE_DEFINE(qmp_reply);

static void session_pump(struct session *s);

/* ---- output ---- */

static void session_flush(struct session *s)
{
	size_t n;

	if (!s->out_len)
		return;
	n = char_write(s->chr, s->out, s->out_len);
	memmove(s->out, s->out + n, s->out_len - n);
	s->out_len -= n;
	if (s->out_len)
		return;
	free(s->out);	/* a schema is 100 KiB that no one needs again */
	s->out = NULL;
}

static void session_queue(struct session *s, const json_t *msg)
{
	size_t len = json_dumpb(msg, NULL, 0, JSON_COMPACT | JSON_PRESERVE_ORDER);

	s->out = xrealloc(s->out, s->out_len + len + 2);
	json_dumpb(msg, s->out + s->out_len, len, JSON_COMPACT | JSON_PRESERVE_ORDER);
	trace(qmp_reply, "%.*s", (int)len, s->out + s->out_len);
	memcpy(s->out + s->out_len + len, "\r\n", 2);
	s->out_len += len + 2;
	session_flush(s);
}

static void say_dropped(struct session *s)
{
	log_warn("QMP client on %s reads again; %llu events were dropped", char_id(s->chr),
		 (unsigned long long)s->dropped);
	s->dropped = 0;
}

static void on_writable(struct char_front *f)
{
	struct session *s = container_of(f, struct session, front);

	session_flush(s);
	if (s->out_len)
		return;
	if (s->dropped)
		say_dropped(s);
	session_pump(s);
}

static void session_greet(struct session *s)
{
	json_t *hello = json_pack("{s:{s:o,s:[s]}}", "QMP", "version", qmp_version(),
				  "capabilities", "oob");

	session_queue(s, hello);
	json_decref(hello);
}

/* The chardev's peer is gone, or another one is to find a fresh session. */
static void session_restart(struct session *s)
{
	qmp_forget_session(s->q, s);
	while (s->queued > 0)
		json_decref(s->queue[--s->queued].msg);
	s->raw_len = s->in_len = s->out_len = 0;
	s->depth = 0;
	s->in_string = s->escaped = s->too_long = false;
	s->negotiated = s->oob = s->busy = false;
	s->dropped = 0;
	free(s->out);
	s->out = NULL;
}

/* A reply that a client let wait behind 64 KiB of others: only out-of-band
 * requests can get there. Half a reply is worse than none. */
static void session_reply(struct session *s, const json_t *reply)
{
	if (s->out_len <= OUTPUT_MAX) {
		session_queue(s, reply);
		return;
	}
	log_warn("QMP client on %s does not read its replies; it is disconnected",
		 char_id(s->chr));
	session_restart(s);
	char_hangup(s->chr);
}

/* In its turn: replies come in the order of requests. There is room, as
 * nothing is scanned while the queue is full. */
static void session_enqueue(struct session *s, json_t *msg, bool is_reply)
{
	s->queue[s->queued++] = (struct session_item){ msg, is_reply };
}

static void session_error(struct session *s, const struct err *e)
{
	session_enqueue(s, qmp_error_reply(e, NULL), true);
}

/* ---- capability negotiation ---- */

static int take_capabilities(struct session *s, const json_t *args, struct err *e)
{
	static const char type[] = "q_obj_qmp_capabilities-arg";
	json_t *none = json_object();
	int r = qmp_schema_check(s->q, type, args ? args : none, "", e);

	json_decref(none);
	if (r)
		return r;
	/* The only word that the check lets through is "oob". */
	s->oob = json_array_size(json_object_get(args, "enable")) > 0;
	s->negotiated = true;
	return 0;
}

/* True when @req was the session's own business and is answered. */
static bool negotiate(struct session *s, const json_t *req)
{
	const char *name = json_str(req, "execute", json_str(req, "exec-oob", ""));
	bool is_caps = strcmp(name, "qmp_capabilities") == 0;
	struct err e = ERR_INIT;
	json_t *reply, *id;

	if (is_caps == s->negotiated || (!is_caps && *name))
		err_class(&e, ERR_COMMAND_NOT_FOUND, -EINVAL, is_caps ?
			  "Capabilities negotiation is already complete, command "
			  "'qmp_capabilities' ignored" :
			  "Expecting capabilities negotiation with 'qmp_capabilities'");
	if (!is_caps && (s->negotiated || !*name))
		return false;
	if (!err_is_set(&e))
		take_capabilities(s, json_object_get(req, "arguments"), &e);
	id = json_object_get(req, "id");
	reply = err_is_set(&e) ? qmp_error_reply(&e, id) : json_pack("{s:{}}", "return");
	if (id)
		json_object_set(reply, "id", id);
	session_reply(s, reply);
	json_decref(reply);
	return true;
}

/* ---- execution ---- */

static void on_oob_reply(void *arg, json_t *reply)
{
	session_reply(arg, reply);
}

static void on_reply(void *arg, json_t *reply)
{
	struct session *s = arg;

	s->busy = false;
	session_reply(s, reply);
	session_pump(s);
}

static void run_next(struct session *s)
{
	struct session_item it = s->queue[0];

	s->queued--;
	memmove(s->queue, s->queue + 1, (size_t)s->queued * sizeof(s->queue[0]));
	if (it.is_reply) {
		session_reply(s, it.msg);
	} else if (!negotiate(s, it.msg)) {
		s->busy = true;
		qmp_run(s->q, s, it.msg, on_reply, s);
	}
	json_decref(it.msg);
}

/* ---- input ---- */

static void session_request(struct session *s)
{
	json_error_t je;
	struct err e = ERR_INIT;
	json_t *req;

	trace(qmp_request, "%.*s", (int)s->in_len, s->in);
	req = json_loadb(s->in, s->in_len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY |
			 JSON_ALLOW_NUL, &je);
	if (!req) {
		err_set(&e, -EINVAL, "JSON parse error, %s", je.text);
		session_error(s, &e);
	} else if (s->negotiated && s->oob && qmp_is_oob(req)) {
		qmp_run(s->q, s, req, on_oob_reply, s);
		json_decref(req);
	} else if (s->negotiated && qmp_is_oob(req)) {
		err_set(&e, -EINVAL, "QMP input member 'exec-oob' is unexpected; enable "
			"the capability 'oob' with qmp_capabilities");
		session_error(s, &e);
		json_decref(req);
	} else {
		session_enqueue(s, req, false);
	}
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

static void session_resync(struct session *s)
{
	struct err e = ERR_INIT;

	session_reset_input(s);
	err_set(&e, -EINVAL, "JSON parse error, byte 0xff: the parser starts anew");
	session_error(s, &e);
}

static void session_byte(struct session *s, char c)
{
	struct err e = ERR_INIT;

	if (c == RESYNC) {
		session_resync(s);
		return;
	}
	if (s->in_len == 0 && c && strchr(" \t\r\n", c))
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
		session_error(s, &e);
	} else {
		session_request(s);
	}
	session_reset_input(s);
}

/* Look at received bytes while the queue has room; with a reply unread only
 * what is left of a request, not another one. */
static void session_scan(struct session *s)
{
	size_t i = 0;

	while (i < s->raw_len && s->queued < QUEUE_MAX && (!s->out_len || s->oob))
		session_byte(s, s->raw[i++]);
	if (i > s->raw_len)
		return;		/* the session started anew meanwhile */
	memmove(s->raw, s->raw + i, s->raw_len - i);
	s->raw_len -= i;
}

static void session_pump(struct session *s)
{
	size_t raw;
	int queued;

	if (s->pumping)
		return;
	s->pumping = true;
	do {
		raw = s->raw_len;
		queued = s->queued;
		session_scan(s);
		if (s->queued && !s->busy && !s->out_len)
			run_next(s);
	} while (s->raw_len != raw || s->queued != queued);
	s->pumping = false;
	if (s->raw_len == 0)
		char_accept_input(s->chr);
}

/* Back pressure: nothing is read while what was read waits. */
static size_t on_can_read(struct char_front *f)
{
	struct session *s = container_of(f, struct session, front);

	return s->raw_len || (s->out_len && !s->oob) ? 0 : RAW_MAX;
}

static void on_read(struct char_front *f, const uint8_t *buf, size_t len)
{
	struct session *s = container_of(f, struct session, front);

	memcpy(s->raw + s->raw_len, buf, len);
	s->raw_len += len;
	session_pump(s);
}

static void on_event(struct char_front *f, enum char_event ev)
{
	struct session *s = container_of(f, struct session, front);

	if (ev == CHAR_BREAK)
		return;
	session_restart(s);
	if (ev == CHAR_OPENED)
		session_greet(s);
	else if (s->extra)
		loop_post(s->q->vm->main, &s->gone);
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

static void session_event(struct session *s, const json_t *ev)
{
	if (!s->negotiated)
		return;
	if (s->out_len + json_dumpb(ev, NULL, 0, JSON_COMPACT) <= OUTPUT_MAX) {
		session_queue(s, ev);
	} else if (!s->dropped++) {
		log_warn("QMP client on %s does not read; events to it are dropped",
			 char_id(s->chr));
	}
}

void session_event_all(struct qmp *q, const char *name, json_t *data)
{
	json_t *ev = event_message(name, data);

	for (struct session *s = q->sessions; s; s = s->next)
		session_event(s, ev);
	json_decref(ev);
}

/* ---- life ---- */

static void on_extra(struct char_front *f, int fd);
static void on_gone(struct loop_work *w);

static int session_create(struct qmp *q, struct chardev *c, bool extra, struct err *e)
{
	struct session *s = xcalloc(1, sizeof(*s));
	int r;

	s->q = q;
	s->chr = c;
	s->extra = extra;
	s->gone.cb = on_gone;
	s->front = (struct char_front){ .can_read = on_can_read, .read = on_read,
					.writable = on_writable, .event = on_event,
					.extra = extra ? NULL : on_extra };
	s->next = q->sessions;
	q->sessions = s;
	char_keep_fds(c);
	r = char_connect(c, &s->front, "qmp", e);
	if (r) {
		q->sessions = s->next;
		free(s);
	}
	return r;
}

int qmp_serve(struct qmp *q, struct chardev *c, struct err *e)
{
	return session_create(q, c, false, e);
}

/* A further client of a server socket: it gets a chardev "ID#N" of its own. */
static void on_extra(struct char_front *f, int fd)
{
	struct session *s = container_of(f, struct session, front);
	struct char_set *set = char_set_of(s->chr);
	struct err e = ERR_INIT;
	struct chardev *c;
	unsigned int n = 0;
	json_t *args;
	char *id = NULL;
	int r;

	do {
		free(id);
		id = xasprintf("%s#%u", char_id(s->chr), ++n);
	} while (n <= CLIENTS_MAX && char_find(set, id));
	args = json_pack("{s:s,s:s,s:o}", "id", id, "backend", "socket", "fd",
			 json_sprintf("%d", fd));
	r = n <= CLIENTS_MAX ? char_add(set, args, &c, &e) :
	    err_set(&e, -EMFILE, "%s has %d QMP clients already", char_id(s->chr), n);
	if (r == 0)
		r = session_create(s->q, c, true, &e);
	else
		close(fd);
	if (r)
		log_warn("%s; one more is refused", e.text);
	json_decref(args);
	free(id);
}

static void session_free(struct session *s)
{
	struct session **at;
	struct char_set *set = char_set_of(s->chr);

	for (at = &s->q->sessions; *at != s; at = &(*at)->next)
		;
	*at = s->next;
	session_restart(s);
	loop_work_cancel(s->q->vm->main, &s->gone);
	char_connect(s->chr, NULL, NULL, NULL);
	if (s->extra)
		char_del(set, char_id(s->chr), NULL);
	free(s);
}

void qmp_unserve(struct qmp *q, struct chardev *c)
{
	struct session *s;

	for (s = q->sessions; s && s->chr != c; s = s->next)
		;
	if (s)
		session_free(s);
}

static void on_gone(struct loop_work *w)
{
	session_free(container_of(w, struct session, gone));
}

int qmp_take_fd(struct qmp *q)
{
	struct session *s = q->current ? q->current->session : NULL;

	return s ? char_take_fd(s->chr) : -1;
}

void session_destroy_all(struct qmp *q)
{
	while (q->sessions)
		session_free(q->sessions);
}

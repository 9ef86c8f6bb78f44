/*
 * vmm/run/lib_serial.c - libroost: what the guest writes to its serial ports,
 * what is typed to it, and waiting for a text.
 *
 * Spec:    include/roost.h.
 * Threads: output comes on vCPU threads, with the port's lock as a leaf; input
 *          goes in on the main loop; readers wait in any thread.
 * Missing: ports of virtio-serial.
 *
 * A reader that looks for a text looks again at most every few milliseconds: a
 * UART writes byte by byte, and a look at each would cost more than the guest.
 */
#include <errno.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/run/lib.h"

#define KEEP_BYTES	MIB		/* of output that nobody has read */
#define INPUT_BYTES	(64 * KIB)	/* typed ahead of the guest */
#define LOOK_NS		NS_PER_MS	/* between two looks for a text */
#define QUOTE_BYTES	160		/* of the last line, in a sentence */

/* ---- output: any thread ---- */

/* Under the lock: room for @n more bytes, the oldest go. */
static void make_room(struct lib_port *p, size_t n)
{
	size_t drop;

	if (p->len + n > KEEP_BYTES) {
		drop = p->len + n - KEEP_BYTES;
		p->start += drop;
		p->len -= drop;
		p->taken += drop;
		p->lost += drop;
	}
	if (p->start + p->len + n <= p->room)
		return;
	/* Twice what is kept at most: then moving it costs little per byte. */
	if (p->len + n > p->room / 2) {
		p->room = MAX(4 * (p->len + n), (size_t)4096);
		p->room = MIN(p->room, (size_t)(2 * KEEP_BYTES));
		p->buf = xrealloc(p->buf, p->room);
	}
	memmove(p->buf, p->buf + p->start, p->len);
	p->start = 0;
}

static void on_output(struct char_tap *t, const void *buf, size_t len)
{
	struct lib_port *p = container_of(t, struct lib_port, tap);
	const char *from = buf;

	if (len > KEEP_BYTES) {
		from += len - KEEP_BYTES;
		len = KEEP_BYTES;
	}
	pthread_mutex_lock(&p->lock);
	make_room(p, len);
	memcpy(p->buf + p->start + p->len, from, len);
	p->len += len;
	if (p->waiters)
		pthread_cond_broadcast(&p->cond);
	pthread_mutex_unlock(&p->lock);
}

/* ---- input: main loop ---- */

static size_t stage_more(struct lib_port *p)
{
	size_t n;

	pthread_mutex_lock(&p->lock);
	n = MIN(p->in_len, sizeof(p->stage) - p->stage_len);
	if (n) {
		memcpy(p->stage + p->stage_len, p->in, n);
		p->stage_len += n;
		p->in_len -= n;
		memmove(p->in, p->in + n, p->in_len);
		pthread_cond_broadcast(&p->cond);
	}
	pthread_mutex_unlock(&p->lock);
	return n;
}

static void pump(struct lib_port *p)
{
	struct chardev *c = char_find(p->v->vm->chars, p->chardev);

	/* As long as the front end takes all it is given. */
	while (stage_more(p) || p->stage_len) {
		if (c)
			char_deliver(c, p->stage, &p->stage_len);
		if (!c || p->stage_len)
			break;
	}
}

static void on_accept(struct char_tap *t)
{
	pump(container_of(t, struct lib_port, tap));
}

static void input_work(struct loop_work *w)
{
	pump(container_of(w, struct lib_port, work));
}

/* ---- ports ---- */

static void connect_port(struct lib_vm *v, const struct dev *d)
{
	json_int_t index = json_integer_value(json_object_get(d->args, "index"));
	const char *id = json_str(d->args, "chardev", NULL);
	struct chardev *c = id ? char_find(v->vm->chars, id) : NULL;
	struct lib_port *p;

	if (!c || index < 0 || index >= LIB_PORTS || v->port[index].chardev)
		return;
	p = &v->port[index];
	p->v = v;
	p->chardev = xstrdup(id);
	p->work.cb = input_work;
	p->tap = (struct char_tap){ on_output, on_accept };
	char_set_tap(c, &p->tap);
}

void lib_ports_start(struct lib_vm *v)
{
	for (struct dev *d = v->vm->devs; d; d = d->next)
		if (strcmp(d->type->name, "isa-serial") == 0)
			connect_port(v, d);
}

void lib_ports_stop(struct lib_vm *v)
{
	struct chardev *c;

	for (int i = 0; i < LIB_PORTS; i++) {
		c = v->port[i].chardev ? char_find(v->vm->chars, v->port[i].chardev) : NULL;
		if (c)
			char_set_tap(c, NULL);
		if (v->port[i].chardev)
			loop_work_cancel(v->loop, &v->port[i].work);
	}
}

void lib_ports_free(struct lib_vm *v)
{
	for (int i = 0; i < LIB_PORTS; i++) {
		free(v->port[i].chardev);
		free(v->port[i].buf);
		free(v->port[i].in);
	}
}

void lib_ports_wake(struct lib_vm *v)
{
	for (int i = 0; i < LIB_PORTS; i++) {
		pthread_mutex_lock(&v->port[i].lock);
		pthread_cond_broadcast(&v->port[i].cond);
		pthread_mutex_unlock(&v->port[i].lock);
	}
}

void lib_ports_drop(struct lib_vm *v)
{
	for (int i = 0; i < LIB_PORTS; i++) {
		struct lib_port *p = &v->port[i];

		pthread_mutex_lock(&p->lock);
		p->taken += p->len;
		p->start = p->len = p->in_len = 0;
		pthread_mutex_unlock(&p->lock);
		p->stage_len = 0;
	}
}

/* The port of a call that may wait; *v has a reference. NULL with @e. */
static struct lib_port *get_port(struct roost_vm *vm, unsigned int port, bool waits,
				 struct lib_vm **v, int *r, struct roost_error *e)
{
	*v = lib_get(vm, e);
	if (!*v) {
		*r = vm ? -ESTALE : -EINVAL;
		return NULL;
	}
	*r = waits ? lib_not_in_callback(*v, "reading a serial port with a timeout", e) : 0;
	if (*r == 0 && (port >= LIB_PORTS || !(*v)->port[port].chardev))
		*r = lib_fail(e, -ENODEV, "there is no serial port %u; add one with -serial null",
			      port);
	if (*r == 0)
		return &(*v)->port[port];
	lib_put(*v);
	return NULL;
}

static bool over(const struct lib_vm *v)
{
	return atomic_load(&v->closing) || atomic_load(&v->ended);
}

/* ---- read and write ---- */

/* Under the lock. */
static void take(struct lib_port *p, void *out, size_t n)
{
	if (out)
		memcpy(out, p->buf + p->start, n);
	p->start += n;
	p->len -= n;
	p->taken += n;
}

static int read_port(struct lib_port *p, void *buf, size_t len, int timeout_ms)
{
	uint64_t deadline = lib_deadline(timeout_ms);
	bool more = timeout_ms != 0;
	size_t n;

	pthread_mutex_lock(&p->lock);
	p->waiters++;
	while (!p->len && more && !over(p->v))
		more = lib_cond_wait(&p->cond, &p->lock, deadline);
	p->waiters--;
	n = MIN(p->len, len);
	if (n)
		take(p, buf, n);
	pthread_mutex_unlock(&p->lock);
	return (int)n;
}

int roost_serial_read(struct roost_vm *vm, unsigned int port, void *buf, size_t len,
		      int timeout_ms, struct roost_error *e)
{
	struct lib_port *p;
	struct lib_vm *v;
	int r;

	if (!buf || !len)
		return lib_fail(e, -EINVAL, "there is no room to read into");
	p = get_port(vm, port, timeout_ms != 0, &v, &r, e);
	if (!p)
		return r;
	r = read_port(p, buf, MIN(len, (size_t)INT32_MAX), timeout_ms);
	if (r == 0 && over(v))
		r = lib_fail(e, -ESHUTDOWN, "serial port %u: the VM has ended, and all output was "
			     "read", port);
	else if (r == 0)
		r = lib_fail(e, -ETIMEDOUT, "serial port %u: no output within %d ms", port,
			     timeout_ms);
	lib_put(v);
	return r;
}

static int write_port(struct lib_port *p, const void *buf, size_t len, int timeout_ms)
{
	uint64_t deadline = lib_deadline(timeout_ms);
	bool more = timeout_ms != 0, fits;

	pthread_mutex_lock(&p->lock);
	while (!(fits = len <= INPUT_BYTES - p->in_len) && more && !over(p->v))
		more = lib_cond_wait(&p->cond, &p->lock, deadline);
	if (fits) {
		if (!p->in)
			p->in = xcalloc(1, INPUT_BYTES);
		memcpy(p->in + p->in_len, buf, len);
		p->in_len += len;
	}
	pthread_mutex_unlock(&p->lock);
	if (fits)
		loop_post(p->v->loop, &p->work);
	return fits ? 0 : over(p->v) ? -ESHUTDOWN : -ETIMEDOUT;
}

int roost_serial_write(struct roost_vm *vm, unsigned int port, const void *buf, size_t len,
		       int timeout_ms, struct roost_error *e)
{
	struct lib_port *p;
	struct lib_vm *v;
	int r;

	if ((!buf && len) || len > INPUT_BYTES)
		return lib_fail(e, -EINVAL, "at most %llu bytes can be typed at once", INPUT_BYTES);
	p = get_port(vm, port, timeout_ms != 0, &v, &r, e);
	if (!p)
		return r;
	r = write_port(p, buf, len, timeout_ms);
	if (r)
		lib_fail(e, r, "serial port %u: the guest does not read what was typed before",
			 port);
	lib_put(v);
	return r;
}

/* ---- expect ---- */

struct search {
	const char *text;
	bool is_regex;
	regex_t re;
};

static int search_init(struct search *s, const char *pattern, int flags, struct roost_error *e)
{
	char why[120];
	int r;

	*s = (struct search){ .text = pattern, .is_regex = flags & ROOST_EXPECT_REGEX };
	if (!pattern || !*pattern)
		return lib_fail(e, -EINVAL, "the text to expect is empty");
	if (flags & ~ROOST_EXPECT_REGEX)
		return lib_fail(e, -EINVAL, "0x%x is no combination of ROOST_EXPECT_ flags",
				(unsigned int)flags);
	if (!s->is_regex)
		return 0;
	r = regcomp(&s->re, pattern, REG_EXTENDED | REG_NEWLINE);
	if (r == 0)
		return 0;
	regerror(r, &s->re, why, sizeof(why));
	return lib_fail(e, -EINVAL, "'%.100s' is no regular expression: %s", pattern, why);
}

static void search_fini(struct search *s)
{
	if (s->is_regex)
		regfree(&s->re);
}

/* End of the first match in @buf, or 0: where there is no output yet, a
 * pattern that matches nothing at all (".*") waits as others do. */
static size_t search_run(const struct search *s, const char *buf, size_t len)
{
	regmatch_t m = { 0, (regoff_t)len };
	const char *hit;

	if (!len)
		return 0;
	if (s->is_regex)
		return regexec(&s->re, buf, 1, &m, REG_STARTEND) ? 0 :
			MAX((size_t)m.rm_eo, (size_t)1);
	hit = memmem(buf, len, s->text, strlen(s->text));
	return hit ? (size_t)(hit - buf) + strlen(s->text) : 0;
}

/* A copy of what is unread; *taken is where it stands. */
static char *copy_unread(struct lib_port *p, size_t *len, uint64_t *taken)
{
	char *copy;

	pthread_mutex_lock(&p->lock);
	*len = p->len;
	*taken = p->taken;
	copy = xcalloc(1, p->len + 1);
	if (p->len)
		memcpy(copy, p->buf + p->start, p->len);
	pthread_mutex_unlock(&p->lock);
	return copy;
}

/* Take @n bytes that were seen at @taken; false: another reader has them. */
static bool take_seen(struct lib_port *p, uint64_t taken, size_t n)
{
	bool ours;

	pthread_mutex_lock(&p->lock);
	ours = p->taken == taken;
	if (ours)
		take(p, NULL, n);
	pthread_mutex_unlock(&p->lock);
	return ours;
}

/* Until there is more than was seen; false: there will not be. */
static bool wait_more(struct lib_port *p, uint64_t seen, uint64_t deadline)
{
	bool more = true;

	pthread_mutex_lock(&p->lock);
	p->waiters++;
	while (p->taken + p->len == seen && more && !over(p->v))
		more = lib_cond_wait(&p->cond, &p->lock, deadline);
	p->waiters--;
	more = p->taken + p->len != seen;
	pthread_mutex_unlock(&p->lock);
	return more;
}

/* Give the guest time to write some more: looking costs a tenth at most. */
static void rest(uint64_t looked_ns, uint64_t deadline)
{
	uint64_t now = clock_ns(), ns = LOOK_NS + 9 * looked_ns;
	struct timespec ts;

	if (deadline <= now)
		return;
	ns = MIN(ns, deadline - now);
	ts = (struct timespec){ (time_t)(ns / NS_PER_SEC), (long)(ns % NS_PER_SEC) };
	nanosleep(&ts, NULL);
}

/* 1: found, 0: not, and *text is the output either way. */
static int look_until(struct lib_port *p, const struct search *s, uint64_t deadline, char **text)
{
	uint64_t taken, began;
	size_t len, end;

	for (;;) {
		began = clock_ns();
		*text = copy_unread(p, &len, &taken);
		end = search_run(s, *text, len);
		if (end && take_seen(p, taken, end)) {
			(*text)[end] = '\0';
			return 1;
		}
		if (!end && !wait_more(p, taken + len, deadline))
			return 0;
		free(*text);
		rest(clock_ns() - began, deadline);
	}
}

/* The last line that is not blank, made printable. */
static void last_line(const char *text, char *out, size_t room)
{
	size_t end = strlen(text), start, n = 0;

	while (end && strchr("\r\n \t", text[end - 1]))
		end--;
	for (start = end; start && text[start - 1] != '\n' && end - start < room - 1; start--)
		;
	for (; start < end; start++)
		if (text[start] >= ' ' && text[start] != 0x7f)
			out[n++] = text[start];
	out[n] = '\0';
}

static int not_found(struct lib_vm *v, unsigned int port, const char *pattern, const char *text,
		     int timeout_ms, struct roost_error *e)
{
	char quote[QUOTE_BYTES];

	last_line(text, quote, sizeof(quote));
	if (over(v))
		return lib_fail(e, -ESHUTDOWN, "serial port %u: the VM has ended without '%.100s'; "
				"its last line is '%s'", port, pattern, quote);
	return lib_fail(e, -ETIMEDOUT, "serial port %u: no '%.100s' within %d ms; the last line is "
			"'%s'", port, pattern, timeout_ms, quote);
}

int roost_serial_expect(struct roost_vm *vm, unsigned int port, const char *pattern, int flags,
			int timeout_ms, char **text, struct roost_error *e)
{
	char *output = NULL;
	struct lib_port *p;
	struct lib_vm *v;
	struct search s;
	int r;

	if (text)
		*text = NULL;
	r = search_init(&s, pattern, flags, e);
	if (r)
		return r;
	p = get_port(vm, port, timeout_ms != 0, &v, &r, e);
	if (p) {
		r = look_until(p, &s, lib_deadline(timeout_ms), &output);
		r = r ? 0 : not_found(v, port, pattern, output, timeout_ms, e);
		lib_put(v);
	}
	search_fini(&s);
	if (text)
		*text = output;
	else
		free(output);
	return r;
}

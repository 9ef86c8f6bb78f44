/*
 * vmm/char/char.c - the set of chardevs: create, find, connect, delete.
 * Threads: main loop, except where char.h says any.
 * Missing: several front ends on one mux.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/base/json.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/char/char_priv.h"

#define CLOSE_WAIT_NS	NS_PER_SEC	/* for writes that are under way */

const struct char_driver *const char_drivers[] = {
	&char_stdio_driver, &char_pty_driver, &char_file_driver,
	&char_socket_driver, &char_null_driver, &char_ringbuf_driver,
	&char_console_driver, &char_serial_driver, NULL
};

const struct prop char_props[] = {
	PROP_BOOL(struct chardev, mux, "mux", false,
		  "Ctrl-A commands on this terminal (Ctrl-A h lists them)"),
	PROP_STR(struct chardev, logfile, "logfile", NULL,
		 "file that gets a copy of all output"),
	PROP_BOOL(struct chardev, logappend, "logappend", false,
		  "add to the logfile instead of emptying it first"),
	PROP_END
};

/* ---- for drivers ---- */

void char_set_open(struct chardev *c, bool open, bool discard)
{
	pthread_mutex_lock(&c->lock);
	if (open && !c->open)
		char_ring_rewind(&c->out);
	c->open = c->hold = open;
	if (!open && discard)
		char_ring_take(&c->out, char_ring_waiting(&c->out));
	pthread_mutex_unlock(&c->lock);
	c->want_out = false;
	c->escaped = false;
	char_drop_fds(c);
	if (open)
		c->waiting = false;
	char_send_event(c, open ? CHAR_OPENED : CHAR_CLOSED);
	c->announce = false;
	if (!open)
		char_feed(c);
	/* Room for input and output that was kept: looked at in a turn's end. */
	loop_post(c->loop, &c->in_work);
	loop_post(c->loop, &c->out_work);
}

void char_set_filename(struct chardev *c, const char *fmt, ...)
{
	char *s = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		s = NULL;
	va_end(ap);
	free(c->filename);
	c->filename = s ? s : xstrdup("");
}

/* ---- create ---- */

struct char_set *char_set_create(struct loop *main)
{
	struct char_set *s = xcalloc(1, sizeof(*s));

	s->loop = main;
	return s;
}

static const struct char_driver *driver_find(const char *name)
{
	const struct char_driver *const *d;

	for (d = char_drivers; *d; d++)
		if (!strcmp((*d)->name, name))
			return *d;
	return NULL;
}

static int no_driver(const char *id, const char *name, struct err *e)
{
	char list[128] = "";
	size_t i, n = 0;

	for (i = 0; char_drivers[i]; i++)
		n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s",
				      i ? ", " : "", char_drivers[i]->name);
	return err_set(e, -EINVAL, "chardev '%s': there is no backend '%s'; choose one of %s",
		       id, name, list);
}

static struct chardev *chardev_new(struct char_set *s, const struct char_driver *drv,
				   const char *id)
{
	struct chardev *c = xcalloc(1, drv->size);

	c->drv = drv;
	c->set = s;
	c->loop = s->loop;
	c->id = xstrdup(id);
	c->filename = xstrdup(drv->name);
	pthread_mutex_init(&c->lock, NULL);
	c->out_work.cb = char_out_work;
	c->in_work.cb = char_in_work;
	c->in = (struct loop_fd){ .fd = -1, .cb = char_in_watch };
	c->out_watch = (struct loop_fd){ .fd = -1, .cb = char_out_watch };
	char_aio_init(c, &c->out_aio, &c->out, -1);
	char_aio_init(c, &c->log_aio, &c->log, -1);
	return c;
}

static int open_log(struct chardev *c, struct err *e)
{
	int fd, flags = O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY;

	if (!c->logfile)
		return 0;
	fd = open(c->logfile, flags | (c->logappend ? O_APPEND : O_TRUNC), 0666);
	if (fd < 0)
		return err_sys(e, -errno, "chardev '%s': cannot open logfile '%s'",
			       c->id, c->logfile);
	char_aio_init(c, &c->log_aio, &c->log, fd);
	return 0;
}

void char_shut(struct chardev *c)
{
	char_drop_fds(c);
	c->front = NULL;
	if (c->opened)
		c->drv->close(c);
	char_unwatch(c);
	c->open = false;
	char_out_finish(c);
	c->dead = true;
	c->set->closing++;
	char_release(c);
}

void char_release(struct chardev *c)
{
	const struct prop *const tables[] = { c->drv->props, char_props, NULL };
	const struct prop *const common[] = { char_props, NULL };

	if (c->out_aio.busy || c->log_aio.busy ||
	    atomic_load(&c->out_work.queued) || atomic_load(&c->in_work.queued))
		return;		/* whatever comes back last calls again */
	c->set->closing--;
	fd_close(&c->out_aio.fd);
	fd_close(&c->log_aio.fd);
	char_ring_free(&c->out);
	char_ring_free(&c->log);
	pthread_mutex_destroy(&c->lock);
	prop_free(c->drv->props ? tables : common, c);
	free(c->typed);
	free(c->filename);
	free(c->owner);
	free(c->id);
	free(c);
}

static int chardev_open(struct chardev *c, const json_t *args, struct err *e)
{
	static const char *const skip[] = { "id", "backend", NULL };
	const struct prop *const tables[] = { c->drv->props, char_props, NULL };
	const struct prop *const common[] = { char_props, NULL };
	const struct prop *const *t = c->drv->props ? tables : common;
	char what[80];
	int r;

	snprintf(what, sizeof(what), "chardev '%.60s'", c->id);
	prop_defaults(t, c);
	r = prop_apply(t, c, args, skip, what, e);
	if (r >= 0)
		r = open_log(c, e);
	if (r < 0)
		return r;
	char_ring_init(&c->out, c->replay);
	char_ring_init(&c->log, 0);
	c->opened = true;
	return c->drv->open(c, e);
}

int char_make(struct char_set *s, const json_t *args, struct chardev **out, struct err *e)
{
	const char *id = json_str(args, "id", "");
	const char *name = json_str(args, "backend", "");
	const struct char_driver *drv = driver_find(name);
	struct chardev *c;
	int r;

	if (!drv)
		return no_driver(id, name, e);
	c = chardev_new(s, drv, id);
	r = chardev_open(c, args, e);
	if (r < 0)
		char_shut(c);
	else
		*out = c;
	return r < 0 ? r : 0;
}

int char_add(struct char_set *s, const json_t *args, struct chardev **out, struct err *e)
{
	const char *id = json_str(args, "id", NULL);
	struct chardev *c, **p;
	int r;

	if (!id || !*id)
		return err_set(e, -EINVAL, "-chardev %s needs id=", json_str(args, "backend", ""));
	if (char_find(s, id))
		return err_set(e, -EEXIST, "chardev '%s' exists already; choose another id", id);
	r = char_make(s, args, &c, e);
	if (r < 0)
		return r;
	for (p = &s->list; *p; p = &(*p)->next)
		;
	*p = c;
	if (out)
		*out = c;
	return 0;
}

/* ---- the set ---- */

struct chardev *char_find(struct char_set *s, const char *id)
{
	struct chardev *c;

	for (c = s->list; c; c = c->next)
		if (!strcmp(c->id, id))
			return c;
	return NULL;
}

void char_each(struct char_set *s, void (*fn)(struct chardev *c, void *arg), void *arg)
{
	struct chardev *c, *next;

	for (c = s->list; c; c = next) {
		next = c->next;
		fn(c, arg);
	}
}

int char_del(struct char_set *s, const char *id, struct err *e)
{
	struct chardev *c, **p;

	for (p = &s->list; (c = *p) && strcmp(c->id, id); p = &c->next)
		;
	if (!c)
		return err_set(e, -ENOENT, "there is no chardev '%s'", id);
	if (c->front)
		return err_set(e, -EBUSY, "chardev '%s' is in use by %s", id, c->owner);
	*p = c->next;
	char_shut(c);
	return 0;
}

int char_connect(struct chardev *c, struct char_front *f, const char *owner, struct err *e)
{
	if (f && c->front)
		return err_set(e, -EBUSY, "chardev '%s' is in use by %s already; %s needs "
			       "a chardev of its own", c->id, c->owner, owner);
	c->front = f;
	free(c->owner);
	c->owner = f ? xstrdup(owner) : NULL;
	c->announce = f != NULL;
	if (!f) {		/* what the old one was owed concerns no other */
		pthread_mutex_lock(&c->lock);
		c->starved = false;
		pthread_mutex_unlock(&c->lock);
	}
	char_accept_input(c);
	return 0;
}

void char_hangup(struct chardev *c)
{
	c->hang_up = true;
	loop_post(c->loop, &c->in_work);
}

void char_accept_input(struct chardev *c)
{
	loop_post(c->loop, &c->in_work);
}

const char *char_id(const struct chardev *c)
{
	return c->id;
}

bool char_has_front(const struct chardev *c)
{
	return c->front != NULL;
}

void char_send_break(struct chardev *c)
{
	char_send_event(c, CHAR_BREAK);
}

void char_keep_fds(struct chardev *c)
{
	c->keep_fds = true;
}

int char_take_fd(struct chardev *c)
{
	int fd;

	if (!c->fd_count)
		return -1;
	fd = c->fds[0];
	c->fd_count--;
	memmove(c->fds, c->fds + 1, (size_t)c->fd_count * sizeof(c->fds[0]));
	return fd;
}

void char_drop_fds(struct chardev *c)
{
	while (c->fd_count)
		close(c->fds[--c->fd_count]);
}

struct char_set *char_set_of(struct chardev *c)
{
	return c->set;
}

void char_set_fds(struct char_set *s, struct fds *fds)
{
	s->fds = fds;
}

const char *char_backend(const struct chardev *c)
{
	return c->drv->name;
}

const char *char_filename(const struct chardev *c)
{
	return c->filename;
}

bool char_is_open(const struct chardev *c)
{
	struct chardev *m = (struct chardev *)(uintptr_t)c;
	bool open;

	pthread_mutex_lock(&m->lock);
	open = m->open;
	pthread_mutex_unlock(&m->lock);
	return open;
}

void char_winsize(const struct chardev *c, uint16_t *cols, uint16_t *rows)
{
	struct chardev *m = (struct chardev *)(uintptr_t)c;

	pthread_mutex_lock(&m->lock);
	*cols = m->cols;
	*rows = m->rows;
	pthread_mutex_unlock(&m->lock);
}

void char_set_winsize(struct chardev *c, uint16_t cols, uint16_t rows)
{
	bool changed;

	pthread_mutex_lock(&c->lock);
	changed = cols != c->cols || rows != c->rows;
	c->cols = cols;
	c->rows = rows;
	pthread_mutex_unlock(&c->lock);
	if (changed)
		char_send_event(c, CHAR_WINSIZE);
}

void char_ask_winsize(struct chardev *c, int fd)
{
	struct winsize w;

	if (ioctl(fd, TIOCGWINSZ, &w) == 0)
		char_set_winsize(c, w.ws_col, w.ws_row);
}

void char_set_escape(struct char_set *s, void (*cb)(char key, void *arg), void *arg)
{
	s->escape = cb;
	s->escape_arg = arg;
}

void char_set_tap(struct chardev *c, struct char_tap *tap)
{
	pthread_mutex_lock(&c->lock);
	c->tap = tap;
	pthread_mutex_unlock(&c->lock);
}

void char_stall(struct chardev *c, bool in, bool out)
{
	c->stall_in = in;
	pthread_mutex_lock(&c->lock);
	c->stall_out = out;
	pthread_mutex_unlock(&c->lock);
	char_feed(c);
	char_accept_input(c);
}

/* ---- waiting, outside of callbacks ---- */

static const struct chardev *first_waiting(const struct char_set *s)
{
	const struct chardev *c;

	for (c = s->list; c && !c->waiting; c = c->next)
		;
	return c;
}

int char_wait(struct char_set *s, struct err *e)
{
	const struct chardev *c, *told = NULL;
	int r = 0;

	/* Looked for in each turn: QMP is served meanwhile, and may remove any. */
	while ((c = first_waiting(s))) {
		if (c != told)
			log_info("chardev '%s' waits for its client (%s)", c->id, c->filename);
		told = c;
		if (r >= 0 && loop_quitting(s->loop))
			r = -EINTR;
		if (r < 0)
			return err_set(e, r, "chardev '%s': no client has connected; wait=off "
				       "starts without one", c->id);
		r = loop_turn(s->loop, UINT64_MAX);
	}
	return MIN(r, 0);
}

static bool all_idle(struct char_set *s)
{
	struct chardev *c;

	for (c = s->list; c; c = c->next)
		if (!char_out_idle(c))
			return false;
	return !s->closing;
}

void char_drain(struct char_set *s, uint64_t timeout_ns)
{
	uint64_t now = clock_ns(), end = now + timeout_ns;

	for (; !all_idle(s) && now < end; now = clock_ns())
		if (loop_turn(s->loop, end - now) < 0)
			return;
}

static void turn_until_closed(struct char_set *s)
{
	uint64_t now = clock_ns(), end = now + CLOSE_WAIT_NS;

	for (; s->closing && now < end; now = clock_ns())
		if (loop_turn(s->loop, end - now) < 0)
			return;
}

void char_set_destroy(struct char_set *s)
{
	struct chardev *c, **p;

	if (!s)
		return;
	/* The newest first: a console goes before the chardev it was put on. */
	while (s->list) {
		for (p = &s->list; (*p)->next; p = &(*p)->next)
			;
		c = *p;
		*p = NULL;
		char_shut(c);
	}
	turn_until_closed(s);
	if (s->closing) {
		/* Storage that hangs must not keep the process. */
		log_warn("%d chardev writes did not end; left behind", s->closing);
		return;
	}
	free(s);
}

/*
 * vmm/run/lib_event.c - libroost: events to callbacks, readers and a descriptor.
 *
 * Spec:    include/roost.h; messages are QMP's.
 * Threads: events come on the VM's main loop; readers wait in any thread.
 * Missing: nothing known.
 *
 * Callbacks are not made from inside vm_event(), where the VM is between two
 * states, but from the loop soon after: they may call anything.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <unistd.h>

#include "vmm/base/util.h"
#include "vmm/run/lib.h"

static char *message(const char *name, json_t *data)
{
	struct timeval tv;
	json_t *ev;
	char *text;

	gettimeofday(&tv, NULL);
	ev = json_pack("{s:s,s:{s:I,s:I}}", "event", name, "timestamp",
		       "seconds", (json_int_t)tv.tv_sec,
		       "microseconds", (json_int_t)tv.tv_usec);
	if (data)
		json_object_set(ev, "data", data);
	text = json_dumps(ev, JSON_COMPACT);
	json_decref(ev);
	return text ? text : xstrdup("{}");
}

static void signal_fd(int fd)
{
	static const uint64_t one = 1;

	/* Full means readable already. */
	while (fd >= 0 && write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static void on_event(struct vm_listener *l, const char *name, json_t *data)
{
	struct lib_vm *v = container_of(l, struct lib_vm, listener);
	struct lib_event *slot;

	pthread_mutex_lock(&v->lock);
	slot = &v->event[v->events++ % LIB_EVENTS];
	free(slot->name);
	free(slot->json);
	*slot = (struct lib_event){ xstrdup(name), message(name, data) };
	if (strcmp(name, "RESET") == 0) {
		v->resets++;
		atomic_store(&v->ended, false);
	}
	signal_fd(v->event_fd);
	pthread_cond_broadcast(&v->cond);
	pthread_mutex_unlock(&v->lock);
	if (v->subs)
		loop_post(v->loop, &v->dispatch);
}

/* ---- callbacks ---- */

static void reap(struct lib_vm *v)
{
	struct lib_sub **at = &v->subs, *s;

	while ((s = *at)) {
		if (s->dead) {
			*at = s->next;
			free(s);
		} else {
			at = &s->next;
		}
	}
}

static void call_subs(struct lib_vm *v, const struct lib_event *ev)
{
	for (struct lib_sub *s = v->subs; s; s = s->next)
		if (!s->dead)
			s->fn((struct roost_vm *)v->id, ev->name, ev->json, s->arg);
}

/* A copy of event *@n or, when that is gone, of the oldest; *@n moves there. */
static bool copy_event(struct lib_vm *v, uint64_t *n, struct lib_event *out)
{
	bool there;

	pthread_mutex_lock(&v->lock);
	if (v->events > LIB_EVENTS && *n < v->events - LIB_EVENTS)
		*n = v->events - LIB_EVENTS;
	there = *n < v->events;
	if (there)
		*out = (struct lib_event){ xstrdup(v->event[*n % LIB_EVENTS].name),
					   xstrdup(v->event[*n % LIB_EVENTS].json) };
	pthread_mutex_unlock(&v->lock);
	return there;
}

static void dispatch(struct loop_work *w)
{
	struct lib_vm *v = container_of(w, struct lib_vm, dispatch);
	struct lib_event ev;

	v->dispatching = true;
	while (copy_event(v, &v->dispatched, &ev)) {
		v->dispatched++;
		call_subs(v, &ev);
		free(ev.name);
		free(ev.json);
	}
	v->dispatching = false;
	reap(v);
}

static int subscribe(struct lib_vm *v, void *arg, struct err *e)
{
	struct lib_sub **at = &v->subs, *s = arg;

	/* What came before the first subscription is nobody's. */
	if (!v->subs)
		v->dispatched = v->events;
	while (*at)
		at = &(*at)->next;
	s->id = ++v->next_sub;
	*at = s;
	return s->id;
}

static int unsubscribe(struct lib_vm *v, void *arg, struct err *e)
{
	int id = *(int *)arg;

	for (struct lib_sub *s = v->subs; s; s = s->next) {
		if (s->id != id || s->dead)
			continue;
		s->dead = true;
		if (!v->dispatching)
			reap(v);
		return 0;
	}
	return err_set(e, -ENOENT, "there is no subscription %d", id);
}

int roost_event_subscribe(struct roost_vm *vm,
			  void (*fn)(struct roost_vm *vm, const char *name, const char *json,
				     void *arg),
			  void *arg, struct roost_error *e)
{
	struct lib_sub *s;
	int r;

	if (!fn)
		return lib_fail(e, -EINVAL, "the event callback is NULL");
	s = xcalloc(1, sizeof(*s));
	s->fn = fn;
	s->arg = arg;
	r = lib_call(vm, subscribe, s, e);
	if (r < 0)
		free(s);
	return r;
}

int roost_event_unsubscribe(struct roost_vm *vm, int subscription, struct roost_error *e)
{
	return lib_call(vm, unsubscribe, &subscription, e);
}

/* ---- readers ---- */

static char *lost_message(uint64_t n)
{
	json_t *data = json_pack("{s:I}", "count", (json_int_t)n);
	char *text = message("__org.roost_EVENTS_LOST", data);

	json_decref(data);
	return text;
}

/* Under the lock: the next one called @name from *@cursor on, or NULL and the
 * cursor stands behind all that are there. */
static char *find_event(struct lib_vm *v, const char *name, uint64_t *cursor)
{
	uint64_t oldest = v->events > LIB_EVENTS ? v->events - LIB_EVENTS : 0, lost;
	const struct lib_event *ev;

	if (*cursor < oldest) {
		lost = oldest - *cursor;
		*cursor = oldest;
		return lost_message(lost);
	}
	while (*cursor < v->events) {
		ev = &v->event[(*cursor)++ % LIB_EVENTS];
		if (!name || strcmp(ev->name, name) == 0)
			return xstrdup(ev->json);
	}
	return NULL;
}

static int wait_event(struct lib_vm *v, const char *name, uint64_t *cursor, int timeout_ms,
		      char **json, struct roost_error *e)
{
	uint64_t deadline = lib_deadline(timeout_ms);
	bool more = timeout_ms != 0;
	char *text;

	pthread_mutex_lock(&v->lock);
	while (!(text = find_event(v, name, cursor)) && more && !atomic_load(&v->closing))
		more = lib_cond_wait(&v->cond, &v->lock, deadline);
	pthread_mutex_unlock(&v->lock);
	if (!text && atomic_load(&v->closing))
		return lib_fail(e, -ESHUTDOWN, "the VM is being destroyed");
	if (!text)
		return lib_fail(e, -ETIMEDOUT, "no event %s within %d ms", name ? name : "at all",
				timeout_ms);
	if (json)
		*json = text;
	else
		free(text);
	return 0;
}

int roost_event_wait(struct roost_vm *vm, const char *name, uint64_t *cursor, int timeout_ms,
		     char **json, struct roost_error *e)
{
	struct lib_vm *v;
	int r;

	if (json)
		*json = NULL;
	if (!cursor)
		return lib_fail(e, -EINVAL, "the cursor is NULL");
	v = lib_get(vm, e);
	if (!v)
		return vm ? -ESTALE : -EINVAL;
	r = timeout_ms ? lib_not_in_callback(v, "roost_event_wait()", e) : 0;
	if (r == 0)
		r = wait_event(v, name, cursor, timeout_ms, json, e);
	lib_put(v);
	return r;
}

int roost_event_fd(struct roost_vm *vm, struct roost_error *e)
{
	struct lib_vm *v = lib_get(vm, e);
	int fd;

	if (!v)
		return vm ? -ESTALE : -EINVAL;
	pthread_mutex_lock(&v->lock);
	if (v->event_fd < 0) {
		v->event_fd = eventfd(v->events > 0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (v->event_fd < 0)
			lib_fail(e, -errno, "no eventfd: %s", strerror(errno));
	}
	fd = v->event_fd;
	pthread_mutex_unlock(&v->lock);
	lib_put(v);
	return fd < 0 ? -EMFILE : fd;
}

/* ---- life ---- */

void lib_events_start(struct lib_vm *v)
{
	v->dispatch.cb = dispatch;
	v->listener.event = on_event;
	vm_listen(v->vm, &v->listener);
}

void lib_events_stop(struct lib_vm *v)
{
	vm_unlisten(v->vm, &v->listener);
	loop_work_cancel(v->loop, &v->dispatch);
}

void lib_events_free(struct lib_vm *v)
{
	for (struct lib_sub *s = v->subs; s; s = s->next)
		s->dead = true;
	reap(v);
	for (int i = 0; i < LIB_EVENTS; i++) {
		free(v->event[i].name);
		free(v->event[i].json);
	}
}

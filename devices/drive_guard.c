/*
 * devices/drive_guard.c - a failing drive: stop, event, resume.
 *
 * Spec:    QMP's BLOCK_IO_ERROR (qapi/block-core.json).
 * Threads: see drive_guard.h.
 * Missing: nothing known.
 */
#include "devices/drive_guard.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "block/block.h"
#include "block/retry.h"
#include "vmm/base/util.h"
#include "vmm/core/dev.h"
#include "vmm/core/vm.h"

static uint64_t pack(enum block_op op, int err, enum drive_policy action)
{
	return 1ull << 63 | (uint64_t)op << 40 | (uint64_t)action << 32 | (uint32_t)-err;
}

static const char *action_word(enum drive_policy action)
{
	switch (action) {
	case DRIVE_STOP:
		return "stop";
	case DRIVE_IGNORE:
		return "ignore";
	case DRIVE_RETRY:
		return "retry";
	default:
		return "report";
	}
}

/* The members that all events have. libvirt wants "device" even if empty. */
static json_t *event_data(const struct drive_guard *g, enum block_op op)
{
	return json_pack("{s:s,s:s,s:s,s:s}", "device", g->drive->id,
			 "qom-path", g->dev->path, "node-name", g->drive->node->name,
			 "operation", op == BLOCK_READ ? "read" : "write");
}

static json_t *error_data(const struct drive_guard *g, enum block_op op, int err,
			  enum drive_policy action)
{
	json_t *o = event_data(g, op);

	json_object_update_new(o, json_pack("{s:s,s:b,s:s}", "action", action_word(action),
					    "nospace", err == ENOSPC, "reason", strerror(err)));
	return o;
}

static void report(struct loop_work *w)
{
	struct drive_guard *g = container_of(w, struct drive_guard, report);
	uint64_t e = atomic_exchange(&g->latest, 0);
	enum block_op op = (enum block_op)(e >> 40 & 0xff);
	enum drive_policy action = (enum drive_policy)(e >> 32 & 0xff);
	int err = (int)(uint32_t)e;

	if (!e)
		return;
	vm_event(g->dev->vm, "BLOCK_IO_ERROR", error_data(g, op, err, action));
}

static void on_error(struct drive *d, enum block_op op, int err, enum drive_policy action)
{
	struct drive_guard *g = d->on_error_arg;
	struct vm *vm = g->dev->vm;

	atomic_store(&g->latest, pack(op, err, action));
	loop_post(vm->main, &g->report);
	if (action == DRIVE_STOP)
		vm_request_stop(vm, VM_IO_ERROR);
}

static const char *const event_names[] = {
	[DRIVE_EV_ERROR] = "BLOCK_IO_ERROR",
	[DRIVE_EV_SUSPENDED] = "__org.roost_BLOCK_IO_SUSPENDED",
	[DRIVE_EV_RESUMED] = "__org.roost_BLOCK_IO_RESUMED",
	[DRIVE_EV_TIMED_OUT] = "__org.roost_BLOCK_IO_TIMED_OUT",
};

static void put(json_t *o, const char *key, uint64_t val)
{
	json_object_set_new(o, key, json_integer((json_int_t)val));
}

/* Of a drive that retries. */
static void on_event(struct drive *d, const struct drive_event *ev)
{
	struct drive_guard *g = d->on_error_arg;
	json_t *o;

	if (ev->kind == DRIVE_EV_ERROR) {
		o = error_data(g, ev->op, -ev->err, DRIVE_RETRY);
		put(o, "count", ev->count);
	} else {
		o = event_data(g, ev->op);
		put(o, "errno", (uint64_t)-ev->err);
		json_object_set_new(o, "reason", json_string(strerror(-ev->err)));
		put(o, "since", ev->since_ms);
		put(o, "requests", ev->requests);
	}
	if (ev->kind == DRIVE_EV_RESUMED || ev->kind == DRIVE_EV_SUSPENDED)
		json_object_set_new(o, "stalled", json_boolean(ev->stalled));
	if (ev->kind == DRIVE_EV_RESUMED) {
		put(o, "retries", ev->retries);
		json_object_set_new(o, "cancelled", json_boolean(ev->cancelled));
	}
	if (ev->kind == DRIVE_EV_RESUMED || ev->kind == DRIVE_EV_TIMED_OUT)
		put(o, "duration_ms", ev->ms);
	vm_event(g->dev->vm, event_names[ev->kind], o);
}

void drive_guard_init(struct drive_guard *g, struct dev *d, struct drive *drive)
{
	g->dev = d;
	g->drive = drive;
	g->report.cb = report;
	drive->on_error_arg = g;
	drive->on_error = on_error;
	drive->on_event = on_event;
}

void drive_guard_fini(struct drive_guard *g)
{
	if (!g->drive)
		return;
	g->drive->on_error = NULL;
	g->drive->on_event = NULL;
	loop_work_cancel(g->dev->vm->main, &g->report);
	g->drive = NULL;
}

/* What of @o counts: @name, or all that the description states. */
static json_t *given(const struct drive_guard *g, const struct retry_opts *o, const char *name)
{
	json_t *all = name ? json_pack("{s:b}", name, 1) : json_copy(g->dev->args);

	if (o->werror == DRIVE_AUTO)
		json_object_del(all, "werror");
	if (o->rerror == DRIVE_AUTO)
		json_object_del(all, "rerror");
	return all;
}

int drive_guard_policy(struct drive_guard *g, const struct retry_opts *o, const char *name,
		       struct err *e)
{
	json_t *which = given(g, o, name);
	int r = retry_set(g->drive, o, which, g->dev->path, e);

	json_decref(which);
	return r;
}

void drive_guard_pause(struct drive_guard *g, bool paused)
{
	if (!g->drive)
		return;
	if (paused)
		drive_pause(g->drive);
	else
		drive_resume(g->drive);
}

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
	default:
		return "report";
	}
}

/* libvirt wants "device" even where it is empty. */
static void report(struct loop_work *w)
{
	struct drive_guard *g = container_of(w, struct drive_guard, report);
	uint64_t e = atomic_exchange(&g->latest, 0);
	enum block_op op = (enum block_op)(e >> 40 & 0xff);
	enum drive_policy action = (enum drive_policy)(e >> 32 & 0xff);
	int err = (int)(uint32_t)e;

	if (!e)
		return;
	vm_event(g->dev->vm, "BLOCK_IO_ERROR",
		 json_pack("{s:s,s:s,s:s,s:s,s:s,s:b,s:s}", "device", g->drive->id,
			   "qom-path", g->dev->path, "node-name", g->drive->node->name,
			   "operation", op == BLOCK_READ ? "read" : "write",
			   "action", action_word(action), "nospace", err == ENOSPC,
			   "reason", strerror(err)));
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

void drive_guard_init(struct drive_guard *g, struct dev *d, struct drive *drive)
{
	g->dev = d;
	g->drive = drive;
	g->report.cb = report;
	drive->on_error_arg = g;
	drive->on_error = on_error;
}

void drive_guard_fini(struct drive_guard *g)
{
	if (!g->drive)
		return;
	g->drive->on_error = NULL;
	loop_work_cancel(g->dev->vm->main, &g->report);
	g->drive = NULL;
}

void drive_guard_pause(struct drive_guard *g, bool paused)
{
	if (!paused && g->drive)
		drive_resume(g->drive);
}

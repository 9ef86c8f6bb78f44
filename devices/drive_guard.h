/*
 * devices/drive_guard.h - what a disk device does when its drive fails: stop
 * the VM where the policy says so, tell QMP, go on when the VM goes on.
 *
 * Events: QEMU's BLOCK_IO_ERROR, which has a "count" with action "retry", and
 * __org.roost_BLOCK_IO_SUSPENDED, …_RESUMED, …_TIMED_OUT (docs/retry.md).
 *
 * Threads: errors come on any request's loop; all else on the main loop.
 */
#ifndef DEVICES_DRIVE_GUARD_H
#define DEVICES_DRIVE_GUARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/loop/loop.h"

struct dev;
struct drive;
struct err;
struct retry_opts;

/* Embedded in the device, zeroed. */
struct drive_guard {
	struct dev *dev;
	struct drive *drive;
	struct loop_work report;
	/* The latest error, packed: a burst of failures is one event. */
	_Atomic uint64_t latest;
};

void drive_guard_init(struct drive_guard *g, struct dev *d, struct drive *drive);
/* Before the drive is closed; nothing is in flight. */
void drive_guard_fini(struct drive_guard *g);
/*
 * Give the drive the policies @o of the device: those that its description
 * states (werror and rerror "auto" mean the drive's own), or only the one
 * called @name after a change (dev_ops.changed). 0 or -errno with a sentence.
 */
int drive_guard_policy(struct drive_guard *g, const struct retry_opts *o, const char *name,
		       struct err *e);
/* dev_ops.pause: nothing is retried while the VM is stopped; requests that a
 * stop kept are issued again. */
void drive_guard_pause(struct drive_guard *g, bool paused);

#endif

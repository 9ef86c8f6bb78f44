/*
 * devices/drive_guard.h - what a disk device does when its drive fails: stop
 * the VM where the policy says so, tell QMP, go on when the VM goes on.
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
/* dev_ops.pause: requests that a stop kept are issued again. */
void drive_guard_pause(struct drive_guard *g, bool paused);

#endif

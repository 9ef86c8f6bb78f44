/*
 * devices/x86/deadline.h - a timer that register hooks may set.
 *
 * A loop's own timers belong to its thread; these devices are programmed from
 * vCPU threads. A timerfd can be set from anywhere, and the loop watches it.
 */
#ifndef DEVICES_X86_DEADLINE_H
#define DEVICES_X86_DEADLINE_H

#include "vmm/core/dev.h"
#include "vmm/loop/loop.h"

struct deadline {
	struct loop_fd watch;	/* fd -1: closed */
	struct dev *dev;
	void (*cb)(struct dev *d);	/* main loop, device lock held */
};

/* Main loop. Must be called before anything that can fail (it sets fd). */
int deadline_init(struct deadline *t, struct dev *d, void (*cb)(struct dev *), struct err *e);
void deadline_fini(struct deadline *t);
/* Fire once at @ns of CLOCK_MONOTONIC; 0 disarms. Any thread. */
void deadline_set(struct deadline *t, uint64_t ns);

#endif

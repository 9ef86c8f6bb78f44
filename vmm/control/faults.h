/*
 * vmm/control/faults.h - -object fault: what a test harness breaks on purpose.
 *
 * A fault names one target and says what is wrong with it. It begins when the
 * object is added and ends when it is removed:
 *
 *	drive=ID,errno=,latency=,short=,hang=,…	a disk (block/fault.h)
 *	chardev=ID,stall=in|out|both		a serial line that takes nothing
 *	clock=SECONDS				the host's clock jumps
 *
 * Another kind of target is one row of fault_kinds[] in faults.c.
 *
 * Threads: main loop.
 */
#ifndef VMM_CONTROL_FAULTS_H
#define VMM_CONTROL_FAULTS_H

#include <jansson.h>

#include "vmm/core/object.h"

extern const struct vm_object_type fault_object_type;

/* [{"id":"f0","drive":"#block123","matched":7,"hits":3,"held":0},…], new. */
json_t *fault_list(struct vm *vm);

#endif

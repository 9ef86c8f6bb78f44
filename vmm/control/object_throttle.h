/*
 * vmm/control/object_throttle.h - -object throttle-group: limits that drives and
 * throttle nodes share (block/throttle.h).
 *
 * Threads: main loop.
 */
#ifndef VMM_CONTROL_OBJECT_THROTTLE_H
#define VMM_CONTROL_OBJECT_THROTTLE_H

#include "vmm/core/object.h"

extern const struct vm_object_type throttle_object_type;
/* Names and types of what "limits" may have. */
extern const struct prop throttle_limit_props[];

#endif

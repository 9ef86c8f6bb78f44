/*
 * vmm/control/disk.h - disks by the names that QMP's clients use.
 */
#ifndef VMM_CONTROL_DISK_H
#define VMM_CONTROL_DISK_H

#include "block/block.h"
#include "vmm/control/qmp.h"

/* @name: a drive's id, a node-name, or the id or QOM path of the device that has the
 * disk. NULL, with DeviceNotFound: none. Main loop. */
struct drive *qmp_disk(struct qmp *q, const char *name, struct err *e);

#endif

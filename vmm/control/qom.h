/*
 * vmm/control/qom.h - the tree of objects as QEMU shows it.
 *
 *	/machine/peripheral/ID		devices with an id
 *	/machine/peripheral-anon/NAME	devices without
 *	/machine/unattached/device[N]	vCPU N; then the machine's own parts
 *	/objects/ID			-object
 *	/chardevs/ID
 *
 * Threads: main loop.
 */
#ifndef VMM_CONTROL_QOM_H
#define VMM_CONTROL_QOM_H

#include <jansson.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/err.h"

struct vm;

/* What a path leads to. */
enum qom_kind {
	QOM_NONE, QOM_ROOT, QOM_MACHINE, QOM_PERIPHERAL, QOM_ANON, QOM_UNATTACHED,
	QOM_OBJECTS, QOM_CHARDEVS,		/* containers */
	QOM_DEVICE, QOM_BACKEND,		/* the latter: a virtio device's */
	QOM_CPU, QOM_OBJECT, QOM_CHARDEV
};

struct qom_node {
	enum qom_kind kind;
	union {
		struct dev *dev;
		struct vm_object *object;
		struct chardev *chardev;
		uint32_t cpu;
	};
};

/* @path: absolute, or the last part of one. 0 or -ENOENT, class
 * DeviceNotFound. */
int qom_resolve(struct vm *vm, const char *path, struct qom_node *out, struct err *e);
/* The type's name; @buf is for names that are composed. */
const char *qom_type(struct vm *vm, const struct qom_node *n, char *buf, size_t len);
/* The path of the n-th part of the machine without a place of its own. */
struct dev;
char *qom_dev_path(const struct dev *d);	/* the caller frees it */
/* What query-block calls qdev. */
char *qom_dev_backend_path(const struct dev *d);
/* Is the device of class @class, or of one below it? */
bool qom_is_class(const struct dev *d, const char *class);

#endif

/*
 * vmm/core/object_iothread.c - -object iothread: a thread that runs a loop.
 *
 * Threads: main loop.
 */
#include "vmm/core/vm.h"
#include "vmm/core/object_types.h"
#include "vmm/loop/iothread.h"

static int create(struct vm_object *o, const json_t *args, struct err *e)
{
	int r = vm_iothread_add(o->vm, o->id, args, e);

	if (r == 0)
		o->obj = vm_iothread_find(o->vm, o->id);
	return r;
}

static void destroy(struct vm_object *o)
{
	vm_iothread_del(o->vm, o->obj);
}

static void changed(struct vm_object *o)
{
	iothread_apply(o->obj);
}

const struct vm_object_type iothread_object_type = {
	.name = "iothread", .help = "a thread that runs queues of devices",
	.props = iothread_props, .kind = "iothread",
	.create = create, .destroy = destroy, .changed = changed,
};

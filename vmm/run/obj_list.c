/*
 * vmm/run/obj_list.c - every -object type this build offers, one line each,
 * and the memory back ends, which only the machine reads.
 *
 * Threads: main loop.
 */
#include "vmm/run/obj_list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/control/faults.h"
#include "vmm/control/object_throttle.h"
#include "vmm/core/object_types.h"
#include "vmm/run/machine.h"

#define OBJ_LIST(X)			\
	X(iothread_object_type)		\
	X(memory_ram_object_type)	\
	X(memory_memfd_object_type)	\
	X(memory_file_object_type)	\
	X(secret_object_type)		\
	X(fault_object_type)		\
	X(throttle_object_type)

/* ---- memory back ends ---- */

static const struct prop *const mem_tables[] = { mem_backend_props, NULL };

static void mem_destroy(struct vm_object *o)
{
	prop_free(mem_tables, o->obj);
	free(o->obj);
}

static int mem_create(struct vm_object *o, const json_t *args, struct err *e)
{
	struct mem_backend *m = xcalloc(1, sizeof(*m));
	char what[160];
	int r;

	snprintf(what, sizeof(what), "-object %s '%.80s'", o->type->name, o->id);
	o->obj = m;
	prop_defaults(mem_tables, m);
	r = prop_apply(mem_tables, m, args, NULL, what, e);
	if (r)
		mem_destroy(o);
	return r;
}

#define MEM_TYPE(t, n, h)						\
	const struct vm_object_type t = {				\
		.name = n, .help = h, .props = mem_backend_props,	\
		.create = mem_create, .destroy = mem_destroy,		\
	}

MEM_TYPE(memory_ram_object_type, "memory-backend-ram", "guest memory, anonymous");
MEM_TYPE(memory_memfd_object_type, "memory-backend-memfd", "guest memory in a memfd");
MEM_TYPE(memory_file_object_type, "memory-backend-file", "guest memory in a file");

/* ---- the list ---- */

#define OBJ_ENTRY(t) &(t),
const struct vm_object_type *const obj_list[] = { OBJ_LIST(OBJ_ENTRY) NULL };

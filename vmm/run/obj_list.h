/*
 * vmm/run/obj_list.h - every -object type this build offers.
 */
#ifndef VMM_RUN_OBJ_LIST_H
#define VMM_RUN_OBJ_LIST_H

#include "vmm/core/object.h"

/* NULL-terminated. */
extern const struct vm_object_type *const obj_list[];

extern const struct vm_object_type memory_ram_object_type, memory_memfd_object_type,
	memory_file_object_type;

#endif

/*
 * vmm/core/object_types.h - the object types that vmm/core has; the list of a
 * VM is vm->object_types (vmm/run/obj_list.c).
 */
#ifndef VMM_CORE_OBJECT_TYPES_H
#define VMM_CORE_OBJECT_TYPES_H

#include "vmm/core/object.h"

extern const struct vm_object_type iothread_object_type;
extern const struct vm_object_type secret_object_type;

#endif

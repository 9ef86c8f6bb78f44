/*
 * vmm/core/object.h - what -object and object-add make: parts of a VM that are
 * no devices, known by an id (I/O threads, memory back ends).
 *
 * Threads: main loop.
 */
#ifndef VMM_CORE_OBJECT_H
#define VMM_CORE_OBJECT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/err.h"
#include "vmm/base/prop.h"

struct vm;
struct vm_object;

struct vm_object_type {
	const char *name;		/* qom-type */
	const char *help;
	const struct prop *props;	/* offsets from vm_object.obj */
	const char *kind;		/* what PROP_LINKs to it call it; or NULL */
	/* Sets o->obj, which the type owns, from @args ("qom-type" and "id" in
	 * it are the registry's). What failed leaves nothing. */
	int (*create)(struct vm_object *o, const json_t *args, struct err *e);
	/* Nobody uses it any more. */
	void (*destroy)(struct vm_object *o);
	/* A PROP_RUNTIME property has a new value. May be NULL. */
	void (*changed)(struct vm_object *o);
	/* Beside o->users. NULL: never. */
	bool (*busy)(const struct vm_object *o);
	/* In place of the field that the row names. May be NULL. */
	int (*set)(struct vm_object *o, const struct prop *p, const json_t *val, struct err *e);
	json_t *(*get)(const struct vm_object *o, const struct prop *p);
};

struct vm_object {
	const struct vm_object_type *type;
	struct vm *vm;
	char *id;
	void *obj;
	uint32_t users;			/* beside the devices that name it */
	struct vm_object *next;		/* creation order */
};

/* Type by name in vm->object_types; NULL: none. */
const struct vm_object_type *vm_object_type_find(const struct vm *vm, const char *name);

/* @args: {"qom-type":…, "id":…, properties}. */
int vm_object_add(struct vm *vm, const json_t *args, struct err *e);
/* object-del: refused while anybody uses it. */
int vm_object_del(struct vm *vm, const char *id, struct err *e);
struct vm_object *vm_object_find(struct vm *vm, const char *id);
/* The last one first; for vm_destroy(), devices are gone. */
void vm_object_destroy_all(struct vm *vm);

#endif

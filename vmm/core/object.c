/*
 * vmm/core/object.c - the registry of -object and object-add.
 *
 * Threads: main loop.
 */
#include "vmm/core/object.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/core/vm.h"

const struct vm_object_type *vm_object_type_find(const struct vm *vm, const char *name)
{
	const struct vm_object_type *const *t;

	for (t = vm->object_types; t && *t; t++)
		if (strcmp((*t)->name, name) == 0)
			return *t;
	return NULL;
}

struct vm_object *vm_object_find(struct vm *vm, const char *id)
{
	struct vm_object *o;

	for (o = vm->objects; o; o = o->next)
		if (strcmp(o->id, id) == 0)
			return o;
	return NULL;
}

static int unknown_type(const struct vm *vm, const char *name, struct err *e)
{
	char list[400] = "";
	const struct vm_object_type *const *t;
	size_t n = 0;

	for (t = vm->object_types; t && *t && n < sizeof(list); t++)
		n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", n ? ", " : "",
				      (*t)->name);
	return err_set(e, -EINVAL, "-object %.60s: no such object type; roost has %s", name, list);
}

int vm_object_add(struct vm *vm, const json_t *args, struct err *e)
{
	const char *name = json_str(args, "qom-type", "");
	const char *id = json_str(args, "id", NULL);
	const struct vm_object_type *t = vm_object_type_find(vm, name);
	struct vm_object *o, **at;
	int r;

	if (!t)
		return unknown_type(vm, name, e);
	if (!id || !*id)
		return err_set(e, -EINVAL, "-object %s needs id=", name);
	if (vm_object_find(vm, id))
		return err_set(e, -EEXIST, "-object %s '%s': the id is taken by a %s; choose "
			       "another", name, id, vm_object_find(vm, id)->type->name);
	o = xcalloc(1, sizeof(*o));
	o->type = t;
	o->vm = vm;
	o->id = xstrdup(id);
	r = t->create(o, args, e);
	if (r < 0) {
		free(o->id);
		free(o);
		return r;
	}
	for (at = &vm->objects; *at; at = &(*at)->next)
		;
	*at = o;
	return 0;
}

/* The device that names @o in a link, or NULL. */
static const struct dev *device_user(const struct vm_object *o)
{
	const struct prop *tables[DEV_TABLES_MAX];
	const struct prop *p;
	const char *s;

	for (struct dev *d = o->vm->devs; d && o->type->kind; d = d->next) {
		dev_type_tables(d->type, tables);
		for (int i = 0; tables[i]; i++) {
			for (p = tables[i]; p->type != PROP_T_END; p++) {
				if (p->type != PROP_T_LINK || strcmp(p->kind, o->type->kind))
					continue;
				s = *(char *const *)((const char *)d + p->offset);
				if (s && strcmp(s, o->id) == 0)
					return d;
			}
		}
	}
	return NULL;
}

static void object_free(struct vm_object *o)
{
	o->type->destroy(o);
	free(o->id);
	free(o);
}

int vm_object_del(struct vm *vm, const char *id, struct err *e)
{
	struct vm_object *o, **at;
	const struct dev *d;

	for (at = &vm->objects; (o = *at) && strcmp(o->id, id); at = &o->next)
		;
	if (!o)
		return err_set(e, -ENOENT, "object '%.80s' not found", id);
	d = device_user(o);
	if (d)
		return err_set(e, -EBUSY, "object '%s' is in use by device '%s', can not be "
			       "deleted", id, d->path);
	if (o->users || (o->type->busy && o->type->busy(o)))
		return err_set(e, -EBUSY, "object '%s' is in use, can not be deleted", id);
	*at = o->next;
	object_free(o);
	return 0;
}

void vm_object_destroy_all(struct vm *vm)
{
	struct vm_object **at;

	while (vm->objects) {
		for (at = &vm->objects; (*at)->next; at = &(*at)->next)
			;
		object_free(*at);
		*at = NULL;
	}
}

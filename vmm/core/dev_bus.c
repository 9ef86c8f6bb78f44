/*
 * vmm/core/dev_bus.c - devices that sit on another device.
 * Threads: main loop.
 * Missing: nothing known.
 */
#include "vmm/core/dev_bus.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/util.h"
#include "vmm/core/vm.h"

/* ---- buses ---- */

/* Without an id QEMU counts the buses of a type in the whole machine. */
static char *make_name(const struct vm *vm, const struct dev *owner, const char *type,
		       unsigned int index)
{
	const struct dev_bus *b;
	unsigned int n = 0;

	if (owner->id)
		return xasprintf("%s.%u", owner->id, index);
	for (b = vm->buses; b; b = b->next)
		n += !strcmp(b->type, type) && !b->owner->id;
	return xasprintf("%s.%u", type, n);
}

void dev_bus_add(struct dev_bus *b, struct dev *owner, const char *type, unsigned int index)
{
	struct dev_bus **at = &owner->vm->buses;

	b->type = type;
	b->owner = owner;
	b->name = make_name(owner->vm, owner, type, index);
	while (*at)
		at = &(*at)->next;
	*at = b;
}

void dev_bus_del(struct dev_bus *b)
{
	struct dev_bus **at;
	struct dev *d;

	if (!b->owner)
		return;
	while ((d = b->child)) {
		while (d->sibling)
			d = d->sibling;
		dev_destroy(d);		/* leaves the bus */
	}
	for (at = &b->owner->vm->buses; *at != b; at = &(*at)->next)
		;
	*at = b->next;
	free(b->name);
	b->name = NULL;
	b->owner = NULL;
}

/* ---- children ---- */

static bool is_called(const struct dev_bus *b, const char *name)
{
	return !strcmp(b->name, name) || (b->owner->id && !strcmp(b->owner->id, name));
}

static int no_bus(const struct dev *d, const char *type, const char *name, struct err *e)
{
	const struct dev_bus *b;

	if (!name)
		return err_set(e, -ENOENT, "%s needs a bus of type %s, and there is none; add "
			       "its controller first", d->path, type);
	for (b = d->vm->buses; b; b = b->next)
		if (is_called(b, name))
			return err_set(e, -EINVAL, "%s: bus=%s is a %s; a %s is needed",
				       d->path, name, b->type, type);
	return err_set(e, -ENOENT, "%s: bus=%s: there is no such %s; add a controller with "
		       "that id first", d->path, name, type);
}

int dev_bus_join(struct dev *d, const char *type, const char *name, struct err *e)
{
	struct dev_bus *b;
	struct dev **at;

	for (b = d->vm->buses; b; b = b->next)
		if (!strcmp(b->type, type) && (!name || is_called(b, name)))
			break;
	if (!b)
		return no_bus(d, type, name, e);
	if (dev_is_leaving(b->owner))
		return err_set(e, -EBUSY, "%s: bus=%s: '%s' is being unplugged", d->path, b->name,
			       b->owner->path);
	for (at = &b->child; *at; at = &(*at)->sibling)
		;
	*at = d;
	d->parent = b;
	return 0;
}

void dev_bus_leave(struct dev *d)
{
	struct dev **at;

	if (!d->parent)
		return;
	for (at = &d->parent->child; *at != d; at = &(*at)->sibling)
		;
	*at = d->sibling;
	d->sibling = NULL;
	d->parent = NULL;
}

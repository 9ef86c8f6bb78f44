/*
 * vmm/control/qom.c - paths of the object tree, both ways.
 *
 * Threads: main loop.
 * Missing: buses and interrupt lines as objects.
 */
#include "vmm/control/qom.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/char/char.h"
#include "vmm/core/arch.h"
#include "vmm/core/object.h"
#include "vmm/core/vm.h"

bool qom_is_class(const struct dev *d, const char *class)
{
	for (const struct dev_class *c = d->type->class; c; c = c->parent)
		if (strcmp(c->name, class) == 0)
			return true;
	return false;
}

/* The machine's own parts come after the vCPUs. */
static bool is_builtin(const struct dev *d)
{
	return !d->id && (d->type->flags & DEV_BUILTIN);
}

char *qom_dev_path(const struct dev *d)
{
	uint32_t n = d->vm->vcpu_count;

	if (!is_builtin(d))
		return dev_qom_path(d);
	for (const struct dev *o = d->vm->devs; o != d; o = o->next)
		n += is_builtin(o);
	return xasprintf("/machine/unattached/device[%u]", n);
}

char *qom_dev_backend_path(const struct dev *d)
{
	char *path = qom_dev_path(d), *full;

	if (!qom_is_class(d, "virtio"))
		return path;
	full = xasprintf("%s/virtio-backend", path);
	free(path);
	return full;
}

/* ---- from a path to a node ---- */

struct part {
	const char *s;
	size_t len;
};

static bool is_word(const struct part *p, const char *word)
{
	return strlen(word) == p->len && strncmp(p->s, word, p->len) == 0;
}

/* The next part of *path; false at the end. */
static bool next_part(const char **path, struct part *p)
{
	while (**path == '/')
		(*path)++;
	p->s = *path;
	p->len = strcspn(*path, "/");
	*path += p->len;
	return p->len > 0;
}

static bool find_dev(struct vm *vm, const struct part *p, bool with_id, struct qom_node *n)
{
	for (struct dev *d = vm->devs; d; d = d->next) {
		if (is_builtin(d) || !d->id == with_id ||
		    !is_word(p, with_id ? d->id : d->path))
			continue;
		n->kind = QOM_DEVICE;
		n->dev = d;
		return true;
	}
	return false;
}

static bool find_unattached(struct vm *vm, const struct part *p, struct qom_node *n)
{
	unsigned int i, at;
	char check[32];

	if (sscanf(p->s, "device[%u]", &i) != 1)
		return false;
	snprintf(check, sizeof(check), "device[%u]", i);
	if (!is_word(p, check))
		return false;
	if (i < vm->vcpu_count) {
		*n = (struct qom_node){ .kind = QOM_CPU, .cpu = i };
		return true;
	}
	at = vm->vcpu_count;
	for (struct dev *d = vm->devs; d; d = d->next) {
		if (!is_builtin(d) || at++ != i)
			continue;
		*n = (struct qom_node){ .kind = QOM_DEVICE, .dev = d };
		return true;
	}
	return false;
}

static bool find_object(struct vm *vm, const struct part *p, struct qom_node *n)
{
	for (struct vm_object *o = vm->objects; o; o = o->next) {
		if (!is_word(p, o->id))
			continue;
		*n = (struct qom_node){ .kind = QOM_OBJECT, .object = o };
		return true;
	}
	return false;
}

static bool find_chardev(struct vm *vm, const struct part *p, struct qom_node *n)
{
	char id[128];

	if (!vm->chars || p->len >= sizeof(id))
		return false;
	memcpy(id, p->s, p->len);
	id[p->len] = '\0';
	n->chardev = char_find(vm->chars, id);
	n->kind = QOM_CHARDEV;
	return n->chardev != NULL;
}

/* One step down from @n. */
static bool descend(struct vm *vm, struct qom_node *n, const struct part *p)
{
	static const struct {
		enum qom_kind from;
		const char *word;
		enum qom_kind to;
	} fixed[] = {
		{ QOM_ROOT, "machine", QOM_MACHINE }, { QOM_ROOT, "objects", QOM_OBJECTS },
		{ QOM_ROOT, "chardevs", QOM_CHARDEVS },
		{ QOM_MACHINE, "peripheral", QOM_PERIPHERAL },
		{ QOM_MACHINE, "peripheral-anon", QOM_ANON },
		{ QOM_MACHINE, "unattached", QOM_UNATTACHED },
	};

	for (size_t i = 0; i < ARRAY_LEN(fixed); i++) {
		if (n->kind != fixed[i].from || !is_word(p, fixed[i].word))
			continue;
		n->kind = fixed[i].to;
		return true;
	}
	switch (n->kind) {
	case QOM_PERIPHERAL:
		return find_dev(vm, p, true, n);
	case QOM_ANON:
		return find_dev(vm, p, false, n);
	case QOM_UNATTACHED:
		return find_unattached(vm, p, n);
	case QOM_OBJECTS:
		return find_object(vm, p, n);
	case QOM_CHARDEVS:
		return find_chardev(vm, p, n);
	case QOM_DEVICE:
		n->kind = QOM_BACKEND;
		return is_word(p, "virtio-backend") && qom_is_class(n->dev, "virtio");
	default:
		return false;
	}
}

/* A path that does not begin with '/' is looked for below every container. */
static bool find_partial(struct vm *vm, const struct part *p, struct qom_node *n)
{
	return find_dev(vm, p, true, n) || find_object(vm, p, n) ||
	       find_chardev(vm, p, n) || find_dev(vm, p, false, n);
}

int qom_resolve(struct vm *vm, const char *path, struct qom_node *out, struct err *e)
{
	const char *at = path;
	struct part p;
	bool ok = true;

	out->kind = QOM_ROOT;
	if (*path != '/')
		ok = next_part(&at, &p) && find_partial(vm, &p, out);
	while (ok && next_part(&at, &p))
		ok = descend(vm, out, &p);
	if (ok)
		return 0;
	return err_class(e, ERR_DEVICE_NOT_FOUND, -ENOENT, "Device '%.120s' not found", path);
}

/* ---- types ---- */

static const char *cpu_type(struct vm *vm, char *buf, size_t len)
{
	const char *text = json_str(vm->desc, "cpu", "host");

	snprintf(buf, len, "%.*s-%s-cpu", (int)strcspn(text, ","), text, arch_target());
	return buf;
}

const char *qom_type(struct vm *vm, const struct qom_node *n, char *buf, size_t len)
{
	switch (n->kind) {
	case QOM_MACHINE:
		snprintf(buf, len, "%s-machine", vm->machine ? vm->machine->name : "none");
		return buf;
	case QOM_DEVICE:
		return n->dev->type->name;
	case QOM_BACKEND:	/* "virtio-blk-pci" -> "virtio-blk-device" */
		snprintf(buf, len, "%.*s-device", (int)(strcspn(n->dev->type->name, "-") +
			 1 + strcspn(n->dev->type->name + strcspn(n->dev->type->name, "-") + 1,
				     "-")), n->dev->type->name);
		return buf;
	case QOM_CPU:
		return cpu_type(vm, buf, len);
	case QOM_OBJECT:
		return n->object->type->name;
	case QOM_CHARDEV:
		snprintf(buf, len, "chardev-%s", char_backend(n->chardev));
		return buf;
	default:
		return "container";
	}
}

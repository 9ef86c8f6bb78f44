/*
 * vmm/control/commands_qom.c - QMP commands about objects: the tree, the types,
 * properties; object-add and object-del.
 *
 * Spec:    QEMU's qapi/qom.json and qdev.json.
 * Threads: main loop.
 * Missing: abstract types beyond those that clients ask for by name.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/char/char.h"
#include "vmm/control/object_throttle.h"
#include "vmm/control/qmp.h"
#include "vmm/control/qom.h"
#include "vmm/core/arch.h"
#include "vmm/core/object.h"
#include "vmm/core/vm.h"

/* ---- one property in a list ---- */

static void add_info(json_t *list, const char *name, const char *type)
{
	json_array_append_new(list, json_pack("{s:s,s:s}", "name", name, "type", type));
}

static void add_child(json_t *list, const char *name, const char *type)
{
	char *t = xasprintf("child<%s>", type);

	add_info(list, name, t);
	free(t);
}

/* QEMU's word for a property's type; enums go by their own name. */
static const char *type_word(const struct prop *p)
{
	return p->type == PROP_T_ENUM && p->kind ? p->kind : prop_type_name(p);
}

static json_t *default_of(const struct prop *p)
{
	switch (p->type) {
	case PROP_T_BOOL:
		return json_boolean(p->def);
	case PROP_T_ENUM:
		return json_string(p->choices[p->def]);
	case PROP_T_STR:
	case PROP_T_LINK:
		return p->def_str ? json_string(p->def_str) : NULL;
	case PROP_T_AUTO:
	case PROP_T_JSON:
		return NULL;
	default:
		return json_integer(p->def);
	}
}

static bool listed(const json_t *list, const char *name)
{
	json_t *o;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)list, i, o)
		if (strcmp(json_str(o, "name", ""), name) == 0)
			return true;
	return false;
}

/* @full: with description and default, as for a type. */
static void add_props(json_t *list, const struct prop *p, bool full)
{
	json_t *o, *def;

	for (; p && p->type != PROP_T_END; p++) {
		if ((p->flags & PROP_HIDDEN) || listed(list, p->name))
			continue;
		o = json_pack("{s:s,s:s}", "name", p->name, "type", type_word(p));
		def = full ? default_of(p) : NULL;
		if (full)
			json_put_str(o, "description", p->help);
		if (def)
			json_object_set_new(o, "default-value", def);
		json_array_append_new(list, o);
	}
}

static void add_dev_props(json_t *list, const struct dev_type *t, bool full)
{
	const struct prop *tables[DEV_TABLES_MAX];

	dev_type_tables(t, tables);
	for (int i = 0; tables[i]; i++)
		add_props(list, tables[i], full);
}

/* ---- qom-list ---- */

static void list_devices(struct vm *vm, bool with_id, json_t *list)
{
	for (struct dev *d = vm->devs; d; d = d->next)
		if (!d->id != with_id && (d->id || !(d->type->flags & DEV_BUILTIN)))
			add_child(list, with_id ? d->id : d->path, d->type->name);
}

static void list_unattached(struct vm *vm, json_t *list)
{
	struct qom_node n = { .kind = QOM_CPU };
	char name[32], type[80];
	uint32_t i;

	for (i = 0; i < vm->vcpu_count; i++) {
		snprintf(name, sizeof(name), "device[%u]", i);
		add_child(list, name, qom_type(vm, &n, type, sizeof(type)));
	}
	for (struct dev *d = vm->devs; d; d = d->next) {
		if (d->id || !(d->type->flags & DEV_BUILTIN))
			continue;
		snprintf(name, sizeof(name), "device[%u]", i++);
		add_child(list, name, d->type->name);
	}
}

struct char_list {
	struct vm *vm;
	json_t *list;
};

static void list_chardev(struct chardev *c, void *arg)
{
	struct qom_node n = { .kind = QOM_CHARDEV, .chardev = c };
	struct char_list *l = arg;
	char type[80];

	add_child(l->list, char_id(c), qom_type(l->vm, &n, type, sizeof(type)));
}

static void list_features(const json_t *features, json_t *list)
{
	const char *name;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)features, name, v)
		add_info(list, name, "bool");
}

static const char *const cpu_numbers[] = {
	"socket-id", "die-id", "core-id", "thread-id", NULL
};

static void list_cpu(struct vm *vm, json_t *list)
{
	json_t *features = arch_cpu_features(vm);

	add_info(list, "realized", "bool");
	add_info(list, "hotpluggable", "bool");
	add_info(list, "hotplugged", "bool");
	for (int i = 0; cpu_numbers[i]; i++)
		add_info(list, cpu_numbers[i], "int");
	add_info(list, "unavailable-features", "strList");
	list_features(features, list);
	json_decref(features);
}

static void list_container(struct vm *vm, enum qom_kind kind, json_t *list)
{
	struct char_list l = { vm, list };
	struct qom_node m = { .kind = QOM_MACHINE };
	char type[80];

	switch (kind) {
	case QOM_ROOT:
		add_child(list, "machine", qom_type(vm, &m, type, sizeof(type)));
		add_child(list, "objects", "container");
		add_child(list, "chardevs", "container");
		break;
	case QOM_MACHINE:
		add_child(list, "peripheral", "container");
		add_child(list, "peripheral-anon", "container");
		add_child(list, "unattached", "container");
		break;
	case QOM_PERIPHERAL:
	case QOM_ANON:
		list_devices(vm, kind == QOM_PERIPHERAL, list);
		break;
	case QOM_UNATTACHED:
		list_unattached(vm, list);
		break;
	case QOM_OBJECTS:
		for (struct vm_object *o = vm->objects; o; o = o->next)
			add_child(list, o->id, o->type->name);
		break;
	default:
		if (vm->chars)
			char_each(vm->chars, list_chardev, &l);
	}
}

static void list_node(struct vm *vm, const struct qom_node *n, json_t *list)
{
	add_info(list, "type", "string");
	switch (n->kind) {
	case QOM_DEVICE:
		add_info(list, "realized", "bool");
		add_info(list, "hotplugged", "bool");
		add_dev_props(list, n->dev->type, false);
		if (qom_is_class(n->dev, "virtio"))
			add_child(list, "virtio-backend", "virtio-device");
		break;
	case QOM_BACKEND:
		add_dev_props(list, n->dev->type, false);
		break;
	case QOM_CPU:
		list_cpu(vm, list);
		break;
	case QOM_OBJECT:
		add_props(list, n->object->type->props, false);
		break;
	case QOM_CHARDEV:
		add_info(list, "connected", "bool");
		break;
	default:
		list_container(vm, n->kind, list);
	}
}

struct path_args {
	char *path, *property;
	json_t *value;
};

static const struct prop list_args[] = {
	PROP_STR(struct path_args, path, "path", NULL, "the object", .flags = PROP_REQUIRED),
	PROP_END
};

static int qom_list(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct path_args *a = args;
	struct qom_node n;
	int r = qom_resolve(qmp_vm(q), a->path, &n, e);

	if (r)
		return r;
	*ret = json_array();
	list_node(qmp_vm(q), &n, *ret);
	return 0;
}

/* ---- qom-get ---- */

/* QEMU shows a text that is not set as an empty one. */
static json_t *prop_value(const struct prop *p, const void *obj)
{
	json_t *v = prop_get(p, obj);

	if (json_is_null(v) && (p->type == PROP_T_STR || p->type == PROP_T_LINK)) {
		json_decref(v);
		v = json_string("");
	}
	return v;
}

static json_t *get_dev(const struct dev *d, const char *name)
{
	const struct prop *tables[DEV_TABLES_MAX];
	const struct prop *p;

	if (strcmp(name, "realized") == 0)
		return json_true();
	if (strcmp(name, "hotplugged") == 0)
		return json_boolean(d->hotplugged);
	dev_type_tables(d->type, tables);
	p = prop_find(tables, name);
	return p ? prop_value(p, d) : NULL;
}

static json_t *get_object(const struct vm_object *o, const char *name)
{
	const struct prop *const tables[] = { o->type->props, NULL };
	const struct prop *p = o->type->props ? prop_find(tables, name) : NULL;

	if (p && o->type->get)
		return o->type->get(o, p);
	return p ? prop_value(p, o->obj) : NULL;
}

static json_t *get_cpu(struct vm *vm, uint32_t index, const char *name)
{
	json_t *all, *v;

	if (strcmp(name, "realized") == 0)
		return json_true();
	if (strcmp(name, "hotplugged") == 0 || strcmp(name, "hotpluggable") == 0)
		return json_false();
	if (strcmp(name, "unavailable-features") == 0)
		return json_array();
	all = arch_cpu_place(vm, index);
	v = json_incref(json_object_get(all, name));
	json_decref(all);
	if (v)
		return v;
	all = arch_cpu_features(vm);
	v = json_incref(json_object_get(all, name));
	json_decref(all);
	return v;
}

/* The value of a child is its path. */
static json_t *get_child(struct vm *vm, const char *path, const char *name)
{
	const char *slash = *path && path[strlen(path) - 1] == '/' ? "" : "/";
	char *full = xasprintf("%s%s%s", path, slash, name);
	struct qom_node n;
	json_t *v = NULL;

	if (!strchr(name, '/') && *path == '/' && qom_resolve(vm, full, &n, NULL) == 0)
		v = json_string(full);
	free(full);
	return v;
}

static json_t *get_value(struct vm *vm, const struct qom_node *n, const struct path_args *a)
{
	char buf[80];
	json_t *v = NULL;

	if (strcmp(a->property, "type") == 0)
		return json_string(qom_type(vm, n, buf, sizeof(buf)));
	if (n->kind == QOM_DEVICE || n->kind == QOM_BACKEND)
		v = get_dev(n->dev, a->property);
	else if (n->kind == QOM_OBJECT)
		v = get_object(n->object, a->property);
	else if (n->kind == QOM_CPU)
		v = get_cpu(vm, n->cpu, a->property);
	else if (n->kind == QOM_CHARDEV && strcmp(a->property, "connected") == 0)
		v = json_boolean(char_is_open(n->chardev));
	return v ? v : get_child(vm, a->path, a->property);
}

static int no_property(struct vm *vm, const struct qom_node *n, const char *name, struct err *e)
{
	char buf[80];

	return err_set(e, -ENOENT, "Property '%s.%.80s' not found",
		       qom_type(vm, n, buf, sizeof(buf)), name);
}

static const struct prop get_args[] = {
	PROP_STR(struct path_args, path, "path", NULL, "the object", .flags = PROP_REQUIRED),
	PROP_STR(struct path_args, property, "property", NULL, "its property",
		 .flags = PROP_REQUIRED),
	PROP_END
};

static int qom_get(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct path_args *a = args;
	struct qom_node n;
	int r = qom_resolve(qmp_vm(q), a->path, &n, e);

	if (r)
		return r;
	*ret = get_value(qmp_vm(q), &n, a);
	return *ret ? 0 : no_property(qmp_vm(q), &n, a->property, e);
}

/* ---- qom-set ---- */

static const struct prop set_args[] = {
	PROP_STR(struct path_args, path, "path", NULL, "the object", .flags = PROP_REQUIRED),
	PROP_STR(struct path_args, property, "property", NULL, "its property",
		 .flags = PROP_REQUIRED),
	PROP_JSON(struct path_args, value, "value", "its new value", .kind = "any",
		  .flags = PROP_REQUIRED),
	PROP_END
};

static int set_object(struct qmp *q, struct vm_object *o, const struct path_args *a,
		      struct err *e)
{
	const struct prop *const tables[] = { o->type->props, NULL };
	const struct prop *p = o->type->props ? prop_find(tables, a->property) : NULL;
	int r;

	if (!p)
		return -ENOENT;
	if (!(p->flags & PROP_RUNTIME))
		return err_set(e, -EPERM, "Property '%s.%s' of '%s' can only be given when it "
			       "is created", o->type->name, p->name, o->id);
	r = qmp_schema_check(q, qmp_schema_prop_type(q, p), a->value, p->name, e);
	if (r == 0 && o->type->set)
		return o->type->set(o, p, a->value, e);
	if (r == 0)
		r = prop_set(p, o->obj, a->value, o->type->name, e);
	if (r == 0 && o->type->changed)
		o->type->changed(o);
	return r;
}

static int set_dev(struct qmp *q, struct dev *d, const struct path_args *a, struct err *e)
{
	const struct prop *tables[DEV_TABLES_MAX];
	const struct prop *p;
	int r;

	dev_type_tables(d->type, tables);
	p = prop_find(tables, a->property);
	if (!p)
		return -ENOENT;
	r = qmp_schema_check(q, qmp_schema_prop_type(q, p), a->value, p->name, e);
	return r ? r : dev_set(d, p->name, a->value, e);
}

static int qom_set(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct path_args *a = args;
	struct vm *vm = qmp_vm(q);
	struct qom_node n;
	json_t *v;
	int r = qom_resolve(vm, a->path, &n, e);

	if (r)
		return r;
	if (n.kind == QOM_DEVICE || n.kind == QOM_BACKEND)
		r = set_dev(q, n.dev, a, e);
	else if (n.kind == QOM_OBJECT)
		r = set_object(q, n.object, a, e);
	else
		r = -ENOENT;
	if (r != -ENOENT || err_is_set(e))
		return r;
	v = get_value(vm, &n, a);
	json_decref(v);
	if (!v)
		return no_property(vm, &n, a->property, e);
	return err_set(e, -EPERM, "Property '%.80s' of '%.80s' cannot be changed", a->property,
		       a->path);
}

/* ---- types ---- */

struct type_list {
	json_t *list;
	const char *implements;		/* NULL: all */
	int abstract;			/* -1: both */
};

static void add_type(struct type_list *l, const char *name, const char *parent,
		     const char *const *ancestors, bool abstract)
{
	bool fits = !l->implements || strcmp(l->implements, name) == 0 ||
		    strcmp(l->implements, "object") == 0;
	json_t *o;

	for (; !fits && *ancestors; ancestors++)
		fits = strcmp(*ancestors, l->implements) == 0;
	if (!fits || (l->abstract >= 0 && l->abstract != abstract))
		return;
	o = json_pack("{s:s,s:s}", "name", name, "parent", parent);
	if (abstract)
		json_object_set_new(o, "abstract", json_true());
	json_array_append_new(l->list, o);
}

static void add_dev_types(struct type_list *l, const struct vm *vm)
{
	const struct dev_type *const *t;

	for (t = vm->types; t && *t; t++) {
		const char *up[8] = { "device" };
		int n = 1;

		if ((*t)->flags & DEV_BUILTIN)
			continue;
		for (const struct dev_class *c = (*t)->class; c && n < 7; c = c->parent)
			up[n++] = strcmp(c->name, "pci") == 0 ? "pci-device" :
				  strncmp(c->name, "virtio", 6) == 0 ? "virtio-pci" : c->name;
		add_type(l, (*t)->name, (*t)->class ? up[1] : "device", up, false);
	}
}

static void add_other_types(struct type_list *l, const struct vm *vm)
{
	static const char *const object[] = { "user-creatable", NULL };
	static const char *const memory[] = { "user-creatable", "memory-backend", NULL };
	static const char *const machine[] = { "machine", NULL };
	static const char *const chardev[] = { "chardev", NULL };
	static const char *const none[] = { NULL };
	char name[80];

	for (int i = 0; vm->object_types && vm->object_types[i]; i++)
		add_type(l, vm->object_types[i]->name, "object",
			 strncmp(vm->object_types[i]->name, "memory-", 7) ? object : memory,
			 false);
	for (int i = 0; vm->machine_types && vm->machine_types[i]; i++) {
		snprintf(name, sizeof(name), "%s-machine", vm->machine_types[i]->name);
		add_type(l, name, "machine", machine, false);
	}
	for (int i = 0; char_drivers[i]; i++) {
		snprintf(name, sizeof(name), "chardev-%s", char_drivers[i]->name);
		add_type(l, name, "chardev", chardev, false);
	}
	add_type(l, "device", "object", none, true);
	add_type(l, "machine", "object", none, true);
	add_type(l, "chardev", "object", none, true);
}

static void add_cpu_types(struct type_list *l)
{
	char base[32], name[80];
	const char *up[] = { base, "cpu", "device", NULL };

	snprintf(base, sizeof(base), "%s-cpu", arch_target());
	for (const char *const *m = arch_cpu_models(); *m; m++) {
		snprintf(name, sizeof(name), "%s-%s", *m, base);
		add_type(l, name, base, up, false);
	}
}

struct types_args {
	char *implements;
	bool abstract;
};

static const struct prop types_args[] = {
	PROP_STR(struct types_args, implements, "implements", NULL, "only those below it"),
	PROP_BOOL(struct types_args, abstract, "abstract", 0, "abstract ones too"),
	PROP_END
};

/* As in QEMU, "abstract" adds; without it there are concrete types only. */
static int qom_list_types(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct types_args *a = args;
	struct type_list l = { json_array(), a->implements, a->abstract ? -1 : 0 };

	add_dev_types(&l, qmp_vm(q));
	add_other_types(&l, qmp_vm(q));
	add_cpu_types(&l);
	*ret = l.list;
	return 0;
}

struct type_args {
	char *name;
};

static const struct prop type_args[] = {
	PROP_STR(struct type_args, name, "typename", NULL, "name of a type",
		 .flags = PROP_REQUIRED),
	PROP_END
};

static int device_list_properties(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct type_args *a = args;
	const struct dev_type *t = dev_type_find(qmp_vm(q)->types, a->name);

	if (!t || (t->flags & DEV_BUILTIN))
		return err_class(e, ERR_DEVICE_NOT_FOUND, -ENOENT, "Device '%.80s' not found",
				 a->name);
	*ret = json_array();
	add_dev_props(*ret, t, true);
	return 0;
}

/* Is it MODEL-TARGET-cpu? Then its features. */
static bool cpu_type_props(struct vm *vm, const char *name, json_t *list)
{
	json_t *features = NULL;
	char type[80];

	for (const char *const *m = arch_cpu_models(); *m; m++) {
		snprintf(type, sizeof(type), "%s-%s-cpu", *m, arch_target());
		if (strcmp(type, name))
			continue;
		if (arch_cpu_expand(vm->kvm, *m, NULL, &features, NULL) == 0)
			list_features(features, list);
		json_decref(features);
		add_info(list, "migratable", "bool");
		return true;
	}
	return false;
}

static bool machine_type_props(struct vm *vm, const char *name, json_t *list)
{
	const struct vm_machine_type *const *t;
	char type[80];

	for (t = vm->machine_types; t && *t; t++) {
		snprintf(type, sizeof(type), "%s-machine", (*t)->name);
		if (strcmp(type, name))
			continue;
		add_props(list, (*t)->props, true);
		return true;
	}
	return false;
}

/* Clients (libvirt) take an error for one of the types that qom-list-types
 * names as the end of the world: all of them have a list. */
static int qom_list_properties(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct type_args *a = args;
	struct vm *vm = qmp_vm(q);
	const struct dev_type *t = dev_type_find(vm->types, a->name);
	const struct vm_object_type *o = vm_object_type_find(vm, a->name);
	struct type_list known = { json_array(), NULL, -1 };
	bool found = true;

	*ret = json_array();
	add_other_types(&known, vm);
	if (t && !(t->flags & DEV_BUILTIN))
		add_dev_props(*ret, t, true);
	else if (o)
		add_props(*ret, o->props, true);
	else if (!cpu_type_props(vm, a->name, *ret) && !machine_type_props(vm, a->name, *ret))
		found = listed(known.list, a->name);
	json_decref(known.list);
	if (found)
		return 0;
	return err_class(e, ERR_DEVICE_NOT_FOUND, -ENOENT, "Class '%.80s' not found", a->name);
}

/* ---- objects ---- */

static int object_add(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	return vm_object_add(qmp_vm(q), args, e);
}

struct id_args {
	char *id;
};

static const struct prop id_args[] = {
	PROP_STR(struct id_args, id, "id", NULL, "the object", .flags = PROP_REQUIRED),
	PROP_END
};

static int object_del(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	return vm_object_del(qmp_vm(q), ((struct id_args *)args)->id, e);
}

/* A branch per object type of the VM; "id" and the tag are common. */
static void make_object_options(struct qmp *q, json_t *info)
{
	const struct vm_object_type *const *t = qmp_vm(q)->object_types;
	char name[80];

	for (; t && *t; t++) {
		const struct prop *const tables[] = { (*t)->props, NULL };

		snprintf(name, sizeof(name), "%s-properties", (*t)->name);
		qmp_schema_object_without(q, name, (*t)->props ? tables : tables + 1,
					  (const char *const[]){ "id", "qom-type", NULL });
		qmp_schema_variant(q, info, (*t)->name, name);
	}
}

static void make_object_type(struct qmp *q, json_t *info)
{
	const struct vm_object_type *const *t = qmp_vm(q)->object_types;

	for (; t && *t; t++)
		qmp_schema_word(info, (*t)->name);
}

static const struct qmp_cmd cmds[] = {
	{ .name = "qom-list", .help = "properties and children of an object",
	  .args = list_args, .args_size = sizeof(struct path_args), .run = qom_list,
	  .ret = "[ObjectPropertyInfo]" },
	{ .name = "qom-get", .help = "the value of a property",
	  .args = get_args, .args_size = sizeof(struct path_args), .run = qom_get,
	  .ret = "any" },
	{ .name = "qom-set", .help = "change a property that may be changed",
	  .args = set_args, .args_size = sizeof(struct path_args), .run = qom_set },
	{ .name = "qom-list-types", .help = "names of types",
	  .args = types_args, .args_size = sizeof(struct types_args), .run = qom_list_types,
	  .ret = "[ObjectTypeInfo]" },
	{ .name = "qom-list-properties", .help = "properties of a type",
	  .args = type_args, .args_size = sizeof(struct type_args),
	  .run = qom_list_properties, .ret = "[ObjectPropertyInfo]" },
	{ .name = "device-list-properties", .help = "properties of a device type",
	  .args = type_args, .args_size = sizeof(struct type_args),
	  .run = device_list_properties, .ret = "[ObjectPropertyInfo]" },
	{ .name = "object-add", .help = "create an object", .arg_type = "ObjectOptions",
	  .run = object_add },
	{ .name = "object-del", .help = "remove an object that nobody uses",
	  .args = id_args, .args_size = sizeof(struct id_args), .run = object_del },
	{ 0 }
};

static const struct qmp_member property_info[] = {
	{ "name", "str" }, { "type", "str" }, { "*description", "str" },
	{ "*default-value", "any" }, { 0 }
};
static const struct qmp_member type_info[] = {
	{ "name", "str" }, { "*abstract", "bool" }, { "*parent", "str" }, { 0 }
};
static const struct qmp_member object_options[] = {
	{ "qom-type", "ObjectType" }, { "id", "str" }, { 0 }
};

static void make_throttle_limits(struct qmp *q, json_t *info)
{
	qmp_schema_props(q, info, throttle_limit_props);
}

static const struct qmp_type types[] = {
	{ .name = "ThrottleLimits", .make = make_throttle_limits },
	{ .name = "ObjectPropertyInfo", .members = property_info },
	{ .name = "ObjectTypeInfo", .members = type_info },
	{ .name = "ObjectType", .meta = QMP_ENUM, .make = make_object_type },
	{ .name = "ObjectOptions", .members = object_options, .tag = "qom-type",
	  .make = make_object_options },
	{ 0 }
};

const struct qmp_table qmp_table_qom = { .cmds = cmds, .types = types };

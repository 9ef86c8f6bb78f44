/*
 * vmm/core/dev.c - device types by name, and the life of a device.
 *
 * Threads: main loop, see dev.h. Coming and going at run time is in plug.c.
 * Missing: nothing known.
 */
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/core/dev.h"
#include "vmm/core/plug.h"
#include "vmm/core/vm.h"

#define CLASSES_MAX	(DEV_TABLES_MAX - 3)	/* beside type, core and NULL */
#define TYPES_MAX	256	/* only bounds the "did you mean" list */

static const struct prop core_props[] = {
	PROP_STR(struct dev, id, "id", NULL, "name of the device, unique in the VM"),
	PROP_END
};

/* ---- types ---- */

const struct dev_type *dev_type_find(const struct dev_type *const *list, const char *name)
{
	for (; list && *list; list++)
		if (strcmp((*list)->name, name) == 0 ||
		    ((*list)->alias && strcmp((*list)->alias, name) == 0))
			return *list;
	return NULL;
}

void dev_type_tables(const struct dev_type *t, const struct prop **tables)
{
	const struct dev_class *c;
	int n = 0;

	if (t->props)
		tables[n++] = t->props;
	for (c = t->class; c; c = c->parent) {
		assert(n < DEV_TABLES_MAX - 2);
		if (c->props)
			tables[n++] = c->props;
	}
	tables[n++] = core_props;
	tables[n] = NULL;
}

static int unknown_type(struct vm *vm, const char *name, struct err *e)
{
	const char *words[TYPES_MAX], *near;
	const struct dev_type *const *t;
	int n = 0;

	for (t = vm->types; t && *t && n < TYPES_MAX - 1; t++)
		if (!((*t)->flags & DEV_BUILTIN))
			words[n++] = (*t)->name;
	words[n] = NULL;
	near = util_nearest(name, words);
	if (near)
		return err_set(e, -ENOENT, "'%s' is not a device type; did you mean '%s'?",
			       name, near);
	return err_set(e, -ENOENT, "'%s' is not a device type; '-device help' lists them",
		       name);
}

/* ---- steps of creation ---- */

/* Outermost (root) first; returns how many. */
static int classes_of(const struct dev_type *t, const struct dev_class **list)
{
	const struct dev_class *c;
	int i, n = 0;

	for (c = t->class; c; c = c->parent)
		n++;
	assert(n <= CLASSES_MAX);
	for (c = t->class, i = n; c; c = c->parent)
		list[--i] = c;
	return n;
}

/*
 * With n classes, step i < n attaches class i, step n is the type's init, and
 * step i > n starts class 2n - i. d->stage counts the steps that have begun.
 */
static int do_step(struct dev *d, int i, struct err *e)
{
	const struct dev_class *c[CLASSES_MAX] = { NULL };
	int n = classes_of(d->type, c);

	if (i == n)
		return d->type->ops.init ? d->type->ops.init(d, e) : 0;
	if (i < n)
		return c[i]->attach ? c[i]->attach(d, e) : 0;
	return c[2 * n - i]->start ? c[2 * n - i]->start(d, e) : 0;
}

/* Wait for accesses that found the device before its windows went. They only
 * run its register callbacks, so this is a matter of microseconds. */
static void wait_callbacks(struct dev *d)
{
	while (atomic_load_explicit(&d->refs, memory_order_acquire) > 1)
		sched_yield();
}

static void undo_step(struct dev *d, int i)
{
	const struct dev_class *c[CLASSES_MAX] = { NULL };
	int n = classes_of(d->type, c);

	if (i == n) {
		wait_callbacks(d);
		if (d->type->ops.fini)
			d->type->ops.fini(d);
	} else if (i < n && c[i]->detach) {
		c[i]->detach(d);
	} else if (i > n && c[2 * n - i]->stop) {
		c[2 * n - i]->stop(d);
	}
}

static int build(struct dev *d, struct err *e)
{
	const struct dev_class *c[CLASSES_MAX] = { NULL };
	int steps = 2 * classes_of(d->type, c) + 1;
	int r = 0;

	while (d->stage < steps && r >= 0)
		r = do_step(d, d->stage++, e);
	if (r < 0 && !err_is_set(e))
		err_sys(e, r, "%s '%s' cannot be set up", d->type->name, d->path);
	return r < 0 ? r : 0;
}

static void release(struct dev *d)
{
	const struct prop *tables[DEV_TABLES_MAX];

	while (d->stage > 0)
		undo_step(d, --d->stage);
	wait_callbacks(d);
	dev_type_tables(d->type, tables);
	prop_free(tables, d);
	plug_free(d);
	json_decref(d->args);
	pthread_mutex_destroy(&d->lock);
	free(d->path);
	free(d);
}

/* ---- names ---- */

/* QEMU's rule, which libvirt keeps to: a letter, then letters, digits, -._ */
static bool id_ok(const char *id)
{
	if (!isalpha((unsigned char)*id))
		return false;
	while (*++id)
		if (!isalnum((unsigned char)*id) && !strchr("-._", *id))
			return false;
	return true;
}

static int check_id(struct vm *vm, const struct dev_type *t, const char *id, struct err *e)
{
	const struct dev *other;

	if (!id)
		return 0;
	if (!id_ok(id))
		return err_set(e, -EINVAL, "%s: id '%s' is not a letter followed by letters, "
			       "digits, '-', '.' or '_'", t->name, id);
	other = dev_find(vm, id);
	if (other)
		return err_set(e, -EEXIST, "%s: id '%s' is taken by a %s; choose another",
			       t->name, id, other->type->name);
	return 0;
}

static bool path_taken(const struct vm *vm, const char *path)
{
	const struct dev *d;

	for (d = vm->devs; d; d = d->next)
		if (strcmp(d->path, path) == 0)
			return true;
	return false;
}

static char *make_path(const struct vm *vm, const struct dev *d)
{
	char *path = NULL;
	int i = 0;

	if (d->id)
		return xstrdup(d->id);
	do {
		free(path);
		path = xasprintf("%s[%d]", d->type->name, i++);
	} while (path_taken(vm, path));
	return path;
}

struct dev *dev_find(struct vm *vm, const char *id)
{
	struct dev *d;

	for (d = vm->devs; d; d = d->next)
		if (d->id && strcmp(d->id, id) == 0)
			return d;
	return NULL;
}

/* ---- creation and destruction ---- */

static int configure(struct dev *d, const json_t *args, struct err *e)
{
	static const char *const skip[] = { "driver", NULL };
	const struct prop *tables[DEV_TABLES_MAX];
	const char *id = json_str(args, "id", NULL);
	char what[128];
	int r;

	snprintf(what, sizeof(what), id ? "%s '%s'" : "%s", d->type->name, id);
	dev_type_tables(d->type, tables);
	prop_defaults(tables, d);
	r = prop_apply(tables, d, args, skip, what, e);
	if (r == 0)
		r = check_id(d->vm, d->type, d->id, e);
	return r;
}

static void append(struct vm *vm, struct dev *d)
{
	struct dev **at = &vm->devs;

	while (*at)
		at = &(*at)->next;
	*at = d;
}

static int create(struct vm *vm, const struct dev_type *t, const json_t *args, bool hot,
		  struct dev **out, struct err *e)
{
	struct dev *d;
	int r;

	assert(t->size >= sizeof(*d));
	d = xcalloc(1, t->size);
	d->type = t;
	d->vm = vm;
	d->home = vm->main;
	d->hotplugged = hot;
	d->args = args ? json_deep_copy(args) : json_object();
	atomic_init(&d->refs, 1);
	pthread_mutex_init(&d->lock, NULL);
	plug_init(d);
	r = configure(d, d->args, e);
	d->path = make_path(vm, d);
	if (r == 0)
		r = build(d, e);
	if (r < 0) {
		release(d);
		return r;
	}
	append(vm, d);
	dev_reset(d);
	if (out)
		*out = d;
	plug_arrived(d);
	return 0;
}

int dev_create_type(struct vm *vm, const struct dev_type *t, const json_t *args,
		    struct dev **out, struct err *e)
{
	return create(vm, t, args, false, out, e);
}

static int type_of(struct vm *vm, const json_t *args, const struct dev_type **t,
		   struct err *e)
{
	const char *name = json_str(args, "driver", NULL);

	if (!name)
		return err_set(e, -EINVAL, "a device needs driver=, its type");
	*t = dev_type_find(vm->types, name);
	if (!*t)
		return unknown_type(vm, name, e);
	if ((*t)->flags & DEV_BUILTIN)
		return err_set(e, -EINVAL, "a %s is part of the machine and cannot be added",
			       (*t)->name);
	return 0;
}

static int create_with_globals(struct vm *vm, const struct dev_type *t, const json_t *args,
			       bool hot, struct dev **out, struct err *e)
{
	json_t *full = dev_args_with_globals(vm, args);
	int r = create(vm, t, full, hot, out, e);

	json_decref(full);
	return r;
}

int dev_create(struct vm *vm, const json_t *args, struct dev **out, struct err *e)
{
	const struct dev_type *t;
	int r = type_of(vm, args, &t, e);

	return r ? r : create_with_globals(vm, t, args, false, out, e);
}

int dev_plug(struct vm *vm, const json_t *args, struct dev **out, struct err *e)
{
	const struct dev_type *t;
	int r = type_of(vm, args, &t, e);

	if (r)
		return r;
	if ((t->flags & DEV_NO_HOTPLUG) || !dev_type_plug(t))
		return err_set(e, -EINVAL, "Device '%s' does not support hotplugging; add it "
			       "before the VM starts", t->name);
	r = create_with_globals(vm, t, args, true, out, e);
	/* Nothing has run since the machine was set up: set it up again. */
	if (r == 0 && atomic_load(&vm->state) == VM_PRELAUNCH)
		vm->booted = false;
	return r;
}

void dev_destroy(struct dev *d)
{
	struct dev **at = &d->vm->devs;

	while (*at != d)
		at = &(*at)->next;
	*at = d->next;
	release(d);
}

/* ---- change while it runs ---- */

/* Back to @old, which prop_get() gave. */
static void restore(const struct prop *p, struct dev *d, const json_t *old)
{
	char **text = (char **)((char *)d + p->offset);

	if (!json_is_null(old)) {
		prop_set(p, d, old, d->path, NULL);
	} else if (p->type == PROP_T_STR || p->type == PROP_T_LINK) {
		free(*text);
		*text = NULL;
	}
}

int dev_set(struct dev *d, const char *name, const json_t *val, struct err *e)
{
	const struct prop *tables[DEV_TABLES_MAX];
	const struct prop *p;
	json_t *old;
	int r;

	dev_type_tables(d->type, tables);
	p = prop_find(tables, name);
	if (!p)
		return err_set(e, -ENOENT, "%s: there is no property '%.64s'", d->path, name);
	if (!(p->flags & PROP_RUNTIME))
		return err_set(e, -EPERM, "%s: property '%s' cannot be changed while the device "
			       "exists; remove the device and add it anew", d->path, p->name);
	old = prop_get(p, d);
	r = prop_set(p, d, val, d->path, e);
	if (r == 0 && d->type->ops.changed) {
		r = d->type->ops.changed(d, p->name, e);
		if (r < 0)
			restore(p, d, old);
	}
	json_decref(old);
	return r;
}

/* ---- reset and pause ---- */

static bool in_progress(struct dev *d, int r)
{
	if (r < 0 && r != -EINPROGRESS)
		log_err("%s: reset failed: %s", d->path, strerror(-r));
	return r == -EINPROGRESS;
}

int dev_reset(struct dev *d)
{
	const struct dev_class *c;
	bool later = false;

	if (d->resetting)	/* cancelled already; one answer is to come */
		return -EINPROGRESS;
	pthread_mutex_lock(&d->lock);
	if (d->type->ops.reset)
		later |= in_progress(d, d->type->ops.reset(d));
	for (c = d->type->class; c; c = c->parent)
		if (c->reset)
			later |= in_progress(d, c->reset(d));
	d->resetting = later;
	pthread_mutex_unlock(&d->lock);
	if (!later)
		return 0;
	d->vm->resets_pending++;
	return -EINPROGRESS;
}

/* True: it settles, and dev_reset_done() follows. */
static bool settle(struct dev *d)
{
	if (!d->leaving || d->settled || !d->type->ops.settle)
		return false;
	d->settled = true;
	return in_progress(d, d->type->ops.settle(d));
}

int dev_settle(struct dev *d)
{
	d->leaving = true;
	if (!settle(d))
		return 0;
	d->resetting = true;
	d->vm->resets_pending++;
	return -EINPROGRESS;
}

int dev_leave(struct dev *d)
{
	int r;

	d->leaving = true;	/* it may be in the midst of another reset */
	r = dev_reset(d);
	return r ? r : dev_settle(d);
}

void dev_reset_done(struct dev *d)
{
	assert(d->resetting && d->vm->resets_pending > 0);
	if (settle(d))
		return;
	d->resetting = false;
	if (!plug_reset_done(d))
		vm_reset_drop(d->vm);
}

void dev_pause(struct dev *d, bool paused)
{
	if (!d->type->ops.pause)
		return;
	pthread_mutex_lock(&d->lock);
	d->type->ops.pause(d, paused);
	pthread_mutex_unlock(&d->lock);
}

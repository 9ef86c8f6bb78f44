/*
 * vmm/control/object_throttle.c - -object throttle-group: limits that drives and
 * throttle nodes share.
 *
 * Spec:    QEMU's qapi/qom.json (ThrottleGroupProperties), block-core.json.
 * Threads: main loop.
 * Missing: nothing known.
 *
 * The limits are the group's: block_set_io_throttle on a member changes what is
 * read here.
 */
#include "vmm/control/object_throttle.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/throttle.h"
#include "vmm/base/util.h"
#include "vmm/core/vm.h"

struct throttle_object {
	struct throttle_group *group;
	struct throttle_limits l;	/* for the tables; the group has the true ones */
	json_t *limits;			/* listed for introspection; always NULL */
};

const struct prop throttle_limit_props[] = {
	THROTTLE_PROPS(struct throttle_object, l, ""),
	PROP_END
};
static const struct prop all_props[] = {
	THROTTLE_PROPS(struct throttle_object, l, "x-"),
	PROP_JSON(struct throttle_object, limits, "limits", "limits by name, as in "
		  "limits.iops-total=100", .kind = "ThrottleLimits", .flags = PROP_RUNTIME),
	PROP_END
};
static const struct prop *const limit_tables[] = { throttle_limit_props, NULL };
static const struct prop *const all_tables[] = { all_props, NULL };

/* What @limits names changes, the rest stays; all or nothing. */
static int set_limits(struct throttle_object *t, const json_t *limits, const char *what,
		      struct err *e)
{
	int r;

	if (!json_is_object(limits))
		return err_set(e, -EINVAL, "%s: limits must be an object, as in "
			       "{\"iops-total\": 100}", what);
	r = prop_apply(limit_tables, t, limits, NULL, what, e);
	return r ? r : throttle_check(&t->l, what, e);
}

/* "limits" and "limits.NAME" in one object; the others in @rest. */
static json_t *split(const json_t *args, json_t *rest)
{
	static const char dotted[] = "limits.";
	json_t *limits = json_object(), *val;
	const char *key;

	json_object_foreach((json_t *)(uintptr_t)args, key, val) {
		if (strncmp(key, dotted, strlen(dotted)) == 0)
			json_object_set(limits, key + strlen(dotted), val);
		else if (strcmp(key, "limits") == 0 && json_is_object(val))
			json_object_update(limits, val);
		else if (strcmp(key, "limits") == 0) {
			json_decref(limits);
			return json_incref(val);
		} else
			json_object_set(rest, key, val);
	}
	return limits;
}

static int read_args(struct throttle_object *t, const json_t *args, const char *what,
		     struct err *e)
{
	static const char *const skip[] = { "id", "qom-type", NULL };
	json_t *rest = json_object(), *limits = split(args, rest);
	int r = prop_apply(all_tables, t, rest, skip, what, e);

	if (r == 0)
		r = set_limits(t, limits, what, e);
	json_decref(limits);
	json_decref(rest);
	return r;
}

static int create(struct vm_object *o, const json_t *args, struct err *e)
{
	struct throttle_object *t = xcalloc(1, sizeof(*t));
	char what[128];
	int r;

	snprintf(what, sizeof(what), "-object throttle-group '%.64s'", o->id);
	prop_defaults(all_tables, t);
	r = read_args(t, args, what, e);
	if (r == 0 && throttle_group_find(o->vm->blocks, o->id))
		r = err_set(e, -EEXIST, "%s: a drive has a group of that name; choose another id",
			    what);
	if (r) {
		free(t);
		return r;
	}
	t->group = throttle_group_get(o->vm->blocks, o->id);
	t->group->object = true;
	throttle_group_set(t->group, &t->l, what, NULL);	/* checked before */
	o->obj = t;
	return 0;
}

static void destroy(struct vm_object *o)
{
	struct throttle_object *t = o->obj;

	t->group->object = false;
	throttle_group_put(t->group);	/* at the VM's end its members go later */
	free(t);
}

static bool busy(const struct vm_object *o)
{
	return ((const struct throttle_object *)o->obj)->group->members != NULL;
}

static int set(struct vm_object *o, const struct prop *p, const json_t *val, struct err *e)
{
	struct throttle_object *t = o->obj;
	char what[128];
	int r;

	snprintf(what, sizeof(what), "throttle-group '%.64s'", o->id);
	t->l = throttle_group_limits(t->group);
	r = set_limits(t, val, what, e);
	return r ? r : throttle_group_set(t->group, &t->l, what, e);
}

static json_t *get(const struct vm_object *o, const struct prop *p)
{
	struct throttle_object *t = o->obj;
	json_t *limits;

	t->l = throttle_group_limits(t->group);
	for (int b = 0; b < THROTTLE_BUCKETS; b++)
		t->l.length[b] = MAX(t->l.length[b], 1u);
	if (p->type != PROP_T_JSON)
		return prop_get(p, t);
	limits = json_object();
	for (const struct prop *row = throttle_limit_props; row->type != PROP_T_END; row++)
		json_object_set_new(limits, row->name, prop_get(row, t));
	return limits;
}

const struct vm_object_type throttle_object_type = {
	.name = "throttle-group", .help = "limits that drives and throttle nodes share",
	.props = all_props, .create = create, .destroy = destroy, .busy = busy, .set = set,
	.get = get,
};

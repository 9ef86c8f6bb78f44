/*
 * vmm/control/faults.c - -object fault: what a test harness breaks on purpose.
 *
 * Threads: main loop.
 * Missing: network links (loss, delay, flap), USB yank and PCIe surprise
 *          removal: a row of fault_kinds[] each, once those devices exist.
 */
#include "vmm/control/faults.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "block/fault.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/char/char.h"
#include "vmm/core/vm.h"

#define JUMP_MAX	(100ll * 366 * 24 * 3600)	/* a century, in seconds */

struct fault_object {
	const struct fault_kind *kind;
	char *drive;
	struct fault_opts disk;
	char *chardev;
	int stall;
	int64_t clock;
};

struct fault_kind {
	const char *key;		/* the member that names the target */
	const struct prop *props;
	int (*begin)(struct vm_object *o, const json_t *args, struct err *e);
	void (*end)(struct vm_object *o);
};

enum { STALL_IN, STALL_OUT, STALL_BOTH };
static const char *const stall_words[] = { "in", "out", "both", NULL };

#define DRIVE_PROPS								\
	PROP_LINK(struct fault_object, drive, "drive", "drive",			\
		  "the disk to break: a drive, a node or the device"),		\
	FAULT_PROPS(struct fault_object, disk.)
#define STALL_PROPS								\
	PROP_LINK(struct fault_object, chardev, "chardev", "chardev",		\
		  "the serial line that stalls (-serial makes serial0, serial1, …)"), \
	PROP_ENUM(struct fault_object, stall, "stall", stall_words, STALL_BOTH,	\
		  "which way nothing moves: in to the guest, out of it, or both")
#define CLOCK_PROPS								\
	PROP_I64(struct fault_object, clock, "clock", -JUMP_MAX, JUMP_MAX, 0,	\
		 "so far the host's clock jumps, as the guest's RTC shows it; back when " \
		 "the fault is removed", .unit = "seconds")

static const struct prop drive_fault_props[] = { DRIVE_PROPS, PROP_END };
static const struct prop stall_props[] = { STALL_PROPS, PROP_END };
static const struct prop clock_props[] = { CLOCK_PROPS, PROP_END };
static const struct prop all_props[] = { DRIVE_PROPS, STALL_PROPS, CLOCK_PROPS, PROP_END };

/* ---- disks ---- */

static int drive_begin(struct vm_object *o, const json_t *args, struct err *e)
{
	return block_fault_add(o->vm->blocks, args, e);
}

/* It may have gone with its node. */
static void drive_end(struct vm_object *o)
{
	block_fault_del(o->vm->blocks, o->id, NULL);
}

/* ---- serial lines ---- */

static int stall_begin(struct vm_object *o, const json_t *args, struct err *e)
{
	struct fault_object *f = o->obj;
	struct chardev *c = char_find(o->vm->chars, f->chardev);

	if (!c)
		return err_set(e, -ENOENT, "chardev=%.64s: there is no chardev of that name",
			       f->chardev);
	char_stall(c, f->stall != STALL_OUT, f->stall != STALL_IN);
	return 0;
}

static void stall_end(struct vm_object *o)
{
	struct fault_object *f = o->obj;
	struct chardev *c = char_find(o->vm->chars, f->chardev);

	if (c)
		char_stall(c, false, false);
}

/* ---- the clock ---- */

static int clock_begin(struct vm_object *o, const json_t *args, struct err *e)
{
	struct fault_object *f = o->obj;
	const struct vm_machine_ops *m = o->vm->machine;

	if (!m || !m->clock_jump)
		return err_set(e, -ENOTSUP, "clock=%" PRId64 ": this machine has no clock to "
			       "change", f->clock);
	m->clock_jump(o->vm, f->clock);
	return 0;
}

static void clock_end(struct vm_object *o)
{
	struct fault_object *f = o->obj;

	o->vm->machine->clock_jump(o->vm, -f->clock);
}

/* ---- all ---- */

static const struct fault_kind fault_kinds[] = {
	{ "drive", drive_fault_props, drive_begin, drive_end },
	{ "chardev", stall_props, stall_begin, stall_end },
	{ "clock", clock_props, clock_begin, clock_end },
};

static const struct fault_kind *find_kind(const json_t *args, struct err *e)
{
	const struct fault_kind *k = NULL;

	for (size_t i = 0; i < ARRAY_LEN(fault_kinds); i++) {
		if (!json_object_get(args, fault_kinds[i].key))
			continue;
		if (k) {
			err_set(e, -EINVAL, "%s= and %s= are both given; a fault has one target",
				k->key, fault_kinds[i].key);
			return NULL;
		}
		k = &fault_kinds[i];
	}
	if (!k)
		err_set(e, -EINVAL, "drive=, chardev= or clock= is missing: what to break");
	return k;
}

static void object_free(struct fault_object *f)
{
	static const struct prop *const tables[] = { all_props, NULL };

	prop_free(tables, f);
	free(f);
}

static int fault_create(struct vm_object *o, const json_t *args, struct err *e)
{
	static const char *const skip[] = { "id", "qom-type", NULL };
	static const struct prop *const all[] = { all_props, NULL };
	struct fault_object *f = xcalloc(1, sizeof(*f));
	int r = -EINVAL;

	o->obj = f;
	prop_defaults(all, f);
	f->kind = find_kind(args, e);
	if (f->kind) {
		const struct prop *const tables[] = { f->kind->props, NULL };

		r = prop_apply(tables, f, args, skip, "fault", e);
	}
	if (r == 0)
		r = f->kind->begin(o, args, e);
	if (r) {
		err_prefix(e, "-object fault '%.64s'", o->id);
		object_free(f);
	}
	return r;
}

static void fault_destroy(struct vm_object *o)
{
	struct fault_object *f = o->obj;

	f->kind->end(o);
	object_free(f);
}

const struct vm_object_type fault_object_type = {
	.name = "fault", .help = "a disk, serial line or clock that is broken on purpose",
	.props = all_props, .create = fault_create, .destroy = fault_destroy,
};

/* ---- list ---- */

static void list_block(const struct block_fault_info *i, void *arg)
{
	if (!*i->id)	/* a fault node's own */
		return;
	json_array_append_new(arg, json_pack("{s:s,s:s,s:I,s:I,s:i}", "id", i->id,
					     "drive", i->node,
					     "matched", (json_int_t)i->matched,
					     "hits", (json_int_t)i->hits, "held", (int)i->held));
}

json_t *fault_list(struct vm *vm)
{
	json_t *list = json_array();
	const struct fault_object *f;

	for (struct vm_object *o = vm->objects; o; o = o->next) {
		if (o->type != &fault_object_type)
			continue;
		f = o->obj;
		if (f->chardev)
			json_array_append_new(list, json_pack("{s:s,s:s,s:s}", "id", o->id,
							      "chardev", f->chardev, "stall",
							      stall_words[f->stall]));
		else if (!f->drive)
			json_array_append_new(list, json_pack("{s:s,s:I}", "id", o->id, "clock",
							      (json_int_t)f->clock));
	}
	block_fault_each(vm->blocks, list_block, list);
	return list;
}

/*
 * vmm/run/lib_parts.c - libroost: QMP in process, parts that come and go, faults,
 * disks.
 *
 * Spec:    include/roost.h.
 * Threads: any, see there; the work is done on the VM's main loop.
 * Missing: nothing known.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/block.h"
#include "block/memcow.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/char/char.h"
#include "vmm/control/faults.h"
#include "vmm/control/qmp.h"
#include "vmm/core/object.h"
#include "vmm/run/build.h"
#include "vmm/run/lib.h"

/* ---- QMP ---- */

/* A request and its reply; shared by the caller and the command, whichever is
 * later frees it. */
struct request {
	struct lib_vm *v;
	json_t *req;
	json_t *reply;		/* v->lock */
	int refs;		/* v->lock */
};

static void request_put(struct request *q)
{
	struct lib_vm *v = q->v;
	bool last;

	pthread_mutex_lock(&v->lock);
	last = --q->refs == 0;
	pthread_mutex_unlock(&v->lock);
	if (!last)
		return;
	json_decref(q->req);
	json_decref(q->reply);
	free(q);
}

static void on_reply(void *arg, json_t *reply)
{
	struct request *q = arg;

	pthread_mutex_lock(&q->v->lock);
	/* A copy: counts of references are not for two threads. */
	q->reply = json_deep_copy(reply);
	pthread_cond_broadcast(&q->v->cond);
	pthread_mutex_unlock(&q->v->lock);
	request_put(q);
}

static int send_request(struct lib_vm *v, void *arg, struct err *e)
{
	struct request *q = arg;

	qmp_execute_async(built_qmp(v->built), q->req, on_reply, q);
	return 0;
}

static int wait_reply(struct lib_vm *v, struct request *q, struct roost_error *e)
{
	bool here = loop_is_current(v->loop), there;

	pthread_mutex_lock(&v->lock);
	while (!(there = q->reply) && !here && !atomic_load(&v->closing))
		pthread_cond_wait(&v->cond, &v->lock);
	pthread_mutex_unlock(&v->lock);
	if (there)
		return 0;
	if (here)
		return lib_fail(e, -EDEADLK, "the command takes time and goes on; its reply cannot "
				"be waited for in one of the VM's callbacks");
	return lib_fail(e, -ESHUTDOWN, "the VM is being destroyed");
}

/* Steals @req. *reply is a new reference. */
static int execute(struct roost_vm *vm, json_t *req, json_t **reply, struct roost_error *e)
{
	struct lib_vm *v = lib_get(vm, e);
	struct request *q;
	int r;

	if (!v) {
		json_decref(req);
		return vm ? -ESTALE : -EINVAL;
	}
	q = xcalloc(1, sizeof(*q));
	*q = (struct request){ .v = v, .req = req, .refs = 2 };
	lib_call_on(v, send_request, q, e);
	r = wait_reply(v, q, e);
	if (r == 0) {
		*reply = q->reply;
		q->reply = NULL;
	}
	request_put(q);
	lib_put(v);
	return r;
}

static json_t *parse(const char *text, const char *what, struct roost_error *e)
{
	json_error_t je;
	json_t *o;

	if (!text) {
		lib_fail(e, -EINVAL, "the %s is NULL", what);
		return NULL;
	}
	o = json_loads(text, JSON_REJECT_DUPLICATES, &je);
	if (!o)
		lib_fail(e, -EINVAL, "the %s is no JSON object: %s", what, je.text);
	return o;
}

int roost_qmp(struct roost_vm *vm, const char *request, char **reply, struct roost_error *e)
{
	json_t *answer = NULL, *req;
	int r;

	if (reply)
		*reply = NULL;
	req = parse(request, "request", e);
	if (!req)
		return -EINVAL;
	r = execute(vm, req, &answer, e);
	if (r == 0 && reply)
		*reply = json_dumps(answer, JSON_COMPACT | JSON_PRESERVE_ORDER);
	json_decref(answer);
	return r;
}

/* From QMP's error classes to errno. */
static int refusal(const json_t *error, struct roost_error *e)
{
	const char *class = json_str(error, "class", "");
	int r = strcmp(class, "CommandNotFound") == 0 ? -ENOSYS :
		strcmp(class, "DeviceNotFound") == 0 ? -ENODEV : -EINVAL;

	return lib_fail(e, r, "%s", json_str(error, "desc", "the command failed"));
}

int roost_qmp_command(struct roost_vm *vm, const char *command, const char *arguments,
		      char **ret, struct roost_error *e)
{
	json_t *reply = NULL, *args = NULL, *req, *error;
	int r;

	if (ret)
		*ret = NULL;
	if (!command)
		return lib_fail(e, -EINVAL, "the command is NULL");
	if (arguments) {
		args = parse(arguments, "arguments", e);
		if (!args)
			return -EINVAL;
	}
	req = json_pack("{s:s}", "execute", command);
	if (!req)
		r = lib_fail(e, -EINVAL, "the command is not valid UTF-8");
	else if (args)
		json_object_set(req, "arguments", args);
	json_decref(args);
	if (!req)
		return r;
	r = execute(vm, req, &reply, e);
	error = json_object_get(reply, "error");
	if (error)
		r = refusal(error, e);
	else if (r == 0 && ret)
		*ret = json_dumps(json_object_get(reply, "return"),
				  JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_ENCODE_ANY);
	json_decref(reply);
	return r;
}

/* ---- parts ---- */

static int add_device(struct lib_vm *v, const json_t *args, struct err *e)
{
	return dev_plug(v->vm, args, NULL, e);
}

static int add_drive(struct lib_vm *v, const json_t *args, struct err *e)
{
	return block_drive_add(v->vm->blocks, args, e);
}

static int add_blockdev(struct lib_vm *v, const json_t *args, struct err *e)
{
	return block_node_open(v->vm->blocks, args, NULL, e);
}

static int add_chardev(struct lib_vm *v, const json_t *args, struct err *e)
{
	return char_add(v->vm->chars, args, NULL, e);
}

static int add_object(struct lib_vm *v, const json_t *args, struct err *e)
{
	return vm_object_add(v->vm, args, e);
}

static int del_device(struct lib_vm *v, const char *id, struct err *e)
{
	return dev_unplug(v->vm, id, NULL, e);
}

static int del_blockdev(struct lib_vm *v, const char *id, struct err *e)
{
	return block_node_del(v->vm->blocks, id, e);
}

static int del_chardev(struct lib_vm *v, const char *id, struct err *e)
{
	return char_del(v->vm->chars, id, e);
}

static int del_object(struct lib_vm *v, const char *id, struct err *e)
{
	return vm_object_del(v->vm, id, e);
}

static int del_drive(struct lib_vm *v, const char *id, struct err *e)
{
	return err_set(e, -ENOTSUP, "drive '%.64s' goes with its device; a disk to be removed "
		       "alone is a blockdev", id);
}

static const struct part {
	const char *kind;
	const char *implied;	/* name of a first bare value */
	int nest;		/* dots make objects */
	int (*add)(struct lib_vm *v, const json_t *args, struct err *e);
	int (*del)(struct lib_vm *v, const char *id, struct err *e);
} parts[] = {
	{ "device", "driver", 0, add_device, del_device },
	{ "drive", NULL, 0, add_drive, del_drive },
	{ "blockdev", "driver", 1, add_blockdev, del_blockdev },
	{ "chardev", "backend", 0, add_chardev, del_chardev },
	{ "object", "qom-type", 0, add_object, del_object },
};

static const struct part *find_part(const char *kind, struct roost_error *e)
{
	for (size_t i = 0; kind && i < ARRAY_LEN(parts); i++)
		if (strcmp(parts[i].kind, kind) == 0)
			return &parts[i];
	lib_fail(e, -EINVAL, "there is no kind of part '%.40s'; use device, drive, blockdev, "
		 "chardev or object", kind ? kind : "(NULL)");
	return NULL;
}

struct change {
	const struct part *part;
	const json_t *args;
	const char *id;
};

static int add_part(struct lib_vm *v, void *arg, struct err *e)
{
	struct change *c = arg;

	return c->part->add(v, c->args, e);
}

static int del_part(struct lib_vm *v, void *arg, struct err *e)
{
	struct change *c = arg;

	return c->part->del(v, c->id, e);
}

static int add(struct roost_vm *vm, const struct part *part, const char *first,
	       const char *options, struct roost_error *e)
{
	struct err err = ERR_INIT;
	struct change c = { .part = part };
	json_t *args;
	int r;

	if (!options)
		return lib_fail(e, -EINVAL, "the options are NULL");
	args = json_from_keyval(options, part->implied, part->nest, part->kind, &err);
	if (!args)
		return lib_fail_err(e, -EINVAL, &err);
	if (first)
		json_put_str(args, part->implied, first);
	c.args = args;
	r = lib_call(vm, add_part, &c, e);
	json_decref(args);
	return r;
}

int roost_add(struct roost_vm *vm, const char *kind, const char *options, struct roost_error *e)
{
	const struct part *part = find_part(kind, e);

	return part ? add(vm, part, NULL, options, e) : -EINVAL;
}

static int del(struct roost_vm *vm, const struct part *part, const char *id,
	       struct roost_error *e)
{
	struct change c = { .part = part, .id = id };

	if (!id)
		return lib_fail(e, -EINVAL, "the id is NULL");
	return lib_call(vm, del_part, &c, e);
}

int roost_remove(struct roost_vm *vm, const char *kind, const char *id, struct roost_error *e)
{
	const struct part *part = find_part(kind, e);

	return part ? del(vm, part, id, e) : -EINVAL;
}

/* ---- faults ---- */

static int del_fault(struct lib_vm *v, const char *id, struct err *e)
{
	struct vm_object *o = vm_object_find(v->vm, id);

	if (!o || o->type != &fault_object_type)
		return err_set(e, -ENOENT, "there is no fault '%.64s'", id);
	return vm_object_del(v->vm, id, e);
}

static const struct part fault_part = { "fault", "qom-type", 0, add_object, del_fault };

int roost_fault_add(struct roost_vm *vm, const char *options, struct roost_error *e)
{
	return add(vm, &fault_part, "fault", options, e);
}

int roost_fault_remove(struct roost_vm *vm, const char *id, struct roost_error *e)
{
	return del(vm, &fault_part, id, e);
}

static int list_faults(struct lib_vm *v, void *arg, struct err *e)
{
	json_t *list = fault_list(v->vm);

	*(char **)arg = json_dumps(list, JSON_COMPACT | JSON_PRESERVE_ORDER);
	json_decref(list);
	return 0;
}

int roost_fault_list(struct roost_vm *vm, char **json, struct roost_error *e)
{
	if (!json)
		return lib_fail(e, -EINVAL, "there is no place for the list");
	*json = NULL;
	return lib_call(vm, list_faults, json, e);
}

/* ---- disks ---- */

static int reset_disk(struct lib_vm *v, void *arg, struct err *e)
{
	const char *name = arg;
	struct block_node *n = block_disk_find(v->vm->blocks, name);

	if (!n)
		return err_set(e, -ENOENT, "there is no drive, node or disk device '%.64s'", name);
	if (atomic_load(&v->vm->state) == VM_RUNNING || v->vm->resetting)
		return err_set(e, -EBUSY, "the guest runs, and would find disk '%.64s' changed "
			       "under it; pause the VM first", name);
	return block_memcow_reset(n, e);
}

int roost_disk_reset(struct roost_vm *vm, const char *drive, struct roost_error *e)
{
	if (!drive)
		return lib_fail(e, -EINVAL, "the drive's name is NULL");
	return lib_call(vm, reset_disk, (void *)(uintptr_t)drive, e);
}

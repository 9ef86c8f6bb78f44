/*
 * vmm/control/commands_dev.c - QMP commands that add and remove devices.
 *
 * Spec:    QEMU's qapi/qdev.json; device_del's force and timeout are our own.
 * Threads: main loop.
 */
#include <errno.h>

#include "vmm/control/qmp.h"
#include "vmm/core/dev.h"
#include "vmm/core/vm.h"

/* Whether bus and type allow it is the core's to say. */
static int device_add(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	if (!qmp_vm(q)->pci)
		return err_set(e, -EINVAL, "this machine has no bus that takes a device");
	return dev_plug(qmp_vm(q), args, NULL, e);
}

struct del_args {
	char *id;
	bool force;
	uint64_t timeout;
};

static const struct prop del_args[] = {
	PROP_STR(struct del_args, id, "id", NULL, "the device's id or path",
		 .flags = PROP_REQUIRED),
	PROP_BOOL(struct del_args, force, "force", false,
		  "do not ask the guest (surprise removal)"),
	PROP_U64(struct del_args, timeout, "timeout", 0, INT64_MAX, 0,
		 "time the guest has to let go of it; 0: any", .unit = "ms"),
	PROP_END
};

/* The answer is that the guest was asked; DEVICE_DELETED says when it is gone. */
static int device_del(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	const struct del_args *a = args;
	struct dev_unplug_opts o = { a->force, a->timeout };

	return dev_unplug(qmp_vm(q), a->id, &o, e);
}

/* libvirt's signs for: device_add and -device take JSON. */
static const char *const json_cli[] = { "json-cli", "json-cli-hotplug", NULL };

static const struct qmp_cmd cmds[] = {
	{ .name = "device_add", .help = "add a device", .arg_type = "q_obj_device_add-arg",
	  .run = device_add, .flags = QMP_OPEN, .features = json_cli },
	{ .name = "device_del", .help = "ask the guest to let go of a device, then remove it",
	  .args = del_args, .args_size = sizeof(struct del_args), .run = device_del },
	{ 0 }
};

static const struct qmp_event events[] = {
	{ "DEVICE_DELETED", "q_obj_DEVICE_DELETED-arg", "a device is gone" },
	{ "DEVICE_UNPLUG_GUEST_ERROR", "q_obj_DEVICE_DELETED-arg",
	  "the guest keeps a device" },
	{ 0 }
};

static const struct qmp_member add_members[] = {
	{ "driver", "str" }, { "*bus", "str" }, { "*id", "str" }, { 0 }
};
static const struct qmp_member deleted_members[] = {
	{ "*device", "str" }, { "path", "str" }, { 0 }
};

static const struct qmp_type types[] = {
	{ .name = "q_obj_device_add-arg", .members = add_members },
	{ .name = "q_obj_DEVICE_DELETED-arg", .members = deleted_members },
	{ 0 }
};

const struct qmp_table qmp_table_dev = { .cmds = cmds, .events = events, .types = types };

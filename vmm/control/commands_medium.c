/*
 * vmm/control/commands_medium.c - QMP's commands for trays and what is in them: eject,
 * blockdev-{open,close}-tray, blockdev-{remove,insert,change}-medium.
 *
 * Spec:    QEMU's qapi/block.json.
 * Threads: main loop.
 * Missing: devices with a tray. Every disk there is has its medium for good, so a disk
 *          that is found is refused as not removable.
 */
#include <errno.h>

#include "vmm/control/disk.h"

extern const struct qmp_table qmp_table_medium;

struct medium_args {
	char *device, *id, *node, *file, *format;
	bool force;
	int mode;
};

static const char *const mode_words[] = { "retain", "read-only", "read-write", NULL };

#define DEVICE	PROP_STR(struct medium_args, device, "device", NULL, "the drive")
#define ID	PROP_STR(struct medium_args, id, "id", NULL, "the device, or its QOM path")
#define ID_ONLY	PROP_STR(struct medium_args, id, "id", NULL, "the device, or its QOM path", \
			 .flags = PROP_REQUIRED)
#define FORCE	PROP_BOOL(struct medium_args, force, "force", false,			\
			  "even when the guest has locked the tray")

static const struct prop open_args[] = { DEVICE, ID, FORCE, PROP_END };
static const struct prop close_args[] = { DEVICE, ID, PROP_END };
static const struct prop remove_args[] = { ID_ONLY, PROP_END };
static const struct prop insert_args[] = {
	ID_ONLY,
	PROP_STR(struct medium_args, node, "node-name", NULL, "the new medium",
		 .flags = PROP_REQUIRED),
	PROP_END
};
static const struct prop change_args[] = {
	DEVICE, ID, FORCE,
	PROP_STR(struct medium_args, file, "filename", NULL, "the new medium",
		 .flags = PROP_REQUIRED),
	PROP_STR(struct medium_args, format, "format", NULL, "of the file"),
	PROP_ENUM(struct medium_args, mode, "read-only-mode", mode_words, 0,
		  "whether the guest may write to it", .kind = "BlockdevChangeReadOnlyMode"),
	PROP_END
};

static int cmd_medium(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	const struct medium_args *a = args;
	const char *name = a->id ? a->id : a->device;

	if (!name || (a->id && a->device))
		return err_set(e, -EINVAL, "Need exactly one of 'device' and 'id'");
	if (!qmp_disk(q, name, e))
		return -ENODEV;
	return err_set(e, -ENOTSUP, "Device '%.64s' is not removable", name);
}

#define COMMAND(table) .args = table, .args_size = sizeof(struct medium_args), .run = cmd_medium

static const struct qmp_cmd cmds[] = {
	{ .name = "eject", .help = "open a disk's tray and take the medium out",
	  COMMAND(open_args) },
	{ .name = "blockdev-open-tray", .help = "open a disk's tray", COMMAND(open_args) },
	{ .name = "blockdev-close-tray", .help = "close a disk's tray", COMMAND(close_args) },
	{ .name = "blockdev-remove-medium", .help = "take the medium out of an open tray",
	  COMMAND(remove_args) },
	{ .name = "blockdev-insert-medium", .help = "put a node into an open, empty tray",
	  COMMAND(insert_args) },
	{ .name = "blockdev-change-medium", .help = "put a file in the medium's place",
	  COMMAND(change_args) },
	{ 0 }
};

static const struct qmp_type types[] = {
	{ .name = "BlockdevChangeReadOnlyMode", .meta = QMP_ENUM, .words = mode_words },
	{ 0 }
};

const struct qmp_table qmp_table_medium = { .cmds = cmds, .types = types };

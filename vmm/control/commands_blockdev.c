/*
 * vmm/control/commands_blockdev.c - QMP commands that change the block graph:
 * blockdev-add, blockdev-del, block_resize.
 *
 * Spec:    QEMU's qapi/block-core.json.
 * Threads: main loop. A new length is made on a thread of its own, because a
 *          host file system may take its time over it; the client waits, nobody
 *          else does.
 * Missing: nothing known.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "block/aside.h"
#include "block/block.h"
#include "block/graph.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/control/qmp.h"
#include "vmm/core/vm.h"

extern const struct qmp_table qmp_table_blockdev;

/* ---- nodes come and go ---- */

static int cmd_add(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	return block_node_open(qmp_vm(q)->blocks, args, NULL, e);
}

struct del_args {
	char *name;
};

static const struct prop del_args[] = {
	PROP_STR(struct del_args, name, "node-name", NULL, "the node",
		 .flags = PROP_REQUIRED),
	PROP_END
};

static int cmd_del(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct block_graph *g = qmp_vm(q)->blocks;
	struct del_args *a = args;
	struct block_node *n = block_node_find(g, a->name);

	if (n && n->implicit)
		return err_set(e, -EBUSY, "Node %s is not owned by the monitor: it goes with the "
			       "node that was given it inline", a->name);
	return block_node_del(g, a->name, e);
}

/* ---- length ---- */

struct resize {
	struct qmp_call *call;
	struct qmp *q;
	struct block_child edge;	/* keeps the node, and the length is ours */
	uint64_t bytes;
	bool lent;			/* its drives' on_close is ours */
	int result;
	struct aside *thread;
	struct resize *next;
};

struct resize_args {
	char *device, *node;
	uint64_t bytes;
};

static const struct prop resize_args[] = {
	PROP_STR(struct resize_args, device, "device", NULL, "the drive"),
	PROP_STR(struct resize_args, node, "node-name", NULL, "the node"),
	PROP_U64(struct resize_args, bytes, "size", 0, INT64_MAX, 0, "new length",
		 .unit = "bytes", .flags = PROP_REQUIRED),
	PROP_END
};

static struct block_node *find_node(struct qmp *q, const struct resize_args *a, struct err *e)
{
	struct block_graph *g = qmp_vm(q)->blocks;
	struct drive *d = a->device ? drive_find(g, a->device) : NULL;
	struct block_node *n = d ? d->node : NULL;

	if (!n && a->node)
		n = block_node_find(g, a->node);
	if (!n)
		err_set(e, -ENOENT, "Cannot find device='%.64s' nor node-name='%.64s'",
			a->device ? a->device : "", a->node ? a->node : "");
	return n;
}

/* What is under way. */
static struct resize **list_of(struct qmp *q)
{
	return (struct resize **)qmp_state(q, &qmp_table_blockdev);
}

/* A disk is unplugged meanwhile: the node stays until the end. */
static void disk_gone(struct drive *d, void *arg)
{
	d->on_close = NULL;
}

/* No snapshot or job of the node's disks is under way, and none begins before
 * return_drives(). */
static int take_drives(struct resize *r, struct block_node *n, struct err *e)
{
	struct drive *d = NULL;

	while ((d = drive_on(n, d)))
		if (d->on_close)
			return err_set(e, -EBUSY, "a snapshot or job of '%s' is under way; wait for "
				       "its end", n->name);
	while ((d = drive_on(n, d))) {
		d->on_close = disk_gone;
		d->on_close_arg = r;
	}
	r->lent = true;
	return 0;
}

static void return_drives(struct resize *r)
{
	struct drive *d = NULL;

	while (r->lent && (d = drive_on(r->edge.node, d)))
		if (d->on_close == disk_gone && d->on_close_arg == r)
			d->on_close = NULL;
}

static void unlink_resize(struct resize *r)
{
	struct resize **p = list_of(r->q);

	while (*p != r)
		p = &(*p)->next;
	*p = r->next;
}

/* Back on the main loop. */
static void resize_done(void *arg)
{
	struct resize *r = arg;
	struct block_node *n = r->edge.node;
	struct err e = ERR_INIT;

	unlink_resize(r);
	if (r->result == 0)
		block_node_resized(n);
	else if (r->result == -ENOTSUP)
		err_set(&e, r->result, "node '%s' is a window of fixed size, or its format "
			"cannot be resized", n->name);
	else
		err_sys(&e, r->result, "cannot make node '%s' %" PRIu64 " bytes long", n->name,
			r->bytes);
	return_drives(r);
	block_detach(&r->edge);
	qmp_complete(r->call, NULL, &e);
	free(r);
}

static void resize_thread(void *arg)
{
	struct resize *r = arg;
	struct block_node *n = r->edge.node;

	r->result = n->drv->set_length(n, r->bytes);
}

static int start_resize(struct resize *r, struct err *e)
{
	int ret = aside_start(&r->thread, qmp_vm(r->q)->blocks, "resize", resize_thread,
			      resize_done, r);
	struct resize **list = list_of(r->q);

	if (ret)
		return err_sys(e, ret, "no thread for block_resize");
	r->next = *list;
	*list = r;
	r->call = qmp_defer(r->q);
	return 0;
}

static int cmd_resize(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct resize_args *a = args;
	struct block_node *n = find_node(q, a, e);
	struct resize *r;
	int err;

	if (!n)
		return -ENOENT;
	if (!n->drv->set_length)
		return err_set(e, -ENOTSUP, "node '%s' (%s) cannot be resized", n->name,
			       n->drv->name);
	if (n->read_only)
		return err_set(e, -EROFS, "node '%s' is read-only", n->name);
	if (a->bytes == 0 || a->bytes % BLOCK_SECTOR)
		return err_set(e, -EINVAL, "size=%" PRIu64 " is not a positive multiple of %d",
			       a->bytes, BLOCK_SECTOR);
	err = n->drv->check_length ? n->drv->check_length(n, a->bytes, e) : 0;
	if (err)
		return err;
	r = xcalloc(1, sizeof(*r));
	r->q = q;
	r->bytes = a->bytes;
	err = block_attach(&r->edge, n, "block_resize", BLOCK_PERM_RESIZE, BLOCK_PERM_ALL &
			   ~(uint32_t)BLOCK_PERM_RESIZE, e);
	if (err == 0)
		err = take_drives(r, n, e);
	if (err == 0)
		err = start_resize(r, e);
	if (err) {
		return_drives(r);
		block_detach(&r->edge);
		free(r);
	}
	return err;
}

/* Threads look at nodes: they end before the graph does. */
static void fini(struct qmp *q)
{
	struct resize **list = list_of(q), *r;
	const struct err none = ERR_INIT;

	while ((r = *list)) {
		unlink_resize(r);
		qmp_complete(r->call, NULL, &none);
		return_drives(r);
		if (!aside_end(r->thread))
			continue;	/* the node stays its own */
		block_detach(&r->edge);
		free(r);
	}
}

/* ---- tables ---- */

static const struct qmp_cmd cmds[] = {
	{ .name = "blockdev-add", .help = "make a block node", .arg_type = "BlockdevOptions",
	  .run = cmd_add },
	{ .name = "blockdev-del", .help = "remove a block node that nothing uses",
	  .args = del_args, .args_size = sizeof(struct del_args), .run = cmd_del },
	{ .name = "block_resize", .help = "change the length of a disk", .args = resize_args,
	  .args_size = sizeof(struct resize_args), .run = cmd_resize },
	{ 0 }
};

static const struct qmp_member options_base[] = {
	{ "driver", "BlockdevDriver" }, { "*node-name", "str" }, { 0 }
};
static const struct qmp_member ref_kinds[] = {
	{ "definition", "BlockdevOptions" }, { "reference", "str" }, { 0 }
};
static const struct qmp_member ref_or_null_kinds[] = {
	{ "definition", "BlockdevOptions" }, { "reference", "str" }, { "null", "null" }, { 0 }
};

static void make_drivers(struct qmp *q, json_t *info)
{
	for (int i = 0; block_drivers[i]; i++)
		qmp_schema_word(info, block_drivers[i]->name);
}

static void make_options(struct qmp *q, json_t *info)
{
	qmp_schema_props(q, info, block_node_props);
	for (int i = 0; block_drivers[i]; i++) {
		const struct prop *const tables[] = { block_drivers[i]->props, NULL };
		char *name = xasprintf("BlockdevOptions-%s", block_drivers[i]->name);

		qmp_schema_object(q, name, tables);
		qmp_schema_variant(q, info, block_drivers[i]->name, name);
		free(name);
	}
}

static const struct qmp_type types[] = {
	{ .name = "BlockdevDriver", .meta = QMP_ENUM, .make = make_drivers },
	{ .name = "BlockdevOptions", .members = options_base, .tag = "driver",
	  .make = make_options },
	{ .name = "BlockdevRef", .meta = QMP_ALTERNATE, .members = ref_kinds },
	{ .name = "BlockdevRefOrNull", .meta = QMP_ALTERNATE, .members = ref_or_null_kinds },
	{ 0 }
};

const struct qmp_table qmp_table_blockdev = { .cmds = cmds, .types = types, .fini = fini };

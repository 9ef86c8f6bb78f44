/*
 * vmm/control/commands_snapshot.c - QMP's blockdev-snapshot, blockdev-snapshot-sync
 * and transaction: overlays for running disks.
 *
 * Spec:    QEMU's qapi/block-core.json, transaction.json.
 * Threads: main loop; images are written on a thread of their own, and the client
 *          waits, nobody else does.
 * Missing: formats other than qcow2; transactions of anything but snapshots.
 *
 * A single command is a group of one member. All or none:
 *
 *	make	thread: create the files (mode absolute-paths), refuse one with data
 *	write	thread: empty qcow2 images in them; images and folder entries durable
 *	open	nodes for them, and the member "abort" fails
 *	switch	block/snapshot.c: all disks at one point in time
 *
 * Whatever fails, the disks keep their old chains; files that were made are removed,
 * and those that were prepared empty are empty again.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/aside.h"
#include "block/graph.h"
#include "block/image.h"
#include "block/snapshot.h"
#include "vmm/base/fds.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/control/job.h"
#include "vmm/control/qmp.h"
#include "vmm/core/vm.h"
#include "vmm/loop/loop.h"

extern const struct qmp_table qmp_table_snapshot;

struct sync_args {
	char *device, *node, *file, *overlay, *format;
	int mode;
};

enum { EXISTING, ABSOLUTE_PATHS };
static const char *const mode_words[] = { "existing", "absolute-paths", NULL };

static const struct prop sync_args[] = {
	PROP_STR(struct sync_args, device, "device", NULL, "the drive"),
	PROP_STR(struct sync_args, node, "node-name", NULL, "the disk's top node"),
	PROP_STR(struct sync_args, file, "snapshot-file", NULL, "the overlay's file",
		 .flags = PROP_REQUIRED),
	PROP_STR(struct sync_args, overlay, "snapshot-node-name", NULL,
		 "name of the overlay's node; generated without"),
	PROP_STR(struct sync_args, format, "format", "qcow2", "of the overlay"),
	PROP_ENUM(struct sync_args, mode, "mode", mode_words, ABSOLUTE_PATHS,
		  "make the file, or take one that was prepared", .kind = "NewImageMode"),
	PROP_END
};
static const struct prop *const sync_tables[] = { sync_args, NULL };

/* One disk's part. */
struct member {
	enum { PREPARED, SYNC, ABORT } kind;
	char *node, *overlay;		/* names; overlay NULL: to be generated */
	/* SYNC */
	struct block_child keep;	/* the disk's top node */
	char *file;
	bool existing, made;		/* made: by us, to be removed on failure */
	bool written;			/* prepared empty, and an image is in it */
	dev_t dev;			/* which file that is */
	ino_t ino;
	bool opened;			/* the overlay's node is ours to remove */
	char *backing, *backing_format;
	int passed;			/* existing, of a client's set: its descriptor */
	struct image_qcow2_opts opts;
	struct block_child image;	/* the file's node, while the thread writes */
};

/* One command under way. */
struct group {
	struct qmp *q;
	struct vm *vm;
	struct qmp_call *call;
	struct snapshot *snap;
	enum loop_aio aio;
	struct aside *thread;		/* NULL: none */
	int (*stage)(struct group *g, struct err *e);	/* on the thread */
	void (*then)(struct group *g);			/* back on the main loop */
	int result;
	struct err e;
	struct group *next;
	int n;
	struct member m[];
};

static struct group **list_of(struct qmp *q)
{
	return (struct group **)qmp_state(q, &qmp_table_snapshot);
}

static struct group *group_new(struct qmp *q, int n)
{
	struct group *g = xcalloc(1, sizeof(*g) + (size_t)n * sizeof(g->m[0]));

	g->q = q;
	g->vm = qmp_vm(q);
	g->aio = g->vm->aio;
	g->e = (struct err)ERR_INIT;
	g->n = n;
	for (int i = 0; i < n; i++)
		g->m[i].passed = -1;
	return g;
}

static void group_free(struct group *g)
{
	for (struct member *m = g->m; m < g->m + g->n; m++) {
		block_detach(&m->image);
		block_detach(&m->keep);
		fd_close(&m->passed);
		free(m->node);
		free(m->overlay);
		free(m->file);
		free(m->backing);
		free(m->backing_format);
	}
	free(g);
}

/* The file is there: a node for the thread to write through, gone afterwards. */
static int attach_image(struct group *g, struct member *m, struct err *e)
{
	json_t *args = json_pack("{s:s,s:s}", "driver", "file", "filename", m->file);
	struct block_node *n;
	int r = graph_node_create(g->vm->blocks, args, false, &n, e);

	json_decref(args);
	if (r)
		return r;
	r = block_attach(&m->image, n, "blockdev-snapshot-sync", BLOCK_PERM_READ |
			 BLOCK_PERM_WRITE | BLOCK_PERM_RESIZE, 0, e);
	if (r)
		graph_node_destroy(n);
	else
		n->implicit = true;	/* goes with our edge */
	return r;
}

/* Give a prepared file back as it was, unless it is another one by now or somebody else
 * uses it. A few blocks: waits no longer than an unlink(). */
static void empty_again(struct group *g, struct member *m)
{
	struct err e = ERR_INIT;
	struct stat st;
	int r;

	if (stat(m->file, &st) < 0 || st.st_dev != m->dev || st.st_ino != m->ino)
		return;
	r = m->image.node ? 0 : attach_image(g, m, &e);
	if (r == 0) {
		r = m->image.node->drv->set_length(m->image.node, 0);
		if (r)
			err_sys(&e, r, "cannot empty %s again", m->file);
	}
	if (r)
		log_warn("blockdev-snapshot-sync: %s; it holds an unused image", e.text);
}

static void over(struct group *g)
{
	struct qmp_call *call = g->call;
	struct group **p = list_of(g->q);
	struct err e = g->e;

	for (struct member *m = g->m; m < g->m + g->n; m++) {
		if (g->result && m->opened)
			block_node_del(g->vm->blocks, m->overlay, NULL);
		else if (m->opened)	/* no client's: it goes when nothing needs it */
			block_node_find(g->vm->blocks, m->overlay)->implicit = true;
		if (g->result && m->made)
			unlink(m->file);
		if (g->result && m->written)
			empty_again(g, m);
	}
	while (*p != g)
		p = &(*p)->next;
	*p = g->next;
	group_free(g);
	qmp_complete(call, NULL, &e);
}

/* ---- the thread ---- */

static void thread_main(void *arg)
{
	struct group *g = arg;

	g->result = g->stage(g, &g->e);
}

static void thread_over(void *arg)
{
	struct group *g = arg;

	g->thread = NULL;
	if (g->result)
		over(g);
	else
		g->then(g);
}

static void run_stage(struct group *g, int (*stage)(struct group *g, struct err *e),
		      void (*then)(struct group *g))
{
	int r;

	g->stage = stage;
	g->then = then;
	r = aside_start(&g->thread, g->vm->blocks, "snapshot", thread_main, thread_over, g);
	if (r) {
		g->result = err_sys(&g->e, r, "no thread for a snapshot");
		over(g);
	}
}

/* An empty file may have been prepared, with the right owner and label. */
static int make_file(struct member *m, struct err *e)
{
	struct stat st;
	int fd = open(m->file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	m->made = fd >= 0;
	if (fd < 0 && errno == EEXIST && stat(m->file, &st) == 0 && S_ISREG(st.st_mode)) {
		m->dev = st.st_dev;
		m->ino = st.st_ino;
		if (st.st_size == 0)
			return 0;
		return err_set(e, -EEXIST, "%s exists already and is not empty; choose another "
			       "name, or state mode=existing to use it as it is", m->file);
	}
	if (fd < 0)
		return err_sys(e, -errno, "cannot create %s", m->file);
	fd_close(&fd);
	return 0;
}

static int make_files(struct group *g, struct err *e)
{
	int r = 0;

	for (struct member *m = g->m; m < g->m + g->n && r == 0; m++)
		if (m->kind == SYNC && !m->existing)
			r = make_file(m, e);
	return r;
}

/* Opening others may wait for ever, or do something. */
static int open_existing(const char *path, struct err *e)
{
	struct stat st;
	int fd;

	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(e, -EINVAL, "%s is neither a regular file nor a block device; name "
			       "the overlay's file", path);
	fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	return fd < 0 ? err_sys(e, -errno, "cannot open %s", path) : fd;
}

/* Whoever prepared the image may have left it to the host's memory. */
static int sync_existing(const struct member *m, struct err *e)
{
	int fd = m->passed < 0 ? open_existing(m->file, e) : m->passed, r = 0;

	if (fd < 0)
		return fd;
	if (fdatasync(fd) < 0)
		r = err_sys(e, -errno, "cannot sync %s", m->file);
	if (fd != m->passed)
		fd_close(&fd);
	return r;
}

static int write_image(struct member *m, struct loop *l, struct err *e)
{
	int r = m->existing ? sync_existing(m, e) :
			      image_qcow2_create(m->image.node, l, &m->opts, e);

	if (r || m->passed >= 0)	/* the folder is not ours to know */
		return r;
	r = job_sync_folder(m->file);
	return r ? err_sys(e, r, "cannot sync the folder of %s", m->file) : 0;
}

static int write_images(struct group *g, struct err *e)
{
	struct loop *l;
	int r = loop_create(&l, "snapshot", g->aio, e);

	if (r)
		return r;
	for (struct member *m = g->m; m < g->m + g->n && r == 0; m++)
		if (m->kind == SYNC)
			r = write_image(m, l, e);
	loop_destroy(l);
	return r;
}

/* ---- stages on the main loop ---- */

static void switched(void *arg, int ret, const struct err *e)
{
	struct group *g = arg;

	g->snap = NULL;
	g->result = ret;
	g->e = *e;
	over(g);
}

/* The caller frees it. */
static char *free_name(struct block_graph *blocks)
{
	char *name = NULL;
	int i = 0;

	do {
		free(name);
		name = xasprintf("snapshot%d", i++);
	} while (block_node_find(blocks, name));
	return name;
}

/* The overlay's node, on a file node of its own, with the disk's cache mode. */
static int open_overlay(struct group *g, struct member *m, struct err *e)
{
	const struct block_node *top = m->keep.node;
	json_t *args;
	int r;

	if (!m->overlay)
		m->overlay = free_name(g->vm->blocks);
	args = json_pack("{s:s,s:s,s:n,s:b,s:b,s:s,s:{s:s,s:s}}", "driver", "qcow2",
			 "node-name", m->overlay, "backing",
			 "cache.direct", top->cache_direct,
			 "cache.no-flush", top->cache_no_flush, "discard",
			 top->discard == BLOCK_DISCARD_UNMAP ? "unmap" : "ignore",
			 "file", "driver", "file", "filename", m->file);
	r = block_node_open(g->vm->blocks, args, NULL, e);
	json_decref(args);
	m->opened = r == 0;
	return r;
}

static int open_overlays(struct group *g, struct err *e)
{
	int r = 0;

	for (struct member *m = g->m; m < g->m + g->n; m++)
		block_detach(&m->image);
	for (struct member *m = g->m; m < g->m + g->n && r == 0; m++) {
		if (m->kind == ABORT)
			r = err_set(e, -ECANCELED, "Transaction aborted using Abort action");
		else if (m->kind == SYNC)
			r = open_overlay(g, m, e);
	}
	return r;
}

static void do_switch(struct group *g)
{
	struct snapshot_pair pairs[SNAPSHOT_DISKS_MAX];

	g->result = open_overlays(g, &g->e);
	for (int i = 0; i < g->n && g->result == 0; i++)
		pairs[i] = (struct snapshot_pair){ g->m[i].node, g->m[i].overlay };
	if (g->result == 0)
		g->result = snapshot_start(g->vm->blocks, pairs, g->n, switched, g, &g->snap,
					   &g->e);
	if (g->result)
		over(g);
}

static void do_write(struct group *g)
{
	for (struct member *m = g->m; m < g->m + g->n && g->result == 0; m++)
		if (m->kind == SYNC && !m->existing) {
			g->result = attach_image(g, m, &g->e);
			m->written = !m->made && g->result == 0;
		}
	if (g->result)
		over(g);
	else
		run_stage(g, write_images, do_switch);
}

static void start(struct group *g)
{
	bool files = false;

	for (int i = 0; i < g->n; i++)
		files |= g->m[i].kind == SYNC;
	g->next = *list_of(g->q);
	*list_of(g->q) = g;
	g->call = qmp_defer(g->q);
	if (files)
		run_stage(g, make_files, do_write);
	else
		do_switch(g);
}

/* ---- members ---- */

static struct block_node *find_top(struct qmp *q, const struct sync_args *a, struct err *e)
{
	struct block_graph *blocks = qmp_vm(q)->blocks;
	struct drive *d = a->device ? drive_find(blocks, a->device) : NULL;
	struct block_node *n = d ? d->node : a->node ? block_node_find(blocks, a->node) : NULL;

	if (!n)
		err_set(e, -ENOENT, "Cannot find device='%.64s' nor node-name='%.64s'",
			a->device ? a->device : "", a->node ? a->node : "");
	return n;
}

static int check_sync(const struct group *g, const struct sync_args *a, struct err *e)
{
	if (strcmp(a->format, "qcow2"))
		return err_set(e, -EINVAL, "format=%.32s cannot be an overlay; use qcow2",
			       a->format);
	if (a->overlay && block_node_find(g->vm->blocks, a->overlay))
		return err_set(e, -EEXIST, "a node called '%s' exists already", a->overlay);
	for (int i = 0; i < g->n; i++)
		if (g->m[i].file && strcmp(g->m[i].file, a->file) == 0)
			return err_set(e, -EINVAL, "snapshot-file '%s' is named twice; every "
				       "overlay needs a file of its own", a->file);
	return 0;
}

static int fill_sync(struct group *g, struct member *m, const struct sync_args *a, struct err *e)
{
	struct block_node *n = find_top(g->q, a, e);
	int r = n ? check_sync(g, a, e) : -ENOENT;

	if (r == 0)
		r = graph_backing_name(n, &m->backing, e);
	if (r)
		return r;
	m->kind = SYNC;
	m->node = xstrdup(n->name);
	m->file = xstrdup(a->file);
	m->overlay = a->overlay ? xstrdup(a->overlay) : NULL;
	m->existing = a->mode == EXISTING;
	if (m->existing && fds_is_path(m->file))	/* else its node says what is wrong */
		m->passed = fds_open(g->vm->fds, m->file, O_RDWR);
	image_qcow2_defaults(&m->opts);
	m->opts.size = n->bytes;
	m->opts.backing_file = m->backing;
	m->opts.backing_format = m->backing_format = xstrdup(n->drv->name);
	/* No permissions: cannot be refused. */
	block_attach(&m->keep, n, "blockdev-snapshot-sync", 0, BLOCK_PERM_ALL, NULL);
	return 0;
}

static int add_sync(struct group *g, struct member *m, const json_t *data, struct err *e)
{
	struct sync_args a = { 0 };
	int r;

	prop_defaults(sync_tables, &a);
	r = prop_apply(sync_tables, &a, data, NULL, "blockdev-snapshot-sync", e);
	if (r == 0)
		r = fill_sync(g, m, &a, e);
	prop_free(sync_tables, &a);
	return r;
}

static int add_prepared(struct group *g, struct member *m, const json_t *data, struct err *e)
{
	m->node = xstrdup(json_str(data, "node", ""));
	m->overlay = xstrdup(json_str(data, "overlay", ""));
	return 0;
}

static int add_abort(struct group *g, struct member *m, const json_t *data, struct err *e)
{
	m->kind = ABORT;
	return 0;
}

/* ---- the commands ---- */

static const char *const action_words[] = {
	"abort", "blockdev-snapshot", "blockdev-snapshot-sync", NULL
};
typedef int add_fn(struct group *g, struct member *m, const json_t *data, struct err *e);
static add_fn *const add_member[] = { add_abort, add_prepared, add_sync };
static_assert(ARRAY_LEN(add_member) + 1 == ARRAY_LEN(action_words), "one for each word");

static int run_group(struct group *g, int r)
{
	if (r)
		group_free(g);
	else
		start(g);
	return r;
}

static int cmd_snapshot(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct group *g = group_new(q, 1);

	return run_group(g, add_prepared(g, g->m, args, e));
}

static int cmd_sync(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct group *g = group_new(q, 1);

	return run_group(g, add_sync(g, g->m, args, e));
}

static int cmd_transaction(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	json_t *actions = json_object_get(args, "actions"), *action;
	size_t i, n = json_array_size(actions), kind;
	struct group *g;
	int r = 0;

	if (n == 0)
		return 0;
	if (n > SNAPSHOT_DISKS_MAX)
		return err_set(e, -E2BIG, "a transaction of %zu actions; %d are possible", n,
			       SNAPSHOT_DISKS_MAX);
	g = group_new(q, (int)n);
	json_array_foreach(actions, i, action) {
		/* The schema has let nothing else through. */
		for (kind = 0; strcmp(action_words[kind], json_str(action, "type", "")); kind++)
			;
		if (r == 0)
			r = add_member[kind](g, &g->m[i], json_object_get(action, "data"), e);
	}
	return run_group(g, r);
}

static void fini(struct qmp *q)
{
	struct err ends = ERR_INIT;
	struct group *g;

	err_set(&ends, -ECANCELED, "the VM ends");
	while ((g = *list_of(q))) {
		if (g->thread && !aside_end(g->thread)) {
			*list_of(q) = g->next;	/* it goes on with the group */
			qmp_complete(g->call, NULL, &ends);
			continue;
		}
		if (g->snap)
			snapshot_abort(g->snap);
		g->result = -ECANCELED;
		g->e = ends;
		over(g);
	}
}

/* ---- tables ---- */

static const struct qmp_cmd cmds[] = {
	{ .name = "blockdev-snapshot", .help = "put an overlay on a disk that is in use",
	  .arg_type = "BlockdevSnapshot", .run = cmd_snapshot },
	{ .name = "blockdev-snapshot-sync", .help = "make an overlay and put it on a running disk",
	  .arg_type = "BlockdevSnapshotSync", .run = cmd_sync },
	{ .name = "transaction", .help = "snapshots of several disks, all or none",
	  .arg_type = "q_obj_transaction-arg", .run = cmd_transaction },
	{ 0 }
};

static const struct qmp_member transaction_args[] = {
	{ "actions", "[TransactionAction]" }, { "*properties", "TransactionProperties" }, { 0 }
};
static const struct qmp_member action_members[] = { { "type", "TransactionActionKind" }, { 0 } };
static const struct qmp_variant action_variants[] = {
	{ "abort", "AbortWrapper" }, { "blockdev-snapshot", "BlockdevSnapshotWrapper" },
	{ "blockdev-snapshot-sync", "BlockdevSnapshotSyncWrapper" }, { 0 }
};
static const struct qmp_member abort_wrapper[] = { { "data", "Abort" }, { 0 } };
static const struct qmp_member abort_data[] = { { 0 } };
static const struct qmp_member snapshot_wrapper[] = { { "data", "BlockdevSnapshot" }, { 0 } };
static const struct qmp_member snapshot_data[] = {
	{ "node", "str" }, { "overlay", "str" }, { 0 }
};
static const struct qmp_member sync_wrapper[] = { { "data", "BlockdevSnapshotSync" }, { 0 } };
static const char *const completion_words[] = { "individual", "grouped", NULL };
static const struct qmp_member properties[] = {
	{ "*completion-mode", "ActionCompletionMode" }, { 0 }
};

static void make_sync(struct qmp *q, json_t *info)
{
	qmp_schema_props(q, info, sync_args);
}

static const struct qmp_type types[] = {
	{ .name = "q_obj_transaction-arg", .members = transaction_args },
	{ .name = "TransactionAction", .members = action_members, .tag = "type",
	  .variants = action_variants },
	{ .name = "TransactionActionKind", .meta = QMP_ENUM, .words = action_words },
	{ .name = "AbortWrapper", .members = abort_wrapper },
	{ .name = "Abort", .members = abort_data },
	{ .name = "BlockdevSnapshotWrapper", .members = snapshot_wrapper },
	{ .name = "BlockdevSnapshot", .members = snapshot_data },
	{ .name = "BlockdevSnapshotSyncWrapper", .members = sync_wrapper },
	{ .name = "BlockdevSnapshotSync", .make = make_sync },
	{ .name = "TransactionProperties", .members = properties },
	{ .name = "ActionCompletionMode", .meta = QMP_ENUM, .words = completion_words },
	{ .name = "NewImageMode", .meta = QMP_ENUM, .words = mode_words },
	{ 0 }
};

const struct qmp_table qmp_table_snapshot = { .cmds = cmds, .types = types, .fini = fini };

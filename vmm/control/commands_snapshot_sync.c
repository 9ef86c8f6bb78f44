/*
 * vmm/control/commands_snapshot_sync.c - QMP's blockdev-snapshot-sync: make an
 * overlay and put it on a running disk, in one command.
 *
 * Spec:    QEMU's qapi/block-core.json (BlockdevSnapshotSync).
 * Threads: main loop; the image is written on a thread of its own, and the client
 *          waits, nobody else does.
 * Missing: formats other than qcow2.
 *
 *	make	thread: create the file (mode absolute-paths), refuse one with data
 *	write	thread: an empty qcow2 image in it; image and folder entry durable
 *	switch	block/snapshot.c
 *
 * Whatever fails, the disk keeps its old chain; a file that was made is removed.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/graph.h"
#include "block/image.h"
#include "block/snapshot.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/control/job.h"
#include "vmm/control/qmp.h"
#include "vmm/core/vm.h"
#include "vmm/loop/loop.h"

extern const struct qmp_table qmp_table_snapshot_sync;

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

/* One command under way. */
struct sync {
	struct qmp *q;
	struct vm *vm;
	struct qmp_call *call;
	struct block_child keep;	/* the disk's top node */
	char *file, *overlay;
	bool existing, made;		/* made: by us, to be removed on failure */
	char *backing, *backing_format;
	struct image_qcow2_opts opts;
	struct block_child image;	/* the file's node, while the thread writes */
	struct snapshot *snap;
	bool threading;
	int (*stage)(struct sync *s, struct err *e);	/* on the thread */
	void (*then)(struct sync *s);			/* back on the main loop */
	int result;
	struct err e;
	pthread_t thread;
	struct loop_work work;
	struct sync *next;
};

static struct sync **list_of(struct qmp *q)
{
	return (struct sync **)qmp_state(q, &qmp_table_snapshot_sync);
}

static void release(struct sync *s)
{
	struct sync **p = list_of(s->q);

	while (*p != s)
		p = &(*p)->next;
	*p = s->next;
	block_detach(&s->image);
	block_detach(&s->keep);
	free(s->file);
	free(s->overlay);
	free(s->backing);
	free(s->backing_format);
	free(s);
}

static void over(struct sync *s)
{
	struct qmp_call *call = s->call;
	struct err e = s->e;

	if (s->result && s->made)
		unlink(s->file);
	release(s);
	qmp_complete(call, NULL, &e);
}

/* ---- the thread ---- */

static void *thread_main(void *arg)
{
	struct sync *s = arg;

	s->result = s->stage(s, &s->e);
	loop_post(s->vm->main, &s->work);
	return NULL;
}

static void thread_over(struct loop_work *w)
{
	struct sync *s = container_of(w, struct sync, work);

	pthread_join(s->thread, NULL);
	s->threading = false;
	if (s->result)
		over(s);
	else
		s->then(s);
}

static void run_stage(struct sync *s, int (*stage)(struct sync *s, struct err *e),
		      void (*then)(struct sync *s))
{
	int r;

	s->stage = stage;
	s->then = then;
	r = pthread_create(&s->thread, NULL, thread_main, s);
	if (r) {
		s->result = err_sys(&s->e, -r, "no thread for a snapshot");
		over(s);
		return;
	}
	pthread_setname_np(s->thread, "snapshot");
	s->threading = true;
}

/* An empty file may have been prepared, with the right owner and label. */
static int make_file(struct sync *s, struct err *e)
{
	struct stat st;
	int fd = open(s->file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	s->made = fd >= 0;
	if (fd < 0 && errno == EEXIST && stat(s->file, &st) == 0 && S_ISREG(st.st_mode)) {
		if (st.st_size == 0)
			return 0;
		return err_set(e, -EEXIST, "%s exists already and is not empty; choose another "
			       "name, or state mode=existing to use it as it is", s->file);
	}
	if (fd < 0)
		return err_sys(e, -errno, "cannot create %s", s->file);
	fd_close(&fd);
	return 0;
}

static int write_image(struct sync *s, struct err *e)
{
	struct loop *l;
	int r = loop_create(&l, "snapshot", s->vm->aio, e);

	if (r)
		return r;
	r = image_qcow2_create(s->image.node, l, &s->opts, e);
	loop_destroy(l);
	if (r)
		return r;
	r = job_sync_folder(s->file);
	return r ? err_sys(e, r, "cannot sync the folder of %s", s->file) : 0;
}

/* ---- stages on the main loop ---- */

static void switched(void *arg, int ret, const struct err *e)
{
	struct sync *s = arg;
	struct block_node *n = block_node_find(s->vm->blocks, s->overlay);

	s->snap = NULL;
	s->result = ret;
	s->e = *e;
	if (ret && n)
		block_node_del(s->vm->blocks, s->overlay, NULL);
	over(s);
}

/* The overlay's node, on a file node of its own, with the disk's cache mode. */
static int open_overlay(struct sync *s, struct err *e)
{
	const struct block_node *top = s->keep.node;
	json_t *args = json_pack("{s:s,s:s,s:n,s:b,s:b,s:s,s:{s:s,s:s}}", "driver", "qcow2",
				 "node-name", s->overlay, "backing",
				 "cache.direct", top->cache_direct,
				 "cache.no-flush", top->cache_no_flush, "discard",
				 top->discard == BLOCK_DISCARD_UNMAP ? "unmap" : "ignore",
				 "file", "driver", "file", "filename", s->file);
	int r = block_node_open(s->vm->blocks, args, NULL, e);

	json_decref(args);
	return r;
}

static void do_switch(struct sync *s)
{
	struct snapshot_pair p = { s->keep.node->name, s->overlay };

	block_detach(&s->image);
	s->result = open_overlay(s, &s->e);
	if (s->result == 0) {
		s->result = snapshot_start(s->vm->blocks, &p, 1, switched, s, &s->snap, &s->e);
		if (s->result)
			block_node_del(s->vm->blocks, s->overlay, NULL);
	}
	if (s->result)
		over(s);
}

/* The file is there: a node for the thread to write through, gone afterwards. */
static void do_write(struct sync *s)
{
	json_t *args = json_pack("{s:s,s:s}", "driver", "file", "filename", s->file);
	struct block_node *n;

	s->result = graph_node_create(s->vm->blocks, args, false, &n, &s->e);
	json_decref(args);
	if (s->result == 0) {
		s->result = block_attach(&s->image, n, "blockdev-snapshot-sync", BLOCK_PERM_READ |
					 BLOCK_PERM_WRITE | BLOCK_PERM_RESIZE, 0, &s->e);
		if (s->result)
			graph_node_destroy(n);
		else
			n->implicit = true;	/* goes with our edge */
	}
	if (s->result)
		over(s);
	else
		run_stage(s, write_image, do_switch);
}

/* ---- the command ---- */

static struct block_node *find_top(struct qmp *q, const struct sync_args *a, struct err *e)
{
	struct block_graph *g = qmp_vm(q)->blocks;
	struct drive *d = a->device ? drive_find(g, a->device) : NULL;
	struct block_node *n = d ? d->node : a->node ? block_node_find(g, a->node) : NULL;

	if (!n)
		err_set(e, -ENOENT, "Cannot find device='%.64s' nor node-name='%.64s'",
			a->device ? a->device : "", a->node ? a->node : "");
	return n;
}

/* The caller frees it. */
static char *free_name(struct block_graph *g)
{
	char *name = NULL;
	int i = 0;

	do {
		free(name);
		name = xasprintf("snapshot%d", i++);
	} while (block_node_find(g, name));
	return name;
}

/* @backing becomes the snapshot's. */
static void describe(struct sync *s, const struct block_node *n, char *backing)
{
	image_qcow2_defaults(&s->opts);
	s->opts.size = n->bytes;
	s->opts.backing_file = s->backing = backing;
	s->opts.backing_format = s->backing_format = xstrdup(n->drv->name);
}

static int check(struct qmp *q, const struct sync_args *a, struct err *e)
{
	if (strcmp(a->format, "qcow2"))
		return err_set(e, -EINVAL, "format=%.32s cannot be an overlay; use qcow2",
			       a->format);
	if (a->overlay && block_node_find(qmp_vm(q)->blocks, a->overlay))
		return err_set(e, -EEXIST, "a node called '%s' exists already", a->overlay);
	return 0;
}

static int cmd_sync(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct sync_args *a = args;
	struct block_node *n = find_top(q, a, e);
	char *backing = NULL;
	struct sync *s;
	int r = n ? check(q, a, e) : -ENOENT;

	if (r == 0)
		r = graph_backing_name(n, &backing, e);
	if (r)
		return r;
	s = xcalloc(1, sizeof(*s));
	s->q = q;
	s->vm = qmp_vm(q);
	s->e = (struct err)ERR_INIT;
	s->work.cb = thread_over;
	s->file = xstrdup(a->file);
	s->overlay = a->overlay ? xstrdup(a->overlay) : free_name(s->vm->blocks);
	s->existing = a->mode == EXISTING;
	describe(s, n, backing);
	block_attach(&s->keep, n, "blockdev-snapshot-sync", 0, BLOCK_PERM_ALL, NULL);
	s->next = *list_of(q);
	*list_of(q) = s;
	s->call = qmp_defer(q);
	if (s->existing)
		do_switch(s);
	else
		run_stage(s, make_file, do_write);
	return 0;
}

static void fini(struct qmp *q)
{
	struct sync *s;

	while ((s = *list_of(q))) {
		if (s->threading) {
			pthread_join(s->thread, NULL);
			loop_work_cancel(s->vm->main, &s->work);
		}
		if (s->snap)
			snapshot_abort(s->snap);
		s->result = err_set(&s->e, -ECANCELED, "the VM ends");
		over(s);
	}
}

static const struct qmp_cmd cmds[] = {
	{ .name = "blockdev-snapshot-sync", .help = "make an overlay and put it on a running disk",
	  .args = sync_args, .args_size = sizeof(struct sync_args), .run = cmd_sync },
	{ 0 }
};

static const struct qmp_type types[] = {
	{ .name = "NewImageMode", .meta = QMP_ENUM, .words = mode_words },
	{ 0 }
};

const struct qmp_table qmp_table_snapshot_sync = { .cmds = cmds, .types = types, .fini = fini };

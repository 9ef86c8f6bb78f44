/*
 * vmm/control/commands_stream.c - QMP's block-stream: a disk takes over what its
 * backing files have, as a job.
 *
 * Spec:    QEMU's qapi/block-core.json (block-stream).
 * Threads: main loop; the copying on the job's thread, on a loop of its own.
 * Missing: streaming into a node that is not a disk's top.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/stream.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/control/job.h"
#include "vmm/control/qmp.h"
#include "vmm/core/vm.h"
#include "vmm/loop/loop.h"

struct stream_args {
	char *id, *device, *base, *base_node, *bottom, *backing;
	uint64_t speed;
	int on_error;
	bool finalize, dismiss;
};

static const struct prop stream_args[] = {
	PROP_STR(struct stream_args, id, "job-id", NULL, "name of the job; the disk's without"),
	PROP_STR(struct stream_args, device, "device", NULL, "the disk, or its top node",
		 .flags = PROP_REQUIRED),
	PROP_STR(struct stream_args, base, "base", NULL,
		 "file of the backing node that stays; without: none stays"),
	PROP_STR(struct stream_args, base_node, "base-node", NULL, "the same by its node-name"),
	PROP_STR(struct stream_args, bottom, "bottom", NULL,
		 "the last node that is taken over, instead of the one that stays below it"),
	PROP_STR(struct stream_args, backing, "backing-file", NULL,
		 "what the image shall call it"),
	PROP_U64(struct stream_args, speed, "speed", 0, JOB_SPEED_MAX, 0, "at most; 0: no limit",
		 .unit = "bytes/s"),
	PROP_ENUM(struct stream_args, on_error, "on-error", job_on_error_words, JOB_REPORT,
		  "end the job, try again each second, or pause it", .kind = "BlockdevOnError"),
	PROP_BOOL(struct stream_args, finalize, "auto-finalize", true,
		  "false: the chain changes at job-finalize"),
	PROP_BOOL(struct stream_args, dismiss, "auto-dismiss", true,
		  "false: the job stays until job-dismiss"),
	PROP_END
};

struct work {
	struct stream *s;
	struct job *j;
	enum loop_aio aio;
};

static int pace(void *arg, uint64_t bytes, uint64_t done, uint64_t all)
{
	return job_pace(arg, bytes, done, all);
}

/* Of a layer and into the top: both look like reading. */
static int failed(void *arg, int err)
{
	return job_failed(arg, false, err);
}

static int run(struct job *j, void *arg, struct err *e)
{
	struct work *w = arg;
	struct loop *l;
	int r = loop_create(&l, "stream", w->aio, e);

	if (r)
		return r;
	r = stream_run(w->s, l, pace, failed, j, e);
	loop_destroy(l);
	return r;
}

static void switched(void *arg, int ret, const struct err *e)
{
	struct work *w = arg;

	job_completed(w->j, ret, e);
}

static void complete(struct job *j, void *arg, int ret, const struct err *e)
{
	struct work *w = arg;

	w->j = j;
	if (ret)
		switched(w, ret, e);
	else
		stream_switch(w->s, switched, w);
}

static void end(void *arg)
{
	struct work *w = arg;

	stream_destroy(w->s);
	free(w);
}

static const struct job_ops stream_job = {
	.type = "stream", .run = run, .end = end, .complete = complete, .block = true
};

/* The node below the disk @top whose file is @path. */
static int find_base(struct block_graph *g, const char *top, const char *path, const char **name,
		     struct err *e)
{
	const struct block_node *n = block_disk_find(g, top);

	n = n ? block_chain_find(n->backing.node, path) : NULL;
	if (!n)
		return err_set(e, -ENOENT, "base '%.200s' is no backing file of '%.64s'", path, top);
	*name = n->name;
	return 0;
}

/* What stays below node @bottom of the disk @top; NULL: nothing. */
static int find_below(struct block_graph *g, const char *top, const char *bottom,
		      const char **name, struct err *e)
{
	const struct block_node *n = block_disk_find(g, top);

	for (n = n ? n->backing.node : NULL; n && strcmp(n->name, bottom); n = n->backing.node)
		;
	if (!n)
		return err_set(e, -ENOENT, "bottom '%.64s' is no backing node of '%.64s'", bottom,
			       top);
	*name = n->backing.node ? n->backing.node->name : NULL;
	return 0;
}

static int base_of(struct block_graph *g, const struct stream_args *a, const char **base,
		   struct err *e)
{
	if (!!a->base + !!a->base_node + !!a->bottom > 1)
		return err_set(e, -EINVAL, "'base', 'base-node' and 'bottom' cannot be specified at "
			       "the same time");
	if (a->backing && !a->base && !a->base_node && !a->bottom)
		return err_set(e, -EINVAL, "backing-file specified, but streaming the entire chain");
	*base = a->base_node;
	if (a->bottom)
		return find_below(g, a->device, a->bottom, base, e);
	return a->base ? find_base(g, a->device, a->base, base, e) : 0;
}

static int cmd_stream(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct block_graph *g = qmp_vm(q)->blocks;
	struct stream_args *a = args;
	struct job_block_opts o = { a->speed, (enum job_on_error)a->on_error, a->finalize,
				    a->dismiss };
	const char *base = NULL;
	struct work *w;
	int r = base_of(g, a, &base, e);

	if (r)
		return r;
	w = xcalloc(1, sizeof(*w));
	w->aio = qmp_vm(q)->aio;
	r = stream_create(g, a->device, base, a->backing, &w->s, e);
	if (r == 0)
		r = job_start_block(q, a->id ? a->id : a->device, &stream_job, &o, w, e);
	if (r && w->s)
		stream_destroy(w->s);
	if (r)
		free(w);
	return r;
}

static const struct qmp_cmd cmds[] = {
	{ .name = "block-stream", .help = "take over what a disk's backing files have, as a job",
	  .args = stream_args, .args_size = sizeof(struct stream_args), .run = cmd_stream },
	{ 0 }
};

const struct qmp_table qmp_table_stream = { .cmds = cmds };

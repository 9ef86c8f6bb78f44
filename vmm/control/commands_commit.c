/*
 * vmm/control/commands_commit.c - QMP's block-commit: what lies above a backing file
 * goes into that file, as a job.
 *
 * Spec:    QEMU's qapi/block-core.json (block-commit).
 * Threads: main loop; the copying on the job's thread, on a loop of its own.
 * Missing: nothing known.
 *
 * The command answers once the base is writable, so that a client hears at once what
 * is in the way.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/commit.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/control/job.h"
#include "vmm/control/qmp.h"
#include "vmm/core/vm.h"
#include "vmm/loop/loop.h"

extern const struct qmp_table qmp_table_commit;

struct commit_args {
	char *id, *device, *base, *base_node, *top, *top_node, *backing, *filter;
	uint64_t speed;
	int on_error;
	bool finalize, dismiss;
};

static const struct prop commit_args[] = {
	PROP_STR(struct commit_args, id, "job-id", NULL, "name of the job; the disk's without"),
	PROP_STR(struct commit_args, device, "device", NULL, "the disk, or its top node",
		 .flags = PROP_REQUIRED),
	PROP_STR(struct commit_args, base, "base", NULL,
		 "file of the backing node that is written to; without: the last of the chain"),
	PROP_STR(struct commit_args, base_node, "base-node", NULL, "the same by its node-name"),
	PROP_STR(struct commit_args, top, "top", NULL,
		 "file of the highest node that goes into it; without: the disk's own"),
	PROP_STR(struct commit_args, top_node, "top-node", NULL, "the same by its node-name"),
	PROP_STR(struct commit_args, backing, "backing-file", NULL,
		 "what the image above the top shall call the base"),
	PROP_U64(struct commit_args, speed, "speed", 0, JOB_SPEED_MAX, 0, "at most; 0: no limit",
		 .unit = "bytes/s"),
	PROP_ENUM(struct commit_args, on_error, "on-error", job_on_error_words, JOB_REPORT,
		  "end the job, try again each second, or pause it", .kind = "BlockdevOnError"),
	PROP_STR(struct commit_args, filter, "filter-node-name", NULL,
		 "accepted; no node is inserted"),
	PROP_BOOL(struct commit_args, finalize, "auto-finalize", true,
		  "false: the chain changes at job-finalize"),
	PROP_BOOL(struct commit_args, dismiss, "auto-dismiss", true,
		  "false: the job stays until job-dismiss"),
	PROP_END
};

struct work {
	struct commit *c;
	struct qmp *q;
	struct qmp_call *call;		/* until it is answered */
	char *id;
	struct job_block_opts opts;
	enum loop_aio aio;
	struct job *j;
	struct work *next;		/* those that have not begun */
};

static struct work **waiting(struct qmp *q)
{
	return (struct work **)qmp_state(q, &qmp_table_commit);
}

static void work_free(struct work *w)
{
	if (w->c)
		commit_destroy(w->c);
	free(w->id);
	free(w);
}

/* ---- the job ---- */

static int pace(void *arg, uint64_t bytes, uint64_t done, uint64_t all)
{
	return job_pace(arg, bytes, done, all);
}

static int ready(void *arg, uint64_t done, uint64_t all)
{
	static const int wishes[] = {
		[JOB_GO_ON] = COMMIT_GO_ON, [JOB_COMPLETE] = COMMIT_COMPLETE,
		[JOB_STOP] = COMMIT_STOP
	};
	int r = job_ready(arg, done, all);

	return r < 0 ? r : wishes[r];
}

static int failed(void *arg, bool write, int err)
{
	return job_failed(arg, write, err);
}

static bool stopped(void *arg)
{
	return job_is_cancelled(arg);
}

static void post(void *arg, struct loop_work *w)
{
	job_post(arg, w);
}

static int run(struct job *j, void *arg, struct err *e)
{
	struct work *w = arg;
	struct commit_watch watch = { pace, ready, failed, stopped, post, j };
	struct loop *l;
	int r = loop_create(&l, "commit", w->aio, e);

	if (r)
		return r;
	r = commit_run(w->c, l, &watch, e);
	loop_destroy(l);
	return r;
}

static void ended(void *arg, int ret, const struct err *e)
{
	job_completed(((struct work *)arg)->j, ret, e);
}

static void complete(struct job *j, void *arg, int ret, const struct err *e)
{
	struct work *w = arg;

	w->j = j;
	commit_end(w->c, ret, e, ended, w);
}

static void end(void *arg)
{
	work_free(arg);
}

static const struct job_ops commit_job = {
	.type = "commit", .run = run, .end = end, .complete = complete, .block = true
};

/* ---- the command ---- */

/* Without a job after all: the command's answer is the error. */
static void undone(void *arg, int ret, const struct err *e)
{
	struct work *w = arg;

	qmp_complete(w->call, NULL, e);
	work_free(w);
}

static void begun(void *arg, int ret, const struct err *e)
{
	struct work *w = arg, **p = waiting(w->q);
	struct qmp_call *call = w->call;
	struct err why = *e;
	int r = ret;

	while (*p != w)
		p = &(*p)->next;
	*p = w->next;
	if (r) {
		undone(w, r, &why);
		return;
	}
	r = job_start_block(w->q, w->id, &commit_job, &w->opts, w, &why);
	if (r)
		commit_end(w->c, r, &why, undone, w);
	else
		qmp_complete(call, NULL, &why);
}

/* The node-name that an argument means, which may name the node or its file. */
static int find(struct block_graph *g, const char *disk, const char *file, const char *node,
		const char *what, const char **name, struct err *e)
{
	struct block_node *n = block_disk_find(g, disk);

	if (file && node)
		return err_set(e, -EINVAL, "'%s-node' and '%s' are mutually exclusive", what, what);
	*name = node;
	if (!file || !n)
		return 0;
	n = block_chain_find(n, file);
	if (!n)
		return err_set(e, -ENOENT, "%s '%.200s' is no file of the chain of '%.64s'", what,
			       file, disk);
	*name = n->name;
	return 0;
}

static int check(const struct commit_args *a, struct err *e)
{
	if (a->backing && !a->top && !a->top_node)
		return err_set(e, -EINVAL, "backing-file specified, but the top is the disk's own, "
			       "and no image stands on it");
	return 0;
}

static int cmd_commit(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct block_graph *g = qmp_vm(q)->blocks;
	struct commit_args *a = args;
	struct commit_opts o = { .disk = a->device, .backing_name = a->backing };
	struct work *w;
	int r = check(a, e);

	if (r == 0)
		r = find(g, a->device, a->base, a->base_node, "base", &o.base, e);
	if (r == 0)
		r = find(g, a->device, a->top, a->top_node, "top", &o.top, e);
	if (r)
		return r;
	w = xcalloc(1, sizeof(*w));
	w->q = q;
	w->aio = qmp_vm(q)->aio;
	w->id = xstrdup(a->id ? a->id : a->device);
	w->opts = (struct job_block_opts){ a->speed, (enum job_on_error)a->on_error,
					   a->finalize, a->dismiss };
	r = commit_start(g, &o, begun, w, &w->c, e);
	if (r) {
		work_free(w);
		return r;
	}
	w->call = qmp_defer(q);
	w->next = *waiting(q);
	*waiting(q) = w;
	return 0;
}

static void fini(struct qmp *q)
{
	struct work *w;

	while ((w = *waiting(q))) {
		*waiting(q) = w->next;
		work_free(w);
	}
}

static const struct qmp_cmd cmds[] = {
	{ .name = "block-commit", .help = "write what lies above a backing file into it, as a job",
	  .args = commit_args, .args_size = sizeof(struct commit_args), .run = cmd_commit },
	{ 0 }
};

const struct qmp_table qmp_table_commit = { .cmds = cmds, .fini = fini };

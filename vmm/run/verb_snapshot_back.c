/*
 * vmm/run/verb_snapshot_back.c - `roost snapshot delete` and `revert`.
 *
 * Threads: the only one of the process.
 * Missing: revert of a VM that does not run, whose chains nothing but it knows.
 *
 * A snapshot is the file that was put on a disk then (verb_snapshot.c). Deleted, that
 * file's content goes into the one below it: block-commit. To revert, the disk gets an
 * empty file on the one below it, as for a new snapshot, with the guest stopped and
 * then reset.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/run/snapshot.h"

#define LOOK_NS		(200 * NS_PER_MS)

/* A disk that has the snapshot. All is borrowed. */
struct found {
	const json_t *disk;		/* BlockInfo */
	const json_t *root, *top, *base;	/* BlockDeviceInfo: disk's own, snapshot, below */
};

static const char *node_name(const json_t *n)
{
	return json_str(n, "node-name", "");
}

/* The snapshot in the chain of @b, the last one of that name. */
static bool find_on(const struct snap *s, const json_t *b, struct found *f)
{
	const json_t *n = json_object_get(b, "inserted"), *next;
	bool hit = false;
	char *name;

	*f = (struct found){ .disk = b, .root = n };
	for (int i = 0; n && !hit && i < SNAP_CHAIN_MAX; i++, n = next) {
		next = snap_below(s, n);
		name = snap_name_of(json_str(n, "file", ""));
		hit = next && strcmp(name, s->name) == 0;
		free(name);
		f->top = n;
		f->base = next;
	}
	return hit;
}

static int find(struct snap *s, struct found *f, int *n, struct err *e)
{
	json_t *b;
	size_t i;

	*n = 0;
	json_array_foreach(s->list, i, b)
		if (*n < SNAP_DISKS_MAX && snap_is_wanted(s, b) && find_on(s, b, &f[*n]))
			++*n;
	if (*n)
		return 0;
	return err_set(e, -ENOENT, "%s has no snapshot '%s'%s; roost snapshot list %s lists them",
		       s->vm, s->name, s->disks ? " on that disk" : "", s->vm);
}

/* Nodes that were added for files nobody needs any more; those that the VM itself
 * opened went with their last user. */
static void forget_nodes(struct snap *s, const json_t *from, const json_t *to)
{
	for (const json_t *n = from, *next; n && n != to; n = next) {
		next = snap_below(s, n);
		qmpc_run(s->q, "blockdev-del", json_pack("{s:s}", "node-name", node_name(n)), NULL,
			 NULL);
	}
}

/* ---- delete ---- */

/* What query-jobs says of @id; the caller's, NULL: nothing. */
static json_t *job_info(struct snap *s, const char *id, struct err *e)
{
	json_t *jobs = NULL, *job, *hit = NULL;
	size_t i;

	if (qmpc_run(s->q, "query-jobs", NULL, &jobs, e))
		return NULL;
	json_array_foreach(jobs, i, job)
		if (strcmp(json_str(job, "id", ""), id) == 0)
			hit = json_incref(job);
	json_decref(jobs);
	if (!hit)
		err_set(e, -ENOENT, "%s: its job '%s' was dismissed by someone else", s->vm, id);
	return hit;
}

static void show(const char *file, const json_t *job, uint64_t since)
{
	double all = json_number_value(json_object_get(job, "total-progress"));
	double done = json_number_value(json_object_get(job, "current-progress"));
	char text[128];

	snprintf(text, sizeof(text), "%.80s: %.0f %%", file, all > 0 ? done * 100 / all : 0);
	verb_progress(text, since);
}

/* Follow the job to its end. */
static int await_job(struct snap *s, const char *id, const char *file, struct err *e)
{
	static const struct timespec look = { .tv_nsec = LOOK_NS };
	uint64_t since = clock_ns();
	bool completing = false, over = false;
	json_t *job;
	int r = 0;

	while (r == 0 && !over) {
		job = job_info(s, id, e);
		if (!job)
			return -EREMOTEIO;
		over = strcmp(json_str(job, "status", ""), "concluded") == 0;
		if (over && json_str(job, "error", NULL)) {
			r = err_set(e, -EREMOTEIO, "%s", json_str(job, "error", NULL));
		} else if (!over && !completing && strcmp(json_str(job, "status", ""), "ready") == 0) {
			r = qmpc_run(s->q, "job-complete", json_pack("{s:s}", "id", id), NULL, e);
			completing = true;
		} else if (!over) {
			show(file, job, since);
			nanosleep(&look, NULL);
		}
		json_decref(job);
	}
	verb_progress_end();
	if (over)
		qmpc_run(s->q, "job-dismiss", json_pack("{s:s}", "id", id), NULL, NULL);
	return r;
}

static int delete_one(struct snap *s, const struct found *f, struct err *e)
{
	const char *file = json_str(f->top, "file", "");
	json_t *args;
	char id[48];
	int r;

	snprintf(id, sizeof(id), "s%llx", (unsigned long long)clock_ns());
	args = json_pack("{s:s, s:s, s:s, s:b}", "job-id", id, "device", node_name(f->root),
			 "base-node", node_name(f->base), "auto-dismiss", 0);
	if (f->top != f->root)
		json_put_str(args, "top-node", node_name(f->top));
	r = qmpc_run(s->q, "block-commit", args, NULL, e);
	if (r == 0)
		r = await_job(s, id, file, e);
	if (r)
		return err_prefix(e, "snapshot: %s", file), r;
	forget_nodes(s, f->top, f->base);
	if (unlink(file) < 0)
		return err_sys(e, -errno, "snapshot: %s is not needed any more, and cannot be removed",
			       file);
	printf("%s: removed, what it had is in %s\n", file, json_str(f->base, "file", ""));
	return 0;
}

int snap_delete(struct snap *s, struct err *e)
{
	struct found *f = xcalloc(SNAP_DISKS_MAX, sizeof(*f));
	int n, r = find(s, f, &n, e);

	for (int i = 0; i < n && r == 0; i++)
		r = delete_one(s, &f[i], e);
	free(f);
	if (r == 0)
		printf("%s: snapshot %s deleted\n", s->vm, s->name);
	return r;
}

/* ---- revert ---- */

/* "root.monday-1582605802.qcow2" beside "root.monday.qcow2". */
static char *new_file(const char *file)
{
	const char *dot = strrchr(file, '.'), *slash = strrchr(file, '/');
	size_t len = dot && dot > slash ? (size_t)(dot - file) : strlen(file);

	return xasprintf("%.*s-%lld.qcow2", (int)len, file, (long long)time(NULL));
}

/* An empty image for each disk, with the length that the disk has now. */
static int make_all(struct snap *s, const struct found *f, int n, struct err *e)
{
	int r = 0;

	for (int i = 0; i < n && r == 0; i++) {
		struct snap_overlay *o = &s->overlay[s->overlays++];

		*o = (struct snap_overlay){ .disk = f[i].root, .below = f[i].base,
					    .file = new_file(json_str(f[i].top, "file", "")) };
		snprintf(o->node, sizeof(o->node), "s%llx-%d", (unsigned long long)clock_ns(), i);
		r = snap_make(s, o, e);
	}
	return r;
}

/* On top of the disks, then off everything that was written since. */
static int put_on_bases(struct snap *s, const struct found *f, int n, struct err *e)
{
	json_t *options = json_array(), *cache;
	int r = snap_switch(s, e);

	for (int i = 0; i < n; i++) {
		cache = json_object_get(s->overlay[i].disk, "cache");
		json_array_append_new(options, json_pack(
			"{s:s, s:s, s:s, s:{s:b, s:b}, s:{s:s, s:s}}", "driver", "qcow2",
			"node-name", s->overlay[i].node, "backing", node_name(f[i].base), "cache",
			"direct", json_is_true(json_object_get(cache, "direct")), "no-flush",
			json_is_true(json_object_get(cache, "no-flush")), "file", "driver", "file",
			"filename", s->overlay[i].file));
	}
	if (r) {
		snap_undo(s);
		json_decref(options);
		return r;
	}
	return qmpc_run(s->q, "blockdev-reopen", json_pack("{s:o}", "options", options), NULL, e);
}

static int is_running(struct snap *s, bool *running, struct err *e)
{
	json_t *status = NULL;
	int r = qmpc_run(s->q, "query-status", NULL, &status, e);

	*running = json_is_true(json_object_get(status, "running"));
	json_decref(status);
	return r;
}

int snap_revert(struct snap *s, struct err *e)
{
	struct found *f = xcalloc(SNAP_DISKS_MAX, sizeof(*f));
	bool running = false;
	int n, r = find(s, f, &n, e);

	if (r == 0)
		r = is_running(s, &running, e);
	if (r == 0)
		r = make_all(s, f, n, e);
	if (r)
		snap_undo(s);
	if (r == 0 && running)
		r = qmpc_run(s->q, "stop", NULL, NULL, e);
	if (r == 0) {
		r = put_on_bases(s, f, n, e);
		if (r == 0)
			r = qmpc_run(s->q, "system_reset", NULL, NULL, e);
		if (running)
			qmpc_run(s->q, "cont", NULL, NULL, r ? NULL : e);
	}
	for (int i = 0; i < n && r == 0; i++) {
		forget_nodes(s, f[i].root, f[i].base);
		printf("%s: as it was at %s, and goes on in %s\n", json_str(f[i].base, "file", ""),
		       s->name, s->overlay[i].file);
	}
	if (r == 0)
		printf("%s: reverted to snapshot %s, and %s\n", s->vm, s->name,
		       running ? "reset" : "reset; it is paused");
	free(f);
	return r;
}

/*
 * vmm/control/commands_job.c - QMP's jobs: query-jobs, job-dismiss, job-cancel.
 *
 * Spec:    QEMU's qapi/job.json.
 * Threads: main loop; a job's work on its own thread, which touches nothing of
 *          struct job but its progress and its result.
 * Missing: pausing, manual finalizing; a running job cannot be cancelled.
 */
#include "vmm/control/job.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/util.h"
#include "vmm/control/qmp.h"
#include "vmm/core/vm.h"

extern const struct qmp_table qmp_table_job;

#define JOBS_MAX	256	/* a client that never dismisses */

enum job_status { CREATED, RUNNING, WAITING, PENDING, CONCLUDED, GONE };

static const char *const status_words[] = {
	[CREATED] = "created", [RUNNING] = "running", [WAITING] = "waiting",
	[PENDING] = "pending", [CONCLUDED] = "concluded", [GONE] = "null", NULL
};

struct job {
	char *id;
	struct qmp *q;
	const struct job_ops *ops;
	void *arg;
	enum job_status status;
	_Atomic uint64_t done, all;
	int result;			/* thread, then main loop */
	struct err e;
	pthread_t thread;
	struct loop_work work;
	struct job *next;
};

static struct job **jobs_of(struct qmp *q)
{
	return (struct job **)qmp_state(q, &qmp_table_job);
}

static struct job *find(struct qmp *q, const char *id)
{
	struct job *j = *jobs_of(q);

	while (j && strcmp(j->id, id))
		j = j->next;
	return j;
}

static void set_status(struct job *j, enum job_status s)
{
	j->status = s;
	vm_event(qmp_vm(j->q), "JOB_STATUS_CHANGE",
		 json_pack("{s:s,s:s}", "id", j->id, "status", status_words[s]));
}

void job_progress(struct job *j, uint64_t done, uint64_t all)
{
	atomic_store(&j->all, all);
	atomic_store(&j->done, done);
}

static void *job_thread(void *arg)
{
	struct job *j = arg;

	j->result = j->ops->run(j, j->arg, &j->e);
	loop_post(qmp_vm(j->q)->main, &j->work);
	return NULL;
}

/* Clients follow the whole path, also where nothing happens on it. */
static void finished(struct loop_work *w)
{
	struct job *j = container_of(w, struct job, work);

	pthread_join(j->thread, NULL);
	j->ops->end(j->arg);
	if (j->result == 0) {
		set_status(j, WAITING);
		set_status(j, PENDING);
	}
	set_status(j, CONCLUDED);
}

static int check_id(struct qmp *q, const char *id, struct err *e)
{
	bool good = isalpha((unsigned char)*id);
	int n = 0;

	for (const char *p = id; *p; p++)
		good &= isalnum((unsigned char)*p) || strchr("-._", *p);
	if (!good)
		return err_set(e, -EINVAL, "Invalid job ID '%.64s'", id);
	if (find(q, id))
		return err_set(e, -EEXIST, "Job ID '%s' already in use", id);
	for (struct job *j = *jobs_of(q); j; j = j->next)
		n++;
	if (n >= JOBS_MAX)
		return err_set(e, -ENOSPC, "there are %d jobs; dismiss some with job-dismiss",
			       JOBS_MAX);
	return 0;
}

int job_start(struct qmp *q, const char *id, const struct job_ops *ops, void *arg,
	      struct err *e)
{
	struct job *j;
	int r = check_id(q, id, e);

	if (r)
		return r;
	j = xcalloc(1, sizeof(*j));
	j->id = xstrdup(id);
	j->q = q;
	j->ops = ops;
	j->arg = arg;
	j->e = (struct err)ERR_INIT;
	j->work.cb = finished;
	atomic_init(&j->all, 1);
	/* The thread's end is served after this callback: events keep order. */
	r = pthread_create(&j->thread, NULL, job_thread, j);
	if (r) {
		free(j->id);
		free(j);
		return err_sys(e, -r, "no thread for job '%s'", id);
	}
	pthread_setname_np(j->thread, "job");
	j->next = *jobs_of(q);
	*jobs_of(q) = j;
	set_status(j, CREATED);
	set_status(j, RUNNING);
	return 0;
}

/* ---- commands ---- */

static json_t *info(struct job *j)
{
	uint64_t done = j->status == CONCLUDED && j->result == 0 ? atomic_load(&j->all) :
		atomic_load(&j->done);
	json_t *o = json_pack("{s:s,s:s,s:s,s:I,s:I}", "id", j->id, "type", j->ops->type,
			      "status", status_words[j->status], "current-progress",
			      (json_int_t)done, "total-progress",
			      (json_int_t)atomic_load(&j->all));

	if (j->status == CONCLUDED && j->result)
		json_object_set_new(o, "error", json_string(j->e.text));
	return o;
}

static int query_jobs(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	*ret = json_array();
	for (struct job *j = *jobs_of(q); j; j = j->next)
		json_array_insert_new(*ret, 0, info(j));
	return 0;
}

struct job_args {
	char *id;
};

static const struct prop job_args[] = {
	PROP_STR(struct job_args, id, "id", NULL, "the job", .flags = PROP_REQUIRED),
	PROP_END
};

static void free_job(struct job *j)
{
	free(j->id);
	free(j);
}

static int cmd_dismiss(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	const char *id = ((struct job_args *)args)->id;
	struct job *j = find(q, id), **p = jobs_of(q);

	if (!j)
		return err_set(e, -ENOENT, "Job not found: '%.64s'", id);
	if (j->status != CONCLUDED)
		return err_set(e, -EBUSY, "Job '%s' in state '%s' cannot accept command verb "
			       "'dismiss'", id, status_words[j->status]);
	while (*p != j)
		p = &(*p)->next;
	*p = j->next;
	set_status(j, GONE);
	free_job(j);
	return 0;
}

static int cmd_cancel(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	const char *id = ((struct job_args *)args)->id;
	struct job *j = find(q, id);

	if (!j)
		return err_set(e, -ENOENT, "Job not found: '%.64s'", id);
	return err_set(e, -EBUSY, "Job '%s' in state '%s' cannot accept command verb 'cancel'",
		       id, status_words[j->status]);
}

static void fini(struct qmp *q)
{
	struct job *j;

	while ((j = *jobs_of(q))) {
		*jobs_of(q) = j->next;
		if (j->status != CONCLUDED) {
			pthread_join(j->thread, NULL);
			loop_work_cancel(qmp_vm(q)->main, &j->work);
			j->ops->end(j->arg);
		}
		free_job(j);
	}
}

#define JOB_ARGS .args = job_args, .args_size = sizeof(struct job_args)

static const struct qmp_cmd cmds[] = {
	{ .name = "query-jobs", .help = "jobs that are not dismissed", .run = query_jobs,
	  .ret = "[JobInfo]" },
	{ .name = "job-dismiss", .help = "forget a job that is over", JOB_ARGS,
	  .run = cmd_dismiss },
	{ .name = "job-cancel", .help = "end a job before it is over", JOB_ARGS,
	  .run = cmd_cancel },
	{ 0 }
};

static const struct qmp_event events[] = {
	{ "JOB_STATUS_CHANGE", "q_obj_JOB_STATUS_CHANGE-arg", "a job went on" },
	{ 0 }
};

static const char *const type_words[] = { "create", NULL };
static const struct qmp_member change_data[] = {
	{ "id", "str" }, { "status", "JobStatus" }, { 0 }
};
static const struct qmp_member job_info[] = {
	{ "id", "str" }, { "type", "JobType" }, { "status", "JobStatus" },
	{ "current-progress", "int" }, { "total-progress", "int" }, { "*error", "str" }, { 0 }
};

static const struct qmp_type types[] = {
	{ .name = "JobStatus", .meta = QMP_ENUM, .words = status_words },
	{ .name = "JobType", .meta = QMP_ENUM, .words = type_words },
	{ .name = "JobInfo", .members = job_info },
	{ .name = "q_obj_JOB_STATUS_CHANGE-arg", .members = change_data },
	{ 0 }
};

const struct qmp_table qmp_table_job = {
	.cmds = cmds, .events = events, .types = types, .fini = fini
};

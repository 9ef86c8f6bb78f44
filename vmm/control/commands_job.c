/*
 * vmm/control/commands_job.c - QMP's jobs: query-jobs, job-dismiss, job-cancel, …,
 * and the older commands and events of block jobs.
 *
 * Spec:    QEMU's qapi/job.json, block-core.json (BlockJobInfo).
 * Threads: main loop; a job's work on its own thread, which touches nothing of
 *          struct job but its progress, its result and, in job_pace(), the
 *          wishes of the client under the lock.
 * Missing: manual finalizing (auto-finalize=false).
 */
#include "vmm/control/job.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vmm/base/util.h"
#include "vmm/control/qmp.h"
#include "vmm/core/vm.h"

extern const struct qmp_table qmp_table_job;

#define JOBS_MAX	256	/* a client that never dismisses */

/* Work ahead of its time that need not be waited for. */
#define SLICE_NS	(100 * NS_PER_MS)

#define READY_NS	(100 * NS_PER_MS)

enum job_status {
	CREATED, RUNNING, PAUSED, READY, STANDBY, WAITING, PENDING, ABORTING, CONCLUDED, GONE
};

static const char *const status_words[] = {
	[CREATED] = "created", [RUNNING] = "running", [PAUSED] = "paused",
	[READY] = "ready", [STANDBY] = "standby",
	[WAITING] = "waiting", [PENDING] = "pending", [ABORTING] = "aborting",
	[CONCLUDED] = "concluded", [GONE] = "null", NULL
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
	bool auto_dismiss;
	bool threading;
	/* what the client wants; lock */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool paused, cancelled;
	enum job_wish wish;
	uint64_t speed;			/* bytes per second; 0: no limit */
	uint64_t free_ns;		/* thread: when the next piece may begin */
	bool told_ready;		/* thread */
	pthread_t thread;
	struct loop_work work, ready_work;
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

static void wait_until(struct job *j, uint64_t ns)
{
	struct timespec ts = { (time_t)(ns / NS_PER_SEC), (long)(ns % NS_PER_SEC) };

	pthread_cond_timedwait(&j->changed, &j->lock, &ts);
}

int job_pace(struct job *j, uint64_t bytes, uint64_t done, uint64_t all)
{
	uint64_t now = clock_ns();
	int r;

	job_progress(j, done, all);
	pthread_mutex_lock(&j->lock);
	if (j->speed)
		j->free_ns = MAX(j->free_ns, now) +
			(uint64_t)((double)bytes * (double)NS_PER_SEC / (double)j->speed);
	while (!j->cancelled) {
		now = clock_ns();
		if (j->paused)
			pthread_cond_wait(&j->changed, &j->lock);
		else if (j->speed && j->free_ns > now + SLICE_NS)
			wait_until(j, j->free_ns);
		else
			break;
	}
	r = j->cancelled ? -ECANCELED : 0;
	pthread_mutex_unlock(&j->lock);
	return r;
}

int job_ready(struct job *j, uint64_t done, uint64_t all)
{
	uint64_t end = clock_ns() + READY_NS;
	int r;

	job_progress(j, done, all);
	if (!j->told_ready)
		loop_post(qmp_vm(j->q)->main, &j->ready_work);
	j->told_ready = true;
	pthread_mutex_lock(&j->lock);
	while (!j->cancelled && (j->paused || (!j->wish && clock_ns() < end))) {
		if (j->paused)
			pthread_cond_wait(&j->changed, &j->lock);
		else
			wait_until(j, end);
	}
	r = j->cancelled ? -ECANCELED : (int)j->wish;
	pthread_mutex_unlock(&j->lock);
	return r;
}

bool job_is_cancelled(struct job *j)
{
	bool yes;

	pthread_mutex_lock(&j->lock);
	yes = j->cancelled;
	pthread_mutex_unlock(&j->lock);
	return yes;
}

static void *job_thread(void *arg)
{
	struct job *j = arg;

	j->result = j->ops->run(j, j->arg, &j->e);
	loop_post(qmp_vm(j->q)->main, &j->work);
	return NULL;
}

/* ---- the end ---- */

static json_t *block_data(const struct job *j)
{
	return json_pack("{s:s,s:s,s:I,s:I,s:I}", "type", j->ops->type, "device", j->id,
			 "len", (json_int_t)atomic_load(&j->all), "offset",
			 (json_int_t)atomic_load(&j->done), "speed", (json_int_t)j->speed);
}

static void block_event(struct job *j)
{
	bool cancelled = j->result == -ECANCELED;
	json_t *data = block_data(j);

	if (j->result && !cancelled)
		json_object_set_new(data, "error", json_string(j->e.text));
	vm_event(qmp_vm(j->q), cancelled ? "BLOCK_JOB_CANCELLED" : "BLOCK_JOB_COMPLETED", data);
}

static void unlink_job(struct job *j)
{
	struct job **p = jobs_of(j->q);

	while (*p != j)
		p = &(*p)->next;
	*p = j->next;
}

static void free_job(struct job *j)
{
	pthread_cond_destroy(&j->changed);
	pthread_mutex_destroy(&j->lock);
	free(j->id);
	free(j);
}

static void dismiss(struct job *j)
{
	unlink_job(j);
	set_status(j, GONE);
	free_job(j);
}

static void became_ready(struct loop_work *w)
{
	struct job *j = container_of(w, struct job, ready_work);

	set_status(j, j->status == PAUSED ? STANDBY : READY);
	vm_event(qmp_vm(j->q), "BLOCK_JOB_READY", block_data(j));
}

/* Clients follow the whole path, also where nothing happens on it. */
static void conclude(struct job *j)
{
	j->ops->end(j->arg);
	if (j->result == -ECANCELED)
		err_set(&j->e, -ECANCELED, "job '%s' was cancelled", j->id);
	if (j->result == 0) {
		atomic_store(&j->done, atomic_load(&j->all));
		set_status(j, WAITING);
		set_status(j, PENDING);
	} else if (j->ops->block) {
		set_status(j, ABORTING);
	}
	if (j->ops->block)
		block_event(j);
	set_status(j, CONCLUDED);
	if (j->auto_dismiss)
		dismiss(j);
}

void job_completed(struct job *j, int ret, const struct err *e)
{
	j->result = ret;
	if (ret && e)
		j->e = *e;
	conclude(j);
}

static void finished(struct loop_work *w)
{
	struct job *j = container_of(w, struct job, work);

	pthread_join(j->thread, NULL);
	j->threading = false;
	if (j->ops->complete)
		j->ops->complete(j, j->arg, j->result, &j->e);
	else
		conclude(j);
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

static struct job *job_new(struct qmp *q, const char *id, const struct job_ops *ops, void *arg)
{
	struct job *j = xcalloc(1, sizeof(*j));
	pthread_condattr_t monotonic;

	j->id = xstrdup(id);
	j->q = q;
	j->ops = ops;
	j->arg = arg;
	j->e = (struct err)ERR_INIT;
	j->work.cb = finished;
	j->ready_work.cb = became_ready;
	atomic_init(&j->all, 1);
	pthread_mutex_init(&j->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&j->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	return j;
}

int job_start_block(struct qmp *q, const char *id, const struct job_ops *ops,
		    const struct job_block_opts *o, void *arg, struct err *e)
{
	struct job *j;
	int r = check_id(q, id, e);

	if (r)
		return r;
	j = job_new(q, id, ops, arg);
	if (o) {
		j->speed = o->speed;
		j->auto_dismiss = o->auto_dismiss;
	}
	/* The thread's end is served after this callback: events keep order. */
	r = pthread_create(&j->thread, NULL, job_thread, j);
	if (r) {
		free_job(j);
		return err_sys(e, -r, "no thread for job '%s'", id);
	}
	pthread_setname_np(j->thread, "job");
	j->threading = true;
	j->next = *jobs_of(q);
	*jobs_of(q) = j;
	set_status(j, CREATED);
	set_status(j, RUNNING);
	return 0;
}

int job_start(struct qmp *q, const char *id, const struct job_ops *ops, void *arg,
	      struct err *e)
{
	return job_start_block(q, id, ops, NULL, arg, e);
}

/* ---- commands ---- */

static json_t *info(struct job *j)
{
	json_t *o = json_pack("{s:s,s:s,s:s,s:I,s:I}", "id", j->id, "type", j->ops->type,
			      "status", status_words[j->status], "current-progress",
			      (json_int_t)atomic_load(&j->done), "total-progress",
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
	uint64_t speed;
	bool force;
};

static const struct prop job_args[] = {
	PROP_STR(struct job_args, id, "id", NULL, "the job", .flags = PROP_REQUIRED),
	PROP_END
};

static int refuse(const struct job *j, const char *verb, struct err *e)
{
	return err_set(e, -EBUSY, "Job '%s' in state '%s' cannot accept command verb '%s'", j->id,
		       status_words[j->status], verb);
}

static struct job *find_or_say(struct qmp *q, void *args, struct err *e)
{
	const char *id = ((struct job_args *)args)->id;
	struct job *j = find(q, id);

	if (!j)
		err_set(e, -ENOENT, "Job not found: '%.64s'", id);
	return j;
}

static int cmd_dismiss(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct job *j = find_or_say(q, args, e);

	if (!j)
		return -ENOENT;
	if (j->status != CONCLUDED)
		return refuse(j, "dismiss", e);
	dismiss(j);
	return 0;
}

/* Work that has begun to end takes no more wishes. */
static bool is_at_work(const struct job *j)
{
	return j->ops->block && j->threading && j->status >= RUNNING && j->status <= STANDBY;
}

static bool is_paused(const struct job *j)
{
	return j->status == PAUSED || j->status == STANDBY;
}

static bool is_ready(const struct job *j)
{
	return j->status == READY || j->status == STANDBY;
}

static int cancel(struct job *j, struct err *e)
{
	if (!is_at_work(j))
		return refuse(j, "cancel", e);
	pthread_mutex_lock(&j->lock);
	j->cancelled = true;
	pthread_cond_signal(&j->changed);
	pthread_mutex_unlock(&j->lock);
	return 0;
}

static int wish(struct job *j, enum job_wish what, const char *verb, struct err *e)
{
	if (!is_at_work(j) || j->status != READY)
		return refuse(j, verb, e);
	pthread_mutex_lock(&j->lock);
	j->wish = what;
	pthread_cond_signal(&j->changed);
	pthread_mutex_unlock(&j->lock);
	return 0;
}

static int set_paused(struct job *j, bool on, struct err *e)
{
	if (!is_at_work(j) || is_paused(j) == on)
		return refuse(j, on ? "pause" : "resume", e);
	pthread_mutex_lock(&j->lock);
	j->paused = on;
	pthread_cond_signal(&j->changed);
	pthread_mutex_unlock(&j->lock);
	if (is_ready(j))
		set_status(j, on ? STANDBY : READY);
	else
		set_status(j, on ? PAUSED : RUNNING);
	return 0;
}

static int cmd_cancel(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct job *j = find_or_say(q, args, e);

	return j ? cancel(j, e) : -ENOENT;
}

static int cmd_pause(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct job *j = find_or_say(q, args, e);

	return j ? set_paused(j, true, e) : -ENOENT;
}

static int cmd_resume(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct job *j = find_or_say(q, args, e);

	return j ? set_paused(j, false, e) : -ENOENT;
}

static int cmd_complete(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct job *j = find_or_say(q, args, e);

	return j ? wish(j, JOB_COMPLETE, "complete", e) : -ENOENT;
}

/* ---- of block jobs alone ---- */

/* The older commands call the job a device. */
static const struct prop block_args[] = {
	PROP_STR(struct job_args, id, "device", NULL, "the job", .flags = PROP_REQUIRED),
	PROP_END
};

static const struct prop cancel_args[] = {
	PROP_STR(struct job_args, id, "device", NULL, "the job", .flags = PROP_REQUIRED),
	PROP_BOOL(struct job_args, force, "force", false,
		  "also a job that is ready ends as cancelled"),
	PROP_END
};

static const struct prop speed_args[] = {
	PROP_STR(struct job_args, id, "device", NULL, "the job", .flags = PROP_REQUIRED),
	PROP_U64(struct job_args, speed, "speed", 0, JOB_SPEED_MAX, 0, "at most; 0: no limit",
		 .unit = "bytes/s", .flags = PROP_REQUIRED),
	PROP_END
};

static int cmd_set_speed(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct job *j = find_or_say(q, args, e);

	if (!j)
		return -ENOENT;
	if (!is_at_work(j))
		return refuse(j, "set-speed", e);
	pthread_mutex_lock(&j->lock);
	j->speed = ((struct job_args *)args)->speed;
	j->free_ns = 0;
	pthread_cond_signal(&j->changed);
	pthread_mutex_unlock(&j->lock);
	return 0;
}

/* Not by force a job that is ready ends well, and leaves all as it was. */
static int cmd_block_cancel(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct job *j = find_or_say(q, args, e);

	if (!j)
		return -ENOENT;
	if (!((struct job_args *)args)->force && j->status == READY)
		return wish(j, JOB_STOP, "cancel", e);
	return cancel(j, e);
}

static int query_block_jobs(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	json_t *o;

	*ret = json_array();
	for (struct job *j = *jobs_of(q); j; j = j->next) {
		if (!j->ops->block)
			continue;
		o = block_data(j);
		json_object_update_new(o, json_pack("{s:b,s:b,s:s,s:b,s:s,s:b,s:b}", "busy",
			j->status == RUNNING, "paused", is_paused(j), "io-status", "ok",
			"ready", is_ready(j), "status", status_words[j->status], "auto-finalize", 1,
			"auto-dismiss", j->auto_dismiss));
		json_array_insert_new(*ret, 0, o);
	}
	return 0;
}

static void fini(struct qmp *q)
{
	struct job *j;

	while ((j = *jobs_of(q))) {
		*jobs_of(q) = j->next;
		if (j->threading) {
			cancel(j, NULL);
			pthread_join(j->thread, NULL);
			loop_work_cancel(qmp_vm(q)->main, &j->work);
			loop_work_cancel(qmp_vm(q)->main, &j->ready_work);
		}
		if (j->status != CONCLUDED)
			j->ops->end(j->arg);
		free_job(j);
	}
}

#define JOB_ARGS .args = job_args, .args_size = sizeof(struct job_args)
#define BLOCK_ARGS .args = block_args, .args_size = sizeof(struct job_args)

static const struct qmp_cmd cmds[] = {
	{ .name = "query-jobs", .help = "jobs that are not dismissed", .run = query_jobs,
	  .ret = "[JobInfo]" },
	{ .name = "job-dismiss", .help = "forget a job that is over", JOB_ARGS,
	  .run = cmd_dismiss },
	{ .name = "job-cancel", .help = "end a job before it is over", JOB_ARGS,
	  .run = cmd_cancel },
	{ .name = "job-pause", .help = "let a job wait", JOB_ARGS, .run = cmd_pause },
	{ .name = "job-resume", .help = "let a paused job go on", JOB_ARGS, .run = cmd_resume },
	{ .name = "job-complete", .help = "let a job that is ready come to its end", JOB_ARGS,
	  .run = cmd_complete },
	{ .name = "query-block-jobs", .help = "jobs on disks", .run = query_block_jobs,
	  .ret = "[BlockJobInfo]" },
	{ .name = "block-job-cancel", .help = "end a job; one that is ready ends well",
	  .args = cancel_args, .args_size = sizeof(struct job_args), .run = cmd_block_cancel },
	{ .name = "block-job-complete", .help = "as job-complete", BLOCK_ARGS,
	  .run = cmd_complete },
	{ .name = "block-job-pause", .help = "as job-pause", BLOCK_ARGS, .run = cmd_pause },
	{ .name = "block-job-resume", .help = "as job-resume", BLOCK_ARGS,
	  .run = cmd_resume },
	{ .name = "block-job-set-speed", .help = "how fast a job may be", .args = speed_args,
	  .args_size = sizeof(struct job_args), .run = cmd_set_speed },
	{ 0 }
};

static const struct qmp_event events[] = {
	{ "JOB_STATUS_CHANGE", "q_obj_JOB_STATUS_CHANGE-arg", "a job went on" },
	{ "BLOCK_JOB_COMPLETED", "q_obj_BLOCK_JOB_COMPLETED-arg", "a block job ended" },
	{ "BLOCK_JOB_CANCELLED", "q_obj_BLOCK_JOB_CANCELLED-arg", "a block job was cancelled" },
	{ "BLOCK_JOB_READY", "q_obj_BLOCK_JOB_READY-arg", "a block job waits for job-complete" },
	{ 0 }
};

static const char *const type_words[] = { "create", "stream", "commit", NULL };
static const struct qmp_member change_data[] = {
	{ "id", "str" }, { "status", "JobStatus" }, { 0 }
};
static const struct qmp_member job_info[] = {
	{ "id", "str" }, { "type", "JobType" }, { "status", "JobStatus" },
	{ "current-progress", "int" }, { "total-progress", "int" }, { "*error", "str" }, { 0 }
};

static const struct qmp_member block_completed[] = {
	{ "type", "JobType" }, { "device", "str" }, { "len", "int" }, { "offset", "int" },
	{ "speed", "int" }, { "*error", "str" }, { 0 }
};
static const struct qmp_member block_cancelled[] = {
	{ "type", "JobType" }, { "device", "str" }, { "len", "int" }, { "offset", "int" },
	{ "speed", "int" }, { 0 }
};
static const struct qmp_member block_info[] = {
	{ "type", "JobType" }, { "device", "str" }, { "len", "int" }, { "offset", "int" },
	{ "busy", "bool" }, { "paused", "bool" }, { "speed", "int" },
	{ "io-status", "BlockDeviceIoStatus" }, { "ready", "bool" }, { "status", "JobStatus" },
	{ "auto-finalize", "bool" }, { "auto-dismiss", "bool" }, { 0 }
};

static const struct qmp_type types[] = {
	{ .name = "JobStatus", .meta = QMP_ENUM, .words = status_words },
	{ .name = "JobType", .meta = QMP_ENUM, .words = type_words },
	{ .name = "JobInfo", .members = job_info },
	{ .name = "q_obj_JOB_STATUS_CHANGE-arg", .members = change_data },
	{ .name = "q_obj_BLOCK_JOB_COMPLETED-arg", .members = block_completed },
	{ .name = "q_obj_BLOCK_JOB_CANCELLED-arg", .members = block_cancelled },
	{ .name = "q_obj_BLOCK_JOB_READY-arg", .members = block_cancelled },
	{ .name = "BlockJobInfo", .members = block_info },
	{ 0 }
};

const struct qmp_table qmp_table_job = {
	.cmds = cmds, .events = events, .types = types, .fini = fini
};

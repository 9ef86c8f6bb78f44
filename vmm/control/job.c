/*
 * vmm/control/job.c - long work that a client watches: its thread, its states, its end.
 *
 * Spec:    QEMU's qapi/job.json, block-core.json (BlockJobInfo).
 * Threads: main loop; a job's work on its own thread, which touches nothing of
 *          struct job but its progress, its result and, under the lock, the wishes
 *          of the client and what went wrong.
 * Missing: nothing known.
 */
#include "vmm/control/job_priv.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "block/aside.h"
#include "vmm/base/util.h"
#include "vmm/control/qmp.h"
#include "vmm/core/vm.h"

extern const struct qmp_table qmp_table_job;

#define JOBS_MAX	256	/* a client that never dismisses */

/* Work ahead of its time that need not be waited for. */
#define SLICE_NS	(100 * NS_PER_MS)

#define READY_NS	(100 * NS_PER_MS)
#define IGNORE_NS	NS_PER_SEC	/* before an ignored error is met again */

const char *const job_status_words[] = {
	[JOB_CREATED] = "created", [JOB_RUNNING] = "running", [JOB_PAUSED] = "paused",
	[JOB_READY] = "ready", [JOB_STANDBY] = "standby",
	[JOB_WAITING] = "waiting", [JOB_PENDING] = "pending", [JOB_ABORTING] = "aborting",
	[JOB_CONCLUDED] = "concluded", [JOB_GONE] = "null", NULL
};

const char *const job_on_error_words[] = {
	[JOB_REPORT] = "report", [JOB_IGNORE] = "ignore", [JOB_ENOSPC] = "enospc",
	[JOB_PAUSE] = "stop", [JOB_AUTO] = "auto", NULL
};

struct job **job_list(struct qmp *q)
{
	return (struct job **)qmp_state(q, &qmp_table_job);
}

struct job *job_find(struct qmp *q, const char *id)
{
	struct job *j = *job_list(q);

	while (j && strcmp(j->id, id))
		j = j->next;
	return j;
}

void job_set_status(struct job *j, enum job_status s)
{
	j->status = s;
	vm_event(qmp_vm(j->q), "JOB_STATUS_CHANGE",
		 json_pack("{s:s,s:s}", "id", j->id, "status", job_status_words[s]));
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
		job_post(j, &j->ready_work);
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

void job_post(struct job *j, struct loop_work *w)
{
	aside_post(j->thread, w);
}

static enum job_action action_for(enum job_on_error policy, int err)
{
	switch (policy) {
	case JOB_IGNORE:
		return JOB_ACT_IGNORE;
	case JOB_PAUSE:
		return JOB_ACT_STOP;
	case JOB_ENOSPC:
	case JOB_AUTO:
		return err == -ENOSPC ? JOB_ACT_STOP : JOB_ACT_REPORT;
	default:
		return JOB_ACT_REPORT;
	}
}

int job_failed(struct job *j, bool write, int err)
{
	uint64_t end = clock_ns() + IGNORE_NS;
	enum job_action action = action_for(j->on_error, err);

	pthread_mutex_lock(&j->lock);
	j->error = err;
	j->error_write = write;
	j->error_action = action;
	j->paused |= action == JOB_ACT_STOP;
	job_post(j, &j->error_work);
	while (action != JOB_ACT_REPORT && !j->cancelled && (j->paused || clock_ns() < end)) {
		if (j->paused)
			pthread_cond_wait(&j->changed, &j->lock);
		else if (action == JOB_ACT_STOP)
			break;		/* the client wants it to go on */
		else
			wait_until(j, end);
	}
	if (j->cancelled)
		err = -ECANCELED;
	pthread_mutex_unlock(&j->lock);
	return action == JOB_ACT_REPORT || err == -ECANCELED ? err : 0;
}

static void job_thread(void *arg)
{
	struct job *j = arg;

	j->result = j->ops->run(j, j->arg, &j->e);
}

/* ---- the end ---- */

json_t *job_block_data(const struct job *j)
{
	return json_pack("{s:s,s:s,s:I,s:I,s:I}", "type", j->ops->type, "device", j->id,
			 "len", (json_int_t)atomic_load(&j->all), "offset",
			 (json_int_t)atomic_load(&j->done), "speed", (json_int_t)j->speed);
}

static void block_event(struct job *j)
{
	bool cancelled = j->result == -ECANCELED;
	json_t *data = job_block_data(j);

	if (j->result && !cancelled)
		json_object_set_new(data, "error", json_string(j->e.text));
	vm_event(qmp_vm(j->q), cancelled ? "BLOCK_JOB_CANCELLED" : "BLOCK_JOB_COMPLETED", data);
}

static void unlink_job(struct job *j)
{
	struct job **p = job_list(j->q);

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

void job_dismiss(struct job *j)
{
	unlink_job(j);
	job_set_status(j, JOB_GONE);
	free_job(j);
}

static void became_ready(struct loop_work *w)
{
	struct job *j = container_of(w, struct job, ready_work);

	job_set_status(j, j->status == JOB_PAUSED ? JOB_STANDBY : JOB_READY);
	vm_event(qmp_vm(j->q), "BLOCK_JOB_READY", job_block_data(j));
}

static void pend(struct job *j)
{
	if (j->status == JOB_PENDING)
		return;
	job_set_status(j, JOB_WAITING);
	job_set_status(j, JOB_PENDING);
}

void job_pend(struct job *j)
{
	pend(j);
	vm_event(qmp_vm(j->q), "BLOCK_JOB_PENDING",
		 json_pack("{s:s,s:s}", "type", j->ops->type, "id", j->id));
}

static const char *const action_words[] = { "report", "ignore", "stop" };

/* The thread met an error. */
static void told_error(struct loop_work *w)
{
	struct job *j = container_of(w, struct job, error_work);
	enum job_action action;
	bool write;

	pthread_mutex_lock(&j->lock);
	action = j->error_action;
	write = j->error_write;
	j->io_error = action == JOB_ACT_STOP ? j->error : 0;
	pthread_mutex_unlock(&j->lock);
	vm_event(qmp_vm(j->q), "BLOCK_JOB_ERROR",
		 json_pack("{s:s,s:s,s:s}", "device", j->id, "operation", write ? "write" : "read",
			   "action", action_words[action]));
	if (action == JOB_ACT_STOP)
		job_set_status(j, j->status == JOB_RUNNING ? JOB_PAUSED : JOB_STANDBY);
}

/* Clients follow the whole path, also where nothing happens on it. */
static void conclude(struct job *j)
{
	j->ops->end(j->arg);
	if (j->result == -ECANCELED)
		err_set(&j->e, -ECANCELED, "job '%s' was cancelled", j->id);
	if (j->result == 0) {
		atomic_store(&j->done, atomic_load(&j->all));
		pend(j);
	} else if (j->ops->block) {
		job_set_status(j, JOB_ABORTING);
	}
	if (j->ops->block)
		block_event(j);
	job_set_status(j, JOB_CONCLUDED);
	if (j->auto_dismiss)
		job_dismiss(j);
}

void job_completed(struct job *j, int ret, const struct err *e)
{
	j->result = ret;
	if (ret && e)
		j->e = *e;
	conclude(j);
}

static void finished(void *arg)
{
	struct job *j = arg;

	j->thread = NULL;
	if (j->result == 0 && !j->auto_finalize && j->status != JOB_PENDING)
		job_pend(j);	/* until job_finalize() */
	else
		job_finalize(j);
}

void job_finalize(struct job *j)
{
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
	if (job_find(q, id))
		return err_set(e, -EEXIST, "Job ID '%s' already in use", id);
	for (struct job *j = *job_list(q); j; j = j->next)
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
	j->ready_work.cb = became_ready;
	j->error_work.cb = told_error;
	j->auto_finalize = true;
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
		j->on_error = o->on_error;
		j->auto_finalize = o->auto_finalize;
		j->auto_dismiss = o->auto_dismiss;
	}
	/* The thread's end is served after this callback: events keep order. */
	r = aside_start(&j->thread, qmp_vm(q)->blocks, "job", job_thread, finished, j);
	if (r) {
		free_job(j);
		return err_sys(e, r, "no thread for job '%s'", id);
	}
	j->next = *job_list(q);
	*job_list(q) = j;
	job_set_status(j, JOB_CREATED);
	job_set_status(j, JOB_RUNNING);
	return 0;
}

int job_start(struct qmp *q, const char *id, const struct job_ops *ops, void *arg,
	      struct err *e)
{
	return job_start_block(q, id, ops, NULL, arg, e);
}

/* ---- what the client wants ---- */

static void changed(struct job *j)
{
	pthread_cond_signal(&j->changed);
	pthread_mutex_unlock(&j->lock);
}

void job_cancel(struct job *j)
{
	pthread_mutex_lock(&j->lock);
	j->cancelled = true;
	changed(j);
}

void job_wish(struct job *j, enum job_wish wish)
{
	pthread_mutex_lock(&j->lock);
	j->wish = wish;
	changed(j);
}

void job_pause(struct job *j, bool on)
{
	pthread_mutex_lock(&j->lock);
	j->paused = on;
	changed(j);
}

void job_set_speed(struct job *j, uint64_t speed)
{
	pthread_mutex_lock(&j->lock);
	j->speed = speed;
	j->free_ns = 0;
	changed(j);
}

void job_end_all(struct qmp *q)
{
	struct job *j;
	bool hangs;

	for (j = *job_list(q); j; j = j->next)
		job_cancel(j);
	while ((j = *job_list(q))) {
		*job_list(q) = j->next;
		hangs = j->thread && !aside_end(j->thread);
		/* Posted before; nothing is posted any more. */
		loop_work_cancel(qmp_vm(q)->main, &j->ready_work);
		loop_work_cancel(qmp_vm(q)->main, &j->error_work);
		if (hangs)
			continue;	/* with all that is its own */
		if (j->status != JOB_CONCLUDED)
			j->ops->end(j->arg);
		free_job(j);
	}
}

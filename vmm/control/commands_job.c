/*
 * vmm/control/commands_job.c - QMP's jobs: query-jobs, job-dismiss, job-cancel, …,
 * and the older commands and events of block jobs.
 *
 * Spec:    QEMU's qapi/job.json, block-core.json (BlockJobInfo).
 * Threads: main loop.
 * Missing: nothing known.
 */
#include <errno.h>
#include <string.h>

#include "vmm/base/util.h"
#include "vmm/control/job_priv.h"
#include "vmm/control/qmp.h"
#include "vmm/core/vm.h"

/* ---- commands ---- */

static json_t *info(struct job *j)
{
	json_t *o = json_pack("{s:s,s:s,s:s,s:I,s:I}", "id", j->id, "type", j->ops->type,
			      "status", job_status_words[j->status], "current-progress",
			      (json_int_t)atomic_load(&j->done), "total-progress",
			      (json_int_t)atomic_load(&j->all));

	if (j->status == JOB_CONCLUDED && j->result)
		json_object_set_new(o, "error", json_string(j->e.text));
	return o;
}

static int query_jobs(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	*ret = json_array();
	for (struct job *j = *job_list(q); j; j = j->next)
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
		       job_status_words[j->status], verb);
}

static struct job *find_or_say(struct qmp *q, void *args, struct err *e)
{
	const char *id = ((struct job_args *)args)->id;
	struct job *j = job_find(q, id);

	if (!j)
		err_set(e, -ENOENT, "Job not found: '%.64s'", id);
	return j;
}

static int cmd_dismiss(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct job *j = find_or_say(q, args, e);

	if (!j)
		return -ENOENT;
	if (j->status != JOB_CONCLUDED)
		return refuse(j, "dismiss", e);
	job_dismiss(j);
	return 0;
}

/* Work that has begun to end takes no more wishes. */
static bool is_at_work(const struct job *j)
{
	return j->ops->block && j->thread && j->status >= JOB_RUNNING &&
	       j->status <= JOB_STANDBY;
}

/* Its work is done, or goes on beside the guest's, until job-finalize. */
static bool is_pending(const struct job *j)
{
	return j->status == JOB_PENDING && !j->auto_finalize;
}

static bool is_paused(const struct job *j)
{
	return j->status == JOB_PAUSED || j->status == JOB_STANDBY;
}

static bool is_ready(const struct job *j)
{
	return j->status == JOB_READY || j->status == JOB_STANDBY;
}

static int cancel(struct job *j, struct err *e)
{
	if (!is_at_work(j) && !is_pending(j))
		return refuse(j, "cancel", e);
	if (j->thread) {
		job_cancel(j);
		return 0;
	}
	j->result = -ECANCELED;
	job_finalize(j);
	return 0;
}

static int complete(struct job *j, struct err *e)
{
	if (!is_at_work(j) || j->status != JOB_READY)
		return refuse(j, "complete", e);
	if (j->auto_finalize)
		job_wish(j, JOB_COMPLETE);
	else
		job_pend(j);
	return 0;
}

static int finalize(struct job *j, struct err *e)
{
	if (!is_pending(j))
		return refuse(j, "finalize", e);
	j->auto_finalize = true;	/* once */
	if (j->thread)
		job_wish(j, JOB_COMPLETE);
	else
		job_finalize(j);
	return 0;
}

static int set_paused(struct job *j, bool on, struct err *e)
{
	if (!is_at_work(j) || is_paused(j) == on)
		return refuse(j, on ? "pause" : "resume", e);
	job_pause(j, on);
	j->io_error = 0;
	if (is_ready(j))
		job_set_status(j, on ? JOB_STANDBY : JOB_READY);
	else
		job_set_status(j, on ? JOB_PAUSED : JOB_RUNNING);
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

	return j ? complete(j, e) : -ENOENT;
}

static int cmd_finalize(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct job *j = find_or_say(q, args, e);

	return j ? finalize(j, e) : -ENOENT;
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
	job_set_speed(j, ((struct job_args *)args)->speed);
	return 0;
}

/* Not by force a job that is ready ends well, and leaves all as it was. */
static int cmd_block_cancel(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct job *j = find_or_say(q, args, e);

	if (!j)
		return -ENOENT;
	if (((struct job_args *)args)->force || !is_at_work(j) || j->status != JOB_READY)
		return cancel(j, e);
	job_wish(j, JOB_STOP);
	return 0;
}

static const char *io_status(const struct job *j)
{
	if (!j->io_error)
		return "ok";
	return j->io_error == -ENOSPC ? "nospace" : "failed";
}

static int query_block_jobs(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	json_t *o;

	*ret = json_array();
	for (struct job *j = *job_list(q); j; j = j->next) {
		if (!j->ops->block)
			continue;
		o = job_block_data(j);
		json_object_update_new(o, json_pack("{s:b,s:b,s:s,s:b,s:s,s:b,s:b}", "busy",
			j->status == JOB_RUNNING, "paused", is_paused(j), "io-status", io_status(j),
			"ready", is_ready(j), "status", job_status_words[j->status], "auto-finalize", j->auto_finalize,
			"auto-dismiss", j->auto_dismiss));
		json_array_insert_new(*ret, 0, o);
	}
	return 0;
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
	{ .name = "job-finalize", .help = "let a job that is pending end", JOB_ARGS,
	  .run = cmd_finalize },
	{ .name = "job-complete", .help = "let a job that is ready come to its end", JOB_ARGS,
	  .run = cmd_complete },
	{ .name = "query-block-jobs", .help = "jobs on disks", .run = query_block_jobs,
	  .ret = "[BlockJobInfo]" },
	{ .name = "block-job-cancel", .help = "end a job; one that is ready ends well",
	  .args = cancel_args, .args_size = sizeof(struct job_args), .run = cmd_block_cancel },
	{ .name = "block-job-finalize", .help = "as job-finalize", JOB_ARGS, .run = cmd_finalize },
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
	{ "BLOCK_JOB_ERROR", "q_obj_BLOCK_JOB_ERROR-arg", "a block job met an error" },
	{ "BLOCK_JOB_PENDING", "q_obj_BLOCK_JOB_PENDING-arg",
	  "a block job waits for job-finalize" },
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

static const struct qmp_member block_error[] = {
	{ "device", "str" }, { "operation", "IoOperationType" }, { "action", "BlockErrorAction" },
	{ 0 }
};
static const struct qmp_member block_pending[] = {
	{ "type", "JobType" }, { "id", "str" }, { 0 }
};

static const struct qmp_type types[] = {
	{ .name = "BlockdevOnError", .meta = QMP_ENUM, .words = job_on_error_words },
	{ .name = "JobStatus", .meta = QMP_ENUM, .words = job_status_words },
	{ .name = "JobType", .meta = QMP_ENUM, .words = type_words },
	{ .name = "JobInfo", .members = job_info },
	{ .name = "q_obj_JOB_STATUS_CHANGE-arg", .members = change_data },
	{ .name = "q_obj_BLOCK_JOB_COMPLETED-arg", .members = block_completed },
	{ .name = "q_obj_BLOCK_JOB_CANCELLED-arg", .members = block_cancelled },
	{ .name = "q_obj_BLOCK_JOB_ERROR-arg", .members = block_error },
	{ .name = "q_obj_BLOCK_JOB_PENDING-arg", .members = block_pending },
	{ .name = "q_obj_BLOCK_JOB_READY-arg", .members = block_cancelled },
	{ .name = "BlockJobInfo", .members = block_info },
	{ 0 }
};

const struct qmp_table qmp_table_job = {
	.cmds = cmds, .events = events, .types = types, .fini = job_end_all
};

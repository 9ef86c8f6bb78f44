/*
 * vmm/control/job_priv.h - a job, between its machinery (job.c) and QMP's commands
 * (commands_job.c).
 */
#ifndef VMM_CONTROL_JOB_PRIV_H
#define VMM_CONTROL_JOB_PRIV_H

#include <jansson.h>
#include <pthread.h>

#include "vmm/control/job.h"
#include "vmm/loop/loop.h"

enum job_status {
	JOB_CREATED, JOB_RUNNING, JOB_PAUSED, JOB_READY, JOB_STANDBY, JOB_WAITING, JOB_PENDING,
	JOB_ABORTING, JOB_CONCLUDED, JOB_GONE
};

extern const char *const job_status_words[];

enum job_action { JOB_ACT_REPORT, JOB_ACT_IGNORE, JOB_ACT_STOP };

struct job {
	char *id;
	struct qmp *q;
	const struct job_ops *ops;
	void *arg;
	enum job_status status;
	_Atomic uint64_t done, all;
	int result;			/* thread, then main loop */
	struct err e;
	enum job_on_error on_error;
	bool auto_finalize, auto_dismiss;
	int io_error;			/* -errno that it waits for; 0: none */
	/* what the client wants; lock */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool paused, cancelled;
	enum job_wish wish;
	uint64_t speed;			/* bytes per second; 0: no limit */
	uint64_t free_ns;		/* thread: when the next piece may begin */
	bool told_ready;		/* thread */
	/* the last error; lock */
	int error;
	bool error_write;
	enum job_action error_action;
	struct aside *thread;		/* NULL: over */
	struct loop_work ready_work, error_work;
	struct job *next;
};

/* All on the main loop. */
struct job **job_list(struct qmp *q);
struct job *job_find(struct qmp *q, const char *id);	/* NULL: none */
void job_set_status(struct job *j, enum job_status s);	/* with the event */
/* What the BLOCK_JOB events and query-block-jobs have in common, the caller's. */
json_t *job_block_data(const struct job *j);
void job_cancel(struct job *j);
void job_wish(struct job *j, enum job_wish wish);
void job_pause(struct job *j, bool on);
void job_set_speed(struct job *j, uint64_t speed);
/* It waits for job_finalize(): tell. */
void job_pend(struct job *j);
/* Its thread is over: so is the job, soon. */
void job_finalize(struct job *j);
void job_dismiss(struct job *j);	/* concluded; gone on return */
void job_end_all(struct qmp *q);	/* for ever */

#endif

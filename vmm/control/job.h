/*
 * vmm/control/job.h - long work that a client watches: QMP's jobs.
 *
 * A job runs on a thread of its own, because it waits for disks; all else is the
 * main loop's. It ends "concluded" and stays until job-dismiss; a block job, which
 * older clients watch by its BLOCK_JOB events, dismisses itself unless asked not to.
 */
#ifndef VMM_CONTROL_JOB_H
#define VMM_CONTROL_JOB_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/err.h"

struct loop_work;
struct qmp;
struct job;

struct job_ops {
	const char *type;		/* QAPI JobType */
	/* On the job's thread. 0 or -errno with a sentence. */
	int (*run)(struct job *j, void *arg, struct err *e);
	/* On the main loop, once, when all is over; releases @arg. */
	void (*end)(void *arg);
	/* On the main loop after run() ended with @ret, and @e; job_completed() follows,
	 * now or later, unless end() comes first. NULL: nothing to do. */
	void (*complete)(struct job *j, void *arg, int ret, const struct err *e);
	/* Work that calls job_pace(): it can be paused, slowed and cancelled, and
	 * has the events of block jobs. */
	bool block;
};

#define JOB_SPEED_MAX	(1ull << 50)

/* What an error means (qapi BlockdevOnError): auto as enospc, which pauses the job
 * when space is short and else ends it. */
enum job_on_error { JOB_REPORT, JOB_IGNORE, JOB_ENOSPC, JOB_PAUSE, JOB_AUTO };
extern const char *const job_on_error_words[];

struct job_block_opts {
	uint64_t speed;			/* bytes per second; 0: as fast as it goes */
	enum job_on_error on_error;
	bool auto_finalize;		/* false: it waits for job-finalize */
	bool auto_dismiss;
};

/* Start a job called @id, which must be new; events follow. On failure @arg is
 * still the caller's. Main loop. */
int job_start(struct qmp *q, const char *id, const struct job_ops *ops, void *arg,
	      struct err *e);
/* The same with what is asked of a block job; NULL: nothing. */
int job_start_block(struct qmp *q, const char *id, const struct job_ops *ops,
		    const struct job_block_opts *o, void *arg, struct err *e);
/* What complete() began is over: @ret 0, or -errno with @e. The job may be gone on
 * return. Main loop. */
void job_completed(struct job *j, int ret, const struct err *e);
/* On the job's thread: @done of @all units of anything. */
void job_progress(struct job *j, uint64_t done, uint64_t all);
/* The same after @bytes of work: waits while the job is paused or too fast.
 * -ECANCELED: end now. */
int job_pace(struct job *j, uint64_t bytes, uint64_t done, uint64_t all);
/* On the job's thread: reading or writing failed with @err. Tells the client, and waits
 * as on-error= says. 0: try again; else what to end with, @err or -ECANCELED. */
int job_failed(struct job *j, bool write, int err);

/* What a client wants of a job that is ready. */
enum job_wish { JOB_GO_ON, JOB_COMPLETE, JOB_STOP };

/* On the job's thread: all is done but for what comes anew. The first time the client
 * hears of it; then a tenth of a second passes, or the job is paused, or there is a wish.
 * An enum job_wish; JOB_STOP: end well, but leave all as it was. -ECANCELED: end now. */
int job_ready(struct job *j, uint64_t done, uint64_t all);
/* On the job's thread. */
bool job_is_cancelled(struct job *j);
/* On the job's thread: loop_post() to the main loop, as long as that is there. */
void job_post(struct job *j, struct loop_work *w);
/* Make the folder entry of the file at @path durable. Waits; any thread. */
int job_sync_folder(const char *path);

#endif

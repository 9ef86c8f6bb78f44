/*
 * vmm/control/job.h - long work that a client watches: QMP's jobs.
 *
 * A job runs on a thread of its own, because it waits for disks; all else is the
 * main loop's. It ends "concluded" and stays until job-dismiss.
 */
#ifndef VMM_CONTROL_JOB_H
#define VMM_CONTROL_JOB_H

#include <stdatomic.h>
#include <stdint.h>

#include "vmm/base/err.h"

struct qmp;
struct job;

struct job_ops {
	const char *type;		/* QAPI JobType */
	/* On the job's thread. 0 or -errno with a sentence. */
	int (*run)(struct job *j, void *arg, struct err *e);
	/* On the main loop, once, when run has returned; releases @arg. */
	void (*end)(void *arg);
};

/* Start a job called @id, which must be new; events follow. On failure @arg is
 * still the caller's. Main loop. */
int job_start(struct qmp *q, const char *id, const struct job_ops *ops, void *arg,
	      struct err *e);
/* On the job's thread: @done of @all units of anything. */
void job_progress(struct job *j, uint64_t done, uint64_t all);
/* Make the folder entry of the file at @path durable. Waits; any thread. */
int job_sync_folder(const char *path);

#endif

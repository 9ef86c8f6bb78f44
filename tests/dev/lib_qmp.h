/*
 * tests/dev/lib_qmp.h - commands to a QMP server in the test's own process, and what
 * it tells of jobs.
 */
#ifndef TESTS_DEV_LIB_QMP_H
#define TESTS_DEV_LIB_QMP_H

#include <jansson.h>

#include "vmm/control/qmp.h"
#include "vmm/core/vm.h"

struct qmp_test {
	struct vm *vm;
	struct qmp *q;
	struct vm_listener l;
	char jobs[1024];		/* "created running …": every JOB_STATUS_CHANGE */
	char ended[512];		/* the last BLOCK_JOB event: name, device, error */
};

/* Serve @vm. Events of jobs are checked against the schema and noted. */
void tq_start(struct qmp_test *t, struct vm *vm);
void tq_stop(struct qmp_test *t);
/* @args is printed with what follows, and may have ' for ". The value, which must be of
 * @type (NULL: any), the caller's; the test ends when there is none. */
json_t *tq_ask(struct qmp_test *t, const char *cmd, const char *type, const char *args, ...)
	__attribute__((format(printf, 4, 5)));
/* The same, without a look at the value. */
void tq_ok(struct qmp_test *t, const char *cmd, const char *args, ...)
	__attribute__((format(printf, 3, 4)));
/* It is refused with a sentence that has @with. */
void tq_fails(struct qmp_test *t, const char *with, const char *cmd, const char *args, ...)
	__attribute__((format(printf, 4, 5)));
/* The same, begun: nobody waits for the answer. */
void tq_begin(struct qmp_test *t, const char *cmd, const char *args, ...)
	__attribute__((format(printf, 3, 4)));
/* Turn the VM's loop until t->jobs has @word. */
void tq_await(struct qmp_test *t, const char *word);
/* The status of the only block job. */
const char *tq_job_status(struct qmp_test *t);

#endif

/*
 * vmm/control/qmp_priv.h - what the files of the QMP server share; commands
 * need qmp.h only.
 */
#ifndef VMM_CONTROL_QMP_PRIV_H
#define VMM_CONTROL_QMP_PRIV_H

#include <stdbool.h>

#include "vmm/control/qmp.h"
#include "vmm/core/vm.h"

struct session;

#define QMP_TABLES_MAX	32

struct qmp {
	struct vm *vm;
	struct vm_listener listener;
	struct session *sessions;
	struct qmp_call *calls;		/* deferred, not completed */
	struct qmp_call *current;	/* whose run is being called */
	json_t *schema;			/* array; NULL until asked for */
	json_t *schema_index;		/* name -> element; "T arg" for commands */
	void *state[QMP_TABLES_MAX];
};

/* One request on its way to a reply. */
struct qmp_call {
	struct qmp *q;		/* NULL: the server is gone */
	json_t *id;		/* owned; NULL: none */
	struct session *session;	/* NULL: in process, or gone */
	bool oob;
	bool deferred;
	bool completed;		/* perhaps before its run returned */
	bool running;		/* its run is on the stack, which frees it */
	/* Gets the reply (borrowed); the session's, or the embedder's. */
	void (*done)(void *arg, json_t *reply);
	void *arg;
	struct qmp_call *next;
};

/* ---- dispatch.c ---- */

const struct qmp_cmd *qmp_find_cmd(const char *name);
json_t *qmp_error_reply(const struct err *e, const json_t *id);
/* Run @req; @done as for qmp_execute_async(). @s: whose it is, or NULL. */
void qmp_run(struct qmp *q, struct session *s, const json_t *req,
	     void (*done)(void *arg, json_t *reply), void *arg);
/* @s is gone: its calls go on without it. */
void qmp_forget_session(struct qmp *q, struct session *s);
/* Is it an exec-oob request? */
bool qmp_is_oob(const json_t *req);

/* ---- schema.c ---- */

/* The arguments of @c: a sentence that names the one at fault. */
int qmp_schema_check_args(struct qmp *q, const struct qmp_cmd *c, const json_t *args,
			  struct err *e);

/* ---- session.c ---- */

void session_destroy_all(struct qmp *q);
/* Tell every client that has negotiated. @data may be NULL, borrowed. */
void session_event_all(struct qmp *q, const char *name, json_t *data);

#endif

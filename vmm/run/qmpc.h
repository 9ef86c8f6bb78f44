/*
 * vmm/run/qmpc.h - a small synchronous QMP client for the native verbs.
 *
 * The other end may be anything: it may answer garbage, nothing, or without
 * end. Every call has a deadline, a line is at most QMPC_LINE_MAX bytes and at
 * most QMPC_EVENTS_MAX events are kept while a reply is awaited.
 *
 * Threads: one at a time per client; no loop is needed.
 */
#ifndef VMM_RUN_QMPC_H
#define VMM_RUN_QMPC_H

#include <jansson.h>

#include "vmm/base/err.h"

#define QMPC_TIMEOUT_MS	5000		/* what verbs wait for one reply */
#define QMPC_LINE_MAX	(16u << 20)	/* query-qmp-schema is the longest reply */
#define QMPC_EVENTS_MAX	256		/* the oldest go first */

struct qmpc;

/*
 * Connect to the socket at @path, read the greeting, leave negotiation. @who
 * is what errors call it ("web"). 0, or negative errno with a sentence:
 * -ETIMEDOUT no answer in @timeout_ms, -EPROTO no QMP, -EPERM another user's
 * process serves the socket.
 */
int qmpc_open(struct qmpc **out, const char *who, const char *path, int timeout_ms,
	      struct err *e);
void qmpc_close(struct qmpc *c);	/* NULL is allowed */

/*
 * Execute @command with @args (stolen; NULL: none). *ret (may be NULL) is a
 * new reference to what "return" holds. An error reply is -EREMOTEIO with its
 * text and class in @e; see qmpc_open() for the others, after which the
 * connection is of no use. -EPIPE: the VM has gone.
 */
int qmpc_run(struct qmpc *c, const char *command, json_t *args, json_t **ret, struct err *e);

/* Send @request (borrowed) as it is and give the whole reply back. */
int qmpc_raw(struct qmpc *c, const json_t *request, json_t **reply, struct err *e);

/* The next event, one kept earlier first; @timeout_ms -1 waits for ever. 0 with
 * a new reference, -ETIMEDOUT without a sentence, -EPIPE when the VM has gone,
 * or -EPROTO. */
int qmpc_event(struct qmpc *c, int timeout_ms, json_t **event, struct err *e);
/* For poll(); readable may mean an event or half of one. */
int qmpc_fd(const struct qmpc *c);
/* The greeting's "QMP" object, borrowed. */
const json_t *qmpc_greeting(const struct qmpc *c);

#endif

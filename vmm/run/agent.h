/*
 * vmm/run/agent.h - the guest's agent (qemu-guest-agent), asked through the socket of
 * its channel.
 *
 * Spec:    QEMU's qga/qapi-schema.json.
 * Threads: the only one of the process.
 */
#ifndef VMM_RUN_AGENT_H
#define VMM_RUN_AGENT_H

#include <jansson.h>

#include "vmm/base/err.h"

struct agent;
struct qmpc;

/* The socket of the VM's channel org.qemu.guest_agent.0, the caller's. Refused with a
 * sentence where there is none, or none that listens. */
int agent_socket(struct qmpc *q, const char *vm, char **path, struct err *e);
/* Connect and find the beginning of a line; @vm is for errors. Nothing that the guest
 * says takes more than a second or so of anybody's time. */
int agent_open(struct agent **out, const char *vm, const char *path, struct err *e);
void agent_close(struct agent *a);	/* NULL is allowed */
/* Execute @command; the integer that it returns. The guest gets @timeout_ms. */
int agent_run(struct agent *a, const char *command, int timeout_ms, json_int_t *ret,
	      struct err *e);

#endif

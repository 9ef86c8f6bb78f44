/*
 * vmm/control/commands.c - QMP commands about the VM as a whole.
 *
 * Each row of the table is a command; what is not in it does not exist, also
 * not in query-commands.
 *
 * Threads: main loop.
 */
#include <errno.h>
#include <string.h>

#include "vmm/control/qmp.h"
#include "vmm/core/vm.h"

static int query_status(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	int state = atomic_load(&qmp_vm(q)->state);

	*ret = json_pack("{s:b,s:b,s:s}", "running", state == VM_RUNNING,
			 "singlestep", 0, "status", vm_state_name((enum vm_state)state));
	return 0;
}

static int query_version(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	*ret = qmp_version();
	return 0;
}

static int query_commands(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	*ret = json_array();
	for (const struct qmp_cmd *c = qmp_commands; c->name; c++)
		json_array_append_new(*ret, json_pack("{s:s}", "name", c->name));
	json_array_append_new(*ret, json_pack("{s:s}", "name", "qmp_capabilities"));
	return 0;
}

static int query_name(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	const char *name = qmp_vm(q)->name;

	*ret = name ? json_pack("{s:s}", "name", name) : json_object();
	return 0;
}

static int cmd_stop(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	vm_stop(qmp_vm(q), VM_PAUSED);
	return 0;
}

static int cmd_cont(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	return vm_start(qmp_vm(q), e);
}

static int cmd_powerdown(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	vm_request(qmp_vm(q), VM_REQ_POWERDOWN, VM_CAUSE_HOST_QMP_QUIT);
	return 0;
}

static int cmd_reset(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	vm_request(qmp_vm(q), VM_REQ_RESET, VM_CAUSE_HOST_QMP_RESET);
	return 0;
}

static int cmd_quit(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	vm_request(qmp_vm(q), VM_REQ_QUIT, VM_CAUSE_HOST_QMP_QUIT);
	return 0;
}

const struct qmp_cmd qmp_commands[] = {
	{ "query-status", "run state of the VM", NULL, 0, query_status },
	{ "query-version", "version of the interface and of roost", NULL, 0, query_version },
	{ "query-commands", "names of all commands", NULL, 0, query_commands },
	{ "query-name", "the guest's name", NULL, 0, query_name },
	{ "stop", "pause the guest", NULL, 0, cmd_stop },
	{ "cont", "let the guest run", NULL, 0, cmd_cont },
	{ "system_powerdown", "press the power button", NULL, 0, cmd_powerdown },
	{ "system_reset", "press the reset button", NULL, 0, cmd_reset },
	{ "quit", "end the process", NULL, 0, cmd_quit },
	{ NULL, NULL, NULL, 0, NULL }
};

/*
 * vmm/control/commands_vm.c - QMP commands about the VM as a whole, and the
 * events of its run state.
 *
 * Spec:    QEMU's qapi/run-state.json, machine.json, misc.json.
 * Threads: main loop.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/control/commands_dump.h"
#include "vmm/control/qmp.h"
#include "vmm/core/vm.h"

static int query_status(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	int state = atomic_load(&qmp_vm(q)->state);

	*ret = json_pack("{s:b,s:b,s:s}", "running", state == VM_RUNNING,
			 "singlestep", 0, "status", vm_state_name((enum vm_state)state));
	return 0;
}

static int query_name(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	const char *name = qmp_vm(q)->name;

	*ret = name ? json_pack("{s:s}", "name", name) : json_object();
	return 0;
}

static int query_uuid(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	const uint8_t *u = qmp_vm(q)->uuid;
	char text[40];
	int n = 0;

	for (int i = 0; i < 16; i++)
		n += snprintf(text + n, sizeof(text) - (size_t)n, "%s%02x",
			      i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", u[i]);
	*ret = json_pack("{s:s}", "UUID", text);
	return 0;
}

static int cmd_stop(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	vm_stop(qmp_vm(q), VM_PAUSED);
	return 0;
}

static int cmd_cont(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	if (dump_in_progress(q))
		return err_set(e, -EBUSY, "There is a dump in process, please wait.");
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

static const struct qmp_cmd cmds[] = {
	{ .name = "query-status", .help = "run state of the VM", .run = query_status,
	  .ret = "StatusInfo", .flags = QMP_OOB },
	{ .name = "query-name", .help = "the guest's name", .run = query_name,
	  .ret = "NameInfo", .flags = QMP_OOB },
	{ .name = "query-uuid", .help = "the guest's UUID", .run = query_uuid,
	  .ret = "UuidInfo", .flags = QMP_OOB },
	{ .name = "stop", .help = "pause the guest", .run = cmd_stop },
	{ .name = "cont", .help = "let the guest run", .run = cmd_cont },
	{ .name = "system_powerdown", .help = "press the power button", .run = cmd_powerdown },
	{ .name = "system_reset", .help = "press the reset button", .run = cmd_reset },
	{ .name = "quit", .help = "end the process", .run = cmd_quit },
	{ 0 }
};

static const struct qmp_event events[] = {
	{ "SHUTDOWN", "q_obj_SHUTDOWN-arg", "the guest is off, or about to be ended" },
	{ "RESET", "q_obj_RESET-arg", "the machine was reset" },
	{ "STOP", NULL, "the guest does not run any more" },
	{ "RESUME", NULL, "the guest runs" },
	{ "POWERDOWN", NULL, "the power button was pressed" },
	{ "GUEST_PANICKED", "q_obj_GUEST_PANICKED-arg", "the guest reported a panic" },
	{ 0 }
};

/* ---- types ---- */

/* Those of QEMU's words that a VM here can be in. */
static void run_states(struct qmp *q, json_t *info)
{
	for (int i = 0; i < VM_STATES; i++)
		qmp_schema_word(info, vm_state_name((enum vm_state)i));
}

static void causes(struct qmp *q, json_t *info)
{
	for (int i = 0; i < VM_CAUSES; i++)
		qmp_schema_word(info, vm_cause_name((enum vm_cause)i));
}

static const struct qmp_member status_info[] = {
	{ "running", "bool" }, { "singlestep", "bool" }, { "status", "RunState" }, { 0 }
};
static const struct qmp_member name_info[] = { { "*name", "str" }, { 0 } };
static const struct qmp_member uuid_info[] = { { "UUID", "str" }, { 0 } };
static const struct qmp_member cause_data[] = {
	{ "guest", "bool" }, { "reason", "ShutdownCause" }, { 0 }
};
static const struct qmp_member panic_data[] = { { "action", "GuestPanicAction" }, { 0 } };
static const char *const panic_words[] = { "pause", "poweroff", NULL };

static const struct qmp_type types[] = {
	{ .name = "RunState", .meta = QMP_ENUM, .make = run_states },
	{ .name = "ShutdownCause", .meta = QMP_ENUM, .make = causes },
	{ .name = "StatusInfo", .members = status_info },
	{ .name = "NameInfo", .members = name_info },
	{ .name = "UuidInfo", .members = uuid_info },
	{ .name = "q_obj_SHUTDOWN-arg", .members = cause_data },
	{ .name = "q_obj_RESET-arg", .members = cause_data },
	{ .name = "q_obj_GUEST_PANICKED-arg", .members = panic_data },
	{ .name = "GuestPanicAction", .meta = QMP_ENUM, .words = panic_words },
	{ 0 }
};

const struct qmp_table qmp_table_vm = { .cmds = cmds, .events = events, .types = types };

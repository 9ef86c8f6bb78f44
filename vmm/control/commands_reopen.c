/*
 * vmm/control/commands_reopen.c - QMP's blockdev-reopen.
 *
 * Spec:    QEMU's qapi/block-core.json.
 * Threads: main loop; the client waits, nobody else does.
 * Missing: see block/reopen_plan.c.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/reopen.h"
#include "vmm/base/util.h"
#include "vmm/control/qmp.h"
#include "vmm/core/vm.h"

extern const struct qmp_table qmp_table_reopen;

/* One command under way. */
struct command {
	struct qmp *q;
	struct qmp_call *call;
	struct reopen *r;
	struct command *next;
};

static struct command **list_of(struct qmp *q)
{
	return (struct command **)qmp_state(q, &qmp_table_reopen);
}

static void over(struct command *c, const struct err *e)
{
	struct command **p = list_of(c->q);

	while (*p != c)
		p = &(*p)->next;
	*p = c->next;
	qmp_complete(c->call, NULL, e);
	free(c);
}

static void reopened(void *arg, int ret, const struct err *e)
{
	over(arg, e);
}

static int cmd_reopen(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct command *c = xcalloc(1, sizeof(*c));
	int r = reopen_start(qmp_vm(q)->blocks, json_object_get(args, "options"), reopened, c,
			     &c->r, e);

	if (r) {
		free(c);
		return r;
	}
	c->q = q;
	c->call = qmp_defer(q);
	c->next = *list_of(q);
	*list_of(q) = c;
	return 0;
}

static void fini(struct qmp *q)
{
	struct err e = ERR_INIT;
	struct command *c;

	err_set(&e, -ECANCELED, "the VM ends");
	while ((c = *list_of(q))) {
		reopen_abort(c->r);
		over(c, &e);
	}
}

static const struct qmp_cmd cmds[] = {
	{ .name = "blockdev-reopen", .help = "change options of nodes that are in use, all or none",
	  .arg_type = "q_obj_blockdev-reopen-arg", .run = cmd_reopen },
	{ 0 }
};

static const struct qmp_member reopen_args[] = { { "options", "[BlockdevOptions]" }, { 0 } };

static const struct qmp_type types[] = {
	{ .name = "q_obj_blockdev-reopen-arg", .members = reopen_args },
	{ 0 }
};

const struct qmp_table qmp_table_reopen = { .cmds = cmds, .types = types, .fini = fini };

/*
 * vmm/control/commands_fd.c - QMP commands that take descriptors from the
 * client's socket.
 *
 * Spec:    QEMU's qapi/misc.json; the descriptor comes with the command's bytes
 *          (SCM_RIGHTS).
 * Threads: main loop.
 */
#include <errno.h>

#include "vmm/base/fds.h"
#include "vmm/base/json.h"
#include "vmm/control/qmp.h"
#include "vmm/core/vm.h"

struct fd_args {
	char *name, *opaque;
	int64_t set, fd;
};

static const struct prop name_args[] = {
	PROP_STR(struct fd_args, name, "fdname", NULL, "name of the descriptor",
		 .flags = PROP_REQUIRED),
	PROP_END
};

static int take(struct qmp *q, struct err *e)
{
	int fd = qmp_take_fd(q);

	return fd < 0 ? err_set(e, -EBADF, "No file descriptor supplied via SCM_RIGHTS") : fd;
}

static int getfd(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	int fd = take(q, e);

	return fd < 0 ? fd : fds_put(qmp_vm(q)->fds, ((struct fd_args *)args)->name, fd, e);
}

static int closefd(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	return fds_drop(qmp_vm(q)->fds, ((struct fd_args *)args)->name, e);
}

static const struct prop add_args[] = {
	PROP_I64(struct fd_args, set, "fdset-id", 0, INT64_MAX, -1,
		 "set to add it to; a new one when left out"),
	PROP_STR(struct fd_args, opaque, "opaque", NULL, "a note, shown by query-fdsets"),
	PROP_END
};

static int add_fd(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct fd_args *a = args;
	int fd = take(q, e);
	int r = fd < 0 ? fd : fds_set_add(qmp_vm(q)->fds, &a->set, fd, a->opaque, e);

	if (r >= 0)
		*ret = json_pack("{s:I,s:i}", "fdset-id", (json_int_t)a->set, "fd", fd);
	return r < 0 ? r : 0;
}

static const struct prop remove_args[] = {
	PROP_I64(struct fd_args, set, "fdset-id", 0, INT64_MAX, 0, "the set",
		 .flags = PROP_REQUIRED),
	PROP_I64(struct fd_args, fd, "fd", 0, INT32_MAX, -1, "one descriptor of it"),
	PROP_END
};

static int remove_fd(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct fd_args *a = args;

	return fds_set_remove(qmp_vm(q)->fds, a->set, (int)a->fd, e);
}

static json_t *set_info(const struct fds_set *s)
{
	json_t *list = json_array(), *o;

	for (const struct fds_member *m = s->members; m; m = m->next) {
		o = json_pack("{s:i}", "fd", m->fd);
		if (m->opaque)
			json_put_str(o, "opaque", m->opaque);
		json_array_append_new(list, o);
	}
	return json_pack("{s:I,s:o}", "fdset-id", (json_int_t)s->id, "fds", list);
}

static int query_fdsets(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	*ret = json_array();
	for (const struct fds_set *s = fds_sets(qmp_vm(q)->fds); s; s = s->next)
		json_array_append_new(*ret, set_info(s));
	return 0;
}

static const struct qmp_cmd cmds[] = {
	{ .name = "getfd", .help = "give the descriptor sent with this a name",
	  .args = name_args, .args_size = sizeof(struct fd_args), .run = getfd },
	{ .name = "closefd", .help = "close a descriptor by its name",
	  .args = name_args, .args_size = sizeof(struct fd_args), .run = closefd },
	{ .name = "add-fd", .help = "put the descriptor sent with this into a set",
	  .args = add_args, .args_size = sizeof(struct fd_args), .run = add_fd,
	  .ret = "AddfdInfo" },
	{ .name = "remove-fd", .help = "close a descriptor of a set, or the whole set",
	  .args = remove_args, .args_size = sizeof(struct fd_args), .run = remove_fd },
	{ .name = "query-fdsets", .help = "sets of descriptors", .run = query_fdsets,
	  .ret = "[FdsetInfo]" },
	{ 0 }
};

static const struct qmp_member addfd_info[] = {
	{ "fdset-id", "int" }, { "fd", "int" }, { 0 }
};
static const struct qmp_member fdset_fd[] = {
	{ "fd", "int" }, { "*opaque", "str" }, { 0 }
};
static const struct qmp_member fdset_info[] = {
	{ "fdset-id", "int" }, { "fds", "[FdsetFdInfo]" }, { 0 }
};

static const struct qmp_type types[] = {
	{ .name = "AddfdInfo", .members = addfd_info },
	{ .name = "FdsetFdInfo", .members = fdset_fd },
	{ .name = "FdsetInfo", .members = fdset_info },
	{ 0 }
};

const struct qmp_table qmp_table_fd = { .cmds = cmds, .types = types };

/*
 * vmm/run/addfd.c - -add-fd: an inherited descriptor becomes a member of a set
 * that file names can point to (/dev/fdset/N).
 *
 * Threads: main loop.
 */
#include <errno.h>
#include <fcntl.h>

#include "vmm/base/fds.h"
#include "vmm/core/vm.h"
#include "vmm/run/machine.h"

struct addfd_opts {
	uint32_t fd;
	int64_t set;
	char *opaque;
};

/* 0 to 2 are standard input, output and error. */
static const struct prop addfd_props[] = {
	PROP_U32(struct addfd_opts, fd, "fd", 3, INT32_MAX, 3, "number of the descriptor",
		 .flags = PROP_REQUIRED),
	PROP_I64(struct addfd_opts, set, "set", 0, INT64_MAX, 0, "number of the set",
		 .flags = PROP_REQUIRED),
	PROP_STR(struct addfd_opts, opaque, "opaque", NULL, "a note, shown by query-fdsets"),
	PROP_END
};

int machine_add_fd(struct vm *vm, const json_t *args, struct err *e)
{
	static const struct prop *const tables[] = { addfd_props, NULL };
	struct addfd_opts o = { 0 };
	int fd, r;

	prop_defaults(tables, &o);
	r = prop_apply(tables, &o, args, NULL, "-add-fd", e);
	if (r == 0) {
		fd = fcntl((int)o.fd, F_DUPFD_CLOEXEC, 0);
		r = fd < 0 ? err_sys(e, -errno, "-add-fd fd=%u", o.fd) :
		    fds_set_add(vm->fds, &o.set, fd, o.opaque, e);
	}
	prop_free(tables, &o);
	return r;
}

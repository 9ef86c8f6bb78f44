/*
 * vmm/run/verb_console.c - roost console NAME.
 * Threads: the only one of the process.
 */
#include <errno.h>
#include <stdlib.h>

#include "vmm/run/console_attach.h"
#include "vmm/run/verb.h"

int verb_console(struct verb_call *c, struct err *e)
{
	unsigned int flags = (c->opts.read_only ? CONSOLE_ATTACH_READ_ONLY : 0) |
		(c->opts.take ? CONSOLE_ATTACH_TAKE : 0);
	struct runtime rt = RUNTIME_INIT;
	char *path;
	int r;

	if (c->opts.read_only && c->opts.take) {
		c->exit = VERB_USAGE;
		return err_set(e, -EINVAL, "--read-only and --take contradict each other");
	}
	r = verb_vm(c, &rt, e);
	if (r)
		return r;
	path = runtime_path(&rt, RUNTIME_CONSOLE);
	r = console_attach(path, rt.name, flags, e);
	if (r == -ENOENT)
		err_prefix(e, "%s has no serial port or virtio console of its own", rt.name);
	free(path);
	runtime_close(&rt);
	return r;
}

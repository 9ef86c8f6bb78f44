/*
 * vmm/run/console_attach.h - the person's end of a console: standard input and
 * output against the socket of -chardev console.
 *
 * Threads: the only one of the process; signals are blocked meanwhile.
 */
#ifndef VMM_RUN_CONSOLE_ATTACH_H
#define VMM_RUN_CONSOLE_ATTACH_H

#include "vmm/base/err.h"

enum console_attach_flags {
	CONSOLE_ATTACH_READ_ONLY = 1 << 0,
	CONSOLE_ATTACH_TAKE = 1 << 1,	/* write, also when another client does */
};

/*
 * Show the console at socket @path, from its first byte, and send what is typed
 * until Ctrl-] on a terminal, SIGTERM, SIGINT or SIGHUP, or until the VM ends.
 * @name is for messages on stderr. Input that is no terminal is sent as it is;
 * after its end the output still goes on. The terminal is restored in any case.
 * 0, or negative errno with a sentence.
 */
int console_attach(const char *path, const char *name, unsigned int flags, struct err *e);

#endif

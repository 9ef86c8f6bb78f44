/*
 * vmm/run/hub.h - a QMP socket for several clients at once.
 *
 * A chardev has one client, as QEMU's has; verbs come and go while others
 * watch. Each client of the hub gets a chardev and a session of its own.
 *
 * Threads: main loop.
 */
#ifndef VMM_RUN_HUB_H
#define VMM_RUN_HUB_H

#include "vmm/base/err.h"

struct vm;
struct qmp;
struct hub;

#define HUB_CLIENTS 16	/* at once; more are turned away with a line in the log */

/* Listen on the unix socket @path (replaced: the folder is the caller's own)
 * and serve @q to whoever connects. */
int hub_create(struct hub **out, struct vm *vm, struct qmp *q, const char *path, struct err *e);
/* Before @q and @vm go. NULL is allowed. */
void hub_destroy(struct hub *h);

#endif

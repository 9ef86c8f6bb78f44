/*
 * vmm/control/qmp.h - the QMP server: sessions, command table, events.
 *
 * Wire format and words are QEMU's (docs/interop/qmp-spec): one JSON object per
 * line, lines end in CRLF (libvirt waits for ever without the CR).
 *
 * Threads: main loop.
 */
#ifndef VMM_CONTROL_QMP_H
#define VMM_CONTROL_QMP_H

#include <jansson.h>

#include "vmm/base/err.h"
#include "vmm/base/prop.h"

struct chardev;
struct qmp;
struct vm;

/* The version whose interface is followed; our own goes to "package". */
#define QMP_QEMU_MAJOR	8
#define QMP_QEMU_MINOR	2
#define QMP_QEMU_MICRO	0

/*
 * A command: its arguments are a property table over a struct of @args_size
 * bytes, which drives parsing, the schema and the errors. @run returns 0 and
 * may set *ret (NULL: {}), or -errno with @e.
 */
struct qmp_cmd {
	const char *name;
	const char *help;
	const struct prop *args;	/* NULL: takes none */
	size_t args_size;
	int (*run)(struct qmp *q, void *args, json_t **ret, struct err *e);
};

/* All commands; ended by a NULL name. */
extern const struct qmp_cmd qmp_commands[];

struct qmp *qmp_create(struct vm *vm);
void qmp_destroy(struct qmp *q);
struct vm *qmp_vm(struct qmp *q);

/* Serve QMP on @c from now on. */
int qmp_serve(struct qmp *q, struct chardev *c, struct err *e);

/* Execute one request in process; the reply as a client would get it. */
json_t *qmp_execute(struct qmp *q, const json_t *request);

/* {"qemu":{major,minor,micro},"package":"roost …"} */
json_t *qmp_version(void);

#endif

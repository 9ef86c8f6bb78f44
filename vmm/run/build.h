/*
 * vmm/run/build.h - from a description to a VM that is ready to start.
 *
 * Threads: main loop.
 */
#ifndef VMM_RUN_BUILD_H
#define VMM_RUN_BUILD_H

#include <jansson.h>

#include "vmm/base/err.h"
#include "vmm/loop/loop.h"

struct vm;
struct qmp;
struct built;

/*
 * Build everything @desc names on @main, in the order back ends, machine,
 * devices, monitors. Nothing of a half-built VM is left behind on failure.
 * @desc stays the caller's (a copy is kept).
 */
int build_vm(struct loop *main, const json_t *desc, struct built **out, struct err *e);
/* -aio: how the loop that @desc is built on shall wait and do file I/O. */
int build_aio(const json_t *desc, enum loop_aio *aio, struct err *e);
struct vm *built_vm(struct built *b);
struct qmp *built_qmp(struct built *b);
/* Let queued console output out, then stop and free everything. */
void build_destroy(struct built *b);

#endif

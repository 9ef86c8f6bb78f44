/*
 * vmm/control/commands_dump.h - what other commands ask about dumps.
 * Threads: main loop.
 */
#ifndef VMM_CONTROL_COMMANDS_DUMP_H
#define VMM_CONTROL_COMMANDS_DUMP_H

#include <stdbool.h>

struct qmp;

/* The guest must not run meanwhile. */
bool dump_in_progress(struct qmp *q);

#endif

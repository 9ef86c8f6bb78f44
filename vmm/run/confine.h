/*
 * vmm/run/confine.h - what a VM's process gives up once it is set up: -runas
 * and -sandbox. Part of the program, not of the library: both are of a whole
 * process.
 */
#ifndef VMM_RUN_CONFINE_H
#define VMM_RUN_CONFINE_H

#include <jansson.h>

#include "vmm/base/err.h"

/*
 * Become the user "NAME" or "UID:GID" of desc["runas"], groups and all, with
 * no way back; then put the filter of desc["sandbox"] over every thread there
 * is and will be. What is not asked for is not done. Before the vCPUs run,
 * after everything is open. 0 or -errno with a sentence.
 */
int confine(const json_t *desc, struct err *e);
/* Are the words of both options good? Before anything is built. */
int confine_check(const json_t *desc, struct err *e);

#endif

/*
 * vmm/run/verb_man.h - what the build and the shells ask `roost help`.
 */
#ifndef VMM_RUN_VERB_MAN_H
#define VMM_RUN_VERB_MAN_H

#include "vmm/base/err.h"

/* Print one part of the manual page. */
int verb_man(const char *part, struct err *e);

/*
 * Print what the last of @words (those behind `roost`, the last one perhaps
 * empty) may become, a whole word on each line. "@file" means: a file's name.
 */
int verb_complete(int n, char **words);

#endif

/*
 * vmm/run/ignored.h - the one table of QEMU options that are taken and change
 * nothing.
 */
#ifndef VMM_RUN_IGNORED_H
#define VMM_RUN_IGNORED_H

#include <stdbool.h>
#include <stdio.h>

struct ignored {
	const char *option;	/* without the '-' */
	const char *arg;	/* as it is written, NULL: none */
	const char *only;	/* the one value that is accepted, or NULL: any */
	bool part;		/* one member of an option that does have effects */
	const char *why;	/* lower case, no full stop */
};

/* The whole option @name, or NULL. */
const struct ignored *ignored_find(const char *name);
/* `roost help ignored`. */
void ignored_print(FILE *f);
/* One after the other, NULL at the end. */
const struct ignored *ignored_at(size_t i);

#endif

/*
 * vmm/run/options.h - the command line: from argv to the description.
 *
 * Parsing yields plain JSON and touches nothing: no file is opened and no
 * device made. Members of the description:
 *
 *	machine, accel, smp, memory, name, rtc, msg, boot	objects
 *	cpu, uuid, kernel, initrd, append, pidfile		texts
 *	objects, chardevs, blockdevs, drives, devices, smbios	arrays of objects
 *	serials, monitors, qmps, trace, readconfig		arrays of texts
 *	nodefaults, nographic, no-reboot, no-shutdown, paused, daemonize	true
 */
#ifndef VMM_RUN_OPTIONS_H
#define VMM_RUN_OPTIONS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "vmm/base/err.h"

enum options_action {
	OPTIONS_RUN,		/* build and run the description */
	OPTIONS_HELP,		/* print the option list */
	OPTIONS_VERSION,
	OPTIONS_DUMP,		/* print the description as JSON */
};

/* Parse @argv[1..]; *desc is a new object also for help and version. 0 or
 * -EINVAL with a sentence that names the option. */
int options_parse(int argc, char **argv, json_t **desc, enum options_action *act,
		  struct err *e);
/* The reply of query-command-line-options, a new array. */
json_t *options_describe(void);
/* The complete option list, aligned, for --help. */
void options_print_list(FILE *f);
/* One option of it; false: there is none of this name. */
bool options_print_one(const char *name, FILE *f);
/* QEMU has it, roost has not. */
bool options_qemu_only(const char *name);

/* For the manual page and completion: the options one after the other. */
struct option_info {
	const char *name;	/* without the '-' */
	const char *arg;	/* NULL: takes none */
	const char *help;
};
bool options_at(size_t i, struct option_info *info);

#endif

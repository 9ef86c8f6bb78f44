/*
 * vmm/run/help.h - `help` as an argument: lists made from the tables.
 */
#ifndef VMM_RUN_HELP_H
#define VMM_RUN_HELP_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "vmm/base/prop.h"

/* Print what @desc asks help for (-device help, -device X,help, -machine help,
 * -cpu help, -object help, -d help); false when it asks for none. */
bool help_print(const json_t *desc, FILE *f);

/* A device's options; false: there is no such device. */
bool help_device(const char *driver, FILE *f);
/* The table that option @name's argument is read by, or NULL. */
const struct prop *help_option_props(const char *name);
/* What the argument of option @name is made of, when tables say so. */
void help_option_parts(const char *name, FILE *f);

#endif

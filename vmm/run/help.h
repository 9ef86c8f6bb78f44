/*
 * vmm/run/help.h - `help` as an argument: lists made from the tables.
 */
#ifndef VMM_RUN_HELP_H
#define VMM_RUN_HELP_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/* Print what @desc asks help for (-device help, -device X,help, -machine help,
 * -cpu help, -object help, -d help); false when it asks for none. */
bool help_print(const json_t *desc, FILE *f);

#endif

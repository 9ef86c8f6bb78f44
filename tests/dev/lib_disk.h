/*
 * tests/dev/lib_disk.h - what tests of disks share: a folder for images, and faults.
 */
#ifndef TESTS_DEV_LIB_DISK_H
#define TESTS_DEV_LIB_DISK_H

#include <stdint.h>

#include "block/block.h"

extern char td_dir[32];		/* the test's folder */

void td_make(void);
void td_remove(void);		/* with the files in it */
/* @command of the shell in the folder, which must succeed. */
void td_sh(const char *command);
/* A rule for requests, "id=f0,drive=disk,op=write,…", printed with what follows. */
void td_fault(struct block_graph *g, const char *rule, ...)
	__attribute__((format(printf, 2, 3)));
/* Requests that rules hold at this moment. */
uint32_t td_held(struct block_graph *g);

#endif

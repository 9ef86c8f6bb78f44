/*
 * vmm/run/expect.h - `roost run --expect FILE`: a script of what to type to a
 * guest and what to wait for (docs/testing-your-guest.md).
 *
 * Part of the program, not of the library: it prints to stdout.
 *
 * Threads: the caller's.
 */
#ifndef VMM_RUN_EXPECT_H
#define VMM_RUN_EXPECT_H

#include <jansson.h>

/* Run the VM that @desc describes and the script that its "expect" names. 0: all
 * came as expected, 1: not, or the VM could not be made, 2: the script makes no
 * sense; sentences go to the log. */
int expect_run(const json_t *desc);

#endif

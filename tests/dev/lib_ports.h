/*
 * tests/dev/lib_ports.h - the hostile part that every device on fixed I/O
 * ports shares.
 */
#ifndef TESTS_DEV_LIB_PORTS_H
#define TESTS_DEV_LIB_PORTS_H

#include "tests/dev/lib_rig.h"

/* Every width at every port of [first, first+count), and at those whose last
 * byte is the first of it or whose first is the last: reads, then writes of
 * patterns. Must neither crash nor hang; what the device does is its own. */
void ports_hostile(struct rig *r, uint16_t first, uint16_t count);

#endif

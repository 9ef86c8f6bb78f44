/*
 * vmm/run/ports.h - the root ports of a description.
 */
#ifndef VMM_RUN_PORTS_H
#define VMM_RUN_PORTS_H

#include <jansson.h>
#include <stdint.h>

/* Add @count root ports to @desc's "devices", give ids to those without, and put
 * all ports first. */
void ports_complete(json_t *desc, uint32_t count);

#endif

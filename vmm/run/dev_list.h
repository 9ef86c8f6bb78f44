/*
 * vmm/run/dev_list.h - every device type this build offers.
 */
#ifndef VMM_RUN_DEV_LIST_H
#define VMM_RUN_DEV_LIST_H

#include "vmm/core/dev.h"

/* NULL-terminated; the order is that of `-device help`. */
extern const struct dev_type *const dev_list[];

#endif

/*
 * vmm/core/plug.h - what plug.c, dev.c and vm.c do together. The interface for
 * everybody else is in dev.h. Main loop.
 */
#ifndef VMM_CORE_PLUG_H
#define VMM_CORE_PLUG_H

#include "vmm/core/dev.h"

/* The nearest class's hot-plug operations, NULL: none has any. */
const struct dev_plug_ops *dev_type_plug(const struct dev_type *t);
/* During creation, and the last step of destruction. */
void plug_init(struct dev *d);
void plug_free(struct dev *d);
/* Creation is done. */
void plug_arrived(struct dev *d);
/* A reset of @d has ended. True when it leaves: it stays pending then. */
bool plug_reset_done(struct dev *d);
/* All devices are reset, the machine boots next: devices that were asked to
 * leave go now. True: they need time, it is called again then. */
bool plug_at_reset(struct vm *vm);

#endif

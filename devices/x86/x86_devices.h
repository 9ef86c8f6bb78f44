/*
 * devices/x86/x86_devices.h - the PC's own devices, for the machine and the
 * list of types.
 */
#ifndef DEVICES_X86_X86_DEVICES_H
#define DEVICES_X86_X86_DEVICES_H

#include "vmm/core/dev.h"

extern const struct dev_type lpc_type;		/* "ICH9-LPC" at 1f.0, with PM block */
extern const struct dev_type rtc_type;		/* "mc146818rtc" */
extern const struct dev_type i8042_type;	/* "i8042" */
extern const struct dev_type ioapic_type;	/* "ioapic", split irqchip only */
extern const struct dev_type pvpanic_type;	/* "pvpanic" */
extern const struct dev_type debug_exit_type;	/* "isa-debug-exit" */

/* The host's clock as @d, an rtc_type, shows it jumps by so much. Main loop. */
void rtc_jump(struct dev *d, int64_t seconds);
/* Press the power button of @d, an lpc_type. Main loop. */
void lpc_power_button(struct dev *d);
/* General purpose event @n (0..63) of @d, an lpc_type, happens. Main loop. */
void lpc_gpe(struct dev *d, unsigned int n);

#endif

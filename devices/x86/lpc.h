/*
 * devices/x86/lpc.h - what the two halves of the LPC bridge share.
 */
#ifndef DEVICES_X86_LPC_H
#define DEVICES_X86_LPC_H

#include "devices/x86/deadline.h"
#include "pci/pci.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/core/reg.h"

struct lpc {
	struct pci_dev pci;
	struct bus_win pm_win, apm_win, port92_win;
	uint8_t pm[X86_PM_SIZE] __attribute__((aligned(8)));	/* registers' image */
	uint8_t apm[2];			/* ports 0xb2, 0xb3 */
	uint8_t port92, cf9;
	struct irq_pin sci;
	uint64_t timer_base_ns;		/* when the PM timer read 0 */
	uint64_t timer_halves;		/* bit 23 changes that TMR_STS has seen */
	struct deadline overflow;	/* set while TMR_EN is */
};

/* lpc_pm.c: the PM block; device lock held, except init and fini. */
extern const struct reg lpc_pm_regs[];
int lpc_pm_init(struct lpc *l, struct err *e);
void lpc_pm_fini(struct lpc *l);
void lpc_pm_reset(struct lpc *l);
/* What firmware's SMI handler does for APM_CNT 2 and 3. */
void lpc_pm_set_acpi(struct lpc *l, bool on);

#endif

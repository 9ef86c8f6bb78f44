/*
 * devices/serial/uart16550.h - the 16550A itself, for whoever places it on a
 * bus: isa_serial.c now, a PCI function later.
 *
 * Threads: everything with the owner's device lock held, which is also around
 *          the chardev's callbacks; set-up and end on the main loop.
 */
#ifndef DEVICES_SERIAL_UART16550_H
#define DEVICES_SERIAL_UART16550_H

#include "vmm/char/char.h"
#include "vmm/core/dev.h"

#define UART_REG_BYTES	8
#define UART_FIFO_BYTES	16		/* s8.5 */

struct uart16550 {
	struct dev *dev;		/* owner */
	/* The interrupt output; called with the present level, also when it
	 * did not change. */
	void (*irq)(struct uart16550 *u, bool level);
	struct chardev *chr;		/* the chardev set's; NULL: none */
	struct char_front front;
	/* device lock */
	uint8_t ier, fcr, lcr, mcr, lsr, msr, scr, dll, dlm;
	struct uart_rx {
		uint8_t byte;
		uint8_t lsr;		/* errors that came with it */
	} rx[UART_FIFO_BYTES];
	unsigned int rx_head, rx_count;
	bool break_waits;		/* for room behind what is in rx */
	uint8_t tx[UART_FIFO_BYTES];	/* what the chardev did not take yet */
	unsigned int tx_count;
	bool thr_pending;		/* "THR empty" not yet seen in IIR */
	unsigned int burst;		/* bytes since the handler last got out */
	struct loop_work resume;	/* ends a burst on the main loop */
};

/* Take @chardev (an id) for @dev; @u is zeroed. 0 or -errno with @e. */
int uart16550_init(struct uart16550 *u, struct dev *dev, const char *chardev,
		   void (*irq)(struct uart16550 *u, bool level), struct err *e);
void uart16550_fini(struct uart16550 *u);	/* also after a failed init */
void uart16550_reset(struct uart16550 *u);

/* Byte registers 0..7. */
uint8_t uart16550_read(struct uart16550 *u, unsigned int off);
void uart16550_write(struct uart16550 *u, unsigned int off, uint8_t val);

#endif

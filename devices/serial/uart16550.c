/*
 * devices/serial/uart16550.c - serial port of a PC, a 16550A at an ISA address.
 * Spec:    National Semiconductor PC16550D data sheet, s8 (registers).
 * Threads: registers run on vCPU threads, the chardev's callbacks on the main
 *          loop, both with the device lock held.
 * Missing: baud rates take no time; modem control lines lead nowhere.
 *
 * Nothing the guest sends is dropped and no vCPU waits: a byte the chardev
 * does not take stays in the transmit FIFO, and THRE and TEMT stay clear until
 * it does. A back end without a reader takes everything (see vmm/char).
 *
 * THRE comes back at once when there is room, so a driver that writes 16 bytes
 * per interrupt (Linux's 8250) finds the next interrupt pending when it looks
 * again and needs no exit in between. Linux gives up a handler that loops 512
 * times ("too much work for irq"), so every TX_BURST bytes THRE is left to the
 * main loop for once.
 */
#include <errno.h>
#include <linux/serial_reg.h>

#include "vmm/base/util.h"
#include "vmm/char/char.h"
#include "vmm/core/bus.h"
#include "vmm/core/dev.h"
#include "vmm/core/irq.h"
#include "vmm/core/vm.h"

#define UART_PORTS	4
#define FIFO_BYTES	16	/* s8.5 */
#define IIR_FIFO_ON	0xc0	/* s8.6.2: FCR bit 0 is set */
#define TX_BURST	2048	/* bytes; a quarter of Linux's patience */

struct uart {
	struct dev dev;			/* first: the core hands us &dev */
	/* properties */
	char *chardev;
	int32_t index;			/* -1: the next free one */
	uint32_t iobase, irq;		/* 0: the index's usual ones */
	/* set-up, constant afterwards */
	struct bus_win win;
	struct irq_pin pin;
	struct chardev *chr;		/* the chardev set's; NULL: none */
	struct char_front front;
	/* device lock */
	uint8_t ier, fcr, lcr, mcr, lsr, msr, scr, dll, dlm;
	uint8_t rx[FIFO_BYTES], tx[FIFO_BYTES];
	unsigned int rx_head, rx_count, tx_count;
	bool thr_pending;		/* "THR empty" not yet seen in IIR */
	unsigned int burst;		/* bytes since the handler last got out */
	struct loop_work resume;	/* ends a burst on the main loop */
};

static const struct {
	uint16_t iobase;
	uint8_t irq;
} usual[UART_PORTS] = { { 0x3f8, 4 }, { 0x2f8, 3 }, { 0x3e8, 4 }, { 0x2e8, 3 } };

static const struct prop uart_props[] = {
	PROP_LINK(struct uart, chardev, "chardev", "chardev", "where the bytes go",
		  .flags = PROP_REQUIRED),
	PROP_I32(struct uart, index, "index", -1, UART_PORTS - 1, -1,
		 "number of the port, 0 is COM1; -1: the next free one"),
	PROP_U32(struct uart, iobase, "iobase", 0, 0xfff8, 0, "I/O address; 0: by index"),
	PROP_U32(struct uart, irq, "irq", 0, 15, 0, "interrupt line; 0: by index"),
	PROP_END
};

static bool fifo_on(const struct uart *u)
{
	return u->fcr & UART_FCR_ENABLE_FIFO;
}

static unsigned int rx_room(const struct uart *u)
{
	return (fifo_on(u) ? FIFO_BYTES : 1) - MIN(u->rx_count, fifo_on(u) ? FIFO_BYTES : 1u);
}

/* s8.6.3, FCR bits 6 and 7: bytes in the FIFO that raise "data available". */
static unsigned int rx_trigger(const struct uart *u)
{
	static const uint8_t level[] = { 1, 4, 8, 14 };

	return fifo_on(u) ? level[u->fcr >> 6] : 1;
}

/*
 * s8.6.2 table III: the pending interrupt of highest priority. Fewer bytes
 * than the trigger level raise the timeout at once: everything the back end
 * had is in the FIFO already, more waiting would bring nothing.
 */
static uint8_t iir_source(const struct uart *u)
{
	if ((u->ier & UART_IER_RLSI) && (u->lsr & UART_LSR_BRK_ERROR_BITS))
		return UART_IIR_RLSI;
	if ((u->ier & UART_IER_RDI) && u->rx_count)
		return u->rx_count >= rx_trigger(u) ? UART_IIR_RDI : UART_IIR_RX_TIMEOUT;
	if ((u->ier & UART_IER_THRI) && u->thr_pending)
		return UART_IIR_THRI;
	if ((u->ier & UART_IER_MSI) && (u->msr & UART_MSR_ANY_DELTA))
		return UART_IIR_MSI;
	return UART_IIR_NO_INT;
}

/* On a PC OUT2 gates the line; in loopback mode it is off (s8.6.5). */
static void update_irq(struct uart *u)
{
	bool gate = (u->mcr & UART_MCR_OUT2) && !(u->mcr & UART_MCR_LOOP);

	irq_pin_set(&u->pin, gate && iir_source(u) != UART_IIR_NO_INT);
}

/* ---- receive ---- */

static void rx_push(struct uart *u, uint8_t c)
{
	if (!rx_room(u)) {
		u->lsr |= UART_LSR_OE;
		return;
	}
	u->rx[(u->rx_head + u->rx_count++) % FIFO_BYTES] = c;
	u->lsr |= UART_LSR_DR;
}

static uint8_t rx_pop(struct uart *u)
{
	bool was_full = !rx_room(u);
	uint8_t c;

	if (!u->rx_count)
		return 0;
	c = u->rx[u->rx_head];
	u->rx_head = (u->rx_head + 1) % FIFO_BYTES;
	if (--u->rx_count == 0)
		u->lsr &= (uint8_t)~UART_LSR_DR;
	if (was_full && u->chr)
		char_accept_input(u->chr);
	return c;
}

static void rx_clear(struct uart *u)
{
	u->rx_count = 0;
	u->lsr &= (uint8_t)~(UART_LSR_DR | UART_LSR_BRK_ERROR_BITS);
	if (u->chr)
		char_accept_input(u->chr);
}

static size_t uart_can_read(struct char_front *f)
{
	struct uart *u = container_of(f, struct uart, front);

	return u->mcr & UART_MCR_LOOP ? 0 : rx_room(u);
}

static void uart_read(struct char_front *f, const uint8_t *buf, size_t len)
{
	struct uart *u = container_of(f, struct uart, front);

	for (size_t i = 0; i < len; i++)
		rx_push(u, buf[i]);
	update_irq(u);
}

static void uart_event(struct char_front *f, enum char_event ev)
{
	struct uart *u = container_of(f, struct uart, front);

	if (ev != CHAR_BREAK)
		return;
	rx_push(u, 0);		/* s8.4: a break loads one zero character */
	u->lsr |= UART_LSR_BI;
	update_irq(u);
}

/* ---- transmit ---- */

static void thr_empty(struct uart *u)
{
	u->lsr |= UART_LSR_THRE | UART_LSR_TEMT;
	u->thr_pending = true;
}

static void uart_writable(struct char_front *f)
{
	struct uart *u = container_of(f, struct uart, front);
	size_t n;

	if (!u->tx_count)
		return;
	n = char_write(u->chr, u->tx, u->tx_count);
	u->tx_count -= (unsigned int)n;
	memmove(u->tx, u->tx + n, u->tx_count);
	if (!u->tx_count)
		thr_empty(u);
	update_irq(u);
}

/* Main loop: the guest's handler had its chance to leave. */
static void burst_over(struct loop_work *w)
{
	struct uart *u = container_of(w, struct uart, resume);

	pthread_mutex_lock(&u->dev.lock);
	u->burst = 0;
	if (!u->tx_count)
		thr_empty(u);
	update_irq(u);
	pthread_mutex_unlock(&u->dev.lock);
}

static void tx_byte(struct uart *u, uint8_t c)
{
	u->thr_pending = false;
	if (!u->chr || char_write(u->chr, &c, 1) == 1) {
		if ((u->ier & UART_IER_THRI) && ++u->burst == TX_BURST) {
			u->lsr &= (uint8_t)~(UART_LSR_THRE | UART_LSR_TEMT);
			loop_post(u->dev.vm->main, &u->resume);
		} else if (u->burst < TX_BURST) {
			thr_empty(u);
		}
		return;
	}
	/* The guest writes while THRE is clear only against s8.6.1: the oldest
	 * bytes count. */
	if (u->tx_count < FIFO_BYTES)
		u->tx[u->tx_count++] = c;
	u->lsr &= (uint8_t)~(UART_LSR_THRE | UART_LSR_TEMT);
}

static void write_thr(struct uart *u, uint8_t c)
{
	if (u->mcr & UART_MCR_LOOP) {
		rx_push(u, c);
		thr_empty(u);
	} else if (u->tx_count) {
		if (u->tx_count < FIFO_BYTES)
			u->tx[u->tx_count++] = c;
	} else {
		tx_byte(u, c);
	}
}

/* ---- registers, s8.6 ---- */

/* s8.6.7: in loopback mode the modem inputs are the modem outputs; otherwise
 * the cable is always there. Changes set the delta bits. */
static void update_modem(struct uart *u)
{
	uint8_t lines = UART_MSR_CTS | UART_MSR_DSR | UART_MSR_DCD, changed;

	if (u->mcr & UART_MCR_LOOP)
		lines = (uint8_t)((u->mcr & UART_MCR_RTS ? UART_MSR_CTS : 0) |
				  (u->mcr & UART_MCR_DTR ? UART_MSR_DSR : 0) |
				  (u->mcr & UART_MCR_OUT1 ? UART_MSR_RI : 0) |
				  (u->mcr & UART_MCR_OUT2 ? UART_MSR_DCD : 0));
	changed = (uint8_t)((u->msr ^ lines) & 0xf0);
	/* The ring indicator's delta is set on its trailing edge only. */
	if (lines & UART_MSR_RI)
		changed &= (uint8_t)~UART_MSR_RI;
	u->msr = (uint8_t)(lines | (u->msr & UART_MSR_ANY_DELTA) | changed >> 4);
}

static void write_fcr(struct uart *u, uint8_t val)
{
	if ((val ^ u->fcr) & UART_FCR_ENABLE_FIFO)
		val |= UART_FCR_CLEAR_RCVR | UART_FCR_CLEAR_XMIT;
	if (val & UART_FCR_CLEAR_RCVR)
		rx_clear(u);
	if ((val & UART_FCR_CLEAR_XMIT) && u->tx_count) {
		u->tx_count = 0;
		thr_empty(u);
	}
	u->fcr = val & (UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_MASK);
	if (!(u->fcr & UART_FCR_ENABLE_FIFO))
		u->fcr = 0;
}

static void write_ier(struct uart *u, uint8_t val)
{
	val &= UART_IER_MSI | UART_IER_RLSI | UART_IER_THRI | UART_IER_RDI;
	/* Enabling THRI while THR is empty raises it (Linux tests for that). */
	if ((val & ~u->ier & UART_IER_THRI) && (u->lsr & UART_LSR_THRE))
		u->thr_pending = true;
	if (!(val & UART_IER_THRI))
		u->burst = u->burst == TX_BURST ? u->burst : 0;
	u->ier = val;
}

static void uart_write(struct bus_win *w, uint64_t off, unsigned int width, uint64_t val)
{
	struct uart *u = DEV_OF(w->dev, struct uart);
	bool dlab = u->lcr & UART_LCR_DLAB;
	uint8_t v = (uint8_t)val;

	switch (off) {
	case UART_TX:			/* DLL with DLAB */
		if (dlab)
			u->dll = v;
		else
			write_thr(u, v);
		break;
	case UART_IER:			/* DLM with DLAB */
		if (dlab)
			u->dlm = v;
		else
			write_ier(u, v);
		break;
	case UART_FCR:
		write_fcr(u, v);
		break;
	case UART_LCR:
		u->lcr = v;
		break;
	case UART_MCR:
		u->mcr = v & 0x1f;
		update_modem(u);
		if (!(u->mcr & UART_MCR_LOOP) && u->chr)
			char_accept_input(u->chr);
		break;
	case UART_SCR:
		u->scr = v;
		break;
	default:			/* LSR and MSR are read-only */
		break;
	}
	update_irq(u);
}

static uint8_t read_iir(struct uart *u)
{
	uint8_t iir = iir_source(u);

	if (iir == UART_IIR_THRI)
		u->thr_pending = false;		/* s8.6.2 table III */
	if (iir == UART_IIR_NO_INT)
		u->burst = u->burst == TX_BURST ? u->burst : 0;
	return iir | (fifo_on(u) ? IIR_FIFO_ON : 0);
}

static uint8_t read_and_clear(uint8_t *reg, uint8_t bits)
{
	uint8_t v = *reg;

	*reg &= (uint8_t)~bits;
	return v;
}

static uint64_t uart_read_reg(struct bus_win *w, uint64_t off, unsigned int width)
{
	struct uart *u = DEV_OF(w->dev, struct uart);
	bool dlab = u->lcr & UART_LCR_DLAB;
	uint8_t v = 0;

	switch (off) {
	case UART_RX:
		v = dlab ? u->dll : rx_pop(u);
		break;
	case UART_IER:
		v = dlab ? u->dlm : u->ier;
		break;
	case UART_IIR:
		v = read_iir(u);
		break;
	case UART_LCR:
		return u->lcr;
	case UART_MCR:
		return u->mcr;
	case UART_LSR:
		v = read_and_clear(&u->lsr, UART_LSR_BRK_ERROR_BITS);
		break;
	case UART_MSR:
		v = read_and_clear(&u->msr, UART_MSR_ANY_DELTA);
		break;
	case UART_SCR:
		return u->scr;
	}
	update_irq(u);
	return v;
}

static const struct bus_win_ops uart_ops = { .read = uart_read_reg, .write = uart_write };

/* ---- reset, init, fini ---- */

static int uart_reset(struct dev *d)
{
	struct uart *u = DEV_OF(d, struct uart);

	/* s8.0 table I; bytes on their way out still go out. */
	u->ier = u->fcr = u->lcr = u->mcr = u->scr = u->dlm = 0;
	u->dll = 12;			/* 9600 baud, as firmware leaves it */
	u->lsr = u->tx_count ? 0 : UART_LSR_THRE | UART_LSR_TEMT;
	u->msr = 0;
	u->thr_pending = false;
	rx_clear(u);
	update_modem(u);
	u->msr &= (uint8_t)~UART_MSR_ANY_DELTA;
	update_irq(u);
	return 0;
}

extern const struct dev_type isa_serial_type;

/* Give the port its number; two may not share one. */
static int uart_number(struct uart *u, struct err *e)
{
	bool used[UART_PORTS] = { false };

	for (struct dev *d = u->dev.vm->devs; d; d = d->next)
		if (d->type == &isa_serial_type && d != &u->dev)
			used[DEV_OF(d, struct uart)->index] = true;
	for (int i = 0; u->index < 0 && i < UART_PORTS; i++)
		if (!used[i])
			u->index = i;
	if (u->index < 0)
		return err_set(e, -ENOSPC, "%s: all %d serial ports are taken", u->dev.path,
			       UART_PORTS);
	if (used[u->index])
		return err_set(e, -EBUSY, "%s: serial port index=%d is taken; choose another of 0..%d",
			       u->dev.path, u->index, UART_PORTS - 1);
	return 0;
}

static int uart_init(struct dev *d, struct err *e)
{
	struct uart *u = DEV_OF(d, struct uart);
	struct chardev *chr;
	int r = uart_number(u, e);

	if (r)
		return r;
	u->resume.cb = burst_over;
	irq_pin_init(&u->pin, d->vm->irq, u->irq ? u->irq : usual[u->index].irq);
	chr = char_find(d->vm->chars, u->chardev);
	if (!chr)
		return err_set(e, -ENOENT, "%s: chardev=%s: no such chardev; add -chardev "
			       "null,id=%s or another", d->path, u->chardev, u->chardev);
	u->front = (struct char_front){ .can_read = uart_can_read, .read = uart_read,
					.writable = uart_writable, .event = uart_event,
					.lock = &d->lock };
	r = char_connect(chr, &u->front, d->path, e);
	if (r)
		return r;
	u->chr = chr;
	u->win = (struct bus_win){ .name = "serial", .dev = d, .size = 8, .ops = &uart_ops };
	return bus_map(d->vm->bus[BUS_PIO], &u->win,
		       u->iobase ? u->iobase : usual[u->index].iobase);
}

static void uart_fini(struct dev *d)
{
	struct uart *u = DEV_OF(d, struct uart);

	bus_unmap(&u->win);
	if (u->chr)
		char_connect(u->chr, NULL, NULL, NULL);
	loop_work_cancel(d->vm->main, &u->resume);
	irq_pin_set(&u->pin, false);
}

const struct dev_type isa_serial_type = {
	.name = "isa-serial", .help = "16550A serial port of a PC",
	.size = sizeof(struct uart), .props = uart_props,
	.ops = { .init = uart_init, .fini = uart_fini, .reset = uart_reset },
	.flags = DEV_NO_HOTPLUG,
};

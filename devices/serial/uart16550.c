/*
 * devices/serial/uart16550.c - the 16550A UART.
 * Spec:    National Semiconductor PC16550D data sheet, s8 (registers).
 * Threads: registers run on vCPU threads, the chardev's callbacks on the main
 *          loop, both with the owner's device lock held.
 * Missing: baud rates take no time; modem control lines lead nowhere; DMA mode
 *          (FCR bit 3) has no pins to show itself on.
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
 *
 * OUT2, which gates the line on the PC's serial cards, does not gate it here:
 * systems written on QEMU (xv6, for one) leave it clear and expect interrupts.
 */
#include <errno.h>
#include <linux/serial_reg.h>

#include "devices/serial/uart16550.h"
#include "vmm/base/util.h"
#include "vmm/core/vm.h"

#define IIR_FIFO_ON	0xc0	/* s8.6.2: FCR bit 0 is set */
#define TX_BURST	2048	/* bytes; a quarter of Linux's patience */
#define LSR_TX_EMPTY	(UART_LSR_THRE | UART_LSR_TEMT)
#define LSR_ERRORS	(UART_LSR_OE | UART_LSR_PE | UART_LSR_FE | UART_LSR_BI)

static bool fifo_on(const struct uart16550 *u)
{
	return u->fcr & UART_FCR_ENABLE_FIFO;
}

/* s8.6.3, FCR bits 6 and 7: bytes in the FIFO that raise "data available". */
static unsigned int rx_trigger(const struct uart16550 *u)
{
	static const uint8_t level[] = { 1, 4, 8, 14 };

	return fifo_on(u) ? level[u->fcr >> 6] : 1;
}

/*
 * s8.6.2 table III: the pending interrupt of highest priority. Fewer bytes
 * than the trigger level raise the timeout at once: everything the back end
 * had is in the FIFO already, more waiting would bring nothing.
 */
static uint8_t iir_source(const struct uart16550 *u)
{
	if ((u->ier & UART_IER_RLSI) && (u->lsr & LSR_ERRORS))
		return UART_IIR_RLSI;
	if ((u->ier & UART_IER_RDI) && u->rx_count)
		return u->rx_count >= rx_trigger(u) ? UART_IIR_RDI : UART_IIR_RX_TIMEOUT;
	if ((u->ier & UART_IER_THRI) && u->thr_pending)
		return UART_IIR_THRI;
	if ((u->ier & UART_IER_MSI) && (u->msr & UART_MSR_ANY_DELTA))
		return UART_IIR_MSI;
	return UART_IIR_NO_INT;
}

static void update_irq(struct uart16550 *u)
{
	u->irq(u, iir_source(u) != UART_IIR_NO_INT);
}

/* ---- receive ---- */

static unsigned int rx_room(const struct uart16550 *u)
{
	unsigned int size = fifo_on(u) ? UART_FIFO_BYTES : 1;

	return size - MIN(u->rx_count, size);
}

/* s8.6.4: errors show when their character is the next to be read. */
static void rx_show_top(struct uart16550 *u)
{
	struct uart_rx *top = &u->rx[u->rx_head];

	if (!u->rx_count) {
		u->lsr &= (uint8_t)~UART_LSR_DR;
		return;
	}
	u->lsr |= UART_LSR_DR | top->lsr;
	top->lsr = 0;
}

static void rx_push(struct uart16550 *u, uint8_t byte, uint8_t lsr)
{
	if (!rx_room(u)) {
		u->lsr |= UART_LSR_OE;
		return;
	}
	u->rx[(u->rx_head + u->rx_count++) % UART_FIFO_BYTES] =
		(struct uart_rx){ byte, lsr };
	if (u->rx_count == 1)
		rx_show_top(u);
}

/* A break is one zero character with BI set (s8.6.4), behind what came before. */
static void rx_break(struct uart16550 *u)
{
	u->break_waits = !rx_room(u);
	if (!u->break_waits)
		rx_push(u, 0, UART_LSR_BI);
}

static uint8_t rx_pop(struct uart16550 *u)
{
	uint8_t byte = u->rx[u->rx_head].byte;
	bool was_full = !rx_room(u);

	if (!u->rx_count)
		return byte;	/* an empty FIFO repeats its last character */
	u->rx_head = (u->rx_head + 1) % UART_FIFO_BYTES;
	u->rx_count--;
	rx_show_top(u);
	if (u->break_waits)
		rx_break(u);
	if (was_full && u->chr)
		char_accept_input(u->chr);
	return byte;
}

static void rx_clear(struct uart16550 *u)
{
	u->rx_count = 0;
	u->break_waits = false;
	u->lsr &= (uint8_t)~(UART_LSR_DR | LSR_ERRORS);
	if (u->chr)
		char_accept_input(u->chr);
}

/* s8.6.4 bit 7: an error is behind the top. */
static uint8_t rx_error_waits(const struct uart16550 *u)
{
	unsigned int i;

	for (i = 0; fifo_on(u) && i < u->rx_count; i++)
		if (u->rx[(u->rx_head + i) % UART_FIFO_BYTES].lsr)
			return UART_LSR_FIFOE;
	return 0;
}

static size_t front_can_read(struct char_front *f)
{
	struct uart16550 *u = container_of(f, struct uart16550, front);

	return u->mcr & UART_MCR_LOOP || u->break_waits ? 0 : rx_room(u);
}

static void front_read(struct char_front *f, const uint8_t *buf, size_t len)
{
	struct uart16550 *u = container_of(f, struct uart16550, front);

	for (size_t i = 0; i < len; i++)
		rx_push(u, buf[i], 0);
	update_irq(u);
}

static void front_event(struct char_front *f, enum char_event ev)
{
	struct uart16550 *u = container_of(f, struct uart16550, front);

	if (ev != CHAR_BREAK || (u->mcr & UART_MCR_LOOP))
		return;
	rx_break(u);
	update_irq(u);
}

/* ---- transmit ---- */

static void thr_empty(struct uart16550 *u)
{
	u->lsr |= LSR_TX_EMPTY;
	u->thr_pending = true;
}

static void front_writable(struct char_front *f)
{
	struct uart16550 *u = container_of(f, struct uart16550, front);
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
	struct uart16550 *u = container_of(w, struct uart16550, resume);

	pthread_mutex_lock(&u->dev->lock);
	u->burst = 0;
	if (!u->tx_count)
		thr_empty(u);
	update_irq(u);
	pthread_mutex_unlock(&u->dev->lock);
}

/* The guest's handler has seen that nothing is left to do. */
static void burst_ends(struct uart16550 *u)
{
	if (u->burst < TX_BURST)	/* else burst_over() is on its way */
		u->burst = 0;
}

static void tx_queue(struct uart16550 *u, uint8_t byte)
{
	/* Full only when the guest writes against s8.6.4, without looking at
	 * THRE: the oldest bytes count. */
	if (u->tx_count < UART_FIFO_BYTES)
		u->tx[u->tx_count++] = byte;
	u->lsr &= (uint8_t)~LSR_TX_EMPTY;
}

static void write_thr(struct uart16550 *u, uint8_t byte)
{
	u->thr_pending = false;
	if (u->mcr & UART_MCR_LOOP) {
		rx_push(u, byte, 0);
		thr_empty(u);
	} else if (u->tx_count || (u->chr && !char_write(u->chr, &byte, 1))) {
		tx_queue(u, byte);
	} else if ((u->ier & UART_IER_THRI) && u->burst < TX_BURST &&
		   ++u->burst == TX_BURST) {
		u->lsr &= (uint8_t)~LSR_TX_EMPTY;
		loop_post(u->dev->vm->main, &u->resume);
	} else if (u->burst < TX_BURST) {
		thr_empty(u);
	}
}

/* ---- registers, s8.6 ---- */

/* s8.6.7: in loopback mode the modem inputs are the modem outputs; otherwise
 * the cable is always there. Changes set the delta bits. */
static void update_modem(struct uart16550 *u)
{
	uint8_t lines = UART_MSR_CTS | UART_MSR_DSR | UART_MSR_DCD, delta;

	if (u->mcr & UART_MCR_LOOP)
		lines = (uint8_t)((u->mcr & UART_MCR_RTS ? UART_MSR_CTS : 0) |
				  (u->mcr & UART_MCR_DTR ? UART_MSR_DSR : 0) |
				  (u->mcr & UART_MCR_OUT1 ? UART_MSR_RI : 0) |
				  (u->mcr & UART_MCR_OUT2 ? UART_MSR_DCD : 0));
	delta = (uint8_t)(((u->msr ^ lines) & 0xf0) >> 4);
	/* TERI, the ring indicator's, is set on its trailing edge only. */
	if (lines & UART_MSR_RI)
		delta &= (uint8_t)~UART_MSR_TERI;
	u->msr = (uint8_t)(lines | (u->msr & UART_MSR_ANY_DELTA) | delta);
}

static void write_mcr(struct uart16550 *u, uint8_t val)
{
	bool looped = u->mcr & UART_MCR_LOOP;

	u->mcr = val & (UART_MCR_LOOP | UART_MCR_OUT2 | UART_MCR_OUT1 |
			UART_MCR_RTS | UART_MCR_DTR);
	update_modem(u);
	if (looped && !(u->mcr & UART_MCR_LOOP) && u->chr)
		char_accept_input(u->chr);
}

/* s8.6.3: bit 0 must be set for the others to count; changing it empties both. */
static void write_fcr(struct uart16550 *u, uint8_t val)
{
	uint8_t clear = val & (UART_FCR_CLEAR_RCVR | UART_FCR_CLEAR_XMIT);

	if ((val ^ u->fcr) & UART_FCR_ENABLE_FIFO)
		clear = UART_FCR_CLEAR_RCVR | UART_FCR_CLEAR_XMIT;
	else if (!(val & UART_FCR_ENABLE_FIFO))
		return;
	u->fcr = val & UART_FCR_ENABLE_FIFO ?
		val & (UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_MASK) : 0;
	if (clear & UART_FCR_CLEAR_RCVR)
		rx_clear(u);
	if ((clear & UART_FCR_CLEAR_XMIT) && u->tx_count) {
		u->tx_count = 0;
		thr_empty(u);
	}
}

static void write_ier(struct uart16550 *u, uint8_t val)
{
	val &= UART_IER_MSI | UART_IER_RLSI | UART_IER_THRI | UART_IER_RDI;
	/* Enabling THRI while THR is empty raises it (Linux tests for that). */
	if ((val & ~u->ier & UART_IER_THRI) && (u->lsr & UART_LSR_THRE))
		u->thr_pending = true;
	if (!(val & UART_IER_THRI))
		burst_ends(u);
	u->ier = val;
}

void uart16550_write(struct uart16550 *u, unsigned int off, uint8_t val)
{
	bool dlab = u->lcr & UART_LCR_DLAB;

	switch (off) {
	case UART_TX:			/* DLL with DLAB */
		if (dlab)
			u->dll = val;
		else
			write_thr(u, val);
		break;
	case UART_IER:			/* DLM with DLAB */
		if (dlab)
			u->dlm = val;
		else
			write_ier(u, val);
		break;
	case UART_FCR:
		write_fcr(u, val);
		break;
	case UART_LCR:
		u->lcr = val;
		break;
	case UART_MCR:
		write_mcr(u, val);
		break;
	case UART_SCR:
		u->scr = val;
		break;
	default:			/* LSR and MSR are read-only */
		break;
	}
	update_irq(u);
}

static uint8_t read_iir(struct uart16550 *u)
{
	uint8_t iir = iir_source(u);

	if (iir == UART_IIR_THRI)
		u->thr_pending = false;		/* s8.6.2 table III */
	if (iir == UART_IIR_NO_INT)
		burst_ends(u);
	return iir | (fifo_on(u) ? IIR_FIFO_ON : 0);
}

static uint8_t read_lsr(struct uart16550 *u)
{
	uint8_t v = u->lsr | rx_error_waits(u);

	u->lsr &= (uint8_t)~LSR_ERRORS;
	return v;
}

static uint8_t read_msr(struct uart16550 *u)
{
	uint8_t v = u->msr;

	u->msr &= (uint8_t)~UART_MSR_ANY_DELTA;
	return v;
}

uint8_t uart16550_read(struct uart16550 *u, unsigned int off)
{
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
		v = read_lsr(u);
		break;
	case UART_MSR:
		v = read_msr(u);
		break;
	case UART_SCR:
		return u->scr;
	}
	update_irq(u);
	return v;
}

static void front_moved(struct char_front *f, struct chardev *to)
{
	container_of(f, struct uart16550, front)->chr = to;
}

/* ---- reset, init, fini ---- */

/* s8.0 table I; bytes on their way out still go out. */
void uart16550_reset(struct uart16550 *u)
{
	u->ier = u->fcr = u->lcr = u->mcr = u->scr = u->dlm = 0;
	u->dll = 12;			/* 9600 baud, as firmware leaves it */
	u->lsr = u->tx_count || u->burst == TX_BURST ? 0 : LSR_TX_EMPTY;
	u->msr = 0;
	u->thr_pending = false;
	rx_clear(u);
	update_modem(u);
	u->msr &= (uint8_t)~UART_MSR_ANY_DELTA;
	update_irq(u);
}

int uart16550_init(struct uart16550 *u, struct dev *dev, const char *chardev,
		   void (*irq)(struct uart16550 *u, bool level), struct err *e)
{
	struct chardev *chr = char_find(dev->vm->chars, chardev);
	int r;

	u->dev = dev;
	u->irq = irq;
	u->resume.cb = burst_over;
	if (!chr)
		return err_set(e, -ENOENT, "%s: chardev=%s: no such chardev; add -chardev "
			       "null,id=%s or another", dev->path, chardev, chardev);
	u->front = (struct char_front){
		.can_read = front_can_read, .read = front_read,
		.writable = front_writable, .event = front_event, .moved = front_moved,
		.lock = &dev->lock,
	};
	r = char_connect(chr, &u->front, dev->path, e);
	if (r < 0)
		return r;
	u->chr = chr;
	return 0;
}

void uart16550_fini(struct uart16550 *u)
{
	if (u->chr)
		char_connect(u->chr, NULL, NULL, NULL);
	if (u->dev)
		loop_work_cancel(u->dev->vm->main, &u->resume);
}

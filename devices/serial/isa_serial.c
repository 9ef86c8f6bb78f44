/*
 * devices/serial/isa_serial.c - a 16550A at one of the PC's four addresses.
 * Spec:    ISA addresses and lines of COM1 to COM4 as every PC has them.
 * Threads: registers on vCPU threads, device lock held.
 * Missing: hot-plug; an ISA device cannot be announced to the guest.
 */
#include <errno.h>

#include "devices/serial/uart16550.h"
#include "vmm/base/util.h"
#include "vmm/core/bus.h"
#include "vmm/core/irq.h"
#include "vmm/core/vm.h"

enum { PORTS = 4 };

struct isa_serial {
	struct dev dev;			/* first: the core hands us &dev */
	/* properties */
	char *chardev;
	int32_t index;			/* -1: the next free one */
	uint32_t iobase, irq;		/* 0: the index's usual ones */
	/* set-up, constant afterwards */
	struct bus_win win;
	struct irq_pin pin;
	struct uart16550 uart;
};

static const struct {
	uint16_t iobase;
	uint8_t irq;
} usual[PORTS] = { { 0x3f8, 4 }, { 0x2f8, 3 }, { 0x3e8, 4 }, { 0x2e8, 3 } };

static const struct prop isa_serial_props[] = {
	PROP_LINK(struct isa_serial, chardev, "chardev", "chardev", "where the bytes go",
		  .flags = PROP_REQUIRED),
	PROP_I32(struct isa_serial, index, "index", -1, PORTS - 1, -1,
		 "number of the port, 0 is COM1; -1: the next free one"),
	PROP_U32(struct isa_serial, iobase, "iobase", 0, 0xfff8, 0,
		 "I/O address; 0: by index", .flags = PROP_GUEST),
	PROP_U32(struct isa_serial, irq, "irq", 0, 15, 0, "interrupt line; 0: by index",
		 .flags = PROP_GUEST),
	PROP_END
};

/* The bus is eight bits wide for this device: wider accesses are cycles of one
 * byte each, at rising addresses. */
static uint64_t isa_serial_read(struct bus_win *w, uint64_t off, unsigned int width)
{
	struct isa_serial *s = DEV_OF(w->dev, struct isa_serial);
	uint64_t val = 0;
	unsigned int i;

	for (i = 0; i < width; i++)
		val |= (uint64_t)uart16550_read(&s->uart, (unsigned int)off + i) << (8 * i);
	return val;
}

static void isa_serial_write(struct bus_win *w, uint64_t off, unsigned int width, uint64_t val)
{
	struct isa_serial *s = DEV_OF(w->dev, struct isa_serial);
	unsigned int i;

	for (i = 0; i < width; i++)
		uart16550_write(&s->uart, (unsigned int)off + i, (uint8_t)(val >> (8 * i)));
}

static const struct bus_win_ops isa_serial_ops = {
	.read = isa_serial_read, .write = isa_serial_write,
};

static void isa_serial_irq(struct uart16550 *u, bool level)
{
	irq_pin_set(&container_of(u, struct isa_serial, uart)->pin, level);
}

static int isa_serial_reset(struct dev *d)
{
	uart16550_reset(&DEV_OF(d, struct isa_serial)->uart);
	return 0;
}

extern const struct dev_type isa_serial_type;

/* Give the port its number; two may not share one. */
static int take_number(struct isa_serial *s, struct err *e)
{
	bool used[PORTS] = { false };
	struct dev *d;
	int i;

	for (d = s->dev.vm->devs; d; d = d->next)
		if (d->type == &isa_serial_type && d != &s->dev)
			used[DEV_OF(d, struct isa_serial)->index] = true;
	for (i = 0; s->index < 0 && i < PORTS; i++)
		if (!used[i])
			s->index = i;
	if (s->index < 0)
		return err_set(e, -ENOSPC, "%s: all %d serial ports are taken",
			       s->dev.path, PORTS);
	if (used[s->index])
		return err_set(e, -EBUSY, "%s: serial port index=%d is taken; choose "
			       "another of 0..%d", s->dev.path, s->index, PORTS - 1);
	return 0;
}

static int isa_serial_init(struct dev *d, struct err *e)
{
	struct isa_serial *s = DEV_OF(d, struct isa_serial);
	uint32_t base;
	int r = take_number(s, e);

	if (r < 0)
		return r;
	irq_pin_init(&s->pin, d->vm->irq, s->irq ? s->irq : usual[s->index].irq);
	r = uart16550_init(&s->uart, d, s->chardev, isa_serial_irq, e);
	if (r < 0)
		return r;
	s->win = (struct bus_win){ .name = "serial", .dev = d, .size = UART_REG_BYTES,
				   .ops = &isa_serial_ops };
	base = s->iobase ? s->iobase : usual[s->index].iobase;
	r = bus_map(d->vm->bus[BUS_PIO], &s->win, base);
	return r < 0 ? err_sys(e, r, "%s: iobase=0x%x", d->path, base) : 0;
}

static void isa_serial_fini(struct dev *d)
{
	struct isa_serial *s = DEV_OF(d, struct isa_serial);

	bus_unmap(&s->win);
	uart16550_fini(&s->uart);
	if (s->pin.chip)
		irq_pin_set(&s->pin, false);
}

const struct dev_type isa_serial_type = {
	.name = "isa-serial", .help = "16550A serial port of a PC",
	.size = sizeof(struct isa_serial), .props = isa_serial_props,
	.ops = { .init = isa_serial_init, .fini = isa_serial_fini,
		 .reset = isa_serial_reset },
	.flags = DEV_NO_HOTPLUG,
};

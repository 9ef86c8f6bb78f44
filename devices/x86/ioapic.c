/*
 * devices/x86/ioapic.c - the IOAPIC, where the irqchip is split.
 * Spec:    Intel 82093AA data sheet; version 0x20 with the EOI register.
 * Threads: register accesses on vCPU threads, device lock held; lines from any
 *          thread, EOIs from vCPU threads, both without it: `lock` orders them
 *          and is a leaf but for irq_msi().
 * Missing: ExtINT (there are no 8259s), extended destination ids.
 *
 * Interrupts leave as messages. KVM reports the EOI of a level-triggered
 * vector only if a route of one of the first 24 GSIs names it, so each
 * level-triggered entry has one; nothing is ever delivered through it.
 */
#include <errno.h>

#include "devices/x86/x86_devices.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/arch/x86/x86.h"
#include "vmm/base/util.h"
#include "vmm/core/bus.h"
#include "vmm/core/irq.h"
#include "vmm/core/vm.h"

TRACE_DEFINE(ioapic_deliver);
TRACE_DEFINE(ioapic_eoi);

#define PINS		X86_IOAPIC_PINS
#define WIN_BYTES	0x100
#define IOREGSEL	0x00
#define IOWIN		0x10
#define EOIR		0x40

#define REG_ID		0x00
#define REG_VER		0x01
#define REG_ARB		0x02
#define REG_RTE		0x10
#define VERSION		(0x20u | (PINS - 1) << 16)

#define RTE_VECTOR	0xffull
#define RTE_MODE	(7ull << 8)
#define RTE_LOGICAL	BIT64(11)
#define RTE_REMOTE_IRR	BIT64(14)
#define RTE_LEVEL	BIT64(15)
#define RTE_MASKED	BIT64(16)
#define RTE_READONLY	(BIT64(12) | RTE_REMOTE_IRR)
#define MODE_EXTINT	(7ull << 8)

struct ioapic {
	struct dev dev;
	struct bus_win win;
	pthread_mutex_t lock;
	uint8_t select;
	uint32_t id;
	/* lock */
	uint64_t rte[PINS];
	uint32_t level;		/* bit per pin: the line is up */
	uint32_t pending;	/* bit per pin: an edge waits for the mask */
	/* device lock */
	struct irq_msg routed[PINS];	/* addr 0: no route */
};

static struct irq_msg message(uint64_t rte)
{
	return (struct irq_msg){
		.addr = X86_LAPIC_BASE | (rte >> 56) << 12 | (rte & RTE_LOGICAL ? BIT(2) : 0),
		.data = (uint32_t)(rte & (RTE_VECTOR | RTE_MODE | RTE_LEVEL)) | BIT(14),
	};
}

/* Send what pin @i has to say; lock held. */
static void service(struct ioapic *a, unsigned int i)
{
	uint64_t rte = a->rte[i];
	struct irq_msg m;

	if ((rte & RTE_MASKED) || (rte & RTE_MODE) == MODE_EXTINT)
		return;
	if (rte & RTE_LEVEL) {
		if (!(a->level & BIT(i)) || (rte & RTE_REMOTE_IRR))
			return;
		a->rte[i] |= RTE_REMOTE_IRR;
	} else {
		if (!(a->pending & BIT(i)))
			return;
		a->pending &= ~BIT(i);
	}
	m = message(rte);
	trace(ioapic_deliver, "pin %u vector 0x%x", i, m.data & 0xff);
	irq_msi(a->dev.vm->irq, &m);
}

static void ioapic_line(void *arg, uint32_t gsi, bool level)
{
	struct ioapic *a = arg;
	unsigned int pin = gsi == 0 ? 2 : gsi;	/* wired as the MADT says */

	if (pin >= PINS)
		return;
	pthread_mutex_lock(&a->lock);
	if (level && !(a->level & BIT(pin)))
		a->pending |= BIT(pin);
	a->level = level ? a->level | BIT(pin) : a->level & ~BIT(pin);
	if (level)
		service(a, pin);
	pthread_mutex_unlock(&a->lock);
}

static void ioapic_eoi(void *arg, uint8_t vector)
{
	struct ioapic *a = arg;

	trace(ioapic_eoi, "vector 0x%x", vector);
	pthread_mutex_lock(&a->lock);
	for (unsigned int i = 0; i < PINS; i++) {
		if ((a->rte[i] & RTE_VECTOR) != vector || !(a->rte[i] & RTE_REMOTE_IRR))
			continue;
		a->rte[i] &= ~RTE_REMOTE_IRR;
		service(a, i);		/* still up: again */
	}
	pthread_mutex_unlock(&a->lock);
}

static const struct x86_ioapic_ops line_ops = { .set_line = ioapic_line, .eoi = ioapic_eoi };

/* ---- registers ---- */

/* Only a change that the kernel must know costs a call. */
static void route(struct ioapic *a, unsigned int i)
{
	uint64_t rte = a->rte[i];
	struct irq_msg m = { 0 };

	if ((rte & RTE_LEVEL) && !(rte & RTE_MASKED))
		m = message(rte);
	else if ((rte & RTE_LEVEL) && a->routed[i].addr)
		return;			/* masked for a moment */
	if (m.addr == a->routed[i].addr && m.data == a->routed[i].data)
		return;
	if (x86_ioapic_route(a->dev.vm, i, m.addr ? &m : NULL) == 0)
		a->routed[i] = m;
}

static void rte_write(struct ioapic *a, uint8_t reg, uint32_t val)
{
	unsigned int i = (reg - REG_RTE) / 2;
	uint64_t old, new;

	if (i >= PINS)
		return;
	pthread_mutex_lock(&a->lock);
	old = a->rte[i];
	new = reg & 1 ? (old & 0xffffffff) | (uint64_t)val << 32 :
	      (old & ~0xffffffffull) | val;
	new = (new & ~RTE_READONLY) | (old & RTE_READONLY);
	if (!(new & RTE_LEVEL))		/* Linux clears a stuck Remote IRR so */
		new &= ~RTE_REMOTE_IRR;
	a->rte[i] = new;
	pthread_mutex_unlock(&a->lock);
	/* The route first: an EOI must not be missed. */
	route(a, i);
	pthread_mutex_lock(&a->lock);
	service(a, i);
	pthread_mutex_unlock(&a->lock);
}

static uint32_t selected_read(struct ioapic *a)
{
	unsigned int i = (a->select - REG_RTE) / 2;
	uint64_t rte;

	switch (a->select) {
	case REG_ID:
	case REG_ARB:
		return a->id;
	case REG_VER:
		return VERSION;
	}
	if (a->select < REG_RTE || i >= PINS)
		return 0;
	pthread_mutex_lock(&a->lock);
	rte = a->rte[i];
	pthread_mutex_unlock(&a->lock);
	return (uint32_t)(a->select & 1 ? rte >> 32 : rte);
}

static uint64_t ioapic_read(struct bus_win *w, uint64_t off, unsigned int width)
{
	struct ioapic *a = DEV_OF(w->dev, struct ioapic);

	if (off == IOREGSEL)
		return a->select;
	return off == IOWIN && width == 4 ? selected_read(a) : 0;
}

static void ioapic_write(struct bus_win *w, uint64_t off, unsigned int width, uint64_t val)
{
	struct ioapic *a = DEV_OF(w->dev, struct ioapic);

	if (off == IOREGSEL)
		a->select = (uint8_t)val;
	else if (off == EOIR)
		ioapic_eoi(a, (uint8_t)val);
	else if (off != IOWIN || width != 4)
		return;
	else if (a->select == REG_ID)
		a->id = (uint32_t)val & 0x0f000000;
	else if (a->select >= REG_RTE)
		rte_write(a, a->select, (uint32_t)val);
}

static const struct bus_win_ops ioapic_ops = { .read = ioapic_read, .write = ioapic_write };

/* ---- life ---- */

static int ioapic_reset(struct dev *d)
{
	struct ioapic *a = DEV_OF(d, struct ioapic);

	pthread_mutex_lock(&a->lock);
	for (unsigned int i = 0; i < PINS; i++)
		a->rte[i] = RTE_MASKED;
	a->pending = 0;		/* the lines' levels are their sources' */
	pthread_mutex_unlock(&a->lock);
	a->select = 0;
	a->id = 0;
	for (unsigned int i = 0; i < PINS; i++)
		route(a, i);
	return 0;
}

static int ioapic_init(struct dev *d, struct err *e)
{
	struct ioapic *a = DEV_OF(d, struct ioapic);

	pthread_mutex_init(&a->lock, NULL);
	a->win = (struct bus_win){
		.name = "ioapic", .dev = d, .size = WIN_BYTES, .ops = &ioapic_ops,
	};
	x86_ioapic_connect(d->vm, &line_ops, a);
	return bus_map(d->vm->bus[BUS_MMIO], &a->win, X86_IOAPIC_BASE);
}

static void ioapic_fini(struct dev *d)
{
	struct ioapic *a = DEV_OF(d, struct ioapic);

	bus_unmap(&a->win);
	x86_ioapic_connect(d->vm, NULL, NULL);
	pthread_mutex_destroy(&a->lock);
}

const struct dev_type ioapic_type = {
	.name = "ioapic", .help = "IOAPIC of a split irqchip",
	.size = sizeof(struct ioapic), .flags = DEV_BUILTIN | DEV_NO_HOTPLUG,
	.ops = { .init = ioapic_init, .fini = ioapic_fini, .reset = ioapic_reset },
};

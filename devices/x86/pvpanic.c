/*
 * devices/x86/pvpanic.c - the port through which a guest reports its panic.
 * Spec:    QEMU docs/specs/pvpanic.
 * Threads: port accesses on vCPU threads, device lock held.
 * Missing: the crash-loaded and shutdown events.
 */
#include <errno.h>

#include "devices/x86/x86_devices.h"
#include "vmm/core/bus.h"
#include "vmm/core/vm.h"

#define PVPANIC_PANICKED	0x1u

struct pvpanic {
	struct dev dev;
	struct bus_win win;
	uint16_t ioport;	/* property */
	uint8_t events;		/* property: what the guest may report */
};

static const struct prop pvpanic_props[] = {
	PROP_U16(struct pvpanic, ioport, "ioport", 1, 0xffff, 0x505,
		 "I/O port", .flags = PROP_GUEST),
	PROP_U8(struct pvpanic, events, "events", 0, PVPANIC_PANICKED, PVPANIC_PANICKED,
		"bit mask of events offered: 1 panicked", .flags = PROP_GUEST),
	PROP_END
};

static uint64_t pvpanic_read(struct bus_win *w, uint64_t off, unsigned int width)
{
	return DEV_OF(w->dev, struct pvpanic)->events;
}

static void pvpanic_write(struct bus_win *w, uint64_t off, unsigned int width, uint64_t val)
{
	struct pvpanic *p = DEV_OF(w->dev, struct pvpanic);

	if (val & p->events & PVPANIC_PANICKED)
		vm_request(w->dev->vm, VM_REQ_PANIC, VM_CAUSE_GUEST_PANIC);
	else
		dev_guest_error(w->dev, "event 0x%x is not one of those offered (0x%x)",
				(unsigned int)val, p->events);
}

static const struct bus_win_ops pvpanic_ops = {
	.read = pvpanic_read, .write = pvpanic_write,
};

static int pvpanic_init(struct dev *d, struct err *e)
{
	struct pvpanic *p = DEV_OF(d, struct pvpanic);

	p->win = (struct bus_win){
		.name = "pvpanic", .dev = d, .size = 1, .ops = &pvpanic_ops,
	};
	return bus_map(d->vm->bus[BUS_PIO], &p->win, p->ioport);
}

static void pvpanic_fini(struct dev *d)
{
	bus_unmap(&DEV_OF(d, struct pvpanic)->win);
}

const struct dev_type pvpanic_type = {
	.name = "pvpanic", .help = "port for the guest's panic notice",
	.size = sizeof(struct pvpanic), .props = pvpanic_props,
	.flags = DEV_NO_HOTPLUG,
	.ops = { .init = pvpanic_init, .fini = pvpanic_fini },
};

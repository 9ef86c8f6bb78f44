/*
 * devices/x86/debug_exit.c - a port that ends the VM with a status, for tests.
 * Spec:    QEMU's isa-debug-exit: writing V ends the process with V << 1 | 1.
 * Threads: port accesses on vCPU threads, device lock held.
 * Missing: nothing known.
 */
#include "devices/x86/x86_devices.h"
#include "vmm/core/bus.h"
#include "vmm/core/vm.h"

struct debug_exit {
	struct dev dev;
	struct bus_win win;
	uint32_t iobase, iosize;	/* properties */
};

static const struct prop debug_exit_props[] = {
	PROP_U32(struct debug_exit, iobase, "iobase", 0, 0xffff, 0x501,
		 "first I/O port", .flags = PROP_GUEST),
	PROP_U32(struct debug_exit, iosize, "iosize", 1, 0x100, 2,
		 "number of I/O ports", .flags = PROP_GUEST),
	PROP_END
};

static uint64_t debug_exit_read(struct bus_win *w, uint64_t off, unsigned int width)
{
	return 0;
}

static void debug_exit_write(struct bus_win *w, uint64_t off, unsigned int width, uint64_t val)
{
	struct vm *vm = w->dev->vm;

	/* A process has 8 bits of status. */
	atomic_store(&vm->exit_status, (int)((val << 1 | 1) & 0xff));
	vm_request(vm, VM_REQ_QUIT, VM_CAUSE_GUEST_SHUTDOWN);
}

static const struct bus_win_ops debug_exit_ops = {
	.read = debug_exit_read, .write = debug_exit_write,
};

static int debug_exit_init(struct dev *d, struct err *e)
{
	struct debug_exit *x = DEV_OF(d, struct debug_exit);
	int ret;

	x->win = (struct bus_win){
		.name = "debug-exit", .dev = d, .size = x->iosize, .ops = &debug_exit_ops,
	};
	ret = bus_map(d->vm->bus[BUS_PIO], &x->win, x->iobase);
	if (ret < 0)
		return err_set(e, ret, "%s: iobase 0x%x and iosize 0x%x go beyond port 0xffff",
			       d->path, x->iobase, x->iosize);
	return 0;
}

static void debug_exit_fini(struct dev *d)
{
	bus_unmap(&DEV_OF(d, struct debug_exit)->win);
}

const struct dev_type debug_exit_type = {
	.name = "isa-debug-exit", .help = "ends the VM with a status, for tests",
	.size = sizeof(struct debug_exit), .props = debug_exit_props,
	.flags = DEV_NO_HOTPLUG,
	.ops = { .init = debug_exit_init, .fini = debug_exit_fini },
};

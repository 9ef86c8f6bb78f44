/*
 * devices/x86/i8042.c - the keyboard controller, without keyboard or mouse.
 * Spec:    IBM PS/2 Technical Reference, "Keyboard and Auxiliary Device
 *          Controller".
 * Threads: port accesses on vCPU threads, device lock held.
 * Missing: PS/2 devices, the interrupts 1 and 12 that only they would raise.
 *
 * What is left without devices is what systems use it for beyond typing: the
 * reset pulse and gate A20. A driver that looks for a keyboard or mouse here
 * would wait for answers, so the tables say that there is no controller
 * (FADT, IAPC_BOOT_ARCH) unless the machine has PS/2 devices.
 */
#include "devices/x86/x86_devices.h"
#include "vmm/base/util.h"
#include "vmm/core/bus.h"
#include "vmm/core/vm.h"

#define PORT_DATA	0x60
#define PORT_STATUS	0x64	/* status when read, command when written */

#define STATUS_OBF	BIT(0)	/* output buffer full */
#define STATUS_SYS	BIT(2)	/* self test passed */
#define STATUS_CMD	BIT(3)	/* the last byte written was a command */
#define STATUS_UNLOCKED	BIT(4)
#define STATUS_AUX	BIT(5)	/* the byte is from the auxiliary device */

#define CCB_SYS		BIT(2)
#define CCB_KBD_OFF	BIT(4)
#define CCB_AUX_OFF	BIT(5)

#define OUT_NO_RESET	BIT(0)	/* output port: low resets the CPU */
#define OUT_A20		BIT(1)

enum i8042_wait { WAIT_NOTHING, WAIT_CCB, WAIT_OUTPUT, WAIT_KBD_LOOP, WAIT_AUX_LOOP, WAIT_AUX };

struct i8042 {
	struct dev dev;
	struct bus_win data_win, status_win;
	uint8_t status, ccb, output, data;
	enum i8042_wait wait;	/* what the next data byte belongs to */
};

static void put_data(struct i8042 *k, uint8_t val, bool aux)
{
	k->data = val;
	k->status |= STATUS_OBF;
	k->status = aux ? k->status | STATUS_AUX : (uint8_t)(k->status & ~STATUS_AUX);
}

static void reset_request(struct i8042 *k)
{
	vm_request(k->dev.vm, VM_REQ_RESET, VM_CAUSE_GUEST_RESET);
}

static void set_output(struct i8042 *k, uint8_t val)
{
	k->output = val;
	if (!(val & OUT_NO_RESET))
		reset_request(k);
}

static void command(struct i8042 *k, uint8_t cmd)
{
	k->status |= STATUS_CMD;
	k->wait = WAIT_NOTHING;
	switch (cmd) {
	case 0x20: put_data(k, k->ccb, false); break;
	case 0x60: k->wait = WAIT_CCB; break;
	case 0xa7: k->ccb |= CCB_AUX_OFF; break;
	case 0xa8: k->ccb &= (uint8_t)~CCB_AUX_OFF; break;
	case 0xa9:		/* test the lines to the auxiliary device */
	case 0xab:		/* and to the keyboard: no fault */
		put_data(k, 0x00, false);
		break;
	case 0xaa:		/* self test: passed */
		k->status |= STATUS_SYS;
		put_data(k, 0x55, false);
		break;
	case 0xad: k->ccb |= CCB_KBD_OFF; break;
	case 0xae: k->ccb &= (uint8_t)~CCB_KBD_OFF; break;
	case 0xc0: put_data(k, 0x80, false); break;	/* not locked */
	case 0xd0: put_data(k, k->output, false); break;
	case 0xd1: k->wait = WAIT_OUTPUT; break;
	case 0xd2: k->wait = WAIT_KBD_LOOP; break;
	case 0xd3: k->wait = WAIT_AUX_LOOP; break;
	case 0xd4: k->wait = WAIT_AUX; break;
	case 0xdd: k->output &= (uint8_t)~OUT_A20; break;
	case 0xdf: k->output |= OUT_A20; break;
	default:
		/* 0xf0 to 0xff pulse output lines low where their bit is 0. */
		if (cmd >= 0xf0 && !(cmd & OUT_NO_RESET))
			reset_request(k);
	}
}

static void data_byte(struct i8042 *k, uint8_t val)
{
	enum i8042_wait wait = k->wait;

	k->status &= (uint8_t)~STATUS_CMD;
	k->wait = WAIT_NOTHING;
	switch (wait) {
	case WAIT_CCB: k->ccb = val; break;
	case WAIT_OUTPUT: set_output(k, val); break;
	case WAIT_KBD_LOOP: put_data(k, val, false); break;
	case WAIT_AUX_LOOP: put_data(k, val, true); break;
	case WAIT_AUX:
	case WAIT_NOTHING:
		put_data(k, 0xfe, wait == WAIT_AUX);	/* time-out: nobody there */
		break;
	}
}

static uint64_t data_read(struct bus_win *w, uint64_t off, unsigned int width)
{
	struct i8042 *k = DEV_OF(w->dev, struct i8042);

	k->status &= (uint8_t)~(STATUS_OBF | STATUS_AUX);
	return k->data;
}

static void data_write(struct bus_win *w, uint64_t off, unsigned int width, uint64_t val)
{
	data_byte(DEV_OF(w->dev, struct i8042), (uint8_t)val);
}

static uint64_t status_read(struct bus_win *w, uint64_t off, unsigned int width)
{
	return DEV_OF(w->dev, struct i8042)->status;
}

static void status_write(struct bus_win *w, uint64_t off, unsigned int width, uint64_t val)
{
	command(DEV_OF(w->dev, struct i8042), (uint8_t)val);
}

static const struct bus_win_ops data_ops = { .read = data_read, .write = data_write };
static const struct bus_win_ops status_ops = { .read = status_read, .write = status_write };

static int i8042_reset(struct dev *d)
{
	struct i8042 *k = DEV_OF(d, struct i8042);

	k->status = STATUS_SYS | STATUS_UNLOCKED;
	k->ccb = CCB_SYS | CCB_KBD_OFF | CCB_AUX_OFF;
	k->output = OUT_NO_RESET | OUT_A20;
	k->data = 0;
	k->wait = WAIT_NOTHING;
	return 0;
}

static int i8042_init(struct dev *d, struct err *e)
{
	struct i8042 *k = DEV_OF(d, struct i8042);
	int ret;

	k->data_win = (struct bus_win){
		.name = "i8042-data", .dev = d, .size = 1, .ops = &data_ops,
	};
	k->status_win = (struct bus_win){
		.name = "i8042-command", .dev = d, .size = 1, .ops = &status_ops,
	};
	ret = bus_map(d->vm->bus[BUS_PIO], &k->data_win, PORT_DATA);
	return ret ? ret : bus_map(d->vm->bus[BUS_PIO], &k->status_win, PORT_STATUS);
}

static void i8042_fini(struct dev *d)
{
	struct i8042 *k = DEV_OF(d, struct i8042);

	bus_unmap(&k->status_win);
	bus_unmap(&k->data_win);
}

const struct dev_type i8042_type = {
	.name = "i8042", .help = "keyboard controller without keyboard",
	.size = sizeof(struct i8042), .flags = DEV_BUILTIN | DEV_NO_HOTPLUG,
	.ops = { .init = i8042_init, .fini = i8042_fini, .reset = i8042_reset },
};

/*
 * tests/fuzz/fuzz_virtio_console.c - a driver of fuzz bytes against
 * virtio-serial with a console and two ports. See lib_virtio_fuzz.h; bit 7 of
 * byte 0 leaves MULTIPORT out. framed() first does one of
 *	0	nothing
 *	1	a control message: port (1), event (1), value (1)
 *	2	that many (1) buffers for control messages
 *	3	output on port (1)'s queue: length (2)
 *	4	a peer of port 0 sends that much (2)
 *	5	a window of (1) times (1)
 *	6	port 2 is unplugged, or plugged again
 *	7	port 0 is opened by the driver
 * and then adds a buffer for input of port 0.
 */
#include <linux/virtio_console.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/fuzz/lib_virtio_fuzz.h"
#include "vmm/base/util.h"
#include "vmm/char/char_priv.h"

#define CTL_AT	(VDRV_DATA + 0x40000)
#define CTL_RX	2
#define CTL_TX	3

static int cable[2];
static struct chardev *chr[2];

static void add_char(struct rig *r, int i)
{
	json_t *args;
	char id[4];
	int fd[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd) < 0)
		abort();
	cable[i] = fd[1];
	snprintf(id, sizeof(id), "c%d", i);
	args = json_pack("{s:s, s:s, s:i}", "backend", "socket", "id", id, "fd", fd[0]);
	if (char_add(r->vm->chars, args, &chr[i], NULL) < 0)
		abort();
	json_decref(args);
}

static struct vdrv *create(void)
{
	struct rig *r = vdrv_rig(NULL);
	struct vdrv *v;

	add_char(r, 0);
	add_char(r, 1);
	v = vdrv_attach(r, "{'driver': 'virtio-serial-pci', 'packed': true, 'max_ports': 3}", 0);
	rig_device(r, "{'driver': 'virtconsole', 'chardev': 'c0'}");
	rig_device(r, "{'driver': 'virtserialport', 'chardev': 'c1', 'name': 'a'}");
	return v;
}

static uint64_t refuse(uint8_t flags)
{
	return flags & 0x80 ? BIT64(VIRTIO_CONSOLE_F_MULTIPORT) : 0;
}

static uint64_t head(struct vfuzz *f)
{
	return VDRV_DATA;
}

/* The library starts queue 0 only: others when they are needed. */
static bool queue_ready(struct vdrv *v, uint16_t i)
{
	vdrv_write(v, VIRTIO_PCI_COMMON_Q_SELECT, 2, i);
	if (!vdrv_read(v, VIRTIO_PCI_COMMON_Q_ENABLE, 2)) {
		vdrv_queue(v, i, 16);
		loop_turn(v->rig->loop, 0);
	}
	return v->ring[i].size && (v->ring[i].packed ? v->ring[i].room && v->ring[i].nfree :
				   v->ring[i].nfree);
}

static void add(struct vdrv *v, uint16_t queue, struct drv_buf b)
{
	uint16_t id;
	uint32_t len;

	if (!queue_ready(v, queue))
		return;
	drv_add(&v->ring[queue], &b, 1);
	vdrv_kick(v, queue);
	loop_turn(v->rig->loop, 0);
	while (drv_used(&v->ring[queue], &id, &len))
		;
}

static void control(struct vdrv *v, uint32_t port, uint16_t event, uint16_t value)
{
	rig_mem_put(v->rig, CTL_AT, 4, port);
	rig_mem_put(v->rig, CTL_AT + 4, 2, event);
	rig_mem_put(v->rig, CTL_AT + 6, 2, value);
	add(v, CTL_TX, (struct drv_buf){ CTL_AT, 8, 0 });
}

static void control_buffers(struct vdrv *v, uint32_t n)
{
	while (n-- % 32)
		add(v, CTL_RX, (struct drv_buf){ CTL_AT + 64, 64, 1 });
}

static void send_input(uint32_t n)
{
	static const uint8_t input[4096];

	if (write(cable[0], input, MIN(n, (uint32_t)sizeof(input))) < 0)
		return;		/* the device has enough for now */
}

static void drain(void)
{
	static uint8_t buf[65536];

	for (int i = 0; i < 2; i++)
		while (read(cable[i], buf, sizeof(buf)) > 0)
			;
}

static void plug(struct vdrv *v)
{
	struct dev *d = dev_find(v->rig->vm, "p2");

	if (d)
		dev_destroy(d);
	else
		rig_device(v->rig, "{'driver': 'virtserialport', 'id': 'p2', 'nr': 2}");
}

static void action(struct vfuzz *f)
{
	struct vdrv *v = f->v;
	uint32_t a, b;

	switch (vfuzz_take(f, 1) % 8) {
	case 1:
		a = vfuzz_take(f, 1);
		b = vfuzz_take(f, 1);
		control(v, a, (uint16_t)b, (uint16_t)vfuzz_take(f, 1));
		break;
	case 2:
		control_buffers(v, vfuzz_take(f, 1));
		break;
	case 3:
		a = vfuzz_take(f, 1) % 3;
		add(v, (uint16_t)(a ? 2 * a + 3 : 1),
		    (struct drv_buf){ VDRV_DATA, vfuzz_take(f, 2), 0 });
		break;
	case 4:
		send_input(vfuzz_take(f, 2));
		break;
	case 5:
		a = vfuzz_take(f, 1);
		char_set_winsize(chr[0], (uint16_t)a, (uint16_t)vfuzz_take(f, 1));
		break;
	case 6:
		plug(v);
		break;
	case 7:
		control(v, 0, VIRTIO_CONSOLE_PORT_OPEN, 1);
		send_input(64);
		break;
	}
	drain();
}

static int framed(struct vfuzz *f, struct drv_buf *b)
{
	action(f);
	b[0] = (struct drv_buf){ VDRV_DATA, 1 + vfuzz_take(f, 1), true };
	return 1;
}

static const uint8_t valid[] = { 7, 64 };

static const struct vfuzz_device console = { create, refuse, head, framed, valid, sizeof(valid) };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return vfuzz_run(&console, data, size);
}

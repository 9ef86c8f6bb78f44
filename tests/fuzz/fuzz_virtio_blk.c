/*
 * tests/fuzz/fuzz_virtio_blk.c - a driver made of fuzz bytes against virtio-blk
 * on a small disk: registers, configuration, and requests of any shape.
 *
 * Input: byte 0 the features to negotiate (bit 0 packed, 1 EVENT_IDX, 2 no
 * FLUSH, 3 no CONFIG_WCE), then steps of one byte and their operands:
 *	0	a request: type (1), sector (3), number of pieces (1), each with
 *		offset in the data (2), length (2), flags (1: writable, 2: its
 *		length is exact, else in 256 bytes), framed as it comes
 *	1	a well-framed request: type (1), sector (3), sectors (1)
 *	2	a byte into data or rings: address (3), value (1)
 *	3	a register of the common configuration: offset (1), width (1), value (2)
 *	4	a byte of the device configuration: offset (1), value (1)
 *	5	kick
 *	6	turn the loop
 *	7	reset and start again
 * What must hold: no crash, no sanitizer report, a bounded turn, and a device
 * that a reset brings back.
 */
#include <stdint.h>
#include <stdlib.h>

#include "tests/dev/lib_virtio.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define DISK	(64u * 1024)
#define HEADER	(VDRV_DATA - 0x1000)
#define STATUS	(VDRV_DATA - 0x800)
#define DATA_BYTES 0x20000u
#define QUEUE	16
#define STEPS_MAX 256

static struct vdrv *v;

struct input {
	const uint8_t *p;
	size_t left;
};

static uint32_t take(struct input *in, unsigned int bytes)
{
	uint32_t val = 0;
	unsigned int i;

	for (i = 0; i < bytes; i++) {
		val |= in->left ? (uint32_t)*in->p << (8 * i) : 0;
		in->p += in->left > 0;
		in->left -= in->left > 0;
	}
	return val;
}

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void quiet(enum log_level level, const char *line, void *arg)
{
}

static void start(void)
{
	vdrv_reset(v);
	check(vdrv_negotiate(v));
	vdrv_queue(v, 0, QUEUE);
	vdrv_set_status(v, VIRTIO_CONFIG_S_DRIVER_OK);
	loop_turn(v->rig->loop, 0);
}

static void header(struct input *in)
{
	uint32_t type = take(in, 1);
	struct virtio_blk_outhdr h = { .type = htole32(type) };

	h.sector = htole64(take(in, 3));
	rig_mem_write(v->rig, HEADER, &h, sizeof(h));
}

static bool room(int n)
{
	struct drv_ring *r = &v->ring[0];

	return r->packed ? r->room >= n && r->nfree : r->nfree >= n;
}

static void any_request(struct input *in)
{
	struct drv_buf b[QUEUE];
	uint32_t n, i, flags;

	header(in);
	n = 1 + take(in, 1) % QUEUE;
	for (i = 0; i < n; i++) {
		b[i].addr = VDRV_DATA - 0x1000 + take(in, 2) % DATA_BYTES;
		b[i].len = take(in, 2);
		flags = take(in, 1);
		b[i].write = flags & 1;
		if (!(flags & 2))
			b[i].len <<= 8;
	}
	b[0].addr = HEADER;
	if (!room(n))
		return;
	if (n > 2 && n % 2)
		drv_add_indirect(&v->ring[0], b, n, VDRV_TABLE);
	else
		drv_add(&v->ring[0], b, n);
}

static void framed_request(struct input *in)
{
	struct drv_buf b[] = { { HEADER, 16, 0 }, { VDRV_DATA, 0, 0 }, { STATUS, 1, 1 } };

	b[1].write = in->left && in->p[0] != VIRTIO_BLK_T_OUT && in->p[0] < 11;
	header(in);
	b[1].len = 512 * take(in, 1);
	if (room(3))
		drv_add(&v->ring[0], b, 3);
}

static void reg_write(struct input *in)
{
	uint32_t off = take(in, 1) % 64, width = 1u << take(in, 1) % 4;

	vdrv_write(v, off, width, take(in, 2));
	vdrv_read(v, off, width);
}

static void step(struct input *in)
{
	uint32_t at;

	switch (take(in, 1) % 8) {
	case 0:
		any_request(in);
		break;
	case 1:
		framed_request(in);
		break;
	case 2:
		at = VDRV_RINGS + take(in, 3) % (VDRV_DATA + DATA_BYTES - VDRV_RINGS);
		rig_mem_put(v->rig, at, 1, take(in, 1));
		break;
	case 3:
		reg_write(in);
		break;
	case 4:
		at = take(in, 1);
		rig_mmio_write(v->rig, v->config + at, 1, take(in, 1));
		break;
	case 5:
		vdrv_kick(v, 0);
		break;
	case 6:
		check(loop_turn(v->rig->loop, 0) >= 0);
		break;
	case 7:
		start();
	}
}

static void set_up(void)
{
	struct rig *r;

	log_set_sink(quiet, NULL);
	r = vdrv_rig(NULL);
	vdrv_drive(r, "d0", NULL, DISK);
	v = vdrv_attach(r, "{'driver': 'virtio-blk-pci', 'drive': 'd0', 'packed': true}", 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	uint32_t f = take(&in, 1);
	uint16_t id;
	uint32_t len;
	int i;

	if (!v)
		set_up();
	v->flags = f & 3;
	v->refuse = (f & 4 ? BIT64(VIRTIO_BLK_F_FLUSH) : 0) |
		    (f & 8 ? BIT64(VIRTIO_BLK_F_CONFIG_WCE) : 0);
	rig_mem_fill(v->rig, VDRV_DATA - 0x1000, 0, DATA_BYTES);
	start();
	for (i = 0; in.left && i < STEPS_MAX; i++)
		step(&in);
	/* Whatever was done: after a reset an ordinary read works. */
	start();
	in = (struct input){ (const uint8_t[]){ 0, 0, 0, 0, 8 }, 5 };
	framed_request(&in);
	check(vdrv_wait_used(v, 0, &id, &len) && len == 8 * 512 + 1);
	return 0;
}

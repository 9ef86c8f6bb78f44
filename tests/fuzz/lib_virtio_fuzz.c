/*
 * tests/fuzz/lib_virtio_fuzz.c - a virtio driver made of fuzz bytes.
 */
#include "tests/fuzz/lib_virtio_fuzz.h"

#include <stdlib.h>

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define QUEUE_MAX	16
#define STEPS_MAX	256

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void quiet(enum log_level level, const char *line, void *arg)
{
}

uint32_t vfuzz_take(struct vfuzz *f, unsigned int bytes)
{
	uint32_t val = 0;
	unsigned int i;

	for (i = 0; i < bytes && f->left; i++, f->left--)
		val |= (uint32_t)*f->p++ << (8 * i);
	return val;
}

static void start(struct vfuzz *f)
{
	struct vdrv *v = f->v;
	uint16_t size;

	vdrv_reset(v);
	check(vdrv_negotiate(v));
	vdrv_write(v, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	size = vdrv_read(v, VIRTIO_PCI_COMMON_Q_SIZE, 2);
	vdrv_queue(v, 0, MIN(size, QUEUE_MAX));
	vdrv_set_status(v, VIRTIO_CONFIG_S_DRIVER_OK);
	loop_turn(v->rig->loop, 0);
}

static bool room(const struct drv_ring *r, int n)
{
	return n <= r->size && (r->packed ? r->room >= n && r->nfree : r->nfree >= n);
}

static void any_chain(const struct vfuzz_device *d, struct vfuzz *f)
{
	struct drv_ring *r = &f->v->ring[0];
	struct drv_buf b[VFUZZ_PIECES];
	uint64_t head = d->head(f);
	uint32_t n = 1 + vfuzz_take(f, 1) % VFUZZ_PIECES, i, flags;

	for (i = 0; i < n; i++) {
		b[i].addr = VFUZZ_HEADER + vfuzz_take(f, 2) % VFUZZ_BYTES;
		b[i].len = vfuzz_take(f, 2);
		flags = vfuzz_take(f, 1);
		b[i].write = flags & 1;
		b[i].len <<= flags & 2 ? 0 : 8;
	}
	b[0].addr = head;
	if (!room(r, n))
		return;
	if (n > 2 && n % 2)
		drv_add_indirect(r, b, n, VDRV_TABLE);
	else
		drv_add(r, b, n);
}

static void framed_chain(const struct vfuzz_device *d, struct vfuzz *f)
{
	struct drv_buf b[VFUZZ_PIECES];
	int n = d->framed(f, b);

	if (room(&f->v->ring[0], n))
		drv_add(&f->v->ring[0], b, n);
}

static void put_byte(struct vfuzz *f)
{
	uint32_t span = VFUZZ_HEADER + VFUZZ_BYTES - VDRV_RINGS;
	uint64_t at = VDRV_RINGS + vfuzz_take(f, 3) % span;

	rig_mem_put(f->v->rig, at, 1, vfuzz_take(f, 1));
}

static void common_register(struct vfuzz *f)
{
	uint32_t off = vfuzz_take(f, 1) % 64, width = 1u << vfuzz_take(f, 1) % 4;

	vdrv_write(f->v, off, width, vfuzz_take(f, 2));
	vdrv_read(f->v, off, width);
}

static void config_byte(struct vfuzz *f)
{
	uint64_t at = f->v->config + vfuzz_take(f, 1);

	rig_mmio_write(f->v->rig, at, 1, vfuzz_take(f, 1));
	rig_mmio_read(f->v->rig, at, 1);
}

static void step(const struct vfuzz_device *d, struct vfuzz *f)
{
	switch (vfuzz_take(f, 1) % 8) {
	case 0:
		any_chain(d, f);
		break;
	case 1:
		framed_chain(d, f);
		break;
	case 2:
		put_byte(f);
		break;
	case 3:
		common_register(f);
		break;
	case 4:
		config_byte(f);
		break;
	case 5:
		vdrv_kick(f->v, 0);
		break;
	case 6:
		check(loop_turn(f->v->rig->loop, 0) >= 0);
		break;
	case 7:
		start(f);
	}
}

static void expect_usable(const struct vfuzz_device *d, struct vfuzz *f)
{
	uint16_t id;
	uint32_t len;

	start(f);
	f->p = d->valid;
	f->left = d->valid_bytes;
	framed_chain(d, f);
	check(vdrv_wait_used(f->v, 0, &id, &len) && len > 0);
}

int vfuzz_run(const struct vfuzz_device *d, const uint8_t *data, size_t size)
{
	static struct vdrv *v;
	struct vfuzz f = { .p = data, .left = size };
	int i;

	if (!v) {
		log_set_sink(quiet, NULL);
		v = d->create();
	}
	f.v = v;
	f.flags = vfuzz_take(&f, 1);
	v->flags = f.flags & (VDRV_PACKED | VDRV_EVENT_IDX);
	v->refuse = d->refuse ? d->refuse(f.flags) : 0;
	rig_mem_fill(v->rig, VFUZZ_HEADER, 0, VFUZZ_BYTES);
	start(&f);
	for (i = 0; f.left && i < STEPS_MAX; i++)
		step(d, &f);
	expect_usable(d, &f);
	return 0;
}

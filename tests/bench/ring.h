/*
 * tests/bench/ring.h - requests of 4 KiB on a scripted driver's ring, each through an
 * indirect table as Linux's driver makes them.
 */
#ifndef TESTS_BENCH_RING_H
#define TESTS_BENCH_RING_H

#include "tests/dev/lib_virtio.h"
#include "vmm/base/util.h"

#define REQUEST		4096u
#define RING_TABLE(i)	(VDRV_TABLE + (i) * 64ull)
#define RING_HEADER(i)	(VDRV_DATA - 0x10000 + (i) * 32ull)
#define RING_STATUS(i)	(RING_HEADER(i) + 16)
#define RING_DATA(i)	(VDRV_DATA + (i) * (uint64_t)REQUEST)

/* Slot @slot of the driver, one of 128: a write or read at byte @offset of the disk.
 * Its head or id. */
static inline uint16_t ring_submit(struct vdrv *v, uint16_t slot, bool write, uint64_t offset)
{
	struct drv_buf b[] = {
		{ RING_HEADER(slot), 16, false }, { RING_DATA(slot), REQUEST, !write },
		{ RING_STATUS(slot), 1, true }
	};
	uint8_t *header = v->rig->ram + RING_HEADER(slot);

	put_le32(header, write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN);
	put_le64(header + 8, offset / 512);
	v->rig->ram[RING_STATUS(slot)] = 0xff;
	return drv_add_indirect(&v->ring[0], b, ARRAY_LEN(b), RING_TABLE(slot));
}

static inline uint8_t ring_status(const struct vdrv *v, uint16_t slot)
{
	return v->rig->ram[RING_STATUS(slot)];
}

#endif

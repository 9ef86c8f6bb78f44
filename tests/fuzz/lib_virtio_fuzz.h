/*
 * tests/fuzz/lib_virtio_fuzz.h - a virtio driver made of fuzz bytes, for the
 * fuzz entry of any virtio device: registers, configuration, rings, chains of
 * any shape, kicks and resets.
 *
 * Input: byte 0 the ring (bit 0 packed, bit 1 EVENT_IDX; the other bits are the
 * device's), then steps of one byte and their operands:
 *	0	a chain: what the device's head() takes, number of pieces (1),
 *		each with offset in the data (2), length (2), flags (1: writable,
 *		2: its length is exact, else in 256 bytes)
 *	1	a chain the device's framed() makes
 *	2	a byte into data or rings: address (3), value (1)
 *	3	a register of the common configuration: offset (1), width (1), value (2)
 *	4	a byte of the device configuration: offset (1), value (1)
 *	5	kick queue 0
 *	6	turn the loop
 *	7	reset and start again
 * What must hold: no crash, no sanitizer report, and a device that after a reset
 * serves an ordinary request.
 */
#ifndef TESTS_FUZZ_LIB_VIRTIO_FUZZ_H
#define TESTS_FUZZ_LIB_VIRTIO_FUZZ_H

#include "tests/dev/lib_virtio.h"

#define VFUZZ_HEADER	(VDRV_DATA - 0x1000)
#define VFUZZ_STATUS	(VDRV_DATA - 0x800)
#define VFUZZ_BYTES	0x20000u	/* of data, from VFUZZ_HEADER on */
#define VFUZZ_PIECES	16

struct vfuzz {
	const uint8_t *p;	/* input */
	size_t left;
	uint8_t flags;		/* byte 0 */
	struct vdrv *v;		/* lives from input to input */
};

struct vfuzz_device {
	struct vdrv *(*create)(void);
	/* Features not to take, by byte 0. May be NULL. */
	uint64_t (*refuse)(uint8_t flags);
	/* Prepare the first piece of a chain; returns where it is. */
	uint64_t (*head)(struct vfuzz *f);
	/* A request as a careful driver frames it; returns its pieces. */
	int (*framed)(struct vfuzz *f, struct drv_buf *b);
	/* Input for framed() that makes a valid request. */
	const uint8_t *valid;
	size_t valid_bytes;
};

/* The next bytes of the input, little-endian; zeroes after its end. */
uint32_t vfuzz_take(struct vfuzz *f, unsigned int bytes);
int vfuzz_run(const struct vfuzz_device *d, const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif

/*
 * vmm/core/reg.h - register tables: what a window holds, as data.
 *
 * The core decodes offset, width, alignment and bounds and applies the masks;
 * a hook sees only a register its table names, with a whole value.
 */
#ifndef VMM_CORE_REG_H
#define VMM_CORE_REG_H

#include <stdint.h>

struct dev;

enum reg_flags {
	REG_PART = 1 << 0,	/* narrower aligned accesses allowed (default:
				 * exact width only; a 64-bit register always
				 * takes two 32-bit halves) */
	REG_WIDE = 1 << 1,	/* part of a wider access that spans registers */
};

/*
 * @count > 1 describes an array with @stride bytes between elements; hooks
 * receive the index. The image keeps the value in little-endian at its offset.
 *
 * A write computes new = (old & ~wmask) | (val & wmask), then new &= ~(val &
 * w1c), stores it and calls .wr with the value the guest wrote. A partial write
 * touches its own bytes only; .wr then gets the rest of the old value, with
 * zeroes for w1c bits that were not written. A read calls .rd where present,
 * else takes the image.
 *
 * Bytes that no register holds, and accesses of a width or alignment that the
 * register does not allow, read as zero and ignore writes: what specifications
 * ask of reserved registers.
 */
struct reg {
	const char *name;	/* NULL ends a table */
	uint32_t off;
	uint8_t width;		/* bytes: 1, 2, 4, 8 */
	uint64_t reset;
	uint64_t wmask;		/* bits the guest may write */
	uint64_t w1c;		/* bits cleared by writing one */
	uint64_t (*rd)(struct dev *d, const struct reg *r, uint32_t index);
	void (*wr)(struct dev *d, const struct reg *r, uint32_t index, uint64_t val);
	uint8_t flags;
	uint16_t count;		/* 0 and 1: a single register */
	uint16_t stride;
};

/* Put every reset value of @regs into @image (@size bytes). */
void reg_reset(const struct reg *regs, void *image, uint32_t size);

/* The register that holds byte @off, or NULL; *index its array element. */
const struct reg *reg_find(const struct reg *regs, uint32_t off, uint32_t *index);

uint64_t reg_read(const struct reg *regs, struct dev *d, void *image,
		  uint32_t size, uint32_t off, unsigned int width);
void reg_write(const struct reg *regs, struct dev *d, void *image,
	       uint32_t size, uint32_t off, unsigned int width, uint64_t val);

/* Present value of the image, no side effects; for the device's own use. */
uint64_t reg_get(const void *image, const struct reg *r, uint32_t index);
void reg_put(void *image, const struct reg *r, uint32_t index, uint64_t val);

#endif

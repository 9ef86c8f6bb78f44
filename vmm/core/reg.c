/*
 * vmm/core/reg.c - register tables: decode an access, apply the masks.
 *
 * Threads: the caller's; the device lock is held where a device has one.
 * Missing: nothing known.
 */
#include <inttypes.h>
#include <string.h>

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/core/reg.h"

TRACE_DEFINE(reg_read_ignored);
TRACE_DEFINE(reg_write_ignored);

static uint64_t mask_of(unsigned int width)
{
	return width >= 8 ? UINT64_MAX : (1ull << (8 * width)) - 1;
}

static uint32_t count_of(const struct reg *r)
{
	return r->count ? r->count : 1;
}

/* Where element @index of @r starts. */
static uint32_t start_of(const struct reg *r, uint32_t index)
{
	return r->off + index * r->stride;
}

uint64_t reg_get(const void *image, const struct reg *r, uint32_t index)
{
	return get_le((const uint8_t *)image + start_of(r, index), r->width);
}

void reg_put(void *image, const struct reg *r, uint32_t index, uint64_t val)
{
	put_le((uint8_t *)image + start_of(r, index), r->width, val);
}

void reg_reset(const struct reg *regs, void *image, uint32_t size)
{
	const struct reg *r;
	uint32_t i;

	memset(image, 0, size);
	for (r = regs; r->name; r++)
		for (i = 0; i < count_of(r); i++)
			if (start_of(r, i) + r->width <= size)
				reg_put(image, r, i, r->reset);
}

const struct reg *reg_find(const struct reg *regs, uint32_t off, uint32_t *index)
{
	const struct reg *r;
	uint32_t i;

	for (r = regs; r->name; r++) {
		if (off < r->off)
			continue;
		i = r->stride ? (off - r->off) / r->stride : 0;
		if (i < count_of(r) && off - start_of(r, i) < r->width) {
			*index = i;
			return r;
		}
	}
	return NULL;
}

/* An access, or the piece of one, that falls on one register. */
struct part {
	const struct reg *r;
	uint32_t index;
	unsigned int shift;	/* bits from the register's start */
	unsigned int width;	/* bytes */
};

/*
 * Find the piece at the front of [off, off+width). Returns its length; p->r is
 * NULL for bytes that nobody holds or that may not be accessed so.
 */
static unsigned int take(const struct reg *regs, uint32_t size, uint32_t off,
			 unsigned int width, bool whole, struct part *p)
{
	const struct reg *r = reg_find(regs, off, &p->index);
	uint32_t at;

	p->r = NULL;
	if (!r || start_of(r, p->index) + r->width > size)
		return 1;
	at = off - start_of(r, p->index);
	p->shift = at * 8;
	p->width = MIN(width, (unsigned int)(r->width - at));
	if (whole && p->width == width) {
		/* Exactly this register, or a part of it. */
		if (width == r->width || (at % width == 0 &&
		    ((r->flags & REG_PART) || (r->width == 8 && width == 4))))
			p->r = r;
	} else if (at == 0 && p->width == r->width && (r->flags & REG_WIDE)) {
		p->r = r;
	}
	return p->width;
}

static uint64_t part_read(const struct part *p, struct dev *d, const void *image)
{
	const struct reg *r = p->r;
	uint64_t val = r->rd ? r->rd(d, r, p->index) : reg_get(image, r, p->index);

	return (val >> p->shift) & mask_of(p->width);
}

static void part_write(const struct part *p, struct dev *d, void *image, uint64_t val)
{
	const struct reg *r = p->r;
	uint64_t bytes = mask_of(p->width) << p->shift;
	uint64_t old = reg_get(image, r, p->index);
	uint64_t wmask = r->wmask & bytes;
	uint64_t written = ((val << p->shift) & bytes) | (old & ~bytes & ~r->w1c);

	val = (old & ~wmask) | (written & wmask);
	val &= ~(written & r->w1c & bytes);
	reg_put(image, r, p->index, val);
	if (r->wr)
		r->wr(d, r, p->index, written);
}

uint64_t reg_read(const struct reg *regs, struct dev *d, void *image,
		  uint32_t size, uint32_t off, unsigned int width)
{
	unsigned int done, n;
	uint64_t val = 0;
	struct part p;

	for (done = 0; done < width; done += n) {
		n = take(regs, size, off + done, width - done, done == 0, &p);
		if (p.r)
			val |= part_read(&p, d, image) << (8 * done);
		else
			trace(reg_read_ignored, "0x%" PRIx32 "/%u", off + done, n);
	}
	return val;
}

void reg_write(const struct reg *regs, struct dev *d, void *image,
	       uint32_t size, uint32_t off, unsigned int width, uint64_t val)
{
	unsigned int done, n;
	struct part p;

	for (done = 0; done < width; done += n) {
		n = take(regs, size, off + done, width - done, done == 0, &p);
		if (p.r)
			part_write(&p, d, image, (val >> (8 * done)) & mask_of(n));
		else
			trace(reg_write_ignored, "0x%" PRIx32 "/%u", off + done, n);
	}
}

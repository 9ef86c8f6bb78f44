/*
 * Register tables: decoding of offset, width and alignment, and the masks.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "vmm/base/util.h"
#include "vmm/core/reg.h"

#define SIZE 0x60

/* What the hooks saw last. */
static struct {
	const char *name;
	uint32_t index;
	uint64_t val;
	int calls;
} seen;

static uint64_t hook_rd(struct dev *d, const struct reg *r, uint32_t index)
{
	return 0x1122334455667788ull + index;
}

static void hook_wr(struct dev *d, const struct reg *r, uint32_t index, uint64_t val)
{
	seen.name = r->name;
	seen.index = index;
	seen.val = val;
	seen.calls++;
}

static const struct reg regs[] = {
	/* name      off width reset       wmask       w1c */
	{ "RO",      0x00, 4, 0xcafef00d, 0, 0 },
	{ "RW",      0x04, 4, 0, 0x0000ffff, 0, .wr = hook_wr },
	{ "W1C",     0x08, 4, 0xff, 0xff00, 0xff, .wr = hook_wr, .flags = REG_PART },
	{ "BYTE",    0x0c, 1, 0x12, 0xff, 0, .flags = REG_WIDE },
	{ "BYTE2",   0x0d, 1, 0x34, 0xff, 0, .flags = REG_WIDE },
	{ "HALF",    0x0e, 2, 0x5678, 0xffff, 0, .flags = REG_WIDE },
	{ "QUAD",    0x10, 8, 0, UINT64_MAX, 0, .wr = hook_wr },
	{ "HOOKED",  0x18, 8, 0, 0, 0, .rd = hook_rd },
	{ "PORT",    0x20, 4, 0x10, UINT32_MAX, 0, .wr = hook_wr, .count = 4, .stride = 8 },
	/* 0x40..0x43 nobody's */
	{ "W0",      0x44, 2, 0x1111, 0xffff, 0, .flags = REG_WIDE },
	{ "BEYOND",  0x5c, 8, 0xffff, UINT64_MAX, 0 },
	{ 0 }
};

static uint8_t image[SIZE];

static void fresh(void)
{
	memset(image, 0xee, sizeof(image));
	reg_reset(regs, image, SIZE);
	memset(&seen, 0, sizeof(seen));
}

TestSuite(reg, .init = fresh);

static uint64_t rd(uint32_t off, unsigned int width)
{
	return reg_read(regs, NULL, image, SIZE, off, width);
}

static void wr(uint32_t off, unsigned int width, uint64_t val)
{
	reg_write(regs, NULL, image, SIZE, off, width, val);
}

Test(reg, reset_sets_every_element_and_clears_holes)
{
	cr_assert_eq(rd(0x00, 4), 0xcafef00d);
	cr_assert_eq(rd(0x20, 4), 0x10);
	cr_assert_eq(rd(0x38, 4), 0x10);
	cr_assert_eq(image[0x40], 0);
}

Test(reg, write_read_only_changes_nothing)
{
	wr(0x00, 4, 0);
	cr_assert_eq(rd(0x00, 4), 0xcafef00d);
}

Test(reg, write_touches_masked_bits_only)
{
	wr(0x04, 4, 0xffffffff);
	cr_assert_eq(rd(0x04, 4), 0xffff);
	cr_assert_eq(seen.val, 0xffffffff);
}

Test(reg, write_one_to_clear_clears)
{
	wr(0x08, 4, 0x0f);
	cr_assert_eq(rd(0x08, 4), 0xf0);
	wr(0x08, 4, 0xa500);
	cr_assert_eq(rd(0x08, 4), 0xa5f0);
}

Test(reg, partial_write_leaves_other_bytes_alone)
{
	wr(0x09, 1, 0x5a);
	cr_assert_eq(rd(0x08, 4), 0x5aff, "the w1c bits of byte 0 were not written");
	cr_assert_eq(seen.val, 0x5a00);
	wr(0x08, 1, 0xff);
	cr_assert_eq(rd(0x08, 4), 0x5a00);
	cr_assert_eq(seen.val, 0x5aff);
}

Test(reg, partial_read_takes_the_bytes)
{
	wr(0x08, 4, 0xa500);
	cr_assert_eq(rd(0x09, 1), 0xa5);
	cr_assert_eq(rd(0x08, 2), 0xa5ff);
	cr_assert_eq(rd(0x0a, 2), 0);
}

Test(reg, wrong_width_reads_zero_and_writes_nothing)
{
	wr(0x04, 2, 0x1234);
	cr_assert_eq(rd(0x04, 4), 0);
	cr_assert_eq(seen.calls, 0);
	cr_assert_eq(rd(0x00, 1), 0);
	cr_assert_eq(rd(0x00, 2), 0);
	cr_assert_eq(rd(0x02, 2), 0);
}

Test(reg, wider_than_the_register_reads_zero)
{
	wr(0x00, 8, UINT64_MAX);
	cr_assert_eq(rd(0x00, 8), 0, "neither RO nor RW is REG_WIDE");
	cr_assert_eq(rd(0x04, 4), 0);
}

Test(reg, wide_access_spans_registers_that_allow_it)
{
	cr_assert_eq(rd(0x0c, 4), 0x56783412);
	cr_assert_eq(rd(0x0c, 2), 0x3412);
	wr(0x0c, 4, 0xddccbbaa);
	cr_assert_eq(rd(0x0c, 1), 0xaa);
	cr_assert_eq(rd(0x0d, 1), 0xbb);
	cr_assert_eq(rd(0x0e, 2), 0xddcc);
}

Test(reg, wide_access_reads_holes_as_zero)
{
	cr_assert_eq(rd(0x40, 8), 0x0000111100000000ull);
	cr_assert_eq(rd(0x44, 4), 0x1111);
	cr_assert_eq(rd(0x50, 8), 0);
}

Test(reg, quad_takes_halves)
{
	wr(0x10, 4, 0x55667788);
	cr_assert_eq(seen.val, 0x55667788);
	wr(0x14, 4, 0x11223344);
	cr_assert_eq(seen.val, 0x1122334455667788ull);
	cr_assert_eq(rd(0x10, 8), 0x1122334455667788ull);
	cr_assert_eq(rd(0x14, 4), 0x11223344);
	wr(0x10, 2, 0);
	cr_assert_eq(seen.calls, 2, "but nothing narrower");
}

Test(reg, read_hook_replaces_the_image)
{
	cr_assert_eq(rd(0x18, 8), 0x1122334455667788ull);
	cr_assert_eq(rd(0x1c, 4), 0x11223344);
}

Test(reg, array_gives_the_index)
{
	wr(0x30, 4, 77);
	cr_assert_str_eq(seen.name, "PORT");
	cr_assert_eq(seen.index, 2);
	cr_assert_eq(rd(0x30, 4), 77);
	cr_assert_eq(rd(0x28, 4), 0x10);
	cr_assert_eq(rd(0x34, 4), 0, "between the elements is nothing");
}

Test(reg, register_past_the_window_is_never_touched)
{
	wr(0x5c, 4, 1);
	cr_assert_eq(rd(0x5c, 4), 0);
	cr_assert_eq(seen.calls, 0);
}

Test(reg, find_names_the_holder_of_any_byte)
{
	uint32_t i = 9;

	cr_assert_str_eq(reg_find(regs, 0x3b, &i)->name, "PORT");
	cr_assert_eq(i, 3);
	cr_assert_null(reg_find(regs, 0x3c, &i));
	cr_assert_null(reg_find(regs, 0xffffffff, &i));
}

Test(reg, get_and_put_have_no_side_effects)
{
	reg_put(image, &regs[8], 1, 0x99);
	cr_assert_eq(reg_get(image, &regs[8], 1), 0x99);
	cr_assert_eq(seen.calls, 0);
}

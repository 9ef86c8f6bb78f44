/*
 * tests/unit/test_block_dirty.c - which parts of a disk were written to.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "block/dirty.h"
#include "vmm/base/util.h"

#define GRAIN	((uint64_t)DIRTY_GRAIN)

/* A whole pass; the grains that were dirty, as a string of their numbers. */
static const char *taken(struct dirty_map *m)
{
	static char text[1024];
	uint64_t len = 0;

	*text = '\0';
	for (uint64_t pos = 0; dirty_take(m, &pos, &len); pos += len) {
		cr_assert_eq(pos % GRAIN, 0);
		cr_assert(len == GRAIN || pos + len == m->bytes);
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%llu ",
			 (unsigned long long)(pos / GRAIN));
	}
	cr_expect_eq(dirty_left(m), 0);
	return text;
}

Test(block_dirty, test_grains_that_are_touched)
{
	struct dirty_map *m = dirty_create(200 * GRAIN + 512);

	cr_expect_str_eq(taken(m), "");
	dirty_mark(m, 0, 1);
	dirty_mark(m, 3 * GRAIN - 1, 2);
	dirty_mark(m, 63 * GRAIN, 2 * GRAIN);	/* over a word's end */
	dirty_mark(m, 70 * GRAIN, GRAIN);
	cr_expect_eq(dirty_left(m), 6 * GRAIN);
	cr_expect_str_eq(taken(m), "0 2 3 63 64 70 ");
	cr_expect_str_eq(taken(m), "");
	dirty_destroy(m);
}

Test(block_dirty, test_ends_and_what_is_out_of_range)
{
	struct dirty_map *m = dirty_create(200 * GRAIN + 512);

	dirty_mark(m, 200 * GRAIN, 512);
	dirty_mark(m, 200 * GRAIN + 512, 512);
	dirty_mark(m, UINT64_MAX - 511, 512);
	dirty_mark(m, 5 * GRAIN, 0);
	dirty_mark(m, 199 * GRAIN, UINT64_MAX);
	cr_expect_str_eq(taken(m), "199 200 ");
	dirty_destroy(m);
	m = dirty_create(64 * GRAIN);
	dirty_mark(m, 0, UINT64_MAX);
	cr_expect_eq(dirty_left(m), 64 * GRAIN);
	dirty_destroy(m);
	m = dirty_create(0);
	dirty_mark(m, 0, 512);
	cr_expect_str_eq(taken(m), "");
	dirty_destroy(m);
}

/* What is marked behind the pass is left for the next one. */
Test(block_dirty, test_marked_in_the_midst_of_a_pass)
{
	struct dirty_map *m = dirty_create(100 * GRAIN);
	uint64_t pos = 0, len = 0;

	dirty_mark(m, 10 * GRAIN, GRAIN);
	cr_expect(dirty_take(m, &pos, &len));
	cr_expect_eq(pos, 10 * GRAIN);
	dirty_mark(m, 10 * GRAIN, GRAIN);
	dirty_mark(m, 20 * GRAIN, GRAIN);
	pos += len;
	cr_expect(dirty_take(m, &pos, &len));
	cr_expect_eq(pos, 20 * GRAIN);
	pos += len;
	cr_expect(!dirty_take(m, &pos, &len));
	cr_expect_eq(dirty_left(m), GRAIN);
	cr_expect_str_eq(taken(m), "10 ");
	dirty_destroy(m);
}

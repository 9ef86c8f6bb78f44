/*
 * block/dirty.c - which parts of a disk were written to.
 *
 * Threads: marking on any loop; taking on one thread at a time.
 * Missing: nothing known.
 *
 * A part is marked after it was written and taken before it is read, so what is
 * read without being marked again is what the disk has.
 */
#include "block/dirty.h"

#include <stdlib.h>

#include "vmm/base/sparse.h"
#include "vmm/base/util.h"

#define WORD_BITS	64u

static uint64_t map_bytes(const struct dirty_map *m)
{
	return MAX(m->words, (uint64_t)1) * sizeof(*m->word);
}

struct dirty_map *dirty_create(uint64_t bytes)
{
	struct dirty_map *m = xcalloc(1, sizeof(*m));
	void *p;

	m->bytes = bytes;
	m->words = (bytes / DIRTY_GRAIN + WORD_BITS) / WORD_BITS;
	p = sparse_map(map_bytes(m));
	if (!p) {
		free(m);
		return NULL;
	}
	m->word = p;
	return m;
}

void dirty_destroy(struct dirty_map *m)
{
	if (!m)
		return;
	sparse_unmap((void *)m->word, map_bytes(m));
	free(m);
}

void dirty_mark(struct dirty_map *m, uint64_t off, uint64_t bytes)
{
	uint64_t bit, last, w, mask;

	if (bytes == 0 || off >= m->bytes)
		return;
	bit = off / DIRTY_GRAIN;
	last = (off + MIN(bytes, m->bytes - off) - 1) / DIRTY_GRAIN;
	while (bit <= last) {
		w = bit / WORD_BITS;
		mask = UINT64_MAX << bit % WORD_BITS;
		bit = (w + 1) * WORD_BITS;
		if (last < bit - 1)
			mask &= UINT64_MAX >> (WORD_BITS - 1 - last % WORD_BITS);
		atomic_fetch_or(&m->word[w], mask);
	}
	/* After the bits: who resets it looks at these afterwards. */
	atomic_store(&m->any, true);
}

bool dirty_take(struct dirty_map *m, uint64_t *pos, uint64_t *len)
{
	uint64_t bit = *pos / DIRTY_GRAIN, w = bit / WORD_BITS, have;

	if (*pos == 0 && !atomic_exchange(&m->any, false))
		return false;
	for (have = UINT64_MAX << bit % WORD_BITS; w < m->words; w++, have = UINT64_MAX) {
		have &= atomic_load_explicit(&m->word[w], memory_order_relaxed);
		if (!have)
			continue;
		bit = w * WORD_BITS + (unsigned int)__builtin_ctzll(have);
		atomic_fetch_and(&m->word[w], ~BIT64(bit % WORD_BITS));
		*pos = bit * DIRTY_GRAIN;
		*len = MIN(m->bytes - *pos, (uint64_t)DIRTY_GRAIN);
		return true;
	}
	return false;
}

uint64_t dirty_left(struct dirty_map *m)
{
	uint64_t n = 0;

	if (!atomic_load(&m->any))
		return 0;
	for (uint64_t w = 0; w < m->words; w++)
		n += (unsigned int)__builtin_popcountll(atomic_load_explicit(&m->word[w],
									     memory_order_relaxed));
	return n * DIRTY_GRAIN;
}

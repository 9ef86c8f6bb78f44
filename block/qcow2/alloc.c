/*
 * block/qcow2/alloc.c - free host clusters.
 *
 * Threads: under meta.
 */
#include "block/qcow2/qcow2.h"

void q2_mark_meta(struct q2 *q, uint64_t off, uint64_t bytes, bool on)
{
	for (uint64_t c = off >> q->cb; c <= (off + bytes - 1) >> q->cb; c++)
		if (c < q->meta_map_bits)
			on ? bit_set(q->meta_map, c) : bit_clear(q->meta_map, c);
}

bool q2_is_meta(const struct q2 *q, uint64_t off, uint64_t bytes)
{
	for (uint64_t c = off >> q->cb; c <= (off + bytes - 1) >> q->cb; c++)
		if (c < q->meta_map_bits && bit_get(q->meta_map, c))
			return true;
	return false;
}

/*
 * block/dirty.h - which parts of a disk were written to.
 *
 * A bit for each DIRTY_GRAIN bytes. Marked on any loop without a lock, taken by one
 * thread that copies.
 */
#ifndef BLOCK_DIRTY_H
#define BLOCK_DIRTY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define DIRTY_GRAIN	65536u

struct dirty_map {
	uint64_t bytes;			/* of the disk */
	uint64_t words;
	_Atomic bool any;
	_Atomic uint64_t *word;		/* untouched parts cost addresses only */
};

/* Nothing is dirty. NULL: no address space. */
struct dirty_map *dirty_create(uint64_t bytes);
void dirty_destroy(struct dirty_map *m);
/* Any thread, after the disk has what is written; what is out of range is none. */
void dirty_mark(struct dirty_map *m, uint64_t off, uint64_t bytes);
/* The first dirty part from *@pos on, which is clean from here on: look at the disk
 * after this. *@len: its bytes. False: there is none. From 0 on it begins a pass, which
 * has to go on to the end. */
bool dirty_take(struct dirty_map *m, uint64_t *pos, uint64_t *len);
/* Bytes that are dirty, in whole grains; others may be adding. */
uint64_t dirty_left(struct dirty_map *m);

#endif

/*
 * block/memcow.h - copy-on-write in memory: a disk whose writes are forgotten.
 *
 * Threads: main loop.
 */
#ifndef BLOCK_MEMCOW_H
#define BLOCK_MEMCOW_H

#include "block/block.h"

/* Forget what was written to the `memcow` node at or below @n: the disk is as
 * it was when it was opened. The guest must not run, or its file systems find
 * a disk that changed under them; -EINVAL when there is no such node. */
int block_memcow_reset(struct block_node *n, struct err *e);
/* Bytes of memory its writes take; -1: there is no such node. */
int64_t block_memcow_used(struct block_node *n);

#endif

/*
 * block/locking.h - locks on image files that QEMU and qemu-img understand.
 *
 * Threads: main loop.
 */
#ifndef BLOCK_LOCKING_H
#define BLOCK_LOCKING_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/err.h"

struct file_lock {
	bool off;			/* locking=off, or the file system has none */
	uint32_t perm, unshared;	/* bytes locked now */
};

/*
 * Lock @fd (open on @name) for @perm and against everything outside @shared
 * (enum block_perm). On failure what was locked before still is. With
 * @required false a file system without locks is accepted, with a warning.
 */
int file_lock_set(struct file_lock *l, int fd, const char *name, uint32_t perm,
		  uint32_t shared, bool required, struct err *e);
/* Take what is locked on @fd over to @other, a descriptor of the same file. At no
 * moment it is unlocked. On failure nothing has changed. */
int file_lock_move(const struct file_lock *l, int fd, int other);

#endif

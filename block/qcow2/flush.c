/*
 * block/qcow2/flush.c - in which order things reach the disk.
 *
 * Threads: whoever holds a loop that may wait: worker, main loop's thread.
 * Missing: nothing known.
 */
#include "block/qcow2/qcow2.h"

#include <errno.h>
#include <inttypes.h>

int q2_sync_io(struct q2 *q, struct loop *l, enum block_op op, uint64_t off, void *buf,
	       size_t len)
{
	struct iovec iov = { buf, len };
	uint32_t flags = op == BLOCK_READ && off + len > atomic_load(&q->file_len) ?
			 BLOCK_EOF_ZEROES : 0;

	return block_io_wait(q->n.file.node, l, op, flags, off, buf ? &iov : NULL, buf != NULL,
			     len);
}

int q2_corrupt(struct q2 *q, uint64_t off, const char *what)
{
	const char *name = q->n.filename ? q->n.filename : q->n.name;

	log_guest(&q->limit, name, "the image is corrupt: bad %s at offset %#" PRIx64 "%s", what,
		  off, q->writable ? "; no more writes; repair it with 'roost img check -r all'" :
		  "");
	if (q->writable)
		atomic_store(&q->broken, true);
	return -EIO;
}

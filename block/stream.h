/*
 * block/stream.h - take over what a disk has from its backing files, so that
 * these are not needed any more, while the guest runs.
 *
 * Threads: main loop, except stream_run().
 */
#ifndef BLOCK_STREAM_H
#define BLOCK_STREAM_H

#include "block/block.h"

struct stream;

/* The top node of disk @name (a drive, node or device) shall take what lies
 * between it and node @base; NULL: all there is. @backing_name: what the image
 * is to call @base; NULL: its absolute path. Refused with a sentence. */
int stream_create(struct block_graph *g, const char *name, const char *base,
		  const char *backing_name, struct stream **out, struct err *e);
/* The work, on a thread that may wait, with a loop of its own. @pace is called
 * after each piece that took @bytes, with @done of @all, @failed when one failed with
 * @err: 0: try it again. Else, and when @pace is not 0: stop, with that. What
 * was copied stays, and the chain is as good as before. On success the image on
 * the disk names its new backing file, durably. */
int stream_run(struct stream *s, struct loop *l,
	       int (*pace)(void *arg, uint64_t bytes, uint64_t done, uint64_t all),
	       int (*failed)(void *arg, int err), void *arg, struct err *e);
/* After stream_run() succeeded: let go of the old backing nodes; @done once,
 * never from inside. -ETIMEDOUT, -ENODEV: the node keeps them while it is open. */
void stream_switch(struct stream *s, void (*done)(void *arg, int ret, const struct err *e),
		   void *arg);
/* At any time that stream_run() does not run. */
void stream_destroy(struct stream *s);

#endif

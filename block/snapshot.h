/*
 * block/snapshot.h - put overlays on disks that a guest is writing to.
 *
 * Threads: main loop.
 */
#ifndef BLOCK_SNAPSHOT_H
#define BLOCK_SNAPSHOT_H

#include "block/block.h"

#define SNAPSHOT_DISKS_MAX	64

/* One disk of a snapshot: its top node, and the node that will stand on it. */
struct snapshot_pair {
	const char *node, *overlay;
};

struct snapshot;

/*
 * Make each overlay the top node of its disk, all at one point in time and all
 * or none. The guest is not stopped: what it submits meanwhile is kept for the
 * moment of the switch. Before the switch everything that it wrote is made
 * durable below. @done is called later, with 0 or -errno and a sentence; then
 * nothing has changed. Refused at once, with a sentence, where a pair does not
 * fit. Overlays need the length of their disk and no backing node yet.
 */
int snapshot_start(struct block_graph *g, const struct snapshot_pair *pairs, int n,
		   void (*done)(void *arg, int ret, const struct err *e), void *arg,
		   struct snapshot **out, struct err *e);
/* Give up; @done is not called. Waits a second at most for a flush in flight; if it
 * does not end the graph is left behind. */
void snapshot_abort(struct snapshot *s);

#endif

/*
 * block/throttle.h - limits on a drive's requests and bytes per second.
 *
 * Threads: settings on the main loop, requests on their own loops.
 */
#ifndef BLOCK_THROTTLE_H
#define BLOCK_THROTTLE_H

#include "block/block.h"

/* Per second; 0: no limit. @max: what may be done at once after a pause, in one
 * second's units; 0: a tenth of the average. */
struct throttle_limits {
	uint64_t avg[THROTTLE_BUCKETS], max[THROTTLE_BUCKETS];
	uint64_t iops_size;		/* a larger request counts as several; 0: never */
};

/* Refused, with a sentence, where a total is combined with its parts, or a
 * burst has no average or is below it. Takes effect at once. */
int throttle_set(struct drive *d, const struct throttle_limits *l, const char *what,
		 struct err *e);
struct throttle_limits throttle_get(struct drive *d);

/* ---- for drive.c ---- */

/* True when @r has to wait; it is issued later. On r->loop. */
bool throttle_keep(struct drive *d, struct block_req *r);
/* Drive's lock. */
void throttle_drop(struct drive *d, struct block_req *r);
uint32_t throttle_waiting(const struct drive *d);
void throttle_wake(struct drive *d);
void throttle_init(struct drive *d);
void throttle_quiet(struct drive *d);	/* nothing is in flight */
/* In drive.c: @r does not wait any more. On r->loop. */
void drive_admitted(struct block_req *r);

#endif

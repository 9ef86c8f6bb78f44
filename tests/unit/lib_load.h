/*
 * tests/unit/lib_load.h - requests from several threads at once, some of which
 * cancel each other, while the test changes something about their drives.
 */
#ifndef LIB_LOAD_H
#define LIB_LOAD_H

#include "block/block.h"
#include "vmm/loop/iothread.h"

#define LOAD_DEPTH	8	/* requests in flight of each thread, 512 bytes each */

struct load {
	struct iothread *io;
	struct drive *d;
	uint64_t offset;	/* LOAD_DEPTH sectors from here on are the thread's */
	int left;		/* requests to come */
	bool cancels;
	int failures;		/* when all is over; a cancelled one may end either way */
	_Atomic int running;
	struct loop_work work;
	struct load_req {
		struct block_req r;	/* first */
		struct iovec iov;
		uint8_t mem[512];
		struct load *w;
		bool busy;
	} req[LOAD_DEPTH];
};

/* Begin on a thread of its own; d, offset, left and cancels are set. */
void load_start(struct load *w);
bool load_runs(const struct load *w, int n);
/* All are over: the threads end. */
void load_end(struct load *w, int n);

#endif

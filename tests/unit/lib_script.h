/*
 * tests/unit/lib_script.h - a node that fails as a test says.
 *
 * The top node of an open drive gets another submit function: it writes down
 * what it sees, fails what it shall fail, keeps what it shall keep, and hands
 * the rest to the real one. One drive at a time.
 */
#ifndef TESTS_UNIT_LIB_SCRIPT_H
#define TESTS_UNIT_LIB_SCRIPT_H

#include "block/block.h"

#define SCRIPT_LOG	4096

struct script {
	_Atomic int fail;		/* errno for everything; 0: none */
	_Atomic uint64_t bad;		/* offset that always fails with EIO; 0: none */
	_Atomic int fail_flush;		/* errno for flushes */
	_Atomic unsigned int percent;	/* of requests that fail with EIO */
	_Atomic bool hold;		/* keep requests until script_release() */
	/* one loop only */
	struct block_req *held[64];
	int holding;
	struct block_req *log[SCRIPT_LOG];	/* in the order of arrival */
	uint32_t flags[SCRIPT_LOG];
	int n;
	bool logging;
};

extern struct script script;

void script_install(struct drive *d);
/* Let go of what is held, with @ret < 0 or to the real node. */
void script_release(int ret);
void script_clear(void);		/* the log */

#endif

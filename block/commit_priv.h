/*
 * block/commit_priv.h - a commit, between the main loop (commit.c) and the thread that
 * copies (commit_copy.c).
 */
#ifndef BLOCK_COMMIT_PRIV_H
#define BLOCK_COMMIT_PRIV_H

#include "block/commit.h"
#include "block/dirty.h"

/* Of the thread's wish that the drive be held, or held no longer. */
enum commit_turn { TURN_NONE, TURN_ASKED, TURN_HELD, TURN_LATE, TURN_RETURNED };

struct commit {
	struct block_graph *g;
	bool active;			/* the top is the disk's top node */
	/* So that none of them goes meanwhile; base and overlay are written to. The
	 * overlay stands on the top: none with an active one. */
	struct block_child root, top, base, overlay;
	char *backing_name;
	struct dirty_map *dirty;	/* active: the drive's */
	_Atomic bool gone;		/* the device was removed */
	bool pivot;			/* thread, then main loop: the disk goes on with base */

	/* main loop */
	struct drive *d;		/* NULL: its device was removed */
	bool base_reopened, overlay_reopened;	/* were read-only */
	bool open;			/* undo() has something to do */
	bool orphan;			/* stays until the device lets go of the disk */
	bool held;
	void (*when_held)(struct commit *c);
	void (*when_late)(struct commit *c);
	struct loop_timer limit;
	commit_done *done;
	void *arg;
	int ret;
	struct err e;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	enum commit_turn turn;		/* lock */
	struct loop_work ask;

	/* thread */
	const struct commit_watch *watch;
	struct loop *l;
	void *buf;
	uint64_t copied, all;		/* progress, bytes */
	bool writing;			/* or reading: what failed last */
	bool hurry;			/* the guest waits: no pace */
};

#endif

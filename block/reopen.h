/*
 * block/reopen.h - other options for nodes that are in use.
 *
 * reopen.c keeps requests away and has them all durable; reopen_plan.c knows which
 * options change, and changes them.
 *
 * Threads: main loop.
 */
#ifndef BLOCK_REOPEN_H
#define BLOCK_REOPEN_H

#include "block/block.h"

struct reopen;

/*
 * blockdev-reopen: the options of several nodes become those of @list, an array of
 * objects as for block_node_open(); what an object leaves out gets its default. All
 * or none. When @done is called, which is never from inside, *@out is gone. Refused
 * with a sentence that names node, option and remedy.
 */
int reopen_start(struct block_graph *g, const json_t *list,
		 void (*done)(void *arg, int ret, const struct err *e), void *arg,
		 struct reopen **out, struct err *e);
/* The graph goes away: done() is not called. */
void reopen_abort(struct reopen *r);

/* ---- reopen_plan.c ---- */

extern const char reopen_user[];	/* of the edges */

/* One node's part. */
struct reopen_node {
	struct block_node *n;		/* keep.node */
	struct block_child keep;
	struct block_node *want;	/* never opened: holds the options asked for */
	json_t *args;
	bool was_read_only;		/* by its options, not for what is below */
	bool sync;			/* a descriptor will be another one */
	bool swap;			/* backing changes, to to.node */
	struct block_child to, from;
	/* what is to be undone when another one fails */
	bool did_direct, did_write, did_backing;
};

struct reopen_plan {
	struct block_graph *g;
	struct reopen_node *node;	/* with room for all: edges stay where they are */
	int n;
};

/* One object of the list. */
int reopen_plan_add(struct reopen_plan *p, const json_t *options, struct err *e);
/* Mark what is above the plan's nodes, and those; refused where a job is at work, or,
 * if @p is not the one that has @begun, another command. */
int reopen_plan_mark(struct reopen_plan *p, bool begun, struct err *e);
/* Nothing is in flight. All or none. */
int reopen_plan_apply(struct reopen_plan *p, struct err *e);
void reopen_plan_free(struct reopen_plan *p);

#endif

/*
 * block/graph.h - what the files of the block layer share about the graph.
 *
 * Threads: main loop.
 */
#ifndef BLOCK_GRAPH_H
#define BLOCK_GRAPH_H

#include "block/block.h"

struct block_graph {
	struct loop *loop;
	struct fds *fds;		/* borrowed, or NULL */
	struct block_node *nodes;
	struct drive *drives;
	struct throttle_group *groups;
	_Atomic uint32_t holds;		/* drives held: throttle nodes let their requests pass */
	unsigned int serial;		/* of generated names */
	/* Snapshots that are over, but for a flush that the host does not end, and
	 * threads left behind: as long as there are any, no node may go. */
	unsigned int late;
	struct aside *left;
	struct loop *wait_loop;		/* block_graph_wait_loop() */
	_Atomic bool joining;		/* file_sync_joining() */
	uint64_t end_ns;		/* block_graph_end_ns() */
	bool memory_locked;		/* reserved addresses cost memory */
	/* Bumped when edges change, or who may write where: what a node knows
	 * of those below it holds for one generation. Read on any loop. */
	_Atomic uint32_t generation;
};

/* Create a node and what it names inline. No prefix on errors. */
int graph_node_create(struct block_graph *g, const json_t *args, bool implicit,
		      struct block_node **out, struct err *e);
void graph_node_destroy(struct block_node *n);
/* Edges, or who writes, changed: a new generation. */
void graph_changed(struct block_graph *g);
/* May @n get another user? */
int block_check_reserved(const struct block_node *n, struct err *e);
/* Follow the backing file names that images give, from @n down (backing.c). */
int graph_open_backing(struct block_node *n, struct err *e);
/* A name for a node or drive: taken, badly formed, or 0. */
int graph_check_name(struct block_graph *g, const char *name, struct err *e);

/* Around the main loop's waiting for a thread that may wait for a flush: one behind a
 * flush of that loop would never come (file_sync.c). */
void file_sync_joining(struct block_graph *g, bool on);
/* At the end of the VM: until when hanging storage is waited for, all of it together.
 * Ten seconds from the first call on, or one where a disk is suspended. */
uint64_t block_graph_end_ns(struct block_graph *g);

/* {"cache":{"direct":true}} -> {"cache.direct":true}; members that are called
 * as in @keep (NULL-terminated, may be NULL) stay as they are. A new object. */
json_t *graph_flatten(const json_t *args, const char *const *keep);

/* Members of a node's options that no property table has. */
extern const char *const graph_skip[];
/* The options of an inline child @child of a node with @parent's. A new object. */
json_t *graph_child_args(const json_t *parent, const json_t *child);
/* Do the options that every node has agree with each other? */
int graph_check_common(const struct block_node *n, struct err *e);
/* -ENOENT, with a sentence. */
int graph_no_node(struct block_graph *g, const char *name, struct err *e);

/* The name of the format whose signature @file begins with, or NULL. */
const char *graph_detect_format(const char *file);

/* The path in filename= or file=: a leading "file:" is QEMU's, not part of it. */
const char *graph_path(const char *given);

/* The absolute path by which an overlay can name @n in its header, the caller's to free.
 * Refused where no path and format say what @n is. */
int graph_backing_name(const struct block_node *n, char **out, struct err *e);

/* A drive on @n, owned by nobody yet. */
int drive_create(struct block_graph *g, const char *id, struct block_node *n,
		 struct drive **out, struct err *e);
void drive_destroy(struct drive *d);
/* Put the drive, which is held and has no permissions now, on @to. */
int drive_move(struct drive *d, struct block_node *to, struct err *e);
/* Is the node as long as a disk can be? */
int drive_check_size(const struct block_node *n, struct err *e);

extern const struct block_driver block_driver_file;
extern const struct block_driver block_driver_host_device;
extern const struct block_driver block_driver_raw;
extern const struct block_driver block_driver_null_co;
extern const struct block_driver block_driver_qcow2;
extern const struct block_driver block_driver_fault;
extern const struct block_driver block_driver_memcow;
extern const struct block_driver block_driver_throttle;
extern const struct block_driver block_driver_copy_on_read;

/* block_submit() after the node's faults. */
void block_submit_now(struct block_node *n, struct block_req *r);

/* filter.c: the parts of a driver that passes requests on to n->file as they are. */
void filter_opened(struct block_node *n);	/* in its open: looks like that node */
int filter_set_perm(struct block_node *n, uint32_t perm, uint32_t shared, struct err *e);
int filter_check_length(const struct block_node *n, uint64_t bytes, struct err *e);
int filter_set_length(struct block_node *n, uint64_t bytes);

/* fault.c. True: the request is taken care of. */
bool fault_take(struct block_node *n, struct fault_point *p, struct block_req *r);
/* A request that is being cancelled is held: it ends soon. On r->loop. */
bool fault_cancel(struct block_req *r);
void fault_node_gone(struct block_node *n);

#endif

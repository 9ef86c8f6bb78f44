/*
 * block/fault.h - faults on purpose: what a disk does wrong, when and how often.
 *
 * A fault is a rule on one node of the graph. A request that the rule hits is
 * late, fails, moves only a part of its data, or hangs. Rules come and go while
 * I/O runs: the node's data path pays one load as long as there is none.
 *
 * Threads: rules are added and removed on the main loop; they work on every
 * loop that submits to the node.
 */
#ifndef BLOCK_FAULT_H
#define BLOCK_FAULT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "block/block.h"

struct fault;

#define FAULT_PER_MILLION	1000000u
#define FAULT_LATENCY_MAX	3600000u	/* ms: an hour is a hang */

/* A rule's options: what FAULT_PROPS(), rows of a property table, fill. */
struct fault_opts {
	char *op, *err_word;
	uint64_t sector, sectors;
	uint64_t after, count, seed, cut;
	uint32_t latency, jitter, probability;
	bool hang;
};

#define FAULT_PROPS(st, m)								\
	PROP_STR(st, m op, "op", NULL, "what it hits: read, write, flush, discard, "	\
		 "write-zeroes, several with '+' between; without it all"),		\
	PROP_STR(st, m err_word, "errno", NULL,						\
		 "error that a hit request ends with: a name as EIO, or a number"),	\
	PROP_U32(st, m latency, "latency", 0, FAULT_LATENCY_MAX, 0,				\
		 "time by which a hit request is late", .unit = "ms"),			\
	PROP_U32(st, m jitter, "jitter", 0, FAULT_LATENCY_MAX, 0,				\
		 "random time on top of the latency, at most this", .unit = "ms"),	\
	PROP_SIZE(st, m cut, "short", 0, INT64_MAX, 0,					\
		  "so many bytes of a read or write are moved first; with errno= the "	\
		  "rest never is, else in a second piece", .unit = "bytes"),		\
	PROP_BOOL(st, m hang, "hang", false,						\
		  "a hit request does not end until the fault is removed"),		\
	PROP_U64(st, m sector, "sector", 0, INT64_MAX / BLOCK_SECTOR, 0,		\
		 "first sector (512 bytes) of the range it hits"),			\
	PROP_U64(st, m sectors, "sectors", 0, INT64_MAX / BLOCK_SECTOR, 0,		\
		 "length of that range; 0: to the end of the disk"),			\
	PROP_U64(st, m after, "after", 0, INT64_MAX, 0,					\
		 "so many matching requests pass first"),				\
	PROP_U64(st, m count, "count", 0, INT64_MAX, 0,					\
		 "so many requests are hit at most; 0: no limit"),			\
	PROP_U32(st, m probability, "probability", 1, FAULT_PER_MILLION, FAULT_PER_MILLION,		\
		 "chance that a matching request is hit", .unit = "per million"),	\
	PROP_U64(st, m seed, "seed", 0, INT64_MAX, 1,					\
		 "start of the random numbers: equal seeds, equal faults")

/*
 * Add a rule: {"id":"f0","drive":"d0","op":"write","errno":"EIO",…}. "drive" is
 * a drive's id, a node-name, or the id or path of the device that has the
 * disk; the rule is put on the node that is on top there now. It goes with
 * block_fault_del() or with its node. 0 or -errno with a sentence, without
 * a prefix.
 */
int block_fault_add(struct block_graph *g, const json_t *args, struct err *e);
/* Requests that the rule holds go on at once. -ENOENT: no such rule. */
int block_fault_del(struct block_graph *g, const char *id, struct err *e);

struct block_fault_info {
	const char *id;			/* "" for a rule of a `fault` node's own */
	const char *node;		/* node-name */
	uint64_t matched;		/* requests it looked at */
	uint64_t hits;			/* requests it did something to */
	uint32_t held;			/* late or hanging at this moment */
};
/* Strings are valid during the call. Main loop. */
void block_fault_each(struct block_graph *g,
		      void (*fn)(const struct block_fault_info *i, void *arg), void *arg);

#endif

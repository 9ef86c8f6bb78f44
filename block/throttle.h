/*
 * block/throttle.h - limits on requests and bytes per second, each shared by the
 * members of a group: drives and throttle nodes.
 *
 * Threads: settings on the main loop, requests on their own loops.
 */
#ifndef BLOCK_THROTTLE_H
#define BLOCK_THROTTLE_H

#include "block/block.h"

#define THROTTLE_LENGTH_MAX	UINT32_MAX	/* seconds, as QEMU's */

/* Per second; 0: no limit. @max: what may be done per second for @length seconds
 * after a pause; 0: a tenth of the average at once. @length 0 stands for 1. */
struct throttle_limits {
	uint64_t avg[THROTTLE_BUCKETS], max[THROTTLE_BUCKETS], length[THROTTLE_BUCKETS];
	uint64_t iops_size;		/* a larger request counts as several; 0: never */
};

/* Rows of a property table: limit @b of member @f in a struct @st. */
#define THROTTLE_LIMIT(st, f, b, word, max_word, length_word, ...)			\
	PROP_U64(st, f.avg[b], word, 0, INT64_MAX, 0, "limit per second", ##__VA_ARGS__), \
	PROP_U64(st, f.max[b], max_word, 0, INT64_MAX, 0,				\
		 "what may be done per second in a burst", ##__VA_ARGS__),		\
	PROP_U64(st, f.length[b], length_word, 1, THROTTLE_LENGTH_MAX, 1,		\
		 "how long a burst may last", .unit = "seconds", ##__VA_ARGS__)
#define THROTTLE_DASHED(st, f, b, word, ...)						\
	THROTTLE_LIMIT(st, f, b, word, word "-max", word "-max-length", ##__VA_ARGS__)
/* All of them, with @pre before each name. */
#define THROTTLE_PROPS(st, f, pre)							\
	THROTTLE_DASHED(st, f, THROTTLE_BPS, pre "bps-total"),				\
	THROTTLE_DASHED(st, f, THROTTLE_BPS_RD, pre "bps-read"),			\
	THROTTLE_DASHED(st, f, THROTTLE_BPS_WR, pre "bps-write"),			\
	THROTTLE_DASHED(st, f, THROTTLE_IOPS, pre "iops-total"),			\
	THROTTLE_DASHED(st, f, THROTTLE_IOPS_RD, pre "iops-read"),			\
	THROTTLE_DASHED(st, f, THROTTLE_IOPS_WR, pre "iops-write"),			\
	PROP_U64(st, f.iops_size, pre "iops-size", 0, INT64_MAX, 0,			\
		 "a larger request counts as several", .unit = "bytes")

/*
 * Limits that hold for all members of a group together. Members take turns.
 * One that no object has made goes with its last member.
 */
struct throttle_group {
	char *name;
	struct block_graph *graph;
	bool object;			/* stays without members */
	pthread_mutex_t lock;		/* below a drive's; nothing is taken under it */
	/* lock */
	struct throttle_limits l;
	double level[THROTTLE_BUCKETS];	/* leaks at the average */
	double burst[THROTTLE_BUCKETS];	/* leaks at the maximum */
	uint64_t last_ns;		/* when the levels were right */
	struct throttle_member *members;	/* changed on the main loop */
	struct throttle_member *turn[2];	/* writes, reads: whose; NULL: the first's */
	/* main loop */
	struct loop_timer timer;
	struct loop_work work;		/* posted under the lock only */
	struct throttle_group *next;
};

/* Refused, with a sentence, where a total is combined with its parts, or a
 * burst has no average, is below it or is too long. */
int throttle_check(const struct throttle_limits *l, const char *what, struct err *e);
bool throttle_limits_any(const struct throttle_limits *l);

/* ---- groups ---- */

struct throttle_group *throttle_group_find(struct block_graph *g, const char *name);
/* Made if there is none. */
struct throttle_group *throttle_group_get(struct block_graph *g, const char *name);
/* It may have no members and be no object's: then it goes. */
void throttle_group_put(struct throttle_group *g);
/* Takes effect at once; what was done before still counts. */
int throttle_group_set(struct throttle_group *g, const struct throttle_limits *l,
		       const char *what, struct err *e);
struct throttle_limits throttle_group_limits(struct throttle_group *g);
/* Into @name's group, made if need be, with what waits; NULL: into none. */
void throttle_join(struct throttle_member *m, struct block_graph *graph, const char *name);

/* ---- drives ---- */

/*
 * The limits of the drive's group; with @group it changes to that one first.
 * NULL: the one it is in, or one of its own. Limits that limit nothing take the
 * drive out of its group. Refused as by throttle_check().
 */
int throttle_set(struct drive *d, const char *group, const struct throttle_limits *l,
		 const char *what, struct err *e);
struct throttle_limits throttle_get(struct drive *d);

/* ---- for drive.c ---- */

/* True when @r has to wait; it is issued later. On r->loop. */
bool throttle_keep(struct drive *d, struct block_req *r);
/* False: it waits no more. Drive's lock. */
bool throttle_drop(struct drive *d, struct block_req *r);
/* Drive's lock, main loop. */
uint32_t throttle_waiting(struct drive *d);
/* A drive was held or released. Main loop. */
void throttle_wake_all(struct block_graph *graph);
void throttle_init(struct drive *d);

/* ---- for throttle_node.c and request.c ---- */

/* The same for a request in a throttle node. */
bool throttle_node_keep(struct throttle_member *m, struct block_req *r);
/* False: no node keeps it. Else it ends soon. On r->loop. */
bool throttle_cancel(struct block_req *r);

/* In drive.c: a request's work; it does not wait any more. On r->loop. */
void drive_admitted(struct loop_work *w);

/* ---- throttle.c, for throttle_group.c ---- */

void throttle_look(struct throttle_group *g);
/* Bring the levels up to now. Lock. */
void throttle_leak(struct throttle_group *g);
/* Lock. */
void throttle_wake(struct throttle_group *g);
void throttle_release(struct throttle_member *m);
void throttle_list_add(struct throttle_member *m, bool read, struct block_req *r);
void throttle_list_del(struct throttle_member *m, bool read, struct block_req *r);

#endif

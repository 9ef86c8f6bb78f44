/*
 * block/retry.h - I/O suspension: failed requests of a drive are kept and tried
 * again (werror=retry, rerror=retry).
 *
 * Threads: settings and queries on the main loop, requests on their own loops.
 */
#ifndef BLOCK_RETRY_H
#define BLOCK_RETRY_H

#include "block/block.h"

/* The options as a user gave them; embedded in a device, or in -drive's. */
struct retry_opts {
	int werror, rerror;		/* enum drive_policy */
	int64_t interval, timeout;	/* ms */
	int then;			/* index into retry_then_words */
	char *on;
	bool probe;
	int64_t io_timeout;		/* ms */
};

extern const char *const retry_policy_words[];	/* by enum drive_policy */
extern const char *const retry_then_words[];	/* by enum drive_policy, to ENOSPC */

/* Rows for the property table of a struct @st with member @f; @deferr is the
 * default of both policies. */
#define RETRY_PROPS(st, f, deferw, deferr)						\
	PROP_ENUM(st, f.werror, "werror", retry_policy_words, deferw,			\
		  "what a failed write does; enospc: stop the VM when the host is full, "	\
		  "else report; retry: keep it and try again", .flags = PROP_RUNTIME),	\
	PROP_ENUM(st, f.rerror, "rerror", retry_policy_words, deferr,			\
		  "what a failed read does", .flags = PROP_RUNTIME),			\
	PROP_I64(st, f.interval, "retry_interval", 0, INT64_MAX, 1000,			\
		 "pause between two rounds of tries", .unit = "ms", .flags = PROP_RUNTIME), \
	PROP_I64(st, f.timeout, "retry_timeout", 0, INT64_MAX, 0,			\
		 "how long a request is tried after its first failure; 0: for ever",	\
		 .unit = "ms", .flags = PROP_RUNTIME),					\
	PROP_ENUM(st, f.then, "retry-then", retry_then_words, DRIVE_REPORT,		\
		  "what a request does whose time is over", .flags = PROP_RUNTIME),	\
	PROP_STR(st, f.on, "retry_on", NULL,						\
		 "errors to retry: all (default), transport, or names such as "		\
		 "EIO+ETIMEDOUT; others go to retry-then", .flags = PROP_RUNTIME),	\
	PROP_BOOL(st, f.probe, "retry_probe", true,					\
		  "after a round that failed as a whole try one request first",		\
		  .flags = PROP_RUNTIME),						\
	PROP_I64(st, f.io_timeout, "io_timeout", 0, INT64_MAX, 0,			\
		 "tell when the host does not answer a request for so long; 0: never",	\
		 .unit = "ms", .flags = PROP_RUNTIME)

/*
 * Check @o and make it the drive's. @given: JSON object of the options that
 * were stated; those that were not keep what the drive has (NULL: all count,
 * as after a change at run time). @what names the object in errors. Requests
 * that wait are looked at again under the new settings. Main loop.
 */
int retry_set(struct drive *d, const struct retry_opts *o, const json_t *given,
	      const char *what, struct err *e);
/* Only the check. */
int retry_check(const struct retry_opts *o, const json_t *given, const char *what,
		struct err *e);

/* Start a round at once. Main loop. */
void drive_retry_now(struct drive *d);
/* No more tries: everything that waits goes to the final policy. Main loop. */
void drive_give_up(struct drive *d);

struct drive_retry_info {
	uint32_t parked;		/* requests kept at present; 0: healthy */
	enum block_op last_op;
	int last_err;			/* -errno; 0: none yet */
	uint64_t since_ms;		/* wall clock; 0: not suspended */
	/* since the drive exists */
	uint64_t suspensions, retries, timed_out, suspended_ms;
};
struct drive_retry_info drive_retry_info(struct drive *d);

struct drive_stall_info {
	uint32_t stalled;		/* requests not answered for io_timeout, now */
	uint64_t since_ms;		/* wall clock; 0: none */
	uint64_t total;
};
struct drive_stall_info drive_stall_info(struct drive *d);

/* ---- for drive.c and drive_open.c ---- */

/* retry_stall.c: a request goes to the nodes, and is back. On r->loop. */
static inline bool stall_watched(const struct drive *d)
{
	return atomic_load_explicit(&d->stall.limit_ns, memory_order_relaxed) != 0;
}
void stall_enter(struct drive *d, struct block_req *r);
void stall_leave(struct drive *d, struct block_req *r);
void stall_set(struct drive *d, uint64_t limit_ns);
void stall_init(struct drive *d);
void stall_quiet(struct drive *d);	/* nothing is in flight */

void retry_init(struct drive *d);
/* The node or the policy changed: do writes have to be durable one by one? Main loop. */
void retry_update_durable(struct drive *d);
/* Nothing is in flight. May be called again. */
void retry_fini(struct drive *d);
/* Is @err (-errno) one that the user wants retried? */
bool retry_wants(const struct drive *d, const struct block_req *r, int err);
/* Keep @r, which failed with @err. False: its time is over. On r->loop. */
bool retry_park(struct drive *d, struct block_req *r, int err);
/* A flush: true when it has to wait for writes that came before it. */
bool retry_hold_flush(struct drive *d, struct block_req *r);
/* @r, which was kept, has its result. On r->loop. */
void retry_end(struct drive *d, struct block_req *r, int ret);
/* A parked request is cancelled. Drive's lock. */
void retry_unpark(struct drive *d, struct block_req *r);
/* The interval may be shorter now. Drive's lock. */
void retry_new_settings(struct drive *d);
void retry_pause(struct drive *d, bool paused);
/* In drive.c: send @r to the node; apply the policy after the last try. */
void drive_issue(struct drive *d, struct block_req *r);
void drive_expired(struct drive *d, struct block_req *r);
void drive_finish(struct drive *d, struct block_req *r, int ret);

/* drive_hold.c: keep @r if the drive is still held; something left the nodes. */
bool drive_keep(struct drive *d, struct block_req *r);
void drive_poke(struct drive *d);
/* @r is not kept any more. On r->loop. */
void drive_proceed(struct block_req *r);
void hold_init(struct drive *d);

/* Insert in the order of submission; remove. Drive's lock. */
void susp_insert(struct block_susp_list *l, struct block_req *r);
void susp_remove(struct block_susp_list *l, struct block_req *r);

#endif

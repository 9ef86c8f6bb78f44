/*
 * block/drive.c - drives: requests of guest devices, error policy, statistics.
 *
 * Threads: a request on its own loop; what a stop kept is issued again by the
 *          main loop. Suspension (werror=retry) is in retry.c.
 * Missing: nothing known.
 */
#include "block/dirty.h"
#include "block/graph.h"
#include "block/retry.h"
#include "block/throttle.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "vmm/base/log.h"
#include "vmm/base/util.h"

TRACE_DEFINE(drive_submit);
TRACE_DEFINE(drive_done);

static const char *const op_words[] = {
	[BLOCK_READ] = "read", [BLOCK_WRITE] = "write", [BLOCK_FLUSH] = "flush",
	[BLOCK_DISCARD] = "discard", [BLOCK_WRITE_ZEROES] = "write-zeroes",
};
static_assert(ARRAY_LEN(op_words) == BLOCK_OPS, "one word each");

static struct drive_stats *shard(struct drive *d, const struct block_req *r)
{
	/* Loops are allocated one by one: their low bits say nothing. */
	uintptr_t p = (uintptr_t)r->loop;

	return &d->stats[(p >> 6 ^ p >> 12) % DRIVE_SHARDS];
}

static void count(_Atomic uint64_t *c, uint64_t n)
{
	atomic_fetch_add_explicit(c, n, memory_order_relaxed);
}

static unsigned int latency_bin(uint64_t ns)
{
	unsigned int bits = ns ? 64 - (unsigned int)__builtin_clzll(ns) : 0;

	return bits <= DRIVE_LATENCY_FIRST ? 0 :
	       MIN(bits - DRIVE_LATENCY_FIRST, DRIVE_LATENCY_BINS - 1u);
}

void drive_finish(struct drive *d, struct block_req *r, int ret)
{
	struct drive_stats *s = shard(d, r);
	struct dirty_map *m;
	uint64_t ns;

	if (ret == 0) {
		count(&s->ops[r->op], 1);
		count(&s->bytes[r->op], r->bytes);
		ns = clock_ns() - r->start_ns;
		count(&s->ns[r->op], ns);
		if (r->op < DRIVE_LATENCY_OPS)
			count(&s->latency[r->op][latency_bin(ns)], 1);
	} else {
		count(&s->errors[r->op], 1);
	}
	m = atomic_load_explicit(&d->dirty, memory_order_acquire);
	if (__builtin_expect(m != NULL, 0) && r->op != BLOCK_READ && r->op != BLOCK_FLUSH)
		dirty_mark(m, r->offset, r->bytes);	/* whatever became of it */
	atomic_fetch_sub(&s->inflight, 1);
	if (__builtin_expect(atomic_load_explicit(&d->held, memory_order_relaxed), 0))
		drive_poke(d);
	trace(drive_done, "%s: %s at %" PRIu64 ": %d", d->id, op_words[r->op], r->offset, ret);
	r->done(r, ret);
}

/* ---- error policy ---- */

/* What a policy other than retry means for @err. */
static enum drive_policy settle(const struct drive *d, int policy, int err)
{
	if (policy == DRIVE_ENOSPC)
		policy = err == -ENOSPC ? DRIVE_STOP : DRIVE_REPORT;
	if (policy == DRIVE_STOP && !d->on_error)
		policy = DRIVE_REPORT;
	return (enum drive_policy)policy;
}

static int policy_of(const struct drive *d, enum block_op op)
{
	int policy = atomic_load(op == BLOCK_READ ? &d->rerror : &d->werror);

	if (policy == DRIVE_AUTO)	/* qapi BlockdevOnError: as QEMU's devices */
		policy = op == BLOCK_READ ? DRIVE_REPORT : DRIVE_ENOSPC;
	return policy;
}

static enum drive_policy decide(const struct drive *d, const struct block_req *r, int err)
{
	int policy = policy_of(d, r->op);

	if (policy != DRIVE_RETRY)
		return settle(d, policy, err);
	if (retry_wants(d, r, err))
		return DRIVE_RETRY;
	return settle(d, atomic_load(&d->retry.then), err);
}

/* Keep @r until drive_resume(), in its place by time of submission. A time
 * limit begins anew then. */
static void park(struct drive *d, struct block_req *r, int err)
{
	pthread_mutex_lock(&d->lock);
	r->susp = (struct block_susp){ .state = SUSP_STOPPED, .err = err };
	susp_insert(&d->stopped, r);
	drive_poke(d);
	pthread_mutex_unlock(&d->lock);
}

static void log_failure(struct drive *d, const struct block_req *r, int err,
			enum drive_policy action)
{
	const char *who = *d->id ? d->id : d->node->name;
	const char *file = d->node->filename ? d->node->filename : d->node->name;
	const char *stop = action == DRIVE_STOP ? "; the VM is stopped" : "";

	if (r->op == BLOCK_FLUSH)
		log_guest(&d->errors, who, "flush of %s failed: %s%s", file, strerror(-err), stop);
	else
		log_guest(&d->errors, who, "%s of %" PRIu64 " bytes at offset %" PRIu64
			  " of %s failed: %s%s", op_words[r->op], r->bytes, r->offset, file,
			  strerror(-err), stop);
}

/* The last word on a request that failed. */
static void conclude(struct drive *d, struct block_req *r, int err, enum drive_policy action)
{
	log_failure(d, r, err, action);
	/* Parked first: whoever stops the VM may resume it at once. */
	if (action == DRIVE_STOP)
		park(d, r, err);
	if (d->on_error)
		d->on_error(d, r->op, err, action);
	if (action != DRIVE_STOP)
		drive_finish(d, r, action == DRIVE_IGNORE ? 0 : err);
}

/* No more tries; the policy may have changed meanwhile. */
void drive_expired(struct drive *d, struct block_req *r)
{
	int policy = policy_of(d, r->op);

	if (policy == DRIVE_RETRY)
		policy = atomic_load(&d->retry.then);
	conclude(d, r, r->susp.err, settle(d, policy, r->susp.err));
}

/* A request that failed, or one that failed before. */
static void ended_slowly(struct drive *d, struct block_req *r, int ret)
{
	enum drive_policy action;

	r->sub = NULL;		/* it may work for others by now */
	if (ret == 0 || r->cancelled) {
		if (r->susp.state)
			retry_end(d, r, ret);
		drive_finish(d, r, ret);
		return;
	}
	action = decide(d, r, ret);
	if (action == DRIVE_RETRY) {
		if (!retry_park(d, r, ret))
			drive_expired(d, r);
		return;
	}
	if (r->susp.state)
		retry_end(d, r, ret);
	conclude(d, r, ret, action);
}

/* From the nodes, on r->loop. */
static void drive_ended(struct block_req *r, int ret)
{
	struct drive *d = r->drive;

	if (__builtin_expect(r->fly.on, 0))
		stall_leave(d, r);
	if (__builtin_expect(ret || r->susp.state, 0)) {
		ended_slowly(d, r, ret);
		return;
	}
	/* The disk answers: a round of tries is worth while. */
	if (__builtin_expect(atomic_load_explicit(&d->retry.active, memory_order_relaxed), 0))
		atomic_store(&d->retry.alive, true);
	drive_finish(d, r, 0);
}

/* ---- requests ---- */

/* A request that is wrong in itself is no error of the disk. */
static void drive_refused(struct block_req *r, int ret)
{
	drive_finish(r->drive, r, ret);
}

static int check(const struct drive *d, const struct block_req *r)
{
	if (r->op == BLOCK_FLUSH)
		return 0;
	if (r->op != BLOCK_READ && d->read_only)
		return -EROFS;
	if ((r->offset | r->bytes) % BLOCK_SECTOR || r->bytes > d->node->bytes ||
	    r->offset > d->node->bytes - r->bytes)
		return -EINVAL;
	/* More in the iovec than in the request would reach past its end. */
	if (r->op <= BLOCK_WRITE && (r->iovcnt < 0 || r->iovcnt > BLOCK_IOV_MAX ||
				     iov_bytes(r->iov, r->iovcnt) != r->bytes))
		return -EINVAL;
	return 0;
}

void drive_issue(struct drive *d, struct block_req *r)
{
	r->now = (struct block_step){ r->op, r->flags, r->offset };
	if ((r->op == BLOCK_WRITE || r->op == BLOCK_WRITE_ZEROES) &&
	    !atomic_load_explicit(&d->write_cache, memory_order_relaxed))
		r->now.flags |= BLOCK_FUA;
	else if (__builtin_expect(d->copy_on_read, 0) && r->op == BLOCK_READ)
		r->now.flags |= BLOCK_COPY_ON_READ;
	if (__builtin_expect(stall_watched(d), 0))
		stall_enter(d, r);
	if (r->bytes == 0 && r->op != BLOCK_FLUSH)
		block_done_later(r, 0);
	else
		block_submit(d->node, r);
}

/* The drive is not held: to the node, if the request is sound. */
static void proceed(struct drive *d, struct block_req *r)
{
	int ret = check(d, r);

	if (ret) {
		r->ended = drive_refused;
		block_done_later(r, ret);
		return;
	}
	if (r->op == BLOCK_FLUSH &&
	    __builtin_expect(atomic_load_explicit(&d->retry.active, memory_order_relaxed), 0) &&
	    retry_hold_flush(d, r))
		return;
	if (__builtin_expect(atomic_load_explicit(&d->throttle.on, memory_order_relaxed), 0) &&
	    throttle_keep(d, r))
		return;
	drive_issue(d, r);
}

void drive_admitted(struct loop_work *w)
{
	struct block_req *r = container_of(w, struct block_req, work);

	r->susp.state = SUSP_NONE;
	if (r->cancelled)
		drive_finish(r->drive, r, -ECANCELED);
	/* Held since: its nodes are about to change. */
	else if (!atomic_load(&r->drive->held) || !drive_keep(r->drive, r))
		drive_issue(r->drive, r);
}

void drive_submit(struct drive *d, struct block_req *r)
{
	r->drive = d;
	r->ended = drive_ended;		/* also when it is cancelled before it begins */
	r->cancelled = false;
	r->susp = (struct block_susp){ 0 };
	r->start_ns = clock_ns();
	/* Counted before the look at held, as drive_hold() sets that before it
	 * looks at the count: one of the two sees the other. */
	atomic_fetch_add(&shard(d, r)->inflight, 1);
	trace(drive_submit, "%s: %s at %" PRIu64 ", %" PRIu64 " bytes", d->id, op_words[r->op],
	      r->offset, r->bytes);
	if (__builtin_expect(atomic_load(&d->held), 0) && drive_keep(d, r))
		return;
	proceed(d, r);
}

void drive_proceed(struct block_req *r)
{
	r->susp.state = SUSP_NONE;
	if (r->cancelled)
		drive_finish(r->drive, r, -ECANCELED);
	else
		proceed(r->drive, r);
}

void drive_cancel(struct block_req *r)
{
	struct drive *d = r->drive;
	bool parked;

	r->cancelled = true;
	pthread_mutex_lock(&d->lock);
	if (r->susp.state == SUSP_THROTTLED)
		parked = throttle_drop(d, r);
	else
		parked = r->susp.listed && r->susp.state != SUSP_OUT;
	if (parked && r->susp.state == SUSP_STOPPED)
		susp_remove(&d->stopped, r);
	else if (parked && r->susp.state == SUSP_HELD)
		susp_remove(&d->waiting, r);
	else if (parked && r->susp.state != SUSP_THROTTLED)
		retry_unpark(d, r);
	if (parked)
		r->susp.state = SUSP_NONE;
	pthread_mutex_unlock(&d->lock);
	if (parked)
		block_done_later(r, -ECANCELED);
	else
		block_cancel(r);
}

static void resume_work(struct loop_work *w)
{
	struct block_req *r = container_of(w, struct block_req, work);

	r->susp.state = SUSP_NONE;
	if (r->cancelled)
		drive_finish(r->drive, r, -ECANCELED);
	else if (!atomic_load(&r->drive->held) || !drive_keep(r->drive, r))
		drive_issue(r->drive, r);
}

void drive_pause(struct drive *d)
{
	retry_pause(d, true);
}

void drive_resume(struct drive *d)
{
	struct block_req *r;

	pthread_mutex_lock(&d->lock);
	while ((r = d->stopped.head)) {
		susp_remove(&d->stopped, r);
		r->work.cb = resume_work;
		loop_post(r->loop, &r->work);
	}
	pthread_mutex_unlock(&d->lock);
	retry_pause(d, false);
}

int drive_stop_error(struct drive *d)
{
	int err;

	pthread_mutex_lock(&d->lock);
	err = d->stopped.head ? d->stopped.head->susp.err : 0;
	pthread_mutex_unlock(&d->lock);
	return err;
}

static void add_latencies(struct drive_totals *t, const struct drive_stats *s)
{
	for (int op = 0; op < DRIVE_LATENCY_OPS; op++)
		for (int i = 0; i < DRIVE_LATENCY_BINS; i++)
			t->latency[op][i] += atomic_load_explicit(&s->latency[op][i],
								  memory_order_relaxed);
}

struct drive_totals drive_totals(const struct drive *d)
{
	struct drive_totals t = { 0 };

	for (int i = 0; i < DRIVE_SHARDS; i++) {
		const struct drive_stats *s = &d->stats[i];

		for (int op = 0; op < BLOCK_OPS; op++) {
			t.ops[op] += atomic_load_explicit(&s->ops[op], memory_order_relaxed);
			t.bytes[op] += atomic_load_explicit(&s->bytes[op], memory_order_relaxed);
			t.errors[op] += atomic_load_explicit(&s->errors[op], memory_order_relaxed);
			t.ns[op] += atomic_load_explicit(&s->ns[op], memory_order_relaxed);
		}
		add_latencies(&t, s);
		t.inflight += atomic_load_explicit(&s->inflight, memory_order_acquire);
	}
	return t;
}

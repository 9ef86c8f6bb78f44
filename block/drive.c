/*
 * block/drive.c - drives: requests of guest devices, error policy, statistics.
 *
 * Threads: opening and closing on the main loop; a request on its own loop.
 * Missing: retry, throttling.
 */
#include "block/graph.h"

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

static void drive_finish(struct drive *d, struct block_req *r, int ret)
{
	struct drive_stats *s = shard(d, r);

	if (ret == 0) {
		count(&s->ops[r->op], 1);
		count(&s->bytes[r->op], r->bytes);
		count(&s->ns[r->op], clock_ns() - r->start_ns);
	} else {
		count(&s->errors[r->op], 1);
	}
	atomic_fetch_sub_explicit(&s->inflight, 1, memory_order_release);
	trace(drive_done, "%s: %s at %" PRIu64 ": %d", d->id, op_words[r->op], r->offset, ret);
	r->done(r, ret);
}

/* ---- error policy ---- */

static enum drive_policy decide(const struct drive *d, enum block_op op, int err)
{
	int policy = op == BLOCK_READ ? d->rerror : d->werror;

	if (policy == DRIVE_AUTO)	/* qapi BlockdevOnError: as QEMU's devices */
		policy = op == BLOCK_READ ? DRIVE_REPORT : DRIVE_ENOSPC;
	if (policy == DRIVE_ENOSPC)
		policy = err == -ENOSPC ? DRIVE_STOP : DRIVE_REPORT;
	if (policy == DRIVE_STOP && !d->on_error)
		policy = DRIVE_REPORT;
	return (enum drive_policy)policy;
}

/* Keep @r until drive_resume(), in its place by time of submission. */
static void park(struct drive *d, struct block_req *r)
{
	struct block_req **p;

	pthread_mutex_lock(&d->park_lock);
	for (p = &d->park; *p && (*p)->start_ns <= r->start_ns; p = &(*p)->next)
		;
	r->next = *p;
	*p = r;
	r->parked = true;
	atomic_fetch_add(&d->parked, 1);
	pthread_mutex_unlock(&d->park_lock);
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

/* From the nodes, on r->loop. */
static void drive_ended(struct block_req *r, int ret)
{
	struct drive *d = r->drive;
	enum drive_policy action;

	if (__builtin_expect(ret == 0, 1) || r->cancelled) {
		drive_finish(d, r, ret);
		return;
	}
	action = decide(d, r->op, ret);
	log_failure(d, r, ret, action);
	/* Parked first: whoever stops the VM may resume it at once. */
	if (action == DRIVE_STOP)
		park(d, r);
	if (d->on_error)
		d->on_error(d, r->op, ret, action);
	if (action != DRIVE_STOP)
		drive_finish(d, r, action == DRIVE_IGNORE ? 0 : ret);
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

static void issue(struct drive *d, struct block_req *r)
{
	r->now = (struct block_step){ r->op, r->flags, r->offset };
	if ((r->op == BLOCK_WRITE || r->op == BLOCK_WRITE_ZEROES) &&
	    !atomic_load_explicit(&d->write_cache, memory_order_relaxed))
		r->now.flags |= BLOCK_FUA;
	r->ended = drive_ended;
	if (r->bytes == 0 && r->op != BLOCK_FLUSH)
		block_done_later(r, 0);
	else
		block_submit(d->node, r);
}

void drive_submit(struct drive *d, struct block_req *r)
{
	int ret = check(d, r);

	r->drive = d;
	r->cancelled = false;
	r->parked = false;
	r->start_ns = clock_ns();
	atomic_fetch_add_explicit(&shard(d, r)->inflight, 1, memory_order_relaxed);
	trace(drive_submit, "%s: %s at %" PRIu64 ", %" PRIu64 " bytes", d->id, op_words[r->op],
	      r->offset, r->bytes);
	if (ret) {
		r->ended = drive_refused;
		block_done_later(r, ret);
		return;
	}
	issue(d, r);
}

static bool unpark(struct drive *d, struct block_req *r)
{
	struct block_req **p;
	bool hit;

	pthread_mutex_lock(&d->park_lock);
	for (p = &d->park; *p && *p != r; p = &(*p)->next)
		;
	hit = *p == r;
	if (hit) {
		*p = r->next;
		atomic_fetch_sub(&d->parked, 1);
	}
	pthread_mutex_unlock(&d->park_lock);
	return hit;
}

void drive_cancel(struct block_req *r)
{
	r->cancelled = true;
	if (r->parked) {
		/* Otherwise drive_resume() has it already, and sees the mark. */
		if (unpark(r->drive, r))
			block_done_later(r, -ECANCELED);
		return;
	}
	block_cancel(r);
}

static void resume_work(struct loop_work *w)
{
	struct block_req *r = container_of(w, struct block_req, work);

	r->parked = false;
	if (r->cancelled)
		drive_finish(r->drive, r, -ECANCELED);
	else
		issue(r->drive, r);
}

void drive_resume(struct drive *d)
{
	struct block_req *r, *next;

	pthread_mutex_lock(&d->park_lock);
	r = d->park;
	d->park = NULL;
	for (; r; r = next) {
		next = r->next;
		atomic_fetch_sub(&d->parked, 1);
		r->work.cb = resume_work;
		loop_post(r->loop, &r->work);
	}
	pthread_mutex_unlock(&d->park_lock);
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
		t.inflight += atomic_load_explicit(&s->inflight, memory_order_acquire);
	}
	return t;
}

/*
 * block/throttle.c - limits on a drive's requests and bytes per second.
 *
 * Spec:    QEMU's docs/throttle.txt (what the options mean).
 * Threads: a request is judged on its own loop under the drive's lock; the main
 *          loop's timer lets waiting ones go. A drive without limits pays one
 *          relaxed load per request.
 * Missing: groups of several disks; burst lengths other than one second.
 *
 * Leaky buckets: each request fills those that concern it by its bytes or by
 * one, and they leak at their average. While one is fuller than its burst the
 * next request of that kind waits, in its own memory; reads wait behind reads,
 * writes behind writes. So no request is too large: it makes others wait longer.
 */
#include "block/throttle.h"

#include <errno.h>
#include <inttypes.h>

#include "block/graph.h"
#include "block/retry.h"
#include "vmm/base/util.h"

static const char *const bucket_words[] = {
	[THROTTLE_BPS] = "bps", [THROTTLE_BPS_RD] = "bps_rd", [THROTTLE_BPS_WR] = "bps_wr",
	[THROTTLE_IOPS] = "iops", [THROTTLE_IOPS_RD] = "iops_rd", [THROTTLE_IOPS_WR] = "iops_wr",
};

/* More than any disk does, and far from where doubles lose units. */
#define LIMIT_MAX	1000000000000000ull

static bool is_read(const struct block_req *r)
{
	return r->op == BLOCK_READ;
}

static bool concerns(int bucket, bool read)
{
	if (bucket == THROTTLE_BPS || bucket == THROTTLE_IOPS)
		return true;
	return read == (bucket == THROTTLE_BPS_RD || bucket == THROTTLE_IOPS_RD);
}

static double units(const struct throttle *t, int bucket, const struct block_req *r)
{
	if (bucket < THROTTLE_IOPS)
		return (double)r->bytes;
	if (!t->iops_size || r->bytes <= t->iops_size)
		return 1;
	return (double)r->bytes / (double)t->iops_size;
}

static double room(const struct throttle *t, int bucket)
{
	return t->max[bucket] ? (double)t->max[bucket] : (double)t->avg[bucket] / 10;
}

static void leak(struct throttle *t, uint64_t now)
{
	double s = (double)(now - t->last_ns) / (double)NS_PER_SEC;

	for (int b = 0; b < THROTTLE_BUCKETS; b++) {
		t->level[b] -= (double)t->avg[b] * s;
		if (t->level[b] < 0)
			t->level[b] = 0;
	}
	t->last_ns = now;
}

/* How long a request of this kind has to wait; 0: not at all. Lock. */
static uint64_t wait_ns(const struct throttle *t, bool read)
{
	double longest = 0, over;

	for (int b = 0; b < THROTTLE_BUCKETS; b++) {
		if (!t->avg[b] || !concerns(b, read))
			continue;
		over = t->level[b] - room(t, b);
		if (over > 0 && over / (double)t->avg[b] > longest)
			longest = over / (double)t->avg[b];
	}
	return (uint64_t)(longest * (double)NS_PER_SEC);
}

static void account(struct throttle *t, const struct block_req *r)
{
	for (int b = 0; b < THROTTLE_BUCKETS; b++)
		if (t->avg[b] && concerns(b, is_read(r)))
			t->level[b] += units(t, b, r);
}

bool throttle_keep(struct drive *d, struct block_req *r)
{
	struct throttle *t = &d->throttle;
	struct block_susp_list *l = &t->waiting[is_read(r)];
	bool keep;

	if (r->op == BLOCK_FLUSH)
		return false;
	pthread_mutex_lock(&d->lock);
	leak(t, clock_ns());
	keep = l->head || wait_ns(t, is_read(r)) > 0;
	if (keep) {
		r->susp.state = SUSP_THROTTLED;
		susp_insert(l, r);
		drive_poke(d);
	} else {
		account(t, r);
	}
	pthread_mutex_unlock(&d->lock);
	if (keep)
		throttle_wake(d);
	return keep;
}

void throttle_drop(struct drive *d, struct block_req *r)
{
	susp_remove(&d->throttle.waiting[is_read(r)], r);
}

static uint32_t length(const struct block_susp_list *l)
{
	uint32_t n = 0;

	for (const struct block_req *r = l->head; r; r = r->susp.next)
		n++;
	return n;
}

uint32_t throttle_waiting(const struct drive *d)
{
	return length(&d->throttle.waiting[0]) + length(&d->throttle.waiting[1]);
}

static void admitted(struct loop_work *w)
{
	drive_admitted(container_of(w, struct block_req, work));
}

/* Let go what may go; when to look again for the rest. Lock. */
static uint64_t admit(struct drive *d, bool read, uint64_t now)
{
	struct throttle *t = &d->throttle;
	struct block_req *r;
	uint64_t ns;

	while ((r = t->waiting[read].head)) {
		ns = wait_ns(t, read);
		if (ns)
			return now + ns + 1;
		susp_remove(&t->waiting[read], r);
		account(t, r);
		r->work.cb = admitted;
		loop_post(r->loop, &r->work);
	}
	return UINT64_MAX;
}

static void look(struct drive *d)
{
	struct throttle *t = &d->throttle;
	uint64_t now, rd, wr;

	pthread_mutex_lock(&d->lock);
	now = clock_ns();
	leak(t, now);
	/* A held drive's nodes are about to change; its release wakes us. */
	rd = atomic_load(&d->held) ? UINT64_MAX : admit(d, true, now);
	wr = atomic_load(&d->held) ? UINT64_MAX : admit(d, false, now);
	pthread_mutex_unlock(&d->lock);
	if (MIN(rd, wr) == UINT64_MAX)
		loop_timer_cancel(&t->timer);
	else
		loop_timer_arm(&t->timer, MIN(rd, wr));
}

static void on_timer(struct loop_timer *timer)
{
	look(container_of(timer, struct drive, throttle.timer));
}

static void on_work(struct loop_work *w)
{
	look(container_of(w, struct drive, throttle.work));
}

void throttle_wake(struct drive *d)
{
	loop_post(d->graph->loop, &d->throttle.work);
}

/* ---- settings ---- */

static int check_bucket(const struct throttle_limits *l, int b, const char *what, struct err *e)
{
	if (l->avg[b] > LIMIT_MAX || l->max[b] > LIMIT_MAX)
		return err_set(e, -ERANGE, "%s: %s must be within 0 and %llu", what,
			       bucket_words[b], LIMIT_MAX);
	if (l->max[b] && !l->avg[b])
		return err_set(e, -EINVAL, "%s: %s_max needs %s", what, bucket_words[b],
			       bucket_words[b]);
	if (l->max[b] && l->max[b] < l->avg[b])
		return err_set(e, -EINVAL, "%s: %s_max is lower than %s", what, bucket_words[b],
			       bucket_words[b]);
	return 0;
}

static int check_limits(const struct throttle_limits *l, const char *what, struct err *e)
{
	int r = 0;

	for (int b = 0; b < THROTTLE_BUCKETS && r == 0; b++)
		r = check_bucket(l, b, what, e);
	for (int b = 0; b < THROTTLE_BUCKETS && r == 0; b += THROTTLE_IOPS)
		if (l->avg[b] && (l->avg[b + 1] || l->avg[b + 2]))
			r = err_set(e, -EINVAL, "%s: %s and %s or %s cannot be used at the same "
				    "time", what, bucket_words[b], bucket_words[b + 1],
				    bucket_words[b + 2]);
	return r;
}

int throttle_set(struct drive *d, const struct throttle_limits *l, const char *what,
		 struct err *e)
{
	struct throttle *t = &d->throttle;
	bool on = false;
	int r = check_limits(l, what, e);

	if (r)
		return r;
	pthread_mutex_lock(&d->lock);
	leak(t, clock_ns());
	for (int b = 0; b < THROTTLE_BUCKETS; b++) {
		t->avg[b] = l->avg[b];
		t->max[b] = l->max[b];
		t->level[b] = 0;
		on |= l->avg[b] != 0;
	}
	t->iops_size = l->iops_size;
	atomic_store(&t->on, on);
	pthread_mutex_unlock(&d->lock);
	throttle_wake(d);
	return 0;
}

struct throttle_limits throttle_get(struct drive *d)
{
	struct throttle_limits l = { .iops_size = d->throttle.iops_size };

	memcpy(l.avg, d->throttle.avg, sizeof(l.avg));
	memcpy(l.max, d->throttle.max, sizeof(l.max));
	return l;
}

void throttle_init(struct drive *d)
{
	loop_timer_init(d->graph->loop, &d->throttle.timer, on_timer, NULL);
	d->throttle.work.cb = on_work;
	d->throttle.last_ns = clock_ns();
}

void throttle_quiet(struct drive *d)
{
	loop_timer_cancel(&d->throttle.timer);
	loop_work_cancel(d->graph->loop, &d->throttle.work);
}

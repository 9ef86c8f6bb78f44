/*
 * block/retry.c - I/O suspension: failed requests wait and are tried again.
 *
 * Threads: a request is kept, tried and ended on its own loop; the clock, the
 *          rounds and the events are the main loop's. The drive's lock guards
 *          the list. Nothing here is touched while nothing fails, except for
 *          one relaxed load per request.
 * Missing: cancelling a try that hangs in the kernel when its time is over (it
 *          is reported as soon as the kernel lets go).
 *
 * All requests that have failed and are not over are in one list, in the order
 * in which the guest submitted them, and stay in it while they are tried: their
 * place is never lost. The list uses the requests' own memory.
 *
 * Rounds. One clock per drive: the interval begins when a round has ended, or
 * with the first failure, and later failures do not push it back. A round tries
 * everything that is parked, in one batch per loop. When all of it failed and
 * nothing else on the disk succeeded either, the next round is one request, a
 * different one each time, and the rest follows as soon as that succeeds.
 *
 * Time. A request has until its own first failure + retry_timeout, whatever
 * others do. The clock stands while the VM is stopped, and no round starts.
 *
 * Flushes. One that arrives while writes are parked waits for those before it:
 * it is parked without having failed, and goes out when they are settled.
 *
 * What a failed flush means. Some nodes cannot know what survived (buffered
 * files: the kernel drops dirty pages and reports that once). They set
 * node->lost, and such a flush is not tried again: it would have to fail for
 * ever. On O_DIRECT nodes whose device has a volatile cache, all writes below a
 * drive with werror=retry are made durable one by one (node->durable): what is
 * not durable was never reported written, is still in the guest's memory or, as
 * metadata of an image, in ours, and is written again.
 */
#include "block/retry.h"
#include "block/graph.h"

#include <errno.h>
#include <time.h>

#include "vmm/base/util.h"

TRACE_DEFINE(retry_park);
TRACE_DEFINE(retry_round);
TRACE_DEFINE(retry_end);

/* Even retry_interval=0 leaves the host and the main loop some time. */
#define INTERVAL_MIN_NS	NS_PER_MS
/* BLOCK_IO_ERROR and SUSPENDED: at most one in this time per drive. */
#define TELL_NS		NS_PER_SEC
#define NEVER		UINT64_MAX

/* ---- the list ---- */

void susp_insert(struct block_susp_list *l, struct block_req *r)
{
	struct block_req *after = l->tail;

	/* From the end: failures come about in the order of submission. */
	while (after && after->start_ns > r->start_ns)
		after = after->susp.prev;
	r->susp.prev = after;
	r->susp.next = after ? after->susp.next : l->head;
	*(r->susp.next ? &r->susp.next->susp.prev : &l->tail) = r;
	*(after ? &after->susp.next : &l->head) = r;
	r->susp.listed = true;
}

void susp_remove(struct block_susp_list *l, struct block_req *r)
{
	struct block_susp *s = &r->susp;

	*(s->prev ? &s->prev->susp.next : &l->head) = s->next;
	*(s->next ? &s->next->susp.prev : &l->tail) = s->prev;
	s->prev = s->next = NULL;
	s->listed = false;
}

static void list_add(struct drive_retry *t, struct block_req *r)
{
	susp_insert(&t->list, r);
	atomic_fetch_add(&t->active, 1);
}

static void list_del(struct drive_retry *t, struct block_req *r)
{
	susp_remove(&t->list, r);
	atomic_fetch_sub(&t->active, 1);
}

static bool writes(const struct block_req *r)
{
	return r->op != BLOCK_READ && r->op != BLOCK_FLUSH;
}

/* ---- time ---- */

/* A clock that stands while the VM is stopped. Lock. */
static uint64_t now_ns(const struct drive_retry *t)
{
	return (t->paused_at ? t->paused_at : clock_ns()) - t->paused_total;
}

/* @a + @b without passing the end of time. */
static uint64_t later(uint64_t a, uint64_t b)
{
	return b >= NEVER - a ? NEVER : a + b;
}

static uint64_t deadline(const struct drive_retry *t, const struct block_req *r)
{
	uint64_t timeout = atomic_load(&t->timeout_ns);

	if (r->susp.give_up)
		return 0;
	/* A flush that waits for writes has not failed. */
	return timeout && r->susp.since_ns ? later(r->susp.since_ns, timeout) : NEVER;
}

static uint64_t wall_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / NS_PER_MS;
}

static uint64_t interval(const struct drive_retry *t)
{
	return MAX(atomic_load(&t->interval_ns), INTERVAL_MIN_NS);
}

static void wake_main(struct drive *d)
{
	loop_post(d->graph->loop, &d->retry.work);
}

/* ---- a request fails, or succeeds ---- */

bool retry_wants(const struct drive *d, const struct block_req *r, int err)
{
	const struct block_node *n;
	unsigned int bit = (unsigned int)-err;

	if (bit >= RETRY_ERRNO_WORDS * 64 ||
	    !(atomic_load(&d->retry.on[bit / 64]) & BIT64(bit % 64)))
		return false;
	for (n = d->node; n && r->op == BLOCK_FLUSH; n = n->file.node)
		if (atomic_load(&n->lost) || (n->data.node && atomic_load(&n->data.node->lost)))
			return false;
	return true;
}

/* The first failure of a healthy disk. Lock. */
static void begin(struct drive_retry *t)
{
	t->begun_ns = now_ns(t);
	t->begun_wall_ms = wall_ms();
	t->next_ns = later(t->begun_ns, interval(t));
	t->recovered = t->expired = 0;
	t->tries = 0;
	t->suspensions++;
	atomic_store(&t->alive, true);
}

/* A try that was out has come back. Lock. */
static void came_back(struct drive_retry *t, struct block_req *r)
{
	if (r->susp.state == SUSP_OUT)
		t->out--;
}

bool retry_park(struct drive *d, struct block_req *r, int err)
{
	struct drive_retry *t = &d->retry;
	bool first, keep;

	pthread_mutex_lock(&d->lock);
	first = !t->begun_ns;
	if (first)
		begin(t);
	t->failures++;
	t->last_op = r->op;
	t->last_err = err;
	came_back(t, r);
	if (!r->susp.since_ns)
		r->susp.since_ns = now_ns(t);
	r->susp.err = err;
	keep = deadline(t, r) > now_ns(t);
	if (keep && !r->susp.listed)
		list_add(t, r);
	if (!keep) {
		if (r->susp.listed)
			list_del(t, r);
		t->expired++;
		t->timed_out++;
	}
	r->susp.state = keep ? SUSP_PARKED : SUSP_NONE;
	trace(retry_park, "%s: %d at %llu: %d, %u kept", d->id, r->op,
	      (unsigned long long)r->offset, err, atomic_load(&t->active));
	/* A later failure changes nothing that the main loop waits for. */
	if (first || !keep || (t->round && !t->out) || t->failures == 1)
		wake_main(d);
	drive_poke(d);
	pthread_mutex_unlock(&d->lock);
	return keep;
}

void retry_end(struct drive *d, struct block_req *r, int ret)
{
	struct drive_retry *t = &d->retry;

	pthread_mutex_lock(&d->lock);
	came_back(t, r);
	if (r->susp.listed)
		list_del(t, r);
	if (ret == 0) {
		t->recovered++;
	} else if (!r->cancelled) {
		t->expired++;
		t->timed_out++;
	}
	r->susp.state = SUSP_NONE;
	if (ret == 0)
		atomic_store(&t->alive, true);
	trace(retry_end, "%s: %d at %llu: %d, %u kept", d->id, r->op,
	      (unsigned long long)r->offset, ret, atomic_load(&t->active));
	wake_main(d);
	pthread_mutex_unlock(&d->lock);
}

void retry_unpark(struct drive *d, struct block_req *r)
{
	list_del(&d->retry, r);
	wake_main(d);
}

/* Is a write that was submitted before @r not settled? Lock. */
static bool behind_writes(const struct block_req *from)
{
	for (; from; from = from->susp.prev)
		if (writes(from))
			return true;
	return false;
}

bool retry_hold_flush(struct drive *d, struct block_req *r)
{
	struct drive_retry *t = &d->retry;
	bool hold;

	pthread_mutex_lock(&d->lock);
	hold = behind_writes(t->list.tail);
	if (hold) {
		r->susp.state = SUSP_PARKED;
		r->susp.skipped = true;
		list_add(t, r);
		drive_poke(d);
	}
	pthread_mutex_unlock(&d->lock);
	return hold;
}

/* ---- rounds, on the main loop with the lock held ---- */

static void reissue(struct loop_work *w)
{
	struct block_req *r = container_of(w, struct block_req, work);

	if (r->cancelled) {
		retry_end(r->drive, r, -ECANCELED);
		drive_finish(r->drive, r, -ECANCELED);
	} else {
		drive_issue(r->drive, r);
	}
}

static void expire(struct loop_work *w)
{
	struct block_req *r = container_of(w, struct block_req, work);

	r->susp.state = SUSP_NONE;
	if (r->cancelled)
		drive_finish(r->drive, r, -ECANCELED);
	else
		drive_expired(r->drive, r);
}

static void send_out(struct drive_retry *t, struct block_req *r)
{
	r->susp.state = SUSP_OUT;
	r->susp.skipped = false;
	t->out++;
	t->tries++;
	t->retries++;
	r->work.cb = reissue;
	loop_post(r->loop, &r->work);
}

/* Those whose time is over, and all others when the policy is no longer retry. */
static void expire_due(struct drive *d)
{
	struct drive_retry *t = &d->retry;
	uint64_t now = now_ns(t);

	for (struct block_req *r = t->list.head, *next; r; r = next) {
		next = r->susp.next;
		if (r->susp.state != SUSP_PARKED || deadline(t, r) > now)
			continue;
		list_del(t, r);
		r->susp.state = SUSP_EXPIRED;
		t->expired++;
		t->timed_out++;
		r->work.cb = expire;
		loop_post(r->loop, &r->work);
	}
}

/* Flushes that waited for writes which are settled now. */
static void release_flushes(struct drive_retry *t)
{
	for (struct block_req *r = t->list.head; r && !writes(r); r = r->susp.next)
		if (r->op == BLOCK_FLUSH && r->susp.state == SUSP_PARKED && r->susp.skipped &&
		    (!r->susp.since_ns || atomic_load(&t->alive)))
			send_out(t, r);
}

/* Which of the parked requests may be tried: all but flushes behind writes. */
static uint32_t eligible(struct drive_retry *t, bool send, uint32_t only)
{
	bool behind = false;
	uint32_t n = 0;

	for (struct block_req *r = t->list.head; r; r = r->susp.next) {
		if (r->susp.state == SUSP_PARKED) {
			if (r->op == BLOCK_FLUSH && behind)
				r->susp.skipped = true;
			else if (n++ == only || only == UINT32_MAX)
				if (send)
					send_out(t, r);
		}
		behind |= writes(r);
	}
	return n;
}

static void start_round(struct drive *d)
{
	struct drive_retry *t = &d->retry;
	uint32_t n = eligible(t, false, UINT32_MAX);

	if (!n)
		return;
	t->round = true;
	t->again = false;
	t->probing = atomic_load(&t->probe) && !atomic_load(&t->alive);
	atomic_store(&t->alive, false);
	trace(retry_round, "%s: %s of %u", d->id, t->probing ? "one" : "all", n);
	eligible(t, true, t->probing ? t->probe_at++ % n : UINT32_MAX);
}

/* A round has ended: when is the next one? */
static void end_round(struct drive_retry *t)
{
	bool alive = atomic_load(&t->alive);

	t->round = false;
	atomic_store(&t->alive, alive || t->again);
	t->next_ns = (t->probing && alive) || t->again ? 0 : later(now_ns(t), interval(t));
	t->probing = false;
	release_flushes(t);
}

/* A suspension is over when the list is empty. */
static void end_suspension(struct drive_retry *t)
{
	t->suspended_ns += now_ns(t) - t->begun_ns;
	t->begun_ns = 0;
	t->round = t->probing = t->again = false;
}

static uint64_t earliest(const struct drive_retry *t)
{
	uint64_t at = t->out || t->round ? NEVER : t->next_ns;

	if (!atomic_load(&t->timeout_ns))
		return at;
	for (const struct block_req *r = t->list.head; r; r = r->susp.next)
		if (r->susp.state == SUSP_PARKED)
			at = MIN(at, deadline(t, r));
	return at;
}

/* ---- events ---- */

/* What there is to tell, at most four events; returns how many. Lock. */
static int collect(struct drive_retry *t, struct drive_event ev[4], uint64_t *ended_ns)
{
	uint64_t real = clock_ns();
	struct drive_event all = {
		.op = t->last_op, .err = t->last_err, .since_ms = t->begun_wall_ms,
		.retries = t->tries,
	};
	bool may_tell = real >= later(t->suspended_told_ns, TELL_NS) || !t->suspended_told_ns;
	int n = 0;

	if (t->failures && (!t->error_told_ns || real >= later(t->error_told_ns, TELL_NS))) {
		ev[n] = all;
		ev[n].kind = DRIVE_EV_ERROR;
		ev[n++].count = t->failures;
		t->failures = 0;
		t->error_told_ns = real;
	}
	if (t->begun_ns && !t->told && atomic_load(&t->active) && may_tell) {
		ev[n] = all;
		ev[n].kind = DRIVE_EV_SUSPENDED;
		ev[n++].requests = atomic_load(&t->active);
		t->told = true;
		t->suspended_told_ns = real;
	}
	if (t->expired > t->expired_untold) {
		ev[n] = all;
		ev[n].kind = DRIVE_EV_TIMED_OUT;
		ev[n].ms = (now_ns(t) - t->begun_ns) / NS_PER_MS;
		ev[n++].requests = t->expired - t->expired_untold;
		t->expired_untold = t->expired;
	}
	if (*ended_ns && t->told && (t->recovered || !t->expired)) {
		ev[n] = all;
		ev[n].kind = DRIVE_EV_RESUMED;
		ev[n].ms = *ended_ns / NS_PER_MS;
		ev[n].cancelled = !t->recovered;
		ev[n++].requests = t->recovered;
	}
	return n;
}

static void tell(struct drive *d, const struct drive_event *ev)
{
	const char *who = *d->id ? d->id : d->node->name;

	if (ev->kind == DRIVE_EV_SUSPENDED)
		log_guest(&d->errors, who, "I/O is suspended: %s; it is tried again every %llu ms",
			  strerror(-ev->err), (unsigned long long)
			  (atomic_load(&d->retry.interval_ns) / NS_PER_MS));
	else if (ev->kind == DRIVE_EV_RESUMED)
		log_guest(&d->errors, who, "I/O goes on after %llu ms",
			  (unsigned long long)ev->ms);
	else if (ev->kind == DRIVE_EV_TIMED_OUT)
		log_guest(&d->errors, who, "%u request%s failed for good: %s", ev->requests,
			  ev->requests == 1 ? "" : "s", strerror(-ev->err));
	if (d->on_event)
		d->on_event(d, ev);
}

/* ---- the main loop's part ---- */

/* When the timer has to fire, in CLOCK_MONOTONIC. Lock. */
static uint64_t next_wake(const struct drive *d)
{
	const struct drive_retry *t = &d->retry;
	uint64_t at = NEVER;

	if (t->begun_ns && !t->paused_at && !atomic_load(&d->held)) {
		at = earliest(t);
		at = at == NEVER ? at : at + t->paused_total;
	}
	if (t->failures)
		at = MIN(at, t->error_told_ns + TELL_NS);
	if (t->begun_ns && !t->told)
		at = MIN(at, t->suspended_told_ns + TELL_NS);
	return at;
}

/* Look at everything: what is due, which round to start, what to tell. */
static void update(struct drive *d)
{
	struct drive_retry *t = &d->retry;
	struct drive_event ev[4];
	uint64_t ended_ns = 0, at;
	int n;

	pthread_mutex_lock(&d->lock);
	if (!t->paused_at)
		expire_due(d);
	/* A held drive's nodes are about to change: no new tries. */
	if (t->begun_ns && !t->paused_at && !t->out && !atomic_load(&d->held)) {
		if (t->round)
			end_round(t);
		else
			release_flushes(t);
		t->round = t->out > 0;
		if (!t->out && now_ns(t) >= t->next_ns)
			start_round(d);
	}
	if (t->begun_ns && !atomic_load(&t->active)) {
		ended_ns = now_ns(t) - t->begun_ns + 1;
		n = collect(t, ev, &ended_ns);
		end_suspension(t);
		t->told = false;
		t->expired_untold = 0;
	} else {
		n = collect(t, ev, &ended_ns);
	}
	at = next_wake(d);
	pthread_mutex_unlock(&d->lock);
	if (at == NEVER)
		loop_timer_cancel(&t->timer);
	else
		loop_timer_arm(&t->timer, at);
	for (int i = 0; i < n; i++)
		tell(d, &ev[i]);
}

static void on_timer(struct loop_timer *timer)
{
	update(container_of(timer, struct drive, retry.timer));
}

static void on_work(struct loop_work *w)
{
	update(container_of(w, struct drive, retry.work));
}

void retry_pause(struct drive *d, bool paused)
{
	struct drive_retry *t = &d->retry;

	pthread_mutex_lock(&d->lock);
	if (paused && !t->paused_at) {
		t->paused_at = clock_ns();
	} else if (!paused && t->paused_at) {
		t->paused_total += clock_ns() - t->paused_at;
		t->paused_at = 0;
	}
	pthread_mutex_unlock(&d->lock);
	update(d);
}

void retry_new_settings(struct drive *d)
{
	struct drive_retry *t = &d->retry;

	if (t->begun_ns)
		t->next_ns = MIN(t->next_ns, later(now_ns(t), interval(t)));
}

void drive_retry_now(struct drive *d)
{
	struct drive_retry *t = &d->retry;

	pthread_mutex_lock(&d->lock);
	t->again = t->begun_ns;		/* after the round in flight, if there is one */
	t->next_ns = 0;
	atomic_store(&t->alive, true);	/* all of them */
	pthread_mutex_unlock(&d->lock);
	update(d);
}

void drive_give_up(struct drive *d)
{
	struct drive_retry *t = &d->retry;

	pthread_mutex_lock(&d->lock);
	for (struct block_req *r = t->list.head; r; r = r->susp.next)
		if (r->susp.since_ns)	/* not flushes that only wait */
			r->susp.give_up = true;
	expire_due(d);		/* also while the VM is stopped */
	pthread_mutex_unlock(&d->lock);
	update(d);
}

struct drive_retry_info drive_retry_info(struct drive *d)
{
	struct drive_retry *t = &d->retry;
	struct drive_retry_info i;

	pthread_mutex_lock(&d->lock);
	i = (struct drive_retry_info){
		.parked = atomic_load(&t->active), .last_op = t->last_op,
		.last_err = t->last_err, .since_ms = t->begun_ns ? t->begun_wall_ms : 0,
		.suspensions = t->suspensions, .retries = t->retries,
		.timed_out = t->timed_out, .suspended_ms = t->suspended_ns,
	};
	if (t->begun_ns)
		i.suspended_ms += now_ns(t) - t->begun_ns;
	pthread_mutex_unlock(&d->lock);
	i.suspended_ms /= NS_PER_MS;
	return i;
}

void retry_init(struct drive *d)
{
	struct drive_retry *t = &d->retry;

	loop_timer_init(d->graph->loop, &t->timer, on_timer, NULL);
	t->work.cb = on_work;
	atomic_init(&t->interval_ns, NS_PER_SEC);
	atomic_init(&t->probe, true);
	atomic_init(&t->then, DRIVE_REPORT);
	for (int i = 0; i < RETRY_ERRNO_WORDS; i++)
		atomic_init(&t->on[i], UINT64_MAX);
}

void retry_fini(struct drive *d)
{
	struct drive_retry *t = &d->retry;

	loop_timer_cancel(&t->timer);
	loop_work_cancel(d->graph->loop, &t->work);
	/* The work that would have said so is gone. */
	if (t->begun_ns)
		end_suspension(t);
	t->told = false;
	t->failures = 0;
	t->expired_untold = t->expired = 0;
	t->paused_at = 0;
}

/*
 * block/retry_stall.c - io_timeout: storage that hangs rather than fails.
 *
 * Threads: requests enter and leave the list on their loops, under a lock of
 *          its own; a timer of the main loop looks at it.
 * Missing: giving a hung request up. Its buffers are the kernel's until it
 *          answers, so it is told, counted, and waited for; it is never issued a
 *          second time meanwhile.
 *
 * Only a drive with io_timeout pays for this: a lock per request, and a timer
 * that runs while something is in flight.
 */
#include <errno.h>
#include <inttypes.h>
#include <time.h>

#include "block/graph.h"
#include "block/retry.h"
#include "vmm/base/util.h"

/* Looks per io_timeout: a hang is told at most a quarter of it late. */
#define LOOKS	4
#define LOOK_MIN_NS	(5 * NS_PER_MS)

void stall_enter(struct drive *d, struct block_req *r)
{
	struct drive_stall *s = &d->stall;
	bool first;

	pthread_mutex_lock(&s->lock);
	first = !s->ticking;
	s->ticking = true;
	r->fly.since_ns = clock_ns();
	r->fly.stalled = false;
	r->fly.on = true;
	r->fly.next = NULL;
	r->fly.prev = s->tail;
	*(s->tail ? &s->tail->fly.next : &s->head) = r;
	s->tail = r;
	pthread_mutex_unlock(&s->lock);
	if (first)
		loop_post(d->graph->loop, &s->work);
}

void stall_leave(struct drive *d, struct block_req *r)
{
	struct drive_stall *s = &d->stall;
	bool over;

	pthread_mutex_lock(&s->lock);
	*(r->fly.prev ? &r->fly.prev->fly.next : &s->head) = r->fly.next;
	*(r->fly.next ? &r->fly.next->fly.prev : &s->tail) = r->fly.prev;
	r->fly.on = false;
	if (r->fly.stalled)
		s->stalled--;
	over = r->fly.stalled && !s->stalled;
	pthread_mutex_unlock(&s->lock);
	if (over)
		loop_post(d->graph->loop, &s->work);
}

/* Mark what has been in flight too long; the oldest are in front. Lock. */
static uint32_t mark(struct drive_stall *s, uint64_t now, uint64_t limit, enum block_op *op)
{
	uint32_t n = 0;

	for (struct block_req *r = s->head; r && now - r->fly.since_ns >= limit; r = r->fly.next) {
		if (r->fly.stalled)
			continue;
		r->fly.stalled = true;
		*op = r->op;
		n++;
	}
	s->stalled += n;
	s->total += n;
	return n;
}

static void tell(struct drive *d, const struct drive_event *ev)
{
	const char *who = *d->id ? d->id : d->node->name;

	if (ev->kind == DRIVE_EV_SUSPENDED)
		log_guest(&d->errors, who, "%u request%s not answered by the host in time",
			  ev->requests, ev->requests == 1 ? " is" : "s are");
	else
		log_guest(&d->errors, who, "the host answers again after %" PRIu64 " ms", ev->ms);
	if (d->on_event)
		d->on_event(d, ev);
}

static void look(struct drive *d)
{
	struct drive_stall *s = &d->stall;
	uint64_t limit = atomic_load(&s->limit_ns), now = clock_ns();
	struct drive_event ev = { .err = -ETIMEDOUT, .stalled = true };
	bool begins, ends, more;
	struct timespec ts;

	pthread_mutex_lock(&s->lock);
	if (limit)
		mark(s, now, limit, &s->op);
	begins = s->stalled && !s->begun_ns;
	ends = !s->stalled && s->begun_ns;
	if (begins) {
		clock_gettime(CLOCK_REALTIME, &ts);
		s->begun_ns = now;
		s->begun_wall_ms = (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / NS_PER_MS;
	}
	ev.op = s->op;
	ev.since_ms = s->begun_wall_ms;
	ev.requests = s->stalled;
	ev.ms = (now - s->begun_ns) / NS_PER_MS;
	if (ends)
		s->begun_ns = 0;
	more = s->ticking = s->head && limit;
	pthread_mutex_unlock(&s->lock);
	if (more)
		loop_timer_arm(&s->timer, now + MAX(limit / LOOKS, LOOK_MIN_NS));
	ev.kind = begins ? DRIVE_EV_SUSPENDED : DRIVE_EV_RESUMED;
	if (begins || ends)
		tell(d, &ev);
}

static void on_timer(struct loop_timer *t)
{
	look(container_of(t, struct drive, stall.timer));
}

static void on_work(struct loop_work *w)
{
	look(container_of(w, struct drive, stall.work));
}

void stall_set(struct drive *d, uint64_t limit_ns)
{
	atomic_store(&d->stall.limit_ns, limit_ns);
	loop_post(d->graph->loop, &d->stall.work);
}

struct drive_stall_info drive_stall_info(struct drive *d)
{
	struct drive_stall *s = &d->stall;
	struct drive_stall_info i;

	pthread_mutex_lock(&s->lock);
	i = (struct drive_stall_info){ s->stalled, s->begun_ns ? s->begun_wall_ms : 0, s->total };
	pthread_mutex_unlock(&s->lock);
	return i;
}

void stall_init(struct drive *d)
{
	pthread_mutex_init(&d->stall.lock, NULL);
	loop_timer_init(d->graph->loop, &d->stall.timer, on_timer, NULL);
	d->stall.work.cb = on_work;
}

void stall_quiet(struct drive *d)
{
	loop_timer_cancel(&d->stall.timer);
	loop_work_cancel(d->graph->loop, &d->stall.work);
	d->stall.ticking = false;
	d->stall.begun_ns = 0;
}

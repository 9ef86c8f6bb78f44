/*
 * block/throttle.c - limits on requests and bytes per second.
 *
 * Spec:    QEMU's docs/throttle.txt (what the options mean).
 * Threads: a request is judged on its own loop under its group's lock; the main
 *          loop's timer lets waiting ones go. A drive without limits pays one
 *          relaxed load per request.
 * Missing: nothing known.
 *
 * Leaky buckets: each request fills those that concern it by its bytes or by
 * one, and they leak at their average. While one is fuller than its burst the
 * next request of that kind waits, in its own memory; reads wait behind reads,
 * writes behind writes. So no request is too large: it makes others wait longer.
 * A burst of several seconds has a second bucket, which leaks at the burst's rate
 * and keeps it from being done at once.
 *
 * Members of a group take turns, for reads and for writes. A held drive loses its
 * turn, so that it never makes others wait. Waiting requests are let go by the
 * main loop alone, which is also where drives are held and change groups.
 */
#include "block/throttle.h"

#include <errno.h>

#include "block/graph.h"
#include "block/retry.h"
#include "vmm/base/util.h"

/* A drive's node has not seen the request yet. */
static bool is_read(const struct throttle_member *m, const struct block_req *r)
{
	return (m->drive ? r->op : r->now.op) == BLOCK_READ;
}

static bool concerns(int bucket, bool read)
{
	if (bucket == THROTTLE_BPS || bucket == THROTTLE_IOPS)
		return true;
	return read == (bucket == THROTTLE_BPS_RD || bucket == THROTTLE_IOPS_RD);
}

/* ---- buckets; all under the group's lock ---- */

static double units(const struct throttle_limits *l, int bucket, const struct block_req *r)
{
	if (bucket < THROTTLE_IOPS)
		return (double)r->bytes;
	if (!l->iops_size || r->bytes <= l->iops_size)
		return 1;
	return (double)r->bytes / (double)l->iops_size;
}

static double room(const struct throttle_limits *l, int b)
{
	return l->max[b] ? (double)l->max[b] * (double)MAX(l->length[b], 1u) :
	       (double)l->avg[b] / 10;
}

static double drained(double level, uint64_t rate, double s)
{
	level -= (double)rate * s;
	return level < 0 ? 0 : level;
}

void throttle_leak(struct throttle_group *g)
{
	uint64_t now = clock_ns();
	double s = (double)(now - g->last_ns) / (double)NS_PER_SEC;

	for (int b = 0; b < THROTTLE_BUCKETS; b++) {
		g->level[b] = drained(g->level[b], g->l.avg[b], s);
		g->burst[b] = drained(g->burst[b], g->l.max[b], s);
	}
	g->last_ns = now;
}

/* Seconds until bucket @b has room for something. */
static double bucket_wait(const struct throttle_group *g, int b)
{
	double over = (g->level[b] - room(&g->l, b)) / (double)g->l.avg[b], burst;

	if (g->l.length[b] < 2)
		return over;
	burst = (g->burst[b] - (double)g->l.max[b] / 10) / (double)g->l.max[b];
	return MAX(over, burst);
}

/* Of one look: a single request may be worth more time than the clock has. */
#define LOOK_MAX_S	3600.0

/* How long a request of this kind has to wait before the next look; 0: not at all. */
static uint64_t wait_ns(const struct throttle_group *g, bool read)
{
	double longest = 0;

	for (int b = 0; b < THROTTLE_BUCKETS; b++)
		if (g->l.avg[b] && concerns(b, read))
			longest = MAX(longest, bucket_wait(g, b));
	return (uint64_t)(MIN(longest, LOOK_MAX_S) * (double)NS_PER_SEC);
}

static void account(struct throttle_group *g, bool read, const struct block_req *r)
{
	for (int b = 0; b < THROTTLE_BUCKETS; b++) {
		if (!g->l.avg[b] || !concerns(b, read))
			continue;
		g->level[b] += units(&g->l, b, r);
		if (g->l.length[b] > 1)
			g->burst[b] += units(&g->l, b, r);
	}
}

/* ---- lists; all under the group's lock ---- */

void throttle_list_add(struct throttle_member *m, bool read, struct block_req *r)
{
	struct block_susp_list *l = &m->waiting[read];

	r->wait = (struct block_wait){ .listed = true, .prev = l->tail, .in = r->wait.in };
	*(l->tail ? &l->tail->wait.next : &l->head) = r;
	l->tail = r;
	m->count++;
}

void throttle_list_del(struct throttle_member *m, bool read, struct block_req *r)
{
	struct block_susp_list *l = &m->waiting[read];
	struct block_wait *w = &r->wait;

	*(w->prev ? &w->prev->wait.next : &l->head) = w->next;
	*(w->next ? &w->next->wait.prev : &l->tail) = w->prev;
	w->prev = w->next = NULL;
	w->listed = false;
	m->count--;
}

static bool may_go(const struct throttle_member *m, bool read)
{
	return m->waiting[read].head && !(m->drive && atomic_load(&m->drive->held));
}

/* Whose request is next: the first one that may go, from the turn on. */
static struct throttle_member *next_member(const struct throttle_group *g, bool read)
{
	struct throttle_member *from = g->turn[read] ? g->turn[read] : g->members, *m;

	for (m = from; m && !may_go(m, read); m = m->next)
		;
	if (m)
		return m;
	for (m = g->members; m && m != from; m = m->next)
		if (may_go(m, read))
			return m;
	return NULL;
}

static void let_go(struct throttle_member *m, bool read, struct block_req *r)
{
	throttle_list_del(m, read, r);
	r->work.cb = m->go;
	loop_post(r->loop, &r->work);
}

void throttle_release(struct throttle_member *m)
{
	for (int read = 0; read < 2; read++)
		while (m->waiting[read].head)
			let_go(m, read, m->waiting[read].head);
}

/* ---- requests ---- */

static bool keep_or_account(struct throttle_group *g, struct throttle_member *m,
			    struct block_req *r)
{
	bool read = is_read(m, r), keep;

	throttle_leak(g);
	keep = m->waiting[read].head || next_member(g, read) || wait_ns(g, read) > 0;
	if (!keep) {
		account(g, read, r);
		return false;
	}
	throttle_list_add(m, read, r);
	throttle_wake(g);
	return true;
}

bool throttle_keep(struct drive *d, struct block_req *r)
{
	struct throttle_member *m = &d->throttle;
	bool keep = false;

	if (r->op == BLOCK_FLUSH)
		return false;
	pthread_mutex_lock(&d->lock);
	if (m->group) {
		pthread_mutex_lock(&m->group->lock);
		r->susp.state = SUSP_THROTTLED;
		keep = keep_or_account(m->group, m, r);
		if (!keep)
			r->susp.state = SUSP_NONE;
		pthread_mutex_unlock(&m->group->lock);
	}
	if (keep)
		drive_poke(d);
	pthread_mutex_unlock(&d->lock);
	return keep;
}

bool throttle_drop(struct drive *d, struct block_req *r)
{
	struct throttle_member *m = &d->throttle;
	bool mine;

	if (!m->group)		/* left, and all were let go */
		return false;
	pthread_mutex_lock(&m->group->lock);
	mine = r->wait.listed;
	if (mine) {
		throttle_list_del(m, is_read(m, r), r);
		throttle_wake(m->group);	/* it may have been the one waited for */
	}
	pthread_mutex_unlock(&m->group->lock);
	return mine;
}

uint32_t throttle_waiting(struct drive *d)
{
	struct throttle_group *g = d->throttle.group;
	uint32_t n;

	if (!g)
		return 0;
	pthread_mutex_lock(&g->lock);
	n = d->throttle.count;
	pthread_mutex_unlock(&g->lock);
	return n;
}

/* ---- requests in a throttle node ---- */

/* Requests of drives wait here, unless theirs is held: what is in the nodes has to
 * come out of them then. Others never do (throttle_node.c). */
bool throttle_node_keep(struct throttle_member *m, struct block_req *r)
{
	struct throttle_group *g = m->group;
	bool keep = false;

	if (r->now.op == BLOCK_FLUSH)
		return false;
	pthread_mutex_lock(&g->lock);
	if (r->drive && !atomic_load(&r->drive->held)) {
		r->wait.in = m;
		keep = keep_or_account(g, m, r);
		if (!keep)
			r->wait.in = NULL;
	} else {
		throttle_leak(g);
		account(g, is_read(m, r), r);
	}
	pthread_mutex_unlock(&g->lock);
	return keep;
}

bool throttle_cancel(struct block_req *r)
{
	struct throttle_member *m = r->wait.in;
	bool mine;

	if (!m)
		return false;
	pthread_mutex_lock(&m->group->lock);
	mine = r->wait.listed;		/* else its work is on the way */
	if (mine) {
		throttle_list_del(m, is_read(m, r), r);
		throttle_wake(m->group);
	}
	pthread_mutex_unlock(&m->group->lock);
	if (mine) {
		r->wait.in = NULL;
		block_done_later(r, -ECANCELED);
	}
	return true;
}

/* ---- the main loop's side ---- */

/* Requests of held drives: out of the node with them. Lock. */
static void drain(struct throttle_group *g, struct throttle_member *m, bool read)
{
	struct block_req *r, *next;

	for (r = m->waiting[read].head; r; r = next) {
		next = r->wait.next;
		if (!atomic_load(&r->drive->held))
			continue;
		account(g, read, r);
		let_go(m, read, r);
	}
}

static void drain_nodes(struct throttle_group *g)
{
	for (struct throttle_member *m = g->members; m; m = m->next) {
		if (m->drive)
			continue;
		drain(g, m, true);
		drain(g, m, false);
	}
}

/* Let go what may go; when to look again for the rest. Lock. */
static uint64_t admit(struct throttle_group *g, bool read)
{
	struct throttle_member *m;
	uint64_t ns;

	while ((m = next_member(g, read))) {
		ns = wait_ns(g, read);
		if (ns)
			return g->last_ns + ns + 1;
		account(g, read, m->waiting[read].head);
		let_go(m, read, m->waiting[read].head);
		g->turn[read] = m->next;
	}
	return UINT64_MAX;
}

void throttle_look(struct throttle_group *g)
{
	uint64_t at;

	pthread_mutex_lock(&g->lock);
	throttle_leak(g);
	if (atomic_load(&g->graph->holds))
		drain_nodes(g);
	at = admit(g, true);
	at = MIN(at, admit(g, false));
	pthread_mutex_unlock(&g->lock);
	if (at == UINT64_MAX)
		loop_timer_cancel(&g->timer);
	else
		loop_timer_arm(&g->timer, at);
}

void throttle_wake(struct throttle_group *g)
{
	loop_post(g->graph->loop, &g->work);
}

void throttle_wake_all(struct block_graph *graph)
{
	for (struct throttle_group *g = graph->groups; g; g = g->next) {
		pthread_mutex_lock(&g->lock);
		throttle_wake(g);
		pthread_mutex_unlock(&g->lock);
	}
}

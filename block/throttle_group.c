/*
 * block/throttle_group.c - throttle groups: names, members, settings.
 *
 * Spec:    QEMU's docs/throttle.txt, qapi/block-core.json (ThrottleLimits).
 * Threads: main loop; the locks keep requests of other loops away.
 * Missing: nothing known.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/graph.h"
#include "block/throttle.h"
#include "vmm/base/util.h"

static const char *const bucket_words[] = {
	[THROTTLE_BPS] = "bps", [THROTTLE_BPS_RD] = "bps_rd", [THROTTLE_BPS_WR] = "bps_wr",
	[THROTTLE_IOPS] = "iops", [THROTTLE_IOPS_RD] = "iops_rd", [THROTTLE_IOPS_WR] = "iops_wr",
};

/* More than any disk does, and far from where doubles lose units. */
#define LIMIT_MAX	1000000000000000ull

/* ---- limits ---- */

static int check_bucket(const struct throttle_limits *l, int b, const char *what, struct err *e)
{
	const char *word = bucket_words[b];

	if (l->avg[b] > LIMIT_MAX || l->max[b] > LIMIT_MAX)
		return err_set(e, -ERANGE, "%s: %s must be within 0 and %llu", what, word,
			       LIMIT_MAX);
	if (l->length[b] > 1 && !l->max[b])
		return err_set(e, -EINVAL, "%s: %s_max_length needs %s_max", what, word, word);
	if (l->max[b] && !l->avg[b])
		return err_set(e, -EINVAL, "%s: %s_max needs %s", what, word, word);
	if (l->max[b] && l->max[b] < l->avg[b])
		return err_set(e, -EINVAL, "%s: %s_max is lower than %s; make it at least %llu",
			       what, word, word, (unsigned long long)l->avg[b]);
	if (l->max[b] && l->length[b] > LIMIT_MAX / l->max[b])
		return err_set(e, -ERANGE, "%s: %s_max_length is too high for this %s_max: their "
			       "product may be %llu", what, word, word, LIMIT_MAX);
	return 0;
}

int throttle_check(const struct throttle_limits *l, const char *what, struct err *e)
{
	int r = 0;

	for (int b = 0; b < THROTTLE_BUCKETS && r == 0; b++)
		r = check_bucket(l, b, what, e);
	for (int b = 0; b < THROTTLE_BUCKETS && r == 0; b += THROTTLE_IOPS)
		if (l->avg[b] && (l->avg[b + 1] || l->avg[b + 2]))
			r = err_set(e, -EINVAL, "%s: %s and %s or %s cannot be used at the same "
				    "time", what, bucket_words[b], bucket_words[b + 1],
				    bucket_words[b + 2]);
	if (r == 0 && l->iops_size && !l->avg[THROTTLE_IOPS] && !l->avg[THROTTLE_IOPS_RD] &&
	    !l->avg[THROTTLE_IOPS_WR])
		r = err_set(e, -EINVAL, "%s: iops_size needs iops, iops_rd or iops_wr", what);
	return r;
}

bool throttle_limits_any(const struct throttle_limits *l)
{
	for (int b = 0; b < THROTTLE_BUCKETS; b++)
		if (l->avg[b])
			return true;
	return false;
}

/* ---- groups ---- */

static void on_timer(struct loop_timer *timer)
{
	throttle_look(container_of(timer, struct throttle_group, timer));
}

static void on_work(struct loop_work *w)
{
	throttle_look(container_of(w, struct throttle_group, work));
}

struct throttle_group *throttle_group_find(struct block_graph *graph, const char *name)
{
	struct throttle_group *g;

	for (g = graph->groups; g && strcmp(g->name, name); g = g->next)
		;
	return g;
}

struct throttle_group *throttle_group_get(struct block_graph *graph, const char *name)
{
	struct throttle_group *g = throttle_group_find(graph, name);

	if (g)
		return g;
	g = xcalloc(1, sizeof(*g));
	g->name = xstrdup(name);
	g->graph = graph;
	g->last_ns = clock_ns();
	g->work.cb = on_work;
	pthread_mutex_init(&g->lock, NULL);
	loop_timer_init(graph->loop, &g->timer, on_timer, NULL);
	g->next = graph->groups;
	graph->groups = g;
	return g;
}

void throttle_group_put(struct throttle_group *g)
{
	struct throttle_group **p = &g->graph->groups;

	if (g->members || g->object)
		return;
	while (*p != g)
		p = &(*p)->next;
	*p = g->next;
	loop_timer_cancel(&g->timer);
	loop_work_cancel(g->graph->loop, &g->work);
	pthread_mutex_destroy(&g->lock);
	free(g->name);
	free(g);
}

int throttle_group_set(struct throttle_group *g, const struct throttle_limits *l,
		       const char *what, struct err *e)
{
	int r = throttle_check(l, what, e);

	if (r)
		return r;
	pthread_mutex_lock(&g->lock);
	throttle_leak(g);
	g->l = *l;
	/* A bucket that nothing limits any more would never leak. */
	for (int b = 0; b < THROTTLE_BUCKETS; b++) {
		g->level[b] = l->avg[b] ? g->level[b] : 0;
		g->burst[b] = l->length[b] > 1 ? g->burst[b] : 0;
	}
	for (struct throttle_member *m = g->members; m; m = m->next)
		atomic_store(&m->on, throttle_limits_any(l));
	throttle_wake(g);
	pthread_mutex_unlock(&g->lock);
	return 0;
}

struct throttle_limits throttle_group_limits(struct throttle_group *g)
{
	struct throttle_limits l;

	pthread_mutex_lock(&g->lock);
	l = g->l;
	pthread_mutex_unlock(&g->lock);
	return l;
}

/* ---- members ---- */

/* Its lists are empty, or the caller has them. Lock. */
static void leave(struct throttle_member *m)
{
	struct throttle_group *g = m->group;
	struct throttle_member **p = &g->members;

	while (*p != m)
		p = &(*p)->next;
	*p = m->next;
	for (int read = 0; read < 2; read++)
		if (g->turn[read] == m)
			g->turn[read] = m->next;
	m->next = NULL;
	m->group = NULL;
	atomic_store(&m->on, false);
	throttle_wake(g);
}

static void enter(struct throttle_member *m, struct throttle_group *g)
{
	struct throttle_member **p = &g->members;

	pthread_mutex_lock(&g->lock);
	while (*p)
		p = &(*p)->next;
	*p = m;
	m->group = g;
	atomic_store(&m->on, throttle_limits_any(&g->l));
	throttle_wake(g);
	pthread_mutex_unlock(&g->lock);
}

void throttle_join(struct throttle_member *m, struct block_graph *graph, const char *name)
{
	struct throttle_group *to = name ? throttle_group_get(graph, name) : NULL;
	struct throttle_group *from = m->group;

	if (from == to)
		return;
	if (m->drive)
		pthread_mutex_lock(&m->drive->lock);
	if (from) {
		pthread_mutex_lock(&from->lock);
		if (!to)
			throttle_release(m);
		leave(m);
		pthread_mutex_unlock(&from->lock);
	}
	/* What waits is still in its lists, which nobody else can reach now. */
	if (to)
		enter(m, to);
	if (m->drive)
		pthread_mutex_unlock(&m->drive->lock);
	if (from)
		throttle_group_put(from);
}

/* ---- drives ---- */

/* The group of a drive that shares with nobody. */
static const char *own_name(const struct drive *d)
{
	return *d->id ? d->id : d->owner ? d->owner : d->node->name;
}

int throttle_set(struct drive *d, const char *group, const struct throttle_limits *l,
		 const char *what, struct err *e)
{
	int r = throttle_check(l, what, e);

	if (r)
		return r;
	if (!throttle_limits_any(l))
		group = NULL;
	else if (!group)
		group = d->throttle.group ? d->throttle.group->name : own_name(d);
	throttle_join(&d->throttle, d->graph, group);
	return group ? throttle_group_set(d->throttle.group, l, what, e) : 0;
}

struct throttle_limits throttle_get(struct drive *d)
{
	struct throttle_limits none = { 0 };

	return d->throttle.group ? throttle_group_limits(d->throttle.group) : none;
}

void throttle_init(struct drive *d)
{
	d->throttle.drive = d;
	d->throttle.go = drive_admitted;
}

/*
 * block/file_range.c - keep overlapping writes apart.
 *
 * Threads: any loop, under a lock per node.
 * Missing: nothing known.
 *
 * On a disk whose unit is larger than a sector, a write of less than a unit
 * reads the unit, changes it and writes it back. Another write to the same
 * unit in between would be undone. So on such nodes, and only there, every
 * write registers its units: one that is partial waits for all that overlap,
 * and all that overlap wait for it. The lock and the list are the price of
 * those disks; where request_align is a sector or less, nothing here runs.
 *
 * (The other way, a second descriptor without O_DIRECT for the odd ones, would
 * have the page cache write back stale neighbours over a direct write.)
 */
#include "block/file.h"
#include "vmm/base/util.h"

void file_ranges_init(struct file_ranges *fr)
{
	pthread_mutex_init(&fr->lock, NULL);
	fr->held = fr->waiting = NULL;
	fr->tail = &fr->waiting;
}

void file_ranges_fini(struct file_ranges *fr)
{
	pthread_mutex_destroy(&fr->lock);
}

static bool must_wait(const struct block_span *a, const struct block_span *b)
{
	return (a->partial || b->partial) && a->lo < b->hi && b->lo < a->hi;
}

/* Does @s collide with a request of @list before @end? */
static bool collides(const struct block_span *s, const struct block_req *list,
		     const struct block_req *end)
{
	for (; list != end; list = list->span.next)
		if (must_wait(s, &list->span))
			return true;
	return false;
}

void file_range_begin(struct file_node *f, struct block_req *r, bool partial,
		      void (*granted)(struct block_req *r))
{
	struct file_ranges *fr = &f->ranges;
	struct block_span *s = &r->span;
	bool wait;

	s->partial = partial;
	s->granted = granted;
	s->next = NULL;
	pthread_mutex_lock(&fr->lock);
	/* Behind those that wait as well: nobody is overtaken for ever. */
	wait = collides(s, fr->held, NULL) || collides(s, fr->waiting, NULL);
	if (wait) {
		*fr->tail = r;
		fr->tail = &s->next;
	} else {
		s->next = fr->held;
		fr->held = r;
	}
	s->held = true;
	pthread_mutex_unlock(&fr->lock);
	if (!wait)
		granted(r);
}

static void granted_work(struct loop_work *w)
{
	struct block_req *r = container_of(w, struct block_req, work);

	r->span.granted(r);
}

void file_range_end(struct file_node *f, struct block_req *r)
{
	struct file_ranges *fr = &f->ranges;
	struct block_req **p, *w;

	pthread_mutex_lock(&fr->lock);
	for (p = &fr->held; *p != r; p = &(*p)->span.next)
		;
	*p = r->span.next;
	r->span.held = false;
	p = &fr->waiting;
	while ((w = *p)) {
		if (collides(&w->span, fr->held, NULL) || collides(&w->span, fr->waiting, w)) {
			p = &w->span.next;
			continue;
		}
		*p = w->span.next;
		w->span.next = fr->held;
		fr->held = w;
		w->work.cb = granted_work;
		loop_post(w->loop, &w->work);
	}
	fr->tail = p;
	pthread_mutex_unlock(&fr->lock);
}

/*
 * vmm/loop/loop_timer.c - a loop's timers: a pairing heap of the callers' own
 * structs, so that any number of timers needs no memory of the loop's.
 * Spec:    Fredman, Sedgewick, Sleator, Tarjan, "The pairing heap" (1986).
 * Threads: the loop's.
 * Missing: nothing known.
 *
 * A node's children are a list linked by next; prev is the left sibling, or
 * the parent for the first child, or NULL for the root.
 */
#include <assert.h>
#include <stddef.h>

#include "vmm/base/util.h"
#include "vmm/loop/loop_priv.h"

static bool timer_before(const struct loop_timer *a, const struct loop_timer *b)
{
	if (a->deadline_ns != b->deadline_ns)
		return a->deadline_ns < b->deadline_ns;
	return a->seq < b->seq;
}

/* Two roots become one; either may be NULL. */
static struct loop_timer *heap_meld(struct loop_timer *a, struct loop_timer *b)
{
	struct loop_timer *top, *sub;

	if (!a || !b)
		return a ? a : b;
	top = timer_before(b, a) ? b : a;
	sub = top == a ? b : a;
	sub->prev = top;
	sub->next = top->child;
	if (top->child)
		top->child->prev = sub;
	top->child = sub;
	top->next = top->prev = NULL;
	return top;
}

/* Meld a list of siblings: pairs from the left, then all from the right. */
static struct loop_timer *heap_meld_list(struct loop_timer *list)
{
	struct loop_timer *pairs = NULL, *root = NULL, *a, *b;

	while ((a = list)) {
		b = a->next;
		list = b ? b->next : NULL;
		a->next = a->prev = NULL;
		if (b)
			b->next = b->prev = NULL;
		a = heap_meld(a, b);
		a->next = pairs;
		pairs = a;
	}
	while ((a = pairs)) {
		pairs = a->next;
		a->next = NULL;
		root = heap_meld(root, a);
	}
	return root;
}

static void heap_remove(struct loop *l, struct loop_timer *t)
{
	struct loop_timer *sub = heap_meld_list(t->child);

	t->child = NULL;
	if (!t->prev) {
		l->timers = sub;
		return;
	}
	if (t->prev->child == t)
		t->prev->child = t->next;
	else
		t->prev->next = t->next;
	if (t->next)
		t->next->prev = t->prev;
	t->next = t->prev = NULL;
	l->timers = heap_meld(l->timers, sub);
}

void loop_timer_init(struct loop *l, struct loop_timer *t,
		     void (*cb)(struct loop_timer *), pthread_mutex_t *lock)
{
	*t = (struct loop_timer){ .cb = cb, .lock = lock, .loop = l };
}

void loop_timer_cancel(struct loop_timer *t)
{
	if (!t->armed)
		return;
	heap_remove(t->loop, t);
	t->armed = false;
	t->loop->timer_count--;
}

void loop_timer_arm(struct loop_timer *t, uint64_t deadline_ns)
{
	struct loop *l = t->loop;

	loop_timer_cancel(t);
	t->deadline_ns = deadline_ns;
	t->seq = l->timer_seq++;
	t->armed = true;
	l->timer_count++;
	l->timers = heap_meld(l->timers, t);
	loop_touch(l);
}

uint64_t loop_timer_next(const struct loop *l)
{
	return l->timers ? l->timers->deadline_ns : UINT64_MAX;
}

/*
 * Fire what has expired by now. Not more callbacks than there were timers, so
 * that one that re-arms itself in the past cannot keep the loop in here.
 */
int loop_timer_run(struct loop *l)
{
	uint32_t budget = l->timer_count;
	pthread_mutex_t *lock;
	struct loop_timer *t;
	uint64_t now;
	int n = 0;

	if (!budget)
		return 0;
	now = clock_ns();
	while (budget-- && (t = l->timers) && t->deadline_ns <= now) {
		loop_timer_cancel(t);
		lock = t->lock;
		loop_lock(lock);
		t->cb(t);
		loop_unlock(lock);
		n++;
	}
	return n;
}

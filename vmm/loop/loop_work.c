/*
 * vmm/loop/loop_work.c - work for a loop: posted by any thread, or deferred by
 * its own.
 * Threads: as marked in loop.h; the list of posted work is lock-free.
 * Missing: nothing known.
 */
#include <assert.h>
#include <stddef.h>

#include "vmm/loop/loop_priv.h"

bool loop_post(struct loop *l, struct loop_work *w)
{
	struct loop_work *head;

	if (atomic_exchange_explicit(&w->queued, true, memory_order_acq_rel))
		return false;
	/* The loop can run @w, and end, before it is woken: see loop_destroy(). */
	atomic_fetch_add_explicit(&l->posting, 1, memory_order_relaxed);
	head = atomic_load_explicit(&l->posted, memory_order_relaxed);
	do {
		w->next = head;
	} while (!atomic_compare_exchange_weak(&l->posted, &head, w));
	loop_wake(l);
	atomic_fetch_sub_explicit(&l->posting, 1, memory_order_release);
	return true;
}

bool loop_work_pending(struct loop *l)
{
	return l->deferred || l->done.head ||
		atomic_load(&l->posted) || atomic_load(&l->pool_done);
}

/* @w may be freed or queued anew by its callback: not touched afterwards. */
static void work_call(struct loop_work *w)
{
	atomic_store_explicit(&w->queued, false, memory_order_release);
	w->cb(w);
}

int loop_work_run(struct loop *l)
{
	struct loop_work *w, *next, *fifo = NULL;
	int n = 0;

	if (!atomic_load_explicit(&l->posted, memory_order_relaxed))
		return 0;
	w = atomic_exchange_explicit(&l->posted, NULL, memory_order_acquire);
	for (; w; w = next) {		/* newest first: reverse */
		next = w->next;
		w->next = fifo;
		fifo = w;
	}
	l->running = fifo;
	for (; (w = l->running); n++) {
		l->running = w->next;
		work_call(w);
	}
	return n;
}

/* Take @w out of the list at *@p; true when it was in it. */
static bool unlink_work(struct loop_work **p, const struct loop_work *w)
{
	for (; *p; p = &(*p)->next) {
		if (*p == w) {
			*p = w->next;
			return true;
		}
	}
	return false;
}

/* Give back what was taken off the posted list: older than all that came
 * since, so behind it. Only this thread takes, so the tail stays the tail. */
static void repost(struct loop *l, struct loop_work *old)
{
	struct loop_work *head = NULL;

	if (!old || atomic_compare_exchange_strong(&l->posted, &head, old))
		return;
	while (head->next)
		head = head->next;
	head->next = old;
}

void loop_work_cancel(struct loop *l, struct loop_work *w)
{
	struct loop_work *old;

	assert(loop_is_current(l));
	if (!atomic_load(&w->queued))
		return;
	if (!unlink_work(&l->running, w)) {
		old = atomic_exchange_explicit(&l->posted, NULL, memory_order_acquire);
		unlink_work(&old, w);
		repost(l, old);
	}
	atomic_store(&w->queued, false);
}

void loop_defer(struct loop *l, struct loop_work *w)
{
	assert(loop_is_current(l));
	if (atomic_exchange_explicit(&w->queued, true, memory_order_acq_rel))
		return;
	w->next = NULL;
	*l->deferred_tail = w;
	l->deferred_tail = &w->next;
	loop_touch(l);
}

/* What is deferred from in here waits for the next turn. */
int loop_defer_run(struct loop *l)
{
	struct loop_work *w = l->deferred, *next;
	int n = 0;

	l->deferred = NULL;
	l->deferred_tail = &l->deferred;
	for (; w; w = next, n++) {
		next = w->next;
		work_call(w);
	}
	return n;
}

struct loop_call_work {
	struct loop_work work;
	void (*fn)(void *arg);
	void *arg;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;		/* lock */
};

static void loop_call_cb(struct loop_work *w)
{
	struct loop_call_work *c = (struct loop_call_work *)w;

	c->fn(c->arg);
	pthread_mutex_lock(&c->lock);
	c->done = true;
	pthread_cond_signal(&c->cond);
	pthread_mutex_unlock(&c->lock);
}

void loop_call(struct loop *l, void (*fn)(void *arg), void *arg)
{
	struct loop_call_work c = { .work.cb = loop_call_cb, .fn = fn, .arg = arg };

	if (loop_is_current(l)) {
		fn(arg);
		return;
	}
	pthread_mutex_init(&c.lock, NULL);
	pthread_cond_init(&c.cond, NULL);
	loop_post(l, &c.work);
	pthread_mutex_lock(&c.lock);
	while (!c.done)
		pthread_cond_wait(&c.cond, &c.lock);
	pthread_mutex_unlock(&c.lock);
	pthread_cond_destroy(&c.cond);
	pthread_mutex_destroy(&c.lock);
}

/*
 * block/aside.c - work that waits for storage, on a thread beside the main loop.
 *
 * Threads: the main loop, and the thread. They meet in `left`, under the lock.
 * Missing: nothing known.
 */
#include "block/aside.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "block/graph.h"
#include "vmm/base/thread.h"
#include "vmm/base/util.h"
#include "vmm/loop/loop.h"

struct aside {
	struct block_graph *g;
	pthread_t thread;
	void (*run)(void *arg);
	void (*over)(void *arg);
	void *arg;
	struct loop_work work;
	pthread_mutex_t lock;
	pthread_cond_t ended;
	bool left;			/* lock: nobody waits, and g->loop may be gone */
	bool told;			/* lock: work is posted */
	struct aside *next;		/* of those left behind */
};

static void aside_free(struct aside *a)
{
	pthread_cond_destroy(&a->ended);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

static void *thread_main(void *arg)
{
	struct aside *a = arg;

	a->run(a->arg);
	pthread_mutex_lock(&a->lock);
	a->told = !a->left;
	if (a->told)
		loop_post(a->g->loop, &a->work);
	pthread_cond_signal(&a->ended);
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

static void on_over(struct loop_work *w)
{
	struct aside *a = container_of(w, struct aside, work);
	void (*over)(void *arg) = a->over;
	void *arg = a->arg;

	pthread_join(a->thread, NULL);
	aside_free(a);
	over(arg);
}

int aside_start(struct aside **out, struct block_graph *g, const char *name,
		void (*run)(void *arg), void (*over)(void *arg), void *arg)
{
	struct aside *a = xcalloc(1, sizeof(*a));
	pthread_condattr_t monotonic;
	int r;

	*a = (struct aside){ .g = g, .run = run, .over = over, .arg = arg, .work.cb = on_over };
	pthread_mutex_init(&a->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&a->ended, &monotonic);
	pthread_condattr_destroy(&monotonic);
	*out = a;	/* run() may post at once */
	r = thread_start(&a->thread, name, thread_main, a);
	if (r) {
		*out = NULL;
		aside_free(a);
		return r;
	}
	return 0;
}

/* False: it has not ended by @end_ns, and knows now that it is alone. */
static bool wait_end(struct aside *a, uint64_t end_ns)
{
	struct timespec ts = { (time_t)(end_ns / NS_PER_SEC), (long)(end_ns % NS_PER_SEC) };
	bool told;

	pthread_mutex_lock(&a->lock);
	while (!a->told && clock_ns() < end_ns)
		pthread_cond_timedwait(&a->ended, &a->lock, &ts);
	told = a->told;
	a->left = !told;
	pthread_mutex_unlock(&a->lock);
	return told;
}

bool aside_end(struct aside *a)
{
	struct block_graph *g = a->g;
	bool ended;

	/* Its last flush may be behind one of this loop. */
	file_sync_joining(g, true);
	ended = wait_end(a, block_graph_end_ns(g));
	file_sync_joining(g, false);
	if (!ended) {
		pthread_detach(a->thread);
		g->late++;
		a->next = g->left;
		g->left = a;
		log_warn("a thread that waits for storage does not end; its memory is left behind");
		return false;
	}
	pthread_join(a->thread, NULL);
	loop_work_cancel(g->loop, &a->work);
	aside_free(a);
	return true;
}

void aside_post(struct aside *a, struct loop_work *w)
{
	pthread_mutex_lock(&a->lock);
	if (!a->left)
		loop_post(a->g->loop, w);
	pthread_mutex_unlock(&a->lock);
}

/*
 * block/drive_hold.c - keep a drive's requests away from its nodes while these
 * change, without stopping the guest.
 *
 * Threads: hold and release on the main loop; requests on their own.
 * Missing: nothing known.
 *
 * A request that arrives while the drive is held waits in the drive's list, in
 * its own memory. Those in the nodes are counted down; requests that wait for a
 * retry or a resume are not in the nodes, and none of them is issued meanwhile.
 */
#include "block/graph.h"
#include "block/retry.h"
#include "block/throttle.h"
#include "vmm/base/util.h"

bool drive_keep(struct drive *d, struct block_req *r)
{
	bool keep;

	pthread_mutex_lock(&d->lock);
	keep = atomic_load(&d->held);	/* it may just have been released */
	if (keep) {
		r->susp.state = SUSP_HELD;
		susp_insert(&d->waiting, r);
		drive_poke(d);
	}
	pthread_mutex_unlock(&d->lock);
	return keep;
}

void drive_poke(struct drive *d)
{
	if (atomic_load(&d->held))
		loop_post(d->graph->loop, &d->idle_work);
}

static uint32_t length(const struct block_susp_list *l)
{
	uint32_t n = 0;

	for (const struct block_req *r = l->head; r; r = r->susp.next)
		n++;
	return n;
}

static bool is_idle(struct drive *d)
{
	uint32_t outside;
	bool idle;

	pthread_mutex_lock(&d->lock);
	outside = length(&d->waiting) + length(&d->stopped) + atomic_load(&d->retry.active) -
		d->retry.out + throttle_waiting(d);
	idle = drive_totals(d).inflight == outside;
	pthread_mutex_unlock(&d->lock);
	return idle;
}

static void on_work(struct loop_work *w)
{
	struct drive *d = container_of(w, struct drive, idle_work);
	void (*idle)(struct drive *d, void *arg) = d->on_idle;

	if (!atomic_load(&d->held) || !idle || !is_idle(d))
		return;
	d->on_idle = NULL;
	idle(d, d->on_idle_arg);
}

void drive_hold(struct drive *d, void (*idle)(struct drive *d, void *arg), void *arg)
{
	d->on_idle = idle;
	d->on_idle_arg = arg;
	if (!atomic_exchange(&d->held, true))
		atomic_fetch_add(&d->graph->holds, 1);
	throttle_wake_all(d->graph);
	drive_poke(d);
}

static void proceed_work(struct loop_work *w)
{
	drive_proceed(container_of(w, struct block_req, work));
}

void drive_release(struct drive *d)
{
	struct block_req *r;

	d->on_idle = NULL;
	pthread_mutex_lock(&d->lock);
	if (atomic_exchange(&d->held, false))
		atomic_fetch_sub(&d->graph->holds, 1);
	while ((r = d->waiting.head)) {
		susp_remove(&d->waiting, r);
		r->work.cb = proceed_work;
		loop_post(r->loop, &r->work);
	}
	pthread_mutex_unlock(&d->lock);
	loop_post(d->graph->loop, &d->retry.work);	/* its rounds go on */
	throttle_wake_all(d->graph);
}

void hold_init(struct drive *d)
{
	d->idle_work.cb = on_work;
}

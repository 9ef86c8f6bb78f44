/*
 * devices/virtio/virtio_queue.c - a virtio device's queues: their life, and
 * what happens to a kick and to a chain that comes back.
 *
 * Spec:    virtio 1.3 s2.6, s2.7.10, s2.8.10.
 * Threads: what the driver's registers start and stop under the device lock is
 *          carried out by ctl_work on the queue's loop; all else is that
 *          loop's.
 * Missing: nothing known.
 *
 * DRIVER_OK makes a queue's virtq and posts ctl_work, which lets it run. A
 * reset marks it STOPPING and posts ctl_work again, which stops serving kicks
 * and cancels; the last chain that comes back posts it once more, and now the
 * virtq is freed. The last queue of a device ends the reset.
 */
#include <assert.h>
#include <errno.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/virtio/virtio.h"
#include "devices/virtio/virtio_int.h"
#include "vmm/base/util.h"
#include "vmm/core/vm.h"

TRACE_DEFINE(virtio_queue_start);
TRACE_DEFINE(virtio_queue_stop);
TRACE_DEFINE(virtio_kick);

/* ---- on the loop ---- */

/* One writer: no locked instruction needed. */
static void count(_Atomic uint64_t *n)
{
	atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + 1,
			      memory_order_relaxed);
}

static struct virtio_queue *queue_of_ctl(struct loop_work *w)
{
	return container_of(w, struct virtio_queue, ctl_work);
}

/* Serve a kick. Kicks are switched off meanwhile, and the ring is looked at
 * once more after they are on again (s2.7.10, s2.8.10). DMA needs the bus
 * master bit; switching that on kicks every queue (virtio_pci.c). */
static void queue_serve(struct virtio_queue *q)
{
	struct virtio_dev *v = q->v;
	int ret;

	if (!q->running || v->broken || !pci_master(&v->pci))
		return;
	count(&q->kicks);
	q->budget = virtq_size(q->vq);
	do {
		virtq_disable_kick(q->vq);
		ret = v->ops->kick(v, q);
		if (ret < 0) {
			virtio_broken(v, virtq_error(q->vq));
			return;
		}
		if (ret > 0)	/* the device waits for something */
			return;
	} while (!v->broken && q->budget && virtq_enable_kick(q->vq));
	if (!q->budget)
		loop_post(q->loop, &q->kick_work);
}

int virtio_pop(struct virtio_queue *q, struct virtq_chain **c)
{
	int ret;

	*c = NULL;
	if (!q->budget)
		return 0;
	ret = virtq_pop(q->vq, c);
	if (ret > 0) {
		q->budget--;
		count(&q->requests);
	}
	return ret;
}

void virtio_push(struct virtio_queue *q, struct virtq_chain *c, uint32_t written)
{
	if (q->running && !q->v->broken) {
		virtq_push(q->vq, c, written);
		loop_defer(q->loop, &q->flush_work);
		return;
	}
	/* The driver has given up on this ring, or broke it. */
	virtq_drop(q->vq, c);
	if (!q->running && virtq_inflight(q->vq) == 0)
		loop_post(q->loop, &q->ctl_work);
}

void virtio_rekick(struct virtio_queue *q)
{
	loop_post(q->loop, &q->kick_work);
}

static void flush_cb(struct loop_work *w)
{
	struct virtio_queue *q = container_of(w, struct virtio_queue, flush_work);

	if (!q->running || q->v->broken || !virtq_flush(q->vq))
		return;
	count(&q->interrupts);
	virtio_pci_queue_irq(q);
}

static void kick_work_cb(struct loop_work *w)
{
	queue_serve(container_of(w, struct virtio_queue, kick_work));
}

static void kick_cb(struct loop_event *ev)
{
	struct virtio_queue *q = container_of(ev, struct virtio_queue, kick);

	trace(virtio_kick, "%s queue %u", q->v->pci.dev.path, q->index);
	queue_serve(q);
}

void virtio_queue_notify(struct virtio_queue *q)
{
	uint64_t one = 1;

	/* Fails only when 2^64-2 signals are pending, and one is enough. */
	if (write(q->kick.fd, &one, sizeof(one)) < 0)
		return;
}

/* ---- starting and stopping ---- */

void virtio_queue_registers_reset(struct virtio_queue *q)
{
	q->size = q->size_max;
	q->enabled = false;
	q->desc = q->driver = q->device = 0;
	q->vector = VIRTIO_MSI_NO_VECTOR;
}

void virtio_queue_start(struct virtio_queue *q)
{
	struct virtio_dev *v = q->v;
	struct virtq_setup s = {
		.size = q->size, .desc = gpa(q->desc), .driver = gpa(q->driver),
		.device = gpa(q->device), .packed = virtio_has(v, VIRTIO_F_RING_PACKED),
		.event_idx = virtio_has(v, VIRTIO_RING_F_EVENT_IDX),
		.indirect = virtio_has(v, VIRTIO_RING_F_INDIRECT_DESC),
		.iov_max = q->iov_max, .priv_bytes = q->priv_bytes,
	};
	struct err e = ERR_INIT;

	if (q->state != VIRTIO_QUEUE_IDLE)
		return;
	if (virtq_start(&q->vq_next, v->pci.dev.vm->mem, &s, &e) < 0) {
		err_prefix(&e, "queue %u", q->index);
		virtio_broken(v, e.text);
		return;
	}
	trace(virtio_queue_start, "%s queue %u size %u", v->pci.dev.path, q->index, q->size);
	q->state = VIRTIO_QUEUE_LIVE;
	loop_post(q->loop, &q->ctl_work);
}

void virtio_queue_stop(struct virtio_queue *q)
{
	q->state = VIRTIO_QUEUE_STOPPING;
	loop_post(q->loop, &q->ctl_work);
}

/* Nothing is in flight any more. */
static void queue_stopped(struct virtio_queue *q)
{
	struct virtio_dev *v = q->v;

	trace(virtio_queue_stop, "%s queue %u", v->pci.dev.path, q->index);
	virtio_pci_queue_irq_drop(q);
	pthread_mutex_lock(&v->pci.dev.lock);
	virtq_stop(q->vq);
	q->vq = NULL;
	q->cancelled = false;
	q->state = VIRTIO_QUEUE_IDLE;
	if (!v->resetting)
		virtio_queue_registers_reset(q);	/* s4.1.4.3.1: queue_reset */
	else if (--v->queues_busy == 0)
		virtio_reset_finish(v);
	pthread_mutex_unlock(&v->pci.dev.lock);
}

/* Take over a virtq that was started since; returns what the queue shall do. */
static enum virtio_queue_state take_over(struct virtio_queue *q)
{
	enum virtio_queue_state state;

	pthread_mutex_lock(&q->v->pci.dev.lock);
	state = q->state;
	if (q->vq_next) {
		q->vq = q->vq_next;
		q->vq_next = NULL;
	}
	pthread_mutex_unlock(&q->v->pci.dev.lock);
	return state;
}

/* The posted work may come late and more than once: what counts is the state. */
static void ctl_cb(struct loop_work *w)
{
	struct virtio_queue *q = queue_of_ctl(w);
	enum virtio_queue_state state = take_over(q);

	if (state == VIRTIO_QUEUE_LIVE && !q->running) {
		q->running = true;
		queue_serve(q);		/* buffers may have come before us */
	}
	if (state != VIRTIO_QUEUE_STOPPING)
		return;
	q->running = false;
	if (!q->cancelled) {
		q->cancelled = true;
		if (q->v->ops->cancel && virtq_inflight(q->vq))
			q->v->ops->cancel(q->v, q);
	}
	if (virtq_inflight(q->vq) == 0)
		queue_stopped(q);
}

void virtio_queue_enable(struct virtio_queue *q)
{
	struct virtio_dev *v = q->v;

	if (q->enabled)
		return;
	q->enabled = true;
	/* After DRIVER_OK this is a queue that was reset (s2.6.1.2). */
	if (virtio_driver_ok(v) && !v->resetting && !v->broken)
		virtio_queue_start(q);
}

void virtio_queue_reset(struct virtio_queue *q)
{
	if (q->v->resetting)
		return;
	if (q->state == VIRTIO_QUEUE_LIVE)
		virtio_queue_stop(q);
	else if (q->state == VIRTIO_QUEUE_IDLE)
		virtio_queue_registers_reset(q);
}

/* ---- set-up and end ---- */

void virtio_queue_init(struct virtio_dev *v, uint16_t i)
{
	struct virtio_queue *q = &v->queue[i];

	q->v = v;
	q->index = i;
	q->kick.fd = q->irq.fd = -1;
	q->kick.cb = kick_cb;
	q->ctl_work.cb = ctl_cb;
	q->kick_work.cb = kick_work_cb;
	q->flush_work.cb = flush_cb;
}

struct virtio_queue *virtio_queue_add(struct virtio_dev *v, uint16_t size,
				      uint16_t iov_max, size_t priv_bytes, struct loop *loop)
{
	struct virtio_queue *q = &v->queue[v->queues];

	assert(v->queues < VIRTIO_QUEUES_MAX);
	assert(is_pow2(size) && size <= VIRTQ_SIZE_MAX && iov_max > 0);
	q->size_max = size;
	q->iov_max = iov_max;
	q->priv_bytes = priv_bytes;
	q->loop = loop ? loop : v->pci.dev.vm->main;
	virtio_queue_registers_reset(q);
	v->queues++;
	return q;
}

struct kick_watch {
	struct virtio_queue *q;
	int ret;
};

static void kick_watch_cb(void *arg)
{
	struct kick_watch *w = arg;

	w->ret = loop_event_add(w->q->loop, &w->q->kick);
}

int virtio_queue_watch(struct virtio_queue *q, struct err *e)
{
	struct kick_watch w = { .q = q };

	q->kick.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (q->kick.fd < 0)
		return err_sys(e, -errno, "%s: eventfd for queue %u", q->v->pci.dev.path,
			       q->index);
	loop_call(q->loop, kick_watch_cb, &w);
	if (w.ret < 0)
		return err_sys(e, w.ret, "%s: queue %u on loop '%s'", q->v->pci.dev.path,
			       q->index, loop_name(q->loop));
	return 0;
}

static void unwatch_cb(void *arg)
{
	struct virtio_queue *q = arg;

	loop_event_del(&q->kick);
	ctl_cb(&q->ctl_work);
}

/* Its kicks are over; a stop that was asked for is carried out now. */
void virtio_queue_unwatch(struct virtio_queue *q)
{
	loop_call(q->loop, unwatch_cb, q);
}

static void forget_cb(void *arg)
{
	struct virtio_queue *q = arg;

	loop_work_cancel(q->loop, &q->ctl_work);
	loop_work_cancel(q->loop, &q->kick_work);
}

static void nothing_cb(void *arg)
{
}

/* Work that was deferred in the turn of the first call has run by the second. */
void virtio_queue_forget(struct virtio_queue *q)
{
	loop_call(q->loop, forget_cb, q);
	loop_call(q->loop, nothing_cb, NULL);
}

/*
 * devices/virtio/virtio.c - the core of every virtio device: feature
 * negotiation, the status register, the life of queues, reset.
 *
 * Spec:    virtio 1.3 s2.1 to s2.6, s3.1.
 * Threads: see virtio.h. What the driver's registers start and stop under the
 *          device lock is carried out by ctl_work on the queue's loop.
 * Missing: NOTIFICATION_DATA, IN_ORDER, ACCESS_PLATFORM (not offered).
 *
 * A queue's life: DRIVER_OK makes its virtq and posts ctl_work, which lets it
 * run. A reset marks it STOPPING and posts ctl_work again, which stops serving
 * kicks and cancels; the last chain that comes back posts it once more, and now
 * the virtq is freed. The last queue of a device ends the reset.
 */
#include "devices/virtio/virtio.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/virtio/virtio_int.h"
#include "devices/virtio/virtio_pci.h"
#include "vmm/base/util.h"
#include "vmm/core/vm.h"

TRACE_DEFINE(virtio_status);
TRACE_DEFINE(virtio_queue_start);
TRACE_DEFINE(virtio_queue_stop);
TRACE_DEFINE(virtio_kick);
TRACE_DEFINE(virtio_reset);

#define S_DRIVER_SETS	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | \
			 VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FEATURES_OK | \
			 VIRTIO_CONFIG_S_FAILED)

static struct virtio_dev *to_virtio(struct dev *d)
{
	return DEV_OF(d, struct virtio_dev);
}

static bool driver_ok(const struct virtio_dev *v)
{
	return v->status & VIRTIO_CONFIG_S_DRIVER_OK;
}

/* ---- configuration and trouble ---- */

void virtio_broken(struct virtio_dev *v, const char *why)
{
	if (atomic_exchange(&v->broken, true))
		return;
	dev_guest_error(&v->pci.dev, "%s; the device needs a reset", why);
	v->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	if (driver_ok(v))	/* s2.1.2 */
		virtio_pci_config_irq(v);
}

void virtio_config_changed(struct virtio_dev *v)
{
	v->config_dirty = true;
	if (driver_ok(v))
		virtio_pci_config_irq(v);
}

/* s4.1.4.3.1: the generation moves at the first read after a change, so that
 * 256 changes between two reads cannot bring it back to the old value. */
void virtio_config_get(struct virtio_dev *v, uint32_t off, void *buf, uint32_t len)
{
	if (atomic_exchange(&v->config_dirty, false))
		v->config_generation++;
	if (v->ops->config_read)
		v->ops->config_read(v);
	memset(buf, 0, len);
	if (off < v->ops->config_size)
		memcpy(buf, v->config + off, MIN(len, v->ops->config_size - off));
}

void virtio_config_set(struct virtio_dev *v, uint32_t off, const void *buf, uint32_t len)
{
	if (off >= v->ops->config_size || len > v->ops->config_size - off)
		return;
	if (v->ops->config_write)
		v->ops->config_write(v, off, len, buf);
}

/* ---- a queue on its loop ---- */

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
	q->kicks++;
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
		q->requests++;
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
	q->interrupts++;
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

/* ---- starting and stopping queues ---- */

static void reset_finish(struct virtio_dev *v);

static void queue_registers_reset(struct virtio_queue *q)
{
	q->size = q->size_max;
	q->enabled = false;
	q->desc = q->driver = q->device = 0;
	q->vector = VIRTIO_MSI_NO_VECTOR;
}

static void queue_start(struct virtio_queue *q)
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

static void queue_stop(struct virtio_queue *q)
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
		queue_registers_reset(q);	/* s4.1.4.3.1: queue_reset */
	else if (--v->queues_busy == 0)
		reset_finish(v);
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
	if (driver_ok(v) && !v->resetting && !v->broken)
		queue_start(q);
}

void virtio_queue_reset(struct virtio_queue *q)
{
	if (q->v->resetting)
		return;
	if (q->state == VIRTIO_QUEUE_LIVE)
		queue_stop(q);
	else if (q->state == VIRTIO_QUEUE_IDLE)
		queue_registers_reset(q);
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
	queue_registers_reset(q);
	v->queues++;
	return q;
}

/* ---- status ---- */

/* s2.2.2; a modern driver has to take VERSION_1 (s6.1, s6.2). */
static bool features_acceptable(struct virtio_dev *v, uint64_t f, bool legacy)
{
	if (f & ~v->features_offered)
		return false;
	if (legacy ? f >> 32 : !(f & BIT64(VIRTIO_F_VERSION_1)))
		return false;
	return !v->ops->features_ok || v->ops->features_ok(v, f) >= 0;
}

static bool negotiate(struct virtio_dev *v, bool legacy)
{
	if (!features_acceptable(v, v->features_driver, legacy)) {
		dev_guest_error(&v->pci.dev, "the driver asks for features 0x%llx of 0x%llx",
				(unsigned long long)v->features_driver,
				(unsigned long long)v->features_offered);
		return false;
	}
	v->features = v->features_driver;
	return true;
}

static bool device_start(struct virtio_dev *v)
{
	if (v->started)
		return true;
	if (v->ops->start && v->ops->start(v) < 0) {
		virtio_broken(v, "the device cannot start");
		return false;
	}
	v->started = true;
	return true;
}

static void go_live(struct virtio_dev *v)
{
	uint16_t i;

	if (!device_start(v))
		return;
	for (i = 0; i < v->queues && !v->broken; i++)
		if (v->queue[i].enabled)
			queue_start(&v->queue[i]);
}

void virtio_queue_start_early(struct virtio_queue *q)
{
	struct virtio_dev *v = q->v;

	q->enabled = true;
	if (v->resetting || v->broken)	/* DRIVER_OK will do it */
		return;
	if ((v->started || negotiate(v, true)) && device_start(v))
		queue_start(q);
}

/*
 * The last step of a reset: nothing runs, nothing is in flight. A driver that
 * did not wait for status 0 (s4.1.4.3.2 says it must) wrote on meanwhile: what
 * it wrote last is carried out now.
 */
static void reset_finish(struct virtio_dev *v)
{
	uint8_t wanted = v->status_wanted;

	trace(virtio_reset, "%s done", v->pci.dev.path);
	v->resetting = false;
	v->status_wanted = 0;
	v->features = 0;
	v->status = 0;
	v->started = false;
	v->broken = false;
	if (v->ops->stopped)
		v->ops->stopped(v);
	pthread_cond_broadcast(&v->idle);
	if (v->machine_reset) {
		v->machine_reset = false;
		loop_post(v->pci.dev.vm->main, &v->reset_done_work);
	} else if (wanted) {
		virtio_status_write(v, wanted, v->legacy_driver);
	}
}

/* The driver's registers are reset at once, the queues when they are idle. */
static void reset_begin(struct virtio_dev *v)
{
	uint16_t i;

	v->pci.dev.gen++;
	v->status_wanted = 0;
	v->features_driver = 0;
	v->config_vector = VIRTIO_MSI_NO_VECTOR;
	for (i = 0; i < v->queues; i++)
		queue_registers_reset(&v->queue[i]);
	virtio_pci_reset(v);
	if (v->resetting)
		return;
	trace(virtio_reset, "%s begins", v->pci.dev.path);
	v->queues_busy = 0;
	for (i = 0; i < v->queues; i++)
		v->queues_busy += v->queue[i].state != VIRTIO_QUEUE_IDLE;
	if (!v->queues_busy) {
		reset_finish(v);
		return;
	}
	v->resetting = true;
	for (i = 0; i < v->queues; i++)
		if (v->queue[i].state == VIRTIO_QUEUE_LIVE)
			queue_stop(&v->queue[i]);
}

uint8_t virtio_status_read(const struct virtio_dev *v)
{
	if (v->resetting && v->status_wanted)
		return v->status_wanted;
	return v->status;
}

/* A legacy driver knows no FEATURES_OK: its features count from DRIVER_OK, or
 * from the first queue it uses (s3.1.2). */
static bool may_go_live(struct virtio_dev *v, uint8_t status)
{
	if (v->legacy_driver)
		return v->started || negotiate(v, true);
	if (status & VIRTIO_CONFIG_S_FEATURES_OK)
		return true;
	dev_guest_error(&v->pci.dev, "DRIVER_OK without FEATURES_OK is ignored");
	return false;
}

void virtio_status_write(struct virtio_dev *v, uint8_t val, bool legacy)
{
	uint8_t set = val & S_DRIVER_SETS & ~v->status;

	trace(virtio_status, "%s 0x%x -> 0x%x", v->pci.dev.path, v->status, val);
	if (val == 0) {
		reset_begin(v);
		return;
	}
	v->legacy_driver = legacy;
	if (v->resetting) {
		v->status_wanted |= val & S_DRIVER_SETS;
		return;
	}
	if ((set & VIRTIO_CONFIG_S_FEATURES_OK) && !negotiate(v, legacy))
		set &= ~VIRTIO_CONFIG_S_FEATURES_OK;
	if ((set & VIRTIO_CONFIG_S_DRIVER_OK) && !may_go_live(v, v->status | set))
		set &= ~VIRTIO_CONFIG_S_DRIVER_OK;
	v->status |= set;	/* s2.1.1: the driver clears no bit */
	if (set & VIRTIO_CONFIG_S_DRIVER_OK)
		go_live(v);
}

/* ---- class ---- */

#define VIRTIO_PROPS_COMMON						\
	PROP_BOOL(struct virtio_dev, packed, "packed", false,		\
		  "offer the packed ring format", .flags = PROP_GUEST),	\
	PROP_BOOL(struct virtio_dev, event_idx, "event_idx", true,	\
		  "offer exact notification suppression", .flags = PROP_GUEST), \
	PROP_BOOL(struct virtio_dev, indirect, "indirect_desc", true,	\
		  "offer indirect descriptors", .flags = PROP_GUEST),	\
	PROP_BOOL(struct virtio_dev, ring_reset, "queue_reset", true,	\
		  "offer the reset of single queues", .flags = PROP_GUEST), \
	PROP_BOOL(struct virtio_dev, use_ioeventfd, "ioeventfd", true,	\
		  "let KVM pass kicks on without leaving the kernel"),	\
	PROP_U32(struct virtio_dev, vectors, "vectors", 0, VIRTIO_VECTORS_AUTO, \
		 VIRTIO_VECTORS_AUTO,					\
		 "MSI-X vectors, 0 for none; 4294967295: one per queue and one more", \
		 .flags = PROP_GUEST),					\
	PROP_BOOL(struct virtio_dev, iommu_platform, "iommu_platform", false, \
		  "DMA through an IOMMU; there is none, so only off"),	\
	PROP_BOOL(struct virtio_dev, ats, "ats", false,			\
		  "PCI address translation service; only off")

static const struct prop virtio_props[] = {
	VIRTIO_PROPS_COMMON,
	PROP_ONOFFAUTO(struct virtio_dev, disable_legacy, "disable-legacy", PROP_AUTO,
		       "no legacy interface; auto: none on PCI Express",
		       .flags = PROP_GUEST),
	PROP_BOOL(struct virtio_dev, disable_modern, "disable-modern", false,
		  "no virtio 1.x interface", .flags = PROP_GUEST),
	PROP_END
};

static const struct prop virtio_fixed_props[] = { VIRTIO_PROPS_COMMON, PROP_END };

static int check_props(const struct virtio_dev *v, struct err *e)
{
	const char *path = v->pci.dev.path;

	if (v->iommu_platform)
		return err_set(e, -ENOTSUP, "%s: iommu_platform=on needs an IOMMU, and this "
			       "machine has none; leave it off", path);
	if (v->ats)
		return err_set(e, -ENOTSUP, "%s: ats=on needs an IOMMU, and this machine has "
			       "none; leave it off", path);
	return 0;
}

static void reset_done_cb(struct loop_work *w)
{
	dev_reset_done(&container_of(w, struct virtio_dev, reset_done_work)->pci.dev);
}

static int virtio_attach(struct dev *d, struct err *e)
{
	struct virtio_dev *v = to_virtio(d);
	int i;

	v->ops = d->type->class_ops;
	assert(v->ops->config_size <= VIRTIO_CONFIG_MAX);
	v->reset_done_work.cb = reset_done_cb;
	pthread_cond_init(&v->idle, NULL);
	v->features_offered = v->ops->features;
	for (i = 0; i < VIRTIO_QUEUES_MAX; i++) {
		v->queue[i].v = v;
		v->queue[i].index = i;
		v->queue[i].kick.fd = v->queue[i].irq.fd = -1;
		v->queue[i].kick.cb = kick_cb;
		v->queue[i].ctl_work.cb = ctl_cb;
		v->queue[i].kick_work.cb = kick_work_cb;
		v->queue[i].flush_work.cb = flush_cb;
	}
	if (check_props(v, e) < 0)
		return -ENOTSUP;
	return virtio_pci_attach(v, e);
}

static int modern_attach(struct dev *d, struct err *e)
{
	to_virtio(d)->disable_legacy = PROP_ON;
	return virtio_attach(d, e);
}

static int transitional_attach(struct dev *d, struct err *e)
{
	to_virtio(d)->disable_legacy = PROP_OFF;
	return virtio_attach(d, e);
}

static void virtio_detach(struct dev *d)
{
	struct virtio_dev *v = to_virtio(d);

	virtio_pci_detach(v);
	pthread_cond_destroy(&v->idle);
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

static int queue_watch(struct virtio_queue *q, struct err *e)
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

static uint64_t ring_features(const struct virtio_dev *v)
{
	uint64_t f = 0;

	if (v->indirect)
		f |= BIT64(VIRTIO_RING_F_INDIRECT_DESC);
	if (v->event_idx)
		f |= BIT64(VIRTIO_RING_F_EVENT_IDX);
	if (v->transport->legacy)	/* s2.7.4.3: we assume no framing */
		f |= BIT64(VIRTIO_F_ANY_LAYOUT);
	if (v->disable_modern)
		return f;
	f |= BIT64(VIRTIO_F_VERSION_1);
	if (v->packed)
		f |= BIT64(VIRTIO_F_RING_PACKED);
	if (v->ring_reset)
		f |= BIT64(VIRTIO_F_RING_RESET);
	return f;
}

static int virtio_start(struct dev *d, struct err *e)
{
	struct virtio_dev *v = to_virtio(d);
	uint16_t i;
	int ret;

	v->features_offered |= ring_features(v);
	for (i = 0; i < v->queues; i++) {
		ret = queue_watch(&v->queue[i], e);
		if (ret < 0)
			return ret;
	}
	return virtio_pci_start(v, e);
}

/* ---- the end ---- */

static void unwatch_cb(void *arg)
{
	struct virtio_queue *q = arg;

	loop_event_del(&q->kick);
	ctl_cb(&q->ctl_work);
}

static void nothing_cb(void *arg)
{
}

static bool work_queued(const struct virtio_queue *q)
{
	return q->ctl_work.queued || q->kick_work.queued || q->flush_work.queued;
}

static bool any_on_main(const struct virtio_dev *v, bool (*is)(const struct virtio_queue *))
{
	uint16_t i;

	for (i = 0; i < v->queues; i++)
		if (v->queue[i].loop == v->pci.dev.vm->main && is(&v->queue[i]))
			return true;
	return false;
}

static bool is_busy(const struct virtio_queue *q)
{
	return q->state != VIRTIO_QUEUE_IDLE;
}

/* Wait until the reset has ended. Requests on the main loop complete in its
 * turns: whoever unplugs a busy device from inside one resets it first. */
static void wait_idle(struct virtio_dev *v)
{
	struct loop *main = v->pci.dev.vm->main;

	pthread_mutex_lock(&v->pci.dev.lock);
	while (v->resetting) {
		if (!any_on_main(v, is_busy)) {
			pthread_cond_wait(&v->idle, &v->pci.dev.lock);
			continue;
		}
		pthread_mutex_unlock(&v->pci.dev.lock);
		loop_turn(main, 10 * NS_PER_MS);
		pthread_mutex_lock(&v->pci.dev.lock);
	}
	pthread_mutex_unlock(&v->pci.dev.lock);
}

/* No work of ours may be left in a loop's lists. Another thread's loop has run
 * what was posted and deferred after two round trips; the main loop is ours to
 * turn, and in the normal case nothing is queued on it. */
static void flush_works(struct virtio_dev *v)
{
	uint16_t i;

	for (i = 0; i < v->queues; i++) {
		loop_call(v->queue[i].loop, nothing_cb, NULL);
		loop_call(v->queue[i].loop, nothing_cb, NULL);
	}
	while (any_on_main(v, work_queued) || v->reset_done_work.queued)
		loop_turn(v->pci.dev.vm->main, 0);
}

static void virtio_stop(struct dev *d)
{
	struct virtio_dev *v = to_virtio(d);
	bool owed;
	uint16_t i;

	virtio_pci_stop(v);
	pthread_mutex_lock(&d->lock);
	owed = v->machine_reset;
	v->machine_reset = false;
	reset_begin(v);
	pthread_mutex_unlock(&d->lock);
	for (i = 0; i < v->queues; i++)
		loop_call(v->queue[i].loop, unwatch_cb, &v->queue[i]);
	wait_idle(v);
	flush_works(v);
	if (owed)
		dev_reset_done(d);
	for (i = 0; i < v->queues; i++)
		fd_close(&v->queue[i].kick.fd);
}

/* The machine's reset: see dev_ops.reset. */
static int virtio_reset(struct dev *d)
{
	struct virtio_dev *v = to_virtio(d);

	reset_begin(v);
	v->machine_reset = v->resetting;
	return v->resetting ? -EINPROGRESS : 0;
}

const struct dev_class virtio_class = {
	.name = "virtio", .parent = &pci_class, .props = virtio_props,
	.attach = virtio_attach, .start = virtio_start, .stop = virtio_stop,
	.detach = virtio_detach, .reset = virtio_reset,
};

const struct dev_class virtio_modern_class = {
	.name = "virtio", .parent = &pci_class, .props = virtio_fixed_props,
	.attach = modern_attach, .start = virtio_start, .stop = virtio_stop,
	.detach = virtio_detach, .reset = virtio_reset,
};

const struct dev_class virtio_transitional_class = {
	.name = "virtio", .parent = &pci_class, .props = virtio_fixed_props,
	.attach = transitional_attach, .start = virtio_start, .stop = virtio_stop,
	.detach = virtio_detach, .reset = virtio_reset,
};

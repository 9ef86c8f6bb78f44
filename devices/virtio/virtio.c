/*
 * devices/virtio/virtio.c - the core of every virtio device: feature
 * negotiation, the status register, reset, the device class. Its queues are in
 * virtio_queue.c.
 *
 * Spec:    virtio 1.3 s2.1 to s2.5, s3.1.
 * Threads: see virtio.h.
 * Missing: NOTIFICATION_DATA, IN_ORDER, ACCESS_PLATFORM (not offered).
 */
#include "devices/virtio/virtio.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>

#include "devices/virtio/virtio_int.h"
#include "devices/virtio/virtio_pci.h"
#include "vmm/base/util.h"
#include "vmm/core/vm.h"

TRACE_DEFINE(virtio_status);
TRACE_DEFINE(virtio_reset);

#define S_DRIVER_SETS	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | \
			 VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FEATURES_OK | \
			 VIRTIO_CONFIG_S_FAILED)

static struct virtio_dev *to_virtio(struct dev *d)
{
	return DEV_OF(d, struct virtio_dev);
}

/* ---- configuration and trouble ---- */

void virtio_broken(struct virtio_dev *v, const char *why)
{
	if (atomic_exchange(&v->broken, true))
		return;
	dev_guest_error(&v->pci.dev, "%s; the device needs a reset", why);
	v->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	if (virtio_driver_ok(v))	/* s2.1.2 */
		virtio_pci_config_irq(v);
}

void virtio_config_changed(struct virtio_dev *v)
{
	v->config_dirty = true;
	if (virtio_driver_ok(v))
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
			virtio_queue_start(&v->queue[i]);
}

void virtio_queue_start_early(struct virtio_queue *q)
{
	struct virtio_dev *v = q->v;

	q->enabled = true;
	if (v->resetting || v->broken)	/* DRIVER_OK will do it */
		return;
	if ((v->started || negotiate(v, true)) && device_start(v))
		virtio_queue_start(q);
}

/*
 * The last step of a reset: nothing runs, nothing is in flight. A driver that
 * did not wait for status 0 (s4.1.4.3.2 says it must) wrote on meanwhile: what
 * it wrote last is carried out now.
 */
void virtio_reset_finish(struct virtio_dev *v)
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
		virtio_queue_registers_reset(&v->queue[i]);
	virtio_pci_reset(v);
	if (v->resetting)
		return;
	trace(virtio_reset, "%s begins", v->pci.dev.path);
	v->queues_busy = 0;
	for (i = 0; i < v->queues; i++)
		v->queues_busy += v->queue[i].state != VIRTIO_QUEUE_IDLE;
	if (!v->queues_busy) {
		virtio_reset_finish(v);
		return;
	}
	v->resetting = true;
	for (i = 0; i < v->queues; i++)
		if (v->queue[i].state == VIRTIO_QUEUE_LIVE)
			virtio_queue_stop(&v->queue[i]);
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
	for (i = 0; i < VIRTIO_QUEUES_MAX; i++)
		virtio_queue_init(v, i);
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
		ret = virtio_queue_watch(&v->queue[i], e);
		if (ret < 0)
			return ret;
	}
	return virtio_pci_start(v, e);
}

/* ---- the end ---- */

static bool flush_queued(const struct virtio_queue *q)
{
	return q->flush_work.queued;
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

/* No work of ours may be left in a loop's lists; the queues see to what was
 * posted. A flush deferred on the main loop runs when its turn ends: that is a
 * turn of the caller's, unless it is over. True: dev_reset_done() was on its
 * way. */
static bool forget_works(struct virtio_dev *v)
{
	bool owed;
	uint16_t i;

	while (any_on_main(v, flush_queued))
		loop_turn(v->pci.dev.vm->main, 0);
	for (i = 0; i < v->queues; i++)
		virtio_queue_forget(&v->queue[i]);
	owed = v->reset_done_work.queued;
	loop_work_cancel(v->pci.dev.vm->main, &v->reset_done_work);
	return owed;
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
		virtio_queue_unwatch(&v->queue[i]);
	wait_idle(v);
	owed |= forget_works(v);
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

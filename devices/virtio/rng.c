/*
 * devices/virtio/rng.c - virtio-rng: random bytes from the host's kernel.
 *
 * Spec:    virtio 1.3 s5.4.
 * Threads: requests and the timer run on the main loop; nothing else.
 * Missing: other sources than getrandom(2) (-object rng-random, rng-egd).
 */
#include <errno.h>
#include <sys/random.h>

#include "devices/virtio/virtio.h"
#include "vmm/base/util.h"
#include "vmm/core/vm.h"

#define QUEUE_SIZE	8	/* a driver has one request at a time */
#define PIECES		8	/* of one request */
/* A buffer need not be filled (s5.4.6.2). getrandom(2) makes some 300 MB/s, so
 * that a turn's worth of requests takes about 100 microseconds. */
#define CHUNK		4096u

struct virtio_rng {
	struct virtio_dev v;		/* first */
	/* properties */
	uint64_t max_bytes;		/* per period */
	uint32_t period;		/* ms */
	/* main loop */
	uint64_t quota;			/* bytes left in this period */
	uint64_t period_end_ns;
	struct loop_timer refill;
	bool timer_ready;
};

static const struct prop rng_props[] = {
	PROP_U64(struct virtio_rng, max_bytes, "max-bytes", 1, INT64_MAX, INT64_MAX,
		 "bytes the guest may get in one period", .unit = "bytes"),
	PROP_U32(struct virtio_rng, period, "period", 1, UINT32_MAX, 65536,
		 "length of a period", .unit = "ms"),
	PROP_END
};

static struct virtio_rng *to_rng(struct virtio_dev *v)
{
	return (struct virtio_rng *)v;
}

/* Fill up to @limit writable bytes; returns how many, 0 only when there are
 * none or the host fails us. */
static uint32_t rng_fill(struct virtq_chain *c, uint32_t limit)
{
	struct iovec *iov = c->iov + c->out_n, *end = iov + c->in_n;
	uint32_t done = 0;
	ssize_t n;

	for (; iov < end && done < limit; iov++) {
		n = getrandom(iov->iov_base, MIN(iov->iov_len, (size_t)(limit - done)), 0);
		if (n < 0)
			break;
		done += n;
		if ((size_t)n < iov->iov_len)	/* the limit, or a signal */
			break;
	}
	return done;
}

/* A new period gives a new quota. False: the guest has to wait for it. */
static bool rng_may_give(struct virtio_rng *r)
{
	uint64_t now = clock_ns();

	if (now >= r->period_end_ns) {
		r->quota = r->max_bytes;
		r->period_end_ns = now + r->period * NS_PER_MS;
	}
	if (r->quota)
		return true;
	loop_timer_arm(&r->refill, r->period_end_ns);
	return false;
}

static int rng_kick(struct virtio_dev *v, struct virtio_queue *q)
{
	struct virtio_rng *r = to_rng(v);
	struct virtq_chain *c;
	uint32_t n;
	int ret;

	for (;;) {
		if (!rng_may_give(r))
			return 1;
		ret = virtio_pop(q, &c);
		if (ret <= 0)
			return ret;
		n = rng_fill(c, MIN(r->quota, (uint64_t)CHUNK));
		r->quota -= n;
		virtio_push(q, c, n);
	}
}

static void rng_refill(struct loop_timer *t)
{
	virtio_rekick(&container_of(t, struct virtio_rng, refill)->v.queue[0]);
}

static int rng_init(struct dev *d, struct err *e)
{
	struct virtio_rng *r = DEV_OF(d, struct virtio_rng);

	virtio_queue_add(&r->v, QUEUE_SIZE, PIECES, 0, NULL);
	loop_timer_init(d->vm->main, &r->refill, rng_refill, NULL);
	r->timer_ready = true;
	return 0;
}

static void rng_fini(struct dev *d)
{
	struct virtio_rng *r = DEV_OF(d, struct virtio_rng);

	if (r->timer_ready)
		loop_timer_cancel(&r->refill);
}

static const struct virtio_ops rng_ops = {
	.device_id = 4,
	.pci_class = 0x00ff00,	/* PCI has no class for it */
	.kick = rng_kick,
};

#define RNG_TYPE(name_, alias_, class_, help_)				\
	{								\
		.name = (name_), .alias = (alias_), .help = (help_),	\
		.class = &(class_), .size = sizeof(struct virtio_rng),	\
		.props = rng_props, .ops = { .init = rng_init, .fini = rng_fini }, \
		.class_ops = &rng_ops,					\
	}

const struct dev_type virtio_rng_type =
	RNG_TYPE("virtio-rng-pci", "virtio-rng", virtio_class, "source of random numbers");
const struct dev_type virtio_rng_modern_type =
	RNG_TYPE("virtio-rng-pci-non-transitional", NULL, virtio_modern_class,
		 "source of random numbers, virtio 1.x interface only");
const struct dev_type virtio_rng_transitional_type =
	RNG_TYPE("virtio-rng-pci-transitional", NULL, virtio_transitional_class,
		 "source of random numbers with the legacy interface as well");

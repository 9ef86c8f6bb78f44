/*
 * block/null.c - null-co: a disk that is not there, to measure what is above it.
 *
 * Spec:    QEMU qapi/block-core.json (BlockdevOptionsNull).
 * Threads: requests on any loop; a latency is a timer on the request's loop.
 * Missing: nothing known.
 *
 * Writes go nowhere. Reads leave the buffer as it is, unless read-zeroes=on.
 */
#include <errno.h>

#include "block/graph.h"
#include "vmm/base/util.h"

/* A cancelled request waits for its timer: longer ones would hold up a reset. */
#define LATENCY_MAX_NS	NS_PER_SEC

struct null_node {
	struct block_node n;		/* first */
	uint64_t size, latency_ns;	/* properties */
	bool read_zeroes;
};

static const struct prop null_props[] = {
	PROP_SIZE(struct null_node, size, "size", 0, INT64_MAX, 1 * GIB, "length of the disk",
		  .unit = "bytes"),
	PROP_U64(struct null_node, latency_ns, "latency-ns", 0, LATENCY_MAX_NS, 0,
		 "how long each request takes", .unit = "ns"),
	PROP_BOOL(struct null_node, read_zeroes, "read-zeroes", false,
		  "reads give zeroes; else what the buffer held before"),
	PROP_END
};

static int null_open(struct block_node *n, struct err *e)
{
	n->bytes = ((struct null_node *)n)->size;
	n->request_align = n->discard_align = 1;
	n->write_through = true;	/* nothing can be lost */
	return 0;
}

static void null_close(struct block_node *n)
{
}

static void null_timer(struct loop_timer *t)
{
	struct block_req *r = container_of(t, struct block_req, timer);

	block_done(r, r->cancelled ? -ECANCELED : 0);
}

static void null_submit(struct block_node *n, struct block_req *r)
{
	struct null_node *nn = (struct null_node *)n;

	if (nn->read_zeroes && r->now.op == BLOCK_READ)
		iov_zero(r->iov, r->iovcnt, 0, r->bytes);
	if (!nn->latency_ns) {
		block_done_later(r, 0);
		return;
	}
	loop_timer_init(r->loop, &r->timer, null_timer, NULL);
	loop_timer_arm(&r->timer, clock_ns() + nn->latency_ns);
}

static int null_set_length(struct block_node *n, uint64_t bytes)
{
	n->bytes = bytes;
	return 0;
}

const struct block_driver block_driver_null_co = {
	.name = "null-co", .help = "nothing: writes are dropped, reads cost nothing",
	.protocol = true, .size = sizeof(struct null_node), .props = null_props,
	.open = null_open, .close = null_close, .submit = null_submit,
	.set_length = null_set_length,
};

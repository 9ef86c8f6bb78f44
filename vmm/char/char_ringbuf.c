/*
 * vmm/char/char_ringbuf.c - output to a ring in memory, read by QMP's
 * ringbuf-read; input from ringbuf-write.
 * Threads: loop.
 * Missing: nothing known.
 *
 * The newest bytes stay. The generic ring (char_out.c) is not used: nobody is
 * there who could be waited for.
 */
#include <errno.h>
#include <stdlib.h>

#include "vmm/base/util.h"
#include "vmm/char/char_priv.h"

struct char_ringbuf {
	struct chardev c;	/* first */
	uint64_t size;		/* property */
	uint8_t in[CHAR_INPUT_BYTES];
	size_t in_len;		/* not taken by the front end yet */
};

static const struct prop ringbuf_props[] = {
	PROP_SIZE(struct char_ringbuf, size, "size", 1, CHAR_REPLAY_MAX, CHAR_RING_BYTES,
		  "bytes that are kept, a power of two", .unit = "bytes"),
	PROP_END
};

extern const struct char_driver char_ringbuf_driver;

static struct char_ringbuf *to_ringbuf(struct chardev *c, struct err *e)
{
	if (c->drv != &char_ringbuf_driver) {
		err_set(e, -EINVAL, "chardev '%s' is a %s; only a ringbuf can be read and "
			"written this way", c->id, c->drv->name);
		return NULL;
	}
	return (struct char_ringbuf *)c;
}

ssize_t char_ringbuf_read(struct chardev *c, void *buf, size_t len, struct err *e)
{
	struct char_ringbuf *r = to_ringbuf(c, e);
	size_t n;

	if (!r)
		return -EINVAL;
	pthread_mutex_lock(&c->lock);
	n = char_ring_copy(&c->out, c->out.sent, buf, len);
	c->out.sent += n;
	pthread_mutex_unlock(&c->lock);
	return (ssize_t)n;
}

ssize_t char_ringbuf_write(struct chardev *c, const void *buf, size_t len, struct err *e)
{
	struct char_ringbuf *r = to_ringbuf(c, e);

	if (!r)
		return -EINVAL;
	len = MIN(len, sizeof(r->in) - r->in_len);
	memcpy(r->in + r->in_len, buf, len);
	r->in_len += len;
	char_deliver(c, r->in, &r->in_len);
	return (ssize_t)len;
}

static void ringbuf_accept(struct chardev *c)
{
	struct char_ringbuf *r = (struct char_ringbuf *)c;

	char_deliver(c, r->in, &r->in_len);
}

static int ringbuf_open(struct chardev *c, struct err *e)
{
	struct char_ringbuf *r = (struct char_ringbuf *)c;

	if (!is_pow2(r->size))
		return err_set(e, -EINVAL, "chardev '%s': size=%llu is not a power of two",
			       c->id, (unsigned long long)r->size);
	/* Without a peer the writer pushes the oldest bytes out. */
	c->replay = r->size;
	char_ring_init(&c->out, r->size);
	c->open = true;
	return 0;
}

static void ringbuf_close(struct chardev *c)
{
}

const struct char_driver char_ringbuf_driver = {
	.name = "ringbuf", .help = "a ring in memory, for QMP's ringbuf-read",
	.size = sizeof(struct char_ringbuf), .props = ringbuf_props,
	.open = ringbuf_open, .close = ringbuf_close, .accept = ringbuf_accept,
};

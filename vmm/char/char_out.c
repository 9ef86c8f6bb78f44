/*
 * vmm/char/char_out.c - output: the ring, and how it drains.
 * Threads: char_write() any, the rest on the loop. Only the loop takes bytes
 *          out, so it writes from the ring without holding the lock; while no
 *          peer is there it does not write, and then a writer may push the
 *          oldest bytes out instead.
 * Missing: nothing known.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/char/char_priv.h"

enum {
	WRITES_PER_TURN = 16,	/* then other sources have their turn */
	ROOM_WAKE = 4096,	/* writable() not before: no call per byte */
};

/* ---- the ring ---- */

/* A peer that was just shown all of @replay leaves the writer a whole ring. */
void char_ring_init(struct char_ring *r, size_t replay)
{
	r->size = CHAR_RING_BYTES + replay;
	r->history = replay > 0;
}

void char_ring_free(struct char_ring *r)
{
	free(r->buf);
	r->buf = NULL;
}

size_t char_ring_room(const struct char_ring *r)
{
	return r->size - char_ring_waiting(r);
}

void char_ring_put(struct char_ring *r, const void *buf, size_t len)
{
	size_t at = (size_t)(r->head % r->size);
	size_t first = MIN(len, r->size - at);

	/* Once per chardev, of a fixed size: here, so that unused ones are
	 * small. */
	if (!r->buf)
		r->buf = xcalloc(1, r->size);
	memcpy(r->buf + at, buf, first);
	memcpy(r->buf, (const uint8_t *)buf + first, len - first);
	r->head += len;
}

/* The newest bytes stay. A guest may hand over 4 GiB at once, a ring of times a
 * turn: what would not stay is not copied. */
static void ring_put_over(struct char_ring *r, const uint8_t *buf, size_t len)
{
	size_t n;

	if (len > r->size) {
		r->head += len - r->size;
		buf += len - r->size;
		len = r->size;
	}
	for (; len; buf += n, len -= n) {
		n = MIN(len, (size_t)CHAR_RING_BYTES);
		char_ring_put(r, buf, n);
		r->sent = MAX(r->sent, char_ring_oldest(r));
	}
}

size_t char_ring_copy(const struct char_ring *r, uint64_t pos, void *buf, size_t len)
{
	size_t at = (size_t)(pos % r->size), first;

	len = MIN(len, (size_t)(r->head - pos));
	first = MIN(len, r->size - at);
	if (len) {
		memcpy(buf, r->buf + at, first);
		memcpy((uint8_t *)buf + first, r->buf, len - first);
	}
	return len;
}

int char_ring_peek(const struct char_ring *r, struct iovec iov[2])
{
	size_t n = char_ring_waiting(r), at = (size_t)(r->sent % r->size);
	size_t first = MIN(n, r->size - at);

	if (!n)
		return 0;
	iov[0] = (struct iovec){ r->buf + at, first };
	iov[1] = (struct iovec){ r->buf, n - first };
	return iov[1].iov_len ? 2 : 1;
}

void char_ring_take(struct char_ring *r, size_t len)
{
	r->sent += len;
	/* An empty ring starts over: little output touches few pages. */
	if (!r->history && r->sent == r->head)
		r->sent = r->head = 0;
}

uint64_t char_ring_oldest(const struct char_ring *r)
{
	return r->history ? r->head - MIN(r->head, r->size - CHAR_RING_BYTES) : r->sent;
}

void char_ring_rewind(struct char_ring *r)
{
	r->sent = char_ring_oldest(r);
}

/* ---- writers ---- */

/* Output has a way out that takes all of it: a peer, or a file. */
static bool has_sink(const struct chardev *c)
{
	return c->hold || c->out_aio.fd >= 0;
}

size_t char_write(struct chardev *c, const void *buf, size_t len)
{
	bool logged = c->log_aio.fd >= 0;
	size_t n = len;
	bool post;

	pthread_mutex_lock(&c->lock);
	if (c->stall_out)
		n = 0;
	if (logged)
		n = MIN(n, char_ring_room(&c->log));
	if (has_sink(c))
		n = MIN(n, char_ring_room(&c->out));
	if (n && logged)
		char_ring_put(&c->log, buf, n);
	if (n && has_sink(c))
		char_ring_put(&c->out, buf, n);
	else if (n && c->replay)
		ring_put_over(&c->out, buf, n);
	if (n && c->tap)
		c->tap->output(c->tap, buf, n);
	if (n < len)
		c->starved = true;
	post = has_sink(c) || c->pump_on || logged;
	pthread_mutex_unlock(&c->lock);
	if (post)
		loop_post(c->loop, &c->out_work);
	return n;
}

void char_feed(struct chardev *c)
{
	struct char_front *f = c->front;
	bool feed;

	pthread_mutex_lock(&c->lock);
	feed = c->starved && !c->stall_out &&
		(!has_sink(c) || char_ring_room(&c->out) >= ROOM_WAKE) &&
		(c->log_aio.fd < 0 || char_ring_room(&c->log) >= ROOM_WAKE);
	if (feed)
		c->starved = false;
	pthread_mutex_unlock(&c->lock);
	if (!feed || !f || !f->writable)
		return;
	if (f->lock)
		pthread_mutex_lock(f->lock);
	f->writable(f);
	if (f->lock)
		pthread_mutex_unlock(f->lock);
}

static int ring_peek_locked(struct chardev *c, struct char_ring *r, struct iovec iov[2])
{
	int n;

	pthread_mutex_lock(&c->lock);
	n = char_ring_peek(r, iov);
	pthread_mutex_unlock(&c->lock);
	return n;
}

static void ring_take_locked(struct chardev *c, struct char_ring *r, size_t len)
{
	pthread_mutex_lock(&c->lock);
	char_ring_take(r, len);
	pthread_mutex_unlock(&c->lock);
}

/* ---- to a file: asynchronous writes ---- */

static void aio_pump(struct char_aio *a);

/* A full disk and the like: the guest must not stand still for that. */
static void aio_fail(struct char_aio *a, int error)
{
	if (!a->failed)
		log_warn("chardev '%s': writing to its %s failed: %s; output is lost",
			 a->c->id, a->ring == &a->c->log ? "logfile" : "file",
			 strerror(error));
	a->failed = true;
	pthread_mutex_lock(&a->c->lock);
	char_ring_take(a->ring, char_ring_waiting(a->ring));
	pthread_mutex_unlock(&a->c->lock);
}

static void aio_done(struct loop_io *io)
{
	struct char_aio *a = container_of(io, struct char_aio, io);
	struct chardev *c = a->c;

	a->busy = false;
	if (io->res > 0) {
		a->failed = false;
		ring_take_locked(c, a->ring, (size_t)io->res);
	} else if (c->dead ||
		   (io->res != -EINTR && io->res != -EAGAIN && io->res != -ECANCELED)) {
		aio_fail(a, io->res ? (int)-io->res : EIO);
	}
	char_feed(c);
	aio_pump(a);
	if (c->dead)		/* a file gets what was taken for it */
		char_release(c);
}

static void aio_pump(struct char_aio *a)
{
	if (a->fd < 0 || a->busy)
		return;
	a->io.iovcnt = ring_peek_locked(a->c, a->ring, a->iov);
	if (!a->io.iovcnt)
		return;
	a->busy = true;
	loop_io_submit(a->c->loop, &a->io);
}

void char_aio_init(struct chardev *c, struct char_aio *a, struct char_ring *r, int fd)
{
	a->c = c;
	a->ring = r;
	a->fd = fd;
	a->io = (struct loop_io){ .op = LOOP_IO_WRITEV, .fd = fd, .iov = a->iov,
				  .off = LOOP_IO_POS, .cb = aio_done };
}

void char_out_finish(struct chardev *c)
{
	aio_pump(&c->log_aio);
	aio_pump(&c->out_aio);
}

/* ---- from one chardev to another ---- */

void char_out_inherit(struct chardev *c, const struct chardev *old)
{
	const struct char_ring *from = &old->out;
	uint8_t piece[4096];
	uint64_t pos = from->sent;
	size_t n, room;

	/* What was taken for a file still goes there. */
	if (!old->hold || old->out_aio.fd >= 0)
		return;
	pthread_mutex_lock(&c->lock);
	for (; pos != from->head; pos += n) {
		room = has_sink(c) ? char_ring_room(&c->out) : sizeof(piece);
		n = char_ring_copy(from, pos, piece, MIN(room, sizeof(piece)));
		if (!n || !(has_sink(c) || c->replay))
			break;
		if (has_sink(c))
			char_ring_put(&c->out, piece, n);
		else
			ring_put_over(&c->out, piece, n);
	}
	pthread_mutex_unlock(&c->lock);
	loop_post(c->loop, &c->out_work);
}

/* ---- to a peer: writes that do not wait ---- */

static void peer_pump(struct chardev *c)
{
	int n, left = WRITES_PER_TURN;
	struct iovec iov[2];
	ssize_t r;

	while (c->open && (n = ring_peek_locked(c, &c->out, iov)) > 0) {
		if (!left--) {
			loop_post(c->loop, &c->out_work);
			return;
		}
		r = c->drv->write(c, iov, n);
		if (r == -EAGAIN || r == 0) {
			c->want_out = true;
			break;
		}
		if (r < 0) {
			c->drv->hangup(c, true, (int)-r);
			return;
		}
		ring_take_locked(c, &c->out, (size_t)r);
		char_feed(c);
	}
	char_rewatch(c);
}

void char_out_work(struct loop_work *w)
{
	struct chardev *c = container_of(w, struct chardev, out_work);

	if (c->dead) {
		char_release(c);
		return;
	}
	aio_pump(&c->log_aio);
	if (c->drv->pump)
		c->drv->pump(c);
	else if (c->out_aio.fd >= 0)
		aio_pump(&c->out_aio);
	else if (c->drv->write && !c->want_out)	/* else the watch says when */
		peer_pump(c);
}

void char_out_watch(struct loop_fd *w, uint32_t revents)
{
	struct chardev *c = container_of(w, struct chardev, out_watch);

	c->want_out = false;
	peer_pump(c);
}

bool char_out_idle(struct chardev *c)
{
	bool idle;

	if (c->drv->idle && !c->drv->idle(c))
		return false;
	pthread_mutex_lock(&c->lock);
	idle = (!has_sink(c) || !char_ring_waiting(&c->out)) && !char_ring_waiting(&c->log);
	pthread_mutex_unlock(&c->lock);
	return idle;
}

/*
 * vmm/loop/loop_pool.c - a few threads that do blocking file I/O for a loop:
 * all of it where io_uring is not to be had, and everywhere the ioctls on
 * block devices, for which io_uring has no operation.
 * Threads: requests come from the loop's thread; workers hand them back over
 *          a lock-free list. Worker threads are started as they are needed.
 * Missing: nothing known.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/base/thread.h"
#include "vmm/base/util.h"
#include "vmm/loop/loop_priv.h"

struct loop_pool {
	struct loop *l;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	/* lock */
	struct loop_io_list queue;
	int queued;
	int idle;
	bool quit;
	/* the loop's thread */
	pthread_t thread[LOOP_POOL_THREADS];
	int count;
	int outstanding;
};

static int64_t io_rw(const struct loop_io *io)
{
	int flags = io->flags & LOOP_IO_DSYNC ? RWF_DSYNC : 0;
	/* An offset of -1 is the file's own position for these calls too. */
	off_t off = (off_t)io->off;

	if (io->op == LOOP_IO_READV)
		return preadv2(io->fd, io->iov, io->iovcnt, off, 0);
	return pwritev2(io->fd, io->iov, io->iovcnt, off, flags);
}

static int64_t io_run(const struct loop_io *io)
{
	uint64_t range[2] = { io->off, io->len };

	switch (io->op) {
	case LOOP_IO_READV:
	case LOOP_IO_WRITEV:
		return io_rw(io);
	case LOOP_IO_FSYNC:
		return io->flags & LOOP_IO_DATASYNC ? fdatasync(io->fd) : fsync(io->fd);
	case LOOP_IO_FALLOCATE:
		return fallocate(io->fd, (int)io->flags, (off_t)io->off, (off_t)io->len);
	case LOOP_IO_IOCTL_RANGE:
		return ioctl(io->fd, io->cmd, range);
	}
	errno = EINVAL;
	return -1;
}

static void pool_finish(struct loop_pool *p, struct loop_io *io)
{
	struct loop *l = p->l;
	struct loop_io *head = atomic_load_explicit(&l->pool_done, memory_order_relaxed);

	do {
		io->next = head;
	} while (!atomic_compare_exchange_weak(&l->pool_done, &head, io));
	loop_wake(l);
}

static void *pool_thread(void *arg)
{
	struct loop_pool *p = arg;
	struct loop_io *io;
	int64_t r;

	pthread_mutex_lock(&p->lock);
	while (!p->quit) {
		io = loop_io_list_take(&p->queue);
		if (!io) {
			p->idle++;
			pthread_cond_wait(&p->cond, &p->lock);
			p->idle--;
			continue;
		}
		p->queued--;
		pthread_mutex_unlock(&p->lock);
		do {
			r = io_run(io);
		} while (r < 0 && errno == EINTR);
		io->res = r < 0 ? -errno : r;
		pool_finish(p, io);
		pthread_mutex_lock(&p->lock);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

static int pool_spawn(struct loop_pool *p)
{
	char name[16];
	int r;

	snprintf(name, sizeof(name), "aio %.11s", loop_name(p->l));
	r = thread_start(&p->thread[p->count], name, pool_thread, p);
	if (r)
		return r;
	p->count++;
	return 0;
}

static struct loop_pool *pool_create(struct loop *l)
{
	struct loop_pool *p = xcalloc(1, sizeof(*p));

	p->l = l;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->cond, NULL);
	return p;
}

void loop_pool_submit(struct loop *l, struct loop_io *io)
{
	struct loop_pool *p = l->pool;
	bool more;
	int r = 0;

	if (!p)
		p = l->pool = pool_create(l);
	pthread_mutex_lock(&p->lock);
	more = p->queued >= p->idle && p->count < LOOP_POOL_THREADS;
	pthread_mutex_unlock(&p->lock);
	if (more)
		r = pool_spawn(p);
	io->state = IO_POOL;
	p->outstanding++;
	if (r < 0 && !p->count) {	/* nobody there to do it */
		p->outstanding--;
		loop_io_done(l, io, r);
		return;
	}
	pthread_mutex_lock(&p->lock);
	loop_io_list_add(&p->queue, io);
	p->queued++;
	pthread_cond_signal(&p->cond);
	pthread_mutex_unlock(&p->lock);
}

/* Only what no thread has begun can be cancelled. */
void loop_pool_cancel(struct loop *l, struct loop_io *io)
{
	struct loop_pool *p = l->pool;
	struct loop_io *i, *prev = NULL;

	pthread_mutex_lock(&p->lock);
	for (i = p->queue.head; i && i != io; i = i->next)
		prev = i;
	if (i) {
		if (prev)
			prev->next = io->next;
		else
			p->queue.head = io->next;
		if (p->queue.tail == io)
			p->queue.tail = prev;
		p->queued--;
	}
	pthread_mutex_unlock(&p->lock);
	if (i) {
		p->outstanding--;
		loop_io_done(l, io, -ECANCELED);
	}
}

void loop_pool_reap(struct loop *l)
{
	struct loop_io *io, *next, *fifo = NULL;

	if (!atomic_load_explicit(&l->pool_done, memory_order_relaxed))
		return;
	io = atomic_exchange_explicit(&l->pool_done, NULL, memory_order_acquire);
	for (; io; io = next) {		/* newest first: reverse */
		next = io->next;
		io->next = fifo;
		fifo = io;
	}
	for (; fifo; fifo = next) {
		next = fifo->next;
		l->pool->outstanding--;
		loop_io_done(l, fifo, fifo->res);
	}
}

void loop_pool_destroy(struct loop *l)
{
	struct loop_pool *p = l->pool;
	int i;

	if (!p)
		return;
	assert(!p->outstanding);
	pthread_mutex_lock(&p->lock);
	p->quit = true;
	pthread_cond_broadcast(&p->cond);
	pthread_mutex_unlock(&p->lock);
	for (i = 0; i < p->count; i++)
		pthread_join(p->thread[i], NULL);
	pthread_cond_destroy(&p->cond);
	pthread_mutex_destroy(&p->lock);
	free(p);
	l->pool = NULL;
}

/*
 * block/file_sync.c - flushes that do not lie.
 *
 * Spec:    fsync(2); docs of this contract: TARGETS "Nothing lost" 1 and 2.
 * Threads: any loop; the lock is held to look at the lists only. A flush
 *          costs milliseconds, the lock nothing beside it.
 * Missing: copies of written data, to write it again; see below.
 *
 * The kernel reports a failed writeback once per descriptor and then forgets
 * it: pages are marked clean, a second fdatasync succeeds although the data is
 * gone. So, after a failure, every later flush of the node fails until it is
 * opened again, and n.lost says so to drives that would try it again.
 *
 * Not so where a failed flush loses nothing:
 *  - an O_DIRECT node whose device has no volatile cache (n.write_through): what
 *    was reported written is durable, only the flush itself is done again;
 *  - an O_DIRECT node on which nothing but FUA requests ended since the last
 *    good flush (n.durable, below a drive with werror=retry): none was reported
 *    done without being durable.
 * Dirty pages of the host's cache could be written again only from a copy of
 * everything since the last flush, which nobody keeps.
 *
 * For the same reason only one fdatasync is in flight per node: of two at a
 * time one would get the error and the other would succeed. Flushes that
 * arrive meanwhile form the next batch, which one fdatasync serves.
 *
 * A flush with nothing written since the last fdatasync began completes alone.
 */
#include <errno.h>
#include <unistd.h>

#include "block/file.h"
#include "block/graph.h"
#include "vmm/base/util.h"

TRACE_DEFINE(file_flush);

void file_sync_init(struct file_sync *s)
{
	pthread_mutex_init(&s->lock, NULL);
	s->running = s->waiting = NULL;
	s->tail = &s->waiting;
	s->lost = 0;
	/* A program before us may have written and not flushed; that it is done is
	 * not what we have reported. */
	atomic_init(&s->dirty, FILE_TOUCHED);
}

void file_sync_fini(struct file_sync *s)
{
	pthread_mutex_destroy(&s->lock);
}

static void sync_done(struct loop_io *io);

/* On the loop of the batch's first request, which lends its loop_io. */
static void sync_issue(struct file_node *f, struct block_req *r)
{
	struct loop_io *io = &r->io;

	/* Before the call: a write that ends from now on is for the next. */
	f->sync.covers = atomic_exchange(&f->sync.dirty, FILE_CLEAN);
	io->op = LOOP_IO_FSYNC;
	io->fd = f->fd;
	io->flags = LOOP_IO_DATASYNC;
	io->cb = sync_done;
	loop_io_submit(r->loop, io);
}

static void sync_issue_work(struct loop_work *w)
{
	struct block_req *r = container_of(w, struct block_req, work);

	sync_issue((struct file_node *)r->node, r);
}

/* Complete a batch; @here is the loop we run on. */
static void sync_finish(struct block_req *batch, struct loop *here, int ret)
{
	for (struct block_req *r = batch, *next; r; r = next) {
		next = r->next;
		if (r->loop == here)
			block_done(r, ret);
		else
			block_done_later(r, ret);
	}
}

static struct block_req *take_waiting(struct file_sync *s)
{
	struct block_req *batch = s->waiting;

	s->waiting = NULL;
	s->tail = &s->waiting;
	return batch;
}

/* Did the fdatasync that failed lose nothing that was reported done? */
static bool harmless(const struct file_node *f)
{
	return f->n.cache_direct && (f->n.write_through || f->sync.covers != FILE_DIRTY);
}

static void sync_done(struct loop_io *io)
{
	struct block_req *r = container_of(io, struct block_req, io);
	struct file_node *f = (struct file_node *)r->node;
	struct file_sync *s = &f->sync;
	struct block_req *batch, *also = NULL, *lead = NULL;
	struct loop *here = r->loop;
	int ret = (int)io->res;

	trace(file_flush, "%s: %d", f->n.name, ret);
	if (ret < 0 && !harmless(f))
		file_sync_lost(f, ret);
	else if (ret < 0)
		file_touch(f, (enum file_dirty)s->covers);
	pthread_mutex_lock(&s->lock);
	if (s->lost)	/* a write may have found out meanwhile */
		ret = s->lost;
	batch = s->running;
	s->running = NULL;
	/* Those that came meanwhile: all writes they cover ended before they
	 * came, so with nothing dirty the fdatasync just done covers them. */
	if (ret || atomic_load(&s->dirty) == FILE_CLEAN)
		also = take_waiting(s);
	else
		lead = s->running = take_waiting(s);
	pthread_mutex_unlock(&s->lock);

	if (lead && lead->loop == here) {
		sync_issue(f, lead);
	} else if (lead) {
		/* On its own loop: ours may be closed before theirs. */
		lead->work.cb = sync_issue_work;
		loop_post(lead->loop, &lead->work);
	}
	sync_finish(batch, here, ret);
	sync_finish(also, here, ret);
}

void file_sync_lost(struct file_node *f, int ret)
{
	struct file_sync *s = &f->sync;
	bool first;

	pthread_mutex_lock(&s->lock);
	first = s->lost == 0;
	if (first)
		s->lost = ret;
	atomic_store(&f->n.lost, true);
	pthread_mutex_unlock(&s->lock);
	if (first)
		log_err("%s: making writes durable failed (%s): what was written since the last "
			"flush may be lost, so every flush fails until the disk is opened again",
			f->n.filename, strerror(-ret));
}

/* Does @r, which the main loop's thread waits for, come behind one that only that
 * loop's next turn can end? */
static bool would_wait_for_itself(const struct file_node *f, const struct block_req *r)
{
	return f->sync.running && f->sync.running->loop == f->n.graph->loop &&
		(r->loop == f->n.graph->wait_loop ||
		 (atomic_load(&f->n.graph->joining) && r->loop != f->n.graph->loop));
}

/* So it has an fdatasync of its own (when a node is closed, or no longer written to).
 * Of two the other one may get the error: then it says so when it ends. */
static void flush_alone(struct file_node *f, struct block_req *r)
{
	int ret = fdatasync(f->fd) ? -errno : 0;

	if (ret && !harmless(f))
		file_sync_lost(f, ret);
	block_done_later(r, ret);
}

/* Flushes that came behind one of the main loop, before that began to wait for
 * whoever sent them. */
static void free_waiting(struct file_node *f)
{
	struct file_sync *s = &f->sync;
	struct block_req *r, *next, *others = NULL, **p;

	pthread_mutex_lock(&s->lock);
	for (p = &s->waiting; s->running && s->running->loop == f->n.graph->loop && (r = *p);) {
		if (r->loop == f->n.graph->loop) {
			p = &r->next;
			continue;
		}
		*p = r->next;
		r->next = others;
		others = r;
	}
	for (p = &s->waiting; *p; p = &(*p)->next)
		;
	s->tail = p;
	pthread_mutex_unlock(&s->lock);
	for (r = others; r; r = next) {
		next = r->next;
		flush_alone(f, r);
	}
}

void file_sync_joining(struct block_graph *g, bool on)
{
	atomic_store(&g->joining, on);
	for (struct block_node *n = g->nodes; n && on; n = n->next)
		if (n->opened && n->drv->submit == file_submit)
			free_waiting((struct file_node *)n);
}

void file_flush(struct file_node *f, struct block_req *r)
{
	struct file_sync *s = &f->sync;
	bool lead = false, join = false, alone = false;
	int ret;

	r->node = &f->n;
	r->next = NULL;
	if (f->n.cache_no_flush) {
		block_done_later(r, 0);
		return;
	}
	pthread_mutex_lock(&s->lock);
	ret = s->lost;
	if (ret == 0 && would_wait_for_itself(f, r)) {
		alone = true;
	} else if (ret == 0 && s->running) {
		join = true;
		*s->tail = r;
		s->tail = &r->next;
	} else if (ret == 0 && atomic_load(&s->dirty) != FILE_CLEAN) {
		lead = true;
		s->running = r;
	}
	pthread_mutex_unlock(&s->lock);
	if (lead)
		sync_issue(f, r);
	else if (alone)
		flush_alone(f, r);
	else if (!join)
		block_done_later(r, ret);
}

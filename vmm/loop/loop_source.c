/*
 * vmm/loop/loop_source.c - what a loop serves: descriptors, eventfds, signals
 * to raise, file I/O. The engines do the work.
 * Threads: the loop's, or before it runs.
 * Missing: nothing known.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "vmm/base/util.h"
#include "vmm/loop/loop_priv.h"

/* ---- slots ---- */

static int slots_grow(struct loop *l)
{
	uint32_t i, count = l->slot_count ? l->slot_count * 2 : 16;
	struct loop_slot *s = realloc(l->slot, count * sizeof(*s));

	if (!s)
		return -ENOMEM;
	for (i = l->slot_count; i < count; i++) {
		s[i] = (struct loop_slot){ .gen = 1, .next = l->slot_free };
		l->slot_free = i;
	}
	l->slot = s;
	l->slot_count = count;
	return 0;
}

static int slot_add(struct loop *l, enum loop_slot_kind kind, void *src, uint32_t *out)
{
	struct loop_slot *s;
	uint32_t i;
	int r;

	if (l->slot_free == LOOP_NONE) {
		r = slots_grow(l);
		if (r < 0)
			return r;
	}
	i = l->slot_free;
	s = &l->slot[i];
	l->slot_free = s->next;
	s->src = src;
	s->kind = kind;
	s->next = LOOP_NONE;
	s->armed = s->dirty = s->always = false;
	r = l->eng->update(l, i);
	if (r < 0) {
		loop_slot_free(l, i);
		return r;
	}
	*out = i;
	loop_touch(l);
	return 0;
}

static void slot_del(struct loop *l, uint32_t i)
{
	l->slot[i].kind = SLOT_DEAD;
	l->slot[i].src = NULL;
	l->eng->update(l, i);
	loop_touch(l);
}

void loop_slot_free(struct loop *l, uint32_t i)
{
	struct loop_slot *s = &l->slot[i];

	s->kind = SLOT_FREE;
	s->src = NULL;
	s->gen++;
	s->next = l->slot_free;
	l->slot_free = i;
}

struct loop_slot *loop_slot_get(struct loop *l, uint32_t i, uint32_t gen)
{
	struct loop_slot *s;

	if (i >= l->slot_count)
		return NULL;
	s = &l->slot[i];
	return s->src && s->gen == gen ? s : NULL;
}

/* ---- sources ---- */

int loop_fd_add(struct loop *l, struct loop_fd *w)
{
	int r;

	assert(!w->loop && loop_is_current(l));
	w->loop = l;
	r = slot_add(l, SLOT_FD, w, &w->slot);
	if (r < 0)
		w->loop = NULL;
	return r;
}

void loop_fd_mod(struct loop_fd *w, uint32_t events)
{
	if (w->events == events || !w->loop)
		return;
	w->events = events;
	w->loop->eng->update(w->loop, w->slot);
	loop_touch(w->loop);
}

void loop_fd_del(struct loop_fd *w)
{
	struct loop *l = w->loop;

	if (!l)
		return;
	assert(loop_is_current(l));
	w->loop = NULL;
	slot_del(l, w->slot);
}

int loop_event_add(struct loop *l, struct loop_event *ev)
{
	int r;

	assert(!ev->loop && loop_is_current(l));
	ev->loop = l;
	r = slot_add(l, SLOT_EVENT, ev, &ev->slot);
	if (r < 0)
		ev->loop = NULL;
	return r;
}

void loop_event_del(struct loop_event *ev)
{
	struct loop *l = ev->loop;

	if (!l)
		return;
	assert(loop_is_current(l));
	ev->loop = NULL;
	slot_del(l, ev->slot);
}

/* The callback may remove or free its source, so nothing of it is read after. */
void loop_dispatch_fd(struct loop *l, struct loop_slot *s, uint32_t revents)
{
	struct loop_fd *w = s->src;
	pthread_mutex_t *lock = w->lock;

	l->stats.events++;
	loop_lock(lock);
	w->cb(w, revents);
	loop_unlock(lock);
}

void loop_dispatch_event(struct loop *l, struct loop_slot *s)
{
	struct loop_event *ev = s->src;
	pthread_mutex_t *lock = ev->lock;

	l->stats.events++;
	loop_lock(lock);
	ev->cb(ev);
	loop_unlock(lock);
}

void loop_signal_raise(struct loop *l, struct loop_signal *s)
{
	if (s->queued)
		return;
	s->queued = true;
	s->next = l->signals;
	l->signals = s;
	loop_touch(l);
}

void loop_signal_drop(struct loop *l, struct loop_signal *s)
{
	struct loop_signal **p;

	if (!s->queued)
		return;
	for (p = &l->signals; *p != s; p = &(*p)->next)
		;
	*p = s->next;
	s->queued = false;
}

/* ---- file I/O ---- */

void loop_io_list_add(struct loop_io_list *q, struct loop_io *io)
{
	io->next = NULL;
	if (q->head)
		q->tail->next = io;
	else
		q->head = io;
	q->tail = io;
}

struct loop_io *loop_io_list_take(struct loop_io_list *q)
{
	struct loop_io *io = q->head;

	if (io)
		q->head = io->next;
	return io;
}

void loop_io_done(struct loop *l, struct loop_io *io, int64_t res)
{
	io->res = res;
	loop_io_list_add(&l->done, io);
}

/* @io may be submitted again or freed by its callback. */
void loop_io_call(struct loop *l, struct loop_io *io, int64_t res)
{
	io->state = IO_IDLE;
	io->res = res;
	l->io_active--;
	io->cb(io);
}

void loop_io_submit(struct loop *l, struct loop_io *io)
{
	assert(io->state == IO_IDLE && loop_is_current(l));
	io->loop = l;
	l->stats.ios++;
	l->io_active++;
	l->eng->io_submit(l, io);
	loop_touch(l);
}

void loop_io_cancel(struct loop_io *io)
{
	if (io->state == IO_IDLE)
		return;
	io->loop->eng->io_cancel(io->loop, io);
	loop_touch(io->loop);
}

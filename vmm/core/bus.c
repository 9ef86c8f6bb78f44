/*
 * vmm/core/bus.c - port and memory-mapped I/O: tables of windows, dispatch.
 *
 * Threads: any; see bus.h for the locks.
 * Missing: nothing known.
 *
 * The windows that are mapped are kept in order of precedence, and beside them
 * a flat view: address ranges that do not overlap, sorted, each with the one
 * window that answers there. An access searches the flat view. Mapping a
 * window rebuilds it, which costs some microseconds with hundreds of windows
 * and happens when firmware or the kernel places BARs.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/core/bus.h"
#include "vmm/core/dev.h"
#include "vmm/core/reg.h"

TRACE_DEFINE(bus_read);
TRACE_DEFINE(bus_write);
TRACE_DEFINE(bus_map);
TRACE_DEFINE(bus_unmap);

/* A window that moves away between look-up and lock is looked up again; two
 * vCPUs that do nothing else could keep a third one here for ever. */
#define RETRY_MAX 16

struct flat {
	uint64_t start, last;	/* inclusive */
	struct bus_win *win;
};

struct bus {
	char *name;
	uint64_t limit;
	pthread_rwlock_t lock;
	/* under lock */
	struct bus_win **win;	/* most specific claim first */
	int count, room;
	struct flat *flat;	/* sorted; 2 * room entries */
	int flats;
};

struct bus *bus_create(const char *name, uint64_t limit)
{
	struct bus *b = xcalloc(1, sizeof(*b));
	pthread_rwlockattr_t a;

	b->name = xstrdup(name);
	b->limit = limit;
	/* Readers never nest, so a guest that reads all the time must not keep
	 * the main loop from unmapping a device. */
	pthread_rwlockattr_init(&a);
	pthread_rwlockattr_setkind_np(&a, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&b->lock, &a);
	pthread_rwlockattr_destroy(&a);
	return b;
}

void bus_destroy(struct bus *b)
{
	if (!b)
		return;
	pthread_rwlock_destroy(&b->lock);
	free(b->win);
	free(b->flat);
	free(b->name);
	free(b);
}

/* ---- the flat view ---- */

/* Index of the first range that ends at or after @addr. */
static int flat_search(const struct bus *b, uint64_t addr)
{
	int lo = 0, hi = b->flats;

	while (lo < hi) {
		int mid = lo + (hi - lo) / 2;

		if (b->flat[mid].last < addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static void flat_insert(struct bus *b, int at, uint64_t start, uint64_t last,
			struct bus_win *w)
{
	memmove(&b->flat[at + 1], &b->flat[at],
		(size_t)(b->flats - at) * sizeof(*b->flat));
	b->flat[at] = (struct flat){ start, last, w };
	b->flats++;
}

/* Give @w what no window before it has claimed. n windows have 2n ends, so
 * there are never more than 2n ranges. */
static void flat_claim(struct bus *b, struct bus_win *w)
{
	uint64_t start = w->base, last = w->base + w->size - 1;
	int i = flat_search(b, start);

	for (; i < b->flats && b->flat[i].start <= last; i++) {
		uint64_t taken_last = b->flat[i].last;

		if (start < b->flat[i].start) {
			flat_insert(b, i, start, b->flat[i].start - 1, w);
			i++;
		}
		if (taken_last >= last)
			return;
		start = taken_last + 1;
	}
	flat_insert(b, i, start, last, w);
}

static void rebuild(struct bus *b)
{
	int i;

	b->flats = 0;
	for (i = 0; i < b->count; i++)
		flat_claim(b, b->win[i]);
}

static void win_add(struct bus *b, struct bus_win *w)
{
	int i = 0;

	if (b->count == b->room) {	/* bounded by the windows devices have */
		b->room = b->room ? b->room * 2 : 16;
		b->win = xrealloc(b->win, (size_t)b->room * sizeof(struct bus_win *));
		b->flat = xrealloc(b->flat, (size_t)b->room * 2 * sizeof(*b->flat));
	}
	/* Of equal priorities the latest wins, as on QEMU's buses. */
	while (i < b->count && b->win[i]->priority > w->priority)
		i++;
	memmove(&b->win[i + 1], &b->win[i],
		(size_t)(b->count - i) * sizeof(struct bus_win *));
	b->win[i] = w;
	b->count++;
}

static void win_remove(struct bus *b, struct bus_win *w)
{
	int i = 0;

	while (b->win[i] != w)
		i++;
	b->count--;
	memmove(&b->win[i], &b->win[i + 1],
		(size_t)(b->count - i) * sizeof(struct bus_win *));
}

int bus_map(struct bus *b, struct bus_win *w, uint64_t base)
{
	assert(!w->mapped || w->bus == b);
	if (!w->size || base > b->limit || w->size > b->limit - base)
		return -ENOSPC;
	trace(bus_map, "%s %s 0x%" PRIx64 " 0x%" PRIx64, b->name, w->name, base, w->size);
	pthread_rwlock_wrlock(&b->lock);
	if (w->mapped)
		win_remove(b, w);
	w->bus = b;
	w->base = base;
	w->mapped = true;
	w->gen++;
	win_add(b, w);
	rebuild(b);
	pthread_rwlock_unlock(&b->lock);
	return 0;
}

void bus_unmap(struct bus_win *w)
{
	struct bus *b = w->bus;

	if (!b)
		return;
	pthread_rwlock_wrlock(&b->lock);
	if (w->mapped) {
		trace(bus_unmap, "%s %s", b->name, w->name);
		win_remove(b, w);
		w->mapped = false;
		w->gen++;
		rebuild(b);
	}
	pthread_rwlock_unlock(&b->lock);
}

static int by_address(const void *a, const void *b)
{
	const struct bus_win *x = *(struct bus_win *const *)a;
	const struct bus_win *y = *(struct bus_win *const *)b;

	if (x->base != y->base)
		return x->base < y->base ? -1 : 1;
	return y->priority - x->priority;
}

void bus_each(struct bus *b, void (*fn)(const struct bus_win *w, void *arg), void *arg)
{
	struct bus_win **sorted;
	int i, n;

	pthread_rwlock_rdlock(&b->lock);
	n = b->count;
	sorted = xcalloc((size_t)n + 1, sizeof(*sorted));
	for (i = 0; i < n; i++)
		sorted[i] = b->win[i];
	qsort(sorted, (size_t)n, sizeof(*sorted), by_address);
	for (i = 0; i < n; i++)
		fn(sorted[i], arg);
	pthread_rwlock_unlock(&b->lock);
	free(sorted);
}

/* ---- dispatch ---- */

/* What a look-up found for the first @len bytes of an access. */
struct hit {
	struct bus_win *win;	/* NULL: nobody */
	uint64_t off;
	uint32_t gen;		/* of the window when it was found */
	unsigned int len;
};

/* The reference keeps the device, and with it the window, from being freed
 * until hit_leave(). */
static void find(struct bus *b, uint64_t addr, unsigned int len, struct hit *h)
{
	const struct flat *f;
	int i;

	*h = (struct hit){ .len = len };
	pthread_rwlock_rdlock(&b->lock);
	i = flat_search(b, addr);
	f = i < b->flats ? &b->flat[i] : NULL;
	if (f && f->start <= addr) {
		h->win = f->win;
		h->off = addr - f->win->base;
		h->gen = atomic_load_explicit(&f->win->gen, memory_order_relaxed);
		if (f->last - addr < len)
			h->len = (unsigned int)(f->last - addr) + 1;
		if (f->win->dev)
			atomic_fetch_add_explicit(&f->win->dev->refs, 1, memory_order_relaxed);
	} else if (f && f->start - addr < len) {
		h->len = (unsigned int)(f->start - addr);
	}
	pthread_rwlock_unlock(&b->lock);
}

static void hit_leave(const struct hit *h)
{
	struct dev *d = h->win ? h->win->dev : NULL;

	if (!d)
		return;
	pthread_mutex_unlock(&d->lock);
	/* After this the device may be gone. */
	atomic_fetch_sub_explicit(&d->refs, 1, memory_order_release);
}

/*
 * Find who answers @addr and lock it. Between the look-up and the lock another
 * thread may have unmapped or moved the window, and its device may rely on
 * that: hence the generation, which only changes with the window.
 */
static void hit_enter(struct bus *b, uint64_t addr, unsigned int len, struct hit *h)
{
	struct dev *d;
	int i;

	for (i = 0; i < RETRY_MAX; i++) {
		find(b, addr, len, h);
		d = h->win ? h->win->dev : NULL;
		if (!d)
			return;
		pthread_mutex_lock(&d->lock);
		if (atomic_load_explicit(&h->win->gen, memory_order_relaxed) == h->gen)
			return;
		hit_leave(h);
	}
	*h = (struct hit){ .len = len };
}

/* The widest single access at @off that a device with or without .unaligned
 * may see, @left bytes at most. */
static unsigned int step_width(uint64_t off, unsigned int left, bool unaligned)
{
	unsigned int width = 8;

	while (width > left || (!unaligned && off % width))
		width /= 2;
	return width;
}

static uint64_t win_read(struct bus_win *w, uint64_t off, unsigned int width)
{
	uint64_t val;

	if (w->ops)
		val = w->ops->read(w, off, width);
	else
		val = reg_read(w->regs, w->dev, w->image, (uint32_t)w->size,
			       (uint32_t)off, width);
	trace(bus_read, "%s+0x%" PRIx64 "/%u -> 0x%" PRIx64, w->name, off, width, val);
	return val;
}

static void win_write(struct bus_win *w, uint64_t off, unsigned int width, uint64_t val)
{
	trace(bus_write, "%s+0x%" PRIx64 "/%u <- 0x%" PRIx64, w->name, off, width, val);
	if (w->ops)
		w->ops->write(w, off, width, val);
	else
		reg_write(w->regs, w->dev, w->image, (uint32_t)w->size,
			  (uint32_t)off, width, val);
}

/* One window's share of an access. The window may unmap or move itself in the
 * middle of a split access; the rest of that access still goes to it. */
static void hit_read(const struct hit *h, uint8_t *to)
{
	bool unaligned = h->win->ops && h->win->ops->unaligned;
	unsigned int done, width;

	for (done = 0; done < h->len; done += width) {
		width = step_width(h->off + done, h->len - done, unaligned);
		put_le(to + done, width, win_read(h->win, h->off + done, width));
	}
}

static void hit_write(const struct hit *h, const uint8_t *from)
{
	bool unaligned = h->win->ops && h->win->ops->unaligned;
	unsigned int done, width;

	for (done = 0; done < h->len; done += width) {
		width = step_width(h->off + done, h->len - done, unaligned);
		win_write(h->win, h->off + done, width, get_le(from + done, width));
	}
}

/* How much of an access lies on the bus at all; so nothing below wraps. */
static unsigned int within(const struct bus *b, uint64_t addr, unsigned int len)
{
	if (addr >= b->limit)
		return 0;
	return (unsigned int)MIN((uint64_t)len, b->limit - addr);
}

void bus_read(struct bus *b, uint64_t addr, void *data, unsigned int len)
{
	uint8_t *to = data;
	struct hit h;

	memset(to, 0xff, len);		/* what nobody drives */
	len = within(b, addr, len);
	for (; len; len -= h.len, addr += h.len, to += h.len) {
		hit_enter(b, addr, len, &h);
		if (h.win)
			hit_read(&h, to);
		hit_leave(&h);
	}
}

void bus_write(struct bus *b, uint64_t addr, const void *data, unsigned int len)
{
	const uint8_t *from = data;
	struct hit h;

	len = within(b, addr, len);
	for (; len; len -= h.len, addr += h.len, from += h.len) {
		hit_enter(b, addr, len, &h);
		if (h.win)
			hit_write(&h, from);
		hit_leave(&h);
	}
}

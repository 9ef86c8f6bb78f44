/*
 * pci/enumerate.c - what firmware does: bus numbers, addresses, windows.
 *
 * Spec:    PCI-to-PCI Bridge 1.2 s3.2.5 (windows); PCI Firmware 3.2 s3.5.
 * Threads: main loop while no vCPU runs; config lock held throughout.
 * Missing: expansion ROMs, SR-IOV BARs.
 *
 * Bottom up each bus learns what it needs of each space, then top down it is
 * given a stretch. On one bus the largest alignment goes first, so that little
 * is lost between neighbours. Bridges keep their reserves free for devices that
 * are plugged later; reserves that nobody asked for shrink when the windows of
 * the root are too small for all.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pci/bridge.h"
#include "vmm/base/util.h"

/* A 64-bit BAR that is not prefetchable cannot move through a bridge's 64-bit
 * window, but on the root bus it can leave the small hole below 4 GiB. */
#define LARGE_BAR	(16 * MIB)

struct item {
	struct pci_dev *p;
	int bar;		/* -1: the window of bridge @p */
	int order;		/* keeps the sort stable */
	uint64_t size, align, base;
};

struct items {
	struct item *v;
	int n, room;
};

enum reserves { RESERVES_FULL, RESERVES_SMALL, RESERVES_EXPLICIT, RESERVES_LEVELS };

struct plan {
	struct pci_root *r;
	enum reserves level;
	int last;				/* bus number of the present root bus */
	/* Of pcie.0, less what is cut off for expanders; align unused. */
	struct pci_need window[PCI_SPACES];
	struct item over;			/* the first that did not fit */
};

static const char *const space_words[PCI_SPACES] = {
	"32-bit memory", "64-bit memory", "I/O"
};
static const uint64_t grain[PCI_SPACES] = { MIB, MIB, 4 * KIB };

/* ---- bus numbers ---- */

static int number_bridge(struct plan *pl, struct pci_dev *p, int primary, int *next,
			 struct err *e);

static int number_below(struct plan *pl, const struct pci_bus *b, int number, int *next,
			struct err *e)
{
	int i, r = 0;

	for (i = 0; i < 256 && !r; i++)
		if (b->slot[i] && b->slot[i]->child)
			r = number_bridge(pl, b->slot[i], number, next, e);
	return r;
}

static int number_bridge(struct plan *pl, struct pci_dev *p, int primary, int *next,
			 struct err *e)
{
	const struct pci_bridge *br = (const struct pci_bridge *)p;
	int sec = (*next)++, r;

	if (sec <= pl->last) {
		r = number_below(pl, p->child, sec, next, e);
		if (r)
			return r;
	}
	*next = MAX(*next, sec + (int)br->bus_reserve + 1);
	if (*next - 1 > pl->last)
		return err_set(e, -ENOSPC,
			       "%s '%s' needs the bus numbers %d to %d, but %d is the last; "
			       "use fewer ports or less bus-reserve",
			       p->dev.type->name, p->dev.path, sec, *next - 1,
			       pl->last);
	pci_poke8(p, PCI_PRIMARY_BUS, (uint8_t)primary);
	pci_poke8(p, PCI_SECONDARY_BUS, (uint8_t)sec);
	pci_poke8(p, PCI_SUBORDINATE_BUS, (uint8_t)(*next - 1));
	return 0;
}

static int number_all(struct plan *pl, struct err *e)
{
	struct pci_bus *b = NULL;
	int next, r = 0;

	while (r == 0 && (b = pci_root_bus_next(pl->r, b))) {
		next = b->number + 1;
		pl->last = pci_root_bus_last(b);
		r = number_below(pl, b, b->number, &next, e);
	}
	return r;
}

/* A guest looks at functions 1..7 only where it finds a function 0. Those that
 * were plugged may still be waiting for theirs. */
static int check_slots(const struct pci_root *r, struct err *e)
{
	const struct pci_bus *b;
	int i;

	for (b = r->buses; b; b = b->next)
		for (i = 0; i < 256; i++)
			if (b->slot[i] && !b->slot[i & ~7] && !b->slot[i]->dev.hotplugged)
				return err_set(e, -EINVAL,
					       "%s: slot %x on '%s' has a function %d but no "
					       "function 0, so no guest would find it",
					       b->slot[i]->dev.path, i >> 3, b->name, i & 7);
	return 0;
}

/* ---- what a bus holds ---- */

static void add_item(struct items *it, struct pci_dev *p, int bar, uint64_t size,
		     uint64_t align)
{
	if (it->n == it->room) {	/* bounded by the topology */
		it->room = it->room ? 2 * it->room : 64;
		it->v = xrealloc(it->v, (size_t)it->room * sizeof(it->v[0]));
	}
	it->v[it->n] = (struct item){ p, bar, it->n, size, align, 0 };
	it->n++;
}

static enum pci_space place_of(const struct plan *pl, const struct pci_dev *p, int bar)
{
	const struct pci_bar *b = &p->bar[bar];
	enum pci_space s = pci_bar_space(p, bar);

	if (s == PCI_SPACE_PREF && !pl->window[PCI_SPACE_PREF].size)
		return PCI_SPACE_MEM;
	if (s == PCI_SPACE_MEM && (b->flags & PCI_BASE_ADDRESS_MEM_TYPE_64) &&
	    !p->bus->bridge && b->win.size >= LARGE_BAR && pl->window[PCI_SPACE_PREF].size)
		return PCI_SPACE_PREF;
	return s;
}

static int by_alignment(const void *a, const void *b)
{
	const struct item *x = a, *y = b;

	if (x->align != y->align)
		return x->align > y->align ? -1 : 1;
	return x->order - y->order;
}

static void collect(const struct plan *pl, const struct pci_bus *b, enum pci_space s,
		    struct items *it)
{
	int i, n;

	it->n = 0;
	for (i = 0; i < 256; i++) {
		struct pci_dev *p = b->slot[i];

		for (n = 0; p && n < PCI_BARS; n++)
			if (p->bar[n].win.size && place_of(pl, p, n) == s)
				add_item(it, p, n, p->bar[n].win.size, p->bar[n].win.size);
		if (p && p->child && p->child->need[s].size)
			add_item(it, p, -1, p->child->need[s].size, p->child->need[s].align);
	}
	if (it->n)
		qsort(it->v, (size_t)it->n, sizeof(it->v[0]), by_alignment);
}

/* Sizes are those of BARs and reserves, 2^46 at most: sums do not overflow. */
static uint64_t lay_out(struct items *it, uint64_t base)
{
	int i;

	for (i = 0; i < it->n; i++) {
		it->v[i].base = align_up(base, it->v[i].align);
		base = it->v[i].base + it->v[i].size;
	}
	return base;
}

/* ---- bottom up: sizes ---- */

static uint64_t reserve_of(const struct plan *pl, const struct pci_bridge *b,
			   enum pci_space s)
{
	static const char *const names[PCI_SPACES] = {
		"mem-reserve", "pref64-reserve", "io-reserve"
	};
	const uint64_t sizes[PCI_SPACES] = { b->mem_reserve, b->pref64_reserve, b->io_reserve };

	if (!pl->window[s].size)
		return 0;
	if (json_object_get(b->pci.dev.args, names[s]) || pl->level == RESERVES_FULL)
		return sizes[s];
	return pl->level == RESERVES_SMALL ? MIN(sizes[s], grain[s]) : 0;
}

static void size_bus(const struct plan *pl, struct pci_bus *b, struct items *it)
{
	enum pci_space s;
	int i;

	for (i = 0; i < 256; i++)
		if (b->slot[i] && b->slot[i]->child)
			size_bus(pl, b->slot[i]->child, it);
	for (s = 0; (b->bridge || b->expander) && s < PCI_SPACES; s++) {
		uint64_t size;

		collect(pl, b, s, it);
		size = lay_out(it, 0);
		if (b->bridge)
			size = MAX(size, reserve_of(pl, (struct pci_bridge *)b->bridge, s));
		b->need[s].size = align_up(size, grain[s]);
		b->need[s].align = it->n ? MAX(it->v[0].align, grain[s]) : grain[s];
	}
}

/* ---- top down: addresses ---- */

static void place_bus(const struct plan *pl, struct pci_bus *b, struct items *it)
{
	enum pci_space s;
	int i;

	for (s = 0; s < PCI_SPACES; s++) {
		collect(pl, b, s, it);
		lay_out(it, b->need[s].base);
		for (i = 0; i < it->n; i++) {
			if (it->v[i].bar >= 0)
				pci_bar_assign(it->v[i].p, it->v[i].bar, it->v[i].base);
			else
				it->v[i].p->child->need[s].base = it->v[i].base;
		}
	}
	for (i = 0; i < 256; i++) {
		struct pci_dev *p = b->slot[i];

		if (!p || !p->child)
			continue;
		for (s = 0; s < PCI_SPACES; s++)
			pci_bridge_set_window((struct pci_bridge *)p, s,
					      p->child->need[s].base, p->child->need[s].size);
		place_bus(pl, p->child, it);
	}
}

/* What is on the expanders' buses, cut from the ends of the windows. */
static bool carve(struct plan *pl, struct pci_bus *b, enum pci_space s)
{
	struct pci_need *w = &pl->window[s], *n = &b->need[s];

	n->base = w->base;
	if (!n->size)
		return true;
	if (n->size <= w->size)
		n->base = (w->base + w->size - n->size) & ~(n->align - 1);
	if (n->size > w->size || n->base < w->base) {
		pl->over = (struct item){ .p = b->expander, .bar = -1, .size = n->size };
		return false;
	}
	w->size = n->base - w->base;
	return true;
}

static int carve_all(struct plan *pl, struct items *it, enum pci_space *s)
{
	struct pci_bus *b = pl->r->bus0;

	while ((b = pci_root_bus_next(pl->r, b))) {
		size_bus(pl, b, it);
		for (*s = 0; *s < PCI_SPACES; (*s)++)
			if (!carve(pl, b, *s))
				return -ENOSPC;
	}
	return 0;
}

/* Does an item end beyond its window? The first one is pl->over. */
static bool overflows(struct plan *pl, struct items *it, enum pci_space s)
{
	const struct pci_need *w = &pl->window[s];
	int i;

	collect(pl, pl->r->bus0, s, it);
	lay_out(it, w->base);
	for (i = 0; i < it->n; i++)
		if (it->v[i].base - w->base > w->size ||
		    it->v[i].size > w->size - (it->v[i].base - w->base)) {
			pl->over = it->v[i];
			return true;
		}
	return false;
}

static int no_space(const struct plan *pl, enum pci_space s, struct err *e)
{
	const struct item *x = &pl->over;
	char name[16];

	return err_set(e, -ENOSPC,
		       "%s '%s' (%s) needs %llu KiB of %s space%s, which do not fit into "
		       "the machine's %llu KiB",
		       x->p->dev.type->name, x->p->dev.path, pci_name(x->p, name),
		       (unsigned long long)align_up(x->size, KIB) / KIB, space_words[s],
		       x->bar < 0 ? " for what is behind it" : "",
		       (unsigned long long)pl->window[s].size / KIB);
}

static void root_windows(struct plan *pl)
{
	const struct pci_windows *w = &pl->r->win;

	pl->window[PCI_SPACE_MEM] = (struct pci_need){ w->mmio32_size, 0, w->mmio32_base };
	pl->window[PCI_SPACE_PREF] = (struct pci_need){ w->mmio64_size, 0, w->mmio64_base };
	pl->window[PCI_SPACE_IO] = (struct pci_need){ w->pio_size, 0, w->pio_base };
}

static int fit(struct plan *pl, struct items *it, struct err *e)
{
	enum pci_space s = 0;

	for (pl->level = 0; pl->level < RESERVES_LEVELS; pl->level++) {
		root_windows(pl);
		if (carve_all(pl, it, &s))
			continue;
		size_bus(pl, pl->r->bus0, it);
		for (s = 0; s < PCI_SPACES && !overflows(pl, it, s); s++)
			;
		if (s == PCI_SPACES)
			return 0;
	}
	return no_space(pl, s, e);
}

/* ---- command registers and interrupt lines ---- */

static uint16_t command_for(const struct pci_dev *p)
{
	uint16_t cmd = 0;
	int n;

	for (n = 0; n < PCI_BARS; n++) {
		if (!p->bar[n].win.size)
			continue;
		cmd |= pci_bar_space(p, n) == PCI_SPACE_IO ? PCI_COMMAND_IO
							   : PCI_COMMAND_MEMORY;
	}
	if (p->child) {
		cmd |= PCI_COMMAND_MASTER;
		if (p->child->need[PCI_SPACE_MEM].size || p->child->need[PCI_SPACE_PREF].size)
			cmd |= PCI_COMMAND_MEMORY;
		if (p->child->need[PCI_SPACE_IO].size)
			cmd |= PCI_COMMAND_IO;
	}
	return cmd;
}

/* Through the masks and hooks, as the guest would. */
static void switch_on(struct pci_dev *p, void *arg)
{
	pthread_mutex_lock(&p->dev.lock);
	if (p->intx_wired)
		pci_poke8(p, PCI_INTERRUPT_LINE, (uint8_t)p->intx.gsi);
	pci_express_common_clock(p);
	pci_config_store(p, PCI_COMMAND, 2, pci_get16(p, PCI_COMMAND) | command_for(p));
	pci_slot_settle(p);
	pthread_mutex_unlock(&p->dev.lock);
	p->child_stale = false;		/* what is behind comes later in the walk */
}

int pci_enumerate(struct pci_root *r, struct err *e)
{
	struct plan pl = { .r = r };
	struct items it = { NULL };
	struct pci_bus *b = NULL;
	int err;

	pthread_mutex_lock(&r->lock);
	pci_eject_count(r);
	err = check_slots(r, e);
	if (!err)
		err = number_all(&pl, e);
	pci_routes_update(r);
	if (!err)
		err = fit(&pl, &it, e);
	if (!err) {
		memcpy(r->bus0->need, pl.window, sizeof(pl.window));
		while ((b = pci_root_bus_next(r, b)))
			place_bus(&pl, b, &it);
		pci_each(r, switch_on, NULL);
	}
	pthread_mutex_unlock(&r->lock);
	free(it.v);
	return err;
}

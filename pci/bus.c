/*
 * pci/bus.c - buses, and which function a bus number and devfn mean.
 *
 * Spec:    PCI-to-PCI Bridge 1.2 s3.1 (type 0 and 1 configuration cycles).
 * Threads: config accesses take the root's lock, then the function's; the
 *          topology changes on the main loop with the root's lock held.
 * Missing: nothing known.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pci/internal.h"
#include "vmm/base/util.h"

TRACE_DEFINE(pci_config_read);
TRACE_DEFINE(pci_config_write);

struct pci_bus *pci_bus_create(struct pci_root *r, const char *name, struct pci_dev *bridge)
{
	struct pci_bus *b = xcalloc(1, sizeof(*b));

	b->name = xstrdup(name);
	b->root = r;
	b->bridge = bridge;
	b->last_slot = 31;
	b->numa_node = PCI_NUMA_NONE;
	pthread_mutex_lock(&r->lock);
	b->next = r->buses;
	r->buses = b;
	if (bridge)
		bridge->child = b;
	pthread_mutex_unlock(&r->lock);
	return b;
}

void pci_bus_destroy(struct pci_bus *b)
{
	struct pci_root *r;
	struct pci_bus **at;

	if (!b)
		return;
	r = b->root;
	pthread_mutex_lock(&r->lock);
	for (at = &r->buses; *at != b; at = &(*at)->next)
		;
	*at = b->next;
	if (b->bridge)
		b->bridge->child = NULL;
	pci_routes_update(r);
	pthread_mutex_unlock(&r->lock);
	free(b->name);
	free(b);
}

struct pci_bus *pci_bus_find(struct pci_root *r, const char *name)
{
	struct pci_bus *b;

	for (b = r->buses; b; b = b->next)
		if (strcmp(b->name, name) == 0)
			return b;
	return NULL;
}

struct pci_bus *pci_root_bus_next(const struct pci_root *r, const struct pci_bus *after)
{
	struct pci_bus *b, *found = NULL;

	if (!after)
		return r->bus0;
	for (b = r->buses; b; b = b->next)
		if (b->expander && b->number > after->number &&
		    (!found || b->number < found->number))
			found = b;
	return found;
}

uint8_t pci_root_bus_last(const struct pci_bus *b)
{
	const struct pci_bus *next = pci_root_bus_next(b->root, b);

	return next ? (uint8_t)(next->number - 1) : b->root->win.buses;
}

uint16_t pci_rid(const struct pci_dev *p)
{
	const struct pci_dev *bridge = p->bus ? p->bus->bridge : NULL;
	uint8_t bus = bridge ? pci_peek8(bridge, PCI_SECONDARY_BUS) : p->bus ? p->bus->number : 0;

	return (uint16_t)(bus << 8 | p->devfn);
}

const char *pci_name(const struct pci_dev *p, char *buf)
{
	snprintf(buf, 16, "%02x:%02x.%x", pci_rid(p) >> 8, p->devfn >> 3, p->devfn & 7);
	return buf;
}

/* ---- routing ---- */

/* Bridges on @b carry the numbers from @first to @last, no more; of two that
 * claim the same number the one with the lower devfn gets it. */
static void route_below(struct pci_root *r, const struct pci_bus *b, int first, int last)
{
	int i, sec, sub;

	for (i = 0; i < 256; i++) {
		const struct pci_dev *p = b->slot[i];

		if (!p || !p->child || !p->visible)
			continue;
		sec = pci_peek8(p, PCI_SECONDARY_BUS);
		sub = MIN((int)pci_peek8(p, PCI_SUBORDINATE_BUS), last);
		if (sec < first || sec > sub || r->by_number[sec])
			continue;
		r->by_number[sec] = p->child;
		route_below(r, p->child, sec + 1, sub);
	}
}

void pci_routes_update(struct pci_root *r)
{
	struct pci_bus *b = NULL;

	memset(r->by_number, 0, sizeof(r->by_number));
	while ((b = pci_root_bus_next(r, b))) {
		r->by_number[b->number] = b;
		route_below(r, b, b->number + 1, pci_root_bus_last(b));
	}
}

static struct pci_dev *lookup(const struct pci_root *r, uint16_t bdf)
{
	const struct pci_bus *b = r->by_number[bdf >> 8];
	struct pci_dev *p = b ? b->slot[bdf & 0xff] : NULL;

	if (!p || !p->visible || (b->bridge && !pci_express_link_up(b->bridge)))
		return NULL;
	return p;
}

uint32_t pci_config_read(struct pci_root *r, uint16_t bdf, uint16_t off, unsigned int len)
{
	uint32_t val = 0xffffffffu >> (32 - 8 * len);	/* what nobody drives */
	struct pci_dev *p;

	pthread_mutex_lock(&r->lock);
	p = lookup(r, bdf);
	if (p) {
		pthread_mutex_lock(&p->dev.lock);
		val = pci_config_load(p, off, len);
		pthread_mutex_unlock(&p->dev.lock);
	}
	pthread_mutex_unlock(&r->lock);
	trace(pci_config_read, "%04x+0x%x/%u -> 0x%x", bdf, off, len, val);
	return val;
}

void pci_config_write(struct pci_root *r, uint16_t bdf, uint16_t off, unsigned int len,
		      uint32_t val)
{
	struct pci_dev *p;

	trace(pci_config_write, "%04x+0x%x/%u <- 0x%x", bdf, off, len, val);
	pthread_mutex_lock(&r->lock);
	p = lookup(r, bdf);
	if (p) {
		pthread_mutex_lock(&p->dev.lock);
		pci_config_store(p, off, len, val);
		pthread_mutex_unlock(&p->dev.lock);
		/* Only now, because no two devices' locks are held at once. */
		if (p->child_stale)
			pci_bars_update_behind(p);
	}
	pthread_mutex_unlock(&r->lock);
}

static void each_on(struct pci_bus *b, void (*fn)(struct pci_dev *p, void *arg), void *arg)
{
	struct pci_dev *p;
	int i;

	for (i = 0; i < 256; i++) {
		p = b->slot[i];
		if (!p || !p->visible)
			continue;
		fn(p, arg);
		if (p->child)
			each_on(p->child, fn, arg);
	}
}

void pci_each(struct pci_root *r, void (*fn)(struct pci_dev *p, void *arg), void *arg)
{
	struct pci_bus *b = NULL;

	while ((b = pci_root_bus_next(r, b)))
		each_on(b, fn, arg);
}

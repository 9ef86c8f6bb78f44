/*
 * vmm/core/irq.c - interrupts: lines that sources share, messages, routes.
 *
 * Threads: any. `lock` orders the changes of the lines, and is held while the
 *          back end is told, or two threads could tell it in the wrong order;
 *          the back end is one system call that does not wait. Changing a
 *          route does wait (for readers in the kernel), so routes have a lock
 *          of their own. Both are leaves.
 * Missing: nothing known.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "vmm/base/util.h"
#include "vmm/core/irq.h"

struct irqchip {
	const struct irq_ops *ops;
	void *arg;
	uint32_t lines;		/* wired GSIs: 0..lines-1 */
	uint32_t routes;	/* message GSIs: lines..lines+routes-1 */
	pthread_mutex_t lock;
	uint16_t *sources;	/* lock: asserting sources per line */
	pthread_mutex_t route_lock;
	bool *route_used;	/* route_lock */
	_Atomic uint64_t edges, msis;
};

struct irqchip *irq_create(const struct irq_ops *ops, void *arg, uint32_t lines,
			   uint32_t routes)
{
	struct irqchip *c = xcalloc(1, sizeof(*c));

	c->ops = ops;
	c->arg = arg;
	c->lines = lines;
	c->routes = routes;
	c->sources = xcalloc(lines + 1, sizeof(*c->sources));
	c->route_used = xcalloc(routes + 1, sizeof(*c->route_used));
	pthread_mutex_init(&c->lock, NULL);
	pthread_mutex_init(&c->route_lock, NULL);
	return c;
}

void irq_destroy(struct irqchip *c)
{
	if (!c)
		return;
	pthread_mutex_destroy(&c->route_lock);
	pthread_mutex_destroy(&c->lock);
	free(c->route_used);
	free(c->sources);
	free(c);
}

void *irq_arg(struct irqchip *c)
{
	return c->arg;
}

/* ---- wired lines ---- */

static void line_up(struct irqchip *c, uint32_t gsi)
{
	if (c->sources[gsi]++ > 0)
		return;
	atomic_fetch_add_explicit(&c->edges, 1, memory_order_relaxed);
	c->ops->set_line(c, gsi, true);
}

static void line_down(struct irqchip *c, uint32_t gsi)
{
	if (--c->sources[gsi] == 0)
		c->ops->set_line(c, gsi, false);
}

void irq_pin_init(struct irq_pin *p, struct irqchip *c, uint32_t gsi)
{
	assert(gsi < c->lines);		/* wiring is the machine's, not the guest's */
	p->chip = c;
	p->gsi = gsi;
	p->level = false;
}

void irq_pin_set(struct irq_pin *p, bool level)
{
	struct irqchip *c = p->chip;

	pthread_mutex_lock(&c->lock);
	if (level != p->level) {
		p->level = level;
		if (level)
			line_up(c, p->gsi);
		else
			line_down(c, p->gsi);
	}
	pthread_mutex_unlock(&c->lock);
}

void irq_pin_move(struct irq_pin *p, uint32_t gsi)
{
	struct irqchip *c = p->chip;

	assert(gsi < c->lines);
	pthread_mutex_lock(&c->lock);
	if (gsi != p->gsi && p->level) {
		line_down(c, p->gsi);
		line_up(c, gsi);
	}
	p->gsi = gsi;
	pthread_mutex_unlock(&c->lock);
}

void irq_pulse(struct irqchip *c, uint32_t gsi)
{
	assert(gsi < c->lines);
	pthread_mutex_lock(&c->lock);
	line_up(c, gsi);	/* no edge where a source holds the line up */
	line_down(c, gsi);
	pthread_mutex_unlock(&c->lock);
}

/* ---- messages ---- */

int irq_msi(struct irqchip *c, const struct irq_msg *m)
{
	atomic_fetch_add_explicit(&c->msis, 1, memory_order_relaxed);
	return c->ops->signal_msi(c, m);
}

/* ---- routes ---- */

int irq_route_alloc(struct irqchip *c, const struct irq_msg *m, uint32_t *gsi)
{
	uint32_t i;
	int r = -ENOSPC;

	pthread_mutex_lock(&c->route_lock);
	for (i = 0; i < c->routes && c->route_used[i]; i++)
		;
	if (i < c->routes) {
		r = c->ops->route_set(c, c->lines + i, m);
		if (r == 0) {
			c->route_used[i] = true;
			*gsi = c->lines + i;
		}
	}
	pthread_mutex_unlock(&c->route_lock);
	return r;
}

static bool is_route(const struct irqchip *c, uint32_t gsi)
{
	return gsi - c->lines < c->routes && c->route_used[gsi - c->lines];
}

int irq_route_update(struct irqchip *c, uint32_t gsi, const struct irq_msg *m)
{
	int r;

	pthread_mutex_lock(&c->route_lock);
	assert(is_route(c, gsi));
	r = c->ops->route_set(c, gsi, m);
	pthread_mutex_unlock(&c->route_lock);
	return r;
}

int irq_route_fd(struct irqchip *c, uint32_t gsi, int fd, bool on)
{
	return c->ops->irqfd(c, gsi, fd, -1, on);
}

void irq_route_free(struct irqchip *c, uint32_t gsi)
{
	pthread_mutex_lock(&c->route_lock);
	assert(is_route(c, gsi));
	c->ops->route_set(c, gsi, NULL);
	c->route_used[gsi - c->lines] = false;
	pthread_mutex_unlock(&c->route_lock);
}

struct irq_stats irq_stats(const struct irqchip *c)
{
	return (struct irq_stats){
		.lines = atomic_load_explicit(&c->edges, memory_order_relaxed),
		.msis = atomic_load_explicit(&c->msis, memory_order_relaxed),
	};
}

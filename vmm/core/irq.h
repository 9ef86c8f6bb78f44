/*
 * vmm/core/irq.h - interrupts into the guest: wired lines and messages.
 *
 * Threads: all functions may be called from any thread; the lock in here is a
 * leaf. The back end is KVM's irqchip in a VM and a recorder in device tests.
 *
 * A message needs no route and no descriptor: irq_msi() is one system call
 * (KVM_SIGNAL_MSI), the same price as writing an irqfd, and masking a vector
 * costs nothing, where each change of the GSI routing table costs the kernel
 * an SRCU grace period. Devices outside this process (vhost, VFIO) get an
 * irqfd with a route on request: irq_route_*().
 */
#ifndef VMM_CORE_IRQ_H
#define VMM_CORE_IRQ_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/err.h"

struct vm;
struct irqchip;

struct irq_msg {
	uint64_t addr;
	uint32_t data;
	uint32_t devid;		/* requester id, for interrupt remapping and arm64 ITS */
};

/* What a back end does; one literal in vmm/arch, one in tests/dev. Calls of
 * set_line come one at a time, so do those of route_set. 0 or -errno. */
struct irq_ops {
	int (*set_line)(struct irqchip *c, uint32_t gsi, bool level);
	int (*signal_msi)(struct irqchip *c, const struct irq_msg *m);
	/* @m NULL: the route is no longer used. */
	int (*route_set)(struct irqchip *c, uint32_t gsi, const struct irq_msg *m);
	int (*irqfd)(struct irqchip *c, uint32_t gsi, int fd, int resample_fd, bool on);
};

/* Wired GSIs are 0..@lines-1, routes get those from @lines on. */
struct irqchip *irq_create(const struct irq_ops *ops, void *arg, uint32_t lines,
			   uint32_t routes);
void irq_destroy(struct irqchip *c);	/* not @arg; NULL is allowed */
void *irq_arg(struct irqchip *c);

/*
 * A wired, level-triggered line shared by several sources: asserted while any
 * source asserts it. A source is a struct the device embeds.
 */
struct irq_pin {
	struct irqchip *chip;
	uint32_t gsi;
	bool level;
};
void irq_pin_init(struct irq_pin *p, struct irqchip *c, uint32_t gsi);
void irq_pin_set(struct irq_pin *p, bool level);
/* Rewire (PCI link devices); keeps the level. */
void irq_pin_move(struct irq_pin *p, uint32_t gsi);
/* An edge: up, then down (ISA). */
void irq_pulse(struct irqchip *c, uint32_t gsi);

/* Deliver a message now. 0 or -errno; < 0 also when the guest blocked it. */
int irq_msi(struct irqchip *c, const struct irq_msg *m);

/*
 * A route with an eventfd for users outside this process. Allocate a GSI above
 * the wired ones; set its message (again after the guest rewrote it); connect
 * the eventfd. Fails with -ENOSPC when the routing table is full.
 */
int irq_route_alloc(struct irqchip *c, const struct irq_msg *m, uint32_t *gsi);
int irq_route_update(struct irqchip *c, uint32_t gsi, const struct irq_msg *m);
int irq_route_fd(struct irqchip *c, uint32_t gsi, int fd, bool on);
void irq_route_free(struct irqchip *c, uint32_t gsi);

/* Deliveries since creation: wired edges and messages. */
struct irq_stats {
	uint64_t lines, msis;
};
struct irq_stats irq_stats(const struct irqchip *c);

#endif

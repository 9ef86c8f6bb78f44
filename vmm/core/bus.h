/*
 * vmm/core/bus.h - port and memory-mapped I/O: from an exit to a register.
 *
 * Two address spaces per VM. A window (struct bus_win) is a range that one
 * device answers. Look-ups take the space's read lock only while the table is
 * searched; the callback then runs under the device's lock, so a callback may
 * move windows (a BAR write does). Lock order: device, then bus, never back.
 *
 * An access that no window claims reads as all ones and writes nothing; one
 * that crosses a window's end is split by the bus at the edge, so a device
 * never sees a byte that is not its own (first and last byte are checked).
 */
#ifndef VMM_CORE_BUS_H
#define VMM_CORE_BUS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/err.h"

struct dev;
struct reg;
struct bus_win;

enum bus_space { BUS_PIO, BUS_MMIO, BUS_SPACES };

struct bus_win_ops {
	/* @off is within the window, @width 1, 2, 4 or 8, off+width <= size.
	 * Accesses not aligned within the window reach a device only with
	 * .unaligned, else they are split. Device lock held. */
	uint64_t (*read)(struct bus_win *w, uint64_t off, unsigned int width);
	void (*write)(struct bus_win *w, uint64_t off, unsigned int width, uint64_t val);
	bool unaligned;
};

struct bus_win {
	const char *name;	/* for traces and `info mtree` */
	struct dev *dev;	/* owner; its lock is held around callbacks.
				 * NULL: the callbacks lock for themselves, and
				 * the window outlives the last access */
	uint64_t size;		/* bytes */
	const struct bus_win_ops *ops;	/* or a register table: */
	const struct reg *regs;
	void *image;		/* registers' values, @size bytes, owner's */
	void *arg;
	int priority;		/* higher wins where windows overlap, then
				 * the one that was mapped last */
	/* private, bus lock */
	struct bus *bus;
	uint64_t base;
	bool mapped;
	_Atomic uint32_t gen;	/* changes whenever the window does */
};

struct bus;

/* An empty space of @limit bytes. */
struct bus *bus_create(const char *name, uint64_t limit);
/* Nobody may use it any more; windows need not be unmapped. NULL allowed. */
void bus_destroy(struct bus *b);

/* Show @w at @base, or move it there. -ENOSPC when it runs past the space's
 * end (it then stays as it was). Any thread, device lock allowed. */
int bus_map(struct bus *b, struct bus_win *w, uint64_t base);
/* After return no new callback starts; one that runs on another thread holds
 * the device lock, so with that lock held none runs at all. A window that is
 * not mapped is left alone. */
void bus_unmap(struct bus_win *w);

/* An access from a vCPU, any width 1..8, any alignment; never fails. */
void bus_read(struct bus *b, uint64_t addr, void *data, unsigned int len);
void bus_write(struct bus *b, uint64_t addr, const void *data, unsigned int len);

/* Visit windows in address order (info mtree). @fn must not map or access. */
void bus_each(struct bus *b, void (*fn)(const struct bus_win *w, void *arg), void *arg);

#endif

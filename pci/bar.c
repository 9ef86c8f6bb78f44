/*
 * pci/bar.c - base address registers, and where their windows are right now.
 *
 * Spec:    PCI Local Bus 3.0 s6.2.5.1; PCIe Base 5.0 s7.5.1.2.1.
 * Threads: updates hold the config lock and the device lock, or run while no
 *          vCPU does. The bus has its own lock.
 * Missing: expansion ROMs.
 *
 * A BAR is on the bus while the command register enables its space, the
 * function is in D0, the address is a possible one, and every bridge above
 * forwards the whole of it. After any change of these the wanted state is
 * computed anew and compared with the present one, so that there is one path
 * for sizing, moving, toggling and bridge windows.
 *
 * What lies below wins over nothing else: RAM is answered by KVM before an
 * access reaches a bus, ECAM has a higher priority, and an address beyond the
 * CPU's physical bits is beyond the bus's limit, where bus_map() refuses.
 */
#include <assert.h>
#include <errno.h>

#include "pci/internal.h"
#include "vmm/base/util.h"
#include "vmm/core/vm.h"

TRACE_DEFINE(pci_bar);

static uint16_t bar_off(int n)
{
	return (uint16_t)(PCI_BASE_ADDRESS_0 + 4 * n);
}

static bool is_io(const struct pci_bar *b)
{
	return b->flags & PCI_BASE_ADDRESS_SPACE_IO;
}

static bool is_64(const struct pci_bar *b)
{
	return !is_io(b) && (b->flags & PCI_BASE_ADDRESS_MEM_TYPE_64);
}

/* s6.2.5.1: the low bits of a BAR are its type. */
static uint32_t type_bits(const struct pci_bar *b)
{
	return is_io(b) ? 0x3 : 0xf;
}

enum pci_space pci_bar_space(const struct pci_dev *p, int n)
{
	const struct pci_bar *b = &p->bar[n];

	if (is_io(b))
		return PCI_SPACE_IO;
	if (is_64(b) && (b->flags & PCI_BASE_ADDRESS_MEM_PREFETCH))
		return PCI_SPACE_PREF;
	return PCI_SPACE_MEM;
}

/* The address in the register, type bits cut off. */
uint64_t pci_bar_value(const struct pci_dev *p, int n)
{
	const struct pci_bar *b = &p->bar[n];
	uint64_t v = pci_get32(p, bar_off(n)) & ~type_bits(b);

	if (is_64(b))
		v |= (uint64_t)pci_get32(p, bar_off(n + 1)) << 32;
	return v;
}

void pci_bar_assign(struct pci_dev *p, int n, uint64_t addr)
{
	const struct pci_bar *b = &p->bar[n];
	uint32_t low = pci_get32(p, bar_off(n)) & type_bits(b);

	pci_poke32(p, bar_off(n), low | (uint32_t)(addr & ~(uint64_t)type_bits(b)));
	if (is_64(b))
		pci_poke32(p, bar_off(n + 1), (uint32_t)(addr >> 32));
}

/* Address 0 means "not assigned" to every guest, and all ones is a guest that
 * asks for the size; neither is worth a window that something else may need. */
static bool address_possible(const struct pci_bar *b, uint64_t addr)
{
	uint64_t ones = is_64(b) ? UINT64_MAX : UINT32_MAX;

	return addr && addr != (ones & ~(b->win.size - 1));
}

static bool bar_wanted(const struct pci_dev *p, int n, uint64_t *addr)
{
	const struct pci_bar *b = &p->bar[n];
	uint8_t enable = is_io(b) ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
	const struct pci_bus *bus;

	if (!p->visible || !(pci_peek8(p, PCI_COMMAND) & enable) || !pci_in_d0(p))
		return false;
	*addr = pci_bar_value(p, n);
	if (!address_possible(b, *addr))
		return false;
	for (bus = p->bus; bus->bridge; bus = bus->bridge->bus)
		if (!pci_bridge_forwards(bus->bridge, is_io(b), *addr, b->win.size))
			return false;
	return true;
}

static void bar_leave(struct pci_dev *p, int n)
{
	struct pci_bar *b = &p->bar[n];

	b->mapped = false;
	if (b->moved)
		b->moved(p, n, false, b->addr);
	bus_unmap(&b->win);
}

static void bar_appear(struct pci_dev *p, int n, uint64_t addr)
{
	struct pci_bar *b = &p->bar[n];
	enum bus_space space = is_io(b) ? BUS_PIO : BUS_MMIO;

	if (bus_map(p->dev.vm->bus[space], &b->win, addr))
		return;		/* past the end of the address space */
	b->addr = addr;
	b->mapped = true;
	if (b->moved)
		b->moved(p, n, true, addr);
}

static void bar_update(struct pci_dev *p, int n)
{
	struct pci_bar *b = &p->bar[n];
	uint64_t addr = 0;
	bool wanted = bar_wanted(p, n, &addr);

	if (wanted == b->mapped && (!wanted || addr == b->addr))
		return;
	trace(pci_bar, "%s bar %d %s at 0x%llx", p->dev.path, n,
	      wanted ? "appears" : "leaves", (unsigned long long)(wanted ? addr : b->addr));
	if (b->mapped)
		bar_leave(p, n);
	if (wanted)
		bar_appear(p, n, addr);
}

void pci_bars_update(struct pci_dev *p)
{
	int n;

	for (n = 0; n < PCI_BARS; n++)
		if (p->bar[n].win.size)
			bar_update(p, n);
}

void pci_bars_unmap(struct pci_dev *p)
{
	int n;

	for (n = 0; n < PCI_BARS; n++)
		if (p->bar[n].mapped)
			bar_leave(p, n);
}

/* The topology is the host's, so its depth bounds the recursion. */
void pci_bars_update_behind(struct pci_dev *p)
{
	struct pci_dev *d;
	int i;

	p->child_stale = false;
	for (i = 0; i < 256; i++) {
		d = p->child->slot[i];
		if (!d || !d->visible)
			continue;
		pthread_mutex_lock(&d->dev.lock);
		pci_bars_update(d);
		pthread_mutex_unlock(&d->dev.lock);
		if (d->child)
			pci_bars_update_behind(d);
	}
}

static void bar_written(struct pci_dev *p, uint16_t off, unsigned int len)
{
	pci_bars_update(p);
}

/* Called once per function: one hook covers all BARs. */
static void hook_bars(struct pci_dev *p)
{
	int h;

	for (h = 0; h < p->hooks; h++)
		if (p->hook[h].written == bar_written)
			return;
	pci_hook_add(p, PCI_BASE_ADDRESS_0, 4 * PCI_BARS, bar_written);
}

int pci_bar_add(struct pci_dev *p, int n, uint8_t flags, const struct bus_win *win,
		void (*moved)(struct pci_dev *, int, bool, uint64_t), struct err *e)
{
	bool io = flags & PCI_BASE_ADDRESS_SPACE_IO;
	bool wide = !io && (flags & PCI_BASE_ADDRESS_MEM_TYPE_64);
	int last = (p->config[PCI_HEADER_TYPE] & 0x7f) ? 1 : PCI_BARS - 1;
	struct pci_bar *b = &p->bar[n];
	uint64_t mask;

	assert(n >= 0 && n + wide <= last && !b->win.size);
	if (!is_pow2(win->size) || win->size < (io ? 4 : 16) ||
	    (io && win->size > 256) || (!wide && win->size > 2 * GIB))
		return err_set(e, -EINVAL,
			       "%s: BAR %d cannot be %llu bytes; a power of two is needed",
			       p->dev.path, n, (unsigned long long)win->size);
	b->win = *win;
	b->win.dev = &p->dev;
	b->flags = flags;
	b->moved = moved;
	mask = ~(win->size - 1) & ~(uint64_t)type_bits(b);
	pci_set32(p, bar_off(n), flags);
	put_le32(p->wmask + bar_off(n), (uint32_t)mask);
	if (wide)
		put_le32(p->wmask + bar_off(n + 1), (uint32_t)(mask >> 32));
	hook_bars(p);
	return 0;
}

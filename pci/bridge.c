/*
 * pci/bridge.c - header type 1: bus numbers, and windows that are forwarded.
 *
 * Spec:    PCI-to-PCI Bridge 1.2 s3.2.5; PCIe Base 5.0 s7.5.1.3.
 * Threads: set-up on the main loop, hooks under config and device lock.
 * Missing: ISA and VGA modes and the secondary bus reset (read-only zero).
 *
 * The I/O window is optional (s3.2.5.6: read-only zero means not implemented)
 * and stays out until something behind the bridge needs it: guests set aside
 * 4 KiB of the scarce 64 KiB for each bridge that has one.
 *
 * A BAR is forwarded when it lies wholly inside one window. Hardware would
 * forward the part that is inside; no guest builds on that.
 */
#include <assert.h>
#include <errno.h>

#include "pci/bridge.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/core/vm.h"

#define GRAIN_MEM	MIB	/* s3.2.5.8 */
#define GRAIN_IO	(4 * KIB)	/* s3.2.5.6 */
#define IO_TOP		0xf0	/* base and limit bytes hold bits 15:12 */
#define MEM_TOP		0xfff0	/* and words hold bits 31:20 */

#define BRIDGE_CONTROL_WMASK (PCI_BRIDGE_CTL_PARITY | PCI_BRIDGE_CTL_SERR)

/* ---- window registers ---- */

struct pci_range {
	uint64_t base, last;	/* closed: base > last */
};

static struct pci_range range_mem(const struct pci_dev *p)
{
	return (struct pci_range){
		(uint64_t)(pci_get16(p, PCI_MEMORY_BASE) & MEM_TOP) << 16,
		(uint64_t)(pci_get16(p, PCI_MEMORY_LIMIT) & MEM_TOP) << 16 | (GRAIN_MEM - 1),
	};
}

static struct pci_range range_pref(const struct pci_dev *p)
{
	return (struct pci_range){
		(uint64_t)pci_get32(p, PCI_PREF_BASE_UPPER32) << 32 |
		(uint64_t)(pci_get16(p, PCI_PREF_MEMORY_BASE) & MEM_TOP) << 16,
		(uint64_t)pci_get32(p, PCI_PREF_LIMIT_UPPER32) << 32 |
		(uint64_t)(pci_get16(p, PCI_PREF_MEMORY_LIMIT) & MEM_TOP) << 16 |
		(GRAIN_MEM - 1),
	};
}

static bool io_implemented(const struct pci_dev *p)
{
	return p->wmask[PCI_IO_BASE];
}

static struct pci_range range_io(const struct pci_dev *p)
{
	if (!io_implemented(p))
		return (struct pci_range){ 1, 0 };
	return (struct pci_range){
		(uint64_t)(pci_peek8(p, PCI_IO_BASE) & IO_TOP) << 8,
		(uint64_t)(pci_peek8(p, PCI_IO_LIMIT) & IO_TOP) << 8 | (GRAIN_IO - 1),
	};
}

/* What is forwarded now, with the command register and the power state. */
static struct pci_range range_now(const struct pci_dev *p, enum pci_space space)
{
	static const struct pci_range closed = { 1, 0 };
	uint8_t enable = space == PCI_SPACE_IO ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;

	if (!(pci_peek8(p, PCI_COMMAND) & enable) || !pci_in_d0(p) ||
	    !pci_express_link_up(p))
		return closed;
	if (space == PCI_SPACE_IO)
		return range_io(p);
	return space == PCI_SPACE_MEM ? range_mem(p) : range_pref(p);
}

void pci_bridge_window(const struct pci_dev *p, enum pci_space space, uint64_t *base,
		       uint64_t *last)
{
	struct pci_range r = space == PCI_SPACE_IO ? range_io(p) :
			     space == PCI_SPACE_MEM ? range_mem(p) : range_pref(p);

	*base = r.base;
	*last = r.last;
}

static bool range_holds(const struct pci_range *r, uint64_t addr, uint64_t size)
{
	return r->base <= r->last && addr >= r->base && addr <= r->last &&
	       size - 1 <= r->last - addr;
}

bool pci_bridge_forwards(const struct pci_dev *p, bool io, uint64_t addr, uint64_t size)
{
	enum pci_space s;

	for (s = 0; s < PCI_SPACES; s++) {
		struct pci_range r = range_now(p, s);

		if (io == (s == PCI_SPACE_IO) && range_holds(&r, addr, size))
			return true;
	}
	return false;
}

void pci_bridge_set_window(struct pci_bridge *b, enum pci_space space,
			   uint64_t base, uint64_t size)
{
	struct pci_dev *p = &b->pci;
	/* Closed is base above limit (s3.2.5.8). */
	uint64_t last = size ? base + size - 1 : 0;

	if (!size)
		base = space == PCI_SPACE_IO ? IO_TOP << 8 : (uint64_t)MEM_TOP << 16;
	if (space == PCI_SPACE_IO) {
		if (!io_implemented(p))
			return;
		pci_poke8(p, PCI_IO_BASE, (uint8_t)(base >> 8 & IO_TOP));
		pci_poke8(p, PCI_IO_LIMIT, (uint8_t)(last >> 8 & IO_TOP));
	} else if (space == PCI_SPACE_MEM) {
		pci_poke16(p, PCI_MEMORY_BASE, (uint16_t)(base >> 16 & MEM_TOP));
		pci_poke16(p, PCI_MEMORY_LIMIT, (uint16_t)(last >> 16 & MEM_TOP));
	} else {
		pci_poke16(p, PCI_PREF_MEMORY_BASE,
			   (uint16_t)((base >> 16 & MEM_TOP) | PCI_PREF_RANGE_TYPE_64));
		pci_poke16(p, PCI_PREF_MEMORY_LIMIT,
			   (uint16_t)((last >> 16 & MEM_TOP) | PCI_PREF_RANGE_TYPE_64));
		pci_poke32(p, PCI_PREF_BASE_UPPER32, (uint32_t)(base >> 32));
		pci_poke32(p, PCI_PREF_LIMIT_UPPER32, (uint32_t)(last >> 32));
	}
}

/* BARs are powers of two at their own size: the largest first, they pack. */
static uint64_t needed_on(const struct pci_bus *b, enum pci_space s)
{
	uint64_t sum = 0;

	for (int i = 0; i < 256; i++) {
		const struct pci_dev *p = b->slot[i];

		for (int n = 0; p && n < PCI_BARS; n++)
			if (p->bar[n].win.size && pci_bar_space(p, n) == s)
				sum += p->bar[n].win.size;
	}
	return sum;
}

void pci_bridge_check_room(const struct pci_bus *b)
{
	static const char *const reserves[PCI_SPACES] = {
		"mem-reserve", "pref64-reserve", "io-reserve"
	};
	uint64_t base, last, have, need;

	for (enum pci_space s = 0; b->bridge && s < PCI_SPACES; s++) {
		pci_bridge_window(b->bridge, s, &base, &last);
		have = base <= last ? last - base + 1 : 0;
		need = needed_on(b, s);
		if (need > have)
			log_warn("what is on '%s' needs %llu KiB, its window has %llu KiB, so the "
				 "guest may not find room; start with %s=%llu on that port", b->name,
				 (unsigned long long)align_up(need, KIB) / KIB,
				 (unsigned long long)have / KIB, reserves[s],
				 (unsigned long long)need);
	}
}

/* ---- hooks ---- */

static void windows_written(struct pci_dev *p, uint16_t off, unsigned int len)
{
	p->child_stale = true;
}

static void numbers_written(struct pci_dev *p, uint16_t off, unsigned int len)
{
	pci_routes_update(p->bus->root);
}

/* ---- set-up ---- */

static void mask_windows(struct pci_dev *p)
{
	put_le16(p->wmask + PCI_MEMORY_BASE, MEM_TOP);
	put_le16(p->wmask + PCI_MEMORY_LIMIT, MEM_TOP);
	put_le16(p->wmask + PCI_PREF_MEMORY_BASE, MEM_TOP);
	put_le16(p->wmask + PCI_PREF_MEMORY_LIMIT, MEM_TOP);
	put_le32(p->wmask + PCI_PREF_BASE_UPPER32, UINT32_MAX);
	put_le32(p->wmask + PCI_PREF_LIMIT_UPPER32, UINT32_MAX);
	pci_poke8(p, PCI_PREF_MEMORY_BASE, PCI_PREF_RANGE_TYPE_64);
	pci_poke8(p, PCI_PREF_MEMORY_LIMIT, PCI_PREF_RANGE_TYPE_64);
}

void pci_bridge_enable_io(struct pci_dev *p)
{
	for (; p; p = p->bus->bridge) {
		if (io_implemented(p))
			continue;
		p->wmask[PCI_IO_BASE] = IO_TOP;
		p->wmask[PCI_IO_LIMIT] = IO_TOP;
	}
}

int pci_bridge_init(struct pci_bridge *b, bool express, struct err *e)
{
	struct pci_dev *p = &b->pci;
	struct pci_bus *bus;

	if (pci_bus_find(p->bus->root, p->dev.path))
		return err_set(e, -EEXIST, "%s: there is a PCI bus of that name already",
			       p->dev.path);
	bus = pci_bus_create(p->bus->root, p->dev.path, p);
	bus->express = express;
	p->wmask[PCI_PRIMARY_BUS] = 0xff;
	p->wmask[PCI_SECONDARY_BUS] = 0xff;
	p->wmask[PCI_SUBORDINATE_BUS] = 0xff;
	mask_windows(p);
	put_le16(p->w1cmask + PCI_SEC_STATUS, get_le16(p->w1cmask + PCI_STATUS));
	put_le16(p->wmask + PCI_BRIDGE_CONTROL, BRIDGE_CONTROL_WMASK);
	pci_hook_add(p, PCI_PRIMARY_BUS, 3, numbers_written);
	pci_hook_add(p, PCI_IO_BASE, PCI_IO_LIMIT_UPPER16 + 2 - PCI_IO_BASE, windows_written);
	if (b->io_reserve)
		pci_bridge_enable_io(p);
	return 0;
}

/*
 * Enumeration: what a guest finds must need no repair. verify() walks the
 * topology through config space alone, as a guest does, and checks that every
 * BAR lies aligned inside its bridges' windows and that none overlap.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/dev/lib_pci.h"
#include "vmm/base/util.h"

#define RANGES_MAX 4096

static struct rig *r;

static void setup(void)
{
	r = pci_rig();
}

static void teardown(void)
{
	pci_rig_end(r);
}

TestSuite(pci_enumerate, .init = setup, .fini = teardown);

/* ---- a guest's view ---- */

struct range {
	uint64_t base, last;
	bool io;
	int depth_bus;		/* BARs and windows of one bus must not overlap */
};

struct view {
	struct range range[RANGES_MAX];
	int ranges, functions, bridges, problems;
	uint8_t last_bus;
};

struct windows {
	struct range mem, pref, io;
};

static void problem(struct view *v, const char *what, uint16_t bdf)
{
	v->problems++;
	cr_log_error("%04x: %s", bdf, what);
}

static bool inside(const struct range *w, uint64_t base, uint64_t last)
{
	return w->base <= w->last && base >= w->base && last <= w->last;
}

static void claim(struct view *v, uint16_t bdf, bool io, uint64_t base, uint64_t last)
{
	int i;

	for (i = 0; i < v->ranges; i++) {
		const struct range *o = &v->range[i];

		if (o->io == io && o->depth_bus == bdf >> 8 && base <= o->last && last >= o->base)
			problem(v, "overlap", bdf);
	}
	if (v->ranges < RANGES_MAX)
		v->range[v->ranges++] = (struct range){ base, last, io, bdf >> 8 };
}

static uint64_t bar_size(uint16_t bdf, int n, uint32_t low, bool wide)
{
	uint16_t off = (uint16_t)(PCI_BASE_ADDRESS_0 + 4 * n);
	uint32_t high = (uint32_t)ecam_read(r, bdf, off + 4, 4);
	uint64_t m;

	ecam_write(r, bdf, off, 4, 0xffffffff);
	m = ecam_read(r, bdf, off, 4) & ((low & 1) ? ~3ull : ~15ull);
	if (!wide)
		m |= 0xffffffff00000000ull;
	else
		ecam_write(r, bdf, off + 4, 4, 0xffffffff);
	if (wide)
		m |= ecam_read(r, bdf, off + 4, 4) << 32;
	ecam_write(r, bdf, off, 4, low);
	if (wide)
		ecam_write(r, bdf, off + 4, 4, high);
	return (uint32_t)m || wide ? ~m + 1 : 0;
}

static int view_bar(struct view *v, uint16_t bdf, int n, const struct windows *w)
{
	uint16_t off = (uint16_t)(PCI_BASE_ADDRESS_0 + 4 * n);
	uint32_t low = (uint32_t)ecam_read(r, bdf, off, 4);
	bool io = low & 1, wide = !io && (low & 4), pref = !io && (low & 8);
	uint64_t size = bar_size(bdf, n, low, wide), base;

	if (!size)
		return 1;
	base = low & (io ? ~3u : ~15u);
	if (wide)
		base |= ecam_read(r, bdf, off + 4, 4) << 32;
	if (base % size)
		problem(v, "BAR not aligned", bdf);
	if (io ? !inside(&w->io, base, base + size - 1)
	       : !inside(&w->mem, base, base + size - 1) &&
		 !((pref || !(bdf >> 8)) && inside(&w->pref, base, base + size - 1)))
		problem(v, "BAR outside its window", bdf);
	claim(v, bdf, io, base, base + size - 1);
	if (!(ecam_read(r, bdf, PCI_COMMAND, 2) & (io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY)))
		problem(v, "decoding is off", bdf);
	return wide ? 2 : 1;
}

static struct windows windows_of(uint16_t bdf)
{
	uint64_t mem = ecam_read(r, bdf, PCI_MEMORY_BASE, 4);
	uint64_t pref = ecam_read(r, bdf, PCI_PREF_MEMORY_BASE, 4);
	uint64_t up_base = ecam_read(r, bdf, PCI_PREF_BASE_UPPER32, 4);
	uint64_t up_last = ecam_read(r, bdf, PCI_PREF_LIMIT_UPPER32, 4);
	uint64_t io = ecam_read(r, bdf, PCI_IO_BASE, 2);

	return (struct windows){
		.mem = { (mem & 0xfff0) << 16, (mem & 0xfff00000) | 0xfffff },
		.pref = { up_base << 32 | (pref & 0xfff0) << 16,
			  up_last << 32 | (pref & 0xfff00000) | 0xfffff },
		.io = { (io & 0xf0) << 8, (io & 0xf000) | 0xfff },
	};
}

static void view_window(struct view *v, uint16_t bdf, bool io, const struct range *mine,
			const struct range *above)
{
	if (mine->base > mine->last || (io && !mine->base))
		return;
	if (!inside(above, mine->base, mine->last))
		problem(v, "window outside the one above", bdf);
	claim(v, bdf, io, mine->base, mine->last);
}

static void view_bus(struct view *v, uint8_t bus, const struct windows *w);

static void view_bridge(struct view *v, uint16_t bdf, const struct windows *above)
{
	uint32_t n = (uint32_t)ecam_read(r, bdf, PCI_PRIMARY_BUS, 4);
	uint8_t sec = (uint8_t)(n >> 8), sub = (uint8_t)(n >> 16);
	struct windows w = windows_of(bdf);

	v->bridges++;
	if ((uint8_t)n != bdf >> 8 || sec != v->last_bus + 1 || sub < sec)
		problem(v, "bus numbers", bdf);
	view_window(v, bdf, false, &w.mem, &above->mem);
	view_window(v, bdf, false, &w.pref, &above->pref);
	view_window(v, bdf, true, &w.io, &above->io);
	v->last_bus = sec;
	view_bus(v, sec, &w);
	if (sub < v->last_bus)
		problem(v, "subordinate too small", bdf);
	v->last_bus = sub;
}

static void view_bus(struct view *v, uint8_t bus, const struct windows *w)
{
	int devfn, n;

	for (devfn = 0; devfn < 256; devfn++) {
		uint16_t bdf = (uint16_t)(bus << 8 | devfn);
		bool bridge;

		if (ecam_read(r, bdf, 0, 2) == 0xffff)
			continue;
		v->functions++;
		bridge = ecam_read(r, bdf, PCI_HEADER_TYPE, 1) & 1;
		for (n = 0; n < (bridge ? 2 : 6);)
			n += view_bar(v, bdf, n, w);
		if (bridge)
			view_bridge(v, bdf, w);
	}
}

static struct view view;

static struct range range_of(const struct pci_need *n)
{
	return (struct range){ n->base, n->base + n->size - 1 };
}

static void verify(void)
{
	struct pci_bus *b = NULL;

	memset(&view, 0, sizeof(view));
	while ((b = pci_root_bus_next(r->vm->pci, b))) {
		struct windows w = { range_of(&b->need[PCI_SPACE_MEM]),
				     range_of(&b->need[PCI_SPACE_PREF]),
				     range_of(&b->need[PCI_SPACE_IO]) };

		view.last_bus = b->number;
		view_bus(&view, b->number, &w);
		cr_expect_leq(view.last_bus, pci_root_bus_last(b));
	}
	cr_expect_eq(view.problems, 0);
}

static uint64_t window_size(uint16_t bdf, bool pref)
{
	struct windows w = windows_of(bdf);
	struct range *g = pref ? &w.pref : &w.mem;

	return g->base > g->last ? 0 : g->last - g->base + 1;
}

/* ---- tests ---- */

Test(pci_enumerate, test_flat_bus_is_placed_and_answers)
{
	struct tpci *t = pci_fn(r, "'addr': '3', 'mem32': 4096, 'pref64': 16384, 'io': 32, "
				"'msix': 3, 'pin': 1");

	pci_fn(r, "'addr': '4', 'mem32': 1048576, 'mem32b': 16");
	pci_enumerate_ok(r);
	verify();
	cr_expect_eq(view.functions, 3);
	cr_expect_geq(t->pci.bar[2].addr, T_MEM64);
	cr_expect_eq(rig_mmio_read(r, t->pci.bar[0].addr, 4), 0x5a00);
	cr_expect_eq(rig_mmio_read(r, t->pci.bar[2].addr, 4), 0x5a02);
	cr_expect_eq(rig_pio_read(r, (uint16_t)t->pci.bar[4].addr, 4), 0x5a04);
	cr_expect_eq(ecam_read(r, BDF(0, 3, 0), PCI_INTERRUPT_LINE, 1), T_GSI + 3);
	cr_expect_eq(ecam_read(r, BDF(0, 3, 0), PCI_COMMAND, 2),
		     PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
}

Test(pci_enumerate, test_empty_port_has_windows_for_hotplug_and_no_io)
{
	pci_port(r, "'addr': '2'");
	pci_enumerate_ok(r);
	verify();
	cr_expect_eq(window_size(BDF(0, 2, 0), false), 2 * MIB);
	cr_expect_eq(window_size(BDF(0, 2, 0), true), 32 * MIB);
	cr_expect_eq(ecam_read(r, BDF(0, 2, 0), PCI_IO_BASE, 2), 0);
	cr_expect_eq(ecam_read(r, BDF(0, 2, 0), PCI_COMMAND, 2),
		     PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	cr_expect_eq(ecam_read(r, BDF(0, 2, 0), PCI_PRIMARY_BUS, 4) & 0xffffff, 0x010100);
}

Test(pci_enumerate, test_reserves_are_honoured)
{
	pci_port(r, "'addr': '2', 'bus-reserve': 4, 'mem-reserve': '5M', "
		 "'pref64-reserve': '8G', 'io-reserve': '8K'");
	pci_port(r, "'addr': '3', 'mem-reserve': 0, 'pref64-reserve': 0");
	pci_enumerate_ok(r);
	verify();
	cr_expect_eq(ecam_read(r, BDF(0, 2, 0), PCI_PRIMARY_BUS, 4) & 0xffffff, 0x050100);
	cr_expect_eq(ecam_read(r, BDF(0, 3, 0), PCI_PRIMARY_BUS, 4) & 0xffffff, 0x060600);
	cr_expect_eq(window_size(BDF(0, 2, 0), false), 5 * MIB);
	cr_expect_eq(window_size(BDF(0, 2, 0), true), 8 * GIB);
	cr_expect_eq(ecam_read(r, BDF(0, 2, 0), PCI_IO_BASE, 2), 0x2010);
	cr_expect_eq(window_size(BDF(0, 3, 0), false), 0);
	cr_expect_eq(window_size(BDF(0, 3, 0), true), 0);
	cr_expect_eq(ecam_read(r, BDF(0, 3, 0), PCI_COMMAND, 2), PCI_COMMAND_MASTER);
}

Test(pci_enumerate, test_deep_tree_is_nested_and_answers)
{
	struct tpci *t;

	pci_port(r, "'id': 'rp', 'addr': '2'");
	rig_device(r, "{'driver': 'pcie-pci-bridge', 'id': 'pb', 'bus': 'rp'}");
	t = pci_fn(r, "'bus': 'pb', 'mem32': '4M', 'pref64': '64M', 'io': 64, 'msix': 200");
	pci_fn(r, "'bus': 'pb', 'mem32b': 16, 'mem32': '1M', 'io': 256");
	pci_enumerate_ok(r);
	verify();
	cr_expect_eq(view.functions, 5);
	cr_expect_eq(rig_mmio_read(r, t->pci.bar[0].addr, 4), 0x5a00);
	cr_expect_eq(rig_mmio_read(r, t->pci.bar[2].addr, 4), 0x5a02);
	cr_expect_eq(rig_pio_read(r, (uint16_t)t->pci.bar[4].addr, 4), 0x5a04);
}

static void add_ports(int n)
{
	char text[96];
	int i;

	for (i = 0; i < n; i++) {
		snprintf(text, sizeof(text), "'id': 'rp%d', 'addr': '%x.%x', 'multifunction': true",
			 i, 1 + i / 8, i % 8);
		pci_port(r, text);
	}
}

Test(pci_enumerate, test_200_ports_fit_and_every_tenth_has_a_device)
{
	char text[96];
	int i;

	add_ports(200);
	for (i = 0; i < 200; i += 10) {
		snprintf(text, sizeof(text), "'bus': 'rp%d', 'mem32': 4096, 'pref64': 16384, "
			 "'msix': 4, 'express': true", i);
		pci_fn(r, text);
	}
	pci_enumerate_ok(r);
	verify();
	cr_expect_eq(view.bridges, 200);
	cr_expect_eq(view.functions, 221);
	cr_expect_eq(view.last_bus, 200);
	cr_expect_eq(window_size(BDF(0, 1, 1), true), 32 * MIB);
}

/* ---- expanders ---- */

static void expander(const char *id, int bus_nr)
{
	char text[96];

	snprintf(text, sizeof(text), "{'driver': 'pxb-pcie', 'id': '%s', 'bus_nr': %d}", id, bus_nr);
	rig_device(r, text);
}

static void expect_apart(const struct pci_bus *low, const struct pci_bus *high)
{
	for (int s = 0; s < PCI_SPACES; s++)
		cr_expect(!low->need[s].size || !high->need[s].size ||
			  low->need[s].base + low->need[s].size <= high->need[s].base);
}

Test(pci_enumerate, test_expanders_have_buses_and_windows_of_their_own)
{
	struct pci_root *root = r->vm->pci;
	struct tpci *t;

	expander("x2", 0x40);
	expander("x1", 0x20);
	pci_port(r, "'id': 'rp0'");
	pci_port(r, "'id': 'rp1', 'bus': 'x1'");
	pci_port(r, "'id': 'rp2', 'bus': 'x2', 'pref64-reserve': '8G'");
	t = pci_fn(r, "'bus': 'rp1', 'mem32': 4096, 'pref64': '64M', 'io': 32");
	pci_fn(r, "'bus': 'x2', 'addr': '7', 'mem32': 4096");
	pci_enumerate_ok(r);
	verify();
	cr_expect_eq(view.functions, 8);
	cr_expect_eq(ecam_read(r, BDF(0x20, 0, 0), PCI_PRIMARY_BUS, 4) & 0xffffff, 0x212120);
	cr_expect_eq(ecam_read(r, BDF(0x40, 0, 0), PCI_PRIMARY_BUS, 4) & 0xffffff, 0x414140);
	cr_expect_eq(cf8_read(r, BDF(0x21, 0, 0), PCI_VENDOR_ID, 2), 0x1234);
	cr_expect_eq(rig_mmio_read(r, t->pci.bar[0].addr, 4), 0x5a00);
	cr_expect_eq(rig_mmio_read(r, t->pci.bar[2].addr, 4), 0x5a02);
	cr_expect_eq(rig_pio_read(r, (uint16_t)t->pci.bar[4].addr, 4), 0x5a04);
	expect_apart(root->bus0, pci_bus_find(root, "x1"));
	expect_apart(root->bus0, pci_bus_find(root, "x2"));
	expect_apart(pci_bus_find(root, "x2"), pci_bus_find(root, "x1"));
	pci_enumerate_ok(r);	/* as at a reset */
	verify();
}

Test(pci_enumerate, test_expander_that_does_not_fit_is_named)
{
	struct err e = ERR_INIT;

	expander("x1", 255);
	pci_port(r, "'id': 'rp1', 'bus': 'x1'");
	cr_expect_eq(pci_enumerate(r->vm->pci, &e), -ENOSPC);
	cr_expect_str_eq(e.text, "pcie-root-port 'rp1' needs the bus numbers 256 to 256, but 255 "
			 "is the last; use fewer ports or less bus-reserve");
}

Test(pci_enumerate, test_expander_without_room_for_its_windows_is_named)
{
	struct err e = ERR_INIT;

	expander("x1", 0x80);
	pci_port(r, "'id': 'rp1', 'bus': 'x1', 'pref64-reserve': '1T'");
	cr_expect_eq(pci_enumerate(r->vm->pci, &e), -ENOSPC);
	cr_expect(strstr(e.text, "pxb-pcie 'x1' (00:01.0) needs 1073741824 KiB of 64-bit memory "
			 "space for what is behind it"), "%s", e.text);
}

Test(pci_enumerate, test_buses_below_pcie_0_end_where_an_expander_begins)
{
	struct err e = ERR_INIT;

	add_ports(3);
	expander("x1", 3);
	cr_expect_eq(pci_enumerate(r->vm->pci, &e), -ENOSPC);
	cr_expect(strstr(e.text, "the bus numbers 3 to 3, but 2 is the last"), "%s", e.text);
}

Test(pci_enumerate, test_default_reserves_shrink_before_it_fails)
{
	struct pci_windows w = pci_test_windows();

	w.mmio32_size = 16 * MIB;
	w.mmio64_size = 64 * MIB;
	pci_rig_end(r);
	r = pci_rig_with(&w);
	add_ports(12);
	pci_port(r, "'addr': '10', 'mem-reserve': '2M'");
	pci_enumerate_ok(r);
	verify();
	cr_expect_eq(window_size(BDF(0, 1, 0), false), MIB);
	cr_expect_eq(window_size(BDF(0, 1, 0), true), MIB);
	cr_expect_eq(window_size(BDF(0, 16, 0), false), 2 * MIB);
}

Test(pci_enumerate, test_without_64bit_window_all_goes_below_4g)
{
	struct pci_windows w = pci_test_windows();
	struct tpci *t;

	w.mmio64_size = 0;
	pci_rig_end(r);
	r = pci_rig_with(&w);
	pci_port(r, "'id': 'rp', 'addr': '2'");
	t = pci_fn(r, "'bus': 'rp', 'pref64': '16M'");
	pci_enumerate_ok(r);
	cr_expect_lt(t->pci.bar[2].addr, 4 * GIB);
	cr_expect_eq(rig_mmio_read(r, t->pci.bar[2].addr, 4), 0x5a02);
	cr_expect_eq(window_size(BDF(0, 2, 0), true), 0);
}

Test(pci_enumerate, test_large_64bit_bars_leave_the_hole)
{
	struct tpci *t = pci_fn(r, "'addr': '3', 'mem64': '64G'");
	struct tpci *small = pci_fn(r, "'addr': '4', 'mem64': '64K'");

	pci_enumerate_ok(r);
	verify();
	cr_expect_geq(t->pci.bar[2].addr, T_MEM64);
	cr_expect_lt(small->pci.bar[2].addr, 4 * GIB);
}

Test(pci_enumerate, test_windows_at_odd_bases_keep_natural_alignment)
{
	struct pci_windows w = pci_test_windows();

	w.mmio32_base += MIB;
	w.mmio32_size -= MIB;
	w.mmio64_base += 3 * MIB;
	pci_rig_end(r);
	r = pci_rig_with(&w);
	pci_fn(r, "'addr': '3', 'mem32': '16M', 'mem32b': 16, 'pref64': '32M', 'io': 256");
	pci_port(r, "'id': 'a', 'addr': '4', 'mem-reserve': '3M', 'pref64-reserve': '5M'");
	pci_fn(r, "'bus': 'a', 'mem32': '2M', 'pref64': '4M'");
	pci_port(r, "'id': 'b', 'addr': '5', 'mem-reserve': 0, 'pref64-reserve': 0");
	pci_fn(r, "'bus': 'b', 'mem32': '2M', 'pref64': '4M'");
	pci_enumerate_ok(r);
	verify();
	cr_expect_eq(window_size(BDF(0, 4, 0), false), 3 * MIB);
}

#define expect_no_fit(...) do {							\
	struct err e_ = ERR_INIT;						\
	cr_expect_lt(pci_enumerate(r->vm->pci, &e_), 0);			\
	cr_expect_str_eq(e_.text, __VA_ARGS__);					\
} while (0)

Test(pci_enumerate, test_bar_too_large_is_named_with_its_size)
{
	pci_fn(r, "'id': 'gpu', 'addr': '3', 'pref64': '1T'");
	expect_no_fit("tpci 'gpu' (00:03.0) needs 1073741824 KiB of 64-bit memory space, "
		      "which do not fit into the machine's 536870912 KiB");
}

Test(pci_enumerate, test_port_too_large_is_named_with_its_size)
{
	pci_port(r, "'id': 'rp', 'addr': '3', 'mem-reserve': '2G'");
	expect_no_fit("pcie-root-port 'rp' (00:03.0) needs 2097152 KiB of 32-bit memory space "
		      "for what is behind it, which do not fit into the machine's 1028096 KiB");
}

Test(pci_enumerate, test_bus_numbers_that_run_out_are_named)
{
	pci_port(r, "'id': 'a', 'bus-reserve': 200");
	pci_port(r, "'id': 'b', 'bus-reserve': 100");
	expect_no_fit("pcie-root-port 'b' needs the bus numbers 202 to 302, but 255 is the last; "
		      "use fewer ports or less bus-reserve");
}

Test(pci_enumerate, test_repeated_after_reset_gives_the_same)
{
	struct tpci *t;
	uint64_t a0, a2;

	pci_port(r, "'id': 'rp', 'addr': '2'");
	t = pci_fn(r, "'bus': 'rp', 'mem32': 4096, 'pref64': 16384");
	pci_enumerate_ok(r);
	a0 = t->pci.bar[0].addr;
	a2 = t->pci.bar[2].addr;
	ecam_write(r, BDF(0, 2, 0), PCI_MEMORY_BASE, 4, 0);
	ecam_write(r, BDF(1, 0, 0), PCI_BASE_ADDRESS_0, 4, 0x12345000);
	rig_reset(r);
	pci_enumerate_ok(r);
	verify();
	cr_expect_eq(t->pci.bar[0].addr, a0);
	cr_expect_eq(t->pci.bar[2].addr, a2);
	pci_enumerate_ok(r);		/* also without a reset in between */
	cr_expect_eq(t->pci.bar[0].addr, a0);
}

Test(pci_enumerate, test_link_ends_share_the_clock)
{
	uint16_t port = BDF(0, 2, 0), end = BDF(1, 0, 0);

	pci_port(r, "'id': 'rp', 'addr': '2'");
	pci_fn(r, "'bus': 'rp', 'express': true");
	pci_enumerate_ok(r);
	cr_expect_eq(ecam_read(r, port, find_cap(r, port, PCI_CAP_ID_EXP) + PCI_EXP_LNKCTL, 2),
		     PCI_EXP_LNKCTL_CCC);
	cr_expect_eq(ecam_read(r, end, find_cap(r, end, PCI_CAP_ID_EXP) + PCI_EXP_LNKCTL, 2),
		     PCI_EXP_LNKCTL_CCC);
}

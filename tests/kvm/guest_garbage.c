/*
 * guest_garbage.c - a guest that throws garbage at every register it finds.
 *
 * Ports, config space, BARs, virtio queues with random rings in random places,
 * for ever. What happens to itself does not matter: it is started again.
 */
#include "tests/kvm/guestlib.h"

#define ECAM		0xb0000000ull
#define RINGS		0x200000ull	/* 1 MiB of rubbish that queues point at */
#define RINGS_BYTES	0x100000u
#define DEVICES		32
#define RAND_PORTS	0xfff8u

#define HIGH		0x800000000ull	/* the 64-bit window of a small guest */

static uint64_t pd[512] __attribute__((aligned(4096)));

static uint64_t seed;

static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static uint32_t below(uint32_t n)
{
	return (uint32_t)(rnd() >> 20) % n;
}

/* The loader mapped 4 GiB; one more at the 64-bit window, by 2 MiB pages. */
static void map_high(void)
{
	uint64_t cr3, *pml4, *pdpt;

	__asm__ volatile("mov %%cr3, %0" : "=r"(cr3));
	pml4 = (uint64_t *)(cr3 & ~0xfffull);
	pdpt = (uint64_t *)(pml4[0] & ~0xfffull);
	for (uint64_t i = 0; i < 512; i++)
		pd[i] = (HIGH + (i << 21)) | 0x83;	/* present, writable, large */
	pdpt[HIGH >> 30] = (uint64_t)pd | 3;
	__asm__ volatile("mov %0, %%cr3" : : "r"(cr3) : "memory");
}

/* Small numbers and single bits reach more code than noise does. */
static uint64_t value(void)
{
	switch (below(4)) {
	case 0:
		return below(16);
	case 1:
		return 1ull << below(64);
	case 2:
		return RINGS + (below(RINGS_BYTES) & ~15u);
	default:
		return rnd();
	}
}

static void poke_port(void)
{
	static const uint16_t base[] = {
		0x20, 0x40, 0x60, 0x70, 0x80, 0x92, 0xa0, 0xb2, 0x2f8, 0x3f8, 0x3e8, 0x2e8,
		0x4d0, 0x505, 0x600, 0x608, 0x620, 0xcf8, 0xcfc,
	};
	uint16_t port = below(8) ? base[below(sizeof(base) / 2)] + below(8) : below(RAND_PORTS);
	uint32_t v = (uint32_t)value();

	switch (below(6)) {
	case 0: outb(port, v); break;
	case 1: outw(port, v); break;
	case 2: outl(port, v); break;
	case 3: inb(port); break;
	case 4: inw(port); break;
	default: inl(port); break;
	}
}

static void poke_mem(uint64_t at)
{
	uint64_t v = value();

	switch (below(8)) {
	case 0: mmio_write8(at, v); break;
	case 1: mmio_write16(at, v); break;
	case 2: case 3: mmio_write32(at, v); break;
	case 4: mmio_write64(at & ~7ull, v); break;
	case 5: mmio_read8(at); break;
	case 6: mmio_read16(at); break;
	default: mmio_read32(at); break;
	}
}

static uint64_t config_of(uint32_t bus, uint32_t slot, uint32_t fn)
{
	return ECAM + (bus << 20 | slot << 15 | fn << 12);
}

static void poke_config(void)
{
	uint64_t at = config_of(below(4), below(DEVICES), below(8) ? 0 : below(8));

	poke_mem(at + (below(3) ? below(256) : below(4096)));
}

/* Where BAR @bar of a function is now; 0: nowhere. */
static uint64_t bar_of(uint64_t cfg, uint32_t bar)
{
	uint32_t lo = mmio_read32(cfg + 0x10 + bar * 4);
	uint64_t at = lo & ~15u;

	if (lo & 1)
		return 0;
	if ((lo & 6) == 4)
		at |= (uint64_t)mmio_read32(cfg + 0x14 + bar * 4) << 32;
	return at < 1ull << 32 || at - HIGH < 1ull << 30 ? at : 0;
}

/* Bring a virtio device up by the book for a while, then disturb it. */
static void drive_virtio(uint64_t common, uint64_t notify)
{
	mmio_write8(common + 0x14, 0);
	mmio_write8(common + 0x14, 3);
	mmio_write32(common + 0x08, 1);
	mmio_write32(common + 0x0c, 1 | (below(4) ? 0 : 4));	/* VERSION_1, sometimes packed */
	mmio_write8(common + 0x14, 11);
	mmio_write16(common + 0x16, 0);
	mmio_write16(common + 0x18, 1u << below(9));
	for (uint32_t off = 0x20; off <= 0x30; off += 8) {
		mmio_write32(common + off, RINGS + (below(RINGS_BYTES / 2) & ~15u));
		mmio_write32(common + off + 4, 0);
	}
	mmio_write16(common + 0x1c, 1);
	mmio_write8(common + 0x14, 15);
	for (uint32_t n = below(8); n; n--)
		mmio_write16(notify, below(4));
}

static void poke_device(void)
{
	uint64_t cfg = config_of(below(3), below(6), 0), bar;
	uint32_t id = mmio_read32(cfg);

	if (id == 0xffffffff)
		return;
	mmio_write16(cfg + 4, 7);
	bar = bar_of(cfg, below(2) ? 4 : below(5));
	if (!bar)
		return;
	if ((id & 0xffff) == 0x1af4 && below(2))
		drive_virtio(bar, bar + 0x3000);
	for (uint32_t n = below(6); n; n--)
		poke_mem(bar + below(0x4000));
}

/* Rings made of descriptors that look right more often than not. */
static void fill_rings(void)
{
	for (uint32_t n = 0; n < 8; n++) {
		uint64_t at = RINGS + (below(RINGS_BYTES - 16) & ~15u);

		mmio_write64(at, below(8) ? RINGS + below(RINGS_BYTES) : rnd());
		mmio_write32(at + 8, below(4) ? below(8192) : (uint32_t)rnd());
		mmio_write32(at + 12, below(8) | below(256) << 16);
	}
}

void guest_main(void)
{
	uint32_t lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
	seed = (uint64_t)hi << 32 | lo | 1;
	map_high();
	for (;;) {
		switch (below(8)) {
		case 0: case 1: poke_port(); break;
		case 2: poke_config(); break;
		case 3: fill_rings(); break;
		case 4: poke_mem(0xc0000000ull + below(0x100000)); break;
		case 5: poke_mem(HIGH + below(0x2000000)); break;
		default: poke_device(); break;
		}
	}
}

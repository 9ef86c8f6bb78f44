/*
 * guest_exits.c - port and memory-mapped accesses of every width, strings,
 * accesses across a window's end, a device that is a register table.
 */
#include "tests/kvm/guestlib.h"

static uint8_t buf[64];

static void rep_outsb(uint16_t port, const void *p, uint64_t n)
{
	__asm__ volatile("rep outsb" : "+S"(p), "+c"(n) : "d"(port) : "memory");
}

static void rep_outsl(uint16_t port, const void *p, uint64_t n)
{
	__asm__ volatile("rep outsl" : "+S"(p), "+c"(n) : "d"(port) : "memory");
}

static void rep_insw(uint16_t port, void *p, uint64_t n)
{
	__asm__ volatile("rep insw" : "+D"(p), "+c"(n) : "d"(port) : "memory");
}

static void ports(void)
{
	outb(PORT_PROBE, 0x11);
	outw(PORT_PROBE + 2, 0x2222);
	outl(PORT_PROBE + 4, 0x33333333);
	CHECK(1, inb(PORT_PROBE) == 0x80);
	CHECK(2, inw(PORT_PROBE + 2) == 0x8382);
	CHECK(3, inl(PORT_PROBE + 4) == 0x87868584);
	CHECK(4, inl(0x1230) == 0xffffffff);
	CHECK(5, inl(PORT_PROBE + 14) == 0xffff8f8e);	/* two bytes are nobody's */
}

static void strings(void)
{
	static const uint8_t text[] = "string";
	static const uint32_t longs[] = { 0xa1a2a3a4, 0xb1b2b3b4, 0xc1c2c3c4 };
	int i;

	mark(1);
	rep_outsb(PORT_PROBE, text, 6);
	rep_outsl(PORT_PROBE + 8, longs, 3);
	rep_insw(PORT_PROBE + 2, buf, 5);
	for (i = 0; i < 10; i++)
		CHECK(10, buf[i] == 0x82 + i % 2);
	CHECK(11, buf[10] == 0);
}

static void memory(void)
{
	mark(2);
	mmio_write8(MMIO_PROBE + 1, 0x11);
	mmio_write16(MMIO_PROBE + 2, 0x2222);
	mmio_write32(MMIO_PROBE + 4, 0x33333333);
	mmio_write64(MMIO_PROBE + 8, 0x4444444455555555);
	CHECK(20, mmio_read8(MMIO_PROBE + 1) == 0x81);
	CHECK(21, mmio_read16(MMIO_PROBE + 2) == 0x8382);
	CHECK(22, mmio_read32(MMIO_PROBE + 4) == 0x87868584);
	CHECK(23, mmio_read64(MMIO_PROBE + 8) == 0x8f8e8d8c8b8a8988);
	CHECK(24, mmio_read64(MMIO_NOBODY) == ~0ull);
	mark(3);
	mmio_write32(MMIO_PROBE + 0xfe, 0xddccbbaa);	/* two bytes past the end */
	CHECK(25, mmio_read32(MMIO_PROBE + 0xfe) == 0xffff7f7e);
	mmio_write32(MMIO_PROBE + 0x11, 0x99887766);	/* not aligned */
}

static void registers(void)
{
	mark(4);
	CHECK(30, mmio_read32(MMIO_REGS) == 0x726f6f73);
	mmio_write32(MMIO_REGS, 0);
	CHECK(31, mmio_read32(MMIO_REGS) == 0x726f6f73);
	mmio_write32(MMIO_REGS + 4, 0xffffffff);
	CHECK(32, mmio_read32(MMIO_REGS + 4) == 0x0000ff00);
	mmio_write32(MMIO_REGS + 8, 0x0f);
	CHECK(33, mmio_read32(MMIO_REGS + 8) == 0xf0);
	CHECK(34, mmio_read16(MMIO_REGS + 8) == 0);	/* wrong width */
	mmio_write64(MMIO_REGS + 16, 0x1122334455667788);
	CHECK(35, mmio_read32(MMIO_REGS + 20) == 0x11223344);
	CHECK(36, mmio_read32(MMIO_REGS + 12) == 0);	/* no such register */
	CHECK(37, mmio_read32(MMIO_REGS + 0x1c) == 3);	/* hook: third read */
}

void guest_main(void)
{
	ports();
	strings();
	memory();
	registers();
	done(0);
}

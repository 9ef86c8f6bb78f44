/*
 * tests/kvm/guestlib.h - what the freestanding guests share, and the ports at
 * which they meet the test (lib_kvm.h includes the numbers).
 *
 * Guests stay below some thousand instructions: where KVM is emulated in
 * software each costs about a microsecond. No SSE, no XSAVE.
 */
#ifndef TESTS_KVM_GUESTLIB_H
#define TESTS_KVM_GUESTLIB_H

#define PORT_PROBE	0x500	/* 16 bytes, written down by the test */
#define PORT_DOORBELL	0x520	/* an ioeventfd */
#define PORT_ARG	0x540	/* 4 bytes: what the test wants */
#define PORT_DONE	0x550	/* 4 bytes: the guest's verdict; 0 is good */
#define PORT_MARK	0x560	/* 4 bytes: each write is remembered */

#define MMIO_PROBE	0xd0000000u	/* 256 bytes, written down by the test */
#define MMIO_REGS	0xd0001000u	/* a register table, see test_exits.c */
#define MMIO_DOORBELL	0xd0002000u	/* an ioeventfd, any width */
#define MMIO_NOBODY	0xd0003000u

#define MSI_VECTOR	0x41
#define IPI_VECTOR	0x42

#ifdef _GUEST
#include <stdint.h>

static inline void outb(uint16_t port, uint8_t v)
{
	__asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port) : "memory");
}

static inline void outw(uint16_t port, uint16_t v)
{
	__asm__ volatile("outw %0, %1" : : "a"(v), "Nd"(port) : "memory");
}

static inline void outl(uint16_t port, uint32_t v)
{
	__asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port) : "memory");
}

static inline uint8_t inb(uint16_t port)
{
	uint8_t v;

	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}

static inline uint16_t inw(uint16_t port)
{
	uint16_t v;

	__asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}

static inline uint32_t inl(uint16_t port)
{
	uint32_t v;

	__asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}

/* Plain moves, so that KVM's emulator knows the instruction. */
#define MMIO(bits, insn, reg)						\
static inline uint##bits##_t mmio_read##bits(uint64_t addr)		\
{									\
	uint##bits##_t v;						\
									\
	__asm__ volatile(insn " (%1), %0" : "=a"(v) : "r"(addr) : "memory"); \
	return v;							\
}									\
static inline void mmio_write##bits(uint64_t addr, uint##bits##_t v)	\
{									\
	__asm__ volatile(insn " %0, (%1)" : : "a"(v), "r"(addr) : "memory"); \
}
MMIO(8, "movb", "al")
MMIO(16, "movw", "ax")
MMIO(32, "movl", "eax")
MMIO(64, "movq", "rax")
#undef MMIO

static inline void mark(uint32_t v)
{
	outl(PORT_MARK, v);
}

/* Report and stop; @verdict 0 is success, else the number of what failed. */
static inline void __attribute__((noreturn)) done(uint32_t verdict)
{
	outl(PORT_DONE, verdict);
	for (;;)
		__asm__ volatile("cli; hlt");
}

#define CHECK(n, cond) do {	\
	if (!(cond))		\
		done(n);	\
} while (0)

/* Each guest's. */
void guest_main(void) __attribute__((noreturn));

/* guestlib_irq.c: an IDT whose vectors count, and the local APIC. */
extern volatile uint32_t irq_count[256];
void irq_setup(void);
uint32_t apic_read(uint32_t reg);
void apic_write(uint32_t reg, uint32_t v);
#endif

#endif

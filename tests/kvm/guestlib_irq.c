/*
 * guestlib_irq.c - interrupts for guests: an IDT in which MSI_VECTOR and
 * IPI_VECTOR count and acknowledge, and the local APIC in xAPIC mode.
 */
#include "tests/kvm/guestlib.h"

#define APIC		0xfee00000u
#define APIC_EOI	0xb0
#define APIC_SVR	0xf0
#define SVR_ENABLE	0x100

struct gate {
	uint16_t off0, sel;
	uint8_t ist, type;
	uint16_t off1;
	uint32_t off2, zero;
};

static struct gate idt[256];
volatile uint32_t irq_count[256];

uint32_t apic_read(uint32_t reg)
{
	return mmio_read32(APIC + reg);
}

void apic_write(uint32_t reg, uint32_t v)
{
	mmio_write32(APIC + reg, v);
}

/* Written out, because the compiler's interrupt functions save SSE state. */
#define VECTOR(n, name)							\
void name(void);							\
__asm__(".text\n" #name ":\n"						\
	"push %rax\n"							\
	"lock incl irq_count + 4 * " #n "(%rip)\n"			\
	"mov $0xfee000b0, %eax\n"					\
	"movl $0, (%rax)\n"						\
	"pop %rax\n"							\
	"iretq\n")
VECTOR(0x41, vector_msi);
VECTOR(0x42, vector_ipi);

static void gate_set(int n, void (*fn)(void))
{
	uint64_t at = (uint64_t)fn;
	uint16_t cs;

	__asm__("mov %%cs, %0" : "=r"(cs));
	idt[n] = (struct gate){ (uint16_t)at, cs, 0, 0x8e, (uint16_t)(at >> 16),
				(uint32_t)(at >> 32), 0 };
}

void irq_setup(void)
{
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) idtr = { sizeof(idt) - 1, (uint64_t)idt };

	gate_set(MSI_VECTOR, vector_msi);
	gate_set(IPI_VECTOR, vector_ipi);
	__asm__ volatile("lidt %0" : : "m"(idtr));
	apic_write(APIC_SVR, SVR_ENABLE | 0xff);
}

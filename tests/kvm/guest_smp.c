/*
 * guest_smp.c - the first vCPU starts the second and waits until it counted;
 * then an interrupt to itself wakes it from HLT.
 */
#include "tests/kvm/guestlib.h"

#define APIC_ICR	0x300
#define APIC_ICR_HIGH	0x310
#define ICR_INIT	0x4500
#define ICR_STARTUP	0x4600
#define AP_PAGE		0x8		/* starts at 0x8000 */

/* In real mode, at 0x8000: count up at 0x7000, say so, stop. */
__asm__(".text\n"
	".code16\n"
	"ap_start:\n"
	"	xor	%ax, %ax\n"
	"	mov	%ax, %ds\n"
	"	lock incl 0x7000\n"
	"	mov	$0x560, %dx\n"		/* PORT_MARK */
	"	mov	$0xa9, %eax\n"
	"	out	%eax, %dx\n"
	"1:	cli\n"
	"	hlt\n"
	"	jmp	1b\n"
	"ap_end:\n"
	".code64\n");
extern const uint8_t ap_start[], ap_end[];

static void send(uint32_t apic_id, uint32_t command)
{
	apic_write(APIC_ICR_HIGH, apic_id << 24);
	apic_write(APIC_ICR, command);
}

void guest_main(void)
{
	volatile uint32_t *count = (volatile uint32_t *)0x7000;
	uint8_t *to = (uint8_t *)0x8000;
	const uint8_t *from;
	uint32_t i;

	for (from = ap_start; from < ap_end; from++)
		*to++ = *from;
	*count = 0;
	irq_setup();
	send(1, ICR_INIT);
	send(1, ICR_STARTUP | AP_PAGE);
	for (i = 0; *count == 0; i++)
		CHECK(1, i < 2000000);
	CHECK(2, *count == 1);
	/* To oneself, through the same registers: wakes this one. */
	send(0, 0x4000 | IPI_VECTOR);
	__asm__ volatile("sti; hlt; cli");
	CHECK(3, irq_count[IPI_VECTOR] == 1);
	done(0);
}

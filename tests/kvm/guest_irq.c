/*
 * guest_irq.c - sleeps in HLT until the test's message arrives, several times.
 */
#include "tests/kvm/guestlib.h"

void guest_main(void)
{
	uint32_t i, n = inl(PORT_ARG);

	irq_setup();
	for (i = 0; i < n; i++) {
		mark(i);			/* now the test sends */
		__asm__ volatile("sti; hlt; cli");
		CHECK(1, irq_count[MSI_VECTOR] == i + 1);
	}
	done(0);
}

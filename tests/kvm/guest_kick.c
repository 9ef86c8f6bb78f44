/*
 * guest_kick.c - doorbells that never exit, in ports and in memory, with and
 * without a value to match. PORT_ARG says how many rings.
 */
#include "tests/kvm/guestlib.h"

void guest_main(void)
{
	uint32_t i, n = inl(PORT_ARG);

	for (i = 0; i < n; i++) {
		outw(PORT_DOORBELL, 1);		/* value matched by the test */
		mmio_write16(MMIO_DOORBELL, (uint16_t)i);
		mmio_write32(MMIO_DOORBELL, i);
	}
	outw(PORT_DOORBELL, 2);			/* no match: an exit */
	done(0);
}

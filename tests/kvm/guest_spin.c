/*
 * guest_spin.c - exits for ever: the same value goes out and comes back in
 * through memory and ports, so that a lost or doubled completion shows.
 */
#include "tests/kvm/guestlib.h"

void guest_main(void)
{
	uint32_t i;

	for (i = 0; ; i++) {
		mmio_write32(MMIO_PROBE, i);
		CHECK(1, mmio_read32(MMIO_PROBE) == i);
		outl(PORT_PROBE, i);
		CHECK(2, inl(PORT_PROBE) == i);
	}
}

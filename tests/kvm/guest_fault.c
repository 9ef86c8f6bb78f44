/*
 * guest_fault.c - ends in the way PORT_ARG says: 0 well, 1 by a triple fault,
 * 2 by running code where no memory is, 3 well, after a read from memory that
 * belongs to a device.
 */
#include "tests/kvm/guestlib.h"

static void triple_fault(void)
{
	const struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) none = { 0, 0 };

	__asm__ volatile("lidt %0; ud2" : : "m"(none));
}

static void run_nothing(void)
{
	__asm__ volatile("jmp *%0" : : "r"((uint64_t)MMIO_NOBODY));
}

void guest_main(void)
{
	uint32_t how = inl(PORT_ARG);

	mark(how);
	if (how == 1)
		triple_fault();
	if (how == 2)
		run_nothing();
	if (how == 3)
		mmio_read32(MMIO_PROBE);
	done(0);
}

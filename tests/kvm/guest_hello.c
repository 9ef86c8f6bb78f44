/*
 * guest_hello.c - says one line on COM1 and sleeps: the cheapest guest.
 */
#include "tests/kvm/guestlib.h"

void guest_main(void)
{
	static const char text[] = "hello from the guest\r\n";

	for (const char *p = text; *p; p++)
		outb(0x3f8, (uint8_t)*p);
	for (;;)
		__asm__ volatile("cli; hlt");
}

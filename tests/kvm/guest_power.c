/*
 * guest_power.c - a guest on the q35 machine that says it is up and powers off
 * when the power button is pressed: enough of an operating system for verbs.
 */
#include "tests/kvm/guestlib.h"

#define COM1		0x3f8
#define PM1_STS		0x600
#define PM1_EN		0x602
#define PM1_CNT		0x604
#define PWRBTN		0x100	/* ACPI 6.5 s4.8.4.1: the same bit in both */
#define S5		((7 << 10) | (1 << 13))	/* the DSDT's _S5 and SLP_EN */

static void say(const char *s)
{
	for (; *s; s++)
		outb(COM1, (uint8_t)*s);
}

void guest_main(void)
{
	outw(PM1_EN, PWRBTN);
	say("guest is up\n");
	while (!(inw(PM1_STS) & PWRBTN))
		for (int i = 0; i < 2000; i++)	/* exits are what costs */
			__asm__ volatile("pause");
	say("guest is off\n");
	outw(PM1_CNT, S5);
	for (;;)
		__asm__ volatile("cli; hlt");
}

/*
 * guest_shell.c - a guest with a prompt on COM1, for tests of the library.
 *
 * A line is one letter: h halts for good, m writes a word to memory, l prints
 * many lines, o powers off, p answers, q prints what it counted since its start,
 * r resets, s answers slowly, t ends in a triple fault, x leaves by
 * isa-debug-exit with the value after it.
 */
#include "tests/kvm/guestlib.h"

#define COM1		0x3f8
#define LSR		5
#define LSR_DATA	0x01
#define LSR_THR_EMPTY	0x20
#define PM1_CNT		0x604
#define SLP_S5		(0x2000 | 7 << 10)
#define RESET_CONTROL	0xcf9
#define DEBUG_EXIT	0x501

static volatile uint64_t *const word = (volatile uint64_t *)0x300000;

static void put(char c)
{
	while (!(inb(COM1 + LSR) & LSR_THR_EMPTY))
		__asm__ volatile("pause");
	outb(COM1, (uint8_t)c);
}

static void print(const char *s)
{
	for (; *s; s++) {
		if (*s == '\n')
			put('\r');
		put(*s);
	}
}

static void print_number(uint32_t n)
{
	char digits[11];
	int i = 10;

	digits[i] = 0;
	do
		digits[--i] = (char)('0' + n % 10);
	while (n /= 10);
	print(digits + i);
}

static char get(void)
{
	while (!(inb(COM1 + LSR) & LSR_DATA))
		__asm__ volatile("pause");
	return (char)inb(COM1);
}

static void triple_fault(void)
{
	static const struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) none;

	__asm__ volatile("lidt %0; ud2" : : "m"(none));
}

static void halt(void)
{
	/* A value to be found in a register. */
	for (;;)
		__asm__ volatile("cli; hlt" : : "b"(0x1122334455667788ull), "r"(0));
}

static void many_lines(void)
{
	for (uint32_t i = 0; i < 200; i++) {
		print("line ");
		print_number(i);
		print("\n");
	}
}

static void slowly(void)
{
	for (volatile uint32_t i = 0; i < 20000; i++)
		;
	print("at last\n");
}

static void obey(char c)
{
	static uint32_t count;

	count++;
	switch (c) {
	case 'h':
		print("halted\n");
		halt();
		break;
	case 'l':
		many_lines();
		break;
	case 'm':
		*word = 0xfeedfacecafef00dull;
		print("written\n");
		break;
	case 'o':
		print("bye\n");
		outw(PM1_CNT, SLP_S5);
		break;
	case 'p':
		print("pong\n");
		break;
	case 'q':
		print("count ");
		print_number(count);
		print("\n");
		break;
	case 'r':
		outb(RESET_CONTROL, 6);
		break;
	case 's':
		slowly();
		break;
	case 't':
		triple_fault();
		break;
	case 'x':
		outb(DEBUG_EXIT, (uint8_t)get());
		break;
	}
}

void guest_main(void)
{
	char c;

	print("guest ready\n> ");
	for (;;) {
		c = get();
		if (c == '\r' || c == '\n')
			print("> ");
		else
			obey(c);
	}
}

/* 16550A serial port, through the bus, with a socket as its cable. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/serial_reg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/serial/uart16550.h"
#include "tests/dev/lib_ports.h"
#include "tests/dev/lib_rig.h"
#include "vmm/base/util.h"
#include "vmm/char/char.h"

#define COM1	0x3f8
#define IRQ	4
#define FIFO	(UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR | UART_FCR_CLEAR_XMIT)
#define EMPTY	(UART_LSR_THRE | UART_LSR_TEMT)

extern const struct dev_type isa_serial_type;
static const struct dev_type *const types[] = { &isa_serial_type, NULL };

static struct rig *r;
static struct chardev *chr;
static int cable = -1;		/* the far end */

static struct chardev *add_char(const char *json)
{
	json_t *args = json_loads(json, 0, NULL);
	struct err e = ERR_INIT;
	struct chardev *c;

	cr_assert_eq(char_add(r->vm->chars, args, &c, &e), 0, "%s", e.text);
	json_decref(args);
	return c;
}

static void setup(void)
{
	char json[128];
	int fd[2];

	r = rig_create(types, 4 * MIB);
	r->vm->chars = char_set_create(r->loop);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	cable = fd[1];
	snprintf(json, sizeof(json), "{\"backend\": \"socket\", \"id\": \"c\", \"fd\": \"%d\"}",
		 fd[0]);
	chr = add_char(json);
	rig_device(r, "{'driver': 'isa-serial', 'chardev': 'c', 'id': 's0'}");
	rig_turn(r);
}

static void teardown(void)
{
	while (r->vm->devs)
		dev_destroy(r->vm->devs);
	char_set_destroy(r->vm->chars);
	r->vm->chars = NULL;
	rig_destroy(r);
	close(cable);
}

TestSuite(serial, .init = setup, .fini = teardown);

static uint8_t in(unsigned int reg)
{
	return (uint8_t)rig_pio_read(r, (uint16_t)(COM1 + reg), 1);
}

static void out(unsigned int reg, uint8_t v)
{
	rig_pio_write(r, (uint16_t)(COM1 + reg), 1, v);
}

static uint8_t iir(void)
{
	return in(UART_IIR) & 0x0f;
}

/* Bytes arrive over the cable. */
static void type(const char *s, size_t len)
{
	cr_assert_eq(write(cable, s, (ssize_t)len), len);
	for (int i = 0; i < 5; i++)
		rig_turn(r);
}

static void expect_sent(const char *want)
{
	char buf[256] = "";
	ssize_t n;

	for (int i = 0; i < 5; i++)
		rig_turn(r);
	n = read(cable, buf, sizeof(buf) - 1);
	cr_assert_eq(n < 0 ? 0 : (size_t)n, strlen(want));
	cr_assert_str_eq(buf, want);
}

/* The break that Ctrl-A b makes. */
static void send_break(void)
{
	type("\x01" "b", 2);
}

/* ---- registers ---- */

Test(serial, test_serial_reset_values)
{
	cr_expect_eq(in(UART_IER), 0);
	cr_expect_eq(in(UART_IIR), UART_IIR_NO_INT);
	cr_expect_eq(in(UART_LCR), 0);
	cr_expect_eq(in(UART_MCR), 0);
	cr_expect_eq(in(UART_LSR), EMPTY);
	cr_expect_eq(in(UART_MSR), UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS);
	cr_expect_eq(in(UART_SCR), 0);
	cr_expect_not(rig_level(r, IRQ));
}

Test(serial, test_serial_scratch_and_unused_bits)
{
	out(UART_SCR, 0x5a);
	out(UART_IER, 0xff);
	out(UART_MCR, 0xef);
	cr_expect_eq(in(UART_SCR), 0x5a);
	cr_expect_eq(in(UART_IER), 0x0f);
	cr_expect_eq(in(UART_MCR), 0x0f);
	out(UART_LSR, 0xff);
	out(UART_MSR, 0xff);
	cr_expect_eq(in(UART_LSR), EMPTY);
}

Test(serial, test_serial_divisor_is_behind_dlab)
{
	out(UART_LCR, UART_LCR_DLAB | UART_LCR_WLEN8);
	out(UART_DLL, 0x34);
	out(UART_DLM, 0x12);
	cr_expect_eq(in(UART_DLL), 0x34);
	cr_expect_eq(in(UART_DLM), 0x12);
	out(UART_LCR, UART_LCR_WLEN8);
	cr_expect_eq(in(UART_IER), 0);
	expect_sent("");	/* nothing went out meanwhile */
}

Test(serial, test_serial_iir_shows_the_fifo)
{
	out(UART_FCR, FIFO);
	cr_expect_eq(in(UART_IIR), 0xc1);
	out(UART_FCR, UART_FCR_CLEAR_RCVR);	/* bit 0 clear: FIFO off */
	cr_expect_eq(in(UART_IIR), 0x01);
}

/* What Linux's autoconfig() does. */
Test(serial, test_serial_loopback_connects_the_modem_lines)
{
	out(UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2 | UART_MCR_RTS);
	cr_expect_eq(in(UART_MSR) & 0xf0, UART_MSR_DCD | UART_MSR_CTS);
	out(UART_MCR, UART_MCR_LOOP | UART_MCR_OUT1 | UART_MCR_DTR);
	cr_expect_eq(in(UART_MSR), UART_MSR_RI | UART_MSR_DSR |
		     UART_MSR_DDCD | UART_MSR_DCTS | UART_MSR_DDSR);
	out(UART_MCR, UART_MCR_LOOP | UART_MCR_DTR);
	cr_expect_eq(in(UART_MSR), UART_MSR_DSR | UART_MSR_TERI);
	cr_expect_eq(in(UART_MSR), UART_MSR_DSR);	/* reading cleared it */
}

Test(serial, test_serial_loopback_returns_bytes_and_keeps_them_off_the_cable)
{
	out(UART_FCR, FIFO);
	out(UART_MCR, UART_MCR_LOOP);
	for (int i = 0; i < 17; i++)
		out(UART_TX, (uint8_t)('a' + i));
	cr_expect_eq(in(UART_LSR), UART_LSR_DR | UART_LSR_OE | EMPTY);
	for (int i = 0; i < 16; i++)
		cr_expect_eq(in(UART_RX), 'a' + i);
	cr_expect_eq(in(UART_LSR), EMPTY);
	expect_sent("");
}

Test(serial, test_serial_loopback_holds_the_cable_until_it_ends)
{
	out(UART_FCR, FIFO);
	out(UART_MCR, UART_MCR_LOOP);
	type("x", 1);
	cr_expect_eq(in(UART_LSR), EMPTY);
	out(UART_MCR, 0);
	rig_turn(r);
	rig_turn(r);
	cr_expect_eq(in(UART_RX), 'x');
}

Test(serial, test_serial_modem_change_interrupts)
{
	out(UART_IER, UART_IER_MSI);
	cr_expect_not(rig_level(r, IRQ));
	out(UART_MCR, UART_MCR_LOOP);	/* all inputs drop */
	cr_expect(rig_level(r, IRQ));
	cr_expect_eq(iir(), UART_IIR_MSI);
	in(UART_MSR);
	cr_expect_not(rig_level(r, IRQ));
}

Test(serial, test_serial_wide_access_is_byte_cycles)
{
	rig_pio_write(r, COM1 + UART_SCR - 1, 2, 0xaa00);
	cr_expect_eq(in(UART_SCR), 0xaa);
	cr_expect_eq(rig_pio_read(r, COM1 + UART_MSR, 2), 0xaab0);
}

/* ---- transmit ---- */

Test(serial, test_serial_output_arrives)
{
	for (const char *p = "hello\n"; *p; p++) {
		cr_assert(in(UART_LSR) & UART_LSR_THRE);
		out(UART_TX, (uint8_t)*p);
	}
	expect_sent("hello\n");
}

Test(serial, test_serial_thri_enabled_while_empty_interrupts_once)
{
	out(UART_IER, UART_IER_THRI);
	cr_expect(rig_level(r, IRQ));
	cr_expect_eq(iir(), UART_IIR_THRI);
	cr_expect_not(rig_level(r, IRQ));	/* reading IIR cleared it */
	cr_expect_eq(iir(), UART_IIR_NO_INT);
	out(UART_IER, UART_IER_THRI);		/* was on: no news */
	cr_expect_not(rig_level(r, IRQ));
	out(UART_TX, 'x');
	cr_expect(rig_level(r, IRQ));
}

/* A driver that fills 16 bytes per interrupt: 18 exits for 16 bytes. */
Test(serial, test_serial_burst_of_sixteen_finds_the_next_interrupt_pending)
{
	out(UART_FCR, FIFO);
	out(UART_IER, UART_IER_THRI);
	for (int batch = 0; batch < 8; batch++) {
		cr_assert_eq(iir(), UART_IIR_THRI);
		cr_assert_eq(in(UART_LSR), EMPTY);
		for (int i = 0; i < 16; i++)
			out(UART_TX, '.');
	}
	out(UART_IER, 0);
	cr_expect_not(rig_level(r, IRQ));
}

Test(serial, test_serial_endless_burst_lets_the_handler_out)
{
	int bytes = 0;

	out(UART_FCR, FIFO);
	out(UART_IER, UART_IER_THRI);
	while (iir() == UART_IIR_THRI && bytes < 100000)
		for (int i = 0; i < 16; i++, bytes++)
			out(UART_TX, '.');
	cr_expect_lt(bytes, 512 * 16);	/* Linux's limit */
	cr_expect_not(rig_level(r, IRQ));
	rig_turn(r);
	cr_expect(rig_level(r, IRQ));	/* and goes on by itself */
	cr_expect_eq(iir(), UART_IIR_THRI);
}

/* Nobody reads the cable: THRE goes away, no byte does. */
Test(serial, test_serial_stuck_cable_clears_thre_and_loses_nothing)
{
	size_t sent = 0, got = 0;
	uint8_t expect = 0, buf[4096];
	ssize_t n;
	int idle = 0;

	out(UART_FCR, FIFO);
	while (idle < 3) {
		for (idle++; in(UART_LSR) & UART_LSR_THRE; idle = 0)
			out(UART_TX, (uint8_t)sent++);
		rig_turn(r);
	}
	cr_assert_geq(sent, 65536);
	cr_expect_eq(in(UART_LSR), 0);
	out(UART_IER, UART_IER_THRI);
	cr_expect_not(rig_level(r, IRQ));
	while (got < sent) {
		n = read(cable, buf, sizeof(buf));
		for (ssize_t i = 0; i < n; i++)
			cr_assert_eq(buf[i], expect++);
		got += n > 0 ? (size_t)n : 0;
		rig_turn(r);
	}
	cr_expect_eq(in(UART_LSR), EMPTY);
	cr_expect(rig_level(r, IRQ));
	cr_expect_eq(iir(), UART_IIR_THRI);
}

Test(serial, test_serial_reader_gone_output_goes_on)
{
	int idle = 0;

	while (idle < 3) {
		for (idle++; in(UART_LSR) & UART_LSR_THRE; idle = 0)
			out(UART_TX, 'x');
		rig_turn(r);
	}
	close(cable);
	cable = -1;
	for (int i = 0; i < 5; i++)
		rig_turn(r);
	for (int i = 0; i < 200000; i++) {
		cr_assert(in(UART_LSR) & UART_LSR_THRE);
		out(UART_TX, 'x');
	}
}

Test(serial, test_serial_stuck_guest_that_ignores_thre_keeps_the_oldest)
{
	int idle = 0;

	out(UART_FCR, FIFO);
	while (idle < 3) {
		for (idle++; in(UART_LSR) & UART_LSR_THRE; idle = 0)
			out(UART_TX, 'x');
		rig_turn(r);
	}
	for (int i = 0; i < 1000; i++)
		out(UART_TX, 'y');
	cr_expect_eq(in(UART_LSR), 0);
	out(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_XMIT);
	cr_expect_eq(in(UART_LSR), EMPTY);
}

/* ---- receive ---- */

Test(serial, test_serial_input_polled)
{
	out(UART_FCR, FIFO);
	type("abc", 3);
	for (const char *p = "abc"; *p; p++) {
		cr_assert(in(UART_LSR) & UART_LSR_DR);
		cr_assert_eq(in(UART_RX), *p);
	}
	cr_expect_not(in(UART_LSR) & UART_LSR_DR);
}

Test(serial, test_serial_below_trigger_times_out_at_once)
{
	out(UART_FCR, FIFO | UART_FCR_TRIGGER_8);
	out(UART_IER, UART_IER_RDI);
	type("abc", 3);
	cr_expect(rig_level(r, IRQ));
	cr_expect_eq(iir(), UART_IIR_RX_TIMEOUT & 0x0f);
	in(UART_RX);
	in(UART_RX);
	cr_expect(rig_level(r, IRQ));
	in(UART_RX);
	cr_expect_not(rig_level(r, IRQ));
	cr_expect_eq(iir(), UART_IIR_NO_INT);
}

Test(serial, test_serial_at_trigger_data_is_available)
{
	static const uint8_t fcr[] = { UART_FCR_TRIGGER_1, UART_FCR_TRIGGER_4,
				       UART_FCR_TRIGGER_8, UART_FCR_TRIGGER_14 };
	static const int bytes[] = { 1, 4, 8, 14 };

	out(UART_IER, UART_IER_RDI);
	for (size_t i = 0; i < ARRAY_LEN(fcr); i++) {
		out(UART_FCR, FIFO | fcr[i]);
		type("0123456789abcdef", (size_t)bytes[i]);
		cr_expect_eq(iir(), UART_IIR_RDI);
	}
}

Test(serial, test_serial_without_fifo_one_byte_at_a_time)
{
	out(UART_IER, UART_IER_RDI);
	type("abc", 3);
	for (const char *p = "abc"; *p; p++) {
		cr_assert_eq(iir(), UART_IIR_RDI);
		cr_assert_eq(in(UART_RX), *p);
		cr_assert_not(in(UART_LSR) & UART_LSR_OE);
		for (int i = 0; i < 5; i++)
			rig_turn(r);
	}
	cr_expect_eq(iir(), UART_IIR_NO_INT);
}

Test(serial, test_serial_long_input_never_overruns)
{
	char text[1000];
	int got = 0;

	memset(text, 'z', sizeof(text));
	out(UART_FCR, FIFO);
	type(text, sizeof(text));
	for (int i = 0; i < 5000 && got < 1000; i++) {
		uint8_t lsr = in(UART_LSR);

		cr_assert_not(lsr & UART_LSR_OE);
		if (lsr & UART_LSR_DR) {
			cr_assert_eq(in(UART_RX), 'z');
			got++;
		} else {
			rig_turn(r);
		}
	}
	cr_expect_eq(got, 1000);
}

Test(serial, test_serial_fcr_reset_drops_input)
{
	out(UART_FCR, FIFO);
	type("abc", 3);
	out(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR);
	cr_expect_eq(in(UART_LSR), EMPTY);
}

/* ---- priorities and breaks ---- */

Test(serial, test_serial_interrupts_come_by_priority)
{
	out(UART_FCR, FIFO);
	out(UART_IER, 0x0f);
	out(UART_MCR, UART_MCR_LOOP);
	for (int i = 0; i < 17; i++)	/* overrun, data, THRE, modem */
		out(UART_TX, 'a');
	cr_expect_eq(iir(), UART_IIR_RLSI);
	in(UART_LSR);
	cr_expect_eq(iir(), UART_IIR_RDI);
	for (int i = 0; i < 16; i++)
		in(UART_RX);
	cr_expect_eq(iir(), UART_IIR_THRI);
	cr_expect_eq(iir(), UART_IIR_MSI);
	in(UART_MSR);
	cr_expect_eq(iir(), UART_IIR_NO_INT);
	cr_expect_not(rig_level(r, IRQ));
}

/* A second port on a terminal that knows Ctrl-A. */
static void mux_port(void)
{
	char json[160];
	int fd[2];

	dev_destroy(r->vm->devs);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	close(cable);
	cable = fd[1];
	snprintf(json, sizeof(json), "{\"backend\": \"socket\", \"id\": \"m\", \"fd\": \"%d\","
		 " \"mux\": true}", fd[0]);
	add_char(json);
	rig_device(r, "{'driver': 'isa-serial', 'chardev': 'm', 'index': 0}");
	rig_turn(r);
}

Test(serial, test_serial_break_shows_with_its_own_character)
{
	mux_port();
	out(UART_FCR, FIFO | UART_FCR_TRIGGER_14);
	out(UART_IER, UART_IER_RLSI);
	type("ab", 2);
	send_break();
	cr_expect_eq(in(UART_LSR), UART_LSR_DR | UART_LSR_FIFOE | EMPTY);
	cr_expect_not(rig_level(r, IRQ));
	cr_expect_eq(in(UART_RX), 'a');
	cr_expect_eq(in(UART_RX), 'b');
	cr_expect(rig_level(r, IRQ));
	cr_expect_eq(in(UART_LSR), UART_LSR_DR | UART_LSR_BI | EMPTY);
	cr_expect_eq(in(UART_RX), 0);
	cr_expect_eq(in(UART_LSR), EMPTY);
}

Test(serial, test_serial_break_on_a_full_fifo_waits_and_keeps_order)
{
	mux_port();
	out(UART_FCR, FIFO);
	type("0123456789abcdef", 16);
	send_break();
	type("h", 1);
	for (const char *p = "0123456789abcdef"; *p; p++) {
		cr_expect_eq(in(UART_LSR) & (UART_LSR_OE | UART_LSR_BI), 0);
		cr_expect_eq(in(UART_RX), *p);
	}
	cr_expect_eq(in(UART_LSR) & (UART_LSR_OE | UART_LSR_BI), UART_LSR_BI);
	cr_expect_eq(in(UART_RX), 0);
	for (int i = 0; i < 5; i++)
		rig_turn(r);
	cr_expect_eq(in(UART_RX), 'h');
}

/* ---- set-up and reset ---- */

Test(serial, test_serial_reset_silences_it)
{
	out(UART_FCR, FIFO);
	out(UART_IER, 0x0f);
	type("abc", 3);
	cr_assert(rig_level(r, IRQ));
	rig_reset(r);
	cr_expect_not(rig_level(r, IRQ));
	cr_expect_eq(in(UART_LSR), EMPTY);
	cr_expect_eq(in(UART_IER), 0);
}

Test(serial, test_serial_ports_number_themselves)
{
	struct err e = ERR_INIT;

	add_char("{\"backend\": \"null\", \"id\": \"n1\"}");
	add_char("{\"backend\": \"null\", \"id\": \"n2\"}");
	rig_device(r, "{'driver': 'isa-serial', 'chardev': 'n1'}");
	rig_pio_write(r, 0x2f8 + UART_SCR, 1, 7);
	cr_expect_eq(rig_pio_read(r, 0x2f8 + UART_SCR, 1), 7);
	cr_expect_eq(in(UART_SCR), 0);
	cr_expect_eq(rig_device_error(r, "{'driver': 'isa-serial', 'chardev': 'n2', "
				      "'index': 1}", &e), -EBUSY);
	cr_expect_not_null(strstr(e.text, "index=1 is taken"), "%s", e.text);
}

Test(serial, test_serial_wrong_chardevs_are_named)
{
	struct err e = ERR_INIT, f = ERR_INIT, g = ERR_INIT;

	cr_expect_eq(rig_device_error(r, "{'driver': 'isa-serial', 'chardev': 'nope'}", &e),
		     -ENOENT);
	cr_expect_not_null(strstr(e.text, "chardev=nope"), "%s", e.text);
	cr_expect_eq(rig_device_error(r, "{'driver': 'isa-serial', 'chardev': 'c'}", &f),
		     -EBUSY);
	cr_expect_not_null(strstr(f.text, "in use by s0"), "%s", f.text);
	cr_expect_neq(rig_device_error(r, "{'driver': 'isa-serial'}", &g), 0);
	cr_expect_not_null(strstr(g.text, "chardev"), "%s", g.text);
}

Test(serial, test_serial_null_takes_output_at_full_speed)
{
	add_char("{\"backend\": \"null\", \"id\": \"n\"}");
	rig_device(r, "{'driver': 'isa-serial', 'chardev': 'n'}");
	for (int i = 0; i < 100000; i++) {
		cr_assert(rig_pio_read(r, 0x2f8 + UART_LSR, 1) & UART_LSR_THRE);
		rig_pio_write(r, 0x2f8 + UART_TX, 1, 'x');
	}
}

/* ---- a hostile guest ---- */

Test(serial, test_serial_hostile_patterns_do_no_harm)
{
	ports_hostile(r, COM1, 8);
}

/* A million accesses at random, now and then with input and with the far end
 * reading: the line follows IIR, and afterwards the port works. */
Test(serial, test_serial_hostile_random_accesses_do_no_harm)
{
	static const unsigned int width[] = { 1, 1, 1, 2, 4, 8 };
	uint64_t x = 88172645463325252ull;
	char sink[4096];

	for (int i = 0; i < 1000000; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		uint16_t port = (uint16_t)(COM1 + (x >> 8) % 12 - 2);
		unsigned int w = width[(x >> 16) % ARRAY_LEN(width)];

		if (x & 1)
			rig_pio_write(r, port, w, x >> 20);
		else
			rig_pio_read(r, port, w);
		if (i % 1000)
			continue;
		(void)!write(cable, &x, 8);
		rig_turn(r);
		(void)!read(cable, sink, sizeof(sink));
	}
	rig_reset(r);
	while (read(cable, sink, sizeof(sink)) > 0)
		rig_turn(r);
	out(UART_FCR, FIFO);
	cr_assert_eq(in(UART_LSR) & EMPTY, EMPTY);
	out(UART_TX, '!');
	expect_sent("!");
}

/* ---- another chardev ---- */

static void change_char(const char *json)
{
	json_t *args = json_loads(json, 0, NULL);
	struct err e = ERR_INIT;

	cr_assert_eq(char_change(r->vm->chars, args, &chr, &e), 0, "%s", e.text);
	json_decref(args);
}

static void new_cable(void)
{
	char json[128];
	int fd[2];

	close(cable);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	cable = fd[1];
	snprintf(json, sizeof(json), "{\"backend\": \"socket\", \"id\": \"c\", \"fd\": \"%d\"}",
		 fd[0]);
	change_char(json);
}

Test(serial, test_serial_on_a_pty_then_a_file_then_a_socket)
{
	char json[128], path[] = "/tmp/roost-serial-XXXXXX", got[8] = "";
	int file = mkstemp(path), tty;

	out(UART_TX, 'a');
	expect_sent("a");

	change_char("{\"backend\": \"pty\", \"id\": \"c\"}");
	tty = open(char_filename(chr) + strlen("pty:"), O_RDWR | O_NOCTTY | O_NONBLOCK);
	cr_assert_geq(tty, 0);
	rig_turn(r);
	out(UART_TX, 'b');
	rig_turn(r);
	cr_expect_eq(read(tty, got, sizeof(got)), 1);
	cr_expect_eq(got[0], 'b');

	snprintf(json, sizeof(json), "{\"backend\": \"file\", \"id\": \"c\", \"path\": \"%s\"}",
		 path);
	change_char(json);
	out(UART_TX, 'c');
	out(UART_TX, 'd');

	new_cable();
	out(UART_TX, 'e');
	expect_sent("e");
	cr_expect_eq(in(UART_LSR), EMPTY);
	type("x", 1);
	cr_expect_eq(in(UART_RX), 'x');

	char_drain(r->vm->chars, NS_PER_SEC);
	cr_expect_eq(read(file, got, sizeof(got)), 2);
	cr_expect_arr_eq(got, "cd", 2);
	close(file);
	close(tty);
	unlink(path);
}

/* The far end took nothing for so long that the UART keeps a byte itself. */
Test(serial, test_serial_sends_what_it_kept_to_the_new_chardev)
{
	char buf[4096], last = 0;
	ssize_t n;
	int i;

	for (i = 0; i < 8 << 20 && (in(UART_LSR) & UART_LSR_THRE); i++) {
		out(UART_TX, 'f');
		if (i % 4096 == 0)
			rig_turn(r);
	}
	cr_assert_not(in(UART_LSR) & UART_LSR_THRE);
	out(UART_TX, 'z');
	new_cable();
	for (i = 0; i < 200 && last != 'z'; i++) {
		rig_turn(r);
		n = read(cable, buf, sizeof(buf));
		if (n > 0)
			last = buf[n - 1];
	}
	cr_expect_eq(last, 'z');
	rig_turn(r);
	cr_expect_eq(in(UART_LSR), EMPTY);
}

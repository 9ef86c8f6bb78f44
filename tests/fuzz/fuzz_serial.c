/*
 * tests/fuzz/fuzz_serial.c - a 16550A between a guest and a far end made of
 * fuzz bytes.
 *
 * Input: steps of two bytes, what and value:
 *	0x00-0x07	write register
 *	0x08-0x0f	read register
 *	0x10-0x1f	type value (with Ctrl-A b: a break), low bits more often
 *	0x20-0x2f	turn the loop
 *	0x30-0x3f	the far end reads
 *	0x40-0x4f	reset
 * What must hold after each: the interrupt output is what IIR would say, the
 * line status agrees with the FIFOs. At the end a driver can use the port.
 */
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <linux/serial_reg.h>
#include <stdio.h>
#include <unistd.h>

#include "devices/serial/uart16550.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/core/vm.h"

enum { STEPS_MAX = 4096 };

struct port {
	struct dev dev;			/* first */
	struct uart16550 uart;
	bool level;
	int cable;
};

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void on_irq(struct uart16550 *u, bool level)
{
	container_of(u, struct port, uart)->level = level;
}

static void quiet(enum log_level level, const char *line, void *arg)
{
}

static void add_chardev(struct port *p, struct char_set *set)
{
	char fd_text[16];
	struct chardev *c;
	json_t *args;
	int fd[2];

	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd) == 0);
	p->cable = fd[1];
	snprintf(fd_text, sizeof(fd_text), "%d", fd[0]);
	args = json_pack("{s:s, s:s, s:s, s:b}", "id", "c", "backend", "socket",
			 "fd", fd_text, "mux", 1);
	check(char_add(set, args, &c, NULL) == 0);
	json_decref(args);
}

/* What IIR would say, without its side effects: asked of a copy. */
static bool pending(const struct port *p)
{
	struct port copy = { .uart = p->uart };

	copy.uart.chr = NULL;
	return !(uart16550_read(&copy.uart, UART_IIR) & UART_IIR_NO_INT);
}

static void invariants(struct port *p)
{
	const struct uart16550 *u = &p->uart;

	check(u->rx_count <= UART_FIFO_BYTES && u->rx_head < UART_FIFO_BYTES);
	check(u->tx_count <= UART_FIFO_BYTES);
	check(!(u->lsr & UART_LSR_DR) == !u->rx_count);
	check(!u->tx_count || !(u->lsr & UART_LSR_THRE));
	check(u->fcr & UART_FCR_ENABLE_FIFO || u->rx_count <= 1);
	check(p->level == pending(p));
}

static void step(struct port *p, uint8_t what, uint8_t val)
{
	char sink[4096];
	int i;

	switch (what >> 4) {
	case 0:
		pthread_mutex_lock(&p->dev.lock);
		if (what & 8)
			uart16550_read(&p->uart, what & 7);
		else
			uart16550_write(&p->uart, what & 7, val);
		pthread_mutex_unlock(&p->dev.lock);
		break;
	case 1:
		for (i = 0; i <= (what & 15); i++)
			(void)!write(p->cable, &val, 1);
		break;
	case 2:
		loop_turn(p->dev.vm->main, 0);
		break;
	case 3:
		(void)!read(p->cable, sink, sizeof(sink));
		break;
	case 4:
		pthread_mutex_lock(&p->dev.lock);
		uart16550_reset(&p->uart);
		pthread_mutex_unlock(&p->dev.lock);
		break;
	}
}

/* Whatever came before, a driver that sets the port up can use it. */
static void still_works(struct port *p)
{
	struct uart16550 *u = &p->uart;
	char sink[65536];
	int i;

	for (i = 0; i < 8; i++) {
		while (read(p->cable, sink, sizeof(sink)) > 0)
			;
		loop_turn(p->dev.vm->main, 0);
	}
	pthread_mutex_lock(&p->dev.lock);
	uart16550_reset(u);
	uart16550_write(u, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_XMIT);
	check(uart16550_read(u, UART_LSR) & UART_LSR_THRE);
	uart16550_write(u, UART_TX, '!');
	pthread_mutex_unlock(&p->dev.lock);
	for (i = 0; i < 8 && read(p->cable, sink, sizeof(sink)) <= 0; i++)
		loop_turn(p->dev.vm->main, 0);
	check(i < 8);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct loop *loop;
	struct vm vm = { 0 };
	struct port p = { 0 };
	size_t i;

	if (!loop) {
		log_set_sink(quiet, NULL);
		check(loop_create(&loop, "fuzz", LOOP_AIO_THREADS, NULL) == 0);
	}
	vm.main = loop;
	vm.chars = char_set_create(loop);
	p.dev.vm = &vm;
	p.dev.path = (char *)(uintptr_t)"serial";
	pthread_mutex_init(&p.dev.lock, NULL);
	add_chardev(&p, vm.chars);
	check(uart16550_init(&p.uart, &p.dev, "c", on_irq, NULL) == 0);
	uart16550_reset(&p.uart);
	for (i = 0; i + 1 < size && i < 2 * STEPS_MAX; i += 2) {
		step(&p, data[i], data[i + 1]);
		invariants(&p);
	}
	still_works(&p);
	uart16550_fini(&p.uart);
	char_set_destroy(vm.chars);
	pthread_mutex_destroy(&p.dev.lock);
	close(p.cable);
	return 0;
}

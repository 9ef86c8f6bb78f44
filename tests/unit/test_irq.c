/*
 * Interrupts: lines that several sources share, messages, routes.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/util.h"
#include "vmm/core/irq.h"

#define LINES 4
#define ROUTES 3

static char seen[512];		/* "1+ 1- " lines, "m fee00000/41 " messages */
static int answer;		/* what the back end says */

static void note(const char *fmt, uint64_t x, uint64_t y)
{
	size_t len = strlen(seen);

	snprintf(seen + len, sizeof(seen) - len, fmt, (unsigned long long)x,
		 (unsigned long long)y);
}

static int set_line(struct irqchip *c, uint32_t gsi, bool level)
{
	note(level ? "%llu+ " : "%llu- ", gsi, 0);
	return 0;
}

static int signal_msi(struct irqchip *c, const struct irq_msg *m)
{
	note("m %llx/%llx ", m->addr, m->data);
	return answer;
}

static int route_set(struct irqchip *c, uint32_t gsi, const struct irq_msg *m)
{
	note(m ? "route %llu=%llx " : "unroute %llu ", gsi, m ? m->data : 0);
	return answer;
}

static int irqfd(struct irqchip *c, uint32_t gsi, int fd, int resample_fd, bool on)
{
	note(on ? "fd %llu=%llu " : "nofd %llu=%llu ", gsi, (uint64_t)fd);
	return answer;
}

static const struct irq_ops ops = { set_line, signal_msi, route_set, irqfd };
static struct irqchip *chip;

static void setup(void)
{
	chip = irq_create(&ops, &answer, LINES, ROUTES);
}

static void teardown(void)
{
	irq_destroy(chip);
}

TestSuite(irq, .init = setup, .fini = teardown);

Test(irq, pin_changes_reach_the_chip_once)
{
	struct irq_pin p;

	irq_pin_init(&p, chip, 2);
	irq_pin_set(&p, false);
	irq_pin_set(&p, true);
	irq_pin_set(&p, true);
	irq_pin_set(&p, false);
	cr_assert_str_eq(seen, "2+ 2- ");
	cr_assert_eq(irq_stats(chip).lines, 1);
}

Test(irq, shared_line_falls_with_the_last_source)
{
	struct irq_pin p, q;

	irq_pin_init(&p, chip, 1);
	irq_pin_init(&q, chip, 1);
	irq_pin_set(&p, true);
	irq_pin_set(&q, true);
	irq_pin_set(&p, false);
	cr_assert_str_eq(seen, "1+ ");
	irq_pin_set(&q, false);
	cr_assert_str_eq(seen, "1+ 1- ");
}

Test(irq, moved_pin_takes_its_level_along)
{
	struct irq_pin p, q;

	irq_pin_init(&p, chip, 0);
	irq_pin_init(&q, chip, 0);
	irq_pin_set(&p, true);
	irq_pin_set(&q, true);
	irq_pin_move(&p, 3);
	irq_pin_move(&p, 3);
	cr_assert_str_eq(seen, "0+ 3+ ");
	irq_pin_set(&q, false);
	irq_pin_set(&p, false);
	irq_pin_move(&p, 1);
	cr_assert_str_eq(seen, "0+ 3+ 0- 3- ");
}

Test(irq, pulse_is_an_edge)
{
	struct irq_pin p;

	irq_pulse(chip, 3);
	cr_assert_str_eq(seen, "3+ 3- ");
	irq_pin_init(&p, chip, 3);
	irq_pin_set(&p, true);
	irq_pulse(chip, 3);
	cr_assert_str_eq(seen, "3+ 3- 3+ ", "none where the line is up");
}

Test(irq, message_returns_what_the_chip_says)
{
	struct irq_msg m = { 0xfee00000, 0x41, 0 };

	cr_assert_eq(irq_msi(chip, &m), 0);
	answer = -EAGAIN;
	cr_assert_eq(irq_msi(chip, &m), -EAGAIN);
	cr_assert_str_eq(seen, "m fee00000/41 m fee00000/41 ");
	cr_assert_eq(irq_stats(chip).msis, 2);
}

Test(irq, routes_follow_the_lines_and_run_out)
{
	struct irq_msg m = { 0xfee00000, 0x30, 0 };
	uint32_t gsi[ROUTES], more, i;

	for (i = 0; i < ROUTES; i++) {
		cr_assert_eq(irq_route_alloc(chip, &m, &gsi[i]), 0);
		cr_assert_eq(gsi[i], LINES + i);
	}
	cr_assert_eq(irq_route_alloc(chip, &m, &more), -ENOSPC);
	irq_route_free(chip, gsi[1]);
	cr_assert_eq(irq_route_alloc(chip, &m, &more), 0);
	cr_assert_eq(more, gsi[1]);
	cr_assert_str_eq(seen, "route 4=30 route 5=30 route 6=30 unroute 5 route 5=30 ");
}

Test(irq, route_that_the_chip_refuses_is_not_taken)
{
	struct irq_msg m = { 0xfee00000, 0x30, 0 };
	uint32_t gsi;

	answer = -ENOMEM;
	cr_assert_eq(irq_route_alloc(chip, &m, &gsi), -ENOMEM);
	answer = 0;
	cr_assert_eq(irq_route_alloc(chip, &m, &gsi), 0);
	cr_assert_eq(gsi, LINES);
}

Test(irq, route_update_and_eventfd_reach_the_chip)
{
	struct irq_msg m = { 0xfee00000, 0x30, 0 };
	uint32_t gsi;

	cr_assert_eq(irq_route_alloc(chip, &m, &gsi), 0);
	m.data = 0x31;
	cr_assert_eq(irq_route_update(chip, gsi, &m), 0);
	cr_assert_eq(irq_route_fd(chip, gsi, 7, true), 0);
	cr_assert_eq(irq_route_fd(chip, gsi, 7, false), 0);
	cr_assert_str_eq(seen, "route 4=30 route 4=31 fd 4=7 nofd 4=7 ");
}

static void *toggle(void *arg)
{
	struct irq_pin p;
	int i;

	irq_pin_init(&p, chip, 1);
	for (i = 0; i < 20000; i++)
		irq_pin_set(&p, !(i % 2));
	return NULL;
}

static int level_now;

static int last_level(struct irqchip *c, uint32_t gsi, bool level)
{
	level_now = level;
	return 0;
}

/* TSAN: sources on several threads. */
Test(irq, line_is_low_when_all_threads_are_done)
{
	static const struct irq_ops quiet = { .set_line = last_level };
	pthread_t t[3];
	int i;

	irq_destroy(chip);
	chip = irq_create(&quiet, NULL, LINES, 0);
	for (i = 0; i < 3; i++)
		cr_assert_eq(pthread_create(&t[i], NULL, toggle, NULL), 0);
	for (i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	cr_assert_eq(level_now, 0);
}

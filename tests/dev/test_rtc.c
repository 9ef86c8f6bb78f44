/*
 * RTC: calendar arithmetic, formats, the promise that registers read together
 * belong together, alarms and periodic interrupts, setting the clock.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <time.h>

#include "devices/x86/rtc.h"
#include "devices/x86/x86_devices.h"
#include "tests/dev/lib_ports.h"
#include "tests/dev/lib_rig.h"
#include "vmm/base/util.h"

#define IRQ	8

static uint8_t get(struct rig *r, uint8_t reg)
{
	rig_pio_write(r, 0x70, 1, reg);
	return (uint8_t)rig_pio_read(r, 0x71, 1);
}

static void put(struct rig *r, uint8_t reg, uint8_t val)
{
	rig_pio_write(r, 0x70, 1, reg);
	rig_pio_write(r, 0x71, 1, val);
}

static struct rig *rtc_rig(const char *json)
{
	struct rig *r = rig_create(NULL, 4 * MIB);

	rig_builtin(r, &rtc_type, json);
	return r;
}

static int bcd(uint8_t v)
{
	return (v >> 4) * 10 + (v & 0xf);
}

/* Turn the loop until interrupt 8 is up, for a second and a half at most. */
static bool wait_irq(struct rig *r)
{
	for (int i = 0; i < 1500 && !rig_level(r, IRQ); i++) {
		poll(NULL, 0, 1);
		rig_turn(r);
	}
	return rig_level(r, IRQ);
}

/* ---- calendar ---- */

Test(rtc_time, seconds_and_calendar_agree)
{
	static const int64_t when[] = { 0, 951782400, 1708992000, 4102444799, 32503680000, -1 };

	for (size_t i = 0; i < ARRAY_LEN(when); i++) {
		struct rtc_time t;

		rtc_from_seconds(when[i], &t);
		cr_expect_eq(rtc_to_seconds(&t), when[i]);
	}
}

Test(rtc_time, leap_day_is_a_tuesday)
{
	struct rtc_time t;

	rtc_from_seconds(951782400, &t);	/* 2000-02-29 00:00:00 */
	cr_expect_eq(t.year, 2000);
	cr_expect_eq(t.mon, 2);
	cr_expect_eq(t.mday, 29);
	cr_expect_eq(t.wday, 3);
}

Test(rtc_time, alarm_of_any_value_is_the_next_second)
{
	struct rtc_alarm a = { -1, -1, -1 };

	cr_expect_eq(rtc_next_alarm(&a, 100), 101);
}

Test(rtc_time, alarm_later_today_and_tomorrow)
{
	struct rtc_alarm a = { 30, 20, 10 };
	int64_t ten = 10 * 3600 + 20 * 60 + 30;

	cr_expect_eq(rtc_next_alarm(&a, 0), ten);
	cr_expect_eq(rtc_next_alarm(&a, ten), ten + 86400);
	cr_expect_eq(rtc_next_alarm(&a, ten - 1), ten);
}

Test(rtc_time, alarm_every_minute)
{
	struct rtc_alarm a = { 5, -1, -1 };

	cr_expect_eq(rtc_next_alarm(&a, 64), 65);
	cr_expect_eq(rtc_next_alarm(&a, 65), 125);
}

Test(rtc_time, alarm_that_no_clock_shows_is_beyond_the_day)
{
	struct rtc_alarm a = { 99, -1, -1 };

	cr_expect_eq(rtc_next_alarm(&a, 1000), 1000 + 86400 + 1);
}

Test(rtc_time, alarm_before_1970_is_in_order)
{
	struct rtc_alarm a = { 59, 59, 23 };

	cr_expect_eq(rtc_next_alarm(&a, -10), -1);
}

Test(rtc_time, base_words)
{
	struct err e = ERR_INIT;
	int64_t off = -1;

	cr_assert_eq(rtc_base_offset("utc", 1000, &off, &e), 0);
	cr_expect_eq(off, 0);
	cr_assert_eq(rtc_base_offset("2006-06-17T16:01:21", 1000, &off, &e), 0);
	cr_expect_eq(off, 1150560081 - 1000);
	cr_assert_eq(rtc_base_offset("2006-06-17", 0, &off, &e), 0);
	cr_expect_eq(off, 1150502400);
	cr_assert_eq(rtc_base_offset("localtime", 1000, &off, &e), 0);
	cr_expect_eq(rtc_base_offset("tomorrow", 0, &off, &e), -EINVAL);
	cr_expect(strstr(e.text, "base=tomorrow"), "%s", e.text);
}

/* ---- registers ---- */

Test(rtc, time_is_the_hosts_in_bcd)
{
	struct rig *r = rtc_rig(NULL);
	time_t before = time(NULL);
	struct rtc_time t = { 0 };

	get(r, 0x0a);
	t.sec = bcd(get(r, 0));
	t.min = bcd(get(r, 2));
	t.hour = bcd(get(r, 4));
	t.mday = bcd(get(r, 7));
	t.mon = bcd(get(r, 8));
	t.year = bcd(get(r, 9)) + 100 * bcd(get(r, 0x32));
	cr_expect_geq(rtc_to_seconds(&t), before);
	cr_expect_leq(rtc_to_seconds(&t), before + 2);
	rig_destroy(r);
}

Test(rtc, binary_and_12_hour_formats)
{
	struct rig *r = rtc_rig("{'base': '2020-05-31T23:59:01'}");

	cr_expect_eq(get(r, 4), 0x23);
	put(r, 0x0b, 0x06);			/* binary, 24 hours */
	cr_expect_eq(get(r, 4), 23);
	cr_expect_eq(get(r, 7), 31);
	put(r, 0x0b, 0x00);			/* BCD, 12 hours */
	cr_expect_eq(get(r, 4), 0x80 | 0x11);
	rig_destroy(r);
}

Test(rtc, midnight_and_noon_in_12_hour_format)
{
	struct rig *r = rtc_rig("{'base': '2020-05-31T00:10:00'}");

	put(r, 0x0b, 0x04);
	cr_expect_eq(get(r, 4), 12);
	rig_destroy(r);
	r = rtc_rig("{'base': '2020-05-31T12:10:00'}");
	put(r, 0x0b, 0x04);
	cr_expect_eq(get(r, 4), 0x80 | 12);
	rig_destroy(r);
}

Test(rtc, update_in_progress_never_shows)
{
	struct rig *r = rtc_rig(NULL);

	put(r, 0x0a, 0xff);
	for (int i = 0; i < 1000; i++)
		cr_assert_not(get(r, 0x0a) & 0x80);
	rig_destroy(r);
}

/* Read A just before a second ends. True when the next read fell within what
 * the clock promises, which a busy host may prevent. */
static bool read_across_a_second(struct rig *r, uint8_t *before, uint8_t *after)
{
	struct timespec t, then;
	uint64_t start;

	do {
		clock_gettime(CLOCK_REALTIME, &t);
	} while (t.tv_nsec < 990000000);
	start = clock_ns();
	get(r, 0x0a);
	clock_gettime(CLOCK_REALTIME, &then);
	*before = (uint8_t)((t.tv_sec % 60) / 10 << 4 | t.tv_sec % 10);
	poll(NULL, 0, 15);
	*after = get(r, 0);
	return then.tv_sec == t.tv_sec && clock_ns() - start < 90 * NS_PER_MS;
}

Test(rtc, registers_read_after_a_show_that_moment)
{
	struct rig *r = rtc_rig(NULL);
	uint8_t before = 0, after = 0;
	int tries = 0;

	while (!read_across_a_second(r, &before, &after))
		cr_assert_lt(tries++, 20, "the host is too busy");
	cr_expect_eq(after, before);
	rig_destroy(r);
}

Test(rtc, register_read_again_shows_time_go_on)
{
	struct rig *r = rtc_rig(NULL);
	uint8_t first;

	get(r, 0x0a);
	first = get(r, 0);
	poll(NULL, 0, 1001);
	cr_expect_neq(get(r, 0), first);
	rig_destroy(r);
}

Test(rtc, setting_the_clock_starts_a_second)
{
	struct rig *r = rtc_rig(NULL);

	put(r, 0x0b, 0x82);			/* SET */
	put(r, 0, 0x30);
	put(r, 2, 0x15);
	put(r, 4, 0x07);
	put(r, 7, 0x04);
	put(r, 8, 0x07);
	put(r, 9, 0x76);
	put(r, 0x32, 0x17);
	put(r, 0x0b, 0x02);
	cr_expect_eq(get(r, 0), 0x30);
	cr_expect_eq(get(r, 2), 0x15);
	cr_expect_eq(get(r, 9), 0x76);
	cr_expect_eq(get(r, 0x32), 0x17);
	cr_expect_eq(get(r, 6), 5);		/* a Thursday */
	rig_destroy(r);
}

Test(rtc, clock_stands_while_set)
{
	struct rig *r = rtc_rig(NULL);

	put(r, 0x0b, 0x82);
	put(r, 0, 0x59);
	poll(NULL, 0, 1100);
	cr_expect_eq(get(r, 0), 0x59);
	rig_destroy(r);
}

Test(rtc, impossible_dates_do_no_harm)
{
	struct rig *r = rtc_rig(NULL);

	for (unsigned int v = 0; v < 256; v++) {
		put(r, 0x0b, 0x82);
		for (uint8_t reg = 0; reg < 10; reg++)
			put(r, reg, (uint8_t)v);
		put(r, 0x32, (uint8_t)v);
		put(r, 0x0b, 0x72);		/* all interrupts, clock runs */
		get(r, 0x0c);
	}
	rig_turn(r);
	rig_destroy(r);
}

Test(rtc, memory_keeps_what_is_written)
{
	struct rig *r = rtc_rig(NULL);

	put(r, 0x0f, 0x5a);
	put(r, 0x7f, 0xa5);
	cr_expect_eq(get(r, 0x0f), 0x5a);
	cr_expect_eq(get(r, 0xff), 0xa5);	/* bit 7 is the NMI mask */
	rig_reset(r);
	cr_expect_eq(get(r, 0x0f), 0x5a);
	rig_destroy(r);
}

Test(rtc, memory_size_bytes)
{
	struct rig *r = rig_create(NULL, 64 * MIB);

	rig_add_ram(r, RIG_HIGH_BASE, 2 * MIB, false);
	rig_builtin(r, &rtc_type, NULL);
	cr_expect_eq(get(r, 0x34) | get(r, 0x35) << 8, (64 - 16) * 16);
	cr_expect_eq(get(r, 0x5b), 32);
	cr_expect_eq(get(r, 0x15) | get(r, 0x16) << 8, 640);
	rig_destroy(r);
}

/* ---- interrupts ---- */

Test(rtc, update_interrupt_comes_once_per_second)
{
	struct rig *r = rtc_rig(NULL);
	uint8_t flags = 0, again = 0;
	bool level = true;

	get(r, 0x0c);
	put(r, 0x0b, 0x12);
	for (int i = 0; i < 5; i++) {	/* once more where the next second came between */
		cr_assert(wait_irq(r));
		flags = (uint8_t)get(r, 0x0c);
		level = rig_level(r, IRQ);
		again = (uint8_t)get(r, 0x0c);
		if (!again)
			break;
	}
	cr_expect_eq(flags & 0x90, 0x90);
	cr_expect_not(level);
	cr_expect_eq(again, 0);
	cr_expect(wait_irq(r));
	rig_destroy(r);
}

Test(rtc, periodic_interrupt_has_its_rate)
{
	struct rig *r = rtc_rig(NULL);
	uint64_t start;

	put(r, 0x0a, 0x2a);			/* 64 Hz */
	get(r, 0x0c);
	put(r, 0x0b, 0x42);
	start = clock_ns();
	for (int i = 0; i < 8; i++) {
		cr_assert(wait_irq(r));
		cr_expect(get(r, 0x0c) & 0x40);
	}
	/* 7 to 8 periods of 15.6 ms; a busy host may be late, never early */
	cr_expect_geq(clock_ns() - start, 7 * 15625000ull - NS_PER_MS);
	rig_destroy(r);
}

Test(rtc, alarm_interrupt_comes_at_its_second)
{
	struct rig *r = rtc_rig("{'base': '2020-01-01T00:00:00'}");

	put(r, 1, 0xff);
	put(r, 3, 0xff);
	put(r, 5, 0xff);
	get(r, 0x0c);
	put(r, 0x0b, 0x22);
	cr_assert(wait_irq(r));
	cr_expect_eq(get(r, 0x0c) & 0xa0, 0xa0);
	rig_destroy(r);
}

Test(rtc, interrupts_stop_with_reset)
{
	struct rig *r = rtc_rig(NULL);

	put(r, 0x0b, 0x72);
	cr_assert(wait_irq(r));
	rig_reset(r);
	cr_expect_not(rig_level(r, IRQ));
	cr_expect_eq(get(r, 0x0b) & 0x70, 0);
	rig_destroy(r);
}

Test(rtc, hostile_accesses_do_no_harm)
{
	struct rig *r = rtc_rig(NULL);

	ports_hostile(r, 0x70, 2);
	for (unsigned int reg = 0; reg < 256; reg++) {
		put(r, (uint8_t)reg, 0xff);
		get(r, (uint8_t)reg);
	}
	ports_hostile(r, 0x70, 2);
	rig_destroy(r);
}

Test(rtc, bad_base_is_refused)
{
	struct rig *r = rig_create(NULL, 4 * MIB);
	struct err e = ERR_INIT;
	json_t *args = json_pack("{s:s}", "base", "12:00");
	struct dev *d;

	cr_expect_eq(dev_create_type(r->vm, &rtc_type, args, &d, &e), -EINVAL);
	cr_expect(strstr(e.text, "base=12:00"), "%s", e.text);
	json_decref(args);
	rig_destroy(r);
}

Test(rtc, a_jump_of_the_host_clock_moves_the_date)
{
	struct rig *r = rtc_rig("{'base': '2024-02-20T12:00:00'}");

	cr_assert_eq(bcd(get(r, 7)), 20);
	rtc_jump(r->vm->devs, 10 * 24 * 3600);
	cr_expect_eq(bcd(get(r, 7)), 1, "not the first");
	cr_expect_eq(bcd(get(r, 8)), 3, "not of March");
	rtc_jump(r->vm->devs, -10 * 24 * 3600);
	cr_expect_eq(bcd(get(r, 7)), 20);
	rig_destroy(r);
}

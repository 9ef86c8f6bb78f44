/*
 * devices/x86/rtc.c - MC146818 real-time clock and CMOS memory.
 * Spec:    Motorola MC146818A data sheet; CMOS bytes as in the IBM PC AT
 *          Technical Reference and Ralf Brown's CMOS list; century at 0x32
 *          (FADT).
 * Threads: port accesses on vCPU threads, timer on the main loop; device lock
 *          held.
 * Missing: RTC_CHANGE events, square wave output, clock=vm.
 *
 * The time is the host's clock plus an offset, computed when it is read. An
 * update never takes time: register A shows UIP = 0, and the registers that a
 * guest reads after it show one moment, as a real clock promises for 244 us.
 */
#include "devices/x86/rtc.h"

#include <errno.h>
#include <time.h>

#include "devices/x86/deadline.h"
#include "devices/x86/x86_devices.h"
#include "vmm/base/util.h"
#include "vmm/core/bus.h"
#include "vmm/core/irq.h"
#include "vmm/core/vm.h"

#define PORT_INDEX	0x70
#define RTC_IRQ		8
#define CMOS_BYTES	128

#define R_SEC		0x00
#define R_SEC_ALARM	0x01
#define R_MIN		0x02
#define R_MIN_ALARM	0x03
#define R_HOUR		0x04
#define R_HOUR_ALARM	0x05
#define R_WDAY		0x06
#define R_MDAY		0x07
#define R_MON		0x08
#define R_YEAR		0x09
#define R_A		0x0a
#define R_B		0x0b
#define R_C		0x0c
#define R_D		0x0d
#define R_CENTURY	0x32
#define R_CENTURY_PS2	0x37

#define A_DV		0x70u	/* divider; 2: 32768 Hz, runs */
#define A_RS		0x0fu	/* periodic rate */
#define B_SET		BIT(7)
#define B_PIE		BIT(6)
#define B_AIE		BIT(5)
#define B_UIE		BIT(4)
#define B_DM		BIT(2)	/* binary, else BCD */
#define B_24H		BIT(1)
#define C_IRQF		BIT(7)
#define C_PF		BIT(6)
#define C_AF		BIT(5)
#define C_UF		BIT(4)
#define D_VRT		BIT(7)
#define HOUR_PM		BIT(7)
#define ALARM_ANY	0xc0u	/* both bits set: any value matches */

/* Long enough for all registers on a slow and busy host; nobody notices a
 * clock that is late by so much. */
#define FREEZE_NS	(100 * NS_PER_MS)

struct rtc {
	struct dev dev;
	struct bus_win win;
	char *base;		/* properties of -rtc */
	int clock, driftfix;
	struct irq_pin irq;
	struct deadline timer;
	uint8_t cmos[CMOS_BYTES];	/* time bytes in here only while B_SET */
	uint8_t index;
	/* Guest time is the host's UTC plus both. Seconds are kept apart, for a
	 * guest may set years that no 64-bit count of nanoseconds reaches. */
	int64_t offset_s;
	int64_t phase_ns;	/* -1e9 < phase <= 0: where its seconds begin */
	int64_t frozen;		/* guest seconds shown until frozen_until_ns, */
	uint64_t frozen_until_ns;
	uint64_t frozen_seen;	/* but once per register: those read, by bit */
	int64_t last_ns;	/* tick_ns() up to which C is up to date */
	int64_t next_ns;	/* tick_ns() of the next event, 0: none */
};

static const char *const clock_words[] = { "host", "rt", NULL };
static const char *const driftfix_words[] = { "none", "slew", NULL };

static const struct prop rtc_props[] = {
	PROP_STR(struct rtc, base, "base", "utc",
		 "utc, localtime or the start date", .flags = PROP_GUEST),
	PROP_ENUM(struct rtc, clock, "clock", clock_words, 0, "which clock drives it"),
	/* Lost ticks are not replayed; a guest reads the time, which is right. */
	PROP_ENUM(struct rtc, driftfix, "driftfix", driftfix_words, 0,
		  "lost tick policy", .flags = PROP_HIDDEN),
	PROP_END
};

/* ---- time ---- */

static int64_t host_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * (int64_t)NS_PER_SEC + t.tv_nsec;
}

/* Host time whose whole seconds are the guest's. */
static int64_t tick_ns(const struct rtc *r)
{
	return host_ns() + r->phase_ns;
}

/* Rounds down, also before 1970. */
static int64_t to_seconds(int64_t ns)
{
	int64_t s = ns / (int64_t)NS_PER_SEC;

	return ns % (int64_t)NS_PER_SEC < 0 ? s - 1 : s;
}

static int64_t guest_seconds(const struct rtc *r)
{
	return to_seconds(tick_ns(r)) + r->offset_s;
}

static void freeze(struct rtc *r)
{
	r->frozen = guest_seconds(r);
	r->frozen_until_ns = clock_ns() + FREEZE_NS;
	r->frozen_seen = 0;
}

/* What time register @reg shows. Whoever reads one again waits for it to
 * change, and sees time go on. */
static int64_t shown_seconds(struct rtc *r, uint8_t reg)
{
	if ((r->frozen_seen & BIT64(reg)) || clock_ns() >= r->frozen_until_ns)
		return guest_seconds(r);
	r->frozen_seen |= BIT64(reg);
	return r->frozen;
}

static uint8_t encode(const struct rtc *r, int v)
{
	if (r->cmos[R_B] & B_DM)
		return (uint8_t)v;
	return (uint8_t)((v / 10 % 10) << 4 | v % 10);
}

static int decode(const struct rtc *r, uint8_t v)
{
	return r->cmos[R_B] & B_DM ? v : (v >> 4) * 10 + (v & 0xf);
}

static uint8_t encode_hour(const struct rtc *r, int hour)
{
	if (r->cmos[R_B] & B_24H)
		return encode(r, hour);
	return encode(r, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOUR_PM : 0);
}

static int decode_hour(const struct rtc *r, uint8_t v)
{
	if (r->cmos[R_B] & B_24H)
		return decode(r, v);
	return decode(r, v & 0x7f) % 12 + (v & HOUR_PM ? 12 : 0);
}

static void time_to_cmos(struct rtc *r, int64_t seconds)
{
	struct rtc_time t;

	rtc_from_seconds(seconds, &t);
	r->cmos[R_SEC] = encode(r, t.sec);
	r->cmos[R_MIN] = encode(r, t.min);
	r->cmos[R_HOUR] = encode_hour(r, t.hour);
	r->cmos[R_WDAY] = encode(r, t.wday);
	r->cmos[R_MDAY] = encode(r, t.mday);
	r->cmos[R_MON] = encode(r, t.mon);
	r->cmos[R_YEAR] = encode(r, t.year % 100);
	r->cmos[R_CENTURY] = r->cmos[R_CENTURY_PS2] = encode(r, t.year / 100);
}

/* The guest has set the clock: its second starts now. */
static void time_from_cmos(struct rtc *r)
{
	struct rtc_time t = {
		.sec = decode(r, r->cmos[R_SEC]), .min = decode(r, r->cmos[R_MIN]),
		.hour = decode_hour(r, r->cmos[R_HOUR]),
		.mday = decode(r, r->cmos[R_MDAY]), .mon = decode(r, r->cmos[R_MON]),
		.year = decode(r, r->cmos[R_YEAR]) + 100 * decode(r, r->cmos[R_CENTURY]),
	};

	int64_t host = host_ns();

	r->phase_ns = -(host % (int64_t)NS_PER_SEC);
	r->offset_s = rtc_to_seconds(&t) - to_seconds(host + r->phase_ns);
	r->frozen_until_ns = 0;
	r->last_ns = tick_ns(r);
}

static bool is_time(uint8_t reg)
{
	return reg == R_SEC || reg == R_MIN || (reg >= R_HOUR && reg <= R_YEAR &&
	       reg != R_HOUR_ALARM) || reg == R_CENTURY || reg == R_CENTURY_PS2;
}

/* The divider may hold the clock in reset (6, 7), and SET stops updates. */
static bool is_running(const struct rtc *r)
{
	return !(r->cmos[R_B] & B_SET) && (r->cmos[R_A] & 0x60) != 0x60;
}

/* ---- interrupts ---- */

static int alarm_field(const struct rtc *r, uint8_t v)
{
	return (v & ALARM_ANY) == ALARM_ANY ? -1 : decode(r, v);
}

static int64_t alarm_after(const struct rtc *r, int64_t now_s)
{
	uint8_t hour = r->cmos[R_HOUR_ALARM];
	struct rtc_alarm a = {
		.sec = alarm_field(r, r->cmos[R_SEC_ALARM]),
		.min = alarm_field(r, r->cmos[R_MIN_ALARM]),
		.hour = (hour & ALARM_ANY) == ALARM_ANY ? -1 : decode_hour(r, hour),
	};

	return rtc_next_alarm(&a, now_s);
}

/* Data sheet table 5: rates 1 and 2 are those of 8 and 9; 0 is none. */
static int64_t period_ns(const struct rtc *r)
{
	unsigned int rs = r->cmos[R_A] & A_RS;

	if (!rs || (r->cmos[R_A] & A_DV) != 0x20)
		return 0;
	if (rs < 3)
		rs += 7;
	return (int64_t)NS_PER_SEC * (1 << (rs - 1)) / 32768;
}

/* Which flags of C became due in (last, now], then forget about that time. */
static void flags_update(struct rtc *r)
{
	int64_t now = tick_ns(r), last = r->last_ns, period = period_ns(r);
	int64_t now_s = to_seconds(now), last_s = to_seconds(last);
	uint8_t c = 0;

	r->last_ns = now;
	if (now <= last)	/* the host's clock was set back */
		return;
	if (period && now / period != last / period)
		c |= C_PF;
	if (is_running(r) && now_s != last_s) {
		c |= C_UF;
		if (alarm_after(r, last_s + r->offset_s) <= now_s + r->offset_s)
			c |= C_AF;
	}
	r->cmos[R_C] |= c;
}

static void irq_update(struct rtc *r)
{
	uint8_t c = r->cmos[R_C];

	/* PIE, AIE, UIE sit where PF, AF, UF do. */
	if (c & r->cmos[R_B] & (C_PF | C_AF | C_UF))
		r->cmos[R_C] = c | C_IRQF;
	irq_pin_set(&r->irq, r->cmos[R_C] & C_IRQF);
}

static int64_t earlier(int64_t a, int64_t b)
{
	return !a || b < a ? b : a;
}

/* tick_ns() of the next enabled event; 0: nothing is enabled. */
static int64_t next_event(const struct rtc *r)
{
	int64_t now = tick_ns(r), now_s = to_seconds(now), next = 0;
	int64_t period = period_ns(r), alarm_s;
	uint8_t b = r->cmos[R_B];

	if (r->cmos[R_C] & C_IRQF)	/* the guest has yet to look at C */
		return 0;
	if ((b & B_PIE) && period)
		next = (now / period + 1) * period;
	if ((b & B_UIE) && is_running(r))
		next = earlier(next, (now_s + 1) * (int64_t)NS_PER_SEC);
	if ((b & B_AIE) && is_running(r)) {
		alarm_s = alarm_after(r, now_s + r->offset_s) - r->offset_s;
		next = earlier(next, alarm_s * (int64_t)NS_PER_SEC);
	}
	return next;
}

/* Most guests never enable one: then nothing is set and no call is made. */
static void rearm(struct rtc *r)
{
	int64_t next = next_event(r), wait = next - tick_ns(r);

	if (next == r->next_ns)
		return;
	r->next_ns = next;
	deadline_set(&r->timer, next ? clock_ns() + (uint64_t)MAX(wait, (int64_t)1) : 0);
}

static void refresh(struct rtc *r)
{
	flags_update(r);
	irq_update(r);
	rearm(r);
}

static void rtc_timer(struct dev *d)
{
	struct rtc *r = DEV_OF(d, struct rtc);

	r->next_ns = 0;
	refresh(r);
}

/* ---- registers ---- */

static uint8_t read_c(struct rtc *r)
{
	uint8_t c;

	flags_update(r);
	irq_update(r);
	c = r->cmos[R_C];
	r->cmos[R_C] = 0;
	irq_update(r);
	rearm(r);
	return c;
}

static uint8_t rtc_get(struct rtc *r, uint8_t reg)
{
	if (is_time(reg)) {
		if (!(r->cmos[R_B] & B_SET))
			time_to_cmos(r, shown_seconds(r, reg));
		return r->cmos[reg];
	}
	switch (reg) {
	case R_A:
		freeze(r);
		return r->cmos[R_A];	/* UIP is never stored */
	case R_C:
		return read_c(r);
	case R_D:
		return D_VRT;		/* the battery is fine */
	default:
		return r->cmos[reg];
	}
}

static void write_b(struct rtc *r, uint8_t val)
{
	uint8_t old = r->cmos[R_B];

	flags_update(r);
	if (val & B_SET)
		val &= (uint8_t)~B_UIE;		/* data sheet, "SET" */
	if ((val & B_SET) && !(old & B_SET))
		time_to_cmos(r, guest_seconds(r));
	r->cmos[R_B] = val;
	if (!(val & B_SET) && (old & B_SET))
		time_from_cmos(r);
	irq_update(r);
	rearm(r);
}

static void write_time(struct rtc *r, uint8_t reg, uint8_t val)
{
	if (r->cmos[R_B] & B_SET) {
		r->cmos[reg] = val;
		return;
	}
	time_to_cmos(r, guest_seconds(r));
	r->cmos[reg] = val;
	if (reg == R_CENTURY_PS2)
		r->cmos[R_CENTURY] = val;
	time_from_cmos(r);
	rearm(r);
}

static void rtc_put(struct rtc *r, uint8_t reg, uint8_t val)
{
	if (is_time(reg)) {
		write_time(r, reg, val);
		return;
	}
	switch (reg) {
	case R_SEC_ALARM:
	case R_MIN_ALARM:
	case R_HOUR_ALARM:
		flags_update(r);
		r->cmos[reg] = val;
		irq_update(r);
		rearm(r);
		break;
	case R_A:
		flags_update(r);
		r->cmos[R_A] = val & (A_DV | A_RS);
		irq_update(r);
		rearm(r);
		break;
	case R_B:
		write_b(r, val);
		break;
	case R_C:
	case R_D:
		break;			/* read-only */
	default:
		r->cmos[reg] = val;
	}
}

static uint64_t rtc_read(struct bus_win *w, uint64_t off, unsigned int width)
{
	struct rtc *r = DEV_OF(w->dev, struct rtc);

	/* The index port is write-only; a word access reads both. */
	if (width == 2)
		return 0xff | (uint64_t)rtc_get(r, r->index) << 8;
	return off == 0 ? 0xff : rtc_get(r, r->index);
}

static void rtc_write(struct bus_win *w, uint64_t off, unsigned int width, uint64_t val)
{
	struct rtc *r = DEV_OF(w->dev, struct rtc);

	if (off == 0) {
		r->index = val & (CMOS_BYTES - 1);	/* bit 7 masks the NMI */
		if (width == 1)
			return;
		val >>= 8;
	}
	rtc_put(r, r->index, (uint8_t)val);
}

static const struct bus_win_ops rtc_ops = { .read = rtc_read, .write = rtc_write };

/* ---- memory size bytes, as a BIOS leaves them ---- */

static void put16(struct rtc *r, uint8_t reg, uint64_t val)
{
	put_le16(r->cmos + reg, (uint16_t)MIN(val, (uint64_t)0xffff));
}

static void memory_bytes(struct rtc *r)
{
	const struct gmem *gm = r->dev.vm->mem;
	uint64_t low = 0, high = 0, above;

	for (int i = 0; i < gm->count; i++) {
		const struct gmem_region *g = &gm->region[i];

		if (g->readonly)
			continue;
		if (g->base >= 4 * GIB)
			high += g->size;
		else
			low = MAX(low, g->base + g->size);
	}
	put16(r, 0x15, 640);				/* KiB */
	above = low > MIB ? (low - MIB) / KIB : 0;	/* KiB from 1 MiB */
	put16(r, 0x17, above);
	put16(r, 0x30, above);
	above = low > 16 * MIB ? (low - 16 * MIB) / (64 * KIB) : 0;
	put16(r, 0x34, above);				/* 64 KiB from 16 MiB */
	high = MIN(high / (64 * KIB), (uint64_t)0xffffff);
	r->cmos[0x5b] = (uint8_t)high;			/* 64 KiB from 4 GiB */
	r->cmos[0x5c] = (uint8_t)(high >> 8);
	r->cmos[0x5d] = (uint8_t)(high >> 16);
	r->cmos[0x5f] = (uint8_t)(MAX(r->dev.vm->vcpu_count, 1u) - 1);
	r->cmos[0x14] = 0x02;				/* equipment: an FPU */
}

/* ---- life ---- */

/* The battery keeps time and CMOS: a reset touches what the RESET pin does
 * (data sheet, "Reset pin"). */
static int rtc_reset(struct dev *d)
{
	struct rtc *r = DEV_OF(d, struct rtc);

	r->index = 0;
	if (r->cmos[R_B] & B_SET) {
		r->cmos[R_B] &= (uint8_t)~B_SET;
		time_from_cmos(r);
	}
	r->cmos[R_B] &= (uint8_t)~(B_PIE | B_AIE | B_UIE);
	r->cmos[R_C] = 0;
	r->last_ns = tick_ns(r);
	r->frozen_until_ns = 0;
	memory_bytes(r);
	irq_update(r);
	rearm(r);
	return 0;
}

void rtc_jump(struct dev *d, int64_t seconds)
{
	struct rtc *r = DEV_OF(d, struct rtc);

	pthread_mutex_lock(&d->lock);
	r->offset_s += seconds;
	r->frozen_until_ns = 0;
	rearm(r);
	pthread_mutex_unlock(&d->lock);
}

static int rtc_init(struct dev *d, struct err *e)
{
	struct rtc *r = DEV_OF(d, struct rtc);
	int ret;

	r->timer.watch.fd = -1;
	ret = rtc_base_offset(r->base, to_seconds(host_ns()), &r->offset_s, e);
	if (ret < 0)
		return ret;
	r->cmos[R_A] = 0x26;		/* 32768 Hz, 1024 interrupts a second */
	r->cmos[R_B] = B_24H;
	irq_pin_init(&r->irq, d->vm->irq, RTC_IRQ);
	ret = deadline_init(&r->timer, d, rtc_timer, e);
	if (ret < 0)
		return ret;
	r->win = (struct bus_win){
		.name = "rtc", .dev = d, .size = 2, .ops = &rtc_ops,
	};
	return bus_map(d->vm->bus[BUS_PIO], &r->win, PORT_INDEX);
}

static void rtc_fini(struct dev *d)
{
	struct rtc *r = DEV_OF(d, struct rtc);

	bus_unmap(&r->win);
	deadline_fini(&r->timer);
	if (r->irq.chip)
		irq_pin_set(&r->irq, false);
}

const struct dev_type rtc_type = {
	.name = "mc146818rtc", .help = "real-time clock and CMOS memory",
	.size = sizeof(struct rtc), .props = rtc_props,
	.flags = DEV_BUILTIN | DEV_NO_HOTPLUG,
	.ops = { .init = rtc_init, .fini = rtc_fini, .reset = rtc_reset },
};

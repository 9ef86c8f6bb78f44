/*
 * devices/x86/rtc.h - the two halves of the clock: registers and calendar.
 */
#ifndef DEVICES_X86_RTC_H
#define DEVICES_X86_RTC_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/err.h"

/* A moment as the clock's registers count it, all in binary, 24 hours. */
struct rtc_time {
	int sec, min, hour;		/* 0-59, 0-59, 0-23 */
	int wday;			/* 1-7, 1 is Sunday */
	int mday, mon, year;		/* 1-31, 1-12, full year */
};

/* Alarm fields; negative: any value matches. */
struct rtc_alarm {
	int sec, min, hour;
};

/* Seconds since 1970 without time zone, and back. Out-of-range fields (a guest
 * chooses them) are taken as offsets, the way timegm() does. */
int64_t rtc_to_seconds(const struct rtc_time *t);
void rtc_from_seconds(int64_t s, struct rtc_time *t);

/* The first second after @now that matches @a. */
int64_t rtc_next_alarm(const struct rtc_alarm *a, int64_t now);

/* -rtc base=: "utc", "localtime" or a date; the guest clock's distance from
 * the host's UTC at @now, in seconds. */
int rtc_base_offset(const char *base, int64_t now, int64_t *offset, struct err *e);

#endif

/*
 * devices/x86/rtc_time.c - the clock's calendar: no device in here.
 * Threads: any; pure functions.
 * Missing: nothing known.
 */
#include "devices/x86/rtc.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define DAY 86400

int64_t rtc_to_seconds(const struct rtc_time *t)
{
	struct tm tm = {
		.tm_sec = t->sec, .tm_min = t->min, .tm_hour = t->hour,
		.tm_mday = t->mday, .tm_mon = t->mon - 1, .tm_year = t->year - 1900,
	};

	return timegm(&tm);
}

void rtc_from_seconds(int64_t s, struct rtc_time *t)
{
	struct tm tm = { .tm_mday = 1 };
	time_t when = (time_t)s;

	gmtime_r(&when, &tm);
	*t = (struct rtc_time){
		.sec = tm.tm_sec, .min = tm.tm_min, .hour = tm.tm_hour,
		.wday = tm.tm_wday + 1, .mday = tm.tm_mday,
		.mon = tm.tm_mon + 1, .year = tm.tm_year + 1900,
	};
}

static bool fits(int want, int64_t have)
{
	return want < 0 || want == have;
}

/* Steps of an hour, a minute, a second: 24 + 60 + 60 at most, then the day is
 * over. Values that no clock shows (a guest may set them) never match; the
 * answer is then just beyond the day, where the question is asked again. */
int64_t rtc_next_alarm(const struct rtc_alarm *a, int64_t now)
{
	int64_t t = now + 1, end = now + DAY;

	while (t <= end) {
		int64_t day = t % DAY < 0 ? t % DAY + DAY : t % DAY;

		if (!fits(a->hour, day / 3600))
			t += 3600 - day % 3600;
		else if (!fits(a->min, day / 60 % 60))
			t += 60 - day % 60;
		else if (!fits(a->sec, day % 60))
			t++;
		else
			return t;
	}
	return end + 1;
}

int rtc_base_offset(const char *base, int64_t now, int64_t *offset, struct err *e)
{
	struct tm tm = { 0 };
	time_t t = (time_t)now;
	const char *end;

	*offset = 0;
	if (!strcmp(base, "utc"))
		return 0;
	if (!strcmp(base, "localtime")) {
		localtime_r(&t, &tm);
		*offset = tm.tm_gmtoff;
		return 0;
	}
	end = strptime(base, "%Y-%m-%dT%H:%M:%S", &tm);
	if (!end) {
		memset(&tm, 0, sizeof(tm));
		end = strptime(base, "%Y-%m-%d", &tm);
	}
	if (!end || *end)
		return err_set(e, -EINVAL, "-rtc base=%s: must be utc, localtime or a date "
			       "such as 2006-06-17T16:01:21",
			       base);
	*offset = timegm(&tm) - now;
	return 0;
}

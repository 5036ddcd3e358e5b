/* SPDX-License-Identifier: Apache-2.0 */
#include "base/time.h"
#include "base/str.h"

#include <sys/random.h>
#include <time.h>

static uint64_t now(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t time_monotonic(void)
{
	return now(CLOCK_MONOTONIC);
}

uint64_t time_real(void)
{
	return now(CLOCK_REALTIME);
}

char *time_print(uint64_t real_us)
{
	time_t sec = (time_t)(real_us / 1000000);
	uint64_t us = real_us % 1000000;
	struct tm tm;
	char buf[32];

	gmtime_r(&sec, &tm);
	strftime(buf, sizeof buf, "%Y-%m-%dT%H:%M:%S", &tm);
	return us == 0 ? g_strdup_printf("%sZ", buf) : g_strdup_printf("%s.%06uZ", buf, (unsigned)us);
}

bool time_parse(const char *text, uint64_t *ret)
{
	g_autoptr(GTimeZone) utc = g_time_zone_new_utc();
	g_autoptr(GDateTime) t = g_date_time_new_from_iso8601(text, utc);

	if (t == NULL || g_date_time_to_unix(t) < 0)
		return false;
	*ret = (uint64_t)g_date_time_to_unix(t) * 1000000 + (uint64_t)g_date_time_get_microsecond(t);
	return true;
}

char *time_stamp(void)
{
	return time_print(time_real());
}

void random_bytes(void *buf, uint64_t len)
{
	uint8_t *p = buf;

	while (len > 0) {
		ssize_t n = getrandom(p, len, 0);

		if (n > 0) {
			p += n;
			len -= (uint64_t)n;
		}
	}
}

char *uuid_new(void)
{
	uint8_t b[16];

	random_bytes(b, sizeof b);
	return uuid_of_bytes(b);
}

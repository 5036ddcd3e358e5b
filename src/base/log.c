/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "base/fd.h"
#include "base/time.h"

static LogLevel max_level = LOG_LEVEL_INFO;

void log_set_level(LogLevel level)
{
	max_level = level;
}

void log_line(LogLevel level, const char *fmt, ...)
{
	g_autofree char *text = NULL, *line = NULL, *stamp = NULL;
	va_list ap;

	if (level > max_level)
		return;
	va_start(ap, fmt);
	text = g_strdup_vprintf(fmt, ap);
	va_end(ap);
	/* A message that came from outside must not forge a second line. */
	g_strdelimit(text, "\n\r", ' ');
	if (g_getenv("JOURNAL_STREAM") != NULL) {
		line = g_strdup_printf("<%d>%s\n", (int)level, text);
	} else {
		stamp = time_stamp();
		line = g_strdup_printf("%s %s\n", stamp, text);
	}
	fd_write_all(STDERR_FILENO, line, strlen(line));
}

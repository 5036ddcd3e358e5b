/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's log: lines on stderr with the kernel's <N> priority prefix when
 * systemd collects them (JOURNAL_STREAM is set), plain with a time otherwise.
 * Only tasks and top-level handlers log; whoever returns an error does not.
 * Any thread may log.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* Names and numbers of syslog(3). */
typedef enum LogLevel {
	LOG_LEVEL_ERROR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7,
} LogLevel;

/* Lines above this level are dropped; LOG_LEVEL_INFO until set. */
void log_set_level(LogLevel level);
void log_line(LogLevel level, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

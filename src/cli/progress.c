/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/progress.h"

#include <glib.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#define BAR 30

struct Progress {
	bool terminal, shown;
	char *stage;
};

Progress *progress_begin(void)
{
	Progress *p = g_new0(Progress, 1);

	p->terminal = isatty(STDERR_FILENO);
	return p;
}

static void show_bar(const char *stage, int percent)
{
	char bar[BAR + 1];

	for (int i = 0; i < BAR; i++)
		bar[i] = i < percent * BAR / 100 ? '#' : '.';
	bar[BAR] = '\0';
	fprintf(stderr, "\r[%s] %3d%%  %-40.40s", bar, percent, stage);
	fflush(stderr);
}

void progress_show(Progress *p, const char *stage, int percent)
{
	if (p->terminal)
		show_bar(stage, percent);
	else if (g_strcmp0(p->stage, stage) != 0)
		fprintf(stderr, "%s\n", stage);
	p->shown = true;
	g_free(p->stage);
	p->stage = g_strdup(stage);
}

void progress_end(Progress *p)
{
	if (p->terminal && p->shown)
		fprintf(stderr, "\r%*s\r", BAR + 50, "");
	g_free(p->stage);
	g_free(p);
}

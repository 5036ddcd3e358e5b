/* SPDX-License-Identifier: Apache-2.0 */
/* docs/settings.md, made of the table of settings: on the standard output. */
#include "base/str.h"
#include "core/model/settings.h"

#include <inttypes.h>
#include <stdio.h>

static const char head[] =
    "# Settings of a vm\n"
    "\n"
    "What `plim vm settings` prints, as a table. `plim vm set NAME KEY=VALUE` gives a setting, `plim vm unset NAME KEY` takes it back to\n"
    "its default. *start* means that a running guest gets the value at its next start, *now* that it holds at once. Where the default\n"
    "is auto, it follows the image, its operating system or the host: see [profiles](profiles.md).\n"
    "\n"
    "| setting | type | default | applies | meaning |\n"
    "|---|---|---|---|---|\n";

/* "int 1 to 255", "auto, kvm, tcg", "bool" */
static char *type_of(const Setting *s)
{
	g_autofree char *min = NULL, *max = NULL;

	switch (s->type) {
	case SETTING_ENUM:
		return g_strjoinv(", ", (char **)s->values);
	case SETTING_INT:
		return g_strdup_printf("int, %" PRId64 " to %" PRId64, s->min, s->max);
	case SETTING_SIZE:
		min = print_size((uint64_t)s->min);
		max = print_size((uint64_t)s->max);
		return g_strdup_printf("size, %s to %s", min, max);
	case SETTING_DURATION:
		min = print_duration((uint64_t)s->min);
		max = print_duration((uint64_t)s->max);
		return g_strdup_printf("duration, %s to %s", min, max);
	case SETTING_BOOL:
	case SETTING_TEXT:
	case SETTING_PATH:
		return g_strdup(setting_type_name(s->type));
	}
	return NULL;
}

int main(void)
{
	printf("%s", head);
	for (size_t i = 0; i < n_settings; i++) {
		const Setting *s = &settings[i];
		g_autofree char *type = type_of(s);

		printf("| `%s` | %s | %s | %s | %s |\n", s->key, type, s->dflt,
		       s->applies == APPLIES_START ? "start" : "now", s->help);
	}
	return fflush(stdout) == 0 ? 0 : 1;
}

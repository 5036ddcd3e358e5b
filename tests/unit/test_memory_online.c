/* SPDX-License-Identifier: Apache-2.0 */
/* Dynamic memory: what a Linux guest says that it does with memory that is plugged in. */
#include "core/memory/online.h"

#include <glib.h>
#include <stdbool.h>
#include <string.h>

static const struct {
	const char *text;
	MemoryOnline is;
	bool warned;
} rows[] = {
	{ "offline\n", MEMORY_ONLINE_OFFLINE, false },
	{ "online\n", MEMORY_ONLINE_ANY, false },
	{ "online", MEMORY_ONLINE_ANY, false },
	{ "online_kernel\n", MEMORY_ONLINE_KERNEL, false },
	{ "online_movable\n", MEMORY_ONLINE_MOVABLE, true },
	{ "", MEMORY_ONLINE_UNKNOWN, false },
	{ "\n", MEMORY_ONLINE_UNKNOWN, false },
	{ "onlin\n", MEMORY_ONLINE_UNKNOWN, false },
	{ "online_movable_\n", MEMORY_ONLINE_UNKNOWN, false },
	{ "movable\n", MEMORY_ONLINE_UNKNOWN, false },
};

static void test_what_the_kernel_says_is_known_and_anything_else_is_not(void)
{
	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		const char *name = memory_online_name(rows[i].is);

		g_assert_cmpint(memory_online_of(rows[i].text, strlen(rows[i].text)), ==, rows[i].is);
		g_assert_true((name != NULL) == (rows[i].is != MEMORY_ONLINE_UNKNOWN));
		if (name != NULL)
			g_assert_true(g_str_has_prefix(rows[i].text, name));
	}
	/* No more is read than there is. */
	g_assert_cmpint(memory_online_of("online_movable", strlen("online")), ==, MEMORY_ONLINE_ANY);
}

static void test_only_online_movable_is_warned_of_with_what_to_do(void)
{
	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		const char *warning = memory_online_warning(rows[i].is);

		g_assert_true((warning != NULL) == rows[i].warned);
		if (warning == NULL)
			continue;
		g_assert_nonnull(strstr(warning, "online_movable"));
		g_assert_nonnull(strstr(warning, "can hang or panic"));
		g_assert_nonnull(strstr(warning, "memhp_default_state=online on its kernel's command line"));
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/memory_online/says", test_what_the_kernel_says_is_known_and_anything_else_is_not);
	g_test_add_func("/memory_online/warning", test_only_online_movable_is_warned_of_with_what_to_do);
	return g_test_run();
}

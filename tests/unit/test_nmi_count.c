/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's own count of NMIs, out of a file that the guest wrote. */
#include "core/guest/nmi_count.h"

#include <glib.h>
#include <string.h>

#define HEAD "           CPU0       CPU1\n  1:        9          0   IO-APIC   1-edge      i8042\n"

static const struct {
	const char *text;
	bool known;
	uint64_t count;
} rows[] = {
	{ HEAD " NMI:          0          0   Non-maskable interrupts\n LOC:  7  8  Local timer interrupts\n",
	  true, 0 },
	{ HEAD "NMI:          2          3   Non-maskable interrupts\n", true, 5 },
	{ "NMI:\t1\t1", true, 2 },
	{ "NMI: 1 99999999999999999999999 2\n", true, 1 },
	{ HEAD "NMI: none\n", false, 0 },
	{ HEAD "NMI:\n", false, 0 },
	{ HEAD, false, 0 },
	{ "XNMI: 1\n", false, 0 },
	{ "", false, 0 },
};

static void test_all_vcpus_count(void)
{
	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		uint64_t n = 0;

		g_test_message("%s", rows[i].text);
		g_assert_cmpint(nmi_count_of(rows[i].text, strlen(rows[i].text), &n), ==, rows[i].known);
		g_assert_cmpuint(n, ==, rows[i].count);
	}
}

static void test_the_end_of_the_bytes_is_kept(void)
{
	uint64_t n = 0;

	g_assert_true(nmi_count_of("NMI: 1 2", strlen("NMI: 1"), &n));
	g_assert_cmpuint(n, ==, 1);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/nmi-count/sum", test_all_vcpus_count);
	g_test_add_func("/nmi-count/bounds", test_the_end_of_the_bytes_is_kept);
	return g_test_run();
}

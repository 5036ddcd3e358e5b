/* SPDX-License-Identifier: Apache-2.0 */
/*
 * print_argv NAME: the command line of a guest of tests/data/guest, one word a
 * line, descriptors as placeholders. For tests that are not in C.
 */
#include "guest_cases.h"

int main(int argc, char **argv)
{
	g_autoptr(GPtrArray) cases = NULL;
	g_autoptr(Argv) line = NULL;
	g_auto(GStrv) words = NULL;

	/* Initialises the search for test data; takes no words of its own. */
	g_test_init(&argc, &argv, NULL);
	if (argc != 2) {
		g_printerr("usage: print_argv NAME\n");
		return 2;
	}
	cases = guest_cases();
	line = argv_of_case(guest_case(cases, argv[1]));
	words = argv_words(line);
	for (char **w = words; *w != NULL; w++)
		g_print("%s\n", *w);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main() for a fuzz target without a fuzzer: every file of the directories (and every file) named on the
 * command line goes through the target once. What a fuzzer found and what we thought of stays a test that
 * way, with any compiler. Fails when there was nothing to feed.
 */
#include <glib.h>
#include <stdint.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* In a copy of exactly its size, so that a sanitizer sees a read behind the end. */
static void feed(const char *path)
{
	g_autofree char *text = NULL;
	g_autofree uint8_t *copy = NULL;
	g_autoptr(GError) err = NULL;
	size_t n;

	if (!g_file_get_contents(path, &text, &n, &err))
		g_error("%s", err->message);
	copy = g_memdup2(text, n);
	(void)LLVMFuzzerTestOneInput(copy, n);
}

static unsigned feed_dir(const char *path)
{
	g_autoptr(GError) err = NULL;
	g_autoptr(GDir) dir = g_dir_open(path, 0, &err);
	const char *name;
	unsigned n = 0;

	if (dir == NULL)
		g_error("%s", err->message);
	for (; (name = g_dir_read_name(dir)) != NULL; n++) {
		g_autofree char *file = g_build_filename(path, name, NULL);

		feed(file);
	}
	return n;
}

int main(int argc, char **argv)
{
	unsigned n = 0;

	for (int i = 1; i < argc; i++) {
		if (g_file_test(argv[i], G_FILE_TEST_IS_DIR)) {
			n += feed_dir(argv[i]);
		} else {
			feed(argv[i]);
			n++;
		}
	}
	printf("%u inputs\n", n);
	return n > 0 ? 0 : 1;
}

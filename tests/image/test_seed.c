/* SPDX-License-Identifier: Apache-2.0 */
/* The seed, read back by others than those who wrote it. */
#include "engine/seed.h"
#include "image_lab.h"

#include <archive.h>
#include <archive_entry.h>

#define ID "9e194003-4608-4fe3-b073-00bd2a774a57"

static char *text_of(const char *command, const char *path)
{
	g_auto(GStrv) around = g_strsplit(command, "%s", 2);
	g_autofree char *line = g_strconcat(around[0], path, around[1], NULL), *errors = NULL;
	char *out = NULL;
	int status;

	g_assert_true(g_spawn_command_line_sync(line, &out, &errors, &status, NULL));
	g_assert_cmpint(status, ==, 0);
	return out;
}

/* A tool that is not there is no proof and no failure. */
static bool have(const char *tool)
{
	g_autofree char *path = g_find_program_in_path(tool);

	if (path == NULL)
		g_test_message("there is no %s here", tool);
	return path != NULL;
}

static void assert_member(const char *iso, const char *name, const char *want)
{
	struct archive *a = archive_read_new();
	struct archive_entry *e;
	g_autofree char *got = NULL;

	g_assert_cmpint(archive_read_support_format_iso9660(a), ==, ARCHIVE_OK);
	g_assert_cmpint(archive_read_open_filename(a, iso, 4096), ==, ARCHIVE_OK);
	while (got == NULL && archive_read_next_header(a, &e) == ARCHIVE_OK)
		if (g_str_equal(archive_entry_pathname(e), name)) {
			size_t n = (size_t)archive_entry_size(e);

			got = g_malloc0(n + 1);
			g_assert_cmpint(archive_read_data(a, got, n), ==, (la_ssize_t)n);
		}
	archive_read_free(a);
	g_assert_cmpstr(got, ==, want);
}

static CloudInit *texts(const char *user_data, const char *network)
{
	_cleanup_json_ Json *wish = json_pack("{s:s, s:s?, s:s?}", "hostname", "web1", "user_data", user_data,
					      "network_config", network);
	CloudInit *c = cloud_init_of(wish, "n", ID, NULL);

	g_assert_nonnull(c);
	return c;
}

/* Longer than any buffer on the way, and not all ASCII. */
static char *long_script(void)
{
	g_autofree char *filler = g_strnfill(100000, 'x');

	return g_strconcat("#!/bin/sh\n# ", filler, " \xc3\xa4\n", NULL);
}

static gid_t reader(void)
{
	return geteuid() == 0 ? NOBODY : getegid();
}

static void write_seed(const char *iso, const CloudInit *c)
{
	g_autoptr(GError) err = NULL;

	seed_write(iso, c, reader(), &err);
	g_assert_no_error(err);
}

static void test_the_seed_reads_back(void)
{
	g_autofree char *dir = lab_folder(), *iso = g_build_filename(dir, "seed.iso", NULL),
			*script = long_script();
	g_autoptr(CloudInit) c = texts(script, "version: 2\n");
	struct stat st;

	write_seed(iso, c);
	assert_member(iso, "user-data", script);
	assert_member(iso, "meta-data", c->meta_data);
	assert_member(iso, "network-config", "version: 2\n");
	g_assert_cmpint(stat(iso, &st), ==, 0);
	g_assert_cmpint(st.st_size % 2048, ==, 0);
	g_assert_cmpint(st.st_mode & 07777, ==, 0440);
	g_assert_cmpuint(st.st_gid, ==, reader());
	lab_remove(dir);
}

static void test_other_tools_find_what_cloud_init_looks_for(void)
{
	g_autofree char *dir = lab_folder(), *iso = g_build_filename(dir, "seed.iso", NULL),
			*script = long_script();
	g_autoptr(CloudInit) c = texts(script, NULL);

	write_seed(iso, c);
	if (have("blkid")) {
		g_autofree char *label = text_of("blkid -p -s LABEL -o value %s", iso),
				*type = text_of("blkid -p -s TYPE -o value %s", iso);

		g_assert_cmpstr(label, ==, "cidata\n");
		g_assert_cmpstr(type, ==, "iso9660\n");
	}
	if (have("bsdtar")) {
		g_autofree char *names = text_of("bsdtar tf %s", iso),
				*user = text_of("bsdtar xOf %s user-data", iso);

		g_assert_nonnull(strstr(names, "meta-data\n"));
		g_assert_null(strstr(names, "network-config"));
		g_assert_cmpstr(user, ==, script);
	}
	if (have("isoinfo")) {
		g_autofree char *rock = text_of("isoinfo -R -x /meta-data -i %s", iso),
				*joliet = text_of("isoinfo -J -x /user-data -i %s", iso),
				*info = text_of("isoinfo -d -i %s", iso);

		g_assert_cmpstr(rock, ==, c->meta_data);
		g_assert_cmpstr(joliet, ==, script);
		g_assert_nonnull(
		    strstr(info, "Volume id: CIDATA")); /* ISO 9660 itself has no small letters */
	}
	lab_remove(dir);
}

static void test_the_same_is_not_written_again(void)
{
	g_autofree char *dir = lab_folder(), *iso = g_build_filename(dir, "seed.iso", NULL);
	g_autoptr(CloudInit) one = texts("#!one", NULL), again = texts("#!one", NULL),
			     two = texts("#!two", NULL);
	struct stat first, second, third;

	write_seed(iso, one);
	g_assert_cmpint(stat(iso, &first), ==, 0);
	write_seed(iso, again);
	g_assert_cmpint(stat(iso, &second), ==, 0);
	g_assert_cmpuint(first.st_ino, ==, second.st_ino);
	write_seed(iso, two);
	g_assert_cmpint(stat(iso, &third), ==, 0);
	g_assert_cmpuint(third.st_ino, !=, first.st_ino);
	assert_member(iso, "user-data", "#!two");
	g_assert_cmpint(unlink(iso), ==, 0); /* its digest alone is no seed */
	write_seed(iso, two);
	assert_member(iso, "user-data", "#!two");
	lab_remove(dir);
}

static void test_a_full_disk_keeps_the_old_one(void)
{
	g_autofree char *dir = lab_folder(), *mnt = g_build_filename(dir, "mnt", NULL),
			*iso = g_build_filename(mnt, "seed.iso", NULL), *script = long_script(), *left = NULL;
	g_autoptr(CloudInit) old = texts("#!old", NULL), new = texts(script, NULL);
	g_autoptr(GError) err = NULL;
	bool written;

	g_assert_true(dir_make(mnt, 0711, NULL));
	if (!lab_mount(mnt, "512k")) {
		g_test_skip("no right to mount a tmpfs");
		lab_remove(dir);
		return;
	}
	write_seed(iso, old);
	written = seed_write(iso, new, reader(), &err);
	assert_member(iso, "user-data", "#!old");
	left = lab_list(mnt);
	lab_unmount(mnt);
	g_assert_false(written);
	g_assert_error(err, ERR, ERR_NO_SPACE);
	g_assert_cmpstr(left, ==, "seed.iso seed.iso.sha256");
	lab_remove(dir);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/seed/back", test_the_seed_reads_back);
	g_test_add_func("/seed/tools", test_other_tools_find_what_cloud_init_looks_for);
	g_test_add_func("/seed/same", test_the_same_is_not_written_again);
	g_test_add_func("/seed/full-disk", test_a_full_disk_keeps_the_old_one);
	return g_test_run();
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A guest that a disk's error stopped: which disk, and the words about it. */
#include "core/model/disk_stop.h"

#define GIB (UINT64_C(1) << 30)

static Json *blocks_of(const char *root, const char *data)
{
	return json_pack("[{s:s}, {s:s, s:{s:s}}, {s:s, s:{s:s, s:{s:I}}}, {s:s, s:{s:s, s:{s:I}}}]",
			 "device", "floppy0", "io-status", "failed", "inserted", "node-name", "cdrom",
			 "io-status", root, "inserted", "node-name", "disk-root", "image", "virtual-size",
			 (json_int_t)(2 * GIB), "io-status", data, "inserted", "node-name", "disk-data1",
			 "image", "virtual-size", (json_int_t)GIB);
}

static void test_the_disk_with_the_error_is_named(void)
{
	static const struct {
		const char *root, *data, *disk;
		bool no_space;
		uint64_t size;
	} rows[] = {
		{ "ok", "ok", NULL, false, 0 },
		{ "nospace", "ok", "root", true, 2 * GIB },
		{ "ok", "nospace", "data1", true, GIB },
		{ "failed", "nospace", "root", false, 2 * GIB },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		_cleanup_json_ Json *blocks = blocks_of(rows[i].root, rows[i].data);
		struct disk_stop s = disk_stop_of(blocks);

		g_assert_cmpstr(s.disk, ==, rows[i].disk);
		g_assert_cmpint(s.no_space, ==, rows[i].no_space);
		g_assert_cmpuint(s.size, ==, rows[i].size);
	}
}

static void test_an_answer_without_drives_names_none(void)
{
	_cleanup_json_ Json *empty = json_array();

	g_assert_null(disk_stop_of(empty).disk);
	g_assert_null(disk_stop_of(NULL).disk);
}

static void test_it_is_told_with_numbers_and_what_to_do(void)
{
	static const struct disk_room room = { "/srv/disks", GIB, 0, 4 * GIB }, nothing = { 0 };
	static const struct disk_stop full = { "root", true, 2 * GIB }, broken = { "root", false, 2 * GIB },
				      unknown = { 0 };
	static const struct {
		const struct disk_stop *stop;
		const struct disk_room *room;
		const char *text;
	} rows[] = {
		{ &full, &room,
		  "web is paused: disk 'root' found no room on the host: its file takes 1 GiB of at most 2 GiB, and "
		  "0 B of 4 GiB are free in /srv/disks. Nothing is lost. Make room there, then run `plim vm resume "
		  "web`." },
		{ &full, &nothing,
		  "web is paused: disk 'root' found no room on the host. Nothing is lost. Make room there, then run "
		  "`plim vm resume web`." },
		{ &broken, &room,
		  "web is paused: disk 'root' reported an error. Nothing is lost. See the host's log and mend the "
		  "storage, then run `plim vm resume web`." },
		{ &unknown, &nothing,
		  "web is paused: a disk reported an error. Nothing is lost. See the host's log and mend the storage, "
		  "then run `plim vm resume web`." },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		g_autofree char *text = disk_stop_tell("web", rows[i].stop, rows[i].room);

		g_assert_cmpstr(text, ==, rows[i].text);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/disk-stop/which", test_the_disk_with_the_error_is_named);
	g_test_add_func("/disk-stop/none", test_an_answer_without_drives_names_none);
	g_test_add_func("/disk-stop/words", test_it_is_told_with_numbers_and_what_to_do);
	return g_test_run();
}

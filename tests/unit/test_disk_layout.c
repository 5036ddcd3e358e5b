/* SPDX-License-Identifier: Apache-2.0 */
/* What lies on a guest's disk, from what its own tools print, and the command that makes it fill the disk. */
#include "core/guest/disk_layout.h"

#include <string.h>

/* As Debian 12 prints it; an old lsblk prints numbers as text. */
#define LSBLK                                                                                                \
	"{\"blockdevices\": [{\"name\": \"/dev/vda\", \"serial\": \"root\", \"type\": \"disk\", "            \
	"\"size\": 2147483648, \"fstype\": null, \"mountpoint\": null, \"fssize\": null, \"children\": ["    \
	"{\"name\": \"/dev/vda1\", \"serial\": null, \"type\": \"part\", \"size\": 2077229056, "             \
	"\"fstype\": \"ext4\", \"mountpoint\": \"/\", \"fssize\": 2004918272},"                              \
	"{\"name\": \"/dev/vda14\", \"type\": \"part\", \"size\": 1048576, \"fstype\": null},"               \
	"{\"name\": \"/dev/vda15\", \"type\": \"part\", \"fstype\": \"vfat\"}]},"                            \
	"{\"name\": \"/dev/vdb\", \"serial\": \"data\", \"type\": \"disk\", \"size\": \"1073741824\", "      \
	"\"fstype\": \"xfs\", \"mountpoint\": \"/srv\", \"fssize\": \"1063256064\"},"                        \
	"{\"name\": \"/dev/vdc\", \"serial\": \"lvm\", \"type\": \"disk\", \"size\": 5, "                    \
	"\"fstype\": \"LVM2_member\", \"children\": [{\"name\": \"/dev/mapper/a-b\", \"type\": \"lvm\"}]}]}"

static Json *parsed(const char *text)
{
	Json *j = json_parse(text, strlen(text), NULL);

	g_assert_nonnull(j);
	return j;
}

static void test_the_disk_is_found_by_its_serial_number(void)
{
	_cleanup_json_ Json *j = parsed(LSBLK);
	g_auto(GuestDisk) root = { 0 }, part = { 0 }, data = { 0 }, lvm = { 0 };
	g_autoptr(GError) err = NULL;

	g_assert_true(guest_disk_of(j, "root", NULL, &root, NULL));
	g_assert_cmpstr(root.device, ==, "/dev/vda");
	g_assert_true(root.parted && !root.layered && root.fs == NULL);
	g_assert_cmpuint(root.size, ==, 2147483648);
	g_assert_true(guest_disk_of(j, "root", "/dev/vda1", &part, NULL));
	g_assert_cmpstr(part.part, ==, "/dev/vda1");
	g_assert_cmpstr(part.fs, ==, "ext4");
	g_assert_cmpuint(part.fs_size, ==, 2004918272);
	g_assert_true(guest_disk_of(j, "data", NULL, &data, NULL));
	g_assert_false(data.parted);
	g_assert_cmpuint(data.size, ==, 1073741824);
	g_assert_cmpuint(data.fs_size, ==, 1063256064);
	g_assert_true(guest_disk_of(j, "lvm", NULL, &lvm, NULL));
	g_assert_true(lvm.layered && !lvm.parted);
	g_assert_false(guest_disk_of(j, "other", NULL, &root, &err));
	g_assert_error(err, ERR, ERR_NOT_FOUND);
	g_assert_false(guest_disk_of(j, "root", "/dev/vdb", &root, NULL));
	g_assert_false(guest_disk_of(NULL, "root", NULL, &root, NULL));
}

static void test_the_last_partition_is_the_one_that_lies_last(void)
{
	static const struct {
		const char *table, *device, *part;
		unsigned number;
	} rows[] = {
		{ "[{\"node\":\"/dev/vda1\",\"start\":135168},{\"node\":\"/dev/vda14\",\"start\":2048},"
		  "{\"node\":\"/dev/vda15\",\"start\":4096}]",
		  "/dev/vda", "/dev/vda1", 1 },
		{ "[{\"node\":\"/dev/nvme0n1p1\",\"start\":34},{\"node\":\"/dev/nvme0n1p2\",\"start\":4096}]",
		  "/dev/nvme0n1", "/dev/nvme0n1p2", 2 },
		{ "[]", "/dev/vda", NULL, 0 },
		{ "[{\"node\":\"/dev/vdb1\",\"start\":1}]", "/dev/vda", NULL, 0 },
		{ "[{\"node\":\"/dev/vda\",\"start\":1}]", "/dev/vda", NULL, 0 },
		{ "[{\"start\":1}]", "/dev/vda", NULL, 0 },
		{ "3", "/dev/vda", NULL, 0 },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		g_autofree char *text =
		    g_strdup_printf("{\"partitiontable\":{\"partitions\":%s}}", rows[i].table);
		_cleanup_json_ Json *j = parsed(text);
		g_autofree char *part = NULL;
		unsigned number = 0;

		g_test_message("%s", rows[i].table);
		g_assert_cmpint(guest_last_partition(j, rows[i].device, &part, &number, NULL), ==,
				rows[i].part != NULL);
		g_assert_cmpstr(part, ==, rows[i].part);
		g_assert_cmpuint(number, ==, rows[i].number);
	}
}

static void test_each_file_system_has_its_command_or_advice(void)
{
	static const struct {
		const char *fs, *mount;
		bool layered;
		const char *command, *says;
	} rows[] = {
		{ "ext4", "/", false, "resize2fs /dev/x", NULL },
		{ "xfs", "/srv", false, "xfs_growfs /srv", NULL },
		{ "btrfs", "/srv", false, "btrfs filesystem resize max /srv", NULL },
		{ "ext4", NULL, false, NULL, "is not mounted" },
		{ NULL, NULL, false, NULL, "no file system" },
		{ "ntfs", "/mnt", false, NULL, "'ntfs'" },
		{ "LVM2_member", NULL, true, NULL, "belongs to LVM" },
		{ "crypto_LUKS", NULL, true, NULL, "crypto_LUKS" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		struct guest_disk d = { .device = (char *)"/dev/x",
					.part = (char *)"/dev/x",
					.fs = (char *)rows[i].fs,
					.mount = (char *)rows[i].mount,
					.layered = rows[i].layered };
		const char *words[FS_COMMAND_WORDS];
		g_autoptr(GError) err = NULL;
		g_autofree char *command = NULL;

		if (guest_fs_command(&d, words, &err))
			command = g_strjoinv(" ", (char **)words);
		g_assert_cmpstr(command, ==, rows[i].command);
		if (rows[i].says == NULL)
			continue;
		g_assert_error(err, ERR, ERR_UNSUPPORTED);
		g_assert_nonnull(strstr(err->message, rows[i].says));
		g_assert_nonnull(err_advice(err));
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/disk-layout/find", test_the_disk_is_found_by_its_serial_number);
	g_test_add_func("/disk-layout/last", test_the_last_partition_is_the_one_that_lies_last);
	g_test_add_func("/disk-layout/command", test_each_file_system_has_its_command_or_advice);
	return g_test_run();
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "core/model/vm.h"

#include <string.h>

#define UUID "9e194003-4608-4fe3-b073-00bd2a774a57"

static Json *parsed(const char *text)
{
	Json *j = json_parse_wide(text, strlen(text), NULL);

	g_assert_nonnull(j);
	return j;
}

static Vm *vm_of(const char *text)
{
	g_autoptr(GError) err = NULL;
	_cleanup_json_ Json *j = parsed(text);
	Vm *vm = vm_of_json(j, &err);

	g_assert_no_error(err);
	return vm;
}

static const char full[] =
    "{\"id\":\"" UUID
    "\",\"name\":\"web1\",\"description\":\"a\\nb\",\"created_at\":\"2026-01-01T00:00:00Z\","
    "\"tags\":[\"x\",\"y\"],\"image\":{\"id\":\"" UUID "\",\"name\":\"Windows 10 - With Apps [2017-01-27]\"},"
    "\"cdrom\":{\"image\":null,\"path\":\"/srv/tools.iso\"},"
    "\"properties\":{\"os_type\":\"windows\",\"recommended\":true,\"min_disk\":40},"
    "\"settings\":{\"vcpus\":2,\"memory.start\":1073741824},"
    "\"disks\":[{\"name\":\"root\",\"volume\":\"" UUID "\",\"path\":null,\"format\":\"qcow2\","
    "\"bus\":\"virtio-scsi\",\"readonly\":false,\"slot\":3},"
    "{\"name\":\"data\",\"volume\":null,\"path\":\"/dev/sdb\",\"format\":\"raw\",\"bus\":\"auto\","
    "\"readonly\":true,\"slot\":0}],"
    "\"nics\":[{\"name\":\"net0\",\"network\":\"bridge:br0\",\"mac\":\"52:54:00:12:34:56\","
    "\"model\":\"e1000e\",\"slot\":1}],"
    "\"cloud_init\":{\"hostname\":\"web1\"}}";

static void test_a_record_survives_the_round_trip(void)
{
	_cleanup_json_ Json *j = parsed(full);
	g_autoptr(Vm) vm = vm_of(full), copy = vm_copy(vm);
	_cleanup_json_ Json *back = vm_to_json(vm), *of_copy = vm_to_json(copy);

	g_assert_true(json_equal(j, back));
	g_assert_true(json_equal(j, of_copy));
	g_assert_cmpstr(vm_property(vm, "os_type"), ==, "windows");
	g_assert_cmpstr(vm_property(vm, "recommended"), ==, "true");
	g_assert_null(vm_property(vm, "min_disk"));
	g_assert_null(vm_property(vm, "os_distro"));
	g_assert_cmpint(json_integer_value(vm_setting(vm, "vcpus")), ==, 2);
	g_assert_null(vm_setting(vm, "tpm"));
	g_assert_cmpuint(vm_disk_find(vm, "root")->slot, ==, 3);
	g_assert_null(vm_disk_find(vm, "net0"));
	g_assert_cmpuint(vm_nic_find(vm, "net0")->slot, ==, 1);
}

static void test_a_record_shares_nothing_with_its_text(void)
{
	_cleanup_json_ Json *j = parsed(full);
	g_autoptr(Vm) vm = vm_of_json(j, NULL);

	json_put_str(json_object_get(j, "properties"), "os_type", "linux");
	json_put_str(json_object_get(j, "cloud_init"), "hostname", "other");
	g_assert_cmpstr(vm_property(vm, "os_type"), ==, "windows");
	g_assert_cmpstr(json_str(vm->cloud_init, "hostname"), ==, "web1");
}

static void test_the_least_record_is_a_name(void)
{
	g_autoptr(Vm) vm = vm_of("{\"name\":\"a\",\"tags\":null,\"settings\":null,\"properties\":null,"
				 "\"disks\":null,\"image\":null,\"cloud_init\":null,\"description\":null}");

	g_assert_cmpuint(vm->disk->len + vm->nic->len, ==, 0);
	g_assert_null(vm->id);
	g_assert_null(vm->image_id);
	g_assert_null(vm->cloud_init);
	g_assert_cmpuint(g_strv_length(vm->tags), ==, 0);
}

static void test_slots_are_given_out_around_those_that_are_named(void)
{
	g_autoptr(Vm) vm =
	    vm_of("{\"name\":\"a\",\"disks\":["
		  "{\"name\":\"a\",\"path\":\"/a\"},{\"name\":\"b\",\"path\":\"/b\",\"slot\":0},"
		  "{\"name\":\"c\",\"path\":\"/c\"},{\"name\":\"d\",\"path\":\"/d\",\"slot\":2}],"
		  "\"nics\":[{\"name\":\"a\"},{\"name\":\"b\",\"slot\":0}]}");

	g_assert_cmpuint(vm_disk_find(vm, "a")->slot, ==, 1);
	g_assert_cmpuint(vm_disk_find(vm, "b")->slot, ==, 0);
	g_assert_cmpuint(vm_disk_find(vm, "c")->slot, ==, 3);
	g_assert_cmpuint(vm_disk_find(vm, "d")->slot, ==, 2);
	g_assert_cmpuint(vm_nic_find(vm, "a")->slot, ==, 1);
	g_assert_cmpuint(vm_disk_free_slot(vm), ==, 4);
	g_assert_cmpuint(vm_nic_free_slot(vm), ==, 2);
}

static void test_the_defaults_leave_the_choice_to_the_profile(void)
{
	g_autoptr(Vm) vm = vm_of("{\"name\":\"a\",\"disks\":[{\"path\":\"/a\"}],\"nics\":[{}]}");

	g_assert_cmpstr(vm_disk_find(vm, "root")->bus, ==, "auto");
	g_assert_cmpstr(vm_disk_find(vm, "root")->format, ==, "qcow2");
	g_assert_cmpstr(vm_nic_find(vm, "net0")->model, ==, "auto");
	g_assert_cmpstr(vm_nic_find(vm, "net0")->network, ==, "user");
}

static void test_bad_records_are_refused(void)
{
	/* the second column: a word that the error must name */
	static const char *const bad[][2] = {
		{ "[]", "object" },
		{ "null", "object" },
		{ "{}", "name" },
		{ "{\"name\":\"a/b\"}", "a/b" },
		{ "{\"name\":\"..\"}", ".." },
		{ "{\"name\":7}", "name" },
		{ "{\"name\":\"a\\u0000b\"}", "name" },
		{ "{\"name\":\"a\",\"colour\":1}", "colour" },
		{ "{\"name\":\"a\",\"id\":\"not-a-uuid\"}", "not-a-uuid" },
		{ "{\"name\":\"a\",\"description\":\"\\u001b[2J\"}", "description" },
		{ "{\"name\":\"a\",\"tags\":[1]}", "tag" },
		{ "{\"name\":\"a\",\"tags\":\"x\"}", "tags" },
		{ "{\"name\":\"a\",\"image\":{\"url\":\"x\"}}", "url" },
		{ "{\"name\":\"a\",\"properties\":[]}", "properties" },
		{ "{\"name\":\"a\",\"properties\":{\"x\":{}}}", "x" },
		{ "{\"name\":\"a\",\"properties\":{\"@fact\":\"pid\"}}", "@fact" },
		{ "{\"name\":\"a\",\"settings\":{\"vcpus\":0}}", "vcpus" },
		{ "{\"name\":\"a\",\"settings\":{\"vcpu\":1}}", "vcpu" },
		{ "{\"name\":\"a\",\"cloud_init\":[]}", "cloud_init" },
		{ "{\"name\":\"a\",\"cloud_init\":{\"network_config\":[{\"@fact\":\"pid\"}]}}", "@fact" },
		{ "{\"name\":\"a\",\"disks\":{}}", "disks" },
		{ "{\"name\":\"a\",\"disks\":[1]}", "disk" },
		{ "{\"name\":\"a\",\"disks\":[{}]}", "source" },
		{ "{\"name\":\"a\",\"disks\":[{\"path\":\"/a\",\"volume\":\"" UUID "\"}]}", "source" },
		{ "{\"name\":\"a\",\"disks\":[{\"path\":\"a\"}]}", "path" },
		{ "{\"name\":\"a\",\"disks\":[{\"path\":\"/a\\nb\"}]}", "path" },
		{ "{\"name\":\"a\",\"disks\":[{\"volume\":\"x\"}]}", "volume" },
		{ "{\"name\":\"a\",\"disks\":[{\"path\":\"/a\",\"format\":\"vmdk\"}]}", "vmdk" },
		{ "{\"name\":\"a\",\"disks\":[{\"path\":\"/a\",\"bus\":\"ide\"}]}", "ide" },
		{ "{\"name\":\"a\",\"disks\":[{\"path\":\"/a\",\"slot\":24}]}", "slot" },
		{ "{\"name\":\"a\",\"disks\":[{\"path\":\"/a\",\"slot\":-1}]}", "slot" },
		{ "{\"name\":\"a\",\"disks\":[{\"path\":\"/a\",\"slot\":\"1\"}]}", "slot" },
		{ "{\"name\":\"a\",\"disks\":[{\"path\":\"/a\",\"readonly\":1}]}", "readonly" },
		{ "{\"name\":\"a\",\"disks\":[{\"path\":\"/a\",\"name\":\"a23456789012345678901\"}]}", "20" },
		{ "{\"name\":\"a\",\"disks\":[{\"path\":\"/a\"},{\"path\":\"/b\"}]}", "root" },
		{ "{\"name\":\"a\",\"disks\":[{\"path\":\"/a\",\"slot\":1},"
		  "{\"name\":\"b\",\"path\":\"/b\",\"slot\":1}]}",
		  "slot 1" },
		{ "{\"name\":\"a\",\"nics\":[{\"mac\":\"52:54:00:12:34:5G\"}]}", "MAC" },
		{ "{\"name\":\"a\",\"nics\":[{\"mac\":\"53:54:00:12:34:56\"}]}", "MAC" },
		{ "{\"name\":\"a\",\"nics\":[{\"mac\":\"00:00:00:00:00:00\"}]}", "MAC" },
		{ "{\"name\":\"a\",\"nics\":[{\"mac\":\"52:54:00:12:34:56\"},"
		  "{\"name\":\"b\",\"mac\":\"52:54:00:12:34:56\"}]}",
		  "52:54:00:12:34:56" },
		{ "{\"name\":\"a\",\"nics\":[{\"network\":\"bridge:\"}]}", "bridge:" },
		{ "{\"name\":\"a\",\"nics\":[{\"network\":\"bridge:0123456789abcdef\"}]}", "bridge" },
		{ "{\"name\":\"a\",\"nics\":[{\"network\":\"bridge:a/b\"}]}", "bridge" },
		{ "{\"name\":\"a\",\"nics\":[{\"model\":\"ne2k\"}]}", "ne2k" },
		{ "{\"name\":\"a\",\"nics\":[{},{}]}", "net0" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) err = NULL;
		_cleanup_json_ Json *j = parsed(bad[i][0]);
		g_autoptr(Vm) vm = vm_of_json(j, &err);

		g_test_message("%s -> %s", bad[i][0], err != NULL ? err->message : "accepted");
		g_assert_null(vm);
		g_assert_error(err, ERR, ERR_INVALID);
		g_assert_nonnull(strstr(err->message, bad[i][1]));
	}
}

static void test_more_devices_than_slots_are_refused(void)
{
	_cleanup_json_ Json *j = parsed("{\"name\":\"a\",\"disks\":[],\"nics\":[]}");
	g_autoptr(GError) err = NULL;

	for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
		g_autofree char *name = g_strdup_printf("d%u", i);
		Json *d = json_object();

		json_put_str(d, "name", name);
		json_put_str(d, "path", "/x");
		json_array_append_new(json_object_get(j, "disks"), d);
	}
	{
		g_autoptr(Vm) vm = vm_of_json(j, NULL);

		g_assert_nonnull(vm);
		g_assert_cmpuint(vm_disk_free_slot(vm), ==, VM_DISKS_MAX);
	}
	json_array_append_new(json_object_get(j, "disks"), parsed("{\"name\":\"more\",\"path\":\"/x\"}"));
	g_assert_null(vm_of_json(j, &err));
	g_assert_error(err, ERR, ERR_INVALID);
}

static void test_mac_addresses_are_qemus_own(void)
{
	const uint8_t bytes[3] = { 0x00, 0xab, 0xff };
	g_autofree char *mac = mac_of_bytes(bytes);

	g_assert_cmpstr(mac, ==, "52:54:00:00:ab:ff");
	g_assert_true(mac_valid(mac));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/vm/round-trip", test_a_record_survives_the_round_trip);
	g_test_add_func("/vm/shares-nothing", test_a_record_shares_nothing_with_its_text);
	g_test_add_func("/vm/least", test_the_least_record_is_a_name);
	g_test_add_func("/vm/slots", test_slots_are_given_out_around_those_that_are_named);
	g_test_add_func("/vm/defaults", test_the_defaults_leave_the_choice_to_the_profile);
	g_test_add_func("/vm/bad", test_bad_records_are_refused);
	g_test_add_func("/vm/too-many", test_more_devices_than_slots_are_refused);
	g_test_add_func("/vm/mac", test_mac_addresses_are_qemus_own);
	return g_test_run();
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "core/guest/address.h"
#include "core/guest/argv.h"
#include "guest_cases.h"

#include <string.h>

static void test_command_lines_are_as_written_down(void)
{
	g_autoptr(GPtrArray) cases = guest_cases();

	for (guint i = 0; i < cases->len; i++) {
		const GuestCase *c = cases->pdata[i];
		g_autoptr(Argv) argv = argv_of_case(c);
		g_autofree char *text = argv_print(argv), *name = g_strconcat(c->name, ".args", NULL);

		golden_check("argv", name, text);
	}
}

static void test_every_part_of_every_argument_has_a_cause(void)
{
	g_autoptr(GPtrArray) cases = guest_cases();

	for (guint i = 0; i < cases->len; i++) {
		g_autoptr(Argv) argv = argv_of_case(cases->pdata[i]);

		for (guint k = 0; k < argv->arg->len; k++) {
			const Arg *a = argv->arg->pdata[k];
			GString *parts = g_string_new(NULL);

			g_assert_cmpuint(a->cause->len, >, 0);
			for (guint n = 0; n < a->cause->len; n++) {
				const ArgCause *c = a->cause->pdata[n];

				g_string_append_printf(parts, "%s%s", n > 0 ? "," : "", c->part);
				g_assert_cmpstr(c->cause->key, !=, "");
			}
			g_assert_cmpstr(parts->str, ==, a->value != NULL ? a->value : a->option);
			g_string_free(parts, TRUE);
		}
	}
}

static void test_a_command_line_survives_the_store(void)
{
	g_autoptr(GPtrArray) cases = guest_cases();

	for (guint i = 0; i < cases->len; i++) {
		g_autoptr(Argv) argv = argv_of_case(cases->pdata[i]), back = NULL;
		_cleanup_json_ Json *j = argv_to_json(argv), *again = NULL;
		g_autofree char *text = argv_print(argv), *text_back = NULL;

		back = argv_of_json(j, NULL);
		g_assert_nonnull(back);
		again = argv_to_json(back);
		text_back = argv_print(back);
		g_assert_true(json_equal(j, again));
		g_assert_cmpstr(text, ==, text_back);
	}
}

static void test_a_damaged_record_is_refused(void)
{
	static const char *const bad[] = {
		"{}",
		"null",
		"[1]",
		"[{\"option\":\"-S\",\"value\":null}]",
		"[{\"option\":\"-S\",\"value\":null,\"causes\":[]}]",
		"[{\"option\":\"-S\",\"value\":null,\"causes\":[{\"source\":\"moon\",\"key\":\"a\",\"value\":\"b\"}]}]",
		"[{\"value\":\"x\",\"causes\":[{\"source\":\"vm\",\"key\":\"a\",\"value\":\"b\"}]}]",
	};

	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) err = NULL;
		_cleanup_json_ Json *j = json_parse(bad[i], strlen(bad[i]), NULL);

		g_assert_null(argv_of_json(j, &err));
		g_assert_error(err, ERR, ERR_INVALID);
	}
}

static char *address_of(const char *value)
{
	const char *bus = strstr(value, "bus="), *addr = strstr(value, "addr="),
		   *id = strstr(value, "scsi-id=");
	size_t nbus = bus != NULL ? strcspn(bus, ",") : 0, naddr = addr != NULL ? strcspn(addr, ",") : 0;
	size_t nid = id != NULL ? strcspn(id, ",") : 0;

	return g_strdup_printf("%.*s %.*s %.*s", (int)nbus, bus != NULL ? bus : "", (int)naddr,
			       addr != NULL ? addr : "", (int)nid, id != NULL ? id : "");
}

/* id of each -device to its address */
static GHashTable *addresses(const Argv *argv)
{
	GHashTable *t = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);

	for (guint i = 0; i < argv->arg->len; i++) {
		const Arg *a = argv->arg->pdata[i];
		const char *id;

		if (!g_str_equal(a->option, "-device"))
			continue;
		id = strstr(a->value, ",id=");
		g_assert_nonnull(id);
		g_hash_table_insert(t, g_strndup(id + 4, strcspn(id + 4, ",")), address_of(a->value));
	}
	return t;
}

static Argv *argv_of_vm(const Vm *vm, const HostFacts *host)
{
	g_autoptr(GPtrArray) paths = disk_paths(vm, host);
	g_autoptr(GError) err = NULL;
	g_autoptr(Profile) p = profile_of(vm, host, NULL, NULL, &err);
	Argv *argv;

	g_assert_no_error(err);
	argv = argv_of(p, vm, host, (const char *const *)paths->pdata, &err);
	g_assert_no_error(err);
	return argv;
}

static void assert_no_device_moved(const Argv *before, const Argv *after, const char *what)
{
	g_autoptr(GHashTable) was = addresses(before), is = addresses(after);
	GHashTableIter it;
	gpointer id, at;

	g_hash_table_iter_init(&it, was);
	while (g_hash_table_iter_next(&it, &id, &at)) {
		const char *now = g_hash_table_lookup(is, id);

		if (now != NULL && !g_str_equal(now, at))
			g_error("%s moved %s from %s to %s", what, (char *)id, (char *)at, now);
	}
}

/* Its memory does not move any more. */
static void make_fixed(Vm *vm)
{
	json_object_del(vm->settings, "memory.min");
	json_object_del(vm->settings, "memory.max");
}

/* Any setting and any property, on every guest: what stays, stays where it was. */
static void test_no_setting_moves_a_device(void)
{
	static const char *const settings_of_devices[][2] = {
		{ "platform.usb", "true" },
		{ "platform.usb_tablet", "true" },
		{ "platform.hvm_serial", "\"pty\"" },
		{ "platform.hpet", "true" },
		{ "platform.cdrom", "\"/x.iso\"" },
		{ "platform.floppy", "true" },
		{ "platform.video", "\"std\"" },
		{ "platform.video", "\"none\"" },
		{ "platform.console", "false" },
		{ "platform.balloon", "false" },
		{ "platform.rng", "false" },
		{ "platform.pvpanic", "false" },
		{ "agent", "false" },
		{ "vcpus", "8" },
		{ "memory.start", "2147483648" },
		{ "memory.max", "17179869184" },
		{ "memory.method", "\"balloon\"" },
		{ "firmware", "\"uefi\"" },
		{ "accel", "\"tcg\"" },
		{ "hyperv", "\"on\"" },
		{ "disk.cache", "\"writeback\"" },
		{ "tpm", "true" },
	};
	g_autoptr(GPtrArray) cases = guest_cases();

	for (guint i = 0; i < cases->len; i++) {
		const GuestCase *c = cases->pdata[i];
		g_autoptr(HostFacts) able = host_of_name("kvm");
		g_autoptr(Argv) before = argv_of_vm(c->vm, able);

		for (size_t k = 0; k < G_N_ELEMENTS(settings_of_devices); k++) {
			const char *key = settings_of_devices[k][0], *value = settings_of_devices[k][1];
			g_autoptr(Vm) vm = vm_copy(c->vm);
			g_autoptr(Argv) after = NULL;

			json_put(vm->settings, key, json_parse(value, strlen(value), NULL));
			/* Such a pair is refused. */
			if (g_str_equal(key, "platform.balloon") || g_str_equal(key, "memory.start"))
				make_fixed(vm);
			if (g_str_equal(key, "memory.max"))
				json_object_del(vm->settings, "platform.balloon");
			after = argv_of_vm(vm, able);
			assert_no_device_moved(before, after, key);
		}
	}
}

static void test_a_new_disk_or_nic_moves_nothing(void)
{
	g_autoptr(GPtrArray) cases = guest_cases();

	for (guint i = 0; i < cases->len; i++) {
		const GuestCase *c = cases->pdata[i];
		g_autoptr(Argv) before = argv_of_case(c), after = NULL;
		g_autoptr(Vm) vm = vm_copy(c->vm);
		VmDisk *d = vm_disk_new();
		VmNic *n = vm_nic_new();

		d->name = g_strdup("new");
		d->path = g_strdup("/dev/new");
		d->format = g_strdup("raw");
		d->bus = g_strdup("virtio-blk");
		d->slot = vm_disk_free_slot(vm);
		n->name = g_strdup("new");
		n->network = g_strdup("user");
		n->mac = g_strdup("52:54:00:ff:ff:ff");
		n->model = g_strdup("auto");
		n->slot = vm_nic_free_slot(vm);
		if (d->slot < VM_DISKS_MAX)
			g_ptr_array_add(vm->disk, g_steal_pointer(&d));
		if (n->slot < VM_NICS_MAX)
			g_ptr_array_add(vm->nic, g_steal_pointer(&n));
		vm_disk_free(d);
		vm_nic_free(n);
		after = argv_of_vm(vm, c->host);
		assert_no_device_moved(before, after, "a new device");
		for (guint k = 0; k < before->arg->len; k++) {
			const Arg *a = before->arg->pdata[k];
			bool found = false;

			for (guint q = 0; q < after->arg->len && !found; q++)
				found = g_strcmp0(a->value, ((Arg *)after->arg->pdata[q])->value) == 0;
			g_assert_true(found);
		}
	}
}

static void test_removing_a_disk_moves_no_other(void)
{
	g_autoptr(GPtrArray) cases = guest_cases();
	const GuestCase *c = guest_case(cases, "linux-many-disks");
	g_autoptr(Argv) before = argv_of_case(c);

	for (guint i = 0; i < c->vm->disk->len; i++) {
		g_autoptr(Vm) vm = vm_copy(c->vm);
		g_autoptr(Argv) after = NULL;

		g_ptr_array_remove_index(vm->disk, i);
		after = argv_of_vm(vm, c->host);
		assert_no_device_moved(before, after, "a removal");
	}
}

static void test_no_two_devices_share_an_address(void)
{
	g_autoptr(GPtrArray) cases = guest_cases();

	for (guint i = 0; i < cases->len; i++) {
		const GuestCase *c = cases->pdata[i];
		g_autoptr(Argv) argv = argv_of_case(c);
		g_autoptr(GHashTable) all = addresses(argv);
		g_autoptr(GHashTable) taken = g_hash_table_new(g_str_hash, g_str_equal);
		GHashTableIter it;
		gpointer id, at;

		g_hash_table_iter_init(&it, all);
		while (g_hash_table_iter_next(&it, &id, &at))
			if (strstr(at, "addr=") != NULL || strstr(at, "scsi-id=") != NULL)
				g_assert_true(g_hash_table_add(taken, at));
	}
}

/* Every slot of disks and nics against every fixed place. */
static void test_the_layout_has_no_double_place(void)
{
	bool taken[2][32] = { [0] = { [0x00] = true, [0x01] = true, [0x1f] = true }, [1] = { [0] = true } };
	static const unsigned fixed[] = { ADDRESS_VIDEO, ADDRESS_VIRTIO_SERIAL, ADDRESS_BALLOON,
					  ADDRESS_RNG,   ADDRESS_SCSI,          ADDRESS_SATA,
					  ADDRESS_USB,   ADDRESS_SEED,          ADDRESS_BRIDGE };

	for (size_t i = 0; i < G_N_ELEMENTS(fixed); i++) {
		g_assert_false(taken[0][fixed[i]]);
		taken[0][fixed[i]] = true;
	}
	for (unsigned s = 0; s < VM_NICS_MAX + VM_DISKS_MAX; s++) {
		struct pci_address at =
		    s < VM_NICS_MAX ? address_of_nic(s) : address_of_disk(s - VM_NICS_MAX);

		g_assert_cmpuint(at.bus, <, 2);
		g_assert_cmpuint(at.slot, <, 32);
		g_assert_false(taken[at.bus][at.slot]);
		taken[at.bus][at.slot] = true;
	}
}

/* Linux names disks in the order of addresses, bus 0 first: the first disk is vda whatever else there is. */
static void test_the_first_disk_comes_before_all_others(void)
{
	struct pci_address last = address_of_disk(0);

	for (unsigned slot = 1; slot < VM_DISKS_MAX; slot++) {
		struct pci_address at = address_of_disk(slot);

		g_assert_cmpuint(at.bus * 32 + at.slot, >, last.bus * 32 + last.slot);
		last = at;
	}
	g_assert_cmpuint(ADDRESS_SEED, >, address_of_disk(0).slot);
}

static void test_descriptors_are_listed_once_and_in_order(void)
{
	g_autoptr(GPtrArray) cases = guest_cases();
	g_autoptr(Argv) bridge = argv_of_case(guest_case(cases, "linux-bridge"));
	g_autoptr(Argv) every = argv_of_case(guest_case(cases, "linux-every-device"));
	g_auto(GStrv) fds = argv_fds(bridge), fds2 = argv_fds(every);
	g_autofree char *list = g_strjoinv(" ", fds), *list2 = g_strjoinv(" ", fds2);

	g_assert_cmpstr(list, ==,
			"qmp qmp2 console agent tap-net0-0 tap-net0-1 tap-net0-2 tap-net0-3 "
			"vhost-net0-0 vhost-net0-1 vhost-net0-2 vhost-net0-3 tap-lan-0");
	g_assert_cmpstr(list2, ==, "qmp qmp2 console agent serial parallel");
}

static void test_words_begin_with_qemu(void)
{
	g_autoptr(GPtrArray) cases = guest_cases();
	g_autoptr(Argv) argv = argv_of_case(guest_case(cases, "linux"));
	g_auto(GStrv) words = argv_words(argv);

	g_assert_cmpstr(words[0], ==, "/usr/bin/qemu-system-x86_64");
	g_assert_cmpstr(words[1], ==, "-name");
	g_assert_true(g_strv_contains((const char *const *)words, "-S"));
	g_assert_true(g_strv_contains((const char *const *)words, "-nodefaults"));
	g_assert_false(g_strv_contains((const char *const *)words, "-no-shutdown"));
}

static void test_text_that_looks_like_a_descriptor_is_refused(void)
{
	static const char *const vms[] = {
		"{\"name\":\"a\",\"settings\":{\"boot.kernel\":\"/a@fd:qmp@\"}}",
		"{\"name\":\"a\",\"settings\":{\"boot.kernel\":\"/a\",\"boot.cmdline\":\"@fd:1@\"}}",
		"{\"name\":\"a\",\"settings\":{\"platform.cdrom\":\"/@fd:x@\"}}",
		"{\"name\":\"a\",\"disks\":[{\"path\":\"/@fd:x@\"}]}",
	};
	g_autoptr(HostFacts) host = host_of_name("kvm");

	for (size_t i = 0; i < G_N_ELEMENTS(vms); i++) {
		g_autoptr(Vm) vm = vm_of_text(vms[i]);
		g_autoptr(GPtrArray) paths = disk_paths(vm, host);
		g_autoptr(Profile) p = profile_of(vm, host, NULL, NULL, NULL);
		g_autoptr(GError) err = NULL;

		vm->id = g_strdup("11111111-2222-4333-8444-555555555555");
		g_assert_null(argv_of(p, vm, host, (const char *const *)paths->pdata, &err));
		g_assert_error(err, ERR, ERR_INVALID);
		g_assert_nonnull(err_advice(err));
	}
}

static void test_what_sata_has_not_is_refused(void)
{
	static const char *const vms[] = {
		"{\"name\":\"a\",\"disks\":[{\"path\":\"/a\",\"bus\":\"sata\",\"slot\":4}]}",
		"{\"name\":\"a\",\"disks\":[{\"path\":\"/a\",\"bus\":\"sata\",\"readonly\":true}]}",
		"{\"name\":\"a\",\"properties\":{\"hw_disk_bus\":\"ide\"},"
		"\"disks\":[{\"path\":\"/a\",\"readonly\":true}]}",
	};
	g_autoptr(HostFacts) host = host_of_name("kvm");
	const char *const paths[] = { "/a", NULL };

	for (size_t i = 0; i < G_N_ELEMENTS(vms); i++) {
		g_autoptr(Vm) vm = vm_of_text(vms[i]);
		g_autoptr(Profile) p = profile_of(vm, host, NULL, NULL, NULL);
		g_autoptr(GError) err = NULL;

		vm->id = g_strdup("11111111-2222-4333-8444-555555555555");
		g_assert_null(argv_of(p, vm, host, paths, &err));
		g_assert_error(err, ERR, ERR_UNSUPPORTED);
		g_assert_nonnull(err_advice(err));
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/argv/golden", test_command_lines_are_as_written_down);
	g_test_add_func("/argv/causes", test_every_part_of_every_argument_has_a_cause);
	g_test_add_func("/argv/round-trip", test_a_command_line_survives_the_store);
	g_test_add_func("/argv/damaged", test_a_damaged_record_is_refused);
	g_test_add_func("/argv/settings-move-nothing", test_no_setting_moves_a_device);
	g_test_add_func("/argv/additions-move-nothing", test_a_new_disk_or_nic_moves_nothing);
	g_test_add_func("/argv/removals-move-nothing", test_removing_a_disk_moves_no_other);
	g_test_add_func("/argv/no-double-address", test_no_two_devices_share_an_address);
	g_test_add_func("/argv/layout", test_the_layout_has_no_double_place);
	g_test_add_func("/argv/first-disk", test_the_first_disk_comes_before_all_others);
	g_test_add_func("/argv/fds", test_descriptors_are_listed_once_and_in_order);
	g_test_add_func("/argv/words", test_words_begin_with_qemu);
	g_test_add_func("/argv/no-false-descriptors", test_text_that_looks_like_a_descriptor_is_refused);
	g_test_add_func("/argv/sata", test_what_sata_has_not_is_refused);
	return g_test_run();
}

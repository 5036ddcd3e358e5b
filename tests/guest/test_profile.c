/* SPDX-License-Identifier: Apache-2.0 */
#include "core/guest/profile.h"
#include "core/host/memory.h"
#include "guest_cases.h"

#include <string.h>

#define GIB (UINT64_C(1) << 30)

/* A vm of one line: properties and settings as members of JSON objects. */
static Vm *vm_with(const char *properties, const char *settings)
{
	g_autofree char *text =
	    g_strdup_printf("{\"name\":\"a\",\"properties\":{%s},\"settings\":{%s}}", properties, settings);

	return vm_of_text(text);
}

static Profile *profile_with(const char *host, const char *properties, const char *settings)
{
	g_autoptr(HostFacts) h = host_of_name(host);
	g_autoptr(Vm) vm = vm_with(properties, settings);
	g_autoptr(GError) err = NULL;
	Profile *p = profile_of(vm, h, NULL, NULL, &err);

	g_assert_no_error(err);
	return p;
}

typedef struct Row {
	const char *properties, *settings;
	ProfileKey key;
	const char *value;
	CauseSource source;
	const char *cause_key, *cause_value;
} Row;

#define WINDOWS "\"os_type\":\"windows\""
#define LINUX "\"os_type\":\"linux\""

// clang-format off
static const Row rows[] = {
	/* what os_type decides */
	{ WINDOWS, "", PROFILE_OS, "windows", CAUSE_IMAGE, "os_type", "windows" },
	{ "\"os_type\":\"Windows\"", "", PROFILE_OS, "windows", CAUSE_IMAGE, "os_type", "Windows" },
	{ WINDOWS, "", PROFILE_CLOCK, "localtime", CAUSE_IMAGE, "os_type", "windows" },
	{ WINDOWS, "", PROFILE_RTC_TICKS, "slew", CAUSE_IMAGE, "os_type", "windows" },
	{ WINDOWS, "", PROFILE_PIT_TICKS, "delay", CAUSE_IMAGE, "os_type", "windows" },
	{ WINDOWS, "", PROFILE_HYPERV, "true", CAUSE_IMAGE, "os_type", "windows" },
	{ WINDOWS, "", PROFILE_VIDEO, "std", CAUSE_IMAGE, "os_type", "windows" },
	{ WINDOWS, "", PROFILE_HPET, "false", CAUSE_DEFAULT, "platform.hpet", "false" },
	{ LINUX, "", PROFILE_CLOCK, "utc", CAUSE_IMAGE, "os_type", "linux" },
	{ LINUX, "", PROFILE_RTC_TICKS, "discard", CAUSE_IMAGE, "os_type", "linux" },
	{ LINUX, "", PROFILE_PIT_TICKS, "auto", CAUSE_DEFAULT, "pit_lost_ticks", "auto" },
	{ LINUX, "", PROFILE_HYPERV, "false", CAUSE_IMAGE, "os_type", "linux" },
	{ LINUX, "", PROFILE_VIDEO, "none", CAUSE_IMAGE, "os_type", "linux" },
	{ "", "", PROFILE_OS, "other", CAUSE_DEFAULT, "os_type", "other" },
	{ "", "", PROFILE_VIDEO, "std", CAUSE_DEFAULT, "os_type", "other" },
	{ "", "", PROFILE_CLOCK, "utc", CAUSE_DEFAULT, "os_type", "other" },
	{ "", "", PROFILE_HYPERV, "false", CAUSE_DEFAULT, "os_type", "other" },
	{ "\"os_type\":\"plan9\"", "", PROFILE_OS, "other", CAUSE_IMAGE, "os_type", "plan9" },
	/* images that only name their distribution */
	{ "\"os_distro\":\"Windows\"", "", PROFILE_OS, "windows", CAUSE_IMAGE, "os_distro", "Windows" },
	{ "\"os_distro\":\"win2k19\"", "", PROFILE_OS, "windows", CAUSE_IMAGE, "os_distro", "win2k19" },
	{ "\"os_distro\":\"Debian\"", "", PROFILE_OS, "linux", CAUSE_IMAGE, "os_distro", "Debian" },
	{ "\"os_distro\":\"freebsd\"", "", PROFILE_OS, "other", CAUSE_IMAGE, "os_distro", "freebsd" },
	{ "\"os_distro\":\"windows\"," LINUX, "", PROFILE_OS, "linux", CAUSE_IMAGE, "os_type", "linux" },
	{ "", "\"boot.kernel\":\"/k\"", PROFILE_OS, "linux", CAUSE_VM, "boot.kernel", "/k" },
	/* a setting goes before a property, a property before the default, and auto is no setting */
	{ WINDOWS, "\"clock\":\"utc\"", PROFILE_CLOCK, "utc", CAUSE_VM, "clock", "utc" },
	{ WINDOWS, "\"clock\":\"auto\"", PROFILE_CLOCK, "localtime", CAUSE_IMAGE, "os_type", "windows" },
	{ WINDOWS, "\"hyperv\":\"off\"", PROFILE_HYPERV, "false", CAUSE_VM, "hyperv", "off" },
	{ LINUX, "\"hyperv\":\"on\"", PROFILE_HYPERV, "true", CAUSE_VM, "hyperv", "on" },
	{ "\"hw_time_hpet\":\"true\"", "", PROFILE_HPET, "true", CAUSE_IMAGE, "hw_time_hpet", "true" },
	{ "\"hw_time_hpet\":true", "", PROFILE_HPET, "true", CAUSE_IMAGE, "hw_time_hpet", "true" },
	{ "\"hw_time_hpet\":\"true\"", "\"platform.hpet\":false", PROFILE_HPET, "false", CAUSE_VM, "platform.hpet", "false" },
	{ LINUX ",\"hw_video_model\":\"vga\"", "", PROFILE_VIDEO, "std", CAUSE_IMAGE, "hw_video_model", "vga" },
	{ LINUX ",\"hw_video_model\":\"vga\"", "\"platform.video\":\"none\"", PROFILE_VIDEO, "none", CAUSE_VM, "platform.video", "none" },
	{ "\"hw_disk_bus\":\"scsi\"", "", PROFILE_DISK_BUS, "virtio-scsi", CAUSE_IMAGE, "hw_disk_bus", "scsi" },
	{ "\"hw_disk_bus\":\"ide\"", "", PROFILE_DISK_BUS, "sata", CAUSE_IMAGE, "hw_disk_bus", "ide" },
	{ "\"hw_vif_model\":\"e1000\"", "", PROFILE_NIC_MODEL, "e1000e", CAUSE_IMAGE, "hw_vif_model", "e1000" },
	{ "\"hw_qemu_guest_agent\":\"false\"", "", PROFILE_AGENT, "false", CAUSE_IMAGE, "hw_qemu_guest_agent", "false" },
	{ "\"hw_serial_port_count\":\"1\"", "", PROFILE_SERIAL, "pty", CAUSE_IMAGE, "hw_serial_port_count", "1" },
	{ "\"hw_serial_port_count\":0", "", PROFILE_SERIAL, "none", CAUSE_IMAGE, "hw_serial_port_count", "0" },
	{ "\"hw_pointer_model\":\"usbtablet\"", "", PROFILE_USB, "true", CAUSE_IMAGE, "hw_pointer_model", "usbtablet" },
	{ "", "\"platform.usb_tablet\":true,\"platform.usb\":false", PROFILE_USB, "true", CAUSE_VM, "platform.usb_tablet", "true" },
	{ "", "\"platform.usb\":true", PROFILE_USB, "true", CAUSE_VM, "platform.usb", "true" },
	{ "", "\"platform.usb\":true", PROFILE_TABLET, "false", CAUSE_DEFAULT, "platform.usb_tablet", "false" },
	{ "\"os_command_line\":\"quiet\"", "\"boot.kernel\":\"/k\"", PROFILE_CMDLINE, "quiet", CAUSE_IMAGE, "os_command_line", "quiet" },
	/* machine */
	{ "", "", PROFILE_MACHINE, "pc-q35-7.2", CAUSE_DEFAULT, "machine", "q35" },
	{ "", "\"machine\":\"auto\"", PROFILE_MACHINE, "pc-q35-7.2", CAUSE_DEFAULT, "machine", "q35" },
	{ "", "\"machine\":\"pc\"", PROFILE_MACHINE, "pc-i440fx-7.2", CAUSE_VM, "machine", "pc" },
	{ "", "\"machine\":\"pc-i440fx-6.2\"", PROFILE_MACHINE, "pc-i440fx-6.2", CAUSE_VM, "machine", "pc-i440fx-6.2" },
	{ "\"hw_machine_type\":\"pc\"", "", PROFILE_MACHINE, "pc-i440fx-7.2", CAUSE_IMAGE, "hw_machine_type", "pc" },
	{ "\"hw_machine_type\":\"pc\"", "\"machine\":\"q35\"", PROFILE_MACHINE, "pc-q35-7.2", CAUSE_VM, "machine", "q35" },
	{ "\"hw_machine_type\":\"virt\"", "", PROFILE_MACHINE, "pc-q35-7.2", CAUSE_DEFAULT, "machine", "q35" },
	/* accelerator and CPU */
	{ "", "", PROFILE_ACCEL, "kvm", CAUSE_HOST, "accelerators.kvm", "works" },
	{ "", "", PROFILE_CPU, "host", CAUSE_HOST, "accelerators.kvm", "works" },
	{ "", "\"accel\":\"tcg\"", PROFILE_ACCEL, "tcg", CAUSE_VM, "accel", "tcg" },
	{ "", "\"accel\":\"tcg\"", PROFILE_CPU, "max", CAUSE_VM, "accel", "tcg" },
	{ "", "\"cpu.model\":\"EPYC\"", PROFILE_CPU, "EPYC", CAUSE_VM, "cpu.model", "EPYC" },
	{ "\"hw_pmu\":\"false\"", "", PROFILE_PMU, "false", CAUSE_IMAGE, "hw_pmu", "false" },
	/* numbers */
	{ "", "", PROFILE_VCPUS, "1", CAUSE_DEFAULT, "vcpus", "1" },
	{ "", "\"vcpus\":4", PROFILE_VCPUS, "4", CAUSE_VM, "vcpus", "4" },
	{ "", "\"memory\":1073741824", PROFILE_MEMORY, "1073741824", CAUSE_VM, "memory.start", "1073741824" },
	{ "", "", PROFILE_MEMORY, "536870912", CAUSE_DEFAULT, "memory.start", "536870912" },
	{ "", "\"vcpus\":4", PROFILE_TOPOLOGY, "sockets=1,cores=4,threads=1", CAUSE_DEFAULT, "topology", "one socket" },
	{ "\"hw_cpu_sockets\":\"2\"", "\"vcpus\":4", PROFILE_TOPOLOGY, "sockets=2,cores=2,threads=1", CAUSE_IMAGE, "hw_cpu_sockets:cores:threads", "2:0:0" },
	{ "\"hw_cpu_cores\":2", "\"vcpus\":8", PROFILE_TOPOLOGY, "sockets=4,cores=2,threads=1", CAUSE_IMAGE, "hw_cpu_sockets:cores:threads", "0:2:0" },
	{ "\"hw_cpu_threads\":2", "\"vcpus\":8", PROFILE_TOPOLOGY, "sockets=1,cores=4,threads=2", CAUSE_IMAGE, "hw_cpu_sockets:cores:threads", "0:0:2" },
	{ "\"hw_cpu_sockets\":\"3\"", "\"vcpus\":4", PROFILE_TOPOLOGY, "sockets=1,cores=4,threads=1", CAUSE_DEFAULT, "topology", "one socket" },
	{ "", "\"vcpus\":4", PROFILE_NIC_QUEUES, "4", CAUSE_VM, "vcpus", "4" },
	{ "", "\"vcpus\":200", PROFILE_NIC_QUEUES, "16", CAUSE_VM, "vcpus", "200" },
	{ "\"hw_vif_multiqueue_enabled\":\"false\"", "\"vcpus\":4", PROFILE_NIC_QUEUES, "1", CAUSE_IMAGE, "hw_vif_multiqueue_enabled", "false" },
	/* gaps between memory and devices */
	{ "", "", PROFILE_LOW_GAP, "auto", CAUSE_DEFAULT, "memory.low_mmio_gap", "auto" },
	{ "", "\"memory.start\":4294967296,\"memory.low_mmio_gap\":3221225472", PROFILE_LOW_GAP, "3221225472", CAUSE_VM, "memory.low_mmio_gap", "3221225472" },
	{ "", "\"memory.high_mmio_gap\":1073741824", PROFILE_HIGH_GAP, "1073741824", CAUSE_VM, "memory.high_mmio_gap", "1073741824" },
	/* firmware */
	{ "", "", PROFILE_FIRMWARE, "bios", CAUSE_DEFAULT, "firmware", "bios" },
	{ "\"hw_firmware_type\":\"uefi\"", "", PROFILE_FIRMWARE, "uefi", CAUSE_IMAGE, "hw_firmware_type", "uefi" },
	{ "\"hw_firmware_type\":\"uefi\"", "\"firmware\":\"bios\"", PROFILE_FIRMWARE, "bios", CAUSE_VM, "firmware", "bios" },
	{ "\"os_secure_boot\":\"required\"", "", PROFILE_FIRMWARE, "uefi", CAUSE_IMAGE, "os_secure_boot", "required" },
	{ "\"os_secure_boot\":\"required\"", "", PROFILE_SECURE_BOOT, "on", CAUSE_IMAGE, "os_secure_boot", "required" },
	{ "\"os_secure_boot\":\"required\"", "\"secure_boot\":\"off\"", PROFILE_SECURE_BOOT, "off", CAUSE_VM, "secure_boot", "off" },
	{ "\"os_secure_boot\":\"optional\"", "", PROFILE_SECURE_BOOT, "off", CAUSE_IMAGE, "os_secure_boot", "optional" },
	{ "\"os_secure_boot\":\"optional\",\"hw_firmware_type\":\"uefi\"", "", PROFILE_SECURE_BOOT, "on", CAUSE_IMAGE, "os_secure_boot", "optional" },
	{ "\"os_secure_boot\":\"optional\",\"hw_firmware_type\":\"uefi\"", "\"machine\":\"pc\"", PROFILE_SECURE_BOOT, "off", CAUSE_IMAGE, "os_secure_boot", "optional" },
	{ "\"hw_firmware_type\":\"bios\"", "\"secure_boot\":\"on\"", PROFILE_FIRMWARE, "uefi", CAUSE_VM, "secure_boot", "on" },
	{ "\"hw_tpm_model\":\"tpm-tis\"", "", PROFILE_TPM, "tpm-tis", CAUSE_IMAGE, "hw_tpm_model", "tpm-tis" },
	{ "\"hw_tpm_version\":\"2.0\"", "", PROFILE_TPM, "tpm-crb", CAUSE_IMAGE, "hw_tpm_version", "2.0" },
	{ "\"hw_tpm_model\":\"tpm-tis\"", "\"tpm\":false", PROFILE_TPM, "none", CAUSE_VM, "tpm", "false" },
	{ "", "\"tpm\":true", PROFILE_TPM, "tpm-crb", CAUSE_VM, "tpm", "true" },
	/* the host */
	{ "", "", PROFILE_DISK_CACHE, "none", CAUSE_HOST, "direct_io", "true" },
	{ "", "\"disk.cache\":\"writeback\"", PROFILE_DISK_CACHE, "writeback", CAUSE_VM, "disk.cache", "writeback" },
	{ "", "", PROFILE_NIC_VHOST, "true", CAUSE_HOST, "vhost_net", "true" },
};
// clang-format on

static void test_each_decision_names_what_made_it(void)
{
	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		const Row *r = &rows[i];
		g_autoptr(Profile) p = profile_with("kvm", r->properties, r->settings);
		const Cause *c = profile_cause(p, r->key);

		g_test_message("{%s} {%s} %s", r->properties, r->settings, profile_key_name(r->key));
		g_assert_cmpstr(profile_text(p, r->key), ==, r->value);
		g_assert_cmpstr(cause_source_name(c->source), ==, cause_source_name(r->source));
		g_assert_cmpstr(c->key, ==, r->cause_key);
		g_assert_cmpstr(c->value, ==, r->cause_value);
	}
}

static void test_devices_are_lean_by_default(void)
{
	static const ProfileKey off[] = { PROFILE_USB, PROFILE_TABLET, PROFILE_FLOPPY, PROFILE_HPET };
	static const ProfileKey none[] = { PROFILE_SERIAL, PROFILE_PARALLEL, PROFILE_TPM, PROFILE_SEED };
	static const char *const properties[] = { "", LINUX, WINDOWS };

	for (size_t i = 0; i < G_N_ELEMENTS(properties); i++) {
		g_autoptr(Profile) p = profile_with("kvm", properties[i], "");

		for (size_t k = 0; k < G_N_ELEMENTS(off); k++)
			g_assert_cmpstr(profile_text(p, off[k]), ==, "false");
		for (size_t k = 0; k < G_N_ELEMENTS(none); k++)
			g_assert_cmpstr(profile_text(p, none[k]), ==, "none");
		g_assert_cmpstr(profile_text(p, PROFILE_CDROM), ==, "");
	}
}

typedef struct Refusal {
	const char *host, *properties, *settings;
	ErrCode code;
	const char *says;
} Refusal;

// clang-format off
static const Refusal refusals[] = {
	{ "tcg", "", "\"accel\":\"kvm\"", ERR_UNSUPPORTED, "only emulates" },
	{ "tcg", "", "\"firmware\":\"uefi\"", ERR_UNSUPPORTED, "no UEFI firmware" },
	{ "tcg", "\"hw_firmware_type\":\"uefi\"", "", ERR_UNSUPPORTED, "no UEFI firmware" },
	{ "tcg", "\"os_secure_boot\":\"required\"", "", ERR_UNSUPPORTED, "no firmware with Secure Boot" },
	{ "tcg", "", "\"tpm\":true", ERR_UNSUPPORTED, "no swtpm" },
	{ "tcg", "\"hw_tpm_model\":\"tpm-crb\"", "", ERR_UNSUPPORTED, "no swtpm" },
	{ "tcg", "", "\"cpu.model\":\"host\"", ERR_UNSUPPORTED, "needs kvm" },
	{ "tcg", "", "\"machine\":\"pc-q35-9.9\"", ERR_UNSUPPORTED, "pc-q35-9.9" },
	{ "kvm", "", "\"machine\":\"microvm\"", ERR_UNSUPPORTED, "microvm" },
	{ "kvm", "", "\"machine\":\"pc,accel=kvm\"", ERR_UNSUPPORTED, "pc,accel" },
	{ "kvm", "", "\"secure_boot\":\"on\",\"machine\":\"pc\"", ERR_UNSUPPORTED, "no q35" },
	{ "kvm", "", "\"secure_boot\":\"on\",\"firmware\":\"bios\"", ERR_UNSUPPORTED, "bios" },
	{ "kvm", "\"os_secure_boot\":\"required\"", "\"firmware\":\"bios\"", ERR_UNSUPPORTED, "bios" },
	{ "kvm", "\"architecture\":\"aarch64\"", "", ERR_UNSUPPORTED, "aarch64" },
	{ "kvm", "", "\"memory.start\":4294967296,\"memory.low_mmio_gap\":1073741824", ERR_UNSUPPORTED, "memory.low_mmio_gap" },
	{ "kvm", "", "\"memory.low_mmio_gap\":2147483648", ERR_UNSUPPORTED, "with 512MiB of memory" },
	{ "kvm", "", "\"cpu.model\":\"EPYC\",\"memory.high_mmio_gap\":1099511627776", ERR_UNSUPPORTED, "memory.high_mmio_gap" },
	{ "kvm", "", "\"cpu.model\":\"max -device x\"", ERR_INVALID, "cpu.model" },
	{ "kvm", "", "\"cpu.model\":\"help\"", ERR_INVALID, "cpu.model" },
	{ "kvm", "", "\"cpu.model\":\"\"", ERR_INVALID, "cpu.model" },
	{ "kvm", "", "\"cpu.model\":\"max,,x\"", ERR_INVALID, "cpu.model" },
};
// clang-format on

static void test_what_the_host_cannot_is_refused_with_advice(void)
{
	for (size_t i = 0; i < G_N_ELEMENTS(refusals); i++) {
		const Refusal *r = &refusals[i];
		g_autoptr(HostFacts) h = host_of_name(r->host);
		g_autoptr(Vm) vm = vm_with(r->properties, r->settings);
		g_autoptr(GError) err = NULL;

		g_test_message("{%s} {%s}", r->properties, r->settings);
		g_assert_null(profile_of(vm, h, NULL, NULL, &err));
		g_assert_error(err, ERR, (gint)r->code);
		g_assert_nonnull(strstr(err->message, r->says));
		g_assert_nonnull(err_advice(err));
	}
}

static bool could_not(const Profile *p, const char *what)
{
	for (guint i = 0; i < p->could_not->len; i++)
		if (g_str_equal(((CouldNot *)p->could_not->pdata[i])->what, what))
			return true;
	return false;
}

static void test_windows_under_tcg_says_what_it_goes_without(void)
{
	g_autoptr(Profile) p = profile_with("tcg", WINDOWS, "");
	_cleanup_json_ Json *j = profile_could_not_to_json(p);

	g_assert_cmpstr(profile_text(p, PROFILE_CLOCK), ==, "localtime");
	g_assert_cmpstr(profile_text(p, PROFILE_RTC_TICKS), ==, "slew");
	g_assert_false(profile_has_hyperv(p));
	g_assert_cmpstr(profile_text(p, PROFILE_PIT_TICKS), ==, "auto");
#define X(name, value, element) g_assert_true(could_not(p, name));
	HYPERV_TABLE(X)
#undef X
	g_assert_true(could_not(p, "kvm-pit.lost_tick_policy=delay"));
	g_assert_cmpuint(json_array_size(j), ==, p->could_not->len);
	for (size_t i = 0; i < json_array_size(j); i++) {
		const Json *row = json_array_get(j, i);

		g_assert_nonnull(strstr(json_str(row, "reason"), "KVM"));
		g_assert_cmpstr(json_str(json_obj(row, "cause"), "key"), ==, "os_type");
	}
}

static void test_nothing_is_missed_where_nothing_is_missing(void)
{
	g_autoptr(Profile) windows = profile_with("kvm", WINDOWS, ""),
			   linux_tcg = profile_with("tcg", LINUX, "");

	g_assert_cmpuint(windows->could_not->len, ==, 0);
	g_assert_cmpuint(linux_tcg->could_not->len, ==, 0);
	g_assert_true(profile_has_hyperv(windows));
}

static void test_wishes_of_images_that_are_not_served_are_listed(void)
{
	g_autoptr(Profile) p = profile_with(
	    "kvm",
	    LINUX
	    ",\"hw_sound_model\":\"ich6\",\"hw_video_model\":\"qxl\",\"hw_numa_nodes\":2,"
	    "\"hw_scsi_model\":\"lsilogic\",\"hw_machine_type\":\"virt\",\"hw_watchdog_action\":\"disabled\","
	    "\"hw_cpu_policy\":\"shared\",\"hw_mem_encryption\":false,\"hw_cpu_sockets\":3",
	    "\"vcpus\":4");

	g_assert_true(could_not(p, "hw_sound_model=ich6"));
	g_assert_true(could_not(p, "hw_video_model=qxl"));
	g_assert_true(could_not(p, "hw_numa_nodes=2"));
	g_assert_true(could_not(p, "hw_scsi_model"));
	g_assert_true(could_not(p, "hw_machine_type=virt"));
	g_assert_true(could_not(p, "hw_cpu_sockets, hw_cpu_cores, hw_cpu_threads"));
	g_assert_cmpuint(p->could_not->len, ==, 6);
	/* and the guest gets what it would get without */
	g_assert_cmpstr(profile_text(p, PROFILE_VIDEO), ==, "none");
}

static void test_a_machine_type_stays_while_its_family_does(void)
{
	static const struct {
		const char *setting, *kept, *machine;
	} row[] = {
		{ "", "pc-q35-7.1", "pc-q35-7.1" },
		{ "\"machine\":\"q35\"", "pc-q35-7.1", "pc-q35-7.1" },
		{ "\"machine\":\"pc\"", "pc-q35-7.1", "pc-i440fx-7.2" },
		{ "\"machine\":\"pc-q35-7.2\"", "pc-q35-7.1", "pc-q35-7.2" },
		{ "\"machine\":\"pc\"", "pc-i440fx-6.2", "pc-i440fx-6.2" },
	};
	g_autoptr(HostFacts) h = host_of_name("kvm"), old = host_of_name("tcg");
	g_autoptr(GError) err = NULL;
	g_autoptr(Vm) plain = vm_with("", "");

	for (size_t i = 0; i < G_N_ELEMENTS(row); i++) {
		g_autoptr(Vm) vm = vm_with("", row[i].setting);
		g_autoptr(Profile) p = profile_of(vm, h, NULL, row[i].kept, NULL);

		g_assert_cmpstr(profile_text(p, PROFILE_MACHINE), ==, row[i].machine);
	}
	/* rather no start than another machine behind the owner's back */
	g_assert_null(profile_of(plain, old, NULL, "pc-q35-7.1", &err));
	g_assert_error(err, ERR, ERR_UNSUPPORTED);
	g_assert_nonnull(strstr(err->message, "pc-q35-7.1"));
}

static void test_the_host_may_choose_the_accelerator(void)
{
	g_autoptr(HostFacts) h = host_of_name("kvm");
	g_autoptr(Vm) open = vm_with("", ""), set = vm_with("", "\"accel\":\"kvm\"");
	g_autoptr(Profile) p = NULL, q = NULL;
	g_autoptr(GError) err = NULL;

	g_free(h->accel_wanted);
	h->accel_wanted = g_strdup("tcg");
	p = profile_of(open, h, NULL, NULL, NULL);
	q = profile_of(set, h, NULL, NULL, NULL);
	g_assert_cmpstr(profile_text(p, PROFILE_ACCEL), ==, "tcg");
	g_assert_cmpstr(profile_cause(p, PROFILE_ACCEL)->key, ==, "accel");
	g_assert_cmpint(profile_cause(p, PROFILE_ACCEL)->source, ==, CAUSE_HOST);
	g_assert_cmpstr(profile_text(q, PROFILE_ACCEL), ==, "kvm");
	h->accel[ACCEL_KVM].works = h->accel[ACCEL_TCG].works = false;
	g_free(h->accel_wanted);
	h->accel_wanted = g_strdup("auto");
	g_assert_null(profile_of(open, h, NULL, NULL, &err));
	g_assert_error(err, ERR, ERR_UNSUPPORTED);
}

static void test_a_dev_kvm_that_only_emulates_is_named(void)
{
	g_autoptr(Profile) p = profile_with("tcg", LINUX, "");
	const Cause *c = profile_cause(p, PROFILE_ACCEL);

	g_assert_cmpstr(profile_text(p, PROFILE_ACCEL), ==, "tcg");
	g_assert_cmpstr(c->key, ==, "accelerators.kvm");
	g_assert_nonnull(strstr(c->note, "only emulates"));
}

static void test_disks_and_nics_may_say_themselves(void)
{
	g_autoptr(Vm) vm =
	    vm_of_text("{\"name\":\"a\",\"properties\":{\"hw_disk_bus\":\"scsi\",\"hw_vif_model\":"
		       "\"e1000e\"},\"settings\":{\"vcpus\":4},"
		       "\"disks\":[{\"name\":\"x\",\"path\":\"/x\"},"
		       "{\"name\":\"y\",\"path\":\"/dev/y\",\"bus\":\"virtio-blk\"}],"
		       "\"nics\":[{\"name\":\"a\",\"network\":\"bridge:br0\"},"
		       "{\"name\":\"b\",\"network\":\"bridge:br0\",\"model\":\"virtio-net\"},"
		       "{\"name\":\"c\",\"model\":\"virtio-net\"}]}");
	g_autoptr(HostFacts) h = host_of_name("kvm");
	g_autoptr(Profile) p = profile_of(vm, h, NULL, NULL, NULL);

	g_assert_cmpstr(profile_disk_bus(p, vm_disk_find(vm, "x")), ==, "virtio-scsi");
	g_assert_cmpstr(profile_disk_bus(p, vm_disk_find(vm, "y")), ==, "virtio-blk");
	g_assert_false(profile_disk_direct(p, vm_disk_find(vm, "x")));
	g_assert_true(profile_disk_direct(p, vm_disk_find(vm, "y")));
	g_assert_cmpstr(profile_nic_model(p, vm_nic_find(vm, "a")), ==, "e1000e");
	g_assert_cmpuint(profile_nic_queues(p, vm_nic_find(vm, "a")), ==, 1);
	g_assert_cmpuint(profile_nic_queues(p, vm_nic_find(vm, "b")), ==, 4);
	g_assert_cmpuint(profile_nic_queues(p, vm_nic_find(vm, "c")), ==, 1);
}

static void test_a_profile_prints_every_decision(void)
{
	g_autoptr(GPtrArray) cases = guest_cases();

	for (guint i = 0; i < cases->len; i++) {
		g_autoptr(Profile) p = profile_of_case(cases->pdata[i]);
		_cleanup_json_ Json *j = profile_to_json(p);

		g_assert_cmpuint(json_array_size(j), ==, _PROFILE_MAX);
		for (size_t k = 0; k < json_array_size(j); k++) {
			g_autoptr(Cause) c = cause_of_json(json_obj(json_array_get(j, k), "cause"), NULL);

			g_assert_nonnull(c);
		}
	}
}

static void test_facts_of_a_host_survive_the_record(void)
{
	static const char *const names[] = { "kvm", "tcg" };

	for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
		g_autoptr(HostFacts) h = host_of_name(names[i]), back = NULL;
		_cleanup_json_ Json *j = host_facts_to_json(h), *again = NULL;

		/* a record has more than the planner knows */
		json_put_str(j, "last_seen", "2026-01-01T00:00:00Z");
		back = host_facts_of_json(j, NULL);
		g_assert_nonnull(back);
		again = host_facts_to_json(back);
		json_object_del(j, "last_seen");
		g_assert_true(json_equal(j, again));
	}
}

static void test_a_host_without_what_planners_need_is_refused(void)
{
	static const char *const needed[] = { "name", "qemu", "folders" };

	for (size_t i = 0; i < G_N_ELEMENTS(needed); i++) {
		g_autoptr(HostFacts) h = host_of_name("kvm");
		_cleanup_json_ Json *j = host_facts_to_json(h);
		g_autoptr(GError) err = NULL;

		json_object_del(j, needed[i]);
		g_assert_null(host_facts_of_json(j, &err));
		g_assert_error(err, ERR, ERR_INVALID);
	}
	g_assert_null(host_facts_of_json(NULL, NULL));
}

/* Whatever it boots with and may grow to, a start is promised memory.start and the overhead. */
static void test_a_guest_that_may_grow_is_promised_what_it_starts_with(void)
{
	static const struct {
		const char *os, *method;
		uint64_t boots_with;
	} grown[] = { { "linux", "virtio-mem", GIB },
		      { "windows", "balloon", 4 * GIB },
		      { "bsd", "balloon", 4 * GIB } };
	g_autoptr(HostFacts) host = host_of_name("kvm");

	for (size_t i = 0; i < G_N_ELEMENTS(grown); i++) {
		g_autofree char *os = g_strdup_printf("\"os_type\":\"%s\"", grown[i].os);
		g_autoptr(Vm) vm = vm_with(os, "\"memory.start\":1073741824,\"memory.max\":4294967296");
		g_autoptr(Profile) p = profile_of(vm, host, NULL, NULL, NULL);

		g_assert_nonnull(p);
		g_assert_cmpstr(profile_text(p, PROFILE_METHOD), ==, grown[i].method);
		g_assert_cmpuint(profile_number(p, PROFILE_MEMORY), ==, grown[i].boots_with);
		g_assert_cmpuint(memory_claim_of(p), ==, GIB + memory_overhead_of(p));
		g_assert_cmpuint(profile_plug_region(p), ==, i == 0 ? 3 * GIB : 0);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/profile/causes", test_each_decision_names_what_made_it);
	g_test_add_func("/profile/lean", test_devices_are_lean_by_default);
	g_test_add_func("/profile/refused", test_what_the_host_cannot_is_refused_with_advice);
	g_test_add_func("/profile/windows-tcg", test_windows_under_tcg_says_what_it_goes_without);
	g_test_add_func("/profile/nothing-missing", test_nothing_is_missed_where_nothing_is_missing);
	g_test_add_func("/profile/unserved", test_wishes_of_images_that_are_not_served_are_listed);
	g_test_add_func("/profile/machine-kept", test_a_machine_type_stays_while_its_family_does);
	g_test_add_func("/profile/host-accel", test_the_host_may_choose_the_accelerator);
	g_test_add_func("/profile/emulating-kvm", test_a_dev_kvm_that_only_emulates_is_named);
	g_test_add_func("/profile/devices", test_disks_and_nics_may_say_themselves);
	g_test_add_func("/profile/may-grow", test_a_guest_that_may_grow_is_promised_what_it_starts_with);
	g_test_add_func("/profile/json", test_a_profile_prints_every_decision);
	g_test_add_func("/host-facts/round-trip", test_facts_of_a_host_survive_the_record);
	g_test_add_func("/host-facts/needed", test_a_host_without_what_planners_need_is_refused);
	return g_test_run();
}

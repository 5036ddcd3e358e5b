/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decisions that follow one rule: the vm's setting, else the image's
 * property, else what the operating system gets.
 */
#include "core/guest/profile-impl.h"

enum { LINUX, WINDOWS, OTHER, N_OS };

struct word {
	const char *property; /* as the image says it */
	const char *value;    /* as the profile does */
	const char *note;     /* where it is not quite the same; or NULL */
};

#define WORDS(...)                                                                                           \
	(const struct word[])                                                                                \
	{                                                                                                    \
		__VA_ARGS__                                                                                  \
		{                                                                                            \
			NULL, NULL, NULL                                                                     \
		}                                                                                            \
	}
#define BOOLEAN WORDS({ "true", "true", NULL }, { "false", "false", NULL }, )

struct rule {
	ProfileKey key;
	const char *setting;      /* NULL: none */
	const char *property;     /* NULL: none */
	const struct word *words; /* what the property may say; NULL: anything, taken as it is */
	const char *dflt[N_OS];   /* linux, windows, other */
	const char *note;         /* why the default is what it is */
};

#define ONE_PORT "One port is offered."
#define ALL(v)                                                                                               \
	{                                                                                                    \
		v, v, v                                                                                      \
	}

/* In the order in which explain lists them. */
// clang-format off
static const struct rule rules[] = {
	{ PROFILE_CLOCK, "clock", NULL, NULL, { "utc", "localtime", "utc" },
	  "Windows keeps local time in the real-time clock, everyone else UTC." },
	{ PROFILE_RTC_TICKS, NULL, NULL, NULL, { "discard", "slew", "discard" },
	  "Windows counts the ticks of the real-time clock: late ones are caught up." },
	{ PROFILE_HPET, "platform.hpet", "hw_time_hpet", BOOLEAN, ALL("false"),
	  "An emulated HPET wakes the host, and no guest needs it." },
	{ PROFILE_MERGE, "memory.merge", NULL, NULL, ALL("false"),
	  "Who shares a page can tell by its time that others have the same; and merging costs the host CPU." },
	{ PROFILE_KERNEL, "boot.kernel", NULL, NULL, ALL(""), NULL },
	{ PROFILE_INITRD, "boot.initrd", NULL, NULL, ALL(""), NULL },
	{ PROFILE_CMDLINE, "boot.cmdline", "os_command_line", NULL, ALL(""), NULL },
	{ PROFILE_PMU, NULL, "hw_pmu", BOOLEAN, ALL("auto"), NULL },
	{ PROFILE_VIDEO, "platform.video", "hw_video_model",
	  WORDS({ "none", "none", NULL }, { "virtio", "virtio", NULL }, { "vga", "std", NULL }, { "bochs", "std", NULL }, ),
	  { "none", "std", "std" },
	  "A Linux guest has its console on virtio; the cursor of a screen that nobody sees costs wake-ups." },
	{ PROFILE_VNC, "platform.vnc", NULL, NULL, ALL("false"),
	  "QEMU's VNC server looks at the screen every 3 s, also when nobody else does." },
	{ PROFILE_TABLET, "platform.usb_tablet", "hw_pointer_model", WORDS({ "usbtablet", "true", NULL }, ), ALL("false"),
	  "A USB tablet wakes the host for as long as the guest runs." },
	{ PROFILE_SERIAL, "platform.hvm_serial", "hw_serial_port_count",
	  WORDS({ "0", "none", NULL }, { "1", "pty", NULL }, { "2", "pty", ONE_PORT }, { "3", "pty", ONE_PORT },
		{ "4", "pty", ONE_PORT }, ), ALL("none"), "The console is on virtio." },
	{ PROFILE_PARALLEL, "platform.parallel", NULL, NULL, ALL("none"), NULL },
	{ PROFILE_FLOPPY, "platform.floppy", NULL, NULL, ALL("false"), NULL },
	{ PROFILE_CDROM, "platform.cdrom", NULL, NULL, ALL(""), "An empty drive is polled by guests." },
	{ PROFILE_CONSOLE, "platform.console", NULL, NULL, ALL("true"), NULL },
	{ PROFILE_AGENT, "agent", "hw_qemu_guest_agent", BOOLEAN, ALL("true"), NULL },
	{ PROFILE_BALLOON, "platform.balloon", NULL, NULL, ALL("true"),
	  "Gives back the memory that the guest reports as free." },
	{ PROFILE_RNG, "platform.rng", "hw_rng_model", WORDS({ "virtio", "true", NULL }, ), ALL("true"),
	  "Guests have no other source of randomness when they boot." },
	{ PROFILE_PVPANIC, "platform.pvpanic", NULL, NULL, ALL("true"), "Tells that the guest's kernel gave up." },
	{ PROFILE_DISK_BUS, NULL, "hw_disk_bus",
	  WORDS({ "virtio", "virtio-blk", NULL }, { "scsi", "virtio-scsi", NULL }, { "sata", "sata", NULL }, { "ide", "sata", "There is no IDE; SATA is the nearest." }, ),
	  ALL("virtio-blk"), NULL },
	{ PROFILE_DISK_ERRORS, "disk.error_policy", NULL, NULL, ALL("enospace"),
	  "A guest that is paused until there is room loses nothing; one that is told so breaks its file system." },
	{ PROFILE_NIC_MODEL, NULL, "hw_vif_model",
	  WORDS({ "virtio", "virtio-net", NULL }, { "e1000e", "e1000e", NULL }, { "e1000", "e1000e", "There is no e1000; e1000e is its successor." }, ), ALL("virtio-net"), NULL },
};

/* Wishes of images that this version doesn't fulfil, and the value that wishes for nothing. */
static const struct {
	const char *property, *nothing, *what;
} unserved[] = {
	{ "hw_sound_model", NULL, "a sound card" },
	{ "hw_watchdog_action", "disabled", "a watchdog" },
	{ "hw_viommu_model", "none", "an IOMMU for the guest" },
	{ "hw_numa_nodes", "1", "several NUMA nodes" },
	{ "hw_mem_page_size", "small", "a choice of page size" },
	{ "hw_mem_encryption", "false", "encrypted memory" },
	{ "hw_cpu_policy", "shared", "pinned vcpus" },
	{ "hw_cpu_thread_policy", "prefer", "a thread policy" },
	{ "hw_firmware_stateless", "false", "firmware without a memory" },
	{ "hw_boot_menu", "false", "a boot menu" },
	{ "hw_virtio_packed_ring", "false", "packed virtqueues" },
	{ "hw_video_ram", NULL, "a choice of video memory" },
	{ "hw_usb_model", NULL, "a choice of USB controller" },
	{ "img_hide_hypervisor_id", "false", "a hidden hypervisor" },
};
// clang-format on

static char *text_of_json(const Json *v)
{
	if (json_is_boolean(v))
		return g_strdup(json_is_true(v) ? "true" : "false");
	if (json_is_integer(v))
		return g_strdup_printf("%" JSON_INTEGER_FORMAT, json_integer_value(v));
	return g_strdup(json_string_value(v));
}

char *profile_setting_text(const ProfileMaker *m, const char *key)
{
	char *text = text_of_json(vm_setting(m->vm, key));

	if (g_strcmp0(text, "auto") == 0)
		g_clear_pointer(&text, g_free);
	return text;
}

char *profile_property_text(const ProfileMaker *m, const char *key)
{
	return text_of_json(json_object_get(m->vm->properties, key));
}

static bool find_word(const struct rule *r, const char *text, struct word *ret)
{
	*ret = (struct word){ .property = text, .value = text };
	if (r->words == NULL)
		return true;
	for (const struct word *w = r->words; w->property != NULL; w++)
		if (g_ascii_strcasecmp(w->property, text) == 0) {
			*ret = *w;
			return true;
		}
	return false;
}

static size_t os_of(const Profile *p)
{
	if (profile_is(p, PROFILE_OS, "linux"))
		return LINUX;
	return profile_is(p, PROFILE_OS, "windows") ? WINDOWS : OTHER;
}

/* Who is to be named for a default: the operating system where it makes a difference. */
static void take_default(ProfileMaker *m, const struct rule *r)
{
	const char *value = r->dflt[os_of(m->p)], *key = r->setting != NULL ? r->setting : r->property;
	bool same = true;

	for (size_t os = 1; os < N_OS; os++)
		same = same && g_str_equal(r->dflt[os], r->dflt[0]);
	if (!same)
		profile_decide_as(m->p, r->key, value, PROFILE_OS, r->note);
	else
		profile_decide(m->p, r->key, value, CAUSE_DEFAULT, key, value, r->note);
}

static bool take_property(ProfileMaker *m, const struct rule *r)
{
	g_autofree char *text = r->property != NULL ? profile_property_text(m, r->property) : NULL,
			*what = NULL;
	struct word w;

	if (text == NULL)
		return false;
	if (find_word(r, text, &w)) {
		profile_decide(m->p, r->key, w.value, CAUSE_IMAGE, r->property, text, w.note);
		return true;
	}
	what = g_strdup_printf("%s=%s", r->property, text);
	profile_could_not(m->p, what, cause_new(CAUSE_IMAGE, r->property, text, NULL),
			  "That is not offered; the guest gets what it would get without this property.");
	return false;
}

void profile_apply_rules(ProfileMaker *m)
{
	for (size_t i = 0; i < G_N_ELEMENTS(rules); i++) {
		const struct rule *r = &rules[i];
		g_autofree char *text = r->setting != NULL ? profile_setting_text(m, r->setting) : NULL;

		if (text != NULL)
			profile_decide(m->p, r->key, text, CAUSE_VM, r->setting, text, NULL);
		else if (!take_property(m, r))
			take_default(m, r);
	}
}

void profile_list_unserved(ProfileMaker *m)
{
	for (size_t i = 0; i < G_N_ELEMENTS(unserved); i++) {
		g_autofree char *text = profile_property_text(m, unserved[i].property), *what = NULL;

		if (text == NULL || g_strcmp0(text, unserved[i].nothing) == 0)
			continue;
		what = g_strdup_printf("%s=%s", unserved[i].property, text);
		profile_could_not(m->p, what, cause_new(CAUSE_IMAGE, unserved[i].property, text, NULL),
				  "This version does not offer %s.", unserved[i].what);
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "core/image/properties.h"
#include "base/str.h"
#include "base/time.h"

#include <inttypes.h>
#include <string.h>

/* Nova's list of disk buses, video models and the like is wider than what our profiles can build:
 * an image may name them all, and the profile says what it could not do. */
#define BUSES "virtio|scsi|sata|ide|usb|fdc|xen|uml|lxc"
#define ARCHITECTURES                                                                                        \
	"x86_64|i686|aarch64|armv6l|armv7l|armv7b|alpha|cris|ia64|lm32|m68k|microblaze|microblazeel|mips|"   \
	"mipsel|mips64|mips64el|openrisc|parisc|parisc64|ppc|ppcle|ppc64|ppc64le|ppcemb|riscv64|s390|s390x|" \
	"sh4|sh4eb|sparc|sparc64|unicore32|xtensa|xtensaeb"
#define FREQUENCIES "yearly|quarterly|monthly|weekly|daily|critical_bug|never"

#define RO (PROP_BASE | PROP_READONLY)
#define RO_NULL (PROP_BASE | PROP_READONLY | PROP_NULL)

// clang-format off
static const struct prop_def table[] = {
	/* base attributes, as Glance's image API v2 has them */
	{ "id", PROP_STRING, RO, NULL, 0, "identity; never changes, names the content for ever", "glance" },
	{ "name", PROP_STRING, PROP_BASE, NULL, 0, "what people call it; unique here", "glance" },
	{ "status", PROP_ENUM, RO, "queued|saving|active|deleting", 0, "only an active image can be used", "glance" },
	{ "visibility", PROP_ENUM, PROP_BASE, "public|private|shared|community", 0, "who may see it", "glance" },
	{ "protected", PROP_BOOL, PROP_BASE, NULL, 0, "can't be deleted while true", "glance" },
	{ "os_hidden", PROP_BOOL, PROP_BASE, NULL, 0, "left out of lists and of `latest`; still usable by id", "glance" },
	{ "owner", PROP_STRING, PROP_BASE | PROP_NULL, NULL, 0, "who imported it", "glance" },
	{ "disk_format", PROP_ENUM, RO_NULL, "qcow2|raw", 0, "the format in which it is stored here", "glance" },
	{ "container_format", PROP_ENUM, RO_NULL, "bare", 0, "no container around the disk", "glance" },
	{ "size", PROP_INT, RO_NULL, NULL, 0, "bytes of the stored file", "glance" },
	{ "virtual_size", PROP_INT, RO_NULL, NULL, 0, "bytes of the disk that a guest sees", "glance" },
	{ "checksum", PROP_STRING, RO_NULL, NULL, 0, "MD5 of the imported bytes, for old clients; proves nothing", "glance" },
	{ "os_hash_algo", PROP_ENUM, RO_NULL, "sha512", 0, "the algorithm of os_hash_value", "glance" },
	{ "os_hash_value", PROP_STRING, RO_NULL, NULL, 0, "hash of the imported bytes, as the publisher gives it", "glance" },
	{ "min_disk", PROP_INT, PROP_BASE, NULL, 1 << 20, "GiB that a vm's disk must have at least", "glance" },
	{ "min_ram", PROP_INT, PROP_BASE, NULL, 1 << 26, "MiB of memory that a vm must have at least", "glance" },
	{ "tags", PROP_LIST, PROP_BASE, NULL, 0, "short words to find it by", "glance" },
	{ "direct_url", PROP_STRING, RO_NULL, NULL, 0, "where the content is", "glance" },
	{ "created_at", PROP_DATE, RO, NULL, 0, "when the record was made", "glance" },
	{ "updated_at", PROP_DATE, RO, NULL, 0, "when the record last changed", "glance" },
	/* of ours: what the import found */
	{ "source_format", PROP_ENUM, RO_NULL, "raw|qcow2|vmdk|vhdx|vpc|vdi", 0, "the format that was imported", "plimsoll" },
	{ "source_size", PROP_INT, RO_NULL, NULL, 0, "bytes that were imported; what os_hash_value is of", "plimsoll" },
	{ "stored_hash_value", PROP_STRING, RO_NULL, NULL, 0, "SHA-512 of the stored file, for `plim image verify`", "plimsoll" },
	{ "stored_on", PROP_STRING, RO_NULL, NULL, 0, "id of the host that has the stored file", "plimsoll" },

	/* what is in it */
	{ "architecture", PROP_ENUM, 0, ARCHITECTURES, 0, "the processor it runs on", "glance, libosinfo" },
	{ "hypervisor_type", PROP_ENUM, 0, "qemu|kvm|xen|hyperv|vmware|lxc|uml|ironic", 0, "the hypervisor it was made for; qemu means KVM too", "glance" },
	{ "vm_mode", PROP_ENUM, 0, "hvm|xen|uml|exe", 0, "the interface between host and guest", "glance" },
	{ "os_type", PROP_ENUM, 0, "linux|windows", 0, "the family; decides the guest's hardware profile", "nova" },
	{ "os_distro", PROP_STRING, 0, NULL, 0, "the distribution, libosinfo's short name: debian, ubuntu, windows", "glance, libosinfo" },
	{ "os_version", PROP_STRING, 0, NULL, 0, "the version as its maker numbers it: 12, 22.04", "glance" },
	{ "os_distro_major", PROP_STRING, 0, NULL, 0, "the major version; `latest` never leaves it", "CERN" },
	{ "os_edition", PROP_STRING, 0, NULL, 0, "the edition: SERVER, DESKTOP", "CERN" },
	{ "os_admin_user", PROP_STRING, 0, NULL, 0, "the administrator's name: root, Administrator", "glance" },
	{ "os_command_line", PROP_STRING, 0, NULL, 0, "kernel command line, when the kernel is outside the disk", "nova" },
	{ "os_purpose", PROP_ENUM, 0, "generic|minimal|k8snode|gpu|network|custom", 0, "what it is meant for", "SCS 0102" },
	{ "description", PROP_STRING, 0, NULL, 0, "a sentence for people", "glance" },
	{ "kernel_id", PROP_STRING, 0, NULL, 0, "the image that holds the kernel", "glance" },
	{ "ramdisk_id", PROP_STRING, 0, NULL, 0, "the image that holds the initial ramdisk", "glance" },
	{ "instance_uuid", PROP_STRING, 0, NULL, 0, "the vm that it was made from", "glance" },

	/* which of several to take */
	{ "release_date", PROP_DATE, 0, NULL, 0, "when it was released; `latest` takes the newest", "CERN" },
	{ "recommended", PROP_BOOL, 0, NULL, 0, "`latest` prefers what is recommended", "CERN" },
	{ "upstream_provider", PROP_STRING, 0, NULL, 0, "who made it and answers for it", "CERN" },
	{ "image_build_date", PROP_DATE, 0, NULL, 0, "all patches before it are in", "SCS 0102" },
	{ "image_original_user", PROP_STRING, 0, NULL, 0, "the user to log in as", "SCS 0102" },
	{ "image_source", PROP_STRING, 0, NULL, 0, "where it can be downloaded, or `private`", "SCS 0102" },
	{ "image_description", PROP_STRING, 0, NULL, 0, "release notes: a URL or text", "SCS 0102" },
	{ "replace_frequency", PROP_ENUM, 0, FREQUENCIES, 0, "how often a new one is promised", "SCS 0102" },
	{ "provided_until", PROP_STRING, 0, NULL, 0, "date until which new ones are promised, `none` or `notice`", "SCS 0102" },
	{ "uuid_validity", PROP_STRING, 0, NULL, 0, "how long this id stays usable", "SCS 0102" },
	{ "hotfix_hours", PROP_INT, 0, NULL, 0, "hours to a new one after a critical hole", "SCS 0102" },
	{ "maintained_until", PROP_DATE, 0, NULL, 0, "the vendor's maintenance ends", "SCS 0102" },
	{ "patchlevel", PROP_STRING, 0, NULL, 0, "the vendor's patch level", "SCS 0102" },
	{ "license_included", PROP_BOOL, 0, NULL, 0, "the price has the licence in it", "SCS 0102" },
	{ "license_required", PROP_BOOL, 0, NULL, 0, "the user brings the licence", "SCS 0102" },

	/* hardware that it wants: Nova's ImageMetaProps */
	{ "hw_firmware_type", PROP_ENUM, 0, "bios|uefi", 0, "the firmware that boots it", "nova" },
	{ "hw_firmware_stateless", PROP_BOOL, 0, NULL, 0, "no UEFI variables are kept", "nova" },
	{ "os_secure_boot", PROP_ENUM, 0, "required|optional|disabled", 0, "Secure Boot", "nova" },
	{ "hw_machine_type", PROP_STRING, 0, NULL, 0, "QEMU's machine type: q35, pc", "nova" },
	{ "hw_disk_bus", PROP_ENUM, 0, BUSES, 0, "how disks are attached", "nova" },
	{ "hw_cdrom_bus", PROP_ENUM, 0, BUSES, 0, "how CD-ROMs are attached", "nova" },
	{ "hw_floppy_bus", PROP_ENUM, 0, BUSES, 0, "how floppies are attached", "nova" },
	{ "hw_scsi_model", PROP_ENUM, 0, "virtio-scsi|lsilogic|lsisas1068|lsisas1078|buslogic|ibmvscsi|vmpvscsi", 0, "the SCSI controller", "nova" },
	{ "hw_vif_model", PROP_ENUM, 0, "virtio|e1000|e1000e|igb|rtl8139|pcnet|ne2k_pci|vmxnet3|netfront|lan9118|sriov", 0, "the network card", "nova" },
	{ "hw_vif_multiqueue_enabled", PROP_BOOL, 0, NULL, 0, "as many network queues as vcpus", "nova" },
	{ "hw_video_model", PROP_ENUM, 0, "virtio|vga|qxl|cirrus|bochs|vmvga|gop|xen|none", 0, "the graphics card", "nova" },
	{ "hw_video_ram", PROP_INT, 0, NULL, 1 << 20, "MiB of graphics memory", "nova" },
	{ "hw_input_bus", PROP_ENUM, 0, "usb|virtio", 0, "how keyboard and tablet are attached", "nova" },
	{ "hw_pointer_model", PROP_ENUM, 0, "usbtablet", 0, "an absolute pointer", "nova" },
	{ "hw_usb_model", PROP_STRING, 0, NULL, 0, "the USB controller", "nova" },
	{ "hw_sound_model", PROP_STRING, 0, NULL, 0, "the sound card", "nova" },
	{ "hw_serial_port_count", PROP_INT, 0, NULL, 4, "serial ports", "nova" },
	{ "hw_qemu_guest_agent", PROP_BOOL, 0, NULL, 0, "it runs the QEMU guest agent", "nova" },
	{ "os_require_quiesce", PROP_BOOL, 0, NULL, 0, "snapshots need the agent to freeze file systems", "nova" },
	{ "os_shutdown_timeout", PROP_INT, 0, NULL, 86400, "seconds that it may take to shut down", "nova" },
	{ "hw_rng_model", PROP_ENUM, 0, "virtio", 0, "a source of randomness", "nova" },
	{ "hw_watchdog_action", PROP_ENUM, 0, "disabled|reset|poweroff|pause|none", 0, "what a watchdog does when the guest hangs", "nova" },
	{ "hw_tpm_model", PROP_ENUM, 0, "tpm-tis|tpm-crb", 0, "the TPM's interface", "nova" },
	{ "hw_tpm_version", PROP_ENUM, 0, "1.2|2.0", 0, "the TPM's version", "nova" },
	{ "hw_time_hpet", PROP_BOOL, 0, NULL, 0, "a HPET timer", "nova" },
	{ "hw_pmu", PROP_BOOL, 0, NULL, 0, "performance counters", "nova" },
	{ "hw_boot_menu", PROP_BOOL, 0, NULL, 0, "the firmware's boot menu", "nova" },
	{ "hw_cpu_sockets", PROP_INT, 0, NULL, 4096, "preferred sockets", "nova" },
	{ "hw_cpu_cores", PROP_INT, 0, NULL, 4096, "preferred cores of a socket", "nova" },
	{ "hw_cpu_threads", PROP_INT, 0, NULL, 4096, "preferred threads of a core", "nova" },
	{ "hw_cpu_max_sockets", PROP_INT, 0, NULL, 4096, "most sockets", "nova" },
	{ "hw_cpu_max_cores", PROP_INT, 0, NULL, 4096, "most cores of a socket", "nova" },
	{ "hw_cpu_max_threads", PROP_INT, 0, NULL, 4096, "most threads of a core", "nova" },
	{ "hw_cpu_policy", PROP_ENUM, 0, "shared|dedicated|mixed", 0, "are vcpus pinned to processors", "nova" },
	{ "hw_cpu_thread_policy", PROP_ENUM, 0, "prefer|isolate|require", 0, "what pinned vcpus do with threads", "nova" },
	{ "hw_numa_nodes", PROP_INT, 0, NULL, 128, "NUMA nodes", "nova" },
	{ "hw_mem_page_size", PROP_STRING, 0, NULL, 0, "small, large, any or KiB", "nova" },
	{ "hw_mem_encryption", PROP_BOOL, 0, NULL, 0, "encrypted memory", "nova" },
	{ "hw_viommu_model", PROP_ENUM, 0, "none|auto|intel|virtio|smmuv3", 0, "an IOMMU for the guest", "nova" },
	{ "hw_virtio_packed_ring", PROP_BOOL, 0, NULL, 0, "packed virtqueues", "nova" },
	{ "img_hide_hypervisor_id", PROP_BOOL, 0, NULL, 0, "the guest doesn't see that it is one", "nova" },
	{ "img_config_drive", PROP_ENUM, 0, "mandatory|optional", 0, "needs a disk with its configuration", "nova" },
};
// clang-format on

const struct prop_def *prop_table(size_t *ret_n)
{
	*ret_n = G_N_ELEMENTS(table);
	return table;
}

const struct prop_def *prop_find(const char *name)
{
	for (size_t i = 0; i < G_N_ELEMENTS(table); i++)
		if (g_str_equal(table[i].name, name))
			return &table[i];
	return NULL;
}

const char *prop_type_name(PropType type)
{
	static const char *const name[] = {
		[PROP_STRING] = "string", [PROP_INT] = "int",   [PROP_BOOL] = "bool",
		[PROP_ENUM] = "enum",     [PROP_DATE] = "date", [PROP_LIST] = "list",
	};

	return name[type];
}

PropType prop_type(const char *name)
{
	const struct prop_def *def = prop_find(name);

	return def == NULL ? PROP_STRING : def->type;
}

static bool name_chars_ok(const char *name)
{
	size_t n = strlen(name);

	if (n > PROP_NAME_MAX || !g_ascii_isalpha(name[0]))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!g_ascii_isalnum(name[i]) && strchr("_.:-", name[i]) == NULL)
			return false;
	return true;
}

bool prop_name_check(const char *name, GError **err)
{
	if (!name_chars_ok(name)) {
		g_autofree char *shown = g_utf8_make_valid(name, (gssize)strnlen(name, 80));

		return fail_advice(
		    err, ERR_INVALID,
		    "Use letters, digits, underscores, dots, colons and dashes, beginning with a "
		    "letter, 255 at most.",
		    "'%s' can't be the name of an image property", shown);
	}
	if (g_str_has_prefix(name, "platform."))
		return fail_advice(err, ERR_INVALID, "Set it on the vm: `plim vm set NAME KEY=VALUE`.",
				   "'%s' is a setting of a vm, not a property of an image", name);
	if (g_str_has_prefix(name, "os_glance"))
		return fail_advice(err, ERR_INVALID, "Choose another name.",
				   "'%s' is reserved: OpenStack's image service keeps os_glance* to itself",
				   name);
	return true;
}

/* Printable UTF-8; line ends and tabs only where `multiline`. */
static bool text_ok(const char *text, bool multiline)
{
	if (!g_utf8_validate(text, -1, NULL))
		return false;
	for (const char *p = text; *p != '\0'; p = g_utf8_next_char(p)) {
		gunichar c = g_utf8_get_char(p);

		if (g_unichar_iscntrl(c) && !(multiline && (c == '\n' || c == '\t')))
			return false;
	}
	return true;
}

static bool parse_string(const struct prop_def *def, const char *name, const char *text, char **ret,
			 GError **err)
{
	bool multiline = def == NULL || g_str_has_suffix(name, "description");

	if (!text_ok(text, multiline))
		return fail_advice(err, ERR_INVALID, "Use printable UTF-8 text.",
				   "the value of '%s' holds bytes that are no text", name);
	*ret = g_strdup(text);
	return true;
}

static bool parse_int(const struct prop_def *def, const char *text, char **ret, GError **err)
{
	uint64_t v, max = def->max == 0 ? INT64_MAX : def->max;

	if (!parse_uint(text, 0, max, &v, err)) {
		g_prefix_error(err, "%s: ", def->name);
		return err_advise(err, "Give a whole number between 0 and %" PRIu64 ".", max);
	}
	*ret = g_strdup_printf("%" PRIu64, v);
	return true;
}

static bool parse_boolean(const char *name, const char *text, char **ret, GError **err)
{
	g_autofree char *low = g_ascii_strdown(text, -1);
	bool v;

	if (!parse_bool(low, &v, err)) {
		g_prefix_error(err, "%s: ", name);
		return false;
	}
	*ret = g_strdup(v ? "true" : "false");
	return true;
}

static bool parse_enum(const struct prop_def *def, const char *text, char **ret, GError **err)
{
	g_auto(GStrv) all = g_strsplit(def->values, "|", -1);
	g_autofree char *low = g_ascii_strdown(text, -1);

	if (!g_strv_contains((const char *const *)all, low)) {
		g_autofree char *list = g_strjoinv(", ", all);
		g_autofree char *shown = g_utf8_make_valid(text, (gssize)strnlen(text, 80));

		fail(err, ERR_INVALID, "%s can't be '%s'", def->name, shown);
		return err_advise(err, "Use one of: %s.", list);
	}
	*ret = g_steal_pointer(&low);
	return true;
}

/* Microseconds since 1970 of "YYYY-MM-DD", "YYYY-MM-DD hh:mm[:ss]" (SCS) or RFC 3339. */
static bool date_value(const char *text, uint64_t *ret)
{
	g_autoptr(GString) s = g_string_new(text);

	if (strlen(text) < 10 || text[4] != '-' || text[7] != '-')
		return false;
	if (s->len == 10)
		g_string_append(s, "T00:00:00Z");
	if (s->str[10] == ' ')
		s->str[10] = 'T';
	if (s->len == 16)
		g_string_append(s, ":00");
	if (s->len == 19)
		g_string_append_c(s, 'Z');
	return time_parse(s->str, ret);
}

static bool parse_date(const char *name, const char *text, char **ret, GError **err)
{
	uint64_t us;

	if (!date_value(text, &us)) {
		g_autofree char *shown = g_utf8_make_valid(text, (gssize)strnlen(text, 80));

		return fail_advice(err, ERR_INVALID,
				   "Write it as 2026-01-31 or 2026-01-31T09:30:00Z, since 1970.",
				   "%s: '%s' is not a date", name, shown);
	}
	*ret = strlen(text) == 10 ? g_strdup(text) : time_print(us);
	return true;
}

static bool list_item_check(const char *name, const char *item, GError **err)
{
	if (*item != '\0' && g_utf8_validate(item, -1, NULL) &&
	    g_utf8_strlen(item, -1) <= PROP_LIST_ITEM_MAX && strchr(item, ',') == NULL &&
	    text_ok(item, false))
		return true;
	return fail_advice(err, ERR_INVALID, "Use printable text without commas, 1 to 255 characters each.",
			   "%s: an item is empty, too long or holds a comma", name);
}

static int strcmp_pointers(gconstpointer a, gconstpointer b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Items sorted and each once, so that a list has one text. Takes nothing. */
static bool join_list(const char *name, char **items, char **ret, GError **err)
{
	g_autoptr(GPtrArray) kept = g_ptr_array_new();
	GString *s;

	for (size_t i = 0; items[i] != NULL; i++) {
		if (!list_item_check(name, items[i], err))
			return false;
		if (!g_ptr_array_find_with_equal_func(kept, items[i], g_str_equal, NULL))
			g_ptr_array_add(kept, items[i]);
	}
	if (kept->len > PROP_LIST_ITEMS_MAX)
		return fail_advice(err, ERR_INVALID, "Keep at most 128.", "%s has %u items", name, kept->len);
	g_ptr_array_sort(kept, strcmp_pointers);
	s = g_string_new(NULL);
	for (guint i = 0; i < kept->len; i++)
		g_string_append_printf(s, "%s%s", i == 0 ? "" : ",", (const char *)kept->pdata[i]);
	*ret = g_string_free(s, FALSE);
	return true;
}

static bool parse_list(const char *name, const char *text, char **ret, GError **err)
{
	g_auto(GStrv) items = g_strsplit(text, ",", -1);

	return join_list(name, items, ret, err);
}

static size_t value_max(const struct prop_def *def)
{
	return def != NULL && def->type == PROP_LIST ? PROP_LIST_ITEMS_MAX * (PROP_LIST_ITEM_MAX * 4 + 1)
						     : PROP_VALUE_MAX;
}

static bool parse_typed(const struct prop_def *def, const char *name, const char *text, char **ret,
			GError **err)
{
	switch (def == NULL ? PROP_STRING : def->type) {
	case PROP_STRING:
		return parse_string(def, name, text, ret, err);
	case PROP_INT:
		return parse_int(def, text, ret, err);
	case PROP_BOOL:
		return parse_boolean(name, text, ret, err);
	case PROP_ENUM:
		return parse_enum(def, text, ret, err);
	case PROP_DATE:
		return parse_date(name, text, ret, err);
	case PROP_LIST:
		return parse_list(name, text, ret, err);
	}
	g_assert_not_reached();
}

bool prop_parse(const char *name, const char *text, char **ret, GError **err)
{
	const struct prop_def *def = prop_find(name);

	if (!prop_name_check(name, err))
		return false;
	if (strlen(text) > value_max(def))
		return fail_advice(err, ERR_INVALID, "Keep long texts elsewhere and put a URL here.",
				   "the value of '%s' is longer than %zu bytes", name, value_max(def));
	return parse_typed(def, name, text, ret, err);
}

static bool parse_json_list(const char *name, const Json *value, char **ret, GError **err)
{
	g_autoptr(GPtrArray) items = g_ptr_array_new();
	size_t i;
	Json *item;

	if (json_array_size(value) > PROP_LIST_ITEMS_MAX)
		return fail_advice(err, ERR_INVALID, "Keep at most 128.", "%s has %zu items", name,
				   json_array_size(value));
	json_array_foreach(value, i, item)
	{
		if (!json_is_string(item) || strlen(json_string_value(item)) != json_string_length(item))
			return fail(err, ERR_INVALID, "%s: every item must be a string without NUL", name);
		g_ptr_array_add(items, (gpointer)json_string_value(item));
	}
	g_ptr_array_add(items, NULL);
	return join_list(name, (char **)items->pdata, ret, err);
}

bool prop_parse_json(const char *name, const Json *value, char **ret, GError **err)
{
	PropType type = prop_type(name);

	if (!prop_name_check(name, err))
		return false;
	if (json_is_string(value) && strlen(json_string_value(value)) != json_string_length(value))
		return fail(err, ERR_INVALID, "the value of '%s' holds a NUL", name);
	if (json_is_string(value))
		return prop_parse(name, json_string_value(value), ret, err);
	if (json_is_boolean(value) && type == PROP_BOOL)
		return prop_parse(name, json_is_true(value) ? "true" : "false", ret, err);
	if (json_is_integer(value) && type == PROP_INT) {
		g_autofree char *text = g_strdup_printf("%" JSON_INTEGER_FORMAT, json_integer_value(value));

		return prop_parse(name, text, ret, err);
	}
	if (json_is_array(value) && type == PROP_LIST)
		return parse_json_list(name, value, ret, err);
	return fail_advice(err, ERR_INVALID, "Custom properties are strings.",
			   "'%s' is a property of type %s; the JSON value is of another type", name,
			   prop_type_name(type));
}

static Json *list_to_json(const char *text)
{
	g_auto(GStrv) items = g_strsplit(text, ",", -1);

	return json_of_strv((const char *const *)items);
}

Json *prop_to_json(const char *name, const char *canonical)
{
	const struct prop_def *def = prop_find(name);

	if (def == NULL || !(def->flags & PROP_BASE))
		return json_string(canonical);
	switch (def->type) {
	case PROP_INT:
		return json_integer(g_ascii_strtoll(canonical, NULL, 10));
	case PROP_BOOL:
		return json_boolean(g_str_equal(canonical, "true"));
	case PROP_LIST:
		return list_to_json(canonical);
	case PROP_STRING:
	case PROP_ENUM:
	case PROP_DATE:
		return json_string(canonical);
	}
	g_assert_not_reached();
}

static int compare_u64(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

/* Runs of digits by value, everything else by bytes; what is equal so far ("1", "01") by bytes. */
static int compare_text(const char *a, const char *b)
{
	const char *x = a, *y = b;

	while (*x != '\0' && *y != '\0') {
		if (g_ascii_isdigit(*x) && g_ascii_isdigit(*y)) {
			size_t nx, ny;
			int r;

			x += strspn(x, "0");
			y += strspn(y, "0");
			nx = strspn(x, "0123456789");
			ny = strspn(y, "0123456789");
			r = nx != ny ? compare_u64(nx, ny) : strncmp(x, y, nx);
			if (r != 0)
				return r;
			x += nx;
			y += ny;
		} else if (*x != *y) {
			return (unsigned char)*x - (unsigned char)*y;
		} else {
			x++, y++;
		}
	}
	if (*x != *y)
		return (unsigned char)*x - (unsigned char)*y;
	return strcmp(a, b);
}

int prop_compare(const char *name, const char *a, const char *b)
{
	PropType type = prop_type(name);
	uint64_t x, y;

	if (type == PROP_INT)
		return compare_u64(g_ascii_strtoull(a, NULL, 10), g_ascii_strtoull(b, NULL, 10));
	if (type == PROP_DATE && date_value(a, &x) && date_value(b, &y))
		return compare_u64(x, y);
	return compare_text(a, b);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "core/guest/profile.h"
#include "core/guest/profile-impl.h"

#include <inttypes.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)
/* More queues than this cost memory and interrupts, and no guest on one host fills them. */
#define QUEUES_MAX 16

static const char *const key_names[_PROFILE_MAX] = {
#define X(key, name) [PROFILE_##key] = name,
	PROFILE_TABLE(X)
#undef X
};

static void could_not_free(gpointer p)
{
	CouldNot *c = p;

	g_free(c->what);
	g_free(c->reason);
	cause_free(c->cause);
	g_free(c);
}

Profile *profile_free(Profile *p)
{
	if (p == NULL)
		return NULL;
	for (ProfileKey k = 0; k < _PROFILE_MAX; k++) {
		g_free(p->decision[k].value);
		cause_free(p->decision[k].cause);
	}
	g_ptr_array_unref(p->could_not);
	json_unref(p->dimms);
	g_free(p);
	return NULL;
}

void profile_decide(Profile *p, ProfileKey key, const char *value, CauseSource source, const char *cause_key,
		    const char *cause_value, const char *note)
{
	g_assert(p->decision[key].value == NULL);
	p->decision[key].value = g_strdup(value);
	p->decision[key].cause = cause_new(source, cause_key, cause_value, note);
}

void profile_decide_as(Profile *p, ProfileKey key, const char *value, ProfileKey because, const char *note)
{
	const Cause *c = profile_cause(p, because);

	profile_decide(p, key, value, c->source, c->key, c->value, note);
}

void profile_could_not(Profile *p, const char *what, Cause *cause, const char *reason_fmt, ...)
{
	CouldNot *c = g_new(CouldNot, 1);
	va_list ap;

	va_start(ap, reason_fmt);
	*c = (CouldNot){ .what = g_strdup(what), .reason = g_strdup_vprintf(reason_fmt, ap), .cause = cause };
	va_end(ap);
	g_ptr_array_add(p->could_not, c);
}

const char *profile_key_name(ProfileKey key)
{
	g_assert(key < _PROFILE_MAX);
	return key_names[key];
}

const char *profile_text(const Profile *p, ProfileKey key)
{
	g_assert(p->decision[key].value != NULL);
	return p->decision[key].value;
}

bool profile_is(const Profile *p, ProfileKey key, const char *value)
{
	return g_str_equal(profile_text(p, key), value);
}

bool profile_on(const Profile *p, ProfileKey key)
{
	return profile_is(p, key, "true");
}

uint64_t profile_number(const Profile *p, ProfileKey key)
{
	return g_ascii_strtoull(profile_text(p, key), NULL, 10);
}

const Cause *profile_cause(const Profile *p, ProfileKey key)
{
	g_assert(p->decision[key].cause != NULL);
	return p->decision[key].cause;
}

bool profile_is_q35(const Profile *p)
{
	return g_str_has_prefix(profile_text(p, PROFILE_MACHINE), "pc-q35");
}

bool profile_has_hyperv(const Profile *p)
{
	return profile_on(p, PROFILE_HYPERV) && profile_is(p, PROFILE_ACCEL, "kvm");
}

const char *profile_disk_bus(const Profile *p, const VmDisk *d)
{
	return g_str_equal(d->bus, "auto") ? profile_text(p, PROFILE_DISK_BUS) : d->bus;
}

const char *profile_nic_model(const Profile *p, const VmNic *n)
{
	return g_str_equal(n->model, "auto") ? profile_text(p, PROFILE_NIC_MODEL) : n->model;
}

bool path_is_block_device(const char *path)
{
	return g_str_has_prefix(path, "/dev/") && !g_str_has_prefix(path, "/dev/shm/");
}

bool profile_disk_direct(const Profile *p, const VmDisk *d)
{
	bool sure = profile_cause(p, PROFILE_DISK_CACHE)->source == CAUSE_VM || d->volume != NULL ||
		    path_is_block_device(d->path);

	return sure && profile_is(p, PROFILE_DISK_CACHE, "none");
}

unsigned profile_nic_queues(const Profile *p, const VmNic *n)
{
	bool many =
	    g_str_has_prefix(n->network, "bridge:") && g_str_equal(profile_nic_model(p, n), "virtio-net");

	return many ? (unsigned)profile_number(p, PROFILE_NIC_QUEUES) : 1;
}

Json *profile_to_json(const Profile *p)
{
	Json *list = json_array();

	for (ProfileKey k = 0; k < _PROFILE_MAX; k++) {
		Json *j = json_object();

		json_put_str(j, "key", key_names[k]);
		json_put_str(j, "value", profile_text(p, k));
		json_put(j, "cause", cause_to_json(profile_cause(p, k)));
		json_array_append_new(list, j);
	}
	return list;
}

Json *profile_could_not_to_json(const Profile *p)
{
	Json *list = json_array();

	for (guint i = 0; i < p->could_not->len; i++) {
		const CouldNot *c = p->could_not->pdata[i];
		Json *j = json_object();

		json_put_str(j, "what", c->what);
		json_put_str(j, "reason", c->reason);
		json_put(j, "cause", cause_to_json(c->cause));
		json_array_append_new(list, j);
	}
	return list;
}

/*
 * Images often name their distribution only, as the Windows image in the
 * article that Plimsoll began with: its guests got no enlightenments.
 */
static const char *os_of_distro(const char *distro)
{
	static const char *const linux_distros[] = {
		"almalinux", "alpine", "amazon", "amazonlinux", "arch",      "centos",   "cirros",
		"coreos",    "debian", "fedora", "flatcar",     "gentoo",    "mandrake", "kali",
		"mandriva",  "mes",    "mageia", "nixos",       "ol",        "opensuse", "oracle",
		"photon",    "rhel",   "rocky",  "sled",        "slackware", "sles",     "talos",
		"ubuntu",    "void",   NULL
	};
	g_autofree char *lower = g_ascii_strdown(distro, -1);

	if (g_str_has_prefix(lower, "win"))
		return "windows";
	return g_strv_contains(linux_distros, lower) ? "linux" : "other";
}

static void decide_os(ProfileMaker *m)
{
	g_autofree char *type = profile_property_text(m, "os_type"),
			*distro = profile_property_text(m, "os_distro"), *lower = NULL,
			*kernel = profile_setting_text(m, "boot.kernel");

	if (type != NULL) {
		lower = g_ascii_strdown(type, -1);
		if (!g_str_equal(lower, "linux") && !g_str_equal(lower, "windows")) {
			g_free(lower);
			lower = g_strdup("other");
		}
		profile_decide(m->p, PROFILE_OS, lower, CAUSE_IMAGE, "os_type", type, NULL);
	} else if (distro != NULL) {
		profile_decide(m->p, PROFILE_OS, os_of_distro(distro), CAUSE_IMAGE, "os_distro", distro,
			       "The image has no os_type; its distribution tells.");
	} else if (kernel != NULL) {
		profile_decide(m->p, PROFILE_OS, "linux", CAUSE_VM, "boot.kernel", kernel,
			       "A kernel that is booted directly follows Linux's boot protocol.");
	} else {
		profile_decide(m->p, PROFILE_OS, "other", CAUSE_DEFAULT, "os_type", "other",
			       "Nothing says what runs in it; set os_type on the image.");
	}
}

static bool refuse_accel(const HostFacts *h, const char *key, Accel a, GError **err)
{
	fail(err, ERR_UNSUPPORTED, "%s does not work on host %s: %s", accel_name(a), h->name,
	     h->accel[a].reason != NULL ? h->accel[a].reason : "it was not proven to run guest code");
	return err_advise(err, "Set %s=auto to take what works; `plim host show` says what that is.", key);
}

/* Nobody chose: the first of the table that was seen to work. */
static bool accel_auto(ProfileMaker *m, GError **err)
{
	const HostFacts *h = m->host;

	if (h->accel[ACCEL_KVM].works) {
		profile_decide(m->p, PROFILE_ACCEL, "kvm", CAUSE_HOST, "accelerators.kvm", "works", NULL);
		return true;
	}
	if (!h->accel[ACCEL_TCG].works)
		return fail_advice(err, ERR_UNSUPPORTED, "`plim host show` says why.",
				   "no accelerator works on host %s", h->name);
	profile_decide(m->p, PROFILE_ACCEL, "tcg", CAUSE_HOST, "accelerators.kvm", "unusable",
		       h->accel[ACCEL_KVM].reason);
	return true;
}

static bool decide_accel(ProfileMaker *m, GError **err)
{
	g_autofree char *set = profile_setting_text(m, "accel");
	const char *wanted = set != NULL ? set : m->host->accel_wanted;
	Accel a;

	if (!accel_of_name(wanted, &a))
		return accel_auto(m, err);
	if (!m->host->accel[a].works)
		return refuse_accel(m->host, "accel", a, err);
	profile_decide(m->p, PROFILE_ACCEL, accel_name(a), set != NULL ? CAUSE_VM : CAUSE_HOST, "accel",
		       accel_name(a), NULL);
	return true;
}

static const char *family_of(const char *machine)
{
	if (g_str_equal(machine, "q35") || g_str_has_prefix(machine, "pc-q35-"))
		return "q35";
	return g_str_equal(machine, "pc") || g_str_has_prefix(machine, "pc-i440fx-") ? "pc" : NULL;
}

static bool refuse_machine(const HostFacts *h, const char *wanted, GError **err)
{
	fail(err, ERR_UNSUPPORTED, "machine type '%s' is not offered on host %s", wanted, h->name);
	return err_advise(err,
			  "Set machine to q35 or pc, or to a version of them that `plim host show` lists.");
}

/* q35 and pc mean the version of the last start, at the first start the newest. */
static bool take_machine(ProfileMaker *m, const char *wanted, const char *kept, CauseSource source,
			 const char *key, GError **err)
{
	bool family_only = g_str_equal(wanted, "q35") || g_str_equal(wanted, "pc");
	bool keep = family_only && kept != NULL && g_strcmp0(family_of(kept), wanted) == 0;
	const HostMachine *found = host_machine_find(m->host, keep ? kept : wanted);

	if (family_of(wanted) == NULL || found == NULL)
		return refuse_machine(m->host, keep ? kept : wanted, err);
	profile_decide(m->p, PROFILE_MACHINE, found->name, source, key, wanted,
		       keep ? "Kept from the last start, so that the hardware stays the same." : NULL);
	return true;
}

static bool decide_machine(ProfileMaker *m, const char *kept, GError **err)
{
	g_autofree char *set = profile_setting_text(m, "machine"),
			*image = profile_property_text(m, "hw_machine_type"), *what = NULL;

	if (set != NULL)
		return take_machine(m, set, kept, CAUSE_VM, "machine", err);
	if (image != NULL && family_of(image) != NULL && host_machine_find(m->host, image) != NULL)
		return take_machine(m, image, kept, CAUSE_IMAGE, "hw_machine_type", err);
	if (image != NULL) {
		what = g_strdup_printf("hw_machine_type=%s", image);
		profile_could_not(m->p, what, cause_new(CAUSE_IMAGE, "hw_machine_type", image, NULL),
				  "Host %s does not offer that machine type; the guest gets q35.",
				  m->host->name);
	}
	return take_machine(m, "q35", kept, CAUSE_DEFAULT, "machine", err);
}

/* The property as a number of 1 or more; 0 when the image doesn't say. */
static uint64_t preferred(const ProfileMaker *m, const char *property)
{
	g_autofree char *text = profile_property_text(m, property);

	return text != NULL ? g_ascii_strtoull(text, NULL, 10) : 0;
}

/*
 * One socket, all vcpus its cores: editions of Windows count sockets. What the
 * image prefers is taken when it can be had with this number of vcpus.
 */
static void decide_topology(ProfileMaker *m, uint64_t vcpus)
{
	uint64_t s = preferred(m, "hw_cpu_sockets"), c = preferred(m, "hw_cpu_cores"),
		 t = preferred(m, "hw_cpu_threads");
	bool asked = s + c + t > 0;
	uint64_t threads = t > 0 ? t : 1;
	uint64_t sockets = s > 0 ? s : c > 0 && vcpus % (c * threads) == 0 ? vcpus / (c * threads) : 1;
	bool fits = vcpus % (sockets * threads) == 0 && (c == 0 || vcpus == sockets * c * threads);
	g_autofree char *wish = NULL, *text = NULL;

	wish = g_strdup_printf("%" PRIu64 ":%" PRIu64 ":%" PRIu64, s, c, t);
	if (asked && !fits)
		profile_could_not(m->p, "hw_cpu_sockets, hw_cpu_cores, hw_cpu_threads",
				  cause_new(CAUSE_IMAGE, "hw_cpu_sockets:cores:threads", wish, NULL),
				  "They don't fit %" PRIu64 " vcpus.", vcpus);
	if (!asked || !fits)
		sockets = threads = 1;
	text = g_strdup_printf("sockets=%" PRIu64 ",cores=%" PRIu64 ",threads=%" PRIu64, sockets,
			       vcpus / (sockets * threads), threads);
	if (asked && fits)
		profile_decide(m->p, PROFILE_TOPOLOGY, text, CAUSE_IMAGE, "hw_cpu_sockets:cores:threads",
			       wish, NULL);
	else
		profile_decide(m->p, PROFILE_TOPOLOGY, text, CAUSE_DEFAULT, "topology", "one socket",
			       "Editions of Windows count sockets, not cores.");
}

static void decide_number(ProfileMaker *m, ProfileKey key, const char *setting, uint64_t dflt)
{
	g_autofree char *set = profile_setting_text(m, setting),
			*text = set != NULL ? g_strdup(set) : g_strdup_printf("%" PRIu64, dflt);

	profile_decide(m->p, key, text, set != NULL ? CAUSE_VM : CAUSE_DEFAULT, setting, text, NULL);
}

/* What follows the number of vcpus. */
static void decide_queues(ProfileMaker *m)
{
	uint64_t n = MIN(profile_number(m->p, PROFILE_VCPUS), QUEUES_MAX);
	g_autofree char *text = g_strdup_printf("%" PRIu64, n),
			*multi = profile_property_text(m, "hw_vif_multiqueue_enabled");

	profile_decide_as(m->p, PROFILE_DISK_QUEUES, text, PROFILE_VCPUS, "Queues follow the vcpus.");
	if (g_strcmp0(multi, "false") == 0)
		profile_decide(m->p, PROFILE_NIC_QUEUES, "1", CAUSE_IMAGE, "hw_vif_multiqueue_enabled", multi,
			       NULL);
	else
		profile_decide_as(m->p, PROFILE_NIC_QUEUES, text, PROFILE_VCPUS, "Queues follow the vcpus.");
}

static void decide_from_host(ProfileMaker *m)
{
	g_autofree char *cache = profile_setting_text(m, "disk.cache");
	bool direct = m->host->direct_io, vhost = m->host->vhost_net;

	if (cache != NULL)
		profile_decide(m->p, PROFILE_DISK_CACHE, cache, CAUSE_VM, "disk.cache", cache, NULL);
	else
		profile_decide(m->p, PROFILE_DISK_CACHE, direct ? "none" : "writeback", CAUSE_HOST,
			       "direct_io", direct ? "true" : "false",
			       direct ? "The host's memory is not filled with copies of guests' disks."
				      : "The host's file system takes no direct I/O.");
	profile_decide(m->p, PROFILE_NIC_VHOST, vhost ? "true" : "false", CAUSE_HOST, "vhost_net",
		       vhost ? "true" : "false", NULL);
}

/* Who has a screen wants a pointer that is where it is shown; virtio's tablet speaks only when it moves. */
static void decide_pointer(ProfileMaker *m)
{
	Profile *p = m->p;
	g_autofree char *set = profile_setting_text(m, "platform.tablet"),
			*bus = profile_property_text(m, "hw_input_bus");

	if (set != NULL)
		profile_decide(p, PROFILE_POINTER, set, CAUSE_VM, "platform.tablet", set, NULL);
	else if (g_strcmp0(bus, "virtio") == 0)
		profile_decide(p, PROFILE_POINTER, "virtio", CAUSE_IMAGE, "hw_input_bus", bus, NULL);
	else if (profile_on(p, PROFILE_TABLET))
		profile_decide_as(p, PROFILE_POINTER, "none", PROFILE_TABLET,
				  "The USB tablet is the pointer.");
	else if (profile_is(p, PROFILE_VIDEO, "none"))
		profile_decide_as(p, PROFILE_POINTER, "none", PROFILE_VIDEO, "Nothing to point at.");
	else
		profile_decide_as(p, PROFILE_POINTER, "virtio", PROFILE_VIDEO,
				  "An absolute pointer that wakes nobody while it rests.");
}

static void list_vnc_loss(ProfileMaker *m)
{
	if (profile_on(m->p, PROFILE_VNC) && profile_is(m->p, PROFILE_VIDEO, "none"))
		profile_could_not(m->p, "platform.vnc", cause_copy(profile_cause(m->p, PROFILE_VNC)),
				  "The vm has no display to show; platform.video=std gives it one.");
}

/* Decisions that depend on more than one row of the table. */
static void decide_rest(ProfileMaker *m)
{
	Profile *p = m->p;
	bool windows = profile_is(p, PROFILE_OS, "windows"), kvm = profile_is(p, PROFILE_ACCEL, "kvm");
	g_autofree char *hyperv = profile_setting_text(m, "hyperv"),
			*usb = profile_setting_text(m, "platform.usb");

	if (hyperv != NULL)
		profile_decide(p, PROFILE_HYPERV, g_str_equal(hyperv, "on") ? "true" : "false", CAUSE_VM,
			       "hyperv", hyperv, NULL);
	else
		profile_decide_as(p, PROFILE_HYPERV, windows ? "true" : "false", PROFILE_OS,
				  windows ? "Windows waits longer before it gives up a vcpu that got no time."
					  : "Only Windows looks for it.");
	if (windows && kvm)
		profile_decide_as(p, PROFILE_PIT_TICKS, "delay", PROFILE_OS,
				  "Late ticks of the PIT come late, none is lost.");
	else
		profile_decide(p, PROFILE_PIT_TICKS, "auto", CAUSE_DEFAULT, "pit_lost_ticks", "auto", NULL);
	if (profile_on(p, PROFILE_TABLET))
		profile_decide_as(p, PROFILE_USB, "true", PROFILE_TABLET, "The tablet needs a controller.");
	else
		profile_decide(p, PROFILE_USB, usb != NULL ? usb : "false",
			       usb != NULL ? CAUSE_VM : CAUSE_DEFAULT, "platform.usb",
			       usb != NULL ? usb : "false", NULL);
	decide_pointer(m);
	list_vnc_loss(m);
	if (m->vm->cloud_init == NULL)
		profile_decide(p, PROFILE_SEED, "none", CAUSE_DEFAULT, "cloud_init", "none", NULL);
	else if (windows)
		profile_decide_as(p, PROFILE_SEED, "cdrom", PROFILE_OS,
				  "Windows reads ISO 9660 from CDs only.");
	else
		profile_decide(p, PROFILE_SEED, "disk", CAUSE_VM, "cloud_init", "set",
			       "A read-only disk costs nothing while it is idle, a CD is polled.");
}

/* What was wished for and the accelerator hasn't. */
static void list_tcg_losses(ProfileMaker *m)
{
	Profile *p = m->p;
	g_autofree char *scsi = profile_property_text(m, "hw_scsi_model");

	if (scsi != NULL && !g_str_equal(scsi, "virtio-scsi"))
		profile_could_not(p, "hw_scsi_model", cause_new(CAUSE_IMAGE, "hw_scsi_model", scsi, NULL),
				  "The SCSI controller is virtio-scsi.");
	if (!profile_is(p, PROFILE_ACCEL, "tcg"))
		return;
	if (profile_on(p, PROFILE_HYPERV)) {
#define X(name, value, element)                                                                              \
	profile_could_not(p, name, cause_copy(profile_cause(p, PROFILE_HYPERV)),                             \
			  "Only KVM has Hyper-V's interface, and this guest runs under TCG.");
		HYPERV_TABLE(X)
#undef X
	}
	if (profile_is(p, PROFILE_OS, "windows"))
		profile_could_not(
		    p, "kvm-pit.lost_tick_policy=delay", cause_copy(profile_cause(p, PROFILE_OS)),
		    "Only KVM's timer has a policy for lost ticks, and this guest runs under TCG.");
}

static bool check_architecture(const ProfileMaker *m, GError **err)
{
	g_autofree char *a = profile_property_text(m, "architecture");

	if (a == NULL || g_str_equal(a, "x86_64") || g_str_equal(a, "i686"))
		return true;
	return fail_advice(err, ERR_UNSUPPORTED, "Take an image whose architecture is x86_64.",
			   "vm '%s' is made for %s, and host %s runs x86_64", m->vm->name, a, m->host->name);
}

static bool decide_all(ProfileMaker *m, const char *machine_kept, GError **err)
{
	if (!check_architecture(m, err))
		return false;
	decide_os(m);
	if (!decide_accel(m, err) || !decide_machine(m, machine_kept, err) || !profile_decide_cpu(m, err))
		return false;
	decide_number(m, PROFILE_VCPUS, "vcpus", 1);
	decide_topology(m, profile_number(m->p, PROFILE_VCPUS));
	if (!profile_decide_memory(m, err) || !profile_decide_gaps(m, err) ||
	    !profile_decide_firmware(m, err))
		return false;
	profile_apply_rules(m);
	decide_rest(m);
	profile_decide_cd(m);
	decide_queues(m);
	decide_from_host(m);
	profile_list_unserved(m);
	list_tcg_losses(m);
	return true;
}

Profile *profile_of(const Vm *vm, const HostFacts *host, const CpuOffer *cpu, const char *machine_kept,
		    GError **err)
{
	g_autoptr(Profile) p = g_new0(Profile, 1);
	ProfileMaker m = { .vm = vm, .host = host, .cpu = cpu, .p = p };

	p->could_not = g_ptr_array_new_with_free_func(could_not_free);
	return decide_all(&m, machine_kept, err) ? g_steal_pointer(&p) : NULL;
}

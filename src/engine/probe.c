/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/probe.h"
#include "base/fd.h"
#include "engine/as_user.h"
#include "engine/limits.h"
#include "engine/probe-impl.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define CPUINFO_MAX (4u << 20)
#define BLOCK 4096u

/* The first pair that is whole counts. Debian's names come first, then Fedora's. */
static const HostFirmware uefi[] = {
	{ (char *)"/usr/share/OVMF/OVMF_CODE_4M.fd", (char *)"/usr/share/OVMF/OVMF_VARS_4M.fd" },
	{ (char *)"/usr/share/OVMF/OVMF_CODE.fd", (char *)"/usr/share/OVMF/OVMF_VARS.fd" },
	{ (char *)"/usr/share/edk2/ovmf/OVMF_CODE.fd", (char *)"/usr/share/edk2/ovmf/OVMF_VARS.fd" },
};
/* With Microsoft's keys enrolled: what guests that insist on Secure Boot are signed by. */
static const HostFirmware uefi_secure[] = {
	{ (char *)"/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", (char *)"/usr/share/OVMF/OVMF_VARS_4M.ms.fd" },
	{ (char *)"/usr/share/OVMF/OVMF_CODE.secboot.fd", (char *)"/usr/share/OVMF/OVMF_VARS.ms.fd" },
	{ (char *)"/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd",
	  (char *)"/usr/share/edk2/ovmf/OVMF_VARS.secboot.fd" },
};

static bool readable_file(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, R_OK) == 0;
}

static void find_firmware(HostFirmware *ret, const HostFirmware *known, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (readable_file(known[i].code) && readable_file(known[i].vars)) {
			*ret = (HostFirmware){ g_strdup(known[i].code), g_strdup(known[i].vars) };
			return;
		}
}

static bool find_qemu(HostFacts *h, GError **err)
{
	const char *told = g_getenv("PLIMSOLL_QEMU");
	const char *name = told != NULL ? told : "qemu-system-x86_64";

	h->qemu = g_find_program_in_path(name);
	if (h->qemu != NULL && h->qemu[0] == '/')
		return true;
	fail(err, ERR_NOT_FOUND, "there is no program '%s'", name);
	return told != NULL
		   ? err_advise(err, "Set PLIMSOLL_QEMU to the absolute path of a QEMU, or unset it.")
		   : err_advise(err, "Install the package qemu-system-x86.");
}

/* The value of the first line "KEY\t: VALUE" of /proc/cpuinfo; NULL when there is none. */
static char *cpuinfo_value(const char *text, const char *key)
{
	g_auto(GStrv) line = g_strsplit(text, "\n", 64);

	for (size_t i = 0; line[i] != NULL; i++) {
		char *colon = strchr(line[i], ':');

		if (colon == NULL)
			continue;
		*colon = '\0';
		if (g_str_equal(g_strstrip(line[i]), key))
			return g_utf8_make_valid(g_strstrip(colon + 1), -1);
	}
	return NULL;
}

static void look_at_cpu(HostFacts *h)
{
	g_autofree char *text = file_read_virtual("/proc/cpuinfo", CPUINFO_MAX, NULL, NULL);
	long cpus = sysconf(_SC_NPROCESSORS_ONLN), pages = sysconf(_SC_PHYS_PAGES),
	     page = sysconf(_SC_PAGESIZE);

	h->cpus = cpus > 0 ? (unsigned)cpus : 1;
	h->memory = pages > 0 && page > 0 ? MIN((uint64_t)pages * (uint64_t)page, host_memory_bound()) : 0;
	if (text == NULL)
		return;
	h->cpu_vendor = cpuinfo_value(text, "vendor_id");
	h->cpu_model = cpuinfo_value(text, "model name");
}

static bool opens(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDWR | O_CLOEXEC);

	return fd >= 0;
}

/* A file without a name, on file systems that have no such thing one whose name is gone at once. */
static int nameless_file(const char *dir)
{
	g_autofree char *path = g_build_filename(dir, ".probe-XXXXXX", NULL);
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd < 0) {
		fd = mkostemp(path, O_CLOEXEC);
		if (fd >= 0)
			unlink(path);
	}
	return fd;
}

/* Some file systems take the flag and fail the write. */
static bool takes_direct_io(const char *dir)
{
	static const _Alignas(BLOCK) char block[BLOCK];
	_cleanup_close_ int fd = nameless_file(dir);

	return fd >= 0 && fcntl(fd, F_SETFL, O_DIRECT) == 0 && write(fd, block, sizeof block) == BLOCK;
}

char *probe_qemu_file(const Probe *p)
{
	struct stat st = { 0 };

	stat(p->facts->qemu, &st);
	return g_strdup_printf("%s %" G_GUINT64_FORMAT " %" G_GINT64_FORMAT ".%09ld", p->facts->qemu,
			       (uint64_t)st.st_size, (int64_t)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
}

static HostFacts *probe(Store *local, const Folders *folders, bool fresh, GError **err)
{
	g_autoptr(HostFacts) h = host_facts_new();
	SpawnUser user;
	bool change = geteuid() == 0 && spawn_user_find(PROBE_USER, qemu_user_groups, &user);
	Probe p = {
		.facts = h, .folders = folders, .local = local, .user = change ? &user : NULL, .fresh = fresh
	};

	h->run_as = change ? g_strdup(PROBE_USER) : NULL;
	h->swtpm = g_find_program_in_path("swtpm");
	h->vhost_net = opens("/dev/vhost-net");
	h->direct_io = takes_direct_io(folders->state);
	find_firmware(&h->uefi, uefi, G_N_ELEMENTS(uefi));
	find_firmware(&h->uefi_secure, uefi_secure, G_N_ELEMENTS(uefi_secure));
	look_at_cpu(h);
	if (!find_qemu(h, err) || !probe_qemu(&p, err))
		return NULL;
	probe_accel(&p);
	return g_steal_pointer(&h);
}

HostFacts *host_probe(Store *local, const Folders *folders, GError **err)
{
	return probe(local, folders, false, err);
}

HostFacts *host_probe_fresh(Store *local, const Folders *folders, GError **err)
{
	return probe(local, folders, true, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every guest of tests/data/guest, started paused in a real QEMU.
 *
 * What can't be had in a test is replaced: kvm by tcg (the arguments for kvm
 * stay, QEMU knows their names), the host's folders by a temporary one, the
 * kernel by the payload. QEMU must accept the command line without a warning
 * of its own making, and what it then tells through QMP must agree with it.
 */
#include "base/fd.h"
#include "guest_cases.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#define QEMU "/usr/bin/qemu-system-x86_64"
#define DEADLINE_MS 120000

typedef struct Stage {
	char *dir; /* everything of this guest */
	GuestCase *guest;
	GHashTable *fd; /* name to descriptor, inherited by QEMU */
	pid_t qemu, swtpm;
	int qmp; /* our end */
	GString *unread;
} Stage;

static char *in_dir(const Stage *s, const char *name)
{
	return g_build_filename(s->dir, name, NULL);
}

static void make_file(const char *path, uint64_t size)
{
	g_autofree char *dir = g_path_get_dirname(path);
	int fd;

	g_assert_cmpint(g_mkdir_with_parents(dir, 0700), ==, 0);
	fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(ftruncate(fd, (off_t)size), ==, 0);
	close(fd);
}

static void run(const char *const *words)
{
	g_autoptr(GError) err = NULL;
	int status;

	g_spawn_sync(NULL, (char **)words, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL,
		     NULL, NULL, &status, &err);
	g_assert_no_error(err);
	g_assert_cmpint(status, ==, 0);
}

static void set_text(char **text, char *take)
{
	g_free(*text);
	*text = take;
}

/* The guest, moved into the temporary folder. */
static void stage_host(Stage *s)
{
	HostFacts *h = s->guest->host;

	set_text(&h->folders.state, in_dir(s, "state"));
	set_text(&h->folders.run, in_dir(s, "run"));
	set_text(&h->folders.log, in_dir(s, "log"));
	h->vhost_net = h->vhost_net && access("/dev/vhost-net", R_OK | W_OK) == 0;
}

static void drop_block_devices(Stage *s)
{
	Vm *vm = s->guest->vm;

	for (guint i = vm->disk->len; i-- > 0;) {
		VmDisk *d = vm->disk->pdata[i];

		if (d->path != NULL && g_str_has_prefix(d->path, "/dev/"))
			g_ptr_array_remove_index(vm->disk, i);
		else if (d->path != NULL)
			set_text(&d->path, g_strconcat(s->dir, d->path, NULL));
	}
}

static void stage_settings(Stage *s, const char *payload)
{
	static const char *const files[] = { "boot.initrd", "platform.cdrom" };
	Json *settings = s->guest->vm->settings;

	if (vm_setting(s->guest->vm, "boot.kernel") != NULL)
		json_put_str(settings, "boot.kernel", payload);
	for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
		const char *old = json_str(settings, files[i]);
		g_autofree char *path = NULL;

		if (old == NULL)
			continue;
		path = g_strconcat(s->dir, old, NULL);
		make_file(path, 1 << 20);
		json_put_str(settings, files[i], path);
	}
}

static void stage_cd(Stage *s)
{
	VmCd *cd = s->guest->vm->cd;
	g_autofree char *image = NULL;

	if (cd != NULL && cd->path != NULL) {
		set_text(&cd->path, g_strconcat(s->dir, cd->path, NULL));
		make_file(cd->path, 1 << 20);
	} else if (cd != NULL && cd->image_id != NULL) {
		image = path_image(&s->guest->host->folders, cd->image_id);
		const char *const create[] = {
			"qemu-img", "create", "-q", "-f", "qcow2", image, "16M", NULL
		};

		make_file(image, 0);
		run(create);
	}
}

static void stage_disks(Stage *s)
{
	const Vm *vm = s->guest->vm;

	g_ptr_array_unref(s->guest->disk_path);
	s->guest->disk_path = disk_paths(vm, s->guest->host);
	for (guint i = 0; i < vm->disk->len; i++) {
		const VmDisk *d = vm->disk->pdata[i];
		const char *path = s->guest->disk_path->pdata[i];
		const char *const create[] = {
			"qemu-img", "create", "-q", "-f", d->format, path, "16M", NULL
		};

		make_file(path, 0);
		run(create);
	}
}

static void start_swtpm(Stage *s)
{
	g_autofree char *dir = path_vm_tpm_dir(&s->guest->host->folders, s->guest->vm->id),
			*sock = path_vm_socket(&s->guest->host->folders, s->guest->vm->id, "swtpm"),
			*state = g_strconcat("dir=", dir, NULL),
			*ctrl = g_strconcat("type=unixio,path=", sock, NULL),
			*sock_dir = g_path_get_dirname(sock);
	const char *const words[] = { "swtpm",  "socket", "--tpm2",      "--tpmstate", state,
				      "--ctrl", ctrl,     "--terminate", NULL };
	g_autoptr(GError) err = NULL;
	gint64 until = g_get_monotonic_time() + DEADLINE_MS * 1000;

	g_assert_cmpint(g_mkdir_with_parents(dir, 0700), ==, 0);
	g_assert_cmpint(g_mkdir_with_parents(sock_dir, 0700), ==, 0);
	g_spawn_async(NULL, (char **)words, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL,
		      &s->swtpm, &err);
	g_assert_no_error(err);
	while (access(sock, F_OK) != 0) {
		g_assert_cmpint(g_get_monotonic_time(), <, until);
		g_usleep(1000);
	}
}

static int listen_on(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	g_assert_cmpuint(g_strlcpy(a.sun_path, path, sizeof a.sun_path), <, sizeof a.sun_path);
	g_assert_cmpint(bind(fd, (struct sockaddr *)&a, sizeof a), ==, 0);
	g_assert_cmpint(listen(fd, 1), ==, 0);
	return fd;
}

/* All queues of one nic belong to one interface, which goes with the last descriptor. */
static int open_tap(const char *name, bool many)
{
	struct ifreq r = { .ifr_flags =
			       (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (many ? IFF_MULTI_QUEUE : 0)) };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	g_snprintf(r.ifr_name, sizeof r.ifr_name, "pt%d%s", (int)(getpid() % 100000), name);
	if (fd >= 0 && ioctl(fd, TUNSETIFF, &r) < 0) {
		close(fd);
		return -errno;
	}
	return fd;
}

static int open_named(const Stage *s, const char *name)
{
	g_autofree char *path = NULL;
	g_auto(GStrv) part = g_strsplit(name, "-", 3);

	if (g_str_equal(part[0], "tap")) {
		const VmNic *n = vm_nic_find(s->guest->vm, part[1]);
		g_autoptr(Profile) p = profile_of_case(s->guest);

		return open_tap(part[1], profile_nic_queues(p, n) > 1);
	}
	if (g_str_equal(part[0], "vhost"))
		return open("/dev/vhost-net", O_RDWR | O_CLOEXEC);
	path = in_dir(s, name);
	return listen_on(path);
}

static char *with_numbers(const Stage *s, const char *word)
{
	g_autoptr(GString) text = g_string_new(word);
	GHashTableIter it;
	gpointer name, fd;

	g_hash_table_iter_init(&it, s->fd);
	while (g_hash_table_iter_next(&it, &name, &fd)) {
		g_autofree char *mark = g_strdup_printf("@fd:%s@", (char *)name),
				*number = g_strdup_printf("%d", GPOINTER_TO_INT(fd));

		g_string_replace(text, mark, number, 0);
	}
	return g_strdup(text->str);
}

/* Hyper-V's bits end QEMU under tcg; check_hyperv() asks for their names instead. */
static char *cpu_without_kvm(const char *cpu)
{
	g_auto(GStrv) part = g_strsplit(cpu, ",", -1);
	g_autoptr(GString) text = g_string_new(g_str_equal(part[0], "host") ? "max" : part[0]);

	for (char **p = part + 1; *p != NULL; p++)
		if (!g_str_has_prefix(*p, "hv-") && !g_str_equal(*p, "enforce"))
			g_string_append_printf(text, ",%s", *p);
	return g_strdup(text->str);
}

/* No test machine is sure to have kvm: its arguments are kept, its name and the CPU are replaced. */
static char *without_kvm(const char *option, char *take)
{
	g_autofree char *text = take;

	if (g_str_equal(option, "-accel"))
		return g_strdup("tcg");
	return g_str_equal(option, "-cpu") ? cpu_without_kvm(text) : g_steal_pointer(&text);
}

static char **words_of(const Stage *s, const Argv *argv)
{
	GPtrArray *w = g_ptr_array_new();

	g_ptr_array_add(w, g_strdup(QEMU));
	for (guint i = 1; i < argv->arg->len; i++) {
		const Arg *a = argv->arg->pdata[i];

		g_ptr_array_add(w, g_strdup(a->option));
		if (a->value != NULL)
			g_ptr_array_add(w, without_kvm(a->option, with_numbers(s, a->value)));
	}
	g_ptr_array_add(w, NULL);
	return (char **)g_ptr_array_free(w, FALSE);
}

static void start_qemu(Stage *s, char **words)
{
	g_autofree char *log = in_dir(s, "log.txt");
	int out = open(log, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	GHashTableIter it;
	gpointer fd;

	s->qemu = fork();
	g_assert_cmpint(s->qemu, >=, 0);
	if (s->qemu == 0) {
		g_hash_table_iter_init(&it, s->fd);
		while (g_hash_table_iter_next(&it, NULL, &fd))
			fcntl(GPOINTER_TO_INT(fd), F_SETFD, 0);
		dup2(out, STDOUT_FILENO);
		dup2(out, STDERR_FILENO);
		execv(words[0], words);
		_exit(127);
	}
	/* Ours would keep the sockets of a QEMU that died listening. */
	g_hash_table_remove_all(s->fd);
	close(out);
}

static char *log_of(const Stage *s)
{
	g_autofree char *path = in_dir(s, "log.txt");
	char *text = NULL;

	g_file_get_contents(path, &text, NULL, NULL);
	return text;
}

/* One line, or an abort with QEMU's last words when none comes. */
static char *read_line(Stage *s)
{
	gint64 until = g_get_monotonic_time() + DEADLINE_MS * 1000;
	char *end;

	while ((end = strchr(s->unread->str, '\n')) == NULL) {
		struct pollfd p = { .fd = s->qmp, .events = POLLIN };
		char buf[65536];
		ssize_t n;

		g_assert_cmpint(g_get_monotonic_time(), <, until);
		if (poll(&p, 1, 1000) <= 0)
			continue;
		n = read(s->qmp, buf, sizeof buf);
		if (n <= 0) {
			g_autofree char *log = log_of(s);

			g_error("%s: QEMU went away: %s", s->guest->name, log);
		}
		g_string_append_len(s->unread, buf, n);
	}
	{
		gsize len = (gsize)(end - s->unread->str);
		char *line = g_strndup(s->unread->str, len);

		g_string_erase(s->unread, 0, (gssize)len + 1);
		return line;
	}
}

/* The `return` of a command; events are passed over. */
static Json *call(Stage *s, const char *command, const char *arguments)
{
	g_autofree char *text = g_strdup_printf("{\"execute\":\"%s\",\"arguments\":%s}\n", command,
						arguments != NULL ? arguments : "{}");

	g_assert_cmpint(fd_write_all(s->qmp, text, strlen(text)), ==, 0);
	for (;;) {
		g_autofree char *line = read_line(s);
		_cleanup_json_ Json *j = json_parse(line, strlen(line), NULL);

		g_assert_nonnull(j);
		if (json_object_get(j, "error") != NULL)
			g_error("%s: %s: %s", s->guest->name, command, line);
		if (json_object_get(j, "return") != NULL)
			return json_ref(json_object_get(j, "return"));
	}
}

static void connect_qmp(Stage *s)
{
	g_autofree char *path = in_dir(s, "qmp"), *greeting = NULL;
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	g_strlcpy(a.sun_path, path, sizeof a.sun_path);
	s->qmp = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* The socket listens since before QEMU was started, and until QEMU ends. */
	if (connect(s->qmp, (struct sockaddr *)&a, sizeof a) < 0) {
		g_autofree char *log = log_of(s);

		g_error("%s: QEMU did not start: %s", s->guest->name, log);
	}
	greeting = read_line(s);
	g_assert_nonnull(strstr(greeting, "\"QMP\""));
	json_unref(call(s, "qmp_capabilities", NULL));
}

static void drop_fd(gpointer p)
{
	close(GPOINTER_TO_INT(p));
}

static Stage *stage_new(GuestCase *guest, const char *payload)
{
	Stage *s = g_new0(Stage, 1);
	g_autoptr(GError) err = NULL;

	s->guest = guest;
	s->qmp = -EBADF;
	s->unread = g_string_new(NULL);
	s->dir = g_dir_make_tmp("plimsoll-XXXXXX", &err);
	g_assert_no_error(err);
	s->fd = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, drop_fd);
	stage_host(s);
	drop_block_devices(s);
	stage_settings(s, payload);
	stage_disks(s);
	stage_cd(s);
	return s;
}

static void stage_free(Stage *s)
{
	if (s->swtpm > 0) {
		kill(s->swtpm, SIGTERM);
		waitpid(s->swtpm, NULL, 0);
	}
	if (s->qmp >= 0)
		close(s->qmp);
	g_hash_table_unref(s->fd);
	g_assert_true(dir_remove(s->dir, NULL));
	g_string_free(s->unread, TRUE);
	g_free(s->dir);
	g_free(s);
}

/* Why this guest can't be tried here; NULL when it can. */
static char *obstacle(const Stage *s, const Profile *p)
{
	bool secure = profile_is(p, PROFILE_SECURE_BOOT, "on");
	const HostFirmware *f = secure ? &s->guest->host->uefi_secure : &s->guest->host->uefi;
	g_autofree char *swtpm = g_find_program_in_path("swtpm");

	if (profile_is(p, PROFILE_FIRMWARE, "uefi") &&
	    (access(f->code, R_OK) != 0 || access(f->vars, R_OK) != 0))
		return g_strdup_printf("no %s: install ovmf", f->code);
	if (!profile_is(p, PROFILE_TPM, "none") && swtpm == NULL)
		return g_strdup("no swtpm");
	return NULL;
}

static void stage_firmware(Stage *s, const Profile *p)
{
	bool secure = profile_is(p, PROFILE_SECURE_BOOT, "on");
	const HostFirmware *f = secure ? &s->guest->host->uefi_secure : &s->guest->host->uefi;
	g_autofree char *vars = path_vm_nvram(&s->guest->host->folders, s->guest->vm->id);
	const char *const copy[] = { "cp", f->vars, vars, NULL };

	make_file(vars, 0);
	if (profile_is(p, PROFILE_FIRMWARE, "uefi"))
		run(copy);
	if (!profile_is(p, PROFILE_TPM, "none"))
		start_swtpm(s);
	if (!profile_is(p, PROFILE_SEED, "none")) {
		g_autofree char *seed = path_vm_seed(&s->guest->host->folders, s->guest->vm->id);

		make_file(seed, 368 << 10);
	}
}

/* Text of `key=` in a device's arguments; NULL when it has none. Caller frees. */
static char *member(const char *value, const char *key)
{
	g_auto(GStrv) part = g_strsplit(value, ",", -1);
	size_t n = strlen(key);

	for (char **p = part; *p != NULL; p++)
		if (g_str_has_prefix(*p, key) && (*p)[n] == '=')
			return g_strdup(*p + n + 1);
	return NULL;
}

/* Property of a device, as text. */
static char *property(Stage *s, const char *id, const char *name)
{
	g_autofree char *args =
	    g_strdup_printf("{\"path\":\"/machine/peripheral/%s\",\"property\":\"%s\"}", id, name);
	_cleanup_json_ Json *v = call(s, "qom-get", args);

	return json_is_string(v) ? g_strdup(json_string_value(v)) : json_print(v);
}

/* What the guest's scan of bus 0 finds; behind the bridge nothing is to be seen before firmware ran. */
static const Json *find_pci(const Json *buses, const char *id)
{
	const Json *dev;
	size_t i;

	json_array_foreach(json_arr(json_array_get(buses, 0), "devices"), i,
			   dev) if (g_strcmp0(json_str(dev, "qdev_id"), id) == 0) return dev;
	return NULL;
}

static void check_pci(Stage *s, const Json *buses, const char *id, const char *bus, const char *addr)
{
	int64_t slot = (int64_t)g_ascii_strtoull(addr, NULL, 16);
	g_autofree char *devfn = property(s, id, "addr"), *want = g_strdup_printf("%d", (int)slot << 3);
	const Json *dev = find_pci(buses, id);

	g_assert_cmpstr(devfn, ==, want);
	if (g_str_equal(bus, "pci.1") || g_str_equal(bus, "cd-port"))
		return;
	g_assert_nonnull(dev);
	g_assert_cmpint(json_int(dev, "slot", -1), ==, slot);
	g_assert_cmpint(json_int(dev, "function", -1), ==, 0);
}

static void check_device(Stage *s, const Json *buses, const char *value)
{
	static const char *const same[] = { "scsi-id", "nr",        "serial", "num-queues",
					    "mac",     "bootindex", "vectors" };
	g_autofree char *id = member(value, "id"), *addr = member(value, "addr"), *bus = member(value, "bus");

	g_assert_nonnull(id);
	if (addr != NULL)
		check_pci(s, buses, id, bus, addr);
	if (bus != NULL) {
		g_autofree char *parent = property(s, id, "parent_bus");

		g_assert_true(g_str_has_suffix(parent, bus));
	}
	for (size_t i = 0; i < G_N_ELEMENTS(same); i++) {
		g_autofree char *want = member(value, same[i]), *is = NULL;

		if (want == NULL)
			continue;
		is = property(s, id, same[i]);
		g_assert_cmpstr(is, ==, want);
	}
}

static bool has_property(const Json *list, const char *name)
{
	const Json *p;
	size_t i;

	json_array_foreach(list, i, p) if (g_strcmp0(json_str(p, "name"), name) == 0) return true;
	return false;
}

/* QEMU's CPUs have the properties that KVM's guests get. */
static void check_hyperv(Stage *s)
{
	_cleanup_json_ Json *list = call(s, "device-list-properties", "{\"typename\":\"max-x86_64-cpu\"}");

#define X(name, value, element) g_assert_true(has_property(list, name));
	HYPERV_TABLE(X)
#undef X
	g_assert_false(has_property(list, "hv-no-such-thing"));
}

static void check_devices(Stage *s, const Argv *argv)
{
	_cleanup_json_ Json *buses = call(s, "query-pci", NULL);
	_cleanup_json_ Json *status = call(s, "query-status", NULL), *name = call(s, "query-name", NULL);
	_cleanup_json_ Json *uuid = call(s, "query-uuid", NULL), *cpus = call(s, "query-cpus-fast", NULL);
	g_autoptr(Profile) p = profile_of_case(s->guest);

	g_assert_cmpstr(json_str(status, "status"), ==, "prelaunch");
	g_assert_cmpstr(json_str(name, "name"), ==, s->guest->vm->name);
	g_assert_cmpstr(json_str(uuid, "UUID"), ==, s->guest->vm->id);
	g_assert_cmpuint(json_array_size(cpus), ==, profile_number(p, PROFILE_VCPUS));
	for (guint i = 0; i < argv->arg->len; i++) {
		const Arg *a = argv->arg->pdata[i];

		if (g_str_equal(a->option, "-device"))
			check_device(s, buses, a->value);
	}
}

/* What QEMU may say: that an own network has no way out, that tcg lacks what the CPU model has. */
static void check_log(const Stage *s)
{
	static const char *const fine[] = { "is not connected to host network",
					    "TCG doesn't support requested feature", NULL };
	g_autofree char *text = log_of(s);
	g_auto(GStrv) line = g_strsplit(text, "\n", -1);

	for (char **l = line; *l != NULL; l++) {
		bool ok = **l == '\0';

		for (size_t i = 0; fine[i] != NULL; i++)
			ok = ok || strstr(*l, fine[i]) != NULL;
		if (!ok)
			g_error("%s: QEMU said: %s", s->guest->name, *l);
	}
}

static void quit(Stage *s)
{
	int status;

	json_unref(call(s, "quit", NULL));
	g_assert_cmpint(waitpid(s->qemu, &status, 0), ==, s->qemu);
	g_assert_cmpint(status, ==, 0);
}

static bool open_all(Stage *s, const Argv *argv)
{
	g_auto(GStrv) names = argv_fds(argv);

	for (char **n = names; *n != NULL; n++) {
		int fd = open_named(s, *n);

		if (fd < 0) {
			g_autofree char *why = g_strdup_printf("%s: %s", *n, g_strerror(-fd));

			g_test_skip(why);
			return false;
		}
		g_hash_table_insert(s->fd, g_strdup(*n), GINT_TO_POINTER(fd));
	}
	return true;
}

static void test_qemu_takes_the_command_line(gconstpointer data)
{
	GuestCase *guest = (GuestCase *)data;
	Stage *s = stage_new(guest, g_getenv("PLIMSOLL_PAYLOAD"));
	g_autoptr(Profile) p = profile_of_case(guest);
	g_autofree char *why = obstacle(s, p);
	g_autoptr(Argv) argv = argv_of_case(guest);
	g_auto(GStrv) words = NULL;

	if (why != NULL) {
		g_test_skip(why);
	} else if (open_all(s, argv)) {
		stage_firmware(s, p);
		words = words_of(s, argv);
		start_qemu(s, words);
		connect_qmp(s);
		check_devices(s, argv);
		check_hyperv(s);
		quit(s);
		check_log(s);
	}
	stage_free(s);
}

int main(int argc, char **argv)
{
	g_autoptr(GPtrArray) cases = NULL;

	g_test_init(&argc, &argv, NULL);
	if (access(QEMU, X_OK) != 0) {
		g_print("1..0 # SKIP no " QEMU "\n");
		return 0;
	}
	cases = guest_cases();
	for (guint i = 0; i < cases->len; i++) {
		const GuestCase *c = cases->pdata[i];
		g_autofree char *path = g_strconcat("/argv-qemu/", c->name, NULL);

		g_test_add_data_func(path, c, test_qemu_takes_the_command_line);
	}
	return g_test_run();
}

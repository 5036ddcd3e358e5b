/* SPDX-License-Identifier: Apache-2.0 */
/* What QEMU's user may open, and that foreign files are again what they were. As root, with the user nobody.
 */
#include "base/fd.h"
#include "engine/as_user.h"
#include "engine/grant.h"

#include <endian.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <grp.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#define OWNER 12345
#define GROUP 23456

typedef struct Rig {
	char *dir, *state;
	Store *local;
	SpawnUser user;
	struct grant_host host;
} Rig;

static char *make_dir(const char *parent, const char *name, mode_t mode)
{
	char *path = g_build_filename(parent, name, NULL);

	g_assert_cmpint(g_mkdir(path, 0700), ==, 0);
	g_assert_cmpint(chmod(path, mode), ==, 0);
	return path;
}

static bool rig_up(Rig *r)
{
	*r = (Rig){ 0 };
	if (geteuid() != 0 || !spawn_user_find("nobody", NULL, &r->user)) {
		g_test_skip("needs root and the user nobody");
		return false;
	}
	r->dir = g_dir_make_tmp("test-grant-XXXXXX", NULL);
	g_assert_cmpint(chmod(r->dir, 0711), ==, 0);
	r->state = make_dir(r->dir, "state", 0711);
	r->local = store_open("mem:", NULL);
	r->host = (struct grant_host){ .local = r->local, .state = r->state };
	return true;
}

static void rig_down(Rig *r)
{
	store_close(r->local);
	g_assert_true(dir_remove(r->dir, NULL));
	g_free(r->dir);
	g_free(r->state);
}

static char *make_file(const char *dir, const char *name, mode_t mode)
{
	char *path = g_build_filename(dir, name, NULL);

	g_assert_true(file_write_atomic(path, "disk", 4, mode, NULL));
	g_assert_cmpint(chown(path, OWNER, GROUP), ==, 0);
	g_assert_cmpint(chmod(path, mode), ==, 0);
	return path;
}

static struct stat look(const char *path)
{
	struct stat st;

	g_assert_cmpint(stat(path, &st), ==, 0);
	return st;
}

static void assert_untouched(const char *path, mode_t mode)
{
	struct stat st = look(path);

	g_assert_cmpuint(st.st_uid, ==, OWNER);
	g_assert_cmpuint(st.st_gid, ==, GROUP);
	g_assert_cmpuint(st.st_mode & 07777, ==, mode);
}

/* Not asked, done: a process of that user opens it. */
static bool user_opens(const Rig *r, const char *path, int flags)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (setgroups(0, NULL) < 0 || setresgid(r->user.gid, r->user.gid, r->user.gid) < 0 ||
		    setresuid(r->user.uid, r->user.uid, r->user.uid) < 0)
			_exit(2);
		_exit(open(path, flags | O_CLOEXEC) >= 0 ? 0 : 1);
	}
	g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
	g_assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
	return WEXITSTATUS(status) == 0;
}

static bool add(Rig *r, const char *vm, const char *path, bool readonly, GError **err)
{
	const struct grant g = {
		.vm = vm, .path = path, .readonly = readonly, .user_name = "nobody", .user = &r->user
	};

	return grant_add(&r->host, &g, err);
}

static void must_add(Rig *r, const char *vm, const char *path, bool readonly)
{
	g_autoptr(GError) e = NULL;

	add(r, vm, path, readonly, &e);
	g_assert_no_error(e);
}

static void must_remove(Rig *r, const char *vm, const char *path)
{
	g_autoptr(GError) e = NULL;

	grant_remove(&r->host, vm, path, &e);
	g_assert_no_error(e);
}

static guint records(Rig *r)
{
	g_autoptr(GPtrArray) all = store_list(r->local, GRANT_PREFIX, NULL, NULL);

	return all->len;
}

static void test_our_volume_becomes_the_users_and_stays(void)
{
	Rig r;
	g_autofree char *volume = NULL;

	if (!rig_up(&r))
		return;
	volume = make_file(r.state, "v.qcow2", 0600);
	g_assert_false(user_opens(&r, volume, O_RDONLY));
	must_add(&r, "vm1", volume, false);
	g_assert_true(user_opens(&r, volume, O_RDWR));
	g_assert_cmpuint(records(&r), ==, 0);
	must_remove(&r, "vm1", volume);
	g_assert_true(user_opens(&r, volume, O_RDWR));
	rig_down(&r);
}

static void test_what_is_read_can_not_be_written(void)
{
	Rig r;
	g_autofree char *ours = NULL, *foreign = NULL;

	if (!rig_up(&r))
		return;
	ours = make_file(r.state, "seed.iso", 0600);
	foreign = make_file(r.dir, "cd.iso", 0600);
	must_add(&r, "vm1", ours, true);
	must_add(&r, "vm1", foreign, true);
	g_assert_true(user_opens(&r, ours, O_RDONLY) && user_opens(&r, foreign, O_RDONLY));
	g_assert_false(user_opens(&r, ours, O_RDWR) || user_opens(&r, foreign, O_RDWR));
	g_assert_cmpuint(look(foreign).st_uid, ==, OWNER);
	rig_down(&r);
}

static void test_a_foreign_file_is_restored_by_its_last_user(void)
{
	Rig r;
	g_autofree char *file = NULL;

	if (!rig_up(&r))
		return;
	file = make_file(r.dir, "disk", 0640);
	must_add(&r, "vm1", file, true);
	must_add(&r, "vm2", file, false);
	g_assert_true(user_opens(&r, file, O_RDWR));
	must_remove(&r, "vm2", file);
	g_assert_true(user_opens(&r, file, O_RDONLY));
	must_remove(&r, "vm1", file);
	assert_untouched(file, 0640);
	g_assert_false(user_opens(&r, file, O_RDONLY));
	g_assert_cmpuint(records(&r), ==, 0);
	rig_down(&r);
}

static void test_done_twice_is_done_once(void)
{
	Rig r;
	g_autofree char *file = NULL;

	if (!rig_up(&r))
		return;
	file = make_file(r.dir, "disk", 0600);
	must_add(&r, "vm1", file, false);
	must_add(&r, "vm1", file, false);
	g_assert_cmpuint(records(&r), ==, 1);
	must_remove(&r, "vm1", file);
	assert_untouched(file, 0600);
	must_remove(&r, "vm1", file);
	assert_untouched(file, 0600);
	rig_down(&r);
}

static void test_a_file_that_is_open_to_all_is_left_alone(void)
{
	Rig r;
	g_autofree char *kernel = NULL;

	if (!rig_up(&r))
		return;
	kernel = make_file(r.dir, "vmlinuz", 0644);
	must_add(&r, "vm1", kernel, true);
	assert_untouched(kernel, 0644);
	g_assert_cmpuint(records(&r), ==, 0);
	must_remove(&r, "vm1", kernel);
	assert_untouched(kernel, 0644);
	rig_down(&r);
}

static void test_a_folder_in_the_way_is_named(void)
{
	Rig r;
	g_autofree char *closed = NULL, *inner = NULL, *file = NULL;
	g_autoptr(GError) e = NULL;

	if (!rig_up(&r))
		return;
	closed = make_dir(r.dir, "home", 0700);
	inner = make_dir(closed, "open", 0755);
	file = make_file(inner, "disk", 0666);
	g_assert_false(add(&r, "vm1", file, false, &e));
	g_assert_cmpint(err_code(e), ==, ERR_DENIED);
	g_assert_cmpstr(json_str(err_details(e), "folder"), ==, closed);
	g_assert_nonnull(strstr(err_advice(e), "chmod o+x"));
	assert_untouched(file, 0666);
	g_assert_cmpuint(records(&r), ==, 0);
	rig_down(&r);
}

/* The link is open to all, what it leads to is not. */
static void test_a_link_is_followed(void)
{
	Rig r;
	g_autofree char *file = NULL, *link = NULL;

	if (!rig_up(&r))
		return;
	file = make_file(r.dir, "disk", 0600);
	link = g_build_filename(r.dir, "link", NULL);
	g_assert_cmpint(symlink(file, link), ==, 0);
	must_add(&r, "vm1", link, false);
	g_assert_true(user_opens(&r, file, O_RDWR));
	/* The name may be gone when the vm stops. */
	g_assert_cmpint(g_unlink(link), ==, 0);
	must_remove(&r, "vm1", link);
	assert_untouched(file, 0600);
	rig_down(&r);
}

static void test_what_is_no_disk_is_refused(void)
{
	Rig r;
	g_autofree char *folder = NULL, *fifo = NULL;
	struct {
		const char *path;
		ErrCode code;
	} cases[3];

	if (!rig_up(&r))
		return;
	folder = make_dir(r.dir, "folder", 0700);
	fifo = g_build_filename(r.dir, "fifo", NULL);
	g_assert_cmpint(mkfifo(fifo, 0600), ==, 0);
	cases[0].path = folder, cases[0].code = ERR_INVALID;
	cases[1].path = fifo, cases[1].code = ERR_INVALID;
	cases[2].path = "/nonexistent/disk", cases[2].code = ERR_NOT_FOUND;
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autoptr(GError) e = NULL;

		g_assert_false(add(&r, "vm1", cases[i].path, false, &e));
		g_assert_cmpint(err_code(e), ==, cases[i].code);
		g_assert_nonnull(err_advice(e));
	}
	g_assert_cmpuint(look(folder).st_uid, ==, 0);
	rig_down(&r);
}

static void set_back(const char *path, mode_t mode)
{
	g_assert_cmpint(chown(path, OWNER, GROUP), ==, 0);
	g_assert_cmpint(chmod(path, mode), ==, 0);
}

/* Recorded, not yet changed; or restored, the record not yet gone: both are the file as it was. */
static void test_a_crash_between_record_and_change_loses_nothing(void)
{
	Rig r;
	g_autofree char *file = NULL;

	if (!rig_up(&r))
		return;
	file = make_file(r.dir, "disk", 0600);
	must_add(&r, "vm1", file, false);
	set_back(file, 0600);
	must_add(&r, "vm1", file, false);
	g_assert_true(user_opens(&r, file, O_RDWR));
	set_back(file, 0600);
	must_remove(&r, "vm1", file);
	assert_untouched(file, 0600);
	g_assert_cmpuint(records(&r), ==, 0);
	rig_down(&r);
}

static void test_what_others_changed_meanwhile_is_theirs(void)
{
	Rig r;
	g_autofree char *given = NULL, *replaced = NULL;

	if (!rig_up(&r))
		return;
	given = make_file(r.dir, "given", 0600);
	replaced = make_file(r.dir, "replaced", 0600);
	must_add(&r, "vm1", given, false);
	must_add(&r, "vm1", replaced, false);
	g_assert_cmpint(chown(given, 777, 778), ==, 0);
	g_assert_true(file_write_atomic(replaced, "new", 3, 0604, NULL));
	must_remove(&r, "vm1", given);
	must_remove(&r, "vm1", replaced);
	g_assert_cmpuint(look(given).st_uid, ==, 777);
	g_assert_cmpuint(look(replaced).st_uid, ==, 0);
	g_assert_cmpuint(look(replaced).st_mode & 07777, ==, 0604);
	rig_down(&r);
}

static char *make_overlay(const char *dir, const char *name, const char *backing)
{
	char *path = g_build_filename(dir, name, NULL);
	uint8_t head[512] = { 'Q', 'F', 'I', 0xfb, 0, 0, 0, 3 };
	uint64_t offset = htobe64(104);
	uint32_t len = htobe32((uint32_t)strlen(backing));

	memcpy(head + 8, &offset, sizeof offset);
	memcpy(head + 16, &len, sizeof len);
	memcpy(head + 104, backing, strlen(backing));
	g_assert_true(file_write_atomic(path, head, sizeof head, 0600, NULL));
	return path;
}

static void test_the_image_below_our_volume_becomes_readable(void)
{
	Rig r;
	g_autofree char *base = NULL, *middle = NULL, *volume = NULL;

	if (!rig_up(&r))
		return;
	base = make_file(r.state, "base.qcow2", 0600);
	middle = make_overlay(r.state, "middle.qcow2", base);
	volume = make_overlay(r.state, "volume.qcow2", middle);
	must_add(&r, "vm1", volume, false);
	g_assert_true(user_opens(&r, middle, O_RDONLY) && user_opens(&r, base, O_RDONLY));
	g_assert_false(user_opens(&r, middle, O_RDWR) || user_opens(&r, base, O_RDWR));
	rig_down(&r);
}

/* A guest writes what it likes into a raw disk, and the owner of a foreign image into that. */
static void test_a_header_opens_no_file_of_the_host(void)
{
	Rig r;
	g_autofree char *secret = NULL, *raw = NULL, *foreign = NULL;

	if (!rig_up(&r))
		return;
	secret = make_file(r.dir, "secret", 0600);
	raw = make_overlay(r.state, "volume.raw", secret);
	foreign = make_overlay(r.dir, "foreign.qcow2", secret);
	must_add(&r, "vm1", raw, false);
	must_add(&r, "vm1", foreign, false);
	assert_untouched(secret, 0600);
	g_assert_false(user_opens(&r, secret, O_RDONLY));
	rig_down(&r);
}

static void test_a_block_device_is_given_and_taken_back(void)
{
	Rig r;
	g_autofree char *device = NULL;

	if (!rig_up(&r))
		return;
	device = g_build_filename(r.dir, "device", NULL);
	if (mknod(device, S_IFBLK | 0660, makedev(7, 250)) < 0) {
		g_test_skip("device files can't be made here");
	} else {
		set_back(device, 0660);
		g_assert_cmpint(as_user_access(&r.user, device, R_OK), ==, -EACCES);
		must_add(&r, "vm1", device, false);
		g_assert_cmpint(as_user_access(&r.user, device, R_OK | W_OK), ==, 0);
		must_remove(&r, "vm1", device);
		assert_untouched(device, 0660);
	}
	rig_down(&r);
}

/* The thread that asked is root again, with its groups. */
static void test_asking_as_the_user_leaves_us_as_we_were(void)
{
	Rig r;
	g_autofree char *file = NULL;
	gid_t before[64], after[64];
	int n;

	if (!rig_up(&r))
		return;
	file = make_file(r.dir, "disk", 0600);
	n = getgroups(64, before);
	g_assert_cmpint(as_user_access(&r.user, file, R_OK), ==, -EACCES);
	g_assert_cmpint(getgroups(64, after), ==, n);
	g_assert_true(n >= 0 && memcmp(before, after, (size_t)n * sizeof before[0]) == 0);
	g_assert_cmpint(access(file, R_OK | W_OK), ==, 0);
	{
		_cleanup_close_ int fd = open(file, O_RDWR | O_CLOEXEC);

		g_assert_cmpint(fd, >=, 0);
	}
	rig_down(&r);
}

typedef struct Turn {
	Rig *r;
	const char *path;
	int n;
} Turn;

static gpointer take_turns(gpointer p)
{
	Turn *t = p;
	g_autofree char *vm = g_strdup_printf("vm%d", t->n);

	for (int i = 0; i < 50; i++) {
		must_add(t->r, vm, t->path, t->n % 2 == 0);
		g_assert_cmpint(as_user_access(&t->r->user, t->path, R_OK), ==, 0);
		must_remove(t->r, vm, t->path);
	}
	return NULL;
}

static void test_many_vms_at_once_leave_the_file_as_it_was(void)
{
	Rig r;
	g_autofree char *file = NULL;
	Turn turn[4];
	GThread *thread[4];

	if (!rig_up(&r))
		return;
	file = make_file(r.dir, "disk", 0600);
	for (int i = 0; i < 4; i++) {
		turn[i] = (Turn){ .r = &r, .path = file, .n = i };
		thread[i] = g_thread_new("turn", take_turns, &turn[i]);
	}
	for (int i = 0; i < 4; i++)
		g_thread_join(thread[i]);
	assert_untouched(file, 0600);
	g_assert_cmpuint(records(&r), ==, 0);
	rig_down(&r);
}

/* ---- who had a hand in the way ---- */

#define THIRD 777

static char *make_link(const char *dir, const char *name, const char *to, uid_t owner)
{
	char *path = g_build_filename(dir, name, NULL);

	g_assert_cmpint(symlink(to, path), ==, 0);
	g_assert_cmpint(lchown(path, owner, owner), ==, 0);
	return path;
}

static char *make_dir_of(const char *parent, const char *name, uid_t owner)
{
	char *path = make_dir(parent, name, 0711);

	g_assert_cmpint(chown(path, owner, owner), ==, 0);
	return path;
}

static void must_refuse(Rig *r, const char *path, bool readonly, const char *part)
{
	g_autoptr(GError) e = NULL;

	g_assert_false(add(r, "vm1", path, readonly, &e));
	g_assert_cmpint(err_code(e), ==, ERR_DENIED);
	g_assert_cmpstr(json_str(err_details(e), "part"), ==, part);
	g_assert_nonnull(err_advice(e));
	g_assert_cmpuint(records(r), ==, 0);
}

static void test_a_link_of_a_third_one_opens_nothing(void)
{
	Rig r;
	g_autofree char *secret = NULL, *home = NULL, *link = NULL, *folder_link = NULL, *beneath = NULL;

	if (!rig_up(&r))
		return;
	secret = make_file(r.dir, "secret", 0600);
	home = make_dir_of(r.dir, "home", THIRD);
	link = make_link(home, "disk", secret, THIRD);
	folder_link = make_link(home, "folder", r.dir, THIRD);
	beneath = g_build_filename(folder_link, "secret", NULL);
	must_refuse(&r, link, false, home);
	must_refuse(&r, link, true, home);
	must_refuse(&r, beneath, false, home);
	assert_untouched(secret, 0600);
	g_assert_cmpint(chown(home, 0, 0), ==, 0);
	must_refuse(&r, link, false, link);
	must_refuse(&r, beneath, false, folder_link);
	assert_untouched(secret, 0600);
	rig_down(&r);
}

/* It is QEMU's user's already, and so open to the one of any guest. */
static void test_a_link_of_a_third_one_leads_to_no_other_guests_disk(void)
{
	Rig r;
	g_autofree char *volume = NULL, *link = NULL;

	if (!rig_up(&r))
		return;
	volume = make_file(r.state, "v.qcow2", 0600);
	must_add(&r, "vm2", volume, false);
	link = make_link(r.dir, "disk", volume, THIRD);
	must_refuse(&r, link, false, link);
	rig_down(&r);
}

static void test_ones_own_links_and_folders_are_followed(void)
{
	Rig r;
	g_autofree char *home = NULL, *file = NULL, *link = NULL, *by_root = NULL;

	if (!rig_up(&r))
		return;
	home = make_dir_of(r.dir, "home", OWNER);
	file = make_file(home, "disk", 0600);
	link = make_link(home, "link", "../home/./disk", OWNER);
	by_root = make_link(r.dir, "by-root", "home/link", 0);
	for (int i = 0; i < 2; i++) {
		must_add(&r, "vm1", link, false);
		must_add(&r, "vm2", by_root, true);
	}
	g_assert_true(user_opens(&r, file, O_RDWR));
	must_remove(&r, "vm1", link);
	must_remove(&r, "vm2", by_root);
	assert_untouched(file, 0600);
	g_assert_cmpuint(records(&r), ==, 0);
	rig_down(&r);
}

static void test_a_folder_of_a_third_one_gives_nothing_away(void)
{
	Rig r;
	g_autofree char *home = NULL, *file = NULL, *cd = NULL;

	if (!rig_up(&r))
		return;
	home = make_dir_of(r.dir, "home", THIRD);
	file = make_file(home, "disk", 0600);
	cd = make_file(home, "cd.iso", 0644);
	must_refuse(&r, file, false, home);
	assert_untouched(file, 0600);
	/* What all may read is no secret. */
	must_add(&r, "vm1", cd, true);
	assert_untouched(cd, 0644);
	rig_down(&r);
}

static void test_a_second_name_in_an_open_folder_gives_nothing_away(void)
{
	Rig r;
	g_autofree char *open_dir = NULL, *secret = NULL, *name = NULL;

	if (!rig_up(&r))
		return;
	open_dir = make_dir(r.dir, "open", 01777);
	secret = make_file(r.dir, "secret", 0600);
	name = g_build_filename(open_dir, "disk", NULL);
	g_assert_cmpint(link(secret, name), ==, 0);
	must_refuse(&r, name, false, open_dir);
	assert_untouched(secret, 0600);
	g_assert_cmpint(g_unlink(secret), ==, 0);
	must_add(&r, "vm1", name, false);
	g_assert_true(user_opens(&r, name, O_RDWR));
	rig_down(&r);
}

static void test_a_link_in_place_of_the_file_is_not_followed_back(void)
{
	Rig r;
	g_autofree char *home = NULL, *file = NULL, *moved = NULL;

	if (!rig_up(&r))
		return;
	home = make_dir_of(r.dir, "home", OWNER);
	file = make_file(home, "disk", 0600);
	moved = g_build_filename(r.dir, "moved", NULL);
	must_add(&r, "vm1", file, false);
	g_assert_cmpint(g_rename(file, moved), ==, 0);
	g_assert_cmpint(symlink(moved, file), ==, 0);
	must_remove(&r, "vm1", file);
	g_assert_cmpuint(look(moved).st_uid, ==, r.user.uid);
	g_assert_cmpuint(records(&r), ==, 0);
	rig_down(&r);
}

static void test_a_circle_of_links_is_refused(void)
{
	Rig r;
	g_autofree char *a = NULL, *b = NULL;
	g_autoptr(GError) e = NULL;

	if (!rig_up(&r))
		return;
	a = make_link(r.dir, "a", "b", 0);
	b = make_link(r.dir, "b", "a", 0);
	g_assert_false(add(&r, "vm1", a, false, &e));
	g_assert_nonnull(err_advice(e));
	rig_down(&r);
}

typedef struct Swap {
	char *path, *real, *link;
	int stop; /* atomic */
} Swap;

/* The name is now the own file, now a link to another's. */
static gpointer swap_names(gpointer p)
{
	Swap *s = p;

	while (!g_atomic_int_get(&s->stop)) {
		g_rename(s->path, s->real);
		g_rename(s->link, s->path);
		g_rename(s->path, s->link);
		g_rename(s->real, s->path);
	}
	return NULL;
}

static void test_a_file_that_changes_places_with_a_link_gives_nothing_away(void)
{
	Rig r;
	g_autofree char *home = NULL, *secret = NULL;
	Swap s = { 0 };
	GThread *thread;

	if (!rig_up(&r))
		return;
	home = make_dir_of(r.dir, "home", THIRD);
	secret = make_file(r.dir, "secret", 0600);
	s.path = make_file(home, "disk", 0600);
	g_assert_cmpint(chown(s.path, THIRD, THIRD), ==, 0);
	s.link = make_link(home, "link", secret, THIRD);
	s.real = g_build_filename(home, "real", NULL);
	thread = g_thread_new("swap", swap_names, &s);
	for (int i = 0; i < 2000; i++) {
		add(&r, "vm1", s.path, i % 2 == 0, NULL);
		assert_untouched(secret, 0600);
		grant_remove(&r.host, "vm1", s.path, NULL);
		assert_untouched(secret, 0600);
	}
	g_atomic_int_set(&s.stop, 1);
	g_thread_join(thread);
	g_free(s.path);
	g_free(s.link);
	g_free(s.real);
	rig_down(&r);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
#define T(name) g_test_add_func("/grant/" #name, test_##name)
	T(our_volume_becomes_the_users_and_stays);
	T(what_is_read_can_not_be_written);
	T(a_foreign_file_is_restored_by_its_last_user);
	T(done_twice_is_done_once);
	T(a_file_that_is_open_to_all_is_left_alone);
	T(a_folder_in_the_way_is_named);
	T(a_link_is_followed);
	T(what_is_no_disk_is_refused);
	T(a_crash_between_record_and_change_loses_nothing);
	T(what_others_changed_meanwhile_is_theirs);
	T(the_image_below_our_volume_becomes_readable);
	T(a_header_opens_no_file_of_the_host);
	T(a_block_device_is_given_and_taken_back);
	T(asking_as_the_user_leaves_us_as_we_were);
	T(many_vms_at_once_leave_the_file_as_it_was);
	T(a_link_of_a_third_one_opens_nothing);
	T(a_link_of_a_third_one_leads_to_no_other_guests_disk);
	T(ones_own_links_and_folders_are_followed);
	T(a_folder_of_a_third_one_gives_nothing_away);
	T(a_second_name_in_an_open_folder_gives_nothing_away);
	T(a_link_in_place_of_the_file_is_not_followed_back);
	T(a_circle_of_links_is_refused);
	T(a_file_that_changes_places_with_a_link_gives_nothing_away);
#undef T
	return g_test_run();
}

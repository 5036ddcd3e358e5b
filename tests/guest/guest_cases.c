/* SPDX-License-Identifier: Apache-2.0 */
#include "guest_cases.h"

#include <string.h>

static Json *read_json(const char *name)
{
	g_autofree char *path = g_test_build_filename(G_TEST_DIST, "data", "guest", name, NULL), *text = NULL;
	g_autoptr(GError) err = NULL;
	gsize len;
	Json *j;

	g_file_get_contents(path, &text, &len, &err);
	g_assert_no_error(err);
	j = json_parse(text, len, &err);
	g_assert_no_error(err);
	return j;
}

static void case_free(gpointer p)
{
	GuestCase *c = p;

	g_free(c->name);
	host_facts_free(c->host);
	vm_free(c->vm);
	g_ptr_array_unref(c->disk_path);
	g_free(c);
}

static Vm *vm_of(const Json *j)
{
	g_autoptr(GError) err = NULL;
	Vm *vm = vm_of_json(j, &err);

	g_assert_no_error(err);
	return vm;
}

Vm *vm_of_text(const char *json)
{
	g_autoptr(GError) err = NULL;
	_cleanup_json_ Json *j = json_parse(json, strlen(json), &err);

	g_assert_no_error(err);
	return vm_of(j);
}

HostFacts *host_of_name(const char *name)
{
	_cleanup_json_ Json *hosts = read_json("hosts.json");
	g_autoptr(GError) err = NULL;
	HostFacts *h = host_facts_of_json(json_obj(hosts, name), &err);

	g_assert_no_error(err);
	return h;
}

GPtrArray *disk_paths(const Vm *vm, const HostFacts *host)
{
	GPtrArray *paths = g_ptr_array_new_with_free_func(g_free);

	for (guint i = 0; i < vm->disk->len; i++) {
		const VmDisk *d = vm->disk->pdata[i];

		g_ptr_array_add(paths, d->volume != NULL ? path_volume(&host->folders, d->volume, d->format)
							 : g_strdup(d->path));
	}
	g_ptr_array_add(paths, NULL);
	return paths;
}

GPtrArray *guest_cases(void)
{
	_cleanup_json_ Json *list = read_json("cases.json");
	GPtrArray *cases = g_ptr_array_new_with_free_func(case_free);
	const Json *item;
	size_t i;

	json_array_foreach(list, i, item)
	{
		GuestCase *c = g_new0(GuestCase, 1);

		c->name = g_strdup(json_str(item, "name"));
		c->host = host_of_name(json_str(item, "host"));
		c->vm = vm_of(json_obj(item, "vm"));
		c->disk_path = disk_paths(c->vm, c->host);
		g_ptr_array_add(cases, c);
	}
	return cases;
}

const GuestCase *guest_case(const GPtrArray *cases, const char *name)
{
	for (guint i = 0; i < cases->len; i++)
		if (g_str_equal(((GuestCase *)cases->pdata[i])->name, name))
			return cases->pdata[i];
	g_assert_not_reached();
}

Profile *profile_of_case(const GuestCase *c)
{
	g_autoptr(GError) err = NULL;
	Profile *p = profile_of(c->vm, c->host, NULL, NULL, &err);

	g_assert_no_error(err);
	return p;
}

Argv *argv_of_case(const GuestCase *c)
{
	g_autoptr(Profile) p = profile_of_case(c);
	g_autoptr(GError) err = NULL;
	Argv *a = argv_of(p, c->vm, c->host, (const char *const *)c->disk_path->pdata, &err);

	g_assert_no_error(err);
	return a;
}

void golden_check(const char *folder, const char *name, const char *text)
{
	g_autofree char *path = g_test_build_filename(G_TEST_DIST, "data", folder, name, NULL),
			*expect = NULL;
	g_autoptr(GError) err = NULL;

	if (g_strcmp0(g_getenv("PLIMSOLL_GOLDEN"), "write") == 0) {
		g_file_set_contents(path, text, -1, &err);
		g_assert_no_error(err);
		return;
	}
	g_file_get_contents(path, &expect, NULL, &err);
	g_assert_no_error(err);
	if (!g_str_equal(text, expect))
		g_test_message("%s:\n%s", path, text);
	g_assert_cmpstr(text, ==, expect);
}

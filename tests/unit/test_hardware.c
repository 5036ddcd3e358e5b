/* SPDX-License-Identifier: Apache-2.0 */
#include "core/migrate/hardware.h"

static Json *arguments(const char *text)
{
	g_auto(GStrv) line = g_strsplit(text, "\n", -1);
	Json *list = json_array();

	for (char **l = line; *l != NULL; l++) {
		g_auto(GStrv) word = g_strsplit(*l, " ", 2);
		Json *j = json_object();

		json_put_str(j, "option", word[0]);
		json_put_str(j, "value", word[0] != NULL ? word[1] : NULL);
		json_array_append_new(list, j);
	}
	return list;
}

static const struct {
	const char *what, *there, *here, *option; /* of the first difference, or NULL */
} cases[] = {
	{ "the same", "-machine q35\n-m size=512M", "-machine q35\n-m size=512M", NULL },
	{ "files are the host's", "-m 512\n-blockdev filename=/a", "-m 512\n-blockdev filename=/b,cache=none",
	  NULL },
	{ "descriptors are the host's", "-netdev tap,fds=3,vhost=on\n-device virtio-net-pci",
	  "-netdev tap,fds=7\n-device virtio-net-pci", NULL },
	{ "memory is the guest's", "-m size=512M", "-m size=1024M", "-m" },
	{ "another device", "-device a\n-device b", "-device a\n-device c", "-device" },
	{ "one device less", "-device a\n-device b", "-device a", "-device" },
	{ "one device more", "-device a", "-device a\n-device b", "-device" },
	{ "another order", "-device a\n-device b", "-device b\n-device a", "-device" },
	{ "what the host does with its memory", "-machine q35,dump-guest-core=off\n-accel tcg",
	  "-machine q35,dump-guest-core=off,mem-merge=off\n-accel tcg,tb-size=64", NULL },
	{ "another machine", "-machine q35,hpet=off,mem-merge=on", "-machine q35,hpet=on,mem-merge=on",
	  "-machine" },
	{ "another accelerator", "-accel kvm", "-accel tcg", "-accel" },
	{ "another processor", "-cpu host,+avx2", "-cpu host", "-cpu" },
};

static void test_difference(gconstpointer data)
{
	size_t i = GPOINTER_TO_SIZE(data);
	_cleanup_json_ Json *there = arguments(cases[i].there), *here = arguments(cases[i].here);
	_cleanup_json_ Json *d = hardware_differences(there, here);
	g_autoptr(GError) err = NULL;

	g_assert_true((cases[i].option == NULL) == (json_array_size(d) == 0));
	if (cases[i].option == NULL)
		return;
	g_assert_cmpstr(json_str(json_array_get(d, 0), "option"), ==, cases[i].option);
	g_assert_false(hardware_fail("web1", d, &err));
	g_assert_error(err, ERR, ERR_UNSUPPORTED);
	g_assert_nonnull(err_advice(err));
	g_assert_cmpuint(json_array_size(json_arr(err_details(err), "differences")), ==, json_array_size(d));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autofree char *path = g_strdup_printf("/migrate/hardware/%s", cases[i].what);

		g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_difference);
	}
	return g_test_run();
}

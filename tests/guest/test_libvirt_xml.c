/* SPDX-License-Identifier: Apache-2.0 */
#include "core/guest/libvirt_xml.h"
#include "core/guest/xml.h"
#include "guest_cases.h"

#include <string.h>

static char *xml_of_case(const GuestCase *c)
{
	g_autoptr(Profile) p = profile_of_case(c);

	return libvirt_xml_of(p, c->vm, c->host, (const char *const *)c->disk_path->pdata);
}

static void test_domains_are_as_written_down(void)
{
	g_autoptr(GPtrArray) cases = guest_cases();

	for (guint i = 0; i < cases->len; i++) {
		const GuestCase *c = cases->pdata[i];
		g_autofree char *xml = xml_of_case(c), *name = g_strconcat(c->name, ".xml", NULL);

		golden_check("libvirt", name, xml);
	}
}

static void validate(const GuestCase *c, const char *tool)
{
	g_autofree char *xml = xml_of_case(c), *path = NULL, *out = NULL, *errors = NULL;
	g_autoptr(GError) err = NULL;
	int fd = g_file_open_tmp("plimsoll-XXXXXX.xml", &path, &err), status;
	const char *words[] = { tool, path, "domain", NULL };

	g_assert_no_error(err);
	close(fd);
	g_assert_true(g_file_set_contents(path, xml, -1, NULL));
	g_spawn_sync(NULL, (char **)words, NULL, G_SPAWN_DEFAULT, NULL, NULL, &out, &errors, &status, &err);
	g_assert_no_error(err);
	unlink(path);
	if (status != 0)
		g_error("%s: %s%s", c->name, out, errors);
}

static void test_domains_validate(void)
{
	g_autoptr(GPtrArray) cases = guest_cases();
	g_autofree char *tool = g_find_program_in_path("virt-xml-validate");

	if (tool == NULL) {
		g_test_skip("no virt-xml-validate: install libvirt-clients and libxml2-utils");
		return;
	}
	for (guint i = 0; i < cases->len; i++)
		validate(cases->pdata[i], tool);
}

/* Lines of `want`, in this order, each as a whole line but for its indentation. */
static void assert_lines(const char *xml, const char *const *want)
{
	g_auto(GStrv) line = g_strsplit(xml, "\n", -1);

	for (char **l = line; *l != NULL && *want != NULL; l++)
		if (g_str_equal(g_strstrip(*l), *want))
			want++;
	if (*want != NULL)
		g_error("no line %s in\n%s", *want, xml);
}

/* The elements of the article that Plimsoll began with. */
static void test_windows_gets_the_article_s_elements(void)
{
	static const char *const want[] = { "<acpi/>",
					    "<apic/>",
					    "<hyperv>",
					    "<relaxed state='on'/>",
					    "<vapic state='on'/>",
					    "<spinlocks state='on' retries='8191'/>",
					    "</hyperv>",
					    "<clock offset='localtime'>",
					    "<timer name='pit' tickpolicy='delay'/>",
					    "<timer name='rtc' tickpolicy='catchup'/>",
					    "<timer name='hpet' present='no'/>",
					    "<timer name='hypervclock' present='yes'/>",
					    "</clock>",
					    NULL };
	g_autoptr(GPtrArray) cases = guest_cases();
	g_autofree char *by_type = xml_of_case(guest_case(cases, "windows"));
	g_autofree char *by_distro = xml_of_case(guest_case(cases, "windows-by-distro"));

	assert_lines(by_type, want);
	assert_lines(by_distro, want);
}

static void test_linux_gets_none_of_them(void)
{
	static const char *const none[] = { "hyperv", "tickpolicy", "localtime" };
	static const char *const want[] = { "<clock offset='utc'>", "<timer name='hpet' present='no'/>",
					    NULL };
	g_autoptr(GPtrArray) cases = guest_cases();
	g_autofree char *xml = xml_of_case(guest_case(cases, "linux"));

	for (size_t i = 0; i < G_N_ELEMENTS(none); i++)
		g_assert_null(strstr(xml, none[i]));
	assert_lines(xml, want);
}

static void test_no_text_breaks_out(void)
{
	g_autoptr(GPtrArray) cases = guest_cases();
	const GuestCase *c = guest_case(cases, "linux-direct-kernel");
	g_autofree char *xml = NULL, *tool = g_find_program_in_path("virt-xml-validate");

	json_put_str(c->vm->settings, "boot.cmdline",
		     "a='b' </cmdline><kernel>/x</kernel> & \"c\" \xef\xbf\xbf");
	c->vm->description = g_strdup("<script>\n]]>&amp;\xff");
	xml = xml_of_case(c);
	g_assert_nonnull(strstr(xml, "a=&apos;b&apos; &lt;/cmdline&gt;&lt;kernel&gt;/x&lt;/kernel&gt; &amp; "
				     "&quot;c&quot; \xef\xbf\xbd</cmdline>"));
	g_assert_nonnull(strstr(xml, "&lt;script&gt;&#10;]]&gt;&amp;amp;\xef\xbf\xbd</description>"));
	if (tool != NULL)
		validate(c, tool);
}

static void test_the_writer_ends_what_was_begun(void)
{
	Xml *x = xml_new();
	g_autofree char *text = NULL;

	xml_open(x, "a");
	xml_attr(x, "n", "1\t<");
	xml_open(x, "b");
	xml_leaf(x, "c", "x", "y", "left-out", NULL, NULL);
	xml_text(x, "d", "");
	text = xml_finish(x);
	g_assert_cmpstr(text, ==, "<a n='1&#9;&lt;'>\n  <b>\n    <c x='y'/>\n    <d></d>\n  </b>\n</a>\n");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/libvirt-xml/golden", test_domains_are_as_written_down);
	g_test_add_func("/libvirt-xml/validate", test_domains_validate);
	g_test_add_func("/libvirt-xml/windows", test_windows_gets_the_article_s_elements);
	g_test_add_func("/libvirt-xml/linux", test_linux_gets_none_of_them);
	g_test_add_func("/libvirt-xml/escaping", test_no_text_breaks_out);
	g_test_add_func("/xml/ends", test_the_writer_ends_what_was_begun);
	return g_test_run();
}

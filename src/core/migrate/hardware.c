/* SPDX-License-Identifier: Apache-2.0 */
#include "core/migrate/hardware.h"

/* In the order of the command line; what is not named here belongs to the host. */
static const char *const visible[] = { "-machine", "-accel",  "-cpu",    "-smp",    "-m",
				       "-rtc",     "-global", "-smbios", "-uuid",   "-kernel",
				       "-initrd",  "-append", "-boot",   "-device", NULL };

/* Of visible ones, parts that the guest can't see. */
static const char *const host_parts[] = { "dump-guest-core=", "mem-merge=", "tb-size=" };

static bool is_visible(const Json *arg)
{
	const char *option = json_str(arg, "option");

	return option != NULL && g_strv_contains(visible, option);
}

/* The next visible argument from *at on, or NULL; *at is behind it. */
static const Json *next(const Json *args, size_t *at)
{
	const Json *arg = NULL;

	while (arg == NULL && *at < json_array_size(args)) {
		arg = json_array_get(args, (*at)++);
		if (!is_visible(arg))
			arg = NULL;
	}
	return arg;
}

static bool is_of_host(const char *part)
{
	for (size_t i = 0; i < G_N_ELEMENTS(host_parts); i++)
		if (g_str_has_prefix(part, host_parts[i]))
			return true;
	return false;
}

/* As the guest sees it. Caller frees. */
static char *visible_value(const Json *arg)
{
	const char *option = json_str(arg, "option"), *value = json_str(arg, "value");
	g_autoptr(GString) s = g_string_new(NULL);
	g_auto(GStrv) part = NULL;

	if (value == NULL || (!g_str_equal(option, "-machine") && !g_str_equal(option, "-accel")))
		return g_strdup(value);
	part = g_strsplit(value, ",", -1);
	for (size_t i = 0; part[i] != NULL; i++)
		if (!is_of_host(part[i]))
			g_string_append_printf(s, "%s%s", s->len > 0 ? "," : "", part[i]);
	return g_strdup(s->str);
}

static bool same(const Json *a, const Json *b)
{
	g_autofree char *va = NULL, *vb = NULL;

	if (a == NULL || b == NULL || g_strcmp0(json_str(a, "option"), json_str(b, "option")) != 0)
		return false;
	va = visible_value(a);
	vb = visible_value(b);
	return g_strcmp0(va, vb) == 0;
}

Json *hardware_differences(const Json *there, const Json *here)
{
	Json *list = json_array();
	size_t i = 0, k = 0;

	for (;;) {
		const Json *a = next(there, &i), *b = next(here, &k);
		Json *d;

		if (a == NULL && b == NULL)
			return list;
		if (same(a, b))
			continue;
		d = json_object();
		json_put_str(d, "option", json_str(a != NULL ? a : b, "option"));
		json_put_str(d, "there", json_str(a, "value"));
		json_put_str(d, "here", json_str(b, "value"));
		json_array_append_new(list, d);
	}
}

bool hardware_fail(const char *vm_name, const Json *differences, GError **err)
{
	const Json *first = json_array_get(differences, 0);
	const char *there = json_str(first, "there"), *here = json_str(first, "here");

	fail_advice(
	    err, ERR_UNSUPPORTED,
	    "After its next start it has hardware that this host can give, if its settings allow that.",
	    "this host can't give '%s' the hardware that it runs with: %s %s would be %s", vm_name,
	    json_str(first, "option"), there != NULL ? there : "(nothing)",
	    here != NULL ? here : "(nothing)");
	return err_detail(err, "differences", json_deep_copy(differences));
}

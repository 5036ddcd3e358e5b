/* SPDX-License-Identifier: Apache-2.0 */
#include "core/migrate/hardware.h"

/* In the order of the command line; what is not named here belongs to the host. */
static const char *const visible[] = { "-machine", "-accel",  "-cpu",    "-smp",    "-m",
				       "-rtc",     "-global", "-smbios", "-uuid",   "-kernel",
				       "-initrd",  "-append", "-boot",   "-device", NULL };

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

static bool same(const Json *a, const Json *b)
{
	return a != NULL && b != NULL && g_strcmp0(json_str(a, "option"), json_str(b, "option")) == 0 &&
	       g_strcmp0(json_str(a, "value"), json_str(b, "value")) == 0;
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

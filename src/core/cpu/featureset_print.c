/* SPDX-License-Identifier: Apache-2.0 */
/* Featuresets as JSON, and as QEMU wants to read them. */
#include "core/cpu/featureset.h"

#include <string.h>

#define XSAVE_KEY 12 /* "62" with room */

char *featureset_print_qemu(const struct featureset *s, const struct cpu_bits *known, GError **err)
{
	struct cpu_bits unknown;
	GString *text;

	cpu_bits_minus(&unknown, &s->has, known != NULL ? known : &feature_of_qemu7);
	if (!cpu_bits_empty(&unknown)) {
		g_autofree char *names = cpu_bits_names_print(&unknown, 8);

		fail_advice(err, ERR_UNSUPPORTED, "Install a newer QEMU on the host, or use a lower set.",
			    "this QEMU does not know %s", names);
		return NULL;
	}
	if (!cpu_vendor_known(s->vendor)) {
		g_autofree char *vendor = cpu_vendor_print(s->vendor);

		fail(err, ERR_UNSUPPORTED, "'%s' is the vendor of no processor that is known", vendor);
		return NULL;
	}
	text = g_string_sized_new(1024);
	g_string_append_printf(
	    text,
	    "base,vendor=%s,family=%u,model=%u,stepping=%u,phys-bits=%u,host-phys-bits=off,"
	    "level=0x%x,xlevel=0x%x,enforce",
	    s->vendor, s->family, s->model, s->stepping, s->phys_bits, s->level, s->xlevel);
	for (unsigned i = cpu_bits_next(&s->has, 0); i < CPU_BITS; i = cpu_bits_next(&s->has, i + 1))
		g_string_append_printf(text, ",%s=on", feature_at(i)->name);
	return g_string_free(text, FALSE);
}

static Json *xsave_to_json(const struct featureset *s)
{
	Json *all = json_object();

	for (size_t i = 0; i < CPU_XSAVE_COMPONENTS; i++) {
		char key[XSAVE_KEY];
		Json *one;

		if (s->xsave[i].size == 0)
			continue;
		g_snprintf(key, sizeof(key), "%u", xsave_components[i].number);
		one = json_object();
		json_put_uint(one, "size", s->xsave[i].size);
		json_put_uint(one, "offset", s->xsave[i].offset);
		json_put(all, key, one);
	}
	return all;
}

Json *featureset_to_json(const struct featureset *s)
{
	g_autofree char *set = cpu_bits_print(&s->has), *vendor = cpu_vendor_print(s->vendor);
	Json *j = json_object();

	json_put_str(j, "set", set);
	json_put_str(j, "vendor", vendor);
	json_put_uint(j, "family", s->family);
	json_put_uint(j, "model", s->model);
	json_put_uint(j, "stepping", s->stepping);
	json_put_uint(j, "level", s->level);
	json_put_uint(j, "xlevel", s->xlevel);
	json_put_uint(j, "phys_bits", s->phys_bits);
	json_put(j, "xsave", xsave_to_json(s));
	if (s->tsc_khz != 0)
		json_put_uint(j, "tsc_khz", s->tsc_khz);
	json_put_bool(j, "tsc_scaling", s->tsc_scaling);
	return j;
}

static bool read_number(const Json *j, const char *key, uint32_t max, uint32_t *ret, GError **err)
{
	uint64_t v = json_uint(j, key, UINT64_MAX);

	if (v > max)
		return fail(err, ERR_INVALID, "a featureset has no '%s' of 0 to %u", key, max);
	*ret = (uint32_t)v;
	return true;
}

static bool read_xsave(const Json *j, struct featureset *s, GError **err)
{
	for (size_t i = 0; i < CPU_XSAVE_COMPONENTS; i++) {
		char key[XSAVE_KEY];
		const Json *one;

		g_snprintf(key, sizeof(key), "%u", xsave_components[i].number);
		one = json_object_get(j, key);
		if (one == NULL)
			continue;
		if (!read_number(one, "size", 1u << 20, &s->xsave[i].size, err) ||
		    !read_number(one, "offset", 1u << 20, &s->xsave[i].offset, err))
			return false;
	}
	return true;
}

static bool read_vendor(const Json *j, struct featureset *s, GError **err)
{
	const char *vendor = json_str(j, "vendor");

	/* A garbage vendor is escaped and longer; no record is made of such a host. */
	if (vendor == NULL || strlen(vendor) != CPU_VENDOR_LENGTH)
		return fail(err, ERR_INVALID, "a featureset has a vendor of %d bytes", CPU_VENDOR_LENGTH);
	memcpy(s->vendor, vendor, CPU_VENDOR_LENGTH + 1);
	return true;
}

bool featureset_of_json(const Json *j, struct featureset *ret, GError **err)
{
	struct featureset s = { 0 };
	struct cpu_bits unknown;
	const char *set = json_str(j, "set");

	if (set == NULL)
		return fail(err, ERR_INVALID, "a featureset has no 'set'");
	if (!cpu_bits_parse(set, &s.has, NULL, err))
		return false;
	cpu_bits_minus(&unknown, &s.has, &feature_known);
	if (!cpu_bits_empty(&unknown))
		return fail_advice(err, ERR_UNSUPPORTED,
				   "Use the version of Plimsoll that wrote it, or a newer one.",
				   "the featureset has features that this version does not know");
	if (!read_vendor(j, &s, err) || !read_number(j, "family", 0xff + 0xf, &s.family, err) ||
	    !read_number(j, "model", 0xff, &s.model, err) ||
	    !read_number(j, "stepping", 0xf, &s.stepping, err) ||
	    !read_number(j, "level", UINT32_MAX, &s.level, err) ||
	    !read_number(j, "xlevel", UINT32_MAX, &s.xlevel, err) ||
	    !read_number(j, "phys_bits", 64, &s.phys_bits, err) ||
	    !read_xsave(json_object_get(j, "xsave"), &s, err))
		return false;
	s.tsc_khz = json_uint(j, "tsc_khz", 0);
	s.tsc_scaling = json_bool(j, "tsc_scaling", false);
	*ret = s;
	return true;
}

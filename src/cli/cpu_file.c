/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cpu_file.h"
#include "base/fd.h"

#include <string.h>

static char *name_of_path(const char *path)
{
	char *name = g_path_get_basename(path), *dot = strrchr(name, '.');

	if (dot != NULL && dot != name)
		*dot = '\0';
	return name;
}

static void read_number(const Json *j, const char *key, uint32_t *ret)
{
	uint64_t v = json_uint(j, key, 0);

	*ret = v <= UINT32_MAX ? (uint32_t)v : 0;
}

/* What decode and level print: names, and beside them or below "scalars" the numbers. */
static bool read_names(const Json *j, CpuFile *f, GError **err)
{
	const Json *numbers = json_obj(j, "scalars") != NULL ? json_obj(j, "scalars") : j;
	const char *vendor = json_str(numbers, "vendor");

	f->kind = CPU_FILE_NAMES;
	if (!cpu_bits_of_json(json_arr(j, "features"), &f->set.has, err))
		return false;
	if (vendor != NULL && strlen(vendor) == CPU_VENDOR_LENGTH)
		memcpy(f->set.vendor, vendor, CPU_VENDOR_LENGTH + 1);
	read_number(numbers, "family", &f->set.family);
	read_number(numbers, "model", &f->set.model);
	read_number(numbers, "stepping", &f->set.stepping);
	read_number(numbers, "level", &f->set.level);
	read_number(numbers, "xlevel", &f->set.xlevel);
	read_number(numbers, "phys_bits", &f->set.phys_bits);
	featureset_cap(&f->set);
	return true;
}

static bool read_json(const char *text, size_t len, CpuFile *f, GError **err)
{
	_cleanup_json_ Json *j = NULL;

	if (len > HOST_RECORD_TEXT_MAX)
		return fail(err, ERR_LIMIT, "it is larger than %u bytes", HOST_RECORD_TEXT_MAX);
	j = json_parse(text, len, err);
	if (j == NULL)
		return err_advise(err, "Is it cut off? `plim host cpu --export` writes a whole host record.");
	if (json_object_get(j, "format") == NULL && json_arr(j, "features") != NULL)
		return read_names(j, f, err);
	f->kind = CPU_FILE_RECORD;
	if (!host_record_of_json(j, &f->record, err))
		return false;
	g_free(f->name);
	f->name = g_strdup(f->record.host);
	return true;
}

static bool read_dump(const char *text, size_t len, CpuFile *f, GError **err)
{
	g_autoptr(GPtrArray) cpus = cpuid_parse(text, len, err);

	if (cpus == NULL)
		return false;
	f->cpus = cpus->len;
	return featureset_of_cpus(cpus, &f->set, &f->differ, err);
}

static bool begins_json(const char *text)
{
	while (g_ascii_isspace(*text))
		text++;
	return *text == '{' || *text == '[';
}

CpuFile *cpu_file_read(const char *path, GError **err)
{
	size_t len;
	g_autofree char *text = file_read(path, CPUID_TEXT_MAX, &len, err);
	g_autoptr(CpuFile) f = NULL;
	bool ok;

	if (text == NULL) {
		err_advise(err, "Name a CPUID dump, the output of `cpuid -r`, or a host record.");
		return NULL;
	}
	f = g_new0(CpuFile, 1);
	f->path = g_strdup(path);
	f->name = name_of_path(path);
	ok = begins_json(text) ? read_json(text, len, f, err) : read_dump(text, len, f, err);
	if (!ok) {
		g_prefix_error(err, "%s: ", path);
		return NULL;
	}
	return g_steal_pointer(&f);
}

void cpu_file_free(CpuFile *f)
{
	if (f == NULL)
		return;
	g_free(f->path);
	g_free(f->name);
	host_record_done(&f->record);
	g_free(f);
}

static bool fail_no_host(const CpuFile *f, GError **err)
{
	return fail_advice(err, ERR_INVALID,
			   "Give a CPUID dump or a host record; only a guest (--vm) may be a list.",
			   "%s: a list of features is no host", f->path);
}

bool cpu_file_raw(const CpuFile *f, GuestType guest, struct featureset *ret, GError **err)
{
	switch (f->kind) {
	case CPU_FILE_DUMP:
		*ret = f->set;
		return true;
	case CPU_FILE_RECORD:
		return host_record_set(&f->record, guest, f->record.has_raw ? SET_RAW : SET_MAX, ret, err);
	case CPU_FILE_NAMES:
		break;
	}
	return fail_no_host(f, err);
}

bool cpu_file_set(const CpuFile *f, GuestType guest, SetKind kind, struct featureset *ret, GError **err)
{
	struct featureset s;

	if (f->kind == CPU_FILE_RECORD) {
		if (!host_record_set(&f->record, guest, kind, &s, err))
			return false;
	} else if (!cpu_file_raw(f, guest, &s, err)) {
		return false;
	}
	featureset_make_max(&s, NULL);
	if (f->kind == CPU_FILE_DUMP && kind == SET_DEFAULT)
		featureset_make_default(&s);
	*ret = s;
	return true;
}

void cpu_files_make_unique(GPtrArray *files)
{
	g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

	for (guint i = 0; i < files->len; i++) {
		CpuFile *f = files->pdata[i];

		if (g_hash_table_contains(seen, f->name)) {
			g_free(f->name);
			f->name = g_strdup(f->path);
		}
		if (g_hash_table_contains(seen, f->name)) {
			g_free(f->name);
			f->name = g_strdup_printf("%s#%u", f->path, i + 1);
		}
		g_hash_table_add(seen, f->name);
	}
}

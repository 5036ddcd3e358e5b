/* SPDX-License-Identifier: Apache-2.0 */
/* plim cpu: what CPUs can do, read from files; no daemon is asked. */
#include "cli/cpu_file.h"
#include "cli/nouns.h"
#include "cli/output.h"
#include "core/cpu/check.h"
#include "core/cpu/level.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define EXIT_REFUSED 3 /* of check: it can't move */
#define LINE_WIDTH 100
#define LABEL_WIDTH 14

/* ---- what they share ---- */

typedef void (*PrintFunc)(const Json *object);

/* Tables are the command's own; the name of a set is its text form. */
static bool show(const Cli *c, const Json *object, PrintFunc print, const struct cpu_bits *set, GError **err)
{
	const char *format = cli_text(c, "output");

	if (format == NULL || g_str_equal(format, "table")) {
		print(object);
		return true;
	}
	if (set != NULL && g_str_equal(format, "name")) {
		g_autofree char *text = cpu_bits_print(set);

		printf("%s\n", text);
		return true;
	}
	return output_object(c, object, err);
}

/* A label, and words that go on in lines below. */
static void print_words(const char *label, char **words)
{
	size_t column = LABEL_WIDTH;

	printf("%-*s", LABEL_WIDTH, label);
	if (*words == NULL)
		printf("-");
	for (size_t i = 0; words[i] != NULL; i++) {
		size_t n = strlen(words[i]) + 1;

		if (column + n > LINE_WIDTH && column > LABEL_WIDTH) {
			printf("\n%*s", LABEL_WIDTH, "");
			column = LABEL_WIDTH;
		}
		printf("%s%s", column == LABEL_WIDTH ? "" : " ", words[i]);
		column += n;
	}
	printf("\n");
}

static void print_array(const char *label, const Json *names)
{
	g_auto(GStrv) words = json_strv(names);

	print_words(label, words);
}

static void print_numbers(const Json *j)
{
	printf("%-*s%s\n", LABEL_WIDTH, "vendor", json_str(j, "vendor"));
	printf("%-*sfamily %" PRId64 ", model %" PRId64 ", stepping %" PRId64 "\n", LABEL_WIDTH, "processor",
	       json_int(j, "family", 0), json_int(j, "model", 0), json_int(j, "stepping", 0));
	printf("%-*s%" PRId64 "\n", LABEL_WIDTH, "phys_bits", json_int(j, "phys_bits", 0));
	printf("%-*s0x%" PRIx64 ", 0x%" PRIx64 "\n", LABEL_WIDTH, "leaves", json_int(j, "level", 0),
	       json_int(j, "xlevel", 0));
}

static void put_numbers(Json *j, const struct featureset *s)
{
	g_autofree char *vendor = cpu_vendor_print(s->vendor);

	json_put_str(j, "vendor", vendor);
	json_put_uint(j, "family", s->family);
	json_put_uint(j, "model", s->model);
	json_put_uint(j, "stepping", s->stepping);
	json_put_uint(j, "phys_bits", s->phys_bits);
	json_put_uint(j, "level", s->level);
	json_put_uint(j, "xlevel", s->xlevel);
}

static bool guest_of(const Cli *c, GuestType *ret, GError **err)
{
	*ret = GUEST_KVM;
	return cli_text(c, "guest") == NULL || guest_type_parse(cli_text(c, "guest"), ret, err);
}

static bool set_of(const Cli *c, SetKind dflt, SetKind *ret, GError **err)
{
	*ret = dflt;
	return cli_text(c, "set") == NULL || set_kind_parse(cli_text(c, "set"), ret, err);
}

static CpuFile *read_file(const char *path, GError **err)
{
	CpuFile *f = cpu_file_read(path, err);

	if (f != NULL && !cpu_bits_empty(&f->differ)) {
		g_autofree char *names = cpu_bits_names_print(&f->differ, 0);

		fprintf(stderr, "plim: note: only some of the %u CPUs of %s have %s; it is left out\n",
			f->cpus, f->name, names);
	}
	return f;
}

static void print_because(const Json *list, const char *label)
{
	const Json *item;
	size_t i;

	if (json_array_size(list) == 0)
		printf("%-*s-\n", LABEL_WIDTH, label);
	json_array_foreach((Json *)list, i, item)
	{
		printf("%-*s%s, for it needs %s\n", LABEL_WIDTH, i == 0 ? label : "", json_str(item, "name"),
		       json_str(item, "because"));
	}
}

/* ---- decode ---- */

static Json *dropped_to_json(const struct cpu_bits *raw, const struct cpu_bits *closed,
			     const struct cpu_causes *causes)
{
	Json *list = json_array();
	struct cpu_bits gone;

	cpu_bits_minus(&gone, raw, closed);
	for (unsigned i = cpu_bits_next(&gone, 0); i < CPU_BITS; i = cpu_bits_next(&gone, i + 1)) {
		g_autofree char *name = feature_print(i), *parent = feature_print(causes->parent[i]);
		Json *one = json_object();

		json_put_str(one, "name", name);
		json_put_str(one, "because", parent);
		json_array_append_new(list, one);
	}
	return list;
}

static void print_decoded(const Json *j)
{
	print_numbers(j);
	print_array("features", json_arr(j, "features"));
	print_because(json_arr(j, "dropped"), "dropped");
}

static bool cpu_decode(Cli *c, GError **err)
{
	g_autoptr(CpuFile) f = read_file(cli_arg(c, 0), err);
	_cleanup_json_ Json *j = json_object();
	struct featureset raw, closed;
	struct cpu_causes causes;
	GuestType guest;

	if (f == NULL || !guest_of(c, &guest, err) || !cpu_file_raw(f, guest, &raw, err))
		return false;
	closed = raw;
	featureset_make_max(&closed, &causes);
	put_numbers(j, &raw);
	json_put(j, "raw_features", cpu_bits_names_json(&raw.has));
	json_put(j, "features", cpu_bits_names_json(&closed.has));
	json_put(j, "dropped", dropped_to_json(&raw.has, &closed.has, &causes));
	return show(c, j, print_decoded, &closed.has, err);
}

/* ---- level ---- */

static GPtrArray *read_files(const Cli *c, GError **err)
{
	g_autoptr(GPtrArray) files = g_ptr_array_new_with_free_func((GDestroyNotify)cpu_file_free);

	for (char **a = c->args; *a != NULL; a++) {
		CpuFile *f = read_file(*a, err);

		if (f == NULL)
			return NULL;
		g_ptr_array_add(files, f);
	}
	cpu_files_make_unique(files);
	return g_steal_pointer(&files);
}

static Json *lost_to_json(const Level *l)
{
	Json *list = json_array();
	struct cpu_bits lost;

	level_lost(l, &lost);
	for (unsigned i = cpu_bits_next(&lost, 0); i < CPU_BITS; i = cpu_bits_next(&lost, i + 1)) {
		const char **hosts = level_lost_hosts(l, (FeatureId)i);
		g_autofree char *name = feature_print(i);
		Json *one = json_object();

		json_put_str(one, "name", name);
		json_put(one, "hosts", json_of_strv(hosts));
		json_array_append_new(list, one);
		g_free(hosts);
	}
	return list;
}

static Json *sole_to_json(const Level *l, const GPtrArray *files)
{
	Json *j = json_object();

	for (guint i = 0; i < files->len; i++) {
		const char *name = ((const CpuFile *)files->pdata[i])->name;
		struct cpu_bits sole;

		if (level_member(l, name) == NULL)
			continue;
		level_sole(l, name, &sole);
		json_put(j, name, cpu_bits_names_json(&sole));
	}
	return j;
}

static Json *level_to_json(const Level *l, const GPtrArray *files)
{
	const struct featureset *now = level_get(l);
	Json *j = json_object(), *scalars = json_object();

	put_numbers(scalars, now);
	json_put(j, "features", cpu_bits_names_json(&now->has));
	json_put(j, "lost", lost_to_json(l));
	json_put(j, "sole", sole_to_json(l, files));
	json_put(j, "scalars", scalars);
	return j;
}

static void print_lost(const Json *list)
{
	const Json *item;
	size_t i;

	json_array_foreach((Json *)list, i, item)
	{
		g_auto(GStrv) hosts = json_strv(json_arr(item, "hosts"));
		g_autofree char *text = g_strjoinv(", ", hosts);
		guint n = g_strv_length(hosts);

		if (n > 4)
			printf("%-*s%s: %u hosts lack it\n", LABEL_WIDTH, i == 0 ? "lost" : "",
			       json_str(item, "name"), n);
		else
			printf("%-*s%s: %s\n", LABEL_WIDTH, i == 0 ? "lost" : "", json_str(item, "name"),
			       text);
	}
}

static void print_sole(const Json *sole)
{
	const char *host;
	Json *names;

	json_object_foreach((Json *)sole, host, names)
	{
		g_auto(GStrv) words = json_strv(names);
		g_autofree char *text = g_strjoinv(", ", words);

		if (*words != NULL)
			printf("%-*swithout %s: %s\n", LABEL_WIDTH, "regained", host, text);
	}
}

static void print_level(const Json *j)
{
	print_numbers(json_obj(j, "scalars"));
	print_array("features", json_arr(j, "features"));
	print_lost(json_arr(j, "lost"));
	print_sole(json_obj(j, "sole"));
}

static void warn(const Level *l)
{
	struct cpu_bits b;
	g_autofree char *names = NULL;

	level_warnings(l, &b);
	if (cpu_bits_empty(&b))
		return;
	names = cpu_bits_names_print(&b, 0);
	fprintf(stderr, "plim: note: some hosts report %s, and guests at this level will not see it\n",
		names);
}

/* Adds the hosts of one vendor, or all when it is NULL. */
static Level *level_of(const GPtrArray *files, const struct featureset *sets, GuestType guest,
		       const char *vendor, GError **err)
{
	g_autoptr(Level) l = level_new(guest);

	for (guint i = 0; i < files->len; i++) {
		const CpuFile *f = files->pdata[i];

		if (vendor != NULL && !g_str_equal(sets[i].vendor, vendor))
			continue;
		if (!level_add(l, f->name, &sets[i], err))
			return NULL;
	}
	return g_steal_pointer(&l);
}

/* Vendors in the order of the files. */
static GPtrArray *vendors_of(const struct featureset *sets, guint n)
{
	GPtrArray *vendors = g_ptr_array_new();

	for (guint i = 0; i < n; i++)
		if (!g_ptr_array_find_with_equal_func(vendors, sets[i].vendor, g_str_equal, NULL))
			g_ptr_array_add(vendors, (gpointer)sets[i].vendor);
	return vendors;
}

static Json *hosts_of_vendor(const GPtrArray *files, const struct featureset *sets, const char *vendor)
{
	Json *hosts = json_array();

	for (guint i = 0; i < files->len; i++)
		if (g_str_equal(sets[i].vendor, vendor))
			json_array_append_new(hosts, json_string(((const CpuFile *)files->pdata[i])->name));
	return hosts;
}

/* One vendor's own level, or why it has none. */
static Json *vendor_to_json(const GPtrArray *files, const struct featureset *sets, GuestType guest,
			    const char *vendor)
{
	g_autoptr(GError) err = NULL;
	g_autoptr(Level) l = level_of(files, sets, guest, vendor, &err);
	g_autofree char *shown = cpu_vendor_print(vendor);
	_cleanup_json_ Json *level = l != NULL ? level_to_json(l, files) : NULL;
	Json *j = json_object();

	json_put_str(j, "vendor", shown);
	json_put(j, "hosts", hosts_of_vendor(files, sets, vendor));
	if (level != NULL)
		json_object_update(j, level);
	else
		json_put(j, "error", err_to_json(err));
	return j;
}

static void print_vendors(const Json *j)
{
	const Json *item;
	size_t i;

	json_array_foreach(json_arr(j, "vendors"), i, item)
	{
		printf("%s%s\n", i == 0 ? "" : "\n", json_str(item, "vendor"));
		print_array("hosts", json_arr(item, "hosts"));
		if (json_obj(item, "error") != NULL)
			printf("%-*s%s\n", LABEL_WIDTH, "no level",
			       json_str(json_obj(item, "error"), "message"));
		else
			print_level(item);
	}
}

/* The first hosts of each vendor, for the sentence. */
static char *print_mix(const Json *vendors)
{
	GString *s = g_string_new(NULL);
	const Json *item;
	size_t i;

	json_array_foreach((Json *)vendors, i, item)
	{
		const Json *hosts = json_arr(item, "hosts");
		size_t n = json_array_size(hosts);

		g_string_append_printf(s, "%s%s: %s", i == 0 ? "" : "; ", json_str(item, "vendor"),
				       json_string_value(json_array_get(hosts, 0)));
		if (n > 1)
			g_string_append_printf(s, " and %zu more", n - 1);
	}
	return g_string_free(s, FALSE);
}

/* Prints each vendor's level all the same, since that is what the hosts can be used for. */
static bool refuse_mix(const Cli *c, const GPtrArray *files, const struct featureset *sets, GuestType guest,
		       const GPtrArray *vendors, GError **err)
{
	_cleanup_json_ Json *j = json_object();
	g_autoptr(GError) refused = NULL;
	g_autofree char *mix = NULL;
	Json *list = json_array();

	for (guint i = 0; i < vendors->len; i++)
		json_array_append_new(list, vendor_to_json(files, sets, guest, vendors->pdata[i]));
	mix = print_mix(list);
	fail_advice(&refused, ERR_UNSUPPORTED,
		    "Make a pool of its own of the hosts of each vendor, or choose --guest tcg.",
		    "the hosts are of %u vendors, between which no guest can move (%s)", vendors->len, mix);
	json_put(j, "error", err_to_json(refused));
	json_put(j, "vendors", list);
	if (!show(c, j, print_vendors, NULL, err))
		return false;
	g_propagate_error(err, g_steal_pointer(&refused));
	return false;
}

static bool show_level(const Cli *c, const Level *l, const GPtrArray *files, GError **err)
{
	_cleanup_json_ Json *j = level_to_json(l, files);

	warn(l);
	return show(c, j, print_level, &level_get(l)->has, err);
}

static bool cpu_level(Cli *c, GError **err)
{
	g_autoptr(GPtrArray) files = read_files(c, err), vendors = NULL;
	g_autofree struct featureset *sets = NULL;
	g_autoptr(Level) l = NULL;
	GuestType guest;
	SetKind kind;

	if (files == NULL || !guest_of(c, &guest, err) || !set_of(c, SET_DEFAULT, &kind, err))
		return false;
	sets = g_new0(struct featureset, files->len);
	for (guint i = 0; i < files->len; i++)
		if (!cpu_file_set(files->pdata[i], guest, kind, &sets[i], err))
			return false;
	vendors = vendors_of(sets, files->len);
	if (guest == GUEST_KVM && vendors->len > 1)
		return refuse_mix(c, files, sets, guest, vendors, err);
	l = level_of(files, sets, guest, NULL, err);
	return l != NULL && show_level(c, l, files, err);
}

/* ---- remove ---- */

static void print_removed(const Json *j)
{
	print_array("features", json_arr(j, "features"));
	print_array("also dropped", json_arr(j, "also_dropped"));
}

static bool cpu_remove(Cli *c, GError **err)
{
	g_autoptr(CpuFile) f = read_file(cli_arg(c, 0), err);
	_cleanup_json_ Json *j = json_object();
	struct cpu_bits gone = { 0 }, fell;
	struct featureset s, before;
	GuestType guest;
	SetKind kind;

	if (f == NULL || !guest_of(c, &guest, err) || !set_of(c, SET_MAX, &kind, err))
		return false;
	for (char **a = c->args + 1; *a != NULL; a++) {
		struct cpu_bits some;

		if (!cpu_bits_parse_names(*a, &some, err))
			return false;
		cpu_bits_or(&gone, &gone, &some);
	}
	if (!cpu_file_set(f, guest, kind, &s, err))
		return false;
	before = s;
	featureset_remove(&s, &gone, cli_has(c, "soft") ? CLOSE_SOFT : CLOSE_HARD);
	cpu_bits_minus(&fell, &before.has, &s.has);
	cpu_bits_minus(&fell, &fell, &gone);
	json_put(j, "features", cpu_bits_names_json(&s.has));
	json_put(j, "also_dropped", cpu_bits_names_json(&fell));
	return show(c, j, print_removed, &s.has, err);
}

/* ---- check ---- */

/* A guest that booted on a host has its default set; one that is told by a list or a set has just that. */
static bool read_vm(const Cli *c, GuestType guest, struct featureset *ret, GError **err)
{
	const char *vm = cli_text(c, "vm");
	g_autoptr(CpuFile) f = NULL;
	struct featureset s = { 0 };
	SetKind kind;

	if (!set_of(c, SET_DEFAULT, &kind, err))
		return false;
	if (g_str_has_prefix(vm, "v1-") ||
	    (!g_file_test(vm, G_FILE_TEST_EXISTS) && strpbrk(vm, "/") == NULL)) {
		if (!cpu_bits_parse_names(vm, &s.has, err))
			return err_advise(err, "--vm takes a file, names (avx2,sse4.2), or a set (v1-...).");
	} else {
		f = read_file(vm, err);
		if (f == NULL)
			return false;
		s = f->set;
		if (f->kind != CPU_FILE_NAMES && !cpu_file_set(f, guest, kind, &s, err))
			return false;
		featureset_cap(&s);
	}
	*ret = s;
	return true;
}

static void print_verdict(const Json *j)
{
	const Json *reason;
	size_t i;

	printf("%s\n", g_str_equal(json_str(j, "verdict"), "ok") ? "it can move" : "it cannot move");
	json_array_foreach(json_arr(j, "reasons"), i, reason)
	{
		printf("  %s%s\n",
		       json_bool(reason, "blocks", false) ? "" : "warning: ", json_str(reason, "message"));
	}
}

/* Of a host that an admin has masked something on, the mask is what is in the way. */
static const char *why_missing(const CpuFile *host, const struct cpu_verdict *v)
{
	if (host->kind == CPU_FILE_RECORD && cpu_bits_subset(&v->missing, &host->record.masked))
		return "hidden by an admin's mask";
	return host->kind == CPU_FILE_RECORD ? "not in what it can accept" : "not in the CPU";
}

/* The max set; *ret_max is NULL for a host that runs no such guests, which is an answer and no error. */
static bool read_max(const CpuFile *host, GuestType guest, struct featureset *max,
		     const struct featureset **ret_max, GError **err)
{
	bool runs = host->kind != CPU_FILE_RECORD || host->record.guest[guest].there;

	*ret_max = runs ? max : NULL;
	return !runs || cpu_file_set(host, guest, SET_MAX, max, err);
}

static bool cpu_check_move(Cli *c, GError **err)
{
	g_autoptr(CpuFile) host = NULL;
	_cleanup_json_ Json *j = NULL;
	struct cpu_check_names names = { 0 };
	struct featureset pin, max;
	const struct featureset *offered;
	struct cpu_verdict v;
	GuestType guest;

	if (cli_text(c, "vm") == NULL || cli_text(c, "host") == NULL)
		return fail_advice(err, ERR_INVALID, "Write: plim cpu check --vm FILE|SET --host FILE",
				   "check needs a guest and a host");
	if (!guest_of(c, &guest, err) || !read_vm(c, guest, &pin, err))
		return false;
	host = read_file(cli_text(c, "host"), err);
	if (host == NULL || !read_max(host, guest, &max, &offered, err))
		return false;
	cpu_check(&pin, guest, offered, &v);
	names.host = host->name;
	names.why = why_missing(host, &v);
	j = cpu_verdict_to_json(&v, &names);
	c->exit_status = v.can ? 0 : EXIT_REFUSED;
	return show(c, j, print_verdict, NULL, err);
}

/* ---- explain ---- */

static Json *edges_to_json(FeatureId id, bool of_parent)
{
	Json *list = json_array();

	for (size_t i = 0; i < n_feature_edges; i++) {
		const struct feature_edge *e = &feature_edges[i];
		Json *one;

		if ((of_parent ? e->parent : e->feature) != id)
			continue;
		one = json_object();
		json_put_str(one, "name", feature_at(of_parent ? e->feature : e->parent)->name);
		json_put_bool(one, "hard", e->hard);
		json_put_str(one, "source", e->source);
		json_array_append_new(list, one);
	}
	return list;
}

static void print_edges(const char *label, const Json *list)
{
	const Json *item;
	size_t i;

	json_array_foreach((Json *)list, i, item)
	{
		printf("%-*s%s (%s%s)\n", LABEL_WIDTH, i == 0 ? label : "", json_str(item, "name"),
		       json_bool(item, "hard", true) ? "" : "only belongs together, ",
		       json_str(item, "source"));
	}
}

static void print_explained(const Json *j)
{
	printf("%-*s%s\n", LABEL_WIDTH, "feature", json_str(j, "name"));
	printf("%-*s%s\n", LABEL_WIDTH, "place", json_str(j, "place"));
	printf("%-*s%s%s%s\n", LABEL_WIDTH, "guests", json_str(j, "guests"),
	       json_str(j, "why") != NULL ? ": " : "", json_str(j, "why") != NULL ? json_str(j, "why") : "");
	printf("%-*ssince %s\n", LABEL_WIDTH, "QEMU", json_str(j, "qemu"));
	print_edges("needs", json_arr(j, "needs"));
	print_edges("needed by", json_arr(j, "needed_by"));
	print_array("falls with it", json_arr(j, "falls_with_it"));
}

/* What the kind means for a guest. */
static const char *kind_sentence(FeatureKind kind)
{
	static const char *const text[] = {
		"get it when every host has it",
		"get it when every host has it, though it should be shown when any host has it",
		"always get it",
		"get it only when it is asked for",
		"never get it",
	};

	return text[kind];
}

static bool cpu_explain(Cli *c, GError **err)
{
	_cleanup_json_ Json *j = json_object();
	const struct feature *f;
	struct cpu_bits below;
	g_autofree char *place = NULL;

	if (!feature_parse(cli_arg(c, 0), &f, err))
		return false;
	place = feature_place_print(f->id);
	feature_dependents(f->id, CLOSE_HARD, &below);
	json_put_str(j, "name", f->name);
	json_put_str(j, "place", place);
	json_put_uint(j, "word", f->id / 32);
	json_put_uint(j, "bit", f->id % 32);
	json_put_str(j, "kind", feature_kind_name(f->kind));
	json_put_str(j, "guests", kind_sentence(f->kind));
	json_put_str(j, "why", f->why);
	json_put_str(j, "qemu", f->since == 7 ? "7.2 or before" : "8.0 to 10.0");
	json_put(j, "needs", edges_to_json(f->id, false));
	json_put(j, "needed_by", edges_to_json(f->id, true));
	json_put(j, "falls_with_it", cpu_bits_names_json(&below));
	return show(c, j, print_explained, NULL, err);
}

static const Option guest_options[] = {
	{ "guest", 'g', OPTION_TEXT, "TYPE", "kvm (the rule) or tcg: which sets of a host record" },
	{ 0 },
};
static const Option level_options[] = {
	{ "set", 's', OPTION_TEXT, "SET", "raw, default (the rule) or max" },
	{ "guest", 'g', OPTION_TEXT, "TYPE", "kvm (the rule) or tcg; with tcg vendors may differ" },
	{ 0 },
};
static const Option remove_options[] = {
	{ "soft", 0, OPTION_FLAG, NULL, "Also what only belongs together with it" },
	{ "set", 's', OPTION_TEXT, "SET", "raw, default or max (the rule)" },
	{ "guest", 'g', OPTION_TEXT, "TYPE", "kvm (the rule) or tcg" },
	{ 0 },
};
static const Option check_options[] = {
	{ "vm", 'v', OPTION_TEXT, "FILE|SET", "The guest: the host it booted on, names, or v1-..." },
	{ "host", 0, OPTION_TEXT, "FILE", "Where it is to go" },
	{ "guest", 'g', OPTION_TEXT, "TYPE", "kvm (the rule) or tcg" },
	{ "set", 's', OPTION_TEXT, "SET", "What a guest of a FILE has: raw, default (the rule) or max" },
	{ 0 },
};

#define FILE_TEXT                                                                                            \
	"FILE is a dump of CPUID, the output of Debian's `cpuid -r`, or a host record of "                   \
	"`plim host cpu --export`. No daemon is asked."

const Command cpu_commands[] = {
	{ "cpu", "decode", "FILE", "Show what the CPU of a file can do, and what it can't use",
	  FILE_TEXT
	  " raw_features is what CPUID shows, features what is left without those that need a missing one. "
	  "With -o name the set is printed in its text form.",
	  "plim cpu decode host1.cpuid", 1, 1, NULL, GROUP_OUTPUT, guest_options, cpu_decode },
	{ "cpu", "level", "FILE...", "Show what hosts have in common, and which host costs what",
	  FILE_TEXT
	  " The default set is what a guest that boots gets; max is what one that arrives may hold; raw "
	  "is what CPUID shows. Hosts of several vendors are refused, with the level of each vendor.",
	  "plim cpu level host*.cpuid", 1, 100000, NULL, GROUP_OUTPUT, level_options, cpu_level },
	{ "cpu", "remove", "FILE FEATURE...", "Show the set without some features and what needs them",
	  FILE_TEXT, "plim cpu remove host1.cpuid avx2", 2, 1000, NULL, GROUP_OUTPUT, remove_options,
	  cpu_remove },
	{ "cpu", "check", "--vm FILE|SET --host FILE", "Say whether a guest may move to a host, and why not",
	  FILE_TEXT
	  " A guest given by a FILE has booted on that host. The exit status is 0 when it can move and 3 "
	  "when it cannot.",
	  "plim cpu check --vm host1.cpuid --host host2.cpuid", 0, 0, NULL, GROUP_OUTPUT, check_options,
	  cpu_check_move },
	{ "cpu", "explain", "FEATURE",
	  "Say where a feature is, what depends on it, and whether guests get it",
	  "Names are QEMU's; other spellings (sse4_1, lahf_lm, SSE3) are understood.",
	  "plim cpu explain avx512f", 1, 1, "cpu-features", GROUP_OUTPUT, NULL, cpu_explain },
	{ 0 },
};

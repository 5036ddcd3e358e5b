/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules against what other programs and real CPUs say: dumps of CPUID, and the answers of Xen, XAPI,
 * libvirt and QEMU. They are not part of this repository: PLIMSOLL_CPU_CORPUS names the folder, otherwise it
 * is looked for beside the sources. Each test says how many rows hold, and why one was left out.
 */
#include "core/cpu/check.h"
#include "core/cpu/level.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define XEN_WORDS 19
#define FIELDS 16

/* ---- reading the corpus ---- */

static char *corpus_path(const char *name)
{
	const char *env = g_getenv("PLIMSOLL_CPU_CORPUS");

	return g_build_filename(env != NULL && *env != '\0' ? env : CPU_CORPUS, name, NULL);
}

struct table {
	GPtrArray *rows; /* char ** */
	char **head;
};

static void table_done(struct table *t)
{
	if (t->rows != NULL)
		g_ptr_array_unref(t->rows);
	g_strfreev(t->head);
}

#define _cleanup_table_ __attribute__((cleanup(table_done)))

static void table_read(const char *name, struct table *ret)
{
	g_autofree char *path = corpus_path(name), *text = NULL;
	g_auto(GStrv) lines = NULL;

	g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
	lines = g_strsplit(text, "\n", -1);
	ret->rows = g_ptr_array_new_with_free_func((GDestroyNotify)g_strfreev);
	for (char **l = lines; *l != NULL; l++) {
		char **fields;

		if (**l == '#' || **l == '\0')
			continue;
		fields = g_strsplit(*l, "\t", FIELDS);
		if (ret->head == NULL)
			ret->head = fields;
		else
			g_ptr_array_add(ret->rows, fields);
	}
	g_assert_nonnull(ret->head);
	g_assert_cmpuint(ret->rows->len, >, 0);
}

static const char *field(const struct table *t, guint row, const char *name)
{
	char **fields = t->rows->pdata[row];

	for (guint i = 0; t->head[i] != NULL; i++)
		if (g_str_equal(t->head[i], name) && i < g_strv_length(fields))
			return fields[i];
	g_error("no column %s", name);
}

static void read_dump(const char *host, struct featureset *ret)
{
	g_autofree char *name = g_strconcat("dumps/", host, ".cpuid", NULL), *path = corpus_path(name),
			*text = NULL;
	g_autoptr(GPtrArray) cpus = NULL;
	g_autoptr(GError) err = NULL;
	struct cpu_bits differ;
	gsize len;

	g_assert_true(g_file_get_contents(path, &text, &len, NULL));
	cpus = cpuid_parse(text, len, &err);
	g_assert_no_error(err);
	g_assert_cmpuint(cpus->len, ==, 1);
	g_assert_true(featureset_of_cpus(cpus, ret, &differ, &err));
	g_assert_true(cpu_bits_empty(&differ));
}

/* ---- telling ---- */

struct count {
	const char *file;
	unsigned rows, held, left;
};

static void leave_out(struct count *c, const char *row, const char *why)
{
	c->left++;
	g_test_message("%s: left out %s: %s", c->file, row, why);
}

static void hold(struct count *c, bool ok, const char *row)
{
	if (ok)
		c->held++;
	else
		g_test_message("%s: FAILED %s", c->file, row);
}

static void finish(const struct count *c)
{
	g_test_message("%s: %u of %u rows hold, %u left out", c->file, c->held, c->rows, c->left);
	g_assert_cmpuint(c->rows, >, 0);
	g_assert_cmpuint(c->held + c->left, ==, c->rows);
	g_assert_cmpuint(c->held, >, c->left);
}

/* ---- sets of others ---- */

/* Names this table has no feature for: shown by libvirt only, or no features of a CPU. */
static bool is_foreign(const char *name)
{
	static const char *const names[] = { /* libvirt: cache monitoring, what the operating system has
						switched on, keys of the platform */
					     "cmt", "cqm", "mbm_total", "mbm_local", "osxsave", "ospke",
					     "pconfig", "cvt16",
					     /* libvirt's own of VMX: memory types, and a bit that QEMU calls
						the second of vmx-invept-single-context */
					     "vmx-ept-uc", "vmx-ept-wb", "vmx-invvpid-single-context",
					     "vmx-invvpid-single-context-noglobals", NULL
	};

	return g_strv_contains(names, name);
}

/* Names by blanks; what is not known must be foreign, or a property of QEMU. */
static struct cpu_bits known_of(const char *list, const char *const *others)
{
	g_auto(GStrv) words = g_strsplit_set(list, " ,", -1);
	struct cpu_bits b = { 0 };

	for (char **w = words; *w != NULL; w++) {
		const struct feature *f;

		if (**w == '\0' || g_str_equal(*w, "-"))
			continue;
		f = feature_find(*w);
		if (f != NULL)
			cpu_bits_set(&b, f->id);
		else if (!is_foreign(*w) && (others == NULL || !g_strv_contains(others, *w)))
			g_error("there is no feature %s", *w);
	}
	return b;
}

/* The places of Xen's words. */
static const char *const xen_words[XEN_WORDS] = {
	"1.0.edx", "1.0.ecx",        "80000001.0.edx", "80000001.0.ecx", "d.1.eax",
	"7.0.ebx", "7.0.ecx",        "80000007.0.edx", "80000008.0.ebx", "7.0.edx",
	"7.1.eax", "80000021.0.eax", "7.1.ebx",        "7.2.edx",        "7.1.ecx",
	"7.1.edx", "msr10a.lo",      "msr10a.hi",      "80000021.0.ecx"
};

static size_t word_named(const char *name)
{
	for (size_t i = 0; i < n_feature_words; i++)
		if (g_str_equal(feature_words[i].name, name))
			return i;
	return CPU_WORDS;
}

/* Only bits that both tables name. */
static struct cpu_bits xen_set(const char *text)
{
	g_auto(GStrv) words = g_strsplit(text, "-", -1);
	struct cpu_bits b = { 0 };

	g_assert_cmpuint(g_strv_length(words), ==, XEN_WORDS);
	for (size_t i = 0; i < XEN_WORDS; i++) {
		size_t w = word_named(xen_words[i]);

		if (w < CPU_WORDS)
			b.word[w] = (uint32_t)g_ascii_strtoull(words[i], NULL, 16);
	}
	cpu_bits_and(&b, &b, &feature_known);
	return b;
}

/* Bits that both tables name. */
static struct cpu_bits xen_mask(void)
{
	static const char *const files[] = { "features-qemu72.tsv", "features-qemu10-added.tsv" };
	struct cpu_bits b = { 0 };

	for (size_t n = 0; n < G_N_ELEMENTS(files); n++) {
		_cleanup_table_ struct table t = { 0 };

		table_read(files[n], &t);
		for (guint i = 0; i < t.rows->len; i++)
			if (strcmp(field(&t, i, "xen_name"), "-") != 0)
				cpu_bits_set(&b, feature_find(field(&t, i, "name"))->id);
	}
	return b;
}

/* Features that rules take away which Xen has not: those of others, or, for `soft`, those that only belong
 * together. */
static struct cpu_bits not_xens(bool soft)
{
	struct cpu_bits b = { 0 };

	for (size_t e = 0; e < n_feature_edges; e++) {
		const struct feature_edge *edge = &feature_edges[e];

		if (soft ? !edge->hard : strstr(edge->source, "xen") == NULL)
			cpu_bits_set(&b, edge->feature);
	}
	return b;
}

static bool same_but(const struct cpu_bits *a, const struct cpu_bits *b, const struct cpu_bits *mask)
{
	struct cpu_bits x, y, gone;
	g_autofree char *more = NULL, *less = NULL;

	cpu_bits_and(&x, a, mask);
	cpu_bits_and(&y, b, mask);
	if (cpu_bits_equal(&x, &y))
		return true;
	cpu_bits_minus(&gone, &x, &y);
	more = cpu_bits_names_print(&gone, 0);
	cpu_bits_minus(&gone, &y, &x);
	less = cpu_bits_names_print(&gone, 0);
	g_test_message("ours has also: %s; it lacks: %s", more, less);
	return false;
}

/* ---- facts ---- */

static void test_names_and_places(void)
{
	static const char *const files[] = { "features-qemu72.tsv", "features-qemu10-added.tsv" };

	for (size_t n = 0; n < G_N_ELEMENTS(files); n++) {
		struct count c = { .file = files[n] };
		_cleanup_table_ struct table t = { 0 };

		table_read(files[n], &t);
		for (guint i = 0; i < t.rows->len; i++) {
			const struct feature *f = feature_find(field(&t, i, "name"));
			unsigned bit = (unsigned)atoi(field(&t, i, "bit"));
			const struct feature_word *w;

			c.rows++;
			g_assert_nonnull(f);
			w = &feature_words[f->id / 32];
			hold(&c,
			     g_str_equal(f->name, field(&t, i, "name")) && f->since == (n == 0 ? 7 : 10) &&
				 w->index == g_ascii_strtoull(field(&t, i, "index"), NULL, 16) &&
				 w->subleaf == g_ascii_strtoull(field(&t, i, "subleaf"), NULL, 16) &&
				 (f->id % 32 == bit % 32 ||
				  (f->twin != FEATURE_NONE && f->twin % 32 == bit % 32)) &&
				 (w->kind == WORD_CPUID) == g_str_equal(field(&t, i, "kind"), "cpuid"),
			     f->name);
		}
		finish(&c);
	}
}

static void test_dependencies(void)
{
	struct count c = { .file = "deps.tsv" };
	_cleanup_table_ struct table t = { 0 };

	table_read(c.file, &t);
	for (guint i = 0; i < t.rows->len; i++) {
		const struct feature *f = feature_find(field(&t, i, "feature")),
				     *parent = feature_find(field(&t, i, "depends_on"));
		bool hard = g_str_equal(field(&t, i, "kind"), "hard"), found = false;

		for (size_t e = 0; e < n_feature_edges; e++)
			found |= feature_edges[e].feature == f->id && feature_edges[e].parent == parent->id &&
				 feature_edges[e].hard == hard;
		c.rows++;
		hold(&c, found, f->name);
	}
	finish(&c);
}

/* ---- dumps ---- */

static void test_numbers_of_dumps(void)
{
	struct count c = { .file = "index.tsv" };
	_cleanup_table_ struct table t = { 0 };

	table_read(c.file, &t);
	for (guint i = 0; i < t.rows->len; i++) {
		struct featureset s;

		read_dump(field(&t, i, "name"), &s);
		c.rows++;
		hold(&c,
		     g_str_equal(s.vendor, field(&t, i, "vendor")) &&
			 s.family == (uint32_t)atoi(field(&t, i, "family")) &&
			 s.model == (uint32_t)atoi(field(&t, i, "model")) &&
			 s.stepping == (uint32_t)atoi(field(&t, i, "stepping")) &&
			 s.phys_bits == (uint32_t)atoi(field(&t, i, "phys_bits")) &&
			 s.level == g_ascii_strtoull(field(&t, i, "max_basic"), NULL, 16) &&
			 s.xlevel == g_ascii_strtoull(field(&t, i, "max_ext"), NULL, 16),
		     field(&t, i, "name"));
	}
	finish(&c);
}

/* libvirt hides TSX of the Haswell parts whose TSX has an erratum, whatever CPUID says. */
static bool has_tsx_erratum(const struct featureset *s)
{
	return g_str_equal(s->vendor, "GenuineIntel") && s->family == 6 &&
	       (s->model == 60 || s->model == 69 || s->model == 70 || (s->model == 63 && s->stepping < 4));
}

static void test_features_of_dumps(void)
{
	struct count c = { .file = "libvirt-decode.tsv" };
	_cleanup_table_ struct table t = { 0 }, map = { 0 };
	struct cpu_bits named = { 0 };

	table_read(c.file, &t);
	table_read("libvirt-feature-map.tsv", &map);
	for (guint i = 0; i < map.rows->len; i++) {
		const struct feature *f = feature_find(field(&map, i, "name"));

		g_assert_true(f != NULL || is_foreign(field(&map, i, "name")));
		if (f != NULL)
			cpu_bits_set(&named, f->id);
	}
	for (guint i = 0; i < t.rows->len; i++) {
		struct cpu_bits expected = known_of(field(&t, i, "features"), NULL);
		struct featureset s;

		read_dump(field(&t, i, "host"), &s);
		if (has_tsx_erratum(&s)) {
			cpu_bits_clear(&s.has, feature_find("hle")->id);
			cpu_bits_clear(&s.has, feature_find("rtm")->id);
		}
		c.rows++;
		hold(&c, same_but(&s.has, &expected, &named), field(&t, i, "host"));
	}
	finish(&c);
}

/* Xen reads MSR 10a only where CPUID says that it is there. */
static void drop_unread_msr(struct cpu_bits *b)
{
	struct cpu_bits below;
	FeatureId arch = feature_find("arch-capabilities")->id;

	feature_dependents(arch, CLOSE_HARD, &below);
	if (!cpu_bits_has(b, arch))
		cpu_bits_minus(b, b, &below);
}

static void test_closed_sets_of_dumps(void)
{
	struct count c = { .file = "xen-host-featuresets.tsv" };
	_cleanup_table_ struct table t = { 0 };
	struct cpu_bits mask = xen_mask(), soft = not_xens(true), hard;

	cpu_bits_minus(&hard, &mask, &soft);
	table_read(c.file, &t);
	for (guint i = 0; i < t.rows->len; i++) {
		const char *host = field(&t, i, "host");
		struct cpu_bits raw = xen_set(field(&t, i, "raw")), closed = xen_set(field(&t, i, "sane"));
		struct featureset s;
		bool ok;

		read_dump(host, &s);
		drop_unread_msr(&s.has);
		ok = same_but(&s.has, &raw, &mask);
		featureset_make_max(&s, NULL);
		c.rows++;
		hold(&c, ok && same_but(&s.has, &closed, &hard), host);
	}
	finish(&c);
}

/* ---- Xen ---- */

/* Xen takes these groups apart with their parent too; here they only belong together. */
static bool names_a_group(const char *removed)
{
	static const char *const groups[] = { "IBRS", "IBRSB", "IBPB", "AMD_STIBP",
					      "PSFD", "EIBRS", "NX",   NULL };
	g_auto(GStrv) names = g_strsplit(removed, ",", -1);

	for (char **n = names; *n != NULL; n++)
		if (g_strv_contains(groups, *n))
			return true;
	return false;
}

static void test_closing_is_xens(void)
{
	struct count c = { .file = "xen-closure.tsv" };
	_cleanup_table_ struct table t = { 0 };
	struct cpu_bits mask = xen_mask(), soft = not_xens(true), other = not_xens(false), hard_mask,
			soft_mask;

	cpu_bits_minus(&soft_mask, &mask, &other);
	cpu_bits_minus(&hard_mask, &soft_mask, &soft);
	table_read(c.file, &t);
	for (guint i = 0; i < t.rows->len; i++) {
		const char *removed = field(&t, i, "removed");
		struct cpu_bits b = xen_set(field(&t, i, "input")),
				expected = xen_set(field(&t, i, "expected"));
		g_autofree char *row = g_strdup_printf("%s without %s", field(&t, i, "host"), removed);

		bool group = names_a_group(removed);

		c.rows++;
		cpu_bits_close(&b, group ? CLOSE_SOFT : CLOSE_HARD, NULL);
		hold(&c, same_but(&b, &expected, group ? &soft_mask : &hard_mask), row);
	}
	finish(&c);
}

static void test_level_is_xens(void)
{
	struct count c = { .file = "xen-pool-level.tsv" };
	_cleanup_table_ struct table t = { 0 }, sets = { 0 };
	struct cpu_bits mask = xen_mask();

	table_read(c.file, &t);
	table_read("xen-host-featuresets.tsv", &sets);
	for (guint i = 0; i < t.rows->len; i++) {
		g_auto(GStrv) hosts = g_strsplit(field(&t, i, "pool_hosts"), ",", -1);
		g_autoptr(Level) l = level_new(GUEST_KVM);
		struct cpu_bits expected = xen_set(field(&t, i, "level"));

		for (char **h = hosts; *h != NULL; h++) {
			struct featureset s;

			read_dump(*h, &s);
			for (guint k = 0; k < sets.rows->len; k++)
				if (g_str_equal(field(&sets, k, "host"), *h))
					s.has = xen_set(field(&sets, k, "hvm_hap_default"));
			featureset_make_max(&s, NULL);
			g_assert_true(level_add(l, *h, &s, NULL));
		}
		c.rows++;
		hold(&c, same_but(&level_get(l)->has, &expected, &mask), field(&t, i, "pool_hosts"));
	}
	finish(&c);
}

/* Names of Xen that a check here can name too: hypervisor is given by every host. False when there are none.
 */
static bool named_by_both(const char *list, struct cpu_bits *ret)
{
	g_auto(GStrv) names = g_strsplit(list, ",", -1);

	*ret = (struct cpu_bits){ 0 };
	for (char **n = names; *n != NULL; n++) {
		const struct feature *f = feature_find(*n);

		if (f != NULL && f->kind != FEATURE_ALWAYS)
			cpu_bits_set(ret, f->id);
	}
	return !cpu_bits_empty(ret);
}

static void test_moves_are_xens(void)
{
	struct count c = { .file = "xen-migration.tsv" };
	_cleanup_table_ struct table t = { 0 };

	table_read(c.file, &t);
	for (guint i = 0; i < t.rows->len; i++) {
		const char *missing = field(&t, i, "missing");
		struct cpu_bits expected;
		struct featureset from, to, pin = { .has = xen_set(field(&t, i, "vm_features")) },
					    max = { .has = xen_set(field(&t, i, "dest_max")) };
		g_autofree char *row =
		    g_strdup_printf("%s to %s", field(&t, i, "boot_host"), field(&t, i, "dest_host"));
		bool ok = g_str_equal(field(&t, i, "verdict"), "ok");
		struct cpu_verdict v;

		read_dump(field(&t, i, "boot_host"), &from);
		read_dump(field(&t, i, "dest_host"), &to);
		memcpy(pin.vendor, from.vendor, sizeof(pin.vendor));
		memcpy(max.vendor, to.vendor, sizeof(max.vendor));
		cpu_check(&pin, GUEST_KVM, &max, &v);
		c.rows++;
		if (g_str_equal(missing, "vendor")) {
			hold(&c, !ok && !v.can && memcmp(from.vendor, to.vendor, sizeof(from.vendor)) != 0,
			     row);
			continue;
		}
		if (!named_by_both(missing, &expected) && !ok)
			leave_out(&c, row,
				  "it lacks only the hypervisor bit, or bits that QEMU has no name for");
		else
			hold(&c, v.can == ok && same_but(&v.missing, &expected, &feature_known), row);
	}
	finish(&c);
}

/* ---- XAPI ---- */

/* The text form without its prefix; NULL for the set of no words, which is "no host yet" here. */
static bool xapi_set(const char *text, struct cpu_bits *ret, size_t *words)
{
	g_autofree char *full = g_strconcat("v1-", text, NULL);

	*ret = (struct cpu_bits){ 0 };
	*words = 0;
	return !g_str_equal(text, "(empty)") && cpu_bits_parse(full, ret, words, NULL);
}

static bool words_are(const struct cpu_bits *b, const char *numbers, guint base)
{
	g_auto(GStrv) words = g_strsplit_set(numbers, " -", -1);
	struct cpu_bits expected = { 0 };

	for (size_t i = 0; words[i] != NULL; i++)
		expected.word[i] = (uint32_t)g_ascii_strtoull(words[i], NULL, base);
	return cpu_bits_equal(b, &expected);
}

/* What the level of a pool is when these hosts come one after the other: none is no host. */
static bool xapi_intersect(const struct cpu_bits *a, bool has_a, const struct cpu_bits *b, bool has_b,
			   const char *expected)
{
	struct cpu_bits both;

	if (has_a && has_b)
		cpu_bits_and(&both, a, b);
	else
		both = has_a ? *a : *b;
	return words_are(&both, expected, 16);
}

static bool xapi_op(const char *op, const char *a, const char *b, const char *expected)
{
	struct cpu_bits x, y;
	size_t nx, ny;
	bool has_x = xapi_set(a, &x, &nx), has_y = xapi_set(b, &y, &ny);
	g_autofree char *text = NULL;

	if (g_str_equal(op, "parse_error"))
		return !has_x;
	if (g_str_equal(op, "to_string")) {
		struct cpu_bits numbers = { 0 };
		g_auto(GStrv) words = g_strsplit(a, " ", -1);

		for (size_t i = 0; words[i] != NULL; i++)
			numbers.word[i] = (uint32_t)g_ascii_strtoull(words[i], NULL, 10);
		text = cpu_bits_print(&numbers);
		return g_str_equal(text + strlen("v1-"), expected);
	}
	if (g_str_equal(op, "from_string"))
		return has_x && words_are(&x, expected, 10);
	if (g_str_equal(op, "zero_extend"))
		return words_are(&x, expected, 16) || !has_x;
	if (g_str_equal(op, "intersect"))
		return xapi_intersect(&x, has_x, &y, has_y, expected);
	if (g_str_equal(op, "extend")) {
		cpu_bits_extend(&x, nx, &y);
		return words_are(&x, expected, 16);
	}
	if (g_str_equal(op, "equal"))
		return (cpu_bits_equal(&x, &y) && has_x == has_y) == g_str_equal(expected, "true");
	if (g_str_equal(op, "subset"))
		return cpu_bits_subset(&x, &y) == g_str_equal(expected, "true");
	g_assert_cmpstr(op, ==, "strict_subset");
	return (cpu_bits_subset(&x, &y) && !cpu_bits_equal(&x, &y)) == g_str_equal(expected, "true");
}

/* NULL when the rule holds here too. */
static const char *xapi_differs(const char *op, const char *a, const char *b, const char *expected)
{
	bool empty_a = g_str_equal(a, "(empty)"), empty_b = g_str_equal(b, "(empty)"),
	     empty = g_str_equal(expected, "(empty)");

	if (strstr(op, "subset") != NULL && (empty_a || empty_b))
		return "a set of no words is no set here, and nothing is a subset of it";
	if ((g_str_equal(op, "to_string") || g_str_equal(op, "from_string")) && empty_a)
		return "a set has one word at least; no set is a NULL pointer";
	if ((g_str_equal(op, "extend") || g_str_equal(op, "zero_extend")) && empty)
		return "a set has always 64 words here, so none are cut off";
	return NULL;
}

static void test_operations_are_xapis(void)
{
	struct count c = { .file = "xapi-featureset-ops.tsv" };
	_cleanup_table_ struct table t = { 0 };

	table_read(c.file, &t);
	for (guint i = 0; i < t.rows->len; i++) {
		const char *op = field(&t, i, "op"), *a = field(&t, i, "a"), *b = field(&t, i, "b"),
			   *expected = field(&t, i, "expected");
		g_autofree char *row = g_strdup_printf("%s %s %s", op, a, b);
		const char *why = xapi_differs(op, a, b, expected);

		c.rows++;
		if (why != NULL)
			leave_out(&c, row, why);
		else
			hold(&c, xapi_op(op, a, b, expected), row);
	}
	finish(&c);
}

static void test_moves_are_xapis(void)
{
	struct count c = { .file = "xapi-migration.tsv" };
	_cleanup_table_ struct table t = { 0 };

	table_read(c.file, &t);
	for (guint i = 0; i < t.rows->len; i++) {
		struct featureset pin = { 0 }, max = { 0 };
		g_autofree char *vm = g_strdup_printf("v1-%s", field(&t, i, "vm_features")),
				*host = g_strdup_printf("v1-%s", field(&t, i, "host_max"));
		bool ok = g_str_equal(field(&t, i, "verdict"), "ok");
		struct cpu_verdict v;

		g_strlcpy(pin.vendor, field(&t, i, "vm_vendor"), sizeof(pin.vendor));
		g_strlcpy(max.vendor, field(&t, i, "host_vendor"), sizeof(max.vendor));
		g_assert_true(cpu_bits_parse(vm, &pin.has, NULL, NULL));
		g_assert_true(cpu_bits_parse(host, &max.has, NULL, NULL));
		cpu_check(&pin, GUEST_KVM, &max, &v);
		c.rows++;
		hold(&c, v.can == ok && (ok || v.n > 0), field(&t, i, "vm_vendor"));
	}
	finish(&c);
}

/* ---- libvirt ---- */

/* True when every host can join the pool of the first. */
static bool one_vendor(char **hosts)
{
	g_autoptr(Level) l = level_new(GUEST_KVM);
	bool ok = true;

	for (char **h = hosts; *h != NULL; h++) {
		struct featureset s;

		read_dump(*h, &s);
		featureset_make_max(&s, NULL);
		ok = level_add(l, *h, &s, NULL) && ok;
	}
	return ok;
}

static struct cpu_bits common_of(const struct table *kvm, char **hosts)
{
	struct cpu_bits common = feature_known;

	for (char **h = hosts; *h != NULL; h++)
		for (guint k = 0; k < kvm->rows->len; k++)
			if (g_str_equal(field(kvm, k, "host"), *h)) {
				struct cpu_bits one = known_of(field(kvm, k, "features"), NULL);

				cpu_bits_and(&common, &common, &one);
			}
	return common;
}

static void test_levels_are_libvirts(void)
{
	struct count c = { .file = "libvirt-baseline-random.tsv" };
	_cleanup_table_ struct table t = { 0 }, kvm = { 0 };

	table_read(c.file, &t);
	table_read("libvirt-kvm-features.tsv", &kvm);
	for (guint i = 0; i < t.rows->len; i++) {
		const char *list = field(&t, i, "expected_features");
		g_auto(GStrv) hosts = g_strsplit(field(&t, i, "hosts"), ",", -1);
		bool refused = g_str_has_prefix(list, "ERROR: operation failed: CPU vendors do not match");

		c.rows++;
		if (refused) {
			hold(&c, !one_vendor(hosts), field(&t, i, "hosts"));
		} else {
			struct cpu_bits common = common_of(&kvm, hosts), expected = known_of(list, NULL);

			hold(&c, one_vendor(hosts) && same_but(&common, &expected, &feature_known),
			     field(&t, i, "hosts"));
		}
	}
	finish(&c);
}

static struct cpu_bits bits_of_array(const Json *names)
{
	g_auto(GStrv) words = json_strv(names);
	g_autofree char *list = g_strjoinv(" ", words);

	return known_of(list, NULL);
}

static void test_baselines_are_libvirts(void)
{
	struct count c = { .file = "libvirt-baseline.json" };
	g_autofree char *path = corpus_path(c.file), *text = NULL;
	_cleanup_json_ Json *j = NULL;
	struct cpu_bits all = feature_known;
	const Json *one, *input;
	size_t i, k;
	gsize len;

	g_assert_true(g_file_get_contents(path, &text, &len, NULL));
	j = json_parse(text, len, NULL);
	json_array_foreach(json_arr(j, "cases"), i, one)
	{
		const char *name = json_str(one, "name");
		struct cpu_bits level = feature_known, expected;

		c.rows++;
		if (json_obj(one, "expected") == NULL) {
			leave_out(&c, name,
				  "libvirt refuses these CPU descriptions; there is no level to compare");
			continue;
		}
		if (strstr(name, "migratable") != NULL)
			cpu_bits_clear(&level, feature_find("invtsc")->id); /* never given to a guest here */
		json_array_foreach(json_arr(one, "inputs"), k, input)
		{
			struct cpu_bits b = bits_of_array(json_arr(input, "features"));

			cpu_bits_and(&level, &level, &b);
		}
		expected = bits_of_array(json_arr(json_obj(one, "expected"), "features"));
		hold(&c, same_but(&level, &expected, &all), name);
	}
	finish(&c);
}

static void test_comparisons_are_libvirts(void)
{
	struct count c = { .file = "libvirt-compare.tsv" };
	_cleanup_table_ struct table t = { 0 };

	table_read(c.file, &t);
	for (guint i = 0; i < t.rows->len; i++) {
		const char *name = field(&t, i, "case"), *expected = field(&t, i, "expected"),
			   *host = field(&t, i, "host_vendor"), *cpu = field(&t, i, "cpu_vendor");
		struct featureset pin = { .has = known_of(field(&t, i, "required"), NULL) },
				  max = { .has = known_of(field(&t, i, "host_features"), NULL) };
		struct cpu_verdict v;

		c.rows++;
		if (!g_str_equal(field(&t, i, "forbid"), "-") ||
		    g_str_equal(field(&t, i, "match"), "strict")) {
			leave_out(&c, name, "a pin never forbids what a host has more");
			continue;
		}
		if (g_str_equal(expected, "ERROR")) {
			leave_out(&c, name, "an unknown name is refused when it is read, before any check");
			continue;
		}
		g_strlcpy(pin.vendor, g_str_equal(cpu, "-") ? "" : cpu, sizeof(pin.vendor));
		g_strlcpy(max.vendor, g_str_equal(host, "-") ? "" : host, sizeof(max.vendor));
		cpu_check(&pin, GUEST_KVM, &max, &v);
		hold(&c, v.can == !g_str_equal(expected, "INCOMPATIBLE"), name);
	}
	finish(&c);
}

/* ---- QEMU and KVM ---- */

/* Properties of a CPU that are true and are none of its features. */
static const char *const properties[] = { "check",
					  "cpuid-0xb",
					  "fill-mtrr-mask",
					  "full-cpuid-auto-level",
					  "host-phys-bits",
					  "kvm",
					  "l3-cache",
					  "legacy-cache",
					  "lmce",
					  "tcg-cpuid",
					  "vmware-cpuid-freq",
					  "x-hv-synic-kvm-only",
					  "x-intel-pt-auto-level",
					  "x-migrate-smi-count",
					  NULL };

/* What QEMU says a host offers is closed as it stands, but for what KVM shows even where the parent is off.
 */
static void test_sets_of_qemu_are_closed(void)
{
	struct count c = { .file = "qemu-kvm-host-features.tsv" };
	_cleanup_table_ struct table t = { 0 };
	struct cpu_bits shown, svm;

	feature_dependents(feature_find("arch-capabilities")->id, CLOSE_HARD, &shown);
	feature_dependents(feature_find("svm")->id, CLOSE_HARD, &svm);
	cpu_bits_or(&shown, &shown, &svm);
	table_read(c.file, &t);
	for (guint i = 0; i < t.rows->len; i++) {
		struct cpu_bits b = known_of(field(&t, i, "true_properties"), properties), closed = b, fell;

		c.rows++;
		cpu_bits_close(&closed, CLOSE_HARD, NULL);
		cpu_bits_minus(&fell, &b, &closed);
		hold(&c, cpu_bits_subset(&fell, &shown), field(&t, i, "host"));
	}
	finish(&c);
}

/* NULL when the model can be compared. */
static const char *model_differs(const char *model, const char *features_of)
{
	if (g_str_equal(model, "max") || g_str_equal(model, "host"))
		return "it is no model, but whatever the host has";
	if (features_of == NULL)
		return "QEMU 7.2 has no model of this name";
	if (g_str_equal(model, "base"))
		return "it has no features, and an empty pin is none";
	return NULL;
}

static GHashTable *column_by_name(const struct table *t, const char *name, const char *column)
{
	GHashTable *h = g_hash_table_new(g_str_hash, g_str_equal);

	for (guint i = 0; i < t->rows->len; i++)
		g_hash_table_insert(h, (gpointer)field(t, i, name), (gpointer)field(t, i, column));
	return h;
}

static void test_models_run_where_qemu_says(void)
{
	struct count c = { .file = "qemu-kvm-model-blockers.tsv" };
	_cleanup_table_ struct table t = { 0 }, models = { 0 }, hosts = { 0 };
	g_autoptr(GHashTable) of_model = NULL, of_host = NULL;
	/* What QEMU takes from every model when KVM runs it. */
	struct cpu_bits off = known_of("acpi monitor svm", NULL);
	/* What models gained or lost between the recorded versions (2.9 to 6.x) and 7.2: not compared. */
	struct cpu_bits moved =
	    known_of("topoext npt nrip-save mpx pku taa-no rdtscp clflushopt intel-pt", NULL);

	table_read(c.file, &t);
	table_read("qemu72-models.tsv", &models);
	table_read("qemu-kvm-host-features.tsv", &hosts);
	of_model = column_by_name(&models, "model", "features");
	of_host = column_by_name(&hosts, "host", "true_properties");
	for (guint i = 0; i < t.rows->len; i++) {
		const char *model = field(&t, i, "cpu_model"), *host = field(&t, i, "host"),
			   *features_of = g_hash_table_lookup(of_model, model), *why;
		g_autofree char *row = g_strdup_printf("%s on %s", model, host);
		struct featureset pin = { 0 }, max = { 0 };
		struct cpu_bits blocking = known_of(field(&t, i, "blocking_features"), properties);
		struct cpu_verdict v;

		c.rows++;
		why = model_differs(model, features_of);
		if (why != NULL) {
			leave_out(&c, row, why);
			continue;
		}
		pin.has = known_of(features_of, NULL);
		cpu_bits_minus(&pin.has, &pin.has, &off);
		max.has = known_of(g_hash_table_lookup(of_host, host), properties);
		cpu_bits_minus(&pin.has, &pin.has, &moved);
		cpu_bits_minus(&blocking, &blocking, &moved);
		cpu_check(&pin, GUEST_KVM, &max, &v);
		hold(&c,
		     v.can == cpu_bits_empty(&blocking) && same_but(&v.missing, &blocking, &feature_known),
		     row);
	}
	finish(&c);
}

static void test_models_are_closed(void)
{
	struct count c = { .file = "qemu72-models.tsv" };
	_cleanup_table_ struct table t = { 0 };

	table_read(c.file, &t);
	for (guint i = 0; i < t.rows->len; i++) {
		const char *model = field(&t, i, "model");
		struct cpu_bits b = known_of(field(&t, i, "features"), NULL);

		c.rows++;
		if (g_str_has_prefix(model, "n270"))
			leave_out(&c, model, "it has lahf-lm without lm, as no processor does");
		else
			hold(&c, !cpu_bits_close(&b, CLOSE_HARD, NULL), model);
	}
	finish(&c);
}

int main(int argc, char **argv)
{
	g_autofree char *index = corpus_path("index.tsv");

	g_test_init(&argc, &argv, NULL);
	if (!g_file_test(index, G_FILE_TEST_EXISTS)) {
		g_print("1..0 # SKIP there is no corpus of CPUs (PLIMSOLL_CPU_CORPUS names its folder)\n");
		return 0;
	}
#define T(name) g_test_add_func("/cpu_corpus/" #name, test_##name)
	T(names_and_places);
	T(dependencies);
	T(numbers_of_dumps);
	T(features_of_dumps);
	T(closed_sets_of_dumps);
	T(closing_is_xens);
	T(level_is_xens);
	T(moves_are_xens);
	T(operations_are_xapis);
	T(moves_are_xapis);
	T(levels_are_libvirts);
	T(baselines_are_libvirts);
	T(comparisons_are_libvirts);
	T(sets_of_qemu_are_closed);
	T(models_run_where_qemu_says);
	T(models_are_closed);
	return g_test_run();
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "core/cpu/feature.h"
#include "core/cpu/feature-impl.h"

#include <string.h>

#define NAME_MAX_LENGTH 64 /* of what may be a name; the longest is half as long */
#define LIST_MAX (64u << 10)
#define NEAR_MAX 3

const struct feature *feature_at(unsigned bit)
{
	return bit < CPU_BITS && feature_place[bit] >= 0 ? &features[feature_place[bit]] : NULL;
}

static void normalise(char text[NAME_MAX_LENGTH], const char *name)
{
	size_t i;

	for (i = 0; name[i] != '\0'; i++)
		text[i] = name[i] == '_' ? '-' : g_ascii_tolower(name[i]);
	text[i] = '\0';
}

static int compare_spelling(const void *key, const void *entry)
{
	return strcmp(key, ((const struct feature_spelling *)entry)->text);
}

const struct feature *feature_find(const char *name)
{
	const struct feature_spelling *found;
	char text[NAME_MAX_LENGTH];

	if (strnlen(name, NAME_MAX_LENGTH) == NAME_MAX_LENGTH)
		return NULL;
	normalise(text, name);
	found = bsearch(text, feature_spellings, n_feature_spellings, sizeof(*found), compare_spelling);
	return found != NULL ? feature_at(found->id) : NULL;
}

/* Names that hold what was typed, or the beginning of it. */
static char *near_names(const char *name)
{
	GString *s = g_string_new(NULL);
	char text[NAME_MAX_LENGTH] = "";

	if (strnlen(name, NAME_MAX_LENGTH) < NAME_MAX_LENGTH)
		normalise(text, name);
	for (size_t keep = strlen(text); keep >= 3 && s->len == 0; keep--) {
		unsigned n = 0;

		text[keep] = '\0';
		for (size_t i = 0; i < n_features && n < NEAR_MAX; i++)
			if (strstr(features[i].name, text) != NULL)
				g_string_append_printf(s, "%s%s", n++ == 0 ? "" : ", ", features[i].name);
	}
	return g_string_free(s, FALSE);
}

bool feature_parse(const char *name, const struct feature **ret, GError **err)
{
	const struct feature *f = feature_find(name);
	g_autofree char *nearby = NULL, *shown = NULL;

	if (f != NULL) {
		*ret = f;
		return true;
	}
	nearby = near_names(name);
	shown = g_strndup(name, NAME_MAX_LENGTH);
	fail(err, ERR_NOT_FOUND, "there is no CPU feature '%s'", shown);
	if (*nearby != '\0')
		return err_advise(err, "Is it one of these: %s?", nearby);
	return err_advise(err, "Names are QEMU's: `qemu-system-x86_64 -cpu help` lists them.");
}

const char *feature_kind_name(FeatureKind kind)
{
	static const char *const names[] = { "and", "or", "always", "opt-in", "never" };

	return names[kind];
}

char *feature_place_print(FeatureId id)
{
	static const char *const registers[] = { "eax", "ebx", "ecx", "edx" };
	const struct feature_word *w = &feature_words[id / 32];
	unsigned bit = id % 32;

	switch (w->kind) {
	case WORD_CPUID:
		return g_strdup_printf("CPUID %08x.%x %s bit %u", w->index, w->subleaf, registers[w->reg],
				       bit);
	case WORD_MSR_LOW:
		return g_strdup_printf("MSR %08x bit %u", w->index, bit);
	case WORD_MSR_HIGH:
		return g_strdup_printf("MSR %08x bit %u", w->index, 32 + bit);
	case WORD_MSR_CAN:
		return g_strdup_printf("MSR %08x control %u", w->index, bit);
	case WORD_QEMU:
		break;
	}
	return g_strdup("a property of QEMU");
}

char *feature_print(unsigned bit)
{
	const struct feature *f = feature_at(bit);

	if (f != NULL)
		return g_strdup(f->name);
	if (bit / 32 < n_feature_words)
		return g_strdup_printf("%s[%u]", feature_words[bit / 32].name, bit % 32);
	return g_strdup_printf("word%u[%u]", bit / 32, bit % 32);
}

char **cpu_bits_names(const struct cpu_bits *b)
{
	char **names = g_new0(char *, cpu_bits_count(b) + 1);
	size_t n = 0;

	for (unsigned i = cpu_bits_next(b, 0); i < CPU_BITS; i = cpu_bits_next(b, i + 1))
		names[n++] = feature_print(i);
	return names;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

Json *cpu_bits_names_json(const struct cpu_bits *b)
{
	g_auto(GStrv) names = cpu_bits_names(b);

	qsort(names, g_strv_length(names), sizeof(*names), compare_names);
	return json_of_strv((const char *const *)names);
}

char *cpu_bits_names_print(const struct cpu_bits *b, unsigned max)
{
	GString *s = g_string_sized_new(128);
	unsigned n = 0, all = cpu_bits_count(b);

	for (unsigned i = cpu_bits_next(b, 0); i < CPU_BITS && (max == 0 || n < max);
	     i = cpu_bits_next(b, i + 1), n++) {
		const struct feature *f = feature_at(i);
		g_autofree char *text = f == NULL ? feature_print(i) : NULL;

		g_string_append(s, n == 0 ? "" : ", ");
		g_string_append(s, f != NULL ? f->name : text);
	}
	if (n < all)
		g_string_append_printf(s, " and %u more", all - n);
	return g_string_free(s, FALSE);
}

bool cpu_bits_parse_names(const char *text, struct cpu_bits *ret, GError **err)
{
	struct cpu_bits b = { 0 };
	g_auto(GStrv) words = NULL;

	if (g_str_has_prefix(text, "v1-"))
		return cpu_bits_parse(text, ret, NULL, err);
	if (strnlen(text, LIST_MAX) == LIST_MAX)
		return fail(err, ERR_INVALID, "the list of features is too long");
	words = g_strsplit_set(text, ", \t\n", -1);
	for (char **w = words; *w != NULL; w++) {
		const struct feature *f;

		if (**w == '\0')
			continue;
		if (!feature_parse(*w, &f, err))
			return false;
		cpu_bits_set(&b, f->id);
	}
	if (cpu_bits_empty(&b))
		return fail_advice(err, ERR_INVALID, "Write names (avx2,sse4.2) or a set (v1-...).",
				   "the list of features is empty");
	*ret = b;
	return true;
}

bool cpu_bits_of_json(const Json *names, struct cpu_bits *ret, GError **err)
{
	struct cpu_bits b = { 0 };
	const Json *item;
	size_t i;

	if (!json_is_array(names))
		return fail(err, ERR_INVALID, "the features are no array of names");
	json_array_foreach((Json *)names, i, item)
	{
		const struct feature *f;

		if (!json_is_string(item))
			return fail(err, ERR_INVALID, "feature %zu is no name", i);
		if (!feature_parse(json_string_value(item), &f, err))
			return false;
		cpu_bits_set(&b, f->id);
	}
	*ret = b;
	return true;
}

/* One pass is enough: the tables hold all that falls with a parent, not only its children. */
static bool fall(struct cpu_bits *set, const struct cpu_bits *before, const struct feature_fall *table,
		 size_t n, struct cpu_causes *causes)
{
	bool fell = false;

	for (size_t i = 0; i < n; i++) {
		const struct feature_fall *t = &table[i];

		if (cpu_bits_has(before, t->parent))
			continue;
		for (unsigned k = 0; k < t->n; k++) {
			if (!cpu_bits_has(set, t->child[k]))
				continue;
			cpu_bits_clear(set, t->child[k]);
			fell = true;
			if (causes != NULL)
				causes->parent[t->child[k]] = t->parent;
		}
	}
	return fell;
}

bool cpu_bits_close(struct cpu_bits *set, CloseKind kind, struct cpu_causes *ret_causes)
{
	struct cpu_bits before = *set;
	bool fell;

	if (ret_causes != NULL)
		memset(ret_causes, 0xff, sizeof(*ret_causes));
	cpu_bits_and(set, set, &feature_known);
	fell = !cpu_bits_equal(set, &before);
	before = *set;
	if (kind == CLOSE_SOFT)
		return fall(set, &before, feature_falls_soft, n_feature_falls_soft, ret_causes) || fell;
	return fall(set, &before, feature_falls, n_feature_falls, ret_causes) || fell;
}

void feature_dependents(FeatureId id, CloseKind kind, struct cpu_bits *ret)
{
	const struct feature_fall *t = kind == CLOSE_SOFT ? feature_falls_soft : feature_falls;
	size_t n = kind == CLOSE_SOFT ? n_feature_falls_soft : n_feature_falls;

	*ret = (struct cpu_bits){ 0 };
	for (size_t i = 0; i < n; i++)
		for (unsigned k = 0; t[i].parent == id && k < t[i].n; k++)
			cpu_bits_set(ret, t[i].child[k]);
}

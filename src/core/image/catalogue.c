/* SPDX-License-Identifier: Apache-2.0 */
#include "core/image/catalogue.h"

#include <string.h>

struct image_filter *image_filter_free(struct image_filter *f)
{
	if (f != NULL) {
		g_free(f->key);
		g_strfreev(f->values);
		g_free(f);
	}
	return NULL;
}

static void drop_filter(gpointer p)
{
	image_filter_free(p);
}

static bool parse_values(struct image_filter *f, const char *text, GError **err)
{
	g_auto(GStrv) words = NULL;
	g_autoptr(GStrvBuilder) b = g_strv_builder_new();

	if (f->op == FILTER_EQ && g_str_has_prefix(text, "in:")) {
		f->op = FILTER_IN;
		words = g_strsplit(text + strlen("in:"), ",", -1);
	} else {
		words = g_new0(char *, 2);
		words[0] = g_strdup(text);
	}
	for (size_t i = 0; words[i] != NULL; i++) {
		g_autofree char *v = NULL;

		if (!prop_parse(f->key, words[i], &v, err))
			return false;
		g_strv_builder_add(b, v);
	}
	f->values = g_strv_builder_end(b);
	return true;
}

struct image_filter *image_filter_parse(const char *text, GError **err)
{
	const char *eq = strchr(text, '=');
	struct image_filter *f;
	bool ne;

	if (eq == NULL || eq == text) {
		g_autofree char *shown = g_utf8_make_valid(text, (gssize)strnlen(text, 80));

		fail_advice(err, ERR_INVALID, "Write KEY=VALUE, KEY!=VALUE or KEY=in:A,B.",
			    "'%s' is no filter", shown);
		return NULL;
	}
	ne = eq[-1] == '!';
	f = g_new0(struct image_filter, 1);
	f->key = g_strndup(text, (gsize)(eq - text) - ne);
	f->op = ne ? FILTER_NE : FILTER_EQ;
	if (!parse_values(f, eq + 1, err))
		return image_filter_free(f);
	return f;
}

GPtrArray *image_filters_parse(const char *const *texts, GError **err)
{
	g_autoptr(GPtrArray) a = g_ptr_array_new_with_free_func(drop_filter);

	for (; texts != NULL && *texts != NULL; texts++) {
		struct image_filter *f = image_filter_parse(*texts, err);

		if (f == NULL)
			return NULL;
		g_ptr_array_add(a, f);
	}
	return g_steal_pointer(&a);
}

char *image_filter_print(const struct image_filter *f)
{
	static const char *const op[] = { [FILTER_EQ] = "=", [FILTER_NE] = "!=", [FILTER_IN] = "=in:" };
	g_autofree char *values = g_strjoinv(",", f->values);

	return g_strconcat(f->key, op[f->op], values, NULL);
}

static bool has_item(const char *list, const char *item)
{
	g_auto(GStrv) items = g_strsplit(list, ",", -1);

	return g_strv_contains((const char *const *)items, item);
}

static bool value_is(const char *key, const char *have, const char *want)
{
	if (prop_type(key) == PROP_LIST)
		return has_item(have, want);
	return prop_compare(key, have, want) == 0;
}

bool image_matches(const Image *img, const struct image_filter *f)
{
	const char *have = image_get(img, f->key);

	if (have == NULL)
		return f->op == FILTER_NE;
	for (size_t i = 0; f->values[i] != NULL; i++)
		if (value_is(f->key, have, f->values[i]))
			return f->op != FILTER_NE;
	return f->op == FILTER_NE;
}

static const struct image_filter *first_mismatch(const Image *img, const GPtrArray *filters)
{
	for (guint i = 0; filters != NULL && i < filters->len; i++)
		if (!image_matches(img, filters->pdata[i]))
			return filters->pdata[i];
	return NULL;
}

GPtrArray *image_select(const GPtrArray *images, const GPtrArray *filters)
{
	GPtrArray *out = g_ptr_array_new();

	for (guint i = 0; i < images->len; i++)
		if (first_mismatch(images->pdata[i], filters) == NULL)
			g_ptr_array_add(out, images->pdata[i]);
	return out;
}

/* Sorting */

struct sort_key {
	char *name;
	bool desc;
};

static void clear_sort_key(gpointer p)
{
	g_free(((struct sort_key *)p)->name);
}

static bool add_sort_key(GArray *keys, const char *word, GError **err)
{
	const char *colon = strrchr(word, ':');
	bool desc = colon != NULL && g_str_equal(colon, ":desc"),
	     asc = colon != NULL && g_str_equal(colon, ":asc");
	struct sort_key k = { .desc = desc };

	if (colon != NULL && !asc && !desc)
		return fail_advice(err, ERR_INVALID, "Write KEY, KEY:asc or KEY:desc.",
				   "'%s' is no direction", colon + 1);
	k.name = colon != NULL ? g_strndup(word, (gsize)(colon - word)) : g_strdup(word);
	g_array_append_val(keys, k);
	return prop_name_check(k.name, err);
}

/* Missing values last, whatever the direction. */
static int compare_by_key(const Image *a, const Image *b, const struct sort_key *k)
{
	const char *x = image_get(a, k->name), *y = image_get(b, k->name);
	int r;

	if (x == NULL || y == NULL)
		return (x == NULL) - (y == NULL);
	r = prop_compare(k->name, x, y);
	return k->desc ? (r < 0) - (r > 0) : r;
}

static int compare_by_keys(gconstpointer pa, gconstpointer pb, gpointer data)
{
	const Image *a = *(const Image *const *)pa, *b = *(const Image *const *)pb;
	const GArray *keys = data;

	for (guint i = 0; i < keys->len; i++) {
		int r = compare_by_key(a, b, &g_array_index(keys, struct sort_key, i));

		if (r != 0)
			return r;
	}
	return strcmp(image_id(a), image_id(b));
}

bool image_sort(GPtrArray *images, const char *order, GError **err)
{
	g_auto(GStrv) words = g_strsplit(order, ",", -1);
	g_autoptr(GArray) keys = g_array_new(FALSE, FALSE, sizeof(struct sort_key));

	g_array_set_clear_func(keys, clear_sort_key);
	if (*order == '\0')
		return fail_advice(err, ERR_INVALID, "Write KEY, KEY:asc or KEY:desc.",
				   "an order without a key");
	for (size_t i = 0; words[i] != NULL; i++)
		if (!add_sort_key(keys, words[i], err))
			return false;
	g_ptr_array_sort_with_data(images, compare_by_keys, keys);
	return true;
}

/* The latest */

/* NULL for what is no version; it points into the image. */
static const char *version(const Image *img, const char *key)
{
	const char *v = image_get(img, key);

	return v != NULL && g_ascii_isdigit(*v) ? v : NULL;
}

static char *major_of(const Image *img)
{
	const char *v = version(img, "os_distro_major");

	if (v != NULL)
		return g_strdup(v);
	v = version(img, "os_version");
	return v == NULL ? NULL : g_strndup(v, strcspn(v, "."));
}

/* >0: a is the later one; NULL is below everything. */
static int later(const char *key, const char *a, const char *b)
{
	if (a == NULL || b == NULL)
		return (a != NULL) - (b != NULL);
	return prop_compare(key, a, b);
}

static int compare_major(const Image *a, const Image *b)
{
	g_autofree char *x = major_of(a), *y = major_of(b);

	return later("os_version", x, y);
}

static int compare_release(const Image *a, const Image *b)
{
	return later("release_date", image_get(a, "release_date"), image_get(b, "release_date"));
}

static int compare_tie(const Image *a, const Image *b)
{
	int r = later("os_version", version(a, "os_version"), version(b, "os_version"));

	if (r == 0)
		r = later("created_at", image_get(a, "created_at"), image_get(b, "created_at"));
	return r != 0 ? r : strcmp(image_id(b), image_id(a));
}

static bool same_distro(const Image *a, const Image *b)
{
	return g_strcmp0(image_get(a, "os_distro"), image_get(b, "os_distro")) == 0;
}

/* Why b is not taken when there is a, of the same distribution or not. VERDICT_CHOSEN: it beats a. */
static Verdict compare_candidates(const Image *a, const Image *b)
{
	int r = same_distro(a, b) ? compare_major(a, b) : 0;

	if (r != 0)
		return r > 0 ? VERDICT_LOWER_VERSION : VERDICT_CHOSEN;
	r = compare_release(a, b);
	if (r != 0)
		return r > 0 ? VERDICT_OLDER : VERDICT_CHOSEN;
	return compare_tie(a, b) > 0 ? VERDICT_TIE : VERDICT_CHOSEN;
}

static Verdict eligible(const Image *img, const GPtrArray *filters, const struct image_filter **ret_filter)
{
	*ret_filter = first_mismatch(img, filters);
	if (*ret_filter != NULL)
		return VERDICT_FILTER;
	if (!image_is_active(img))
		return VERDICT_NOT_ACTIVE;
	if (image_bool(img, "os_hidden"))
		return VERDICT_HIDDEN;
	if (g_strcmp0(image_get(img, "recommended"), "false") == 0)
		return VERDICT_NOT_RECOMMENDED;
	return VERDICT_CHOSEN;
}

static void narrow_to_recommended(GArray *verdicts)
{
	bool any = false;

	for (guint i = 0; i < verdicts->len; i++) {
		const struct image_verdict *v = &g_array_index(verdicts, struct image_verdict, i);

		any |= v->verdict == VERDICT_CHOSEN && image_bool(v->image, "recommended");
	}
	for (guint i = 0; any && i < verdicts->len; i++) {
		struct image_verdict *v = &g_array_index(verdicts, struct image_verdict, i);

		if (v->verdict == VERDICT_CHOSEN && !image_bool(v->image, "recommended"))
			v->verdict = VERDICT_NOT_RECOMMENDED;
	}
}

static const char *distro_of(const Image *img)
{
	const char *distro = image_get(img, "os_distro");

	return distro != NULL ? distro : "";
}

/* Of all that are still chosen, the later one. `best` is NULL at first. */
static const Image *later_of(const Image *best, const Image *img)
{
	return best == NULL || compare_candidates(best, img) == VERDICT_CHOSEN ? img : best;
}

/* Within a distribution the order is total, so one of each is left; between those it is total again. */
static void knock_out(GArray *verdicts)
{
	g_autoptr(GHashTable) winner = g_hash_table_new(g_str_hash, g_str_equal);
	struct image_verdict *v = (struct image_verdict *)(void *)verdicts->data;
	const Image *best = NULL;

	for (guint i = 0; i < verdicts->len; i++)
		if (v[i].verdict == VERDICT_CHOSEN) {
			gpointer distro = (gpointer)distro_of(v[i].image);

			g_hash_table_replace(
			    winner, distro,
			    (gpointer)later_of(g_hash_table_lookup(winner, distro), v[i].image));
		}
	for (guint i = 0; i < verdicts->len; i++)
		if (v[i].verdict == VERDICT_CHOSEN &&
		    g_hash_table_lookup(winner, distro_of(v[i].image)) == v[i].image)
			best = later_of(best, v[i].image);
	for (guint i = 0; i < verdicts->len; i++)
		if (v[i].verdict == VERDICT_CHOSEN && v[i].image != best) {
			const Image *own = g_hash_table_lookup(winner, distro_of(v[i].image));

			v[i].verdict = compare_candidates(own != v[i].image ? own : best, v[i].image);
		}
}

static GArray *judge(const GPtrArray *images, const GPtrArray *filters)
{
	GArray *verdicts = g_array_sized_new(FALSE, FALSE, sizeof(struct image_verdict), images->len);

	for (guint i = 0; i < images->len; i++) {
		struct image_verdict v = { .image = images->pdata[i] };

		v.verdict = eligible(v.image, filters, &v.filter);
		g_array_append_val(verdicts, v);
	}
	narrow_to_recommended(verdicts);
	knock_out(verdicts);
	return verdicts;
}

static const Image *chosen(const GArray *verdicts)
{
	for (guint i = 0; i < verdicts->len; i++) {
		const struct image_verdict *v = &g_array_index(verdicts, struct image_verdict, i);

		if (v->verdict == VERDICT_CHOSEN)
			return v->image;
	}
	return NULL;
}

const Image *image_latest(const GPtrArray *images, const GPtrArray *filters, GArray **ret_verdicts,
			  GError **err)
{
	g_autoptr(GArray) verdicts = judge(images, filters);
	const Image *img = chosen(verdicts);

	if (img == NULL) {
		fail_advice(err, ERR_NOT_FOUND,
			    "See `plim image list`: it must be active, not hidden and not recommended=false.",
			    "no image matches, of %u", images->len);
		err_detail(err, "verdicts", verdicts_to_json(verdicts));
	}
	if (ret_verdicts != NULL)
		*ret_verdicts = g_steal_pointer(&verdicts);
	return img;
}

static const struct {
	const char *name, *sentence;
} verdict_table[] = {
#define X(id, text, why) [VERDICT_##id] = { .name = text, .sentence = why },
	VERDICT_TABLE(X)
#undef X
};

const char *verdict_name(Verdict v)
{
	return verdict_table[v].name;
}

const char *verdict_sentence(Verdict v)
{
	return verdict_table[v].sentence;
}

Json *verdicts_to_json(const GArray *verdicts)
{
	Json *all = json_array();

	for (guint i = 0; i < verdicts->len; i++) {
		const struct image_verdict *v = &g_array_index(verdicts, struct image_verdict, i);
		Json *j = json_object();

		json_put_str(j, "id", image_id(v->image));
		json_put_str(j, "name", image_name(v->image));
		json_put_str(j, "verdict", verdict_name(v->verdict));
		json_put_str(j, "reason", verdict_sentence(v->verdict));
		if (v->filter != NULL) {
			g_autofree char *text = image_filter_print(v->filter);

			json_put_str(j, "filter", text);
		}
		json_array_append_new(all, j);
	}
	return all;
}

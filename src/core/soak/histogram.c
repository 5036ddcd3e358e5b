/* SPDX-License-Identifier: Apache-2.0 */
#include "core/soak/histogram.h"
#include "base/str.h"

#define BAR 40

/* Upper ends of the classes, us; what is above them is in one more. */
static const uint64_t ends[] = { 1000,   2000,   5000,    10000,   20000,   50000,    100000,
				 200000, 500000, 1000000, 2000000, 5000000, 10000000, 60000000 };
#define CLASSES (G_N_ELEMENTS(ends) + 1)

struct Histogram {
	GArray *us; /* uint64_t */
	bool sorted;
};

Histogram *histogram_new(void)
{
	Histogram *h = g_new0(Histogram, 1);

	h->us = g_array_new(FALSE, FALSE, sizeof(uint64_t));
	return h;
}

Histogram *histogram_free(Histogram *h)
{
	if (h != NULL)
		g_array_unref(h->us);
	g_free(h);
	return NULL;
}

void histogram_add(Histogram *h, uint64_t us)
{
	g_array_append_val(h->us, us);
	h->sorted = false;
}

size_t histogram_count(const Histogram *h)
{
	return h->us->len;
}

static gint smaller_first(gconstpointer a, gconstpointer b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

uint64_t histogram_percentile(Histogram *h, unsigned percent)
{
	size_t n = h->us->len, at = (n * percent + 99) / 100;

	if (n == 0)
		return 0;
	if (!h->sorted)
		g_array_sort(h->us, smaller_first);
	h->sorted = true;
	return g_array_index(h->us, uint64_t, at == 0 ? 0 : at - 1);
}

static void classes_of(const Histogram *h, uint64_t count[CLASSES])
{
	for (size_t c = 0; c < CLASSES; c++)
		count[c] = 0;
	for (guint i = 0; i < h->us->len; i++) {
		size_t c = 0;

		while (c < G_N_ELEMENTS(ends) && g_array_index(h->us, uint64_t, i) > ends[c])
			c++;
		count[c]++;
	}
}

Json *histogram_to_json(Histogram *h)
{
	Json *j = json_object(), *classes = json_array();
	uint64_t count[CLASSES];

	classes_of(h, count);
	for (size_t c = 0; c < CLASSES; c++) {
		Json *one = json_object();

		json_put(one, "upto",
			 c < G_N_ELEMENTS(ends) ? json_integer((json_int_t)ends[c]) : json_null());
		json_put_uint(one, "count", count[c]);
		json_array_append_new(classes, one);
	}
	json_put_uint(j, "count", h->us->len);
	json_put_uint(j, "min", histogram_percentile(h, 0));
	json_put_uint(j, "median", histogram_percentile(h, 50));
	json_put_uint(j, "p95", histogram_percentile(h, 95));
	json_put_uint(j, "p99", histogram_percentile(h, 99));
	json_put_uint(j, "max", histogram_percentile(h, 100));
	json_put(j, "classes", classes);
	return j;
}

static void print_class(GString *s, size_t c, uint64_t count, uint64_t most)
{
	g_autofree char *end = print_duration(ends[c < G_N_ELEMENTS(ends) ? c : G_N_ELEMENTS(ends) - 1]);
	size_t bar = (size_t)(count * BAR / most);

	g_string_append_printf(s, "  %s %8s %7" G_GUINT64_FORMAT " ",
			       c < G_N_ELEMENTS(ends) ? "up to" : "above", end, count);
	if (count > 0 && bar == 0)
		bar = 1;
	for (size_t i = 0; i < bar; i++)
		g_string_append_c(s, '#');
	g_string_append_c(s, '\n');
}

char *histogram_print(Histogram *h, const char *title)
{
	g_autofree char *min = print_duration(histogram_percentile(h, 0)),
			*median = print_duration(histogram_percentile(h, 50)),
			*p99 = print_duration(histogram_percentile(h, 99)),
			*max = print_duration(histogram_percentile(h, 100));
	size_t first = CLASSES, last = 0;
	uint64_t count[CLASSES], most = 0;
	GString *s = g_string_new(NULL);

	classes_of(h, count);
	for (size_t c = 0; c < CLASSES; c++) {
		most = MAX(most, count[c]);
		if (count[c] > 0 && first == CLASSES)
			first = c;
		if (count[c] > 0)
			last = c;
	}
	g_string_append_printf(s, "%s of %zu moves: shortest %s, median %s, 99 of 100 up to %s, longest %s\n",
			       title, histogram_count(h), min, median, p99, max);
	for (size_t c = first; c <= last && c < CLASSES; c++)
		print_class(s, c, count[c], most);
	return g_string_free(s, FALSE);
}

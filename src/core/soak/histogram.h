/* SPDX-License-Identifier: Apache-2.0 */
/* Durations, counted in classes of 1, 2 and 5 times a power of ten. Pure. */
#pragma once

#include "base/json.h"

typedef struct Histogram Histogram;

Histogram *histogram_new(void);
/* NULL is fine. */
Histogram *histogram_free(Histogram *h);
void histogram_add(Histogram *h, uint64_t us);
size_t histogram_count(const Histogram *h);
/* The smallest duration that at least `percent` of a hundred do not exceed; 0 when there is none. */
uint64_t histogram_percentile(Histogram *h, unsigned percent);

/* {count, min, median, p95, p99, max, classes: [{upto, count}]} in us; `upto` of the last may be null. New
 * reference. */
Json *histogram_to_json(Histogram *h);
/* A line with the figures, then one for each class from the first to the last that has any. Caller frees. */
char *histogram_print(Histogram *h, const char *title);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Histogram, histogram_free)

/* SPDX-License-Identifier: Apache-2.0 */
#include "core/soak/check.h"

#include <inttypes.h>
#include <string.h>

#define WORDS 8
#define WORDS_FLOW 10
#define HASH_WORD 7
#define HASH_DIGITS 16

static bool number_of(const char *text, unsigned base, uint64_t *ret)
{
	char *end;

	if (!g_ascii_isxdigit(text[0]))
		return false;
	*ret = g_ascii_strtoull(text, &end, base);
	return *end == '\0';
}

static bool beat_of_line(char *line, struct soak_beat *ret)
{
	g_auto(GStrv) word = g_strsplit(g_strchomp(line), " ", WORDS_FLOW + 1);
	guint n = g_strv_length(word);
	struct soak_beat b = { 0 };
	uint64_t *const number[] = { &b.beat, &b.clock, &b.gap, &b.back, &b.checked, &b.bad };

	if ((n != WORDS && n != WORDS_FLOW) || !g_str_equal(word[0], "soak"))
		return false;
	for (size_t i = 0; i < G_N_ELEMENTS(number); i++)
		if (!number_of(word[i + 1], 10, number[i]))
			return false;
	if (strlen(word[HASH_WORD]) != HASH_DIGITS || !number_of(word[HASH_WORD], 16, &b.cpu))
		return false;
	b.flows = n == WORDS_FLOW;
	if (b.flows && (!number_of(word[WORDS], 10, &b.flow) || !number_of(word[WORDS + 1], 10, &b.broken)))
		return false;
	*ret = b;
	return true;
}

bool soak_beat_last(const char *text, struct soak_beat *ret)
{
	const char *end = strrchr(text, '\n');

	while (end != NULL) {
		const char *before = end == text ? NULL : g_strrstr_len(text, end - text, "\n");
		const char *begin = before != NULL ? before + 1 : text;
		g_autofree char *line = g_strndup(begin, (gsize)(end - begin));

		if (beat_of_line(line, ret))
			return true;
		end = before;
	}
	return false;
}

/* Numbers of a guest may be anything; JSON's end at 2^63. */
static void put(Json *j, const char *key, uint64_t v)
{
	json_put_uint(j, key, MIN(v, (uint64_t)INT64_MAX));
}

Json *soak_beat_to_json(const struct soak_beat *b)
{
	g_autofree char *cpu = g_strdup_printf("%016" PRIx64, b->cpu);
	Json *j = json_object();

	put(j, "beat", b->beat);
	put(j, "clock", b->clock);
	put(j, "gap", b->gap);
	put(j, "back", b->back);
	put(j, "checked", b->checked);
	put(j, "bad", b->bad);
	json_put_str(j, "cpu", cpu);
	if (b->flows) {
		put(j, "flow", b->flow);
		put(j, "broken", b->broken);
	}
	return j;
}

static void deviate(Json *list, const char *check, const char *fmt, ...) G_GNUC_PRINTF(3, 4);

static void deviate(Json *list, const char *check, const char *fmt, ...)
{
	g_autofree char *message = NULL;
	Json *j = json_object();
	va_list args;

	va_start(args, fmt);
	message = g_strdup_vprintf(fmt, args);
	va_end(args);
	json_put_str(j, "check", check);
	json_put_str(j, "message", message);
	json_array_append_new(list, j);
}

static void compare(Json *list, const struct soak_beat *a, const struct soak_beat *b,
		    const struct soak_bounds *bounds)
{
	uint64_t allowed = (bounds->downtime + bounds->margin) * 1000;

	if (b->beat <= a->beat)
		deviate(list, "heartbeat", "the heartbeat was at %" PRIu64 " and is at %" PRIu64, a->beat,
			b->beat);
	if (b->clock <= a->clock)
		deviate(list, "clock", "the clock was at %" PRIu64 " ns and is at %" PRIu64 " ns", a->clock,
			b->clock);
	if (b->back > a->back)
		deviate(list, "clock", "the guest saw its clock go back %" PRIu64 " times",
			b->back - a->back);
	if (b->gap > a->gap && b->gap > allowed)
		deviate(list, "clock",
			"the clock jumped by %" PRIu64 " ms; the guest stood still for %" PRIu64
			" ms, and %" PRIu64 " ms more are allowed",
			b->gap / 1000000, bounds->downtime / 1000, bounds->margin / 1000);
	if (b->cpu != a->cpu)
		deviate(list, "cpu", "CPUID is another: its hash was %016" PRIx64 " and is %016" PRIx64,
			a->cpu, b->cpu);
	if (a->flows && !b->flows)
		deviate(list, "flow", "its TCP connection is gone");
	if (b->checked < a->checked)
		deviate(list, "memory", "%" PRIu64 " were checked before and %" PRIu64 " now", a->checked,
			b->checked);
}

Json *soak_judge(const struct soak_beat *before, const struct soak_beat *now, const struct soak_bounds *b)
{
	Json *list = json_array();

	if (now->bad > 0)
		deviate(list, "memory", "%" PRIu64 " of %" PRIu64 " are not as the guest wrote them",
			now->bad, now->checked);
	if (now->broken > 0)
		deviate(list, "flow", "its TCP connection broke after %" PRIu64 " messages", now->flow);
	if (before != NULL)
		compare(list, before, now, b);
	return list;
}

Json *soak_judge_hosts(const Json *seen, const char *id)
{
	Json *list = json_array();
	size_t processes = 0, i, k;
	const Json *host, *p;

	json_array_foreach(seen, i, host)
	{
		const char *name = json_str(json_obj(host, "host"), "name");
		bool right = g_strcmp0(json_str(json_obj(host, "host"), "id"), id) == 0;

		json_array_foreach(json_arr(host, "processes"), k, p)
		{
			const char *status = json_str(p, "status");

			processes++;
			if (!right)
				deviate(list, "place", "a QEMU of it is on %s (pid %" PRId64 ", %s)", name,
					json_int(p, "pid", 0), status != NULL ? status : "silent");
			else if (g_strcmp0(status, "running") != 0)
				deviate(list, "place", "it is %s on %s", status != NULL ? status : "silent",
					name);
		}
	}
	if (processes != 1)
		deviate(list, "place", "%zu QEMUs of it live; it must be one", processes);
	return list;
}

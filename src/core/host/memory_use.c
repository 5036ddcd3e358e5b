/* SPDX-License-Identifier: Apache-2.0 */
#include "core/host/memory_use.h"

#include "base/str.h"

#include <inttypes.h>
#include <string.h>

/* QEMU rounds the size of RAM up to this. */
#define RAM_UNIT UINT64_C(8192)

static const char *const part_names[_MEMORY_PART_MAX] = {
#define X(key, name) [MEMORY_##key] = name,
	MEMORY_PART_TABLE(X)
#undef X
};

/* One mapping; sizes in bytes. */
struct mapping {
	uint64_t from, to, pss, merged;
	bool block; /* has the flags of a block of guest memory */
	bool executable, file, done;
};

/* Neighbours that are blocks: the kernel may have split one in several mappings. */
struct run {
	uint64_t from, to, pss, merged;
};

typedef struct Reader {
	uint64_t size;
	Json *more; /* sizes of other blocks that were not found yet */
	struct memory_use use;
	struct mapping m;
	struct run run;
	bool any, found;
} Reader;

const char *memory_part_name(MemoryPart p)
{
	return part_names[p];
}

static MemoryPart part_of(const struct mapping *m)
{
	if (m->file)
		return MEMORY_PROGRAM;
	return m->executable ? MEMORY_TRANSLATED : MEMORY_HEAP;
}

/* It is one of those, each of which is found once. */
static bool take_more(Json *more, uint64_t size)
{
	const Json *n;
	size_t i;

	json_array_foreach(more, i, n) if ((uint64_t)json_integer_value(n) == size)
	{
		json_array_remove(more, i);
		return true;
	}
	return false;
}

static void end_run(Reader *r)
{
	uint64_t size = r->run.to - r->run.from;
	bool first = size == r->size && !r->found;

	if (first || take_more(r->more, size)) {
		r->use.guest += r->run.pss;
		r->use.merged += r->run.merged;
		r->found = r->found || first;
	} else {
		r->use.part[MEMORY_DEVICES] += r->run.pss;
	}
	r->run = (struct run){ 0 };
}

static void end_mapping(Reader *r)
{
	const struct mapping *m = &r->m;

	if (r->run.to != 0 && (!m->block || m->from != r->run.to))
		end_run(r);
	if (m->block) {
		r->run.from = r->run.to == 0 ? m->from : r->run.from;
		r->run.to = m->to;
		r->run.pss += m->pss;
		r->run.merged += m->merged;
	} else {
		r->use.part[part_of(m)] += m->pss;
	}
	r->m = (struct mapping){ 0 };
}

/* "7f00-7f10 rw-p 00000000 00:00 0    /path": lower-case letters and digits before a dash. */
static bool is_header(const char *line)
{
	size_t n = strspn(line, "0123456789abcdef");

	return n > 0 && line[n] == '-';
}

static bool begin_mapping(Reader *r, const char *line, GError **err)
{
	g_auto(GStrv) word = NULL;
	char *end;

	if (r->any)
		end_mapping(r);
	r->any = true;
	r->m.from = g_ascii_strtoull(line, &end, 16);
	r->m.to = *end == '-' ? g_ascii_strtoull(end + 1, &end, 16) : 0;
	if (*end != ' ' || r->m.to <= r->m.from || strlen(end) < strlen(" rwxp "))
		return fail(err, ERR_INVALID, "'%.80s' is no mapping of memory", line);
	r->m.executable = end[3] == 'x';
	/* Names in brackets are the kernel's own: [heap], [stack]. */
	r->m.file = strchr(end, '/') != NULL;
	return true;
}

static bool starts(const char *line, const char *name, const char **ret_rest)
{
	if (!g_str_has_prefix(line, name))
		return false;
	*ret_rest = line + strlen(name);
	return true;
}

static uint64_t kib(const char *text)
{
	uint64_t n = g_ascii_strtoull(text, NULL, 10);

	return n < UINT64_MAX / 1024 ? n * 1024 : 0;
}

static bool has_flag(const char *flags, const char *flag)
{
	g_auto(GStrv) word = g_strsplit(flags, " ", -1);

	return g_strv_contains((const char *const *)word, flag);
}

static void read_member(Reader *r, const char *line)
{
	const char *rest;

	if (starts(line, "Pss:", &rest) || starts(line, "SwapPss:", &rest))
		r->m.pss += kib(rest);
	else if (starts(line, "KSM:", &rest))
		r->m.merged += kib(rest);
	else if (starts(line, "VmFlags:", &rest))
		r->m.block = has_flag(rest, "dd") && has_flag(rest, "dc");
}

bool memory_use_parse(const char *text, size_t len, uint64_t size, const Json *more, struct memory_use *ret,
		      GError **err)
{
	_cleanup_json_ Json *left = more != NULL ? json_deep_copy(more) : json_array();
	Reader r = { .size = (size + RAM_UNIT - 1) / RAM_UNIT * RAM_UNIT, .more = left };
	const char *end = text + len;

	for (const char *p = text, *next; p < end; p = next) {
		const char *stop = memchr(p, '\n', (size_t)(end - p));
		g_autofree char *line = g_strndup(p, (size_t)((stop != NULL ? stop : end) - p));

		next = stop != NULL ? stop + 1 : end;
		if (is_header(line)) {
			if (!begin_mapping(&r, line, err))
				return false;
		} else if (!r.any) {
			return fail(err, ERR_INVALID, "'%.80s' is no mapping of memory", line);
		} else {
			read_member(&r, line);
		}
	}
	if (r.any)
		end_mapping(&r);
	if (r.run.to != 0)
		end_run(&r);
	if (!r.found)
		return fail(err, ERR_NOT_FOUND, "the process has no block of %" PRIu64 " bytes for its guest",
			    r.size);
	*ret = r.use;
	return true;
}

uint64_t memory_use_overhead(const struct memory_use *u)
{
	uint64_t sum = 0;

	for (MemoryPart p = 0; p < _MEMORY_PART_MAX; p++)
		sum += u->part[p];
	return sum;
}

uint64_t memory_line_find(const char *text, const char *name)
{
	g_auto(GStrv) line = g_strsplit(text, "\n", -1);
	const char *rest;

	for (size_t i = 0; line[i] != NULL; i++)
		if (starts(line[i], name, &rest) && *rest == ':')
			return kib(rest + 1 + strspn(rest + 1, " \t"));
	return 0;
}

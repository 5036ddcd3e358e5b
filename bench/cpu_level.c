/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What levels and checks cost, beside libvirt's baseline of the same hosts.
 *
 *     bench_cpu [DUMP...]
 *
 * Hosts are made of the dumps (those of the first one's vendor), each with a few features less than its dump,
 * as firmware and microcode leave them; without dumps, of random sets. All in one process and from memory.
 * libvirt is called through its own library where that is installed: virConnectBaselineCPU() on its test
 * driver, in this process too. Each figure is the median of several rounds.
 */
#include "base/fd.h"
#include "core/cpu/check.h"
#include "core/cpu/level.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define ROUNDS 31
#define HOSTS_MAX 10000
#define FEWER 6 /* features that a host may lack of its dump */
#define SEED 20261121

struct bench {
	GPtrArray *models; /* struct featureset: what the dumps say */
	struct featureset *dflt, *max;
	const struct featureset **pointer;
	char **name;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static int compare_times(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static double median(uint64_t *ns, size_t n)
{
	qsort(ns, n, sizeof(*ns), compare_times);
	return (double)ns[n / 2];
}

static void row(const char *what, unsigned hosts, double ns, double target_ns)
{
	char target[32] = "-";

	if (target_ns > 0)
		g_snprintf(target, sizeof(target), "< %.0f", target_ns / 1000);
	printf("| %s | %u | %.2f | %s |\n", what, hosts, ns / 1000, target);
}

/* ---- hosts ---- */

static void add_dump(struct bench *b, const char *path)
{
	size_t len;
	g_autoptr(GError) err = NULL;
	g_autofree char *text = file_read(path, CPUID_TEXT_MAX, &len, &err);
	g_autoptr(GPtrArray) cpus = text != NULL ? cpuid_parse(text, len, &err) : NULL;
	struct cpu_bits differ;
	struct featureset s;

	if (cpus == NULL || !featureset_of_cpus(cpus, &s, &differ, &err)) {
		fprintf(stderr, "%s: %s\n", path, err->message);
		return;
	}
	if (b->models->len > 0 &&
	    !g_str_equal(s.vendor, ((const struct featureset *)b->models->pdata[0])->vendor))
		return;
	g_ptr_array_add(b->models, g_memdup2(&s, sizeof(s)));
}

static void add_random(struct bench *b, GRand *rand)
{
	struct featureset s = { .vendor = "GenuineIntel", .family = 6, .level = 0xd, .xlevel = 0x80000008 };

	for (size_t i = 0; i < CPU_WORDS; i++)
		s.has.word[i] = (g_rand_int(rand) | g_rand_int(rand)) & feature_of_qemu7.word[i];
	s.model = (uint32_t)g_rand_int_range(rand, 26, 200);
	s.phys_bits = (uint32_t)g_rand_int_range(rand, 36, 53);
	g_ptr_array_add(b->models, g_memdup2(&s, sizeof(s)));
}

static void make_hosts(struct bench *b, GRand *rand)
{
	b->dflt = g_new(struct featureset, HOSTS_MAX);
	b->max = g_new(struct featureset, HOSTS_MAX);
	b->pointer = g_new(const struct featureset *, HOSTS_MAX);
	b->name = g_new0(char *, HOSTS_MAX + 1);
	for (unsigned i = 0; i < HOSTS_MAX; i++) {
		struct featureset *s = &b->max[i];

		*s = *(const struct featureset *)b->models->pdata[i % b->models->len];
		for (unsigned k = 0; k < FEWER; k++)
			cpu_bits_clear(&s->has, (unsigned)g_rand_int_range(rand, 0, CPU_BITS));
		featureset_make_max(s, NULL);
		b->dflt[i] = *s;
		featureset_make_default(&b->dflt[i]);
		b->name[i] = g_strdup_printf("host%u", i);
	}
}

/* ---- ours ---- */

static void point_at(struct bench *b, const struct featureset *sets, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		b->pointer[i] = &sets[i];
}

/* Both guest types have sets of their own. */
static void bench_level(struct bench *b, unsigned n, double target)
{
	uint64_t t[ROUNDS];
	struct featureset level;

	for (int r = 0; r < ROUNDS; r++) {
		uint64_t begin = now_ns();

		point_at(b, b->dflt, n);
		level_of_sets(b->pointer, n, &level);
		point_at(b, b->max, n);
		level_of_sets(b->pointer, n, &level);
		t[r] = now_ns() - begin;
	}
	row("level of all hosts, 2 guest types", n, median(t, ROUNDS), target);
}

static void bench_join(const struct bench *b, unsigned n)
{
	g_autoptr(Level) l = level_new(GUEST_KVM);
	uint64_t join[ROUNDS], leave[ROUNDS];
	struct featureset again;

	for (unsigned i = 0; i + 1 < n; i++)
		g_assert_true(level_add(l, b->name[i], &b->dflt[i], NULL));
	for (int r = 0; r < ROUNDS; r++) {
		uint64_t begin = now_ns();

		g_assert_true(level_add(l, b->name[n - 1], &b->dflt[n - 1], NULL));
		join[r] = now_ns() - begin;
		g_assert_true(level_rescan(l, &again) && featureset_equal(&again, level_get(l)));
		begin = now_ns();
		g_assert_true(level_remove(l, b->name[n - 1]));
		leave[r] = now_ns() - begin;
	}
	row("a host joins", n, median(join, ROUNDS), 10000);
	row("a host leaves", n, median(leave, ROUNDS), 10000);
}

/* Each from a newly started guest of one host to another host, all pairs of the first hosts. */
static void bench_check(const struct bench *b, unsigned n)
{
	uint64_t t[ROUNDS];
	unsigned pairs = n * (n - 1), refused = 0;

	for (int r = 0; r < ROUNDS; r++) {
		uint64_t begin = now_ns();

		for (unsigned i = 0; i < n; i++)
			for (unsigned k = 0; k < n; k++) {
				struct cpu_check_names names = { b->name[i], b->name[k], NULL, NULL, NULL };
				g_autofree char *text = NULL;
				struct cpu_verdict v;

				if (i == k)
					continue;
				cpu_check(&b->dflt[i], GUEST_KVM, &b->max[k], &v);
				text = cpu_verdict_print(&v, &names);
				refused += !v.can;
			}
		t[r] = (now_ns() - begin) / pairs;
	}
	row("a verdict with all reasons as a sentence", n, median(t, ROUNDS), 5000);
	fprintf(stderr, "%u of %u moves refused\n", refused / ROUNDS, pairs);
}

static void bench_close(const struct bench *b)
{
	uint64_t t[ROUNDS];

	for (int r = 0; r < ROUNDS; r++) {
		uint64_t begin = now_ns();

		for (unsigned i = 0; i < 100; i++) {
			struct cpu_bits bits = b->max[i].has;

			cpu_bits_clear(&bits, feature_find("xsave")->id);
			cpu_bits_close(&bits, CLOSE_HARD, NULL);
		}
		t[r] = (now_ns() - begin) / 100;
	}
	row("closing a set without xsave", 1, median(t, ROUNDS), 0);
}

/* ---- libvirt ---- */

struct libvirt {
	void *connection;
	char *(*baseline)(void *connection, const char **xml, unsigned n, unsigned flags);
	struct cpu_bits known; /* features that it takes by the names here */
};

static void on_error(void *data, void *error)
{
	(void)data, (void)error;
}

/* libvirt writes some names otherwise. */
static char *libvirt_name(const struct feature *f)
{
	static const char *const underscored[] = { "ds-cpl",     "tsc-adjust", "lahf-lm",
						   "cmp-legacy", "nodeid-msr", "perfctr-core",
						   "fxsr-opt",   "perfctr-nb", NULL };

	if (g_str_equal(f->name, "pclmulqdq"))
		return g_strdup("pclmuldq");
	return g_strv_contains(underscored, f->name) ? g_strdelimit(g_strdup(f->name), "-", '_')
						     : g_strdup(f->name);
}

static char *libvirt_xml(const struct cpu_bits *bits)
{
	GString *s = g_string_new("<cpu><arch>x86_64</arch><model>486</model><vendor>Intel</vendor>");

	for (unsigned i = cpu_bits_next(bits, 0); i < CPU_BITS; i = cpu_bits_next(bits, i + 1)) {
		g_autofree char *name = libvirt_name(feature_at(i));

		g_string_append_printf(s, "<feature name='%s'/>", name);
	}
	g_string_append(s, "</cpu>");
	return g_string_free(s, FALSE);
}

static bool libvirt_takes(const struct libvirt *v, const struct cpu_bits *bits)
{
	g_autofree char *xml = libvirt_xml(bits);
	const char *one = xml;
	char *answer = v->baseline(v->connection, &one, 1, 0);

	free(answer);
	return answer != NULL;
}

static bool libvirt_open(struct libvirt *v)
{
	void *lib = dlopen("libvirt.so.0", RTLD_NOW);
	void *(*connect)(const char *uri);
	void (*set_error)(void *data, void (*func)(void *data, void *error));

	if (lib == NULL)
		return false;
	*(void **)&connect = dlsym(lib, "virConnectOpen");
	*(void **)&set_error = dlsym(lib, "virSetErrorFunc");
	*(void **)&v->baseline = dlsym(lib, "virConnectBaselineCPU");
	if (connect == NULL || set_error == NULL || v->baseline == NULL)
		return false;
	set_error(NULL, on_error);
	v->connection = connect("test:///default");
	if (v->connection == NULL)
		return false;
	v->known = (struct cpu_bits){ 0 };
	for (size_t i = 0; i < n_features; i++) {
		struct cpu_bits one = { 0 };

		cpu_bits_set(&one, features[i].id);
		if (libvirt_takes(v, &one))
			cpu_bits_set(&v->known, features[i].id);
	}
	return true;
}

static void bench_libvirt(const struct bench *b, const struct libvirt *v, unsigned n, int rounds)
{
	g_auto(GStrv) xml = g_new0(char *, n + 1);
	uint64_t t[ROUNDS];

	for (unsigned i = 0; i < n; i++) {
		struct cpu_bits bits;

		cpu_bits_and(&bits, &b->dflt[i].has, &v->known);
		xml[i] = libvirt_xml(&bits);
	}
	for (int r = 0; r < rounds; r++) {
		uint64_t begin = now_ns();
		char *answer = v->baseline(v->connection, (const char **)xml, n, 0);

		t[r] = now_ns() - begin;
		if (answer == NULL) {
			fprintf(stderr, "libvirt has no baseline for %u hosts\n", n);
			return;
		}
		free(answer);
	}
	row("libvirt: virConnectBaselineCPU()", n, median(t, (size_t)rounds), 0);
}

int main(int argc, char **argv)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(SEED);
	struct bench b = { .models = g_ptr_array_new_with_free_func(g_free) };
	struct libvirt v;

	for (int i = 1; i < argc; i++)
		add_dump(&b, argv[i]);
	for (int i = 0; argc == 1 && i < 48; i++)
		add_random(&b, rand);
	if (b.models->len == 0)
		return 1;
	make_hosts(&b, rand);
	fprintf(stderr, "hosts are made of %u %s\n", b.models->len, argc > 1 ? "dumps" : "random sets");
	printf("| what | hosts | us | target |\n|---|---|---|---|\n");
	bench_level(&b, 1000, 100000);
	bench_level(&b, HOSTS_MAX, 0);
	bench_join(&b, 1000);
	bench_join(&b, HOSTS_MAX);
	bench_check(&b, MIN(b.models->len, 100));
	bench_close(&b);
	if (libvirt_open(&v)) {
		bench_libvirt(&b, &v, 2, ROUNDS);
		bench_libvirt(&b, &v, 100, ROUNDS);
		bench_libvirt(&b, &v, 1000, 9);
		bench_libvirt(&b, &v, HOSTS_MAX, 3);
	} else {
		fprintf(stderr, "libvirt is not installed, and not measured\n");
	}
	return 0;
}

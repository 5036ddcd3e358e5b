/* SPDX-License-Identifier: Apache-2.0 */
#include "core/guest/argv.h"
#include "core/guest/argv-impl.h"

#include <string.h>

#define FD_BEGIN "@fd:"

static void arg_cause_free(gpointer p)
{
	ArgCause *c = p;

	g_free(c->part);
	cause_free(c->cause);
	g_free(c);
}

static void arg_free(gpointer p)
{
	Arg *a = p;

	g_free(a->option);
	g_free(a->value);
	g_ptr_array_unref(a->cause);
	g_free(a);
}

Argv *argv_new(void)
{
	Argv *a = g_new(Argv, 1);

	a->arg = g_ptr_array_new_with_free_func(arg_free);
	return a;
}

Argv *argv_free(Argv *a)
{
	if (a != NULL) {
		g_ptr_array_unref(a->arg);
		g_free(a);
	}
	return NULL;
}

static Arg *append(Argv *argv, const char *option)
{
	Arg *a = g_new(Arg, 1);

	*a = (Arg){ .option = g_strdup(option), .cause = g_ptr_array_new_with_free_func(arg_cause_free) };
	g_ptr_array_add(argv->arg, a);
	return a;
}

static void add_cause(Arg *a, const char *part, Cause *take)
{
	ArgCause *c = g_new(ArgCause, 1);

	*c = (ArgCause){ .part = g_strdup(part), .cause = take };
	g_ptr_array_add(a->cause, c);
}

void arg_begin(ArgvBuilder *b, const char *option)
{
	append(b->argv, option);
}

/* Takes both. */
static void take_part(ArgvBuilder *b, char *part, Cause *cause)
{
	Arg *a = b->argv->arg->pdata[b->argv->arg->len - 1];
	char *joined = a->value != NULL ? g_strconcat(a->value, ",", part, NULL) : g_strdup(part);

	g_free(a->value);
	a->value = joined;
	add_cause(a, part, cause);
	g_free(part);
}

void arg_part(ArgvBuilder *b, const Cause *cause, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	take_part(b, g_strdup_vprintf(fmt, ap), cause_copy(cause));
	va_end(ap);
}

void arg_default(ArgvBuilder *b, const char *key, const char *note, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	take_part(b, g_strdup_vprintf(fmt, ap), cause_new(CAUSE_DEFAULT, key, "always", note));
	va_end(ap);
}

void arg_whole(ArgvBuilder *b, const char *option, ProfileKey because, const char *fmt, ...)
{
	va_list ap;

	arg_begin(b, option);
	va_start(ap, fmt);
	take_part(b, g_strdup_vprintf(fmt, ap), cause_copy(profile_cause(b->p, because)));
	va_end(ap);
}

void arg_flag(ArgvBuilder *b, const char *option, const char *key, const char *note)
{
	arg_begin(b, option);
	add_cause(b->argv->arg->pdata[b->argv->arg->len - 1], option,
		  cause_new(CAUSE_DEFAULT, key, "always", note));
}

char *arg_quoted(const char *text)
{
	g_auto(GStrv) part = g_strsplit(text, ",", -1);

	return g_strjoinv(",,", part);
}

Cause *cause_of_vm(const char *key_prefix, const char *name, const char *member, const char *value)
{
	g_autofree char *key = g_strdup_printf("%s.%s.%s", key_prefix, name, member);

	return cause_new(CAUSE_VM, key, value, NULL);
}

const char *argv_root_bus(const ArgvBuilder *b)
{
	return profile_is_q35(b->p) ? "pcie.0" : "pci.0";
}

static bool text_ok(const char *what, const char *text, GError **err)
{
	if (text == NULL || strstr(text, FD_BEGIN) == NULL)
		return true;
	return fail_advice(err, ERR_INVALID, "Leave '" FD_BEGIN "' out of it.",
			   "%s can't be part of QEMU's command line", what);
}

bool argv_paths_ok(const ArgvBuilder *b, GError **err)
{
	for (guint i = 0; i < b->vm->disk->len; i++)
		if (!text_ok("the path of a disk", b->disk_path[i], err))
			return false;
	return true;
}

/* Everything that people wrote and that is not held to a few letters already. */
static bool texts_ok(const ArgvBuilder *b, GError **err)
{
	static const ProfileKey keys[] = { PROFILE_KERNEL, PROFILE_INITRD, PROFILE_CMDLINE, PROFILE_CDROM };

	for (size_t i = 0; i < G_N_ELEMENTS(keys); i++)
		if (!text_ok(profile_key_name(keys[i]), profile_text(b->p, keys[i]), err))
			return false;
	return argv_paths_ok(b, err) && text_ok("the state folder", b->host->folders.state, err) &&
	       text_ok("the run folder", b->host->folders.run, err);
}

Argv *argv_of(const Profile *p, const Vm *vm, const HostFacts *host, const char *const *disk_path,
	      GError **err)
{
	g_autoptr(Argv) argv = argv_new();
	ArgvBuilder b = { .p = p, .vm = vm, .host = host, .disk_path = disk_path, .argv = argv };

	g_assert(vm->id != NULL);
	if (!texts_ok(&b, err))
		return NULL;
	arg_begin(&b, host->qemu);
	add_cause(argv->arg->pdata[0], host->qemu,
		  cause_new(CAUSE_HOST, "qemu.version", host->qemu_version != NULL ? host->qemu_version : "?",
			    NULL));
	if (!argv_add_machine(&b, err))
		return NULL;
	argv_add_firmware(&b);
	argv_add_monitors(&b);
	argv_add_devices(&b);
	if (!argv_add_disks(&b, err))
		return NULL;
	argv_add_nics(&b);
	argv_add_dimms(&b, p->dimms);
	argv_add_cd(&b);
	return g_steal_pointer(&argv);
}

Argv *argv_dimms(const Json *sizes)
{
	Argv *argv = argv_new();
	ArgvBuilder b = { .argv = argv };

	argv_add_dimms(&b, sizes);
	return argv;
}

Argv *argv_cd(const Profile *p, const Vm *vm, const HostFacts *host)
{
	Argv *argv = argv_new();
	ArgvBuilder b = { .p = p, .vm = vm, .host = host, .argv = argv };

	argv_add_cd(&b);
	return argv;
}

GStrv argv_words(const Argv *a)
{
	g_autoptr(GStrvBuilder) b = g_strv_builder_new();

	for (guint i = 0; i < a->arg->len; i++) {
		const Arg *arg = a->arg->pdata[i];

		g_strv_builder_add(b, arg->option);
		if (arg->value != NULL)
			g_strv_builder_add(b, arg->value);
	}
	return g_strv_builder_end(b);
}

/* Names between "@fd:" and "@". */
static void collect_fds(const char *text, GPtrArray *names)
{
	const char *at = text;

	while ((at = strstr(at, FD_BEGIN)) != NULL) {
		const char *end = strchr(at + 1, '@');
		char *name;

		g_assert(end != NULL);
		name = g_strndup(at + strlen(FD_BEGIN), (gsize)(end - at) - strlen(FD_BEGIN));
		if (g_ptr_array_find_with_equal_func(names, name, g_str_equal, NULL))
			g_free(name);
		else
			g_ptr_array_add(names, name);
		at = end;
	}
}

GStrv argv_fds(const Argv *a)
{
	GPtrArray *names = g_ptr_array_new();

	for (guint i = 0; i < a->arg->len; i++) {
		const Arg *arg = a->arg->pdata[i];

		if (arg->value != NULL)
			collect_fds(arg->value, names);
	}
	g_ptr_array_add(names, NULL);
	return (GStrv)g_ptr_array_free(names, FALSE);
}

Json *argv_to_json(const Argv *a)
{
	Json *list = json_array();

	for (guint i = 0; i < a->arg->len; i++) {
		const Arg *arg = a->arg->pdata[i];
		Json *j = json_object(), *causes = json_array();

		for (guint k = 0; k < arg->cause->len; k++) {
			const ArgCause *c = arg->cause->pdata[k];
			Json *cause = json_object();

			json_put_str(cause, "part", c->part);
			cause_put(cause, c->cause);
			json_array_append_new(causes, cause);
		}
		json_put_str(j, "option", arg->option);
		json_put_str(j, "value", arg->value);
		json_put(j, "causes", causes);
		json_array_append_new(list, j);
	}
	return list;
}

static bool arg_of_json(Argv *argv, const Json *j, GError **err)
{
	const char *option = json_str(j, "option");
	const Json *causes = json_arr(j, "causes"), *c;
	Arg *a;
	size_t i;

	if (option == NULL || json_array_size(causes) == 0)
		return fail(err, ERR_INVALID, "a stored argument lacks its option or its causes");
	a = append(argv, option);
	a->value = g_strdup(json_str(j, "value"));
	json_array_foreach(causes, i, c)
	{
		Cause *cause = cause_of_json(c, err);

		if (cause == NULL)
			return false;
		add_cause(a, json_str(c, "part"), cause);
	}
	return true;
}

Argv *argv_of_json(const Json *j, GError **err)
{
	g_autoptr(Argv) argv = argv_new();
	const Json *item;
	size_t i;

	if (!json_is_array(j)) {
		fail(err, ERR_INVALID, "a stored command line is no list");
		return NULL;
	}
	json_array_foreach(j, i, item) if (!arg_of_json(argv, item, err)) return NULL;
	return g_steal_pointer(&argv);
}

char *argv_print(const Argv *a)
{
	GString *s = g_string_new(NULL);

	for (guint i = 0; i < a->arg->len; i++) {
		const Arg *arg = a->arg->pdata[i];

		g_string_append(s, arg->option);
		if (arg->value != NULL)
			g_string_append_printf(s, " %s", arg->value);
		g_string_append_c(s, '\n');
		for (guint k = 0; k < arg->cause->len; k++) {
			const ArgCause *c = arg->cause->pdata[k];

			g_string_append_printf(s, "\t%s: %s %s=%s\n", c->part,
					       cause_source_name(c->cause->source), c->cause->key,
					       c->cause->value);
		}
	}
	return g_string_free(s, FALSE);
}

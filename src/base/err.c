/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <errno.h>
#include <string.h>

static const struct {
	const char *name;
	unsigned http;
	int exit;
} table[_ERR_MAX] = {
#define X(n, h, e) [ERR_##n] = { .name = #n, .http = h, .exit = e },
	ERR_TABLE(X)
#undef X
};

typedef struct ErrPrivate {
	char *advice;
	Json *details;
} ErrPrivate;

static void err_private_init(ErrPrivate *p)
{
	*p = (ErrPrivate){ 0 };
}

static void err_private_copy(const ErrPrivate *from, ErrPrivate *to)
{
	*to = (ErrPrivate){ .advice = g_strdup(from->advice), .details = json_ref(from->details) };
}

static void err_private_clear(ErrPrivate *p)
{
	g_free(p->advice);
	json_unref(p->details);
}

G_DEFINE_EXTENDED_ERROR(Err, err)

/* The table's names are upper case with underscores; the API speaks lower case with dashes. */
static const char *lower_names[_ERR_MAX];

static void fill_lower_names(void)
{
	for (size_t i = 0; i < _ERR_MAX; i++) {
		char *s = g_ascii_strdown(table[i].name, -1);

		g_strdelimit(s, "_", '-');
		lower_names[i] = g_intern_string(s);
		g_free(s);
	}
}

const char *err_name(ErrCode code)
{
	static gsize once;

	g_assert(code < _ERR_MAX);
	if (g_once_init_enter(&once)) {
		fill_lower_names();
		g_once_init_leave(&once, 1);
	}
	return lower_names[code];
}

bool err_code_of_name(const char *name, ErrCode *ret)
{
	for (ErrCode c = 0; c < _ERR_MAX; c++)
		if (g_str_equal(err_name(c), name)) {
			*ret = c;
			return true;
		}
	return false;
}

unsigned err_http_status(ErrCode code)
{
	g_assert(code < _ERR_MAX);
	return table[code].http;
}

int err_exit_status(ErrCode code)
{
	g_assert(code < _ERR_MAX);
	return table[code].exit;
}

ErrCode err_code(const GError *e)
{
	return e->domain == ERR && e->code >= 0 && e->code < _ERR_MAX ? (ErrCode)e->code : ERR_INTERNAL;
}

static bool G_GNUC_PRINTF(3, 0) set(GError **err, ErrCode code, const char *fmt, va_list ap)
{
	if (err != NULL && *err == NULL)
		*err = g_error_new_valist(ERR, (gint)code, fmt, ap);
	return false;
}

bool fail(GError **err, ErrCode code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	set(err, code, fmt, ap);
	va_end(ap);
	return false;
}

static ErrCode code_of_errno(int errnum)
{
	switch (errnum) {
	case ENOENT:
		return ERR_NOT_FOUND;
	case EACCES:
	case EPERM:
		return ERR_DENIED;
	case ENOSPC:
	case EDQUOT:
		return ERR_NO_SPACE;
	case ETIMEDOUT:
		return ERR_TIMEOUT;
	case EMFILE:
	case ENFILE:
		return ERR_LIMIT;
	default:
		return ERR_INTERNAL;
	}
}

bool fail_errno(GError **err, int errnum, const char *fmt, ...)
{
	g_autofree char *msg = NULL;
	va_list ap;

	va_start(ap, fmt);
	msg = g_strdup_vprintf(fmt, ap);
	va_end(ap);
	fail(err, code_of_errno(errnum), "%s: %s", msg, g_strerror(errnum));
	if (errnum == EMFILE || errnum == ENFILE)
		err_advise(err, "`plim host limits` shows which limit is in the way, and how to raise it.");
	return false;
}

bool fail_advice(GError **err, ErrCode code, const char *advice, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	set(err, code, fmt, ap);
	va_end(ap);
	return err_advise(err, "%s", advice);
}

static ErrPrivate *private_of(GError **err)
{
	return err != NULL && *err != NULL && (*err)->domain == ERR ? err_get_private(*err) : NULL;
}

bool err_advise(GError **err, const char *fmt, ...)
{
	ErrPrivate *p = private_of(err);
	va_list ap;

	if (p != NULL) {
		g_free(p->advice);
		va_start(ap, fmt);
		p->advice = g_strdup_vprintf(fmt, ap);
		va_end(ap);
	}
	return false;
}

bool err_detail(GError **err, const char *key, Json *value)
{
	ErrPrivate *p = private_of(err);

	if (p == NULL) {
		json_unref(value);
		return false;
	}
	if (p->details == NULL)
		p->details = json_object();
	json_object_set_new(p->details, key, value);
	return false;
}

const char *err_advice(const GError *e)
{
	return e->domain == ERR ? err_get_private(e)->advice : NULL;
}

Json *err_details(const GError *e)
{
	return e->domain == ERR ? err_get_private(e)->details : NULL;
}

Json *err_to_json(const GError *e)
{
	Json *j = json_object(), *details = err_details(e);
	const char *advice = err_advice(e);

	json_object_set_new(j, "code", json_string(err_name(err_code(e))));
	json_object_set_new(j, "message", json_text_or_escaped(e->message));
	json_object_set_new(j, "details", details != NULL ? json_incref(details) : json_object());
	json_object_set_new(j, "advice", advice != NULL ? json_text_or_escaped(advice) : json_null());
	return j;
}

GError *err_of_json(const Json *j)
{
	const char *name = json_str(j, "code"), *message = json_str(j, "message"),
		   *advice = json_str(j, "advice");
	Json *details = json_object_get(j, "details");
	ErrCode code = ERR_INTERNAL;
	GError *e = NULL;

	if (name != NULL)
		err_code_of_name(name, &code);
	fail(&e, code, "%s", message != NULL ? message : "an error without a message");
	if (advice != NULL)
		err_advise(&e, "%s", advice);
	/* A copy: what is added to the error must not be added to `j`, which may then hold itself. */
	if (json_is_object(details) && json_object_size(details) > 0)
		err_get_private(e)->details = json_copy(details);
	return e;
}

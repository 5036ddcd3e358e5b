/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <errno.h>
#include <string.h>

static void test_every_code_has_a_name_that_leads_back(void)
{
	for (ErrCode c = 0; c < _ERR_MAX; c++) {
		const char *name = err_name(c);
		ErrCode back = _ERR_MAX;

		g_assert_cmpuint(strlen(name), >, 0);
		g_assert_cmpuint(strspn(name, "abcdefghijklmnopqrstuvwxyz-"), ==, strlen(name));
		g_assert_true(err_code_of_name(name, &back));
		g_assert_cmpint((int)back, ==, (int)c);
	}
}

static void test_unknown_names_are_no_codes(void)
{
	static const char *const bad[] = { "", "NOT_FOUND", "not_found", "not-found ", "nonsense" };

	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		ErrCode c = ERR_QEMU;

		g_assert_false(err_code_of_name(bad[i], &c));
		g_assert_cmpint((int)c, ==, ERR_QEMU);
	}
}

static void test_edges_get_an_error_status(void)
{
	gboolean taken[256] = { FALSE };

	for (ErrCode c = 0; c < _ERR_MAX; c++) {
		int status = err_exit_status(c);

		g_assert_cmpuint(err_http_status(c), >=, 400);
		g_assert_cmpuint(err_http_status(c), <, 600);
		g_assert_cmpint(status, >, 0); /* 0 is success, 126 and above are the shell's */
		g_assert_cmpint(status, <, 126);
		g_assert_false(taken[status]);
		taken[status] = TRUE;
	}
	g_assert_cmpuint(err_http_status(ERR_NOT_FOUND), ==, 404);
	g_assert_cmpint(err_exit_status(ERR_INVALID), ==, 2);
}

static void test_first_error_stays(void)
{
	g_autoptr(GError) err = NULL;

	g_assert_false(fail_advice(&err, ERR_CONFLICT, "first advice", "first %d", 1));
	g_assert_false(fail(&err, ERR_INVALID, "second"));
	g_assert_false(fail_errno(&err, ENOSPC, "third"));
	g_assert_error(err, ERR, ERR_CONFLICT);
	g_assert_cmpstr(err->message, ==, "first 1");
	g_assert_cmpstr(err_advice(err), ==, "first advice");
}

static void test_errors_may_be_unwanted(void)
{
	GError *unset = NULL;

	g_assert_false(fail(NULL, ERR_INVALID, "nobody asks"));
	g_assert_false(fail_advice(NULL, ERR_INVALID, "advice", "nobody asks"));
	g_assert_false(fail_errno(NULL, EIO, "nobody asks"));
	g_assert_false(err_advise(NULL, "advice"));
	g_assert_false(err_detail(NULL, "key", json_string("value")));
	/* Nothing failed: nothing is added, and nothing becomes an error. */
	g_assert_false(err_advise(&unset, "advice"));
	g_assert_false(err_detail(&unset, "key", json_string("value")));
	g_assert_null(unset);
}

static void test_foreign_errors_are_internal_and_left_alone(void)
{
	g_autoptr(GError) err = g_error_new_literal(G_FILE_ERROR, G_FILE_ERROR_NOENT, "foreign");
	_cleanup_json_ Json *j = NULL;

	g_assert_false(err_advise(&err, "advice"));
	g_assert_false(err_detail(&err, "key", json_true()));
	g_assert_null(err_advice(err));
	g_assert_null(err_details(err));
	g_assert_cmpint((int)err_code(err), ==, ERR_INTERNAL);
	j = err_to_json(err);
	g_assert_cmpstr(json_str(j, "code"), ==, "internal");
	g_assert_cmpstr(json_str(j, "message"), ==, "foreign");
}

/* The first of a list of errors becomes the error, and the list its detail. */
static void test_an_error_may_have_its_source_as_detail(void)
{
	_cleanup_json_ Json *list =
	    json_pack("[{s:s,s:s,s:{s:b}}]", "code", "conflict", "message", "no", "details", "missing", 1);
	GError *err = err_of_json(json_array_get(list, 0));
	_cleanup_json_ Json *j = NULL;
	g_autofree char *text = NULL;

	err_detail(&err, "blockers", json_incref(list));
	j = err_to_json(err);
	text = json_print(j);
	g_assert_nonnull(strstr(text, "\"blockers\":[{"));
	g_assert_cmpuint(json_object_size(json_obj(json_array_get(list, 0), "details")), ==, 1);
	g_error_free(err);
}

static void test_a_copy_keeps_advice_and_details(void)
{
	GError *err = NULL;
	g_autoptr(GError) copy = NULL;

	fail_advice(&err, ERR_BAD_STATE, "Stop it first.", "it runs");
	err_detail(&err, "state", json_string("running"));
	err_detail(&err, "pid", json_integer(7));
	copy = g_error_copy(err);
	g_error_free(err);
	g_assert_error(copy, ERR, ERR_BAD_STATE);
	g_assert_cmpstr(err_advice(copy), ==, "Stop it first.");
	g_assert_cmpstr(json_str(err_details(copy), "state"), ==, "running");
	g_assert_cmpint(json_int(err_details(copy), "pid", -1), ==, 7);
}

static void test_later_advice_replaces_the_earlier(void)
{
	g_autoptr(GError) err = NULL;

	fail_advice(&err, ERR_INVALID, "general", "bad");
	err_advise(&err, "%s advice", "better");
	g_assert_cmpstr(err_advice(err), ==, "better advice");
}

static void test_every_code_crosses_json_unchanged(void)
{
	for (ErrCode c = 0; c < _ERR_MAX; c++) {
		g_autoptr(GError) err = NULL, back = NULL;
		_cleanup_json_ Json *j = NULL;

		fail_advice(&err, c, "100 % advice", "50 %% of '%s'", "\xc3\xa4");
		err_detail(&err, "list", json_pack("[i,s]", 1, "two"));
		j = err_to_json(err);
		back = err_of_json(j);
		g_assert_error(back, ERR, (gint)c);
		g_assert_cmpstr(back->message, ==, err->message);
		g_assert_cmpstr(err_advice(back), ==, "100 % advice");
		g_assert_true(json_equal(err_details(back), err_details(err)));
	}
}

static void test_bare_error_crosses_json(void)
{
	g_autoptr(GError) err = NULL, back = NULL;
	_cleanup_json_ Json *j = NULL;

	fail(&err, ERR_NOT_FOUND, "no such vm");
	j = err_to_json(err);
	g_assert_true(json_is_null(json_object_get(j, "advice")));
	g_assert_true(json_is_object(json_object_get(j, "details")));
	back = err_of_json(j);
	g_assert_error(back, ERR, ERR_NOT_FOUND);
	g_assert_null(err_advice(back));
	g_assert_null(err_details(back));
}

static void test_bytes_that_are_no_text_cross_json(void)
{
	g_autoptr(GError) err = NULL;
	_cleanup_json_ Json *j = NULL;

	fail_advice(&err, ERR_QEMU, "see \xfe", "QEMU said \xff\xfe");
	j = err_to_json(err);
	g_assert_nonnull(json_str(j, "message"));
	g_assert_true(g_str_has_prefix(json_str(j, "message"), "QEMU said "));
	g_assert_true(g_str_has_prefix(json_str(j, "advice"), "see "));
}

static void test_garbage_becomes_internal(void)
{
	static const char *const garbage[] = {
		"null",
		"1",
		"\"text\"",
		"[]",
		"{}",
		"{\"code\":1,\"message\":[]}",
		"{\"code\":\"no-such-code\"}",
		"{\"advice\":{},\"details\":\"none\",\"message\":null}",
	};

	for (size_t i = 0; i < G_N_ELEMENTS(garbage); i++) {
		_cleanup_json_ Json *j = json_parse(garbage[i], strlen(garbage[i]), NULL);
		g_autoptr(GError) e = NULL;

		g_assert_nonnull(j);
		e = err_of_json(j);
		g_assert_error(e, ERR, ERR_INTERNAL);
		g_assert_cmpuint(strlen(e->message), >, 0);
		g_assert_null(err_advice(e));
		g_assert_null(err_details(e));
	}
}

static void test_errno_picks_the_code(void)
{
	static const struct {
		int errnum;
		ErrCode code;
	} rows[] = {
		{ ENOENT, ERR_NOT_FOUND }, { EACCES, ERR_DENIED },   { EPERM, ERR_DENIED },
		{ ENOSPC, ERR_NO_SPACE },  { EDQUOT, ERR_NO_SPACE }, { ETIMEDOUT, ERR_TIMEOUT },
		{ EMFILE, ERR_LIMIT },     { ENFILE, ERR_LIMIT },    { EIO, ERR_INTERNAL },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		g_autofree char *text = g_strdup_printf("can't open 'x': %s", g_strerror(rows[i].errnum));
		g_autoptr(GError) err = NULL;

		g_assert_false(fail_errno(&err, rows[i].errnum, "can't open '%s'", "x"));
		g_assert_error(err, ERR, (gint)rows[i].code);
		g_assert_cmpstr(err->message, ==, text);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/err/names", test_every_code_has_a_name_that_leads_back);
	g_test_add_func("/err/unknown_names", test_unknown_names_are_no_codes);
	g_test_add_func("/err/source_as_detail", test_an_error_may_have_its_source_as_detail);
	g_test_add_func("/err/edges", test_edges_get_an_error_status);
	g_test_add_func("/err/first_stays", test_first_error_stays);
	g_test_add_func("/err/unwanted", test_errors_may_be_unwanted);
	g_test_add_func("/err/foreign", test_foreign_errors_are_internal_and_left_alone);
	g_test_add_func("/err/copy", test_a_copy_keeps_advice_and_details);
	g_test_add_func("/err/later_advice", test_later_advice_replaces_the_earlier);
	g_test_add_func("/err/json", test_every_code_crosses_json_unchanged);
	g_test_add_func("/err/json_bare", test_bare_error_crosses_json);
	g_test_add_func("/err/json_bytes", test_bytes_that_are_no_text_cross_json);
	g_test_add_func("/err/json_garbage", test_garbage_becomes_internal);
	g_test_add_func("/err/errno", test_errno_picks_the_code);
	return g_test_run();
}

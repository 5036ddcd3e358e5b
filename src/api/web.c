/* SPDX-License-Identifier: Apache-2.0 */
#include "api/web.h"
#include "api/web-files.h"

#include <string.h>

#define PAGES "/web/"
/* Files are asked for again after an hour: nothing but a new version of the program changes them. */
#define KEEP "max-age=3600"
/*
 * Scripts and styles come from here only, and nobody may put the pages into a
 * frame. xterm and noVNC set the styles of elements; pictures of a screen are blobs.
 */
#define POLICY                                                                                               \
	"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "                 \
	"connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

static const struct {
	const char *suffix, *type;
} types[] = {
	{ ".html", "text/html; charset=utf-8" },
	{ ".js", "text/javascript; charset=utf-8" },
	{ ".css", "text/css; charset=utf-8" },
};

static const char *type_of(const char *name)
{
	for (size_t i = 0; i < G_N_ELEMENTS(types); i++)
		if (g_str_has_suffix(name, types[i].suffix))
			return types[i].type;
	return "application/octet-stream";
}

static const struct web_file *file_find(const char *name)
{
	for (const struct web_file *f = web_files; f->name != NULL; f++)
		if (g_str_equal(f->name, name))
			return f;
	return NULL;
}

static bool takes_gzip(const HttpRequest *req)
{
	const char *accept = http_request_header(req, "Accept-Encoding");

	return accept != NULL && strstr(accept, "gzip") != NULL;
}

static void send_file(HttpRequest *req, const struct web_file *f)
{
	http_respond_header(req, "Content-Security-Policy", POLICY);
	http_respond_header(req, "X-Content-Type-Options", "nosniff");
	http_respond_header(req, "Referrer-Policy", "no-referrer");
	http_respond_header(req, "Cache-Control", KEEP);
	http_respond_header(req, "Vary", "Accept-Encoding");
	if (takes_gzip(req)) {
		http_respond_header(req, "Content-Encoding", "gzip");
		http_respond(req, 200, type_of(f->name), f->gzip, (size_t)(f->gzip_end - f->gzip));
	} else {
		http_respond(req, 200, type_of(f->name), f->text, (size_t)(f->text_end - f->text));
	}
}

static bool is_read(const HttpRequest *req)
{
	const char *method = http_request_method(req);

	return g_str_equal(method, "GET") || g_str_equal(method, "HEAD");
}

bool web_answer(HttpRequest *req)
{
	const char *path = http_request_path(req), *name;
	const struct web_file *f;
	g_autoptr(GError) e = NULL;

	if (!is_read(req) || (!g_str_equal(path, "/") && !g_str_has_prefix(path, PAGES)))
		return false;
	name = g_str_equal(path, "/") || g_str_equal(path, PAGES) ? "index.html" : path + strlen(PAGES);
	f = file_find(name);
	if (f != NULL) {
		send_file(req, f);
		return true;
	}
	fail_advice(&e, ERR_NOT_FOUND, "The pages begin at /web/.", "there is no page '%s'", path);
	http_respond_error(req, e);
	return true;
}

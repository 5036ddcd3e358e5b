/* SPDX-License-Identifier: Apache-2.0 */
#include "api/http_head.h"

#include <string.h>

#define METHOD_MAX 32
#define EXTRA_MAX 4096

static const char *const once[] = {
	"host",   "content-length", "transfer-encoding", "authorization",         "content-type", "if-match",
	"expect", "origin",         "sec-websocket-key", "sec-websocket-version",
};

/* tchar of RFC 9110 */
static bool is_token(char c)
{
	return g_ascii_isalnum(c) || (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool all_token(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!is_token(s[i]))
			return false;
	return len > 0;
}

static unsigned refuse(unsigned status, GError **err, const char *what)
{
	fail_advice(err, status == 431 || status == 414 ? ERR_LIMIT : ERR_INVALID,
		    "Send a request that follows HTTP/1.1 (RFC 9112).", "%s", what);
	return status;
}

ssize_t http_head_end(const uint8_t *buf, size_t len, size_t from)
{
	for (size_t i = from; i < len; i++) {
		const uint8_t *lf = memchr(buf + i, '\n', len - i);

		if (lf == NULL)
			return 0;
		i = (size_t)(lf - buf);
		if (i == 0 || buf[i - 1] != '\r')
			return -1;
		if (i >= 3 && buf[i - 2] == '\n')
			return (ssize_t)i + 1;
	}
	return 0;
}

/* Cuts the line at its CRLF, steps *p past it. NULL when there is a CR or LF elsewhere. */
static char *next_line(char **p)
{
	char *line = *p, *end = strpbrk(line, "\r\n");

	if (end == NULL || end[0] != '\r' || end[1] != '\n')
		return NULL;
	*end = '\0';
	*p = end + 2;
	return line;
}

/* ---- the target ---- */

ssize_t http_percent_decode(const char *in, size_t len, bool plus, char *out)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		int c = (unsigned char)in[i];

		if (c == '%') {
			if (len - i < 3 || !g_ascii_isxdigit(in[i + 1]) || !g_ascii_isxdigit(in[i + 2]))
				return -1;
			c = g_ascii_xdigit_value(in[i + 1]) << 4 | g_ascii_xdigit_value(in[i + 2]);
			i += 2;
		} else if (c == '+' && plus) {
			c = ' ';
		}
		if (c < 0x20 || c == 0x7f)
			return -1;
		out[n++] = (char)c;
	}
	out[n] = '\0';
	return g_utf8_validate(out, (gssize)n, NULL) ? (ssize_t)n : -1;
}

/* Decodes one piece behind *p, which is stepped past it and its NUL. */
static char *decode_piece(char **p, const char *in, size_t len, bool plus)
{
	char *piece = *p;
	ssize_t n = http_percent_decode(in, len, plus, piece);

	if (n < 0)
		return NULL;
	*p += n + 1;
	return piece;
}

static unsigned parse_path(struct http_head *h, char **space, GError **err)
{
	const char *p = h->path + 1;

	for (size_t i = 0; i < HTTP_SEGMENTS_MAX; i++) {
		size_t len = strcspn(p, "/");

		h->segment[i] = decode_piece(space, p, len, false);
		if (h->segment[i] == NULL)
			return refuse(400, err,
				      "the path has an escape that is broken or stands for no text");
		if (p[len] == '\0')
			return 0;
		p += len + 1;
	}
	return refuse(414, err, "the path has too many parts");
}

static unsigned parse_query(struct http_head *h, const char *q, char **space, GError **err)
{
	while (*q != '\0') {
		size_t len = strcspn(q, "&"), name_len = MIN(len, strcspn(q, "="));
		struct http_field *f = &h->query[h->n_query];

		if (len > 0) {
			if (h->n_query == HTTP_QUERY_MAX)
				return refuse(414, err, "the query has too many parameters");
			f->name = decode_piece(space, q, name_len, true);
			name_len += name_len < len;
			f->value = decode_piece(space, q + name_len, len - name_len, true);
			if (f->name == NULL || f->value == NULL)
				return refuse(400, err,
					      "the query has an escape that is broken or stands for no text");
			h->n_query++;
		}
		q += len + (q[len] == '&');
	}
	return 0;
}

/* "http://host/path": what is sent to proxies, and servers must understand. */
static char *skip_authority(char *target)
{
	static const char *const scheme[] = { "http://", "https://" };

	for (size_t i = 0; i < G_N_ELEMENTS(scheme); i++)
		if (g_ascii_strncasecmp(target, scheme[i], strlen(scheme[i])) == 0)
			return strchr(target + strlen(scheme[i]), '/');
	return target;
}

static unsigned parse_target(struct http_head *h, char *target, GError **err)
{
	char *query, *space;
	unsigned status;

	for (const char *p = target; *p != '\0'; p++)
		if (*p <= 0x20 || *p == 0x7f || *p == '#')
			return refuse(400, err, "the target has a character that must be escaped");
	h->path = skip_authority(target);
	if (h->path == NULL || h->path[0] != '/')
		return refuse(400, err, "the target is no absolute path");
	/* A NUL for each piece, and there are no more pieces than characters. */
	h->decoded = space = g_malloc(2 * strlen(h->path) + 2);
	query = strchr(h->path, '?');
	if (query != NULL)
		*query++ = '\0';
	status = parse_path(h, &space, err);
	if (status == 0 && query != NULL)
		status = parse_query(h, query, &space, err);
	return status;
}

/* ---- lines ---- */

static unsigned parse_request_line(struct http_head *h, char *line, GError **err)
{
	char *target = strchr(line, ' '), *version = target != NULL ? strchr(target + 1, ' ') : NULL;

	if (version == NULL)
		return refuse(400, err, "the request line is not 'METHOD TARGET HTTP/1.1'");
	*target++ = '\0';
	*version++ = '\0';
	if (!all_token(line, strlen(line)) || strlen(line) > METHOD_MAX)
		return refuse(400, err, "the method is no word");
	h->method = line;
	if (strncmp(version, "HTTP/", 5) != 0 || !g_ascii_isdigit(version[5]) || version[6] != '.' ||
	    !g_ascii_isdigit(version[7]) || version[8] != '\0')
		return refuse(400, err, "the request line is not 'METHOD TARGET HTTP/1.1'");
	if (version[5] != '1')
		return refuse(505, err, "only HTTP/1.1 is spoken here");
	h->minor = version[7] == '0' ? 0 : 1;
	return parse_target(h, target, err);
}

static bool value_ok(const char *v)
{
	for (; *v != '\0'; v++)
		if ((unsigned char)*v < 0x20 ? *v != '\t' : *v == 0x7f)
			return false;
	return true;
}

static unsigned parse_header(struct http_head *h, char *line, GError **err)
{
	char *colon = strchr(line, ':');

	if (colon == NULL || !all_token(line, (size_t)(colon - line)))
		return refuse(400, err, "a header line is not 'Name: value'");
	if (h->n_headers == HTTP_HEADERS_MAX)
		return refuse(431, err, "there are too many headers");
	*colon = '\0';
	if (!value_ok(colon + 1))
		return refuse(400, err, "a header has a control character");
	for (char *p = line; p < colon; p++)
		*p = g_ascii_tolower(*p);
	h->header[h->n_headers++] = (struct http_field){ .name = line, .value = g_strstrip(colon + 1) };
	return 0;
}

/* ---- what the headers mean for the connection ---- */

static size_t count(const struct http_head *h, const char *name)
{
	size_t n = 0;

	for (size_t i = 0; i < h->n_headers; i++)
		n += g_str_equal(h->header[i].name, name);
	return n;
}

static unsigned check_once(const struct http_head *h, GError **err)
{
	for (size_t i = 0; i < G_N_ELEMENTS(once); i++)
		if (count(h, once[i]) > 1) {
			fail_advice(err, ERR_INVALID, "Send it once.", "the header '%s' is there twice",
				    once[i]);
			return 400;
		}
	if (h->minor > 0 && count(h, "host") == 0)
		return refuse(400, err, "the header 'Host' is missing");
	return 0;
}

static unsigned parse_length(struct http_head *h, GError **err)
{
	const char *length = http_head_get(h, "content-length"),
		   *coding = http_head_get(h, "transfer-encoding");
	size_t digits;

	if (coding != NULL) {
		if (length != NULL || h->minor == 0)
			return refuse(400, err,
				      "a chunked body can have no 'Content-Length', and needs HTTP/1.1");
		if (g_ascii_strcasecmp(coding, "chunked") != 0)
			return refuse(501, err, "the only transfer coding is 'chunked'");
		h->chunked = true;
		return 0;
	}
	if (length == NULL)
		return 0;
	digits = strspn(length, "0123456789");
	if (digits == 0 || digits > 18 || length[digits] != '\0')
		return refuse(400, err, "the header 'Content-Length' is no number");
	h->length = g_ascii_strtoull(length, NULL, 10);
	return 0;
}

/* "https://host:port" against "host:port". Clients that are no browsers send no Origin. */
static bool is_foreign(const struct http_head *h)
{
	const char *origin = http_head_get(h, "origin"), *host = http_head_get(h, "host");
	const char *behind = origin != NULL ? strstr(origin, "://") : NULL;

	if (origin == NULL)
		return false;
	return behind == NULL || host == NULL || g_ascii_strcasecmp(behind + 3, host) != 0;
}

static unsigned parse_connection(struct http_head *h, GError **err)
{
	const char *expect = http_head_get(h, "expect");

	if (expect != NULL && g_ascii_strcasecmp(expect, "100-continue") != 0)
		return refuse(417, err, "the only expectation is '100-continue'");
	h->foreign = is_foreign(h);
	h->expect_continue = expect != NULL && h->minor > 0;
	h->keep_alive = h->minor > 0 && !http_head_has_token(h, "connection", "close");
	h->ws_version = http_head_get(h, "sec-websocket-version");
	if (h->minor > 0 && http_head_has_token(h, "connection", "upgrade") &&
	    http_head_has_token(h, "upgrade", "websocket") && g_str_equal(h->method, "GET"))
		h->ws_key = http_head_get(h, "sec-websocket-key");
	return 0;
}

static unsigned parse_lines(struct http_head *h, GError **err)
{
	char *p = h->text, *line = next_line(&p);
	unsigned status;

	if (line == NULL)
		return refuse(400, err, "a line does not end in CRLF");
	status = parse_request_line(h, line, err);
	while (status == 0 && (line = next_line(&p)) != NULL && *line != '\0')
		status = parse_header(h, line, err);
	if (status != 0)
		return status;
	if (line == NULL)
		return refuse(400, err, "a line does not end in CRLF");
	status = check_once(h, err);
	if (status == 0)
		status = parse_length(h, err);
	if (status == 0)
		status = parse_connection(h, err);
	return status;
}

unsigned http_head_parse(const uint8_t *buf, size_t len, struct http_head *ret, GError **err)
{
	struct http_head h = { 0 };
	unsigned status;

	if (memchr(buf, '\0', len) != NULL)
		return refuse(400, err, "the head has a NUL");
	h.text = g_strndup((const char *)buf, len);
	status = parse_lines(&h, err);
	if (status != 0) {
		http_head_clear(&h);
		return status;
	}
	*ret = h;
	return 0;
}

void http_head_clear(struct http_head *h)
{
	g_clear_pointer(&h->text, g_free);
	g_clear_pointer(&h->decoded, g_free);
}

const char *http_head_get(const struct http_head *h, const char *name)
{
	for (size_t i = 0; i < h->n_headers; i++)
		if (g_str_equal(h->header[i].name, name))
			return h->header[i].value;
	return NULL;
}

static bool has_token(const char *list, const char *token)
{
	size_t want = strlen(token);

	while (*list != '\0') {
		size_t len = strcspn(list, ","), end = len;
		const char *item = list + strspn(list, " \t");

		while (end > 0 && g_ascii_isspace(list[end - 1]))
			end--;
		if (item < list + end && (size_t)(list + end - item) == want &&
		    g_ascii_strncasecmp(item, token, want) == 0)
			return true;
		list += len + (list[len] == ',');
	}
	return false;
}

bool http_head_has_token(const struct http_head *h, const char *name, const char *token)
{
	for (size_t i = 0; i < h->n_headers; i++)
		if (g_str_equal(h->header[i].name, name) && has_token(h->header[i].value, token))
			return true;
	return false;
}

/* ---- chunked bodies ----
 *
 *	1A3F ;ext=1 CRLF     size in hex, extensions are skipped
 *	...data... CRLF
 *	0 CRLF
 *	Trailer: x CRLF      skipped
 *	CRLF
 */

static bool chunk_size_byte(struct http_chunks *c, uint8_t b)
{
	int digit = g_ascii_xdigit_value((char)b);

	if (digit >= 0) {
		c->left = c->left << 4 | (unsigned)digit;
		return ++c->digits <= 15;
	}
	if (c->digits == 0)
		return false;
	if (b == '\r')
		c->state = CHUNKS_SIZE_LF;
	else if (b == ';' || b == ' ' || b == '\t')
		c->state = CHUNKS_EXT;
	else
		return false;
	return true;
}

static bool chunk_expect(struct http_chunks *c, uint8_t b, char want, enum http_chunk_state next)
{
	c->state = next;
	return b == (uint8_t)want;
}

/* One byte that is not data. False: malformed. */
static bool chunk_byte(struct http_chunks *c, uint8_t b)
{
	switch (c->state) {
	case CHUNKS_SIZE:
		return chunk_size_byte(c, b);
	case CHUNKS_EXT:
		if (b == '\r')
			c->state = CHUNKS_SIZE_LF;
		return b != '\n' && ++c->extra <= EXTRA_MAX;
	case CHUNKS_SIZE_LF:
		return chunk_expect(c, b, '\n', c->left > 0 ? CHUNKS_DATA : CHUNKS_TRAILER);
	case CHUNKS_DATA_CR:
		return chunk_expect(c, b, '\r', CHUNKS_DATA_LF);
	case CHUNKS_DATA_LF:
		c->digits = 0;
		return chunk_expect(c, b, '\n', CHUNKS_SIZE);
	case CHUNKS_TRAILER:
		c->state = b == '\r' ? CHUNKS_LAST_LF : CHUNKS_TRAILER_LINE;
		return b != '\n' && ++c->extra <= EXTRA_MAX;
	case CHUNKS_TRAILER_LINE:
		if (b == '\r')
			c->state = CHUNKS_TRAILER_LF;
		return b != '\n' && ++c->extra <= EXTRA_MAX;
	case CHUNKS_TRAILER_LF:
		return chunk_expect(c, b, '\n', CHUNKS_TRAILER);
	case CHUNKS_LAST_LF:
		return chunk_expect(c, b, '\n', CHUNKS_DONE);
	case CHUNKS_DATA:
	case CHUNKS_DONE:
		break;
	}
	g_assert_not_reached();
}

HttpChunkEvent http_chunks_step(struct http_chunks *c, const uint8_t *buf, size_t len, size_t *ret_used,
				const uint8_t **ret_data, size_t *ret_len)
{
	size_t i = 0;

	*ret_used = 0;
	while (i < len && c->state != CHUNKS_DATA && c->state != CHUNKS_DONE)
		if (!chunk_byte(c, buf[i++]))
			return HTTP_CHUNK_BAD;
	if (c->state == CHUNKS_DATA && i < len) {
		*ret_data = buf + i;
		*ret_len = (size_t)MIN((uint64_t)(len - i), c->left);
		c->left -= *ret_len;
		if (c->left == 0)
			c->state = CHUNKS_DATA_CR;
		*ret_used = i + *ret_len;
		return HTTP_CHUNK_DATA;
	}
	*ret_used = i;
	return c->state == CHUNKS_DONE ? HTTP_CHUNK_END : HTTP_CHUNK_MORE;
}

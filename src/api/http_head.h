/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The head of an HTTP/1.1 request (RFC 9112) from bytes, and chunked bodies.
 *
 * Pure: bytes in, fields out. Strict, because two programs that read the same
 * bytes differently are how requests are smuggled: lines end in CRLF, nothing
 * is folded, a length is said once and in digits, and a length beside chunks
 * is refused. What is refused says why, and with which status.
 *
 * For the parts of the HTTP server only; handlers include api/http.h.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

#define HTTP_HEADERS_MAX 100
#define HTTP_QUERY_MAX 100
#define HTTP_SEGMENTS_MAX 32

struct http_field {
	char *name, *value; /* of headers: the name in lower case, the value without blanks around it */
};

/* Everything points into `text` or `decoded`, both owned. */
struct http_head {
	char *text;    /* the head, cut into strings in place */
	char *decoded; /* path pieces and query, decoded */
	char *method;
	char *path; /* as sent, without query */
	char *segment[HTTP_SEGMENTS_MAX + 1];
	struct http_field query[HTTP_QUERY_MAX];
	size_t n_query;
	struct http_field header[HTTP_HEADERS_MAX];
	size_t n_headers;
	unsigned minor;         /* HTTP/1.minor */
	bool keep_alive;        /* the client would send more on this connection */
	bool chunked;           /* the body comes in chunks */
	bool expect_continue;   /* it waits for a 100 before it sends the body */
	uint64_t length;        /* of the body; 0 when none was said */
	const char *ws_key;     /* Sec-WebSocket-Key when it asks for a WebSocket, else NULL */
	const char *ws_version; /* NULL when not said */
	bool foreign;           /* a browser sends it for a page of another origin */
};

/*
 * Where the head ends: the length up to and with its empty line, 0 when that
 * has not arrived yet, -1 when a line that has arrived ends in a bare LF.
 * `from`: bytes that were searched before without success.
 */
ssize_t http_head_end(const uint8_t *buf, size_t len, size_t from);

/*
 * Parse a head of exactly `len` bytes (http_head_end()). Returns 0, or the
 * status of the refusal with *err set; `ret` needs http_head_clear() only
 * after success.
 */
unsigned http_head_parse(const uint8_t *buf, size_t len, struct http_head *ret, GError **err);
void http_head_clear(struct http_head *h);

/* The value of a header, or NULL; `name` in lower case. */
const char *http_head_get(const struct http_head *h, const char *name);
/* Is `token` among the comma-separated items of all headers of that name? Any case. */
bool http_head_has_token(const struct http_head *h, const char *name, const char *token);

/*
 * Decode percent-escapes of `len` bytes into `out` (at least len + 1 bytes),
 * '+' to a blank when `plus`. Refuses broken escapes, control characters
 * (NUL with them) and what is not UTF-8 then. Returns the length or -1.
 */
ssize_t http_percent_decode(const char *in, size_t len, bool plus, char *out);

/* ---- chunked bodies ---- */

typedef enum HttpChunkEvent {
	HTTP_CHUNK_MORE, /* all input is used up */
	HTTP_CHUNK_DATA, /* *ret_data, *ret_len of the body */
	HTTP_CHUNK_END,
	HTTP_CHUNK_BAD,
} HttpChunkEvent;

struct http_chunks {
	enum http_chunk_state {
		CHUNKS_SIZE,
		CHUNKS_EXT,
		CHUNKS_SIZE_LF,
		CHUNKS_DATA,
		CHUNKS_DATA_CR,
		CHUNKS_DATA_LF,
		CHUNKS_TRAILER,
		CHUNKS_TRAILER_LINE,
		CHUNKS_TRAILER_LF,
		CHUNKS_LAST_LF,
		CHUNKS_DONE,
	} state;
	unsigned digits; /* of the size */
	unsigned extra;  /* bytes of extensions and trailers, which are skipped, but not for ever */
	uint64_t left;   /* of the chunk */
};

/* One step: uses up *ret_used bytes of `buf`. Begin with a zeroed state. */
HttpChunkEvent http_chunks_step(struct http_chunks *c, const uint8_t *buf, size_t len, size_t *ret_used,
				const uint8_t **ret_data, size_t *ret_len);

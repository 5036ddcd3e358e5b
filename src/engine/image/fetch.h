/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of an image's source, from a local file or over HTTP, into a sink.
 * Of import.c; use that.
 */
#pragma once

#include "engine/image/import.h"
#include "engine/image/sink.h"

/* True for a path and for file://, with the path; false for http and https. */
bool fetch_is_local(const char *source, char **ret_path, GError **err);
/* The source without user and password, to be shown. Caller frees. */
char *fetch_shown(const char *source);
/* ERR_INVALID for relative paths and other schemes. */
bool fetch_check(const char *source, GError **err);

bool fetch_file(const char *path, Sink *s, GError **err);

/*
 * What is known of the source, {etag, last_modified}, so that a download that
 * goes on is of the same thing; updated, and handed to `save` when it changes.
 */
struct fetch_http {
	const char *url;
	Json *known;
	bool trust_resume; /* a checksum follows, so parts may be put together without a validator */
	uint64_t retry_delay;
	const struct hooks *hooks;
	bool (*save)(const Json *known, void *data, GError **err);
	void *data;
};

bool fetch_http(struct fetch_http *f, Sink *s, GError **err);

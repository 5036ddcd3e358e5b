/* SPDX-License-Identifier: Apache-2.0 */
/* The files of web/, as tools/gen-web.py put them into the program. */
#pragma once

struct web_file {
	const char *name; /* below web/ */
	const char *text, *text_end;
	const char *gzip, *gzip_end; /* the same, compressed */
};

/* Ends with one whose name is NULL. */
extern const struct web_file web_files[];

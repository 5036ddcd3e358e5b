/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pages for browsers, built into the program: an index of the vms and the
 * console. They hold nothing secret and ask the API for everything, with the
 * authority of whoever opened them.
 */
#pragma once

#include "api/http.h"

/*
 * Answers a GET of "/", "/web/" or a file below it, 404 for one that is not
 * there. False when the request is for something else, and not answered.
 */
bool web_answer(HttpRequest *req);

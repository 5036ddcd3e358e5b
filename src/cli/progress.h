/* SPDX-License-Identifier: Apache-2.0 */
/* Progress on stderr: a bar on a terminal, a line for each new stage elsewhere. */
#pragma once

typedef struct Progress Progress;

Progress *progress_begin(void);
/* `stage` is what is being done now, `percent` from 0 to 100. */
void progress_show(Progress *p, const char *stage, int percent);
/* Takes the bar away. */
void progress_end(Progress *p);

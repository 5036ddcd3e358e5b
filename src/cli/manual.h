/* SPDX-License-Identifier: Apache-2.0 */
/* Help, manual pages and completion, all made from the table of commands. */
#pragma once

#include "cli/command.h"

/* All nouns with their verbs, or those of one noun. */
/* Help of the verbs whose first word is `word`; false when there is none. */
bool help_begun(const char *noun, const char *word);
void help_all(const char *noun);
void help_command(const Command *c);

/* plim manual [NOUN]: a page in roff, plim(1) or plim-NOUN(1). */
int manual_main(int argc, char **argv);
/* plim completion bash|zsh: a script. plim completion words WORD...: what may stand next, one a line. */
int completion_main(int argc, char **argv);

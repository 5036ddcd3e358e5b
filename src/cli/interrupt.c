/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/interrupt.h"
#include "base/time.h"

#include <glib.h>
#include <pthread.h>
#include <signal.h>

/* What stays pending is seen by whoever looks; so waiting takes turns of this. */
#define TURN UINT64_C(50000)

static void set_of(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGTERM);
}

void interrupt_hold(void)
{
	sigset_t set;

	set_of(&set);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

bool interrupt_came(void)
{
	sigset_t set;

	sigpending(&set);
	return sigismember(&set, SIGINT) || sigismember(&set, SIGTERM);
}

void interrupt_wait(uint64_t us)
{
	uint64_t end = time_monotonic() + us, now;

	while (!interrupt_came() && (now = time_monotonic()) < end)
		g_usleep(MIN(TURN, end - now));
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells ThreadSanitizer of GLib's locks, which it cannot see: GLib is not
 * instrumented, and its mutexes are futexes of its own. Without this every
 * value guarded by a GMutex or passed through a GAsyncQueue looks like a race.
 *
 *     meson setup build-tsan -Db_sanitize=thread -Db_lundef=false && ninja -C build-tsan
 *     G_SLICE=always-malloc LD_PRELOAD=build-tsan/tests/tsan/libglib_sync.so build-tsan/tests/qmp/test_qmp
 */
#include <dlfcn.h>
#include <glib.h>
#include <pthread.h>

void __tsan_acquire(void *addr);
void __tsan_release(void *addr);

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* Around the calls: a queue allocates and frees inside. */
static pthread_mutex_t queues = PTHREAD_MUTEX_INITIALIZER;

void g_mutex_lock(GMutex *m)
{
	static __typeof__(&g_mutex_lock) real;

	if (real == NULL)
		real = REAL(g_mutex_lock);
	real(m);
	__tsan_acquire(m);
}

void g_mutex_unlock(GMutex *m)
{
	static __typeof__(&g_mutex_unlock) real;

	if (real == NULL)
		real = REAL(g_mutex_unlock);
	__tsan_release(m);
	real(m);
}

void g_cond_wait(GCond *c, GMutex *m)
{
	static __typeof__(&g_cond_wait) real;

	if (real == NULL)
		real = REAL(g_cond_wait);
	__tsan_release(m);
	real(c, m);
	__tsan_acquire(m);
}

gboolean g_cond_wait_until(GCond *c, GMutex *m, gint64 end_time)
{
	static __typeof__(&g_cond_wait_until) real;
	gboolean r;

	if (real == NULL)
		real = REAL(g_cond_wait_until);
	__tsan_release(m);
	r = real(c, m, end_time);
	__tsan_acquire(m);
	return r;
}

void g_async_queue_push(GAsyncQueue *q, gpointer data)
{
	static __typeof__(&g_async_queue_push) real;

	if (real == NULL)
		real = REAL(g_async_queue_push);
	pthread_mutex_lock(&queues);
	real(q, data);
	pthread_mutex_unlock(&queues);
}

gpointer g_async_queue_try_pop(GAsyncQueue *q)
{
	static __typeof__(&g_async_queue_try_pop) real;
	gpointer data;

	if (real == NULL)
		real = REAL(g_async_queue_try_pop);
	pthread_mutex_lock(&queues);
	data = real(q);
	pthread_mutex_unlock(&queues);
	return data;
}

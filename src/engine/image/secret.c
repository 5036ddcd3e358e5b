/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/image/secret.h"
#include "base/fd.h"

#include <string.h>
#include <sys/mman.h>

static bool open_one(SecretFiles *s, const char *secret, GError **err)
{
	_cleanup_close_ int fd = memfd_create("secret", MFD_CLOEXEC);
	int r = fd >= 0 ? fd_write_all(fd, secret, strlen(secret)) : -errno;

	if (r < 0)
		return fail_errno(err, -r, "can't hand over a passphrase");
	g_ptr_array_add(s->words, g_strdup("--object"));
	g_ptr_array_add(s->words, g_strdup_printf("secret,id=k%u,file=/proc/self/fd/%d", s->fd->len, fd));
	g_array_append_val(s->fd, fd);
	fd = -EBADF;
	return true;
}

bool secret_files_open(SecretFiles *s, const char *const *secrets, GError **err)
{
	s->fd = g_array_new(FALSE, FALSE, sizeof(int));
	s->words = g_ptr_array_new_with_free_func(g_free);
	for (; secrets != NULL && *secrets != NULL; secrets++)
		if (!open_one(s, *secrets, err))
			return false;
	return true;
}

void secret_files_close(SecretFiles *s)
{
	for (guint i = 0; s->fd != NULL && i < s->fd->len; i++)
		close(g_array_index(s->fd, int, i));
	g_clear_pointer(&s->fd, g_array_unref);
	g_clear_pointer(&s->words, g_ptr_array_unref);
}

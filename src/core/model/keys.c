/* SPDX-License-Identifier: Apache-2.0 */
#include "core/model/keys.h"

#include <string.h>

char *key_vm_config(const char *id)
{
	return g_strconcat(KEYS_VMS, id, "/config", NULL);
}

char *key_vm_runtime(const char *id)
{
	return g_strconcat(KEYS_VMS, id, "/runtime", NULL);
}

char *key_vm_applied(const char *id)
{
	return g_strconcat(KEYS_VMS, id, "/applied", NULL);
}

char *key_vm_promise(const char *id)
{
	return g_strconcat(KEYS_VMS, id, "/promise", NULL);
}

char *key_tools(const char *vm_id)
{
	return g_strconcat(KEYS_TOOLS, vm_id, NULL);
}

char *key_host(const char *id)
{
	return g_strconcat(KEYS_HOSTS, id, NULL);
}

char *key_cpu(const char *host_id)
{
	return g_strconcat(KEYS_CPUS, host_id, NULL);
}

char *key_cpu_mask(const char *host_id)
{
	return g_strconcat(KEYS_CPU_MASKS, host_id, NULL);
}

char *key_lease(const char *host_id)
{
	return g_strconcat(KEYS_LEASES "hosts/", host_id, NULL);
}

char *key_pool_token(const char *hash)
{
	return g_strconcat(KEYS_POOL_TOKENS, hash, NULL);
}

char *key_image(const char *id)
{
	return g_strconcat(KEYS_IMAGES, id, NULL);
}

char *key_volume(const char *id)
{
	return g_strconcat(KEYS_VOLUMES, id, NULL);
}

char *key_operation(const char *id)
{
	return g_strconcat(KEYS_OPERATIONS, id, NULL);
}

char *key_event(guint64 seq)
{
	return g_strdup_printf(KEYS_EVENTS "%016" G_GINT64_MODIFIER "x", seq);
}

char *key_name(const char *collection, const char *name)
{
	g_autofree char *escaped = g_uri_escape_string(name, NULL, FALSE);

	return g_strconcat(KEY_ROOT "names/", collection, "/", escaped, NULL);
}

gboolean key_split(const char *key, char **ret_collection, char **ret_id, char **ret_rest)
{
	g_auto(GStrv) part = NULL;

	if (!g_str_has_prefix(key, KEY_ROOT))
		return FALSE;
	part = g_strsplit(key + strlen(KEY_ROOT), "/", 3);
	if (g_strv_length(part) < 2 || part[0][0] == '\0' || part[1][0] == '\0')
		return FALSE;
	*ret_collection = g_strdup(part[0]);
	*ret_id = g_strdup(part[1]);
	*ret_rest = g_strdup(part[2] != NULL ? part[2] : "");
	return TRUE;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where an etcd is and how to log in, as the URL of a store says it:
 *
 *   ENDPOINT[,ENDPOINT...][?OPTION=VALUE[&OPTION=VALUE...]]
 *
 * An endpoint is http://HOST[:PORT] or https://HOST[:PORT]; the port is 2379
 * unless given. Options, whose values may be %-escaped:
 *
 *   root=TEXT            stands before each key, so that several stores, and other
 *                        programs, can share an etcd; without it the whole etcd is the store's
 *   ca=PATH              the certificates that sign the endpoints' ones; else those of the system
 *   cert=PATH key=PATH   the certificate that this client shows
 *   user=NAME password-file=PATH   log in by name; the file's first line is the password
 *   timeout=DURATION     how long a call tries before it fails; 10s unless given
 *
 * A password is never part of the URL: URLs are shown in logs and process lists.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

#define ETCD_ENDPOINTS_MAX 16
#define ETCD_ROOT_MAX 128

typedef struct EtcdConfig {
	GPtrArray *endpoint; /* char *: "https://10.0.0.1:2379" */
	char *root;          /* perhaps empty, never NULL */
	char *ca, *cert, *key;
	char *user, *password_file;
	uint64_t timeout; /* microseconds */
} EtcdConfig;

/* `text` is what follows "etcd:". ERR_INVALID with what was wrong; files are not looked at. */
EtcdConfig *etcd_config_parse(const char *text, GError **err);
EtcdConfig *etcd_config_free(EtcdConfig *c);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(EtcdConfig, etcd_config_free)

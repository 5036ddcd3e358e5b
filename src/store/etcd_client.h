/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests to etcd's v3 API by its JSON gateway (HTTP/1.1, POST /v3/...), for
 * the store and for the management of members.
 *
 * Calls block, from any thread, and share a pool of kept-alive connections.
 * They go to the endpoint that answered last; when it can't be reached, does
 * not answer in time or says that it has no leader, they go on to the next
 * one, round and round, until the deadline. Nothing is reachable at all: one
 * round, and three seconds, of trying are enough.
 *
 * The gateway ignores what it does not know: a misspelt field is no error but
 * a field that is not there. So bodies are built in few places and tested there.
 *
 * Errors: ERR_UNAVAILABLE (not reachable, or no quorum), ERR_TIMEOUT,
 * ERR_DENIED (user, password, rights), ERR_NO_SPACE (etcd's quota), ERR_GONE
 * (history or lease), ERR_LIMIT (an answer above JSON_TEXT_MAX), ERR_INVALID
 * (certificate files, or what etcd finds wrong in the request), ERR_UNSUPPORTED
 * (no v3 API there), ERR_STORE (anything else).
 */
#pragma once

#include "store/etcd_config.h"

#include <curl/curl.h>

typedef struct EtcdClient EtcdClient;

typedef struct EtcdCall {
	const char *path; /* "kv/range" */
	const char *body; /* JSON */
	/* It must not be carried out twice: tried again only while it can't have been received. */
	bool once;
	/* On a connection of its own: on a kept one that it finds dead, libcurl sends a request again by
	 * itself. */
	bool fresh;
	uint64_t timeout; /* 0: the one of the configuration */
	/* results */
	bool maybe;    /* it failed, and may have been carried out all the same, or may be yet */
	uint64_t sent; /* when the request that was answered was begun; monotonic */
} EtcdCall;

/* `config` must outlive it. Asks nothing yet. */
EtcdClient *etcd_client_new(const EtcdConfig *config, GError **err);
/* No call may be under way. NULL is fine; returns NULL. */
EtcdClient *etcd_client_free(EtcdClient *c);

/* The answer, an object. New reference. */
Json *etcd_client_call(EtcdClient *c, EtcdCall *call, GError **err);

/*
 * For a request that is not a call (the stream of a watch): what to set on a handle of one's own for
 * endpoint number `endpoint`. The headers go to `ret_headers` and must outlive the request; they hold the
 * login, for which this may have to ask etcd.
 */
bool etcd_client_prepare(EtcdClient *c, CURL *curl, guint endpoint, const char *path,
			 struct curl_slist **ret_headers, GError **err);
/* The endpoint that answered last, which is a good one to begin with. */
guint etcd_client_endpoint(EtcdClient *c);
/* The login is not accepted any more: log in anew next time. */
void etcd_client_forget_login(EtcdClient *c);

/*
 * The error that etcd's words and gRPC code stand for, with advice. Sets `ret_again` when another try,
 * or another endpoint, may well succeed.
 */
bool etcd_fail_refused(int grpc_code, const char *words, bool *ret_again, GError **err);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(EtcdClient, etcd_client_free)

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS 1.2 and 1.3 on sockets that do not block, with GnuTLS, for the HTTP
 * server. Client certificates are checked in the handshake: chain, time, and
 * that they are for clients.
 */
#pragma once

#include "api/http.h"

/* Certificate, key and client CA of a listener. */
typedef struct TlsContext TlsContext;
/* One connection. */
typedef struct Tls Tls;

/* ERR_INVALID, naming the file that cannot be used. */
TlsContext *tls_context_new(const char *cert, const char *key, const char *client_ca, HttpClientCert mode,
			    GError **err);
TlsContext *tls_context_free(TlsContext *c);

/* The descriptor stays the caller's. */
Tls *tls_new(const TlsContext *c, int fd, GError **err);
Tls *tls_free(Tls *t);

/* 0 when agreed, -EAGAIN to call again when tls_wants_write() says, another negative errno when it failed. */
int tls_handshake(Tls *t);
bool tls_wants_write(const Tls *t);
/*
 * As read(2) and write(2) with -errno. A write that said -EAGAIN must be
 * repeated with a buffer that begins with the same bytes.
 */
ssize_t tls_read(Tls *t, void *buf, size_t len);
ssize_t tls_write(Tls *t, const void *buf, size_t len);
/* Decrypted bytes wait here, about which the socket says nothing. */
bool tls_pending(const Tls *t);
/* Says goodbye, as far as that goes without waiting. */
void tls_bye(Tls *t);

/*
 * Who the client is, by its valid certificate; both stay NULL when it showed
 * none. False when the certificate has no usable name. Caller frees.
 */
bool tls_identity(const Tls *t, char **ret_cn, char **ret_sha256);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(TlsContext, tls_context_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Tls, tls_free)

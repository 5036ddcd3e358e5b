/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool's own certificates: who is a host of the pool, and who is not.
 *
 * `pool init` makes a certificate authority; every host has a key that never
 * leaves it and a certificate that the authority signed. The certificate
 * proves a host's id: that is its common name and one of its DNS names, the
 * addresses at which it is reached are the others. Who calls a host asks for
 * the id as the TLS host name, so an address that went to another host is
 * noticed.
 *
 * All members hold the authority's key, each in a file of its own (0600): any
 * member alone can then take in a new host and renew its own certificate. It
 * gives away nothing: who is root on a member may write every record of the
 * pool anyway.
 *
 * A folder holds ca.pem, ca.key, host.pem and host.key. Certificates serve both
 * ends of a connection, as plimsolld, etcd and QEMU want them: ECDSA on P-256,
 * signed with SHA-256.
 *
 * Any thread. Times are microseconds of the wall clock (time_real()).
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

#define PKI_CA "ca.pem"
#define PKI_CA_KEY "ca.key"
#define PKI_CERT "host.pem"
#define PKI_KEY "host.key"

#define PKI_DAY (UINT64_C(86400) * 1000000)
#define PKI_CA_LIFE (UINT64_C(7300) * PKI_DAY)
#define PKI_HOST_LIFE (UINT64_C(730) * PKI_DAY)
/* A certificate that will not last so long any more is made anew. */
#define PKI_RENEW (UINT64_C(240) * PKI_DAY)

/* Make the authority in `folder`, which must have none: ERR_CONFLICT. */
bool pki_ca_make(const char *folder, const char *pool_id, uint64_t now, GError **err);

/*
 * Make the host's key in `folder` unless it has one, and a request (PKCS #10,
 * PEM) for a certificate of it. Caller frees.
 */
char *pki_request(const char *folder, const char *host_id, GError **err);

struct pki_subject {
	const char *host_id;
	const char *const *names; /* addresses and DNS names, NULL-terminated, or NULL */
	uint64_t from, until;
};

/*
 * Sign a request with the authority in `folder`. ERR_INVALID for a request that
 * is none, or that is not signed with its own key. Only the key is taken from
 * the request: who the host is, is said by `subject`. PEM; caller frees.
 */
char *pki_sign(const char *folder, const char *request, const struct pki_subject *subject, GError **err);

/* Key, request, signature, files: for a host that has the authority. */
bool pki_host_make(const char *folder, const struct pki_subject *subject, GError **err);

/* The certificate in a PEM text, printed anew: what else is in the text is left out. Caller frees. */
char *pki_only(const char *pem, GError **err);
/* SHA-256 of the certificate in a PEM text: 64 hex digits. Caller frees. */
char *pki_fingerprint(const char *pem, GError **err);

/*
 * Is the certificate in `folder` the one of this host: of its key, signed by
 * its authority, in time? Else ERR_DENIED, with a sentence that says which of
 * these is wrong. `ret_until` may be NULL.
 */
bool pki_check(const char *folder, const char *host_id, uint64_t now, uint64_t *ret_until, GError **err);

/* Write one of the files above, mode 0600 for keys. */
bool pki_file_write(const char *folder, const char *name, const char *text, GError **err);
/* Read one of them. Caller frees. */
char *pki_file_read(const char *folder, const char *name, GError **err);

/* The group ffdhe2048 (RFC 7919) for a Diffie-Hellman exchange: PKCS #3, PEM. Caller frees. */
char *pki_group(GError **err);

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store in the words of etcd's JSON gateway: requests as text, answers as
 * items. Pure. For store_etcd*.c and their tests only.
 *
 * On the wire, 64-bit numbers are strings, keys and values base64, and what is
 * zero, empty or false is left out (protobuf's JSON mapping, as the gateway of
 * etcd 3.4 to 3.5 does it).
 *
 * A key of the store is `root` + key in etcd. Keys below the root that the
 * contract of store.h does not allow can't be items; this store keeps its own
 * there, with a space in them ("ROOTplimsoll schema"). They are passed over, but
 * their revisions count: they say how far a watch has come.
 */
#pragma once

#include "store/store-impl.h"

#define WIRE_SCHEMA_KEY "plimsoll schema"
#define WIRE_PULSE_KEY "plimsoll pulse"
#define WIRE_MARK_PREFIX "plimsoll commit "

/* Of every answer. */
struct wire_header {
	uint64_t cluster;
	int64_t rev;
	int64_t term; /* of raft: it grows with each leader */
};

/* What a transaction writes beside its own keys, so that it can be told later whether it happened. */
struct wire_mark {
	const char *key, *value; /* the key without the root, and not base64 */
	int64_t rev;             /* it must have */
};

enum wire_range_flags {
	WIRE_PREFIX = 1,    /* all that begin with the key, which may be empty */
	WIRE_KEYS_ONLY = 2, /* without the values */
};

/* Requests. `rev` 0 is now; `limit` 0 is none. Callers free. */
char *wire_range(const char *root, const char *key, unsigned flags, int64_t rev, int64_t limit);
/*
 * A page of a list: from the key `after` (in etcd, with root; NULL: the first one) to the end of the prefix.
 */
char *wire_page(const char *root, const char *prefix, const char *after, int64_t rev, int64_t limit);
/* `mark` may be NULL. All else of what a commit sends is built here and nowhere else. */
char *wire_tx(const char *root, const StoreTx *tx, const struct wire_mark *mark);
/* Overwrites one hidden key. */
char *wire_put(const char *root, const char *key, const char *value);
char *wire_watch(const char *root, const char *prefix, int64_t start_rev);
char *wire_compaction(int64_t rev);
/* {"TTL": seconds} grants, {"ID": lease} renews and revokes. */
char *wire_lease(const char *field, int64_t number);

/* Answers. All fail with ERR_STORE on what etcd does not send. */
bool wire_header_read(const Json *answer, struct wire_header *ret, GError **err);

/* Of a lease that was granted or renewed; `ret_ttl` in seconds, 0 when it has ended. */
bool wire_lease_read(const Json *answer, int64_t *ret_id, int64_t *ret_ttl, GError **err);

struct wire_page {
	char *last; /* of its keys, with root; NULL when there is none */
	bool more;
};
/* Appends the items of a range to `items`. `ret_page` may be NULL, or gets a text to free. */
bool wire_items_read(const Json *answer, const char *root, GPtrArray *items, struct wire_page *ret_page,
		     GError **err);

/* One key of a range, any key: its revision, 0 when it is not there, and its value or NULL. */
bool wire_one_read(const Json *range, int64_t *ret_rev, char **ret_value, GError **err);

/* What became of a transaction that was sent as wire_tx(tx, mark). */
struct wire_outcome {
	bool succeeded;
	const StoreWrite *conflict; /* the first that had another revision; NULL if none had */
	int64_t found;              /* the revision that it had */
	int64_t mark_rev;           /* of a refused transaction: what the mark is, */
	char *mark_value;           /* NULL if it is not there; the caller frees it */
};
bool wire_outcome_read(const Json *answer, const StoreTx *tx, const struct wire_mark *mark,
		       struct wire_outcome *ret, GError **err);

/* A line of a watch's stream. */
struct wire_event {
	struct wire_header header;
	bool created;      /* it watches now */
	bool fragment;     /* the rest of the last revision comes with the next line */
	bool progress;     /* all up to header.rev has been told */
	int64_t compacted; /* not 0: the history begins there, and the watch has ended */
	GPtrArray *items;  /* in order */
	int64_t last;      /* the revision of the last change, of any key below the prefix; 0 when none */
	char *words;       /* not NULL: it has ended, and why; */
	int grpc_code;     /* with this code */
};
bool wire_event_read(const char *line, size_t len, const char *root, struct wire_event *ret, GError **err);
void wire_event_clear(struct wire_event *e);

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why a piece of a guest's hardware is there: what `vm explain` shows. Pure.
 */
#pragma once

#include "base/err.h"

// clang-format off
#define CAUSE_TABLE(X)                                            \
	X(IMAGE,   "image")    /* a property of the image */      \
	X(VM,      "vm")       /* somebody set it on the vm */    \
	X(HOST,    "host")     /* what the host is or can do */   \
	X(POOL,    "pool")     /* what all hosts can do */        \
	X(DEFAULT, "default")  /* nobody asked for anything else */
// clang-format on

typedef enum CauseSource {
#define X(name, text) CAUSE_##name,
	CAUSE_TABLE(X)
#undef X
	    _CAUSE_MAX,
} CauseSource;

typedef struct Cause {
	CauseSource source;
	char *key;   /* "os_type", "platform.usb", "accelerators.kvm" */
	char *value; /* as it was found there, or the default's value; never NULL */
	char *note;  /* a sentence, or NULL */
} Cause;

const char *cause_source_name(CauseSource s);

Cause *cause_new(CauseSource source, const char *key, const char *value, const char *note);
Cause *cause_copy(const Cause *c);
Cause *cause_free(Cause *c);

/* {source, key, value, note} */
Json *cause_to_json(const Cause *c);
/* ERR_INVALID when something is missing or the source is unknown. */
Cause *cause_of_json(const Json *j, GError **err);
/* Adds the four members to an object that says more. */
void cause_put(Json *into, const Cause *c);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Cause, cause_free)

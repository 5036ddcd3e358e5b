/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Backups, and the manifest that stands beside the files of one. Pure.
 *
 * A repository is a folder: REPOSITORY/VM/BACKUP/, named by the ids of both,
 * with manifest.json and a file DISK.qcow2 for each disk. The files of an
 * incremental backup hold what changed since its parent, which they name as
 * their backing file by a path relative to their own folder: a repository can
 * be moved or mounted elsewhere. A folder whose name begins with a dot is not a
 * backup: something was interrupted there.
 *
 * A repository may come from anywhere, so that every member of a manifest is
 * checked; what is not known is refused.
 */
#pragma once

#include "core/model/vm.h"

#define BACKUP_FORMAT 1
/* Of an encrypted one: what knows the first only refuses it as newer. */
#define BACKUP_FORMAT_ENCRYPTED 2
#define BACKUP_MANIFEST "manifest.json"
/* Of an encrypted one: backup_key_mac() of the manifest's text. */
#define BACKUP_MANIFEST_MAC "manifest.hmac"
#define BACKUP_MANIFEST_MAX (4u << 20)
/* The longest chain that is made: QEMU and qemu-img open all of its files at once. */
#define BACKUP_CHAIN_MAX 200
/* Hex digits of the value that tells keys apart. */
#define BACKUP_CHECK_LENGTH 32
/* And of what stands in BACKUP_MANIFEST_MAC. */
#define BACKUP_MAC_LENGTH 64

typedef struct BackupDisk {
	char *name;
	uint64_t size;  /* that the guest sees; bytes */
	uint64_t bytes; /* of the file */
	char *sha512;   /* of the file; 128 hex digits in lower case */
} BackupDisk;

typedef struct Backup {
	char *id;         /* backup_id_of() */
	char *parent;     /* NULL: it is full */
	char *created_at; /* the moment that its content is of */
	char *host;       /* name of the host that made it */
	char *machine;    /* of the guest, versioned; or NULL */
	Vm *vm;           /* the configuration that it ran with */
	bool file_system; /* its file systems were at rest; else it is as after a power cut */
	char *note;       /* why it is no better, or NULL */
	uint64_t freeze;  /* us that the guest's file systems stood still at most; 0: they did not */
	GPtrArray *disk;  /* BackupDisk, in the order of the vm's; at least one */
	GStrv left_out;   /* names of disks that it does not have: those that are only read */
	char *key_check;  /* backup_key_check() of the key that its files are encrypted with; NULL: they are
			     not */
	/* Of an encrypted one that was read: SHA-256 of its text, and what stands beside it; or why that
	 * can't be read. */
	char *digest, *mac, *no_mac;
} Backup;

Backup *backup_new(void);
Backup *backup_free(Backup *b);
BackupDisk *backup_disk_new(const char *name, uint64_t size);
/* NULL when it has none of that name. Borrowed. */
BackupDisk *backup_disk_find(const Backup *b, const char *name);

/* "20261121T093000Z-1a2b3c4d" from the time of the request and the id of its operation. Caller frees. */
char *backup_id_of(const char *now, const char *operation);
bool backup_id_valid(const char *text);
/* The dirty bitmap that has what was written since that backup. Caller frees. */
char *backup_bitmap(const char *id);
/* It is one of ours. */
bool backup_is_bitmap(const char *name);
/* "root.qcow2", and "../PARENT/root.qcow2". Callers free. */
char *backup_file(const char *disk);
char *backup_backing(const char *parent, const char *disk);

/* ERR_INVALID with the member's name; ERR_UNSUPPORTED for one of a newer version. */
Backup *backup_of_json(const Json *j, GError **err);
/* The same of the text of a manifest. */
Backup *backup_parse(const char *text, size_t len, GError **err);
Json *backup_to_json(const Backup *b);
/* What the API shows: {id, vm: {id, name}, created_at, kind, parent, consistency, note, freeze, host, size,
 * disks}. */
Json *backup_to_api(const Backup *b);
/* Bytes of its files. */
uint64_t backup_bytes(const Backup *b);

/* Newest first, for g_ptr_array_sort() of Backup. */
int backup_compare(gconstpointer a, gconstpointer b);
/* In a list of backups; NULL when it has none of that id. Borrowed. */
const Backup *backup_find(const GPtrArray *backups, const char *id);
/* ERR_CONFLICT when another of `backups` rests on that one. */
bool backup_check_free(const GPtrArray *backups, const char *id, GError **err);
/*
 * `b` and what it needs, the full one first; borrowed, in a new array.
 * ERR_CONFLICT when one of them is missing in the list, is of another vm, or
 * names itself.
 */
GPtrArray *backup_chain(const GPtrArray *backups, const Backup *b, GError **err);
/* ERR_CONFLICT when only some of a chain are encrypted: none like that is ever made. */
bool backup_chain_check(const GPtrArray *chain, GError **err);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Backup, backup_free)

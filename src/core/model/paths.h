/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where things lie on a host, from the daemon's three folders and an id. Pure;
 * no path is built anywhere else. Callers free what they get.
 */
#pragma once

#include <glib.h>

typedef struct Folders {
	char *state; /* records, images, volumes: outlives everything */
	char *run;   /* sockets: outlives the daemon, not the host */
	char *log;
} Folders;

char *path_image(const Folders *f, const char *image_id);
/* Where an import keeps what is not yet an image. */
char *path_image_fetched(const Folders *f, const char *image_id);
/* `format` is "qcow2" or "raw". */
char *path_volume(const Folders *f, const char *volume_id, const char *format);

/* The folder of what belongs to one vm and outlives its QEMU. */
char *path_vm_dir(const Folders *f, const char *vm_id);
char *path_vm_seed(const Folders *f, const char *vm_id);
char *path_vm_nvram(const Folders *f, const char *vm_id);
/* What a guest that is suspended to disk was doing. */
char *path_vm_state(const Folders *f, const char *vm_id);
/* What a backup of it needs while it runs. */
char *path_vm_backup_dir(const Folders *f, const char *vm_id);
/* Of a server that shows a backup, by any name of its own. */
char *path_backup_server(const Folders *f, const char *name);
char *path_vm_tpm_dir(const Folders *f, const char *vm_id);

/* The folder of a running vm's sockets. */
char *path_vm_run_dir(const Folders *f, const char *vm_id);
/* `name` is "qmp", "qmp2", "agent", "console", "serial", "swtpm": a unix socket in that folder. */
char *path_vm_socket(const Folders *f, const char *vm_id, const char *name);
/* Bundles of evidence, each in a folder named by its id. */
char *path_evidence(const Folders *f);
char *path_evidence_bundle(const Folders *f, const char *evidence_id);
/* The same while it is being made. */
char *path_evidence_part(const Folders *f, const char *evidence_id);
/* By id, not by name, so that a rename loses nothing. */
char *path_vm_log(const Folders *f, const char *vm_id);

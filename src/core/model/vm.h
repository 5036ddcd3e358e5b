/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration of a vm: what its owner wants.
 *
 * What QEMU is doing with it is another record (vm_state.h); a start keeps a
 * copy of the configuration that it used there, so that what differs can be
 * called pending. Devices carry a slot that never changes, so that the guest
 * finds them at the same address after every change of the rest. Pure.
 *
 * The JSON form is the API's own: see api/openapi.yaml, `VmConfig`.
 */
#pragma once

#include "base/err.h"

/* Slots of disks and NICs, per vm. */
#define VM_DISKS_MAX 24
#define VM_NICS_MAX 8
#define VM_TAGS_MAX 64
/* The serial number of a virtio disk has room for this many bytes (virtio 1.2, 5.2.6: VIRTIO_BLK_T_GET_ID).
 */
#define VM_DISK_NAME_MAX 20

typedef struct VmDisk {
	char *name;   /* "root", "data1": unique in the vm, also the serial number that the guest sees */
	char *volume; /* id of a volume, or NULL */
	char *path;   /* file or block device on the host when there is no volume, or NULL */
	char *format; /* "qcow2" or "raw" */
	char *bus;    /* "virtio-blk", "virtio-scsi", "sata", or "auto": as the profile decides */
	bool readonly;
	unsigned slot;
} VmDisk;

typedef struct VmNic {
	char *name;    /* "net0" */
	char *network; /* "user", "none" or "bridge:NAME" */
	char *mac;     /* lower case, stays with the vm */
	char *model;   /* "virtio-net", "e1000e", or "auto": as the profile decides */
	unsigned slot;
} VmNic;

/* What somebody put into the CD drive: one of the two; neither: what was in it was taken out. */
typedef struct VmCd {
	char *image_id, *image_name; /* an image of the image store */
	char *path;                  /* a file or block device on the host, read as it is */
} VmCd;

typedef struct Vm {
	char *id, *name, *description, *created_at;
	GStrv tags;
	char *image_id, *image_name; /* NULL when it was made without an image */
	Json *properties;            /* the image's, as they were at creation, plus the owner's changes */
	Json *settings;              /* only what somebody set */
	GPtrArray *disk;             /* VmDisk, boot order */
	GPtrArray *nic;              /* VmNic */
	VmCd *cd;                    /* NULL: nobody did; then platform.cdrom says what is in the drive */
	Json *cloud_init;            /* NULL: no seed */
} Vm;

Vm *vm_new(void);
Vm *vm_free(Vm *vm);
Vm *vm_copy(const Vm *vm);
VmDisk *vm_disk_new(void);
VmDisk *vm_disk_free(VmDisk *d);
VmNic *vm_nic_new(void);
VmNic *vm_nic_free(VmNic *n);
VmCd *vm_cd_copy(const VmCd *cd);
VmCd *vm_cd_free(VmCd *cd);
/* Its form in records: {image: {id, name}|null, path}; null for NULL. New reference. */
Json *vm_cd_to_json(const VmCd *cd);

/*
 * From the stored or posted form. Refuses unknown members, wrong types, bad
 * names, double device names, slots and MACs, properties that are no scalars,
 * settings that settings_check() refuses: ERR_INVALID with the member's name.
 * Missing slots are given out, lowest that nobody in the list names first. id,
 * created_at and MACs may be missing (the caller brings them: this layer has no
 * clock and no randomness). Shares nothing with `j`.
 */
Vm *vm_of_json(const Json *j, GError **err);
Json *vm_to_json(const Vm *vm);

/* Lowest slot that no disk (NIC) has, or the maximum when all are taken. */
unsigned vm_disk_free_slot(const Vm *vm);
unsigned vm_nic_free_slot(const Vm *vm);
/* NULL when there is none. Borrowed. */
VmDisk *vm_disk_find(const Vm *vm, const char *name);
VmNic *vm_nic_find(const Vm *vm, const char *name);
/* Its network is not "none": the guest has that card. One that is not there keeps its name, address and slot.
 */
bool vm_nic_is_there(const VmNic *n);

/* A setting as stored, or NULL when nobody set it. Borrowed. */
const Json *vm_setting(const Vm *vm, const char *key);
/* An image property as text ("true" and "false" for booleans), or NULL when it is absent or a number.
 * Borrowed. */
const char *vm_property(const Vm *vm, const char *key);

/* 52:54:00 and three bytes that the caller draws: QEMU's own prefix. Caller frees. */
char *mac_of_bytes(const uint8_t bytes[3]);
bool mac_valid(const char *text);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Vm, vm_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VmDisk, vm_disk_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VmNic, vm_nic_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VmCd, vm_cd_free)

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The handlers of the API, by the operationId of api/openapi.yaml: the table of
 * routes that is generated from there names them. See call.h for their contract.
 */
#pragma once

#include "api/call.h"
#include "engine/records.h"

bool api_daemon_show(ApiCall *c, GError **err);
bool api_daemon_openapi(ApiCall *c, GError **err);
bool api_metrics(ApiCall *c, GError **err);
bool api_settings_list(ApiCall *c, GError **err);

bool api_vm_list(ApiCall *c, GError **err);
bool api_vm_show(ApiCall *c, GError **err);
bool api_vm_create(ApiCall *c, GError **err);
bool api_vm_update(ApiCall *c, GError **err);
bool api_vm_delete(ApiCall *c, GError **err);
bool api_vm_clone(ApiCall *c, GError **err);
bool api_vm_start(ApiCall *c, GError **err);
bool api_vm_suspend(ApiCall *c, GError **err);
bool api_vm_stop(ApiCall *c, GError **err);
bool api_vm_kill(ApiCall *c, GError **err);
bool api_vm_pause(ApiCall *c, GError **err);
bool api_vm_resume(ApiCall *c, GError **err);
bool api_vm_reset(ApiCall *c, GError **err);
bool api_vm_reboot(ApiCall *c, GError **err);
bool api_vm_disk_add(ApiCall *c, GError **err);
bool api_vm_disk_grow(ApiCall *c, GError **err);
bool api_vm_disk_remove(ApiCall *c, GError **err);
bool api_vm_nic_add(ApiCall *c, GError **err);
bool api_vm_nic_remove(ApiCall *c, GError **err);
bool api_vm_cdrom_show(ApiCall *c, GError **err);
bool api_vm_cdrom_insert(ApiCall *c, GError **err);
bool api_vm_cdrom_eject(ApiCall *c, GError **err);
bool api_vm_migrate(ApiCall *c, GError **err);
bool api_vm_moves(ApiCall *c, GError **err);
bool api_vm_backup(ApiCall *c, GError **err);
bool api_vm_nmi(ApiCall *c, GError **err);
bool api_vm_memory(ApiCall *c, GError **err);
bool api_vm_balance(ApiCall *c, GError **err);
bool api_vm_wakeups_show(ApiCall *c, GError **err);
bool api_vm_wakeups_start(ApiCall *c, GError **err);
bool api_vm_wakeups_stop(ApiCall *c, GError **err);
bool api_vm_explain(ApiCall *c, GError **err);
bool api_vm_export(ApiCall *c, GError **err);
bool api_vm_screenshot(ApiCall *c, GError **err);
bool api_vm_console_log(ApiCall *c, GError **err);
bool api_vm_log(ApiCall *c, GError **err);
bool api_vm_agent(ApiCall *c, GError **err);
bool api_vm_agent_exec(ApiCall *c, GError **err);
bool api_vm_agent_file(ApiCall *c, GError **err);

bool api_tools_list(ApiCall *c, GError **err);
bool api_vm_tools(ApiCall *c, GError **err);

bool api_host_guest_show(ApiCall *c, GError **err);
bool api_host_guest_log(ApiCall *c, GError **err);
bool api_host_guest_registers(ApiCall *c, GError **err);
bool api_host_guest_dump(ApiCall *c, GError **err);

bool api_vm_dump(ApiCall *c, GError **err);
bool api_vm_evidence(ApiCall *c, GError **err);
bool api_evidence_list(ApiCall *c, GError **err);
bool api_evidence_show(ApiCall *c, GError **err);
bool api_evidence_file(ApiCall *c, GError **err);
bool api_evidence_delete(ApiCall *c, GError **err);

bool api_reception_check(ApiCall *c, GError **err);
bool api_reception_begin(ApiCall *c, GError **err);
bool api_reception_show(ApiCall *c, GError **err);
bool api_reception_finish(ApiCall *c, GError **err);
bool api_reception_abort(ApiCall *c, GError **err);

bool api_backup_list(ApiCall *c, GError **err);
bool api_backup_verify(ApiCall *c, GError **err);
bool api_backup_restore(ApiCall *c, GError **err);
bool api_backup_delete(ApiCall *c, GError **err);
bool api_backup_prune(ApiCall *c, GError **err);
bool api_backup_mount(ApiCall *c, GError **err);
bool api_backup_unmount(ApiCall *c, GError **err);
bool api_backup_mount_list(ApiCall *c, GError **err);

bool api_image_list(ApiCall *c, GError **err);
bool api_image_import(ApiCall *c, GError **err);
bool api_image_latest(ApiCall *c, GError **err);
bool api_image_show(ApiCall *c, GError **err);
bool api_image_update(ApiCall *c, GError **err);
bool api_image_verify(ApiCall *c, GError **err);
bool api_image_delete(ApiCall *c, GError **err);

bool api_volume_list(ApiCall *c, GError **err);
bool api_volume_create(ApiCall *c, GError **err);
bool api_volume_show(ApiCall *c, GError **err);
bool api_volume_grow(ApiCall *c, GError **err);
bool api_volume_delete(ApiCall *c, GError **err);

bool api_host_list(ApiCall *c, GError **err);
bool api_host_show(ApiCall *c, GError **err);
bool api_host_update(ApiCall *c, GError **err);
bool api_host_limits(ApiCall *c, GError **err);
bool api_host_probe(ApiCall *c, GError **err);
bool api_host_wakeups(ApiCall *c, GError **err);
bool api_host_cpu_show(ApiCall *c, GError **err);
bool api_host_cpu_mask(ApiCall *c, GError **err);
bool api_host_cpu_unmask(ApiCall *c, GError **err);
bool api_level_show(ApiCall *c, GError **err);

bool api_host_evict(ApiCall *c, GError **err);
bool api_host_evacuation(ApiCall *c, GError **err);

bool api_pool_show(ApiCall *c, GError **err);
bool api_pool_ca(ApiCall *c, GError **err);
bool api_pool_admit(ApiCall *c, GError **err);
bool api_pool_init(ApiCall *c, GError **err);
bool api_pool_token(ApiCall *c, GError **err);
bool api_pool_join(ApiCall *c, GError **err);
bool api_pool_leave(ApiCall *c, GError **err);
bool api_pool_whatif(ApiCall *c, GError **err);

bool api_operation_list(ApiCall *c, GError **err);
bool api_operation_show(ApiCall *c, GError **err);
bool api_operation_cancel(ApiCall *c, GError **err);

/* The list; as a stream it is api/stream.h's. */
bool api_event_list(ApiCall *c, GError **err);

/* For several files: the vm, image, ... that the route names. */
VmRecords *call_vm(ApiCall *c, GError **err);
Json *call_host(ApiCall *c, int64_t *ret_rev, GError **err);
/* The answer of api_vm_memory() for a vm whose QEMU is here; null for others. */
Json *vm_memory_if_here(ApiCall *c, const Json *config, const Json *runtime);
Json *host_cpu_brief(ApiCall *c, const Json *host);
/* ERR_UNSUPPORTED for what only the daemon of that host can do. */
bool call_is_this_host(const ApiCall *c, const Json *host, GError **err);
/* The end of the log that this host has of a vm. */
bool call_answer_log(ApiCall *c, const char *vm_id, GError **err);
/* The records below a prefix, with their revisions, filtered and sorted as asked, as the answer. */
bool call_list(ApiCall *c, const char *prefix, GError **err);
/* OpenStack's properties may be filtered by without "properties." before them. Done again it changes nothing.
 */
void call_name_properties(ApiCall *c);
/* What several ways to change a vm check: see vm_create.c. */
void vm_draw_macs(Vm *vm);
bool vm_check_files(const Vm *vm, GError **err);
bool vm_check_startable(ApiCall *c, const Vm *vm, const char *machine, GError **err);

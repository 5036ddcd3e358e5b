/* SPDX-License-Identifier: Apache-2.0 */
#include "core/plan/plan_evidence.h"
#include "core/evidence/keep.h"
#include "core/plan/plan_vm-impl.h"

Operation *plan_vm_evidence(const PlanRequest *req, const VmSeen *seen, const struct evidence_wish *wish,
			    GError **err)
{
	Operation *op = vm_operation_begin(req, wish->must_dump ? "vm.dump" : "vm.evidence", seen,
					   wish->must_dump ? VM_ACTION_dump : VM_ACTION_inspect, err);
	g_autofree char *id = evidence_id(seen->vm->name, req->now);
	static const char *const none[] = { NULL };
	Json *args;

	if (op == NULL)
		return NULL;
	op->may_cancel = true;
	args = vm_args(seen->vm);
	json_put_str(args, "evidence", id);
	json_put_str(args, "cause", wish->cause);
	json_put_str(args, "reason", wish->reason);
	json_put(args, "details", wish->details != NULL ? json_deep_copy(wish->details) : json_null());
	json_put(args, "formats", json_of_strv(wish->formats != NULL ? wish->formats : none));
	json_put_bool(args, "must_dump", wish->must_dump);
	plan_add(op->plan, STEP_EVIDENCE_TAKE, seen->vm->name, args);
	vm_operation_end(op, seen->vm, NULL);
	return op;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What the end of an operation writes into the records, beside the operation itself. */
#pragma once

#include "core/model/operation.h"
#include "store/store.h"

/*
 * Adds the writes of the state that `op` has (operation_end_writes()). A merge reads its record, and the
 * transaction holds only while nobody changes that.
 *
 * A record that the operation would release, and that is another's by now, is lost. ERR_GONE and *ret_lost
 * then: the end must change nothing. With `ret_lost` NULL, for an end that others write, such a record is
 * left alone and the rest is written.
 */
bool end_writes_add(Store *s, StoreTx *tx, const Operation *op, bool *ret_lost, GError **err);

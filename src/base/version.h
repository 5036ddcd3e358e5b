/* SPDX-License-Identifier: Apache-2.0 */
/* The version of this build, as meson.build has it. */
#pragma once

extern const char plimsoll_version[];

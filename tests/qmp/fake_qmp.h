/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A scripted QEMU monitor on a thread of its own.
 *
 * A test writes down, in order, what the monitor expects and says, then starts
 * it and lets the client under test talk to fake_qmp_take_fd(). Commands,
 * arguments, answers and events are checked against a recorded schema when
 * they are written down, so a script cannot say what QEMU would not; only
 * fake_raw() may.
 */
#pragma once

#include "base/err.h"

typedef struct FakeQmp FakeQmp;

FakeQmp *fake_qmp_new(const char *schema_path);
/* The client's end of the connection; the caller's. Once. */
int fake_qmp_take_fd(FakeQmp *f);
/* A further connection, after fake_hang_up(): the script goes on there. The caller's. */
int fake_qmp_next_fd(FakeQmp *f);

/* Greet and accept qmp_capabilities. */
void fake_greet(FakeQmp *f);
/* Expect the command (with exactly these arguments; NULL: none) and return the value. */
void fake_answer(FakeQmp *f, const char *command, const char *args, const char *reply);
void fake_refuse(FakeQmp *f, const char *command, const char *class, const char *text);
/* The same, but leave it unanswered; fake_answer_held() answers the nth of these, from 0. */
void fake_hold(FakeQmp *f, const char *command, const char *args);
void fake_answer_held(FakeQmp *f, unsigned nth, const char *reply);
void fake_event(FakeQmp *f, const char *name, const char *data);
/* These bytes, whatever they are. */
void fake_raw(FakeQmp *f, const char *bytes, size_t len);
void fake_hang_up(FakeQmp *f);

void fake_start(FakeQmp *f);
/* Fails the test when the script was not played to its end. Frees. */
void fake_finish(FakeQmp *f);

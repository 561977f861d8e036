/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the questions share: an open recording, its errors, and a snapshot that
 * several statements of one question look at together. For bindings/query alone.
 */
#ifndef NEAP_BINDINGS_QUERY_RECORDING_H
#define NEAP_BINDINGS_QUERY_RECORDING_H

#include <sqlite3.h>

#include "bindings/query/query.h"
#include "schema/store/store.h"

struct neap_recording {
    sqlite3 *db;
    char *path;
    bool (*check)(void *data);
    void *data;
};

#define neap_auto_stmt neap_auto(neap_stmt_guard)

/* SQLite's last error as ours: DAMAGED, CANCELLED, NO_MEMORY, else STORE. */
struct neap_error *
neap_recording_error(struct neap_recording *recording) NEAP_MUST_CHECK;
/* A recording whose rows contradict each other. */
struct neap_error *neap_recording_damaged(struct neap_recording *recording,
                                          const char *what) NEAP_MUST_CHECK;

struct neap_error *neap_recording_prepare(struct neap_recording *recording,
                                          const char *sql,
                                          sqlite3_stmt **ret) NEAP_MUST_CHECK;

/* Everything read until the guard ends belongs to one commit of the writer. */
struct neap_error *
neap_recording_begin(struct neap_recording *recording) NEAP_MUST_CHECK;
void neap_recording_end(struct neap_recording **recording);

/* Is the process alive that boot_id, pid and start time (in clock ticks) tell of? */
bool neap_writer_alive(const char *boot_id, int64_t pid, int64_t start);

#endif

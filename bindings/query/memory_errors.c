/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mistakes of the programs, one by one, as they happened.
 */
#include <stdlib.h>
#include <string.h>

#include "bindings/query/frames.h"
#include "bindings/query/window.h"
#include "schema/base/cleanup.h"
#include "schema/base/vec.h"

/* The public part first, so that the one is the other. */
struct errors {
    struct neap_memory_errors errors;
    struct neap_arena arena;
    NEAP_VEC(struct neap_memory_error) rows;
};

void neap_memory_errors_destroy(struct neap_memory_errors *errors)
{
    struct errors *whole = (struct errors *)errors;

    if (!whole)
        return;
    neap_arena_deinit(&whole->arena);
    neap_vec_deinit(&whole->rows);
    free(whole);
}

static void errors_guard(struct errors **errors)
{
    neap_memory_errors_destroy((struct neap_memory_errors *)*errors);
}

static struct neap_error *read_row(struct neap_frames *frames, sqlite3_stmt *stmt,
                                   struct errors *errors)
{
    const char *kind = (const char *)sqlite3_column_text(stmt, 3);
    struct neap_memory_error row = {
        .ts_ns = sqlite3_column_int64(stmt, 0),
        .pid = sqlite3_column_int64(stmt, 1),
        .tid = sqlite3_column_int64(stmt, 2),
        .address = sqlite3_column_int64(stmt, 4),
        .has_block = sqlite3_column_type(stmt, 5) != SQLITE_NULL,
        .block = sqlite3_column_int64(stmt, 5),
        .size = sqlite3_column_int64(stmt, 6),
    };
    struct neap_error *error;

    row.kind =
        neap_arena_copy(&errors->arena, kind ? kind : "", kind ? strlen(kind) : 0);
    if (!row.kind)
        return NEAP_NO_MEMORY;
    if ((error = neap_frames_trace(frames, stmt, 7, &row.alloc)) ||
        (error = neap_frames_trace(frames, stmt, 8, &row.free)) ||
        (error = neap_frames_trace(frames, stmt, 9, &row.found)))
        return error;
    return neap_vec_push(&errors->rows, row) ? NULL : NEAP_NO_MEMORY;
}

static struct neap_error *read_rows(struct neap_recording *recording, int64_t limit,
                                    const int64_t *pid, struct errors *errors)
{
    neap_auto(neap_frames_deinit) struct neap_frames frames = {0};
    neap_auto_stmt sqlite3_stmt *stmt = NULL;
    struct neap_error *error;
    int status;

    if ((error = neap_frames_init(&frames, recording, &errors->arena)) ||
        (error = neap_recording_prepare(
             recording,
             "SELECT e.ts_ns, p.pid, e.tid, e.kind, e.address, e.block, e.size,"
             " e.alloc_stack, e.free_stack, e.stack FROM raw_memory_error e"
             " JOIN raw_process p ON p.id = e.process WHERE ?1 OR p.pid = ?2"
             " ORDER BY e.ts_ns, e.id",
             &stmt)))
        return error;
    sqlite3_bind_int(stmt, 1, !pid);
    sqlite3_bind_int64(stmt, 2, pid ? *pid : 0);
    while ((status = sqlite3_step(stmt)) == SQLITE_ROW) {
        errors->errors.total++;
        if (limit >= 0 && (int64_t)errors->rows.count >= limit)
            continue;
        error = read_row(&frames, stmt, errors);
        if (error)
            return error;
    }
    return status == SQLITE_DONE ? NULL : neap_recording_error(recording);
}

struct neap_error *neap_recording_errors(struct neap_recording *recording,
                                         int64_t limit, const int64_t *pid,
                                         struct neap_memory_errors **ret)
{
    neap_auto(errors_guard) struct errors *errors = calloc(1, sizeof(*errors));
    neap_auto(neap_recording_end) struct neap_recording *snapshot = recording;
    struct neap_window_covered covered;
    struct neap_error *error;

    if (!errors)
        return NEAP_NO_MEMORY;
    if ((error = neap_recording_begin(snapshot)) ||
        (error = neap_window_covers(recording, pid, &covered)) ||
        (error = read_rows(recording, limit, pid, errors)))
        return error;
    errors->errors.processes = covered.processes;
    errors->errors.images = covered.images;
    errors->errors.rows = errors->rows.data;
    errors->errors.count = (uint32_t)errors->rows.count;
    *ret = &neap_take(errors)->errors;
    return NULL;
}

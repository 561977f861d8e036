/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a recording is about: CMD, how long, how it ended, and what was lost.
 *
 * CMD is one pid, but maybe several program images: one that ended in an exec is
 * followed by the next of its pid, and the last one tells how CMD ended. What no
 * end is known of is running as long as the collector is there, and lost after. A
 * recording whose collector ended too early is lost, whatever is known of CMD.
 */
#include <stdlib.h>
#include <string.h>

#include "bindings/query/recording.h"
#include "schema/base/cleanup.h"

/* Copy a column of text into *ret. */
static struct neap_error *text(sqlite3_stmt *stmt, int column, char **ret)
{
    const char *value = (const char *)sqlite3_column_text(stmt, column);

    *ret = strdup(value ? value : "");
    return *ret ? NULL : NEAP_NO_MEMORY;
}

static struct neap_error *read_recording(struct neap_recording *recording,
                                         struct neap_summary *ret,
                                         int64_t *main_process)
{
    neap_auto_stmt sqlite3_stmt *stmt = NULL;
    struct neap_error *error =
        neap_recording_prepare(recording,
                               "SELECT version, command, start_utc, mode, duration_ns,"
                               " interval, finished, boot_id, collector_pid,"
                               " collector_start, main_process FROM raw_recording",
                               &stmt);
    int status;

    if (error)
        return error;
    status = sqlite3_step(stmt);
    if (status == SQLITE_DONE)
        return neap_error_create(NEAP_ERROR_DAMAGED,
                                 "%s holds nothing yet: the collector ended before the "
                                 "recording began; record again",
                                 recording->path);
    if (status != SQLITE_ROW)
        return neap_recording_error(recording);
    ret->path = strdup(recording->path);
    if (!ret->path)
        return NEAP_NO_MEMORY;
    if ((error = text(stmt, 0, &ret->version)) ||
        (error = text(stmt, 1, &ret->command)) ||
        (error = text(stmt, 2, &ret->start_utc)) || (error = text(stmt, 3, &ret->mode)))
        return error;
    ret->duration_ns = sqlite3_column_int64(stmt, 4);
    ret->interval = sqlite3_column_int64(stmt, 5);
    if (sqlite3_column_int64(stmt, 6)) {
        ret->state = NEAP_RECORDING_FINISHED;
    } else {
        const char *boot_id = (const char *)sqlite3_column_text(stmt, 7);
        bool alive =
            boot_id && neap_writer_alive(boot_id, sqlite3_column_int64(stmt, 8),
                                         sqlite3_column_int64(stmt, 9));

        ret->state = alive ? NEAP_RECORDING_RUNNING : NEAP_RECORDING_LOST;
    }
    *main_process = sqlite3_column_int64(stmt, 10);
    return NULL;
}

/* Set how CMD ended, from the image in `stmt`'s row or from none. */
static struct neap_error *set_exit(sqlite3_stmt *stmt, struct neap_summary *ret)
{
    const char *kind = stmt ? (const char *)sqlite3_column_text(stmt, 2) : NULL;
    bool ended = kind && (strcmp(kind, "exited") == 0 || strcmp(kind, "signaled") == 0);

    /* What was still to come of the other processes went with the collector. */
    if (ended && ret->state != NEAP_RECORDING_LOST) {
        ret->has_exit_code = sqlite3_column_type(stmt, 3) != SQLITE_NULL;
        ret->exit_code = sqlite3_column_int64(stmt, 3);
    } else {
        kind = ret->state == NEAP_RECORDING_RUNNING ? "running" : "lost";
    }
    ret->exit_kind = strdup(kind);
    return ret->exit_kind ? NULL : NEAP_NO_MEMORY;
}

static struct neap_error *read_main(struct neap_recording *recording,
                                    struct neap_summary *ret, int64_t id)
{
    neap_auto_stmt sqlite3_stmt *stmt = NULL;
    struct neap_error *error = neap_recording_prepare(
        recording,
        "SELECT pid, start_ns, exit_kind, exit_code, allocator FROM raw_process"
        " WHERE id >= ?1 AND pid = (SELECT pid FROM raw_process WHERE id = ?1)"
        " ORDER BY id",
        &stmt);
    bool first = true;
    int status;

    if (error)
        return error;
    sqlite3_bind_int64(stmt, 1, id);
    while ((status = sqlite3_step(stmt)) == SQLITE_ROW) {
        const char *kind = (const char *)sqlite3_column_text(stmt, 2);
        const char *allocator = (const char *)sqlite3_column_text(stmt, 4);

        if (first) {
            ret->pid = sqlite3_column_int64(stmt, 0);
            ret->start_ns = sqlite3_column_int64(stmt, 1);
            ret->allocator =
                strdup(allocator && strcmp(allocator, "neap") == 0 ? "neap" : "app");
            if (!ret->allocator)
                return NEAP_NO_MEMORY;
            first = false;
        }
        if (!kind || strcmp(kind, "exec") != 0)
            return set_exit(stmt, ret);
    }
    if (status != SQLITE_DONE)
        return neap_recording_error(recording);
    if (!ret->allocator && !(ret->allocator = strdup("app")))
        return NEAP_NO_MEMORY;
    return set_exit(NULL, ret);
}

static struct neap_error *read_counts(struct neap_recording *recording,
                                      struct neap_summary *ret)
{
    neap_auto_stmt sqlite3_stmt *stmt = NULL;
    struct neap_error *error = neap_recording_prepare(
        recording,
        "SELECT (SELECT count(DISTINCT pid) FROM raw_process),"
        " (SELECT count(*) FROM raw_process),"
        " coalesce(sum(count) FILTER (WHERE what <> 'stacks'), 0),"
        " coalesce(sum(bytes), 0),"
        " coalesce(sum(count) FILTER (WHERE what = 'stacks'), 0) FROM raw_loss",
        &stmt);

    if (error)
        return error;
    if (sqlite3_step(stmt) != SQLITE_ROW)
        return neap_recording_error(recording);
    ret->processes = sqlite3_column_int64(stmt, 0);
    ret->images = sqlite3_column_int64(stmt, 1);
    ret->loss_events = sqlite3_column_int64(stmt, 2);
    ret->loss_bytes = sqlite3_column_int64(stmt, 3);
    ret->loss_stacks = sqlite3_column_int64(stmt, 4);
    return NULL;
}

/* How long it was switched on. What says nothing of that was on all the time. */
static struct neap_error *read_switches(struct neap_recording *recording,
                                        struct neap_summary *ret)
{
    neap_auto_stmt sqlite3_stmt *stmt = NULL;
    struct neap_error *error = neap_recording_prepare(
        recording,
        "SELECT coalesce(sum((until - ts_ns) * (mode <> 'off')), ?1) FROM"
        " (SELECT ts_ns, mode, max(ts_ns, lead(ts_ns, 1, ?1) OVER (ORDER BY id))"
        " AS until FROM raw_switch)",
        &stmt);

    if (error)
        return error;
    sqlite3_bind_int64(stmt, 1, ret->duration_ns);
    if (sqlite3_step(stmt) != SQLITE_ROW)
        return neap_recording_error(recording);
    ret->on_ns = sqlite3_column_int64(stmt, 0);
    return NULL;
}

struct neap_error *neap_recording_summary(struct neap_recording *recording,
                                          struct neap_summary *ret)
{
    neap_auto(neap_summary_deinit) struct neap_summary summary = {0};
    neap_auto(neap_recording_end) struct neap_recording *snapshot = recording;
    int64_t main_process = 0;
    struct neap_error *error;

    if ((error = neap_recording_begin(snapshot)) ||
        (error = read_recording(recording, &summary, &main_process)) ||
        (error = read_main(recording, &summary, main_process)) ||
        (error = read_counts(recording, &summary)) ||
        (error = read_switches(recording, &summary)))
        return error;
    *ret = summary;
    summary = (struct neap_summary){0};
    return NULL;
}

void neap_summary_deinit(struct neap_summary *summary)
{
    free(summary->path);
    free(summary->version);
    free(summary->command);
    free(summary->start_utc);
    free(summary->mode);
    free(summary->allocator);
    free(summary->exit_kind);
    *summary = (struct neap_summary){0};
}

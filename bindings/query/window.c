/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What no recording could answer is refused before anything is read, with the range
 * that this one covers.
 */
#include "bindings/query/window.h"

#include <stdio.h>

#include "bindings/query/events.h"
#include "schema/base/cleanup.h"

struct neap_error *neap_window_choose(struct neap_recording *recording,
                                      const char *what, int64_t number, const char *sql,
                                      const struct neap_report_query *query)
{
    neap_auto_stmt sqlite3_stmt *stmt = NULL;
    char list[160] = "";
    size_t length = 0;
    int64_t more = 0;
    struct neap_error *error = neap_recording_prepare(recording, sql, &stmt);
    int status;

    if (error)
        return error;
    if (sqlite3_bind_parameter_count(stmt) == 2) {
        sqlite3_bind_int(stmt, 1, query->has_pid);
        sqlite3_bind_int64(stmt, 2, query->pid);
    }
    while ((status = sqlite3_step(stmt)) == SQLITE_ROW) {
        if (length > sizeof(list) - 48)
            more++;
        else
            length += (size_t)snprintf(list + length, sizeof(list) - length, "%s%lld",
                                       length ? ", " : "",
                                       (long long)sqlite3_column_int64(stmt, 0));
    }
    if (status != SQLITE_DONE)
        return neap_recording_error(recording);
    if (length == 0)
        return neap_error_create(NEAP_ERROR_USAGE,
                                 "no %s %lld in %s: it holds no %s at all", what,
                                 (long long)number, recording->path, what);
    if (more)
        snprintf(list + length, sizeof(list) - length, " and %lld more",
                 (long long)more);
    return neap_error_create(NEAP_ERROR_USAGE, "no %s %lld in %s: choose one of %s",
                             what, (long long)number, recording->path, list);
}

struct neap_error *neap_window_covers(struct neap_recording *recording,
                                      const int64_t *pid,
                                      struct neap_window_covered *ret)
{
    neap_auto_stmt sqlite3_stmt *stmt = NULL;
    struct neap_report_query query = {.has_pid = pid != NULL, .pid = pid ? *pid : 0};
    struct neap_error *error = neap_recording_prepare(
        recording,
        "SELECT count(DISTINCT pid), count(*), coalesce(max(interval), 0)"
        " FROM raw_process WHERE ?1 OR pid = ?2",
        &stmt);

    if (error)
        return error;
    sqlite3_bind_int(stmt, 1, !query.has_pid);
    sqlite3_bind_int64(stmt, 2, query.pid);
    if (sqlite3_step(stmt) != SQLITE_ROW)
        return neap_recording_error(recording);
    *ret = (struct neap_window_covered){.processes = sqlite3_column_int64(stmt, 0),
                                        .images = sqlite3_column_int64(stmt, 1),
                                        .interval =
                                            (uint64_t)sqlite3_column_int64(stmt, 2)};
    if (query.has_pid && ret->images == 0)
        return neap_window_choose(
            recording, "process", query.pid,
            "SELECT pid FROM raw_process GROUP BY pid ORDER BY min(id)", &query);
    return NULL;
}

static struct neap_error *check_tid(struct neap_recording *recording,
                                    const struct neap_report_query *query)
{
    neap_auto_stmt sqlite3_stmt *stmt = NULL;
    struct neap_error *error = neap_recording_prepare(
        recording,
        "SELECT 1 FROM raw_thread WHERE tid = ?3 AND (NOT ?1 OR process IN"
        " (SELECT id FROM raw_process WHERE pid = ?2)) LIMIT 1",
        &stmt);
    int status;

    if (error)
        return error;
    sqlite3_bind_int(stmt, 1, query->has_pid);
    sqlite3_bind_int64(stmt, 2, query->pid);
    sqlite3_bind_int64(stmt, 3, query->tid);
    status = sqlite3_step(stmt);
    if (status == SQLITE_ROW)
        return NULL;
    if (status != SQLITE_DONE)
        return neap_recording_error(recording);
    return neap_window_choose(
        recording, "thread", query->tid,
        "SELECT tid FROM raw_thread WHERE NOT ?1 OR process IN"
        " (SELECT id FROM raw_process WHERE pid = ?2) GROUP BY tid ORDER BY min(id)",
        query);
}

static struct neap_error *check_time(struct neap_recording *recording, int64_t ns,
                                     int64_t duration_ns)
{
    char asked[NEAP_SECONDS_LENGTH], end[NEAP_SECONDS_LENGTH];

    if (ns >= 0 && ns <= duration_ns)
        return NULL;
    neap_seconds_text(ns, asked);
    neap_seconds_text(duration_ns, end);
    return neap_error_create(
        NEAP_ERROR_USAGE, "%s%s s is outside the recording: %s covers 0 to %s s",
        ns < 0 && ns > -1000000000 ? "-" : "", asked, recording->path, end);
}

static struct neap_error *check_times(struct neap_recording *recording,
                                      const struct neap_report_query *query)
{
    neap_auto_stmt sqlite3_stmt *stmt = NULL;
    char from[NEAP_SECONDS_LENGTH], to[NEAP_SECONDS_LENGTH];
    int64_t duration_ns = 0;
    struct neap_error *error;

    if (query->has_at && (query->has_from || query->has_to))
        return neap_error_create(
            NEAP_ERROR_USAGE, "a report is about one time or about what lies between "
                              "two: choose one of them");
    error = neap_recording_prepare(recording, "SELECT duration_ns FROM raw_recording",
                                   &stmt);
    if (error)
        return error;
    if (sqlite3_step(stmt) == SQLITE_ROW)
        duration_ns = sqlite3_column_int64(stmt, 0);
    if ((query->has_at && (error = check_time(recording, query->at_ns, duration_ns))) ||
        (query->has_from &&
         (error = check_time(recording, query->from_ns, duration_ns))) ||
        (query->has_to && (error = check_time(recording, query->to_ns, duration_ns))))
        return error;
    if (!query->has_from || !query->has_to || query->from_ns <= query->to_ns)
        return NULL;
    neap_seconds_text(query->from_ns, from);
    neap_seconds_text(query->to_ns, to);
    return neap_error_create(NEAP_ERROR_USAGE,
                             "from %s s to %s s runs backwards: give the earlier time "
                             "first",
                             from, to);
}

struct neap_error *neap_window_check(struct neap_recording *recording,
                                     const struct neap_report_query *query)
{
    struct neap_error *error = NULL;

    if (query->has_min_size && query->has_max_size && query->min_size > query->max_size)
        return neap_error_create(NEAP_ERROR_USAGE,
                                 "no block has at least %lld and at most %lld bytes: "
                                 "give the smaller size first",
                                 (long long)query->min_size,
                                 (long long)query->max_size);
    if (query->by != NEAP_BY_STACK &&
        (query->suppressions || query->builtin_suppressions))
        return neap_error_create(
            NEAP_ERROR_USAGE, "suppressions are about stacks: leave them out, or ask "
                              "by stack");
    if (query->has_at || query->has_from || query->has_to)
        error = check_times(recording, query);
    if (!error && query->has_tid)
        error = check_tid(recording, query);
    return error;
}

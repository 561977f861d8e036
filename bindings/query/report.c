/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The top stacks by a metric: sites of all processes asked about, added up by stack.
 *
 * Totals are added up here, over every stack that is not suppressed, while rows and
 * their frames are kept for the first `limit` of them only. The peak of several
 * processes is the sum of each one's own: they need not have happened together.
 */
#include <stdlib.h>

#include "bindings/query/frames.h"
#include "bindings/query/suppress.h"
#include "schema/base/cleanup.h"

/* The public part first, so that the one is the other. */
struct report {
    struct neap_report report;
    struct neap_arena arena;
    struct neap_row *rows;
    size_t room;
};

static const char *const questions[] = {
#define QUESTION(bytes, count)                                            \
    "SELECT stack, sum(" bytes "), sum(" count ") FROM raw_site"          \
    " WHERE ?1 OR process IN (SELECT id FROM raw_process WHERE pid = ?2)" \
    " GROUP BY stack HAVING sum(" bytes ") > 0 OR sum(" count ") > 0"     \
    " ORDER BY 2 DESC, 1"
    [NEAP_METRIC_LIVE] = QUESTION("live_bytes", "live_count"),
    [NEAP_METRIC_PEAK] = QUESTION("peak_bytes", "peak_count"),
    [NEAP_METRIC_ALLOCATED] = QUESTION("alloc_bytes", "alloc_count"),
    [NEAP_METRIC_TEMPORARY] = QUESTION("temporary_bytes", "temporary_count"),
#undef QUESTION
};

void neap_report_destroy(struct neap_report *report)
{
    struct report *whole = (struct report *)report;

    if (!whole)
        return;
    neap_arena_deinit(&whole->arena);
    free(whole->rows);
    free(whole);
}

static void report_guard(struct report **report)
{
    neap_report_destroy((struct neap_report *)*report);
}

/* "no process 7 in app.neap: it holds 3, 4 and 5 more" */
static struct neap_error *unknown_pid(struct neap_recording *recording, int64_t pid)
{
    neap_auto_stmt sqlite3_stmt *stmt = NULL;
    char list[160] = "";
    size_t length = 0;
    int64_t more = 0;
    struct neap_error *error = neap_recording_prepare(
        recording, "SELECT pid FROM raw_process GROUP BY pid ORDER BY min(id)", &stmt);
    int status;

    if (error)
        return error;
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
                                 "no process %lld in %s: it holds no process at all",
                                 (long long)pid, recording->path);
    if (more)
        snprintf(list + length, sizeof(list) - length, " and %lld more",
                 (long long)more);
    return neap_error_create(NEAP_ERROR_USAGE,
                             "no process %lld in %s: choose one of %s", (long long)pid,
                             recording->path, list);
}

/* How many processes the answer covers. */
static struct neap_error *count_processes(struct neap_recording *recording,
                                          const struct neap_report_query *query,
                                          struct neap_report *ret)
{
    neap_auto_stmt sqlite3_stmt *stmt = NULL;
    struct neap_error *error = neap_recording_prepare(
        recording,
        "SELECT count(DISTINCT pid), count(*) FROM raw_process WHERE ?1 OR pid = ?2",
        &stmt);

    if (error)
        return error;
    sqlite3_bind_int(stmt, 1, !query->has_pid);
    sqlite3_bind_int64(stmt, 2, query->pid);
    if (sqlite3_step(stmt) != SQLITE_ROW)
        return neap_recording_error(recording);
    ret->processes = sqlite3_column_int64(stmt, 0);
    ret->images = sqlite3_column_int64(stmt, 1);
    if (query->has_pid && ret->images == 0)
        return unknown_pid(recording, query->pid);
    return NULL;
}

static int64_t add(int64_t a, int64_t b)
{
    int64_t sum;

    /* Only a forged recording gets here; a wrong sign would be worse than a limit. */
    return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

static struct neap_error *push(struct report *report, const struct neap_row *row)
{
    if (report->report.count == report->room) {
        size_t room = report->room ? report->room * 2 : 32;
        struct neap_row *rows = reallocarray(report->rows, room, sizeof(*rows));

        if (!rows || room > UINT32_MAX)
            return NEAP_NO_MEMORY;
        report->rows = rows;
        report->room = room;
    }
    report->rows[report->report.count++] = *row;
    return NULL;
}

/* Put one stack where it belongs: suppressed, in the total, in the rows. */
static struct neap_error *take_row(struct report *report, struct neap_frames *frames,
                                   const struct neap_report_query *query,
                                   const struct neap_suppress *suppress,
                                   struct neap_row *row)
{
    struct neap_report *totals = &report->report;
    bool wanted = query->limit < 0 || totals->count < query->limit;
    struct neap_error *error;

    if (wanted || suppress || query->builtin_suppressions) {
        error = neap_frames_load(frames, row);
        if (error)
            return error;
    }
    if ((suppress && neap_suppress_match(suppress, row)) ||
        (query->builtin_suppressions && neap_suppress_builtin(row))) {
        totals->suppressed_value = add(totals->suppressed_value, row->value);
        totals->suppressed_count = add(totals->suppressed_count, row->count);
        return NULL;
    }
    totals->total_value = add(totals->total_value, row->value);
    totals->total_count = add(totals->total_count, row->count);
    totals->stacks++;
    return wanted ? push(report, row) : NULL;
}

static struct neap_error *read_sites(struct neap_recording *recording,
                                     const struct neap_report_query *query,
                                     struct report *report)
{
    neap_auto(neap_suppress_guard) struct neap_suppress *suppress = NULL;
    neap_auto(neap_frames_deinit) struct neap_frames frames = {0};
    neap_auto_stmt sqlite3_stmt *stmt = NULL;
    struct neap_error *error;
    int status;

    if (query->suppressions) {
        error = neap_suppress_create(query->suppressions, &suppress);
        if (error)
            return error;
    }
    if ((error = neap_frames_init(&frames, recording, &report->arena)) ||
        (error = neap_recording_prepare(recording, questions[query->metric], &stmt)))
        return error;
    sqlite3_bind_int(stmt, 1, !query->has_pid);
    sqlite3_bind_int64(stmt, 2, query->pid);
    while ((status = sqlite3_step(stmt)) == SQLITE_ROW) {
        struct neap_row row = {
            .stack_id = sqlite3_column_int64(stmt, 0),
            .value = sqlite3_column_int64(stmt, 1),
            .count = sqlite3_column_int64(stmt, 2),
        };

        error = take_row(report, &frames, query, suppress, &row);
        if (error)
            return error;
    }
    return status == SQLITE_DONE ? NULL : neap_recording_error(recording);
}

struct neap_error *neap_recording_report(struct neap_recording *recording,
                                         const struct neap_report_query *query,
                                         struct neap_report **ret)
{
    neap_auto(report_guard) struct report *report = calloc(1, sizeof(*report));
    neap_auto(neap_recording_end) struct neap_recording *snapshot = recording;
    struct neap_error *error;

    if (!report)
        return NEAP_NO_MEMORY;
    report->report.metric = query->metric;
    if ((error = neap_recording_begin(snapshot)) ||
        (error = count_processes(recording, query, &report->report)) ||
        (error = read_sites(recording, query, report)))
        return error;
    report->report.rows = report->rows;
    *ret = &neap_take(report)->report;
    return NULL;
}

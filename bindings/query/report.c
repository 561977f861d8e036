/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The top stacks by a metric: sites of all processes asked about, added up by stack. Or
 * threads, or sizes, or what was at a time: then the events are scanned (scan.h).
 *
 * Totals are added up here, over every stack that is not suppressed, while rows and
 * their frames are kept for the first `limit` of them only. The peak of several
 * processes is the sum of each one's own: they need not have happened together.
 */
#include <stdlib.h>
#include <string.h>

#include "bindings/query/frames.h"
#include "bindings/query/scan.h"
#include "bindings/query/suppress.h"
#include "bindings/query/window.h"
#include "schema/base/cleanup.h"
#include "schema/base/weigh.h"

/* The public part first, so that the one is the other. */
struct report {
    struct neap_report report;
    struct neap_arena arena;
    struct neap_row *rows;
    size_t room;
    uint64_t interval; /* the largest of the processes' asked about */
    double variance, suppressed_variance;
};

/* What the rows of one answer are made with. */
struct making {
    struct neap_recording *recording;
    const struct neap_report_query *query;
    struct report *report;
    struct neap_frames frames;
    struct neap_suppress *suppress;
    sqlite3_stmt *name; /* of a thread */
};

static const char *const questions[] = {
#define QUESTION(what)                                                               \
    "SELECT stack, sum(" what "_bytes), sum(" what "_count), sum(" what "_variance)" \
    " FROM raw_site"                                                                 \
    " WHERE ?1 OR process IN (SELECT id FROM raw_process WHERE pid = ?2)"            \
    " GROUP BY stack HAVING sum(" what "_bytes) > 0 OR sum(" what "_count) > 0"      \
    " ORDER BY 2 DESC, 1"
    [NEAP_METRIC_LIVE] = QUESTION("live"),
    [NEAP_METRIC_PEAK] = QUESTION("peak"),
    [NEAP_METRIC_ALLOCATED] = QUESTION("alloc"),
    [NEAP_METRIC_TEMPORARY] = QUESTION("temporary"),
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

static struct neap_error *count_processes(struct neap_recording *recording,
                                          const struct neap_report_query *query,
                                          struct report *report)
{
    struct neap_window_covered covered;
    struct neap_error *error =
        neap_window_covers(recording, query->has_pid ? &query->pid : NULL, &covered);

    if (error)
        return error;
    report->report.processes = covered.processes;
    report->report.images = covered.images;
    report->interval = covered.interval;
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

static void making_guard(struct making *making)
{
    neap_frames_deinit(&making->frames);
    neap_suppress_destroy(making->suppress);
    sqlite3_finalize(making->name);
}

static struct neap_error *begin(struct making *making)
{
    const char *suppressions = making->query->suppressions;
    struct neap_error *error = NULL;

    if (suppressions)
        error = neap_suppress_create(suppressions, &making->suppress);
    if (!error)
        error = neap_frames_init(&making->frames, making->recording,
                                 &making->report->arena);
    if (!error && making->query->by == NEAP_BY_THREAD)
        error = neap_recording_prepare(
            making->recording,
            "SELECT t.name FROM raw_thread t JOIN raw_process p ON p.id = t.process"
            " WHERE p.pid = ? AND t.tid = ? ORDER BY t.id DESC",
            &making->name);
    return error;
}

/* Fill in what a row stands for. */
static struct neap_error *describe(struct making *making, struct neap_row *row)
{
    const char *name;
    int status;

    if (making->query->by == NEAP_BY_STACK)
        return neap_frames_load(&making->frames, row);
    if (making->query->by == NEAP_BY_SIZE)
        return NULL;
    sqlite3_reset(making->name);
    sqlite3_bind_int64(making->name, 1, row->pid);
    sqlite3_bind_int64(making->name, 2, row->tid);
    status = sqlite3_step(making->name);
    if (status != SQLITE_ROW && status != SQLITE_DONE)
        return neap_recording_error(making->recording);
    name = status == SQLITE_ROW ? (const char *)sqlite3_column_text(making->name, 0)
                                : NULL;
    if (!name)
        return NULL;
    row->name = neap_arena_copy(&making->report->arena, name, strlen(name));
    return row->name ? NULL : NEAP_NO_MEMORY;
}

/* Put one row where it belongs: suppressed, in the total, in the rows. */
static struct neap_error *take_row(struct making *making, struct neap_row *row,
                                   double variance)
{
    const struct neap_report_query *query = making->query;
    struct report *report = making->report;
    struct neap_report *totals = &report->report;
    bool wanted = query->limit < 0 || totals->count < query->limit;
    struct neap_error *error;

    if (wanted || making->suppress || query->builtin_suppressions) {
        error = describe(making, row);
        if (error)
            return error;
    }
    if ((making->suppress && neap_suppress_match(making->suppress, row)) ||
        (query->builtin_suppressions && neap_suppress_builtin(row))) {
        totals->suppressed_value = add(totals->suppressed_value, row->value);
        totals->suppressed_count = add(totals->suppressed_count, row->count);
        report->suppressed_variance += variance;
        return NULL;
    }
    totals->total_value = add(totals->total_value, row->value);
    totals->total_count = add(totals->total_count, row->count);
    report->variance += variance;
    totals->stacks++;
    row->ci95 = neap_ci95(variance, report->interval);
    return wanted ? push(report, row) : NULL;
}

static struct neap_error *read_sites(struct making *making)
{
    neap_auto_stmt sqlite3_stmt *stmt = NULL;
    const struct neap_report_query *query = making->query;
    int status;
    struct neap_error *error =
        neap_recording_prepare(making->recording, questions[query->metric], &stmt);

    if (error)
        return error;
    sqlite3_bind_int(stmt, 1, !query->has_pid);
    sqlite3_bind_int64(stmt, 2, query->pid);
    while ((status = sqlite3_step(stmt)) == SQLITE_ROW) {
        struct neap_row row = {
            .stack_id = sqlite3_column_int64(stmt, 0),
            .value = sqlite3_column_int64(stmt, 1),
            .count = sqlite3_column_int64(stmt, 2),
        };

        error = take_row(making, &row, sqlite3_column_double(stmt, 3));
        if (error)
            return error;
    }
    return status == SQLITE_DONE ? NULL : neap_recording_error(making->recording);
}

/* A sum that a scan left negative is of a block whose first half lies before it. */
static int64_t positive(uint64_t value)
{
    return (int64_t)value < 0 ? 0 : (int64_t)value;
}

static int by_value(const void *left, const void *right)
{
    const struct neap_group *a = left, *b = right;
    int64_t x = positive(a->sums.bytes), y = positive(b->sums.bytes);

    if (x != y)
        return x < y ? 1 : -1;
    return a->key < b->key ? -1 : a->key > b->key;
}

static struct neap_error *read_events(struct making *making)
{
    neap_auto(neap_groups_deinit) struct neap_groups groups = {0};
    const struct neap_report_query *query = making->query;
    struct neap_error *error;

    if ((error = neap_window_check(making->recording, query)) ||
        (error = neap_recording_scan(making->recording, query, &groups)))
        return error;
    if (groups.rows.count)
        qsort(groups.rows.data, groups.rows.count, sizeof(*groups.rows.data), by_value);
    for (size_t i = 0; i < groups.rows.count && !error; i++) {
        const struct neap_group *group = &groups.rows.data[i];
        struct neap_row row = {
            .value = positive(group->sums.bytes),
            .count = (int64_t)neap_weight_blocks((uint64_t)positive(group->sums.count)),
        };

        if (query->by == NEAP_BY_STACK) {
            row.stack_id = (int64_t)group->key;
        } else if (query->by == NEAP_BY_THREAD) {
            row.pid = (int64_t)(group->key >> 32);
            row.tid = (int64_t)(group->key & UINT32_MAX);
        } else if (group->key) {
            row.min_size = (uint64_t)1 << (group->key - 1);
            row.max_size = row.min_size - 1 + row.min_size;
        }
        if (row.value || row.count)
            error = take_row(making, &row, group->sums.variance);
    }
    return error;
}

struct neap_error *neap_recording_report(struct neap_recording *recording,
                                         const struct neap_report_query *query,
                                         struct neap_report **ret)
{
    neap_auto(report_guard) struct report *report = calloc(1, sizeof(*report));
    neap_auto(neap_recording_end) struct neap_recording *snapshot = recording;
    neap_auto(making_guard) struct making making = {recording, query, report,
                                                    {0},       0,     0};
    struct neap_report *totals;
    struct neap_error *error;

    if (!report)
        return NEAP_NO_MEMORY;
    totals = &report->report;
    totals->metric = query->metric;
    totals->by = query->by;
    if ((error = neap_recording_begin(snapshot)) ||
        (error = count_processes(recording, query, report)) ||
        (error = begin(&making)) ||
        (error = neap_window_asked(query) ? read_events(&making) : read_sites(&making)))
        return error;
    totals->rows = report->rows;
    /* Also of nothing: what was too little to be sampled may have been there. */
    totals->total_ci95 = neap_ci95(report->variance, report->interval);
    if (totals->suppressed_count || totals->suppressed_value)
        totals->suppressed_ci95 =
            neap_ci95(report->suppressed_variance, report->interval);
    *ret = &neap_take(report)->report;
    return NULL;
}

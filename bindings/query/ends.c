/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was at the end of a process, where a scan backwards starts.
 *
 * Of all blocks by stack the aggregates know everything. Of some blocks (of a thread,
 * of a size, of a half of the samples), or of threads and sizes, only the blocks that
 * were never freed tell, each for itself; they are written when their process has
 * ended, and are believed when they are as many bytes as the process has live.
 */
#include "bindings/query/scan.h"

#include <stdlib.h>

#include "schema/base/cleanup.h"

static bool by_aggregates(const struct neap_scan *scan)
{
    return scan->query->by == NEAP_BY_STACK && !scan->filtered && scan->half < 0;
}

/* Is there a row of raw_live for each block that each process had at its end? */
static struct neap_error *check_blocks(struct neap_scan *scan)
{
    neap_auto_stmt sqlite3_stmt *stmt = NULL;
    const struct neap_events *events = &scan->events;
    size_t i = 0;
    int status;
    struct neap_error *error = neap_recording_prepare(
        scan->recording,
        "SELECT process, count(*), sum(weight), min(id), max(id) FROM raw_live"
        " GROUP BY process ORDER BY process",
        &stmt);

    if (error)
        return error;
    scan->blocks = calloc(events->processes.count + 1, sizeof(*scan->blocks));
    if (!scan->blocks)
        return NEAP_NO_MEMORY;
    for (size_t k = 0; k < events->processes.count; k++)
        scan->blocks[k].whole = !events->processes.data[k].live_bytes &&
                                !events->processes.data[k].live_count;
    while ((status = sqlite3_step(stmt)) == SQLITE_ROW) {
        const struct neap_events_process *process;
        int64_t id = sqlite3_column_int64(stmt, 0);

        while (i < events->processes.count && events->processes.data[i].id < id)
            i++;
        if (i == events->processes.count)
            break;
        process = &events->processes.data[i];
        if (process->id != id)
            continue;
        scan->blocks[i] = (struct neap_scan_blocks){
            .whole = sqlite3_column_int64(stmt, 2) == process->live_bytes &&
                     (events->interval > 0 ||
                      sqlite3_column_int64(stmt, 1) == process->live_count),
            .first = sqlite3_column_int64(stmt, 3),
            .last = sqlite3_column_int64(stmt, 4)};
    }
    return status == SQLITE_DONE || status == SQLITE_ROW
               ? NULL
               : neap_recording_error(scan->recording);
}

struct neap_error *neap_scan_end_known(struct neap_scan *scan, enum neap_metric metric,
                                       bool *ret)
{
    struct neap_error *error;

    *ret = by_aggregates(scan);
    if (*ret || metric == NEAP_METRIC_ALLOCATED || metric == NEAP_METRIC_TEMPORARY)
        return NULL;
    if (!scan->blocks) {
        error = check_blocks(scan);
        if (error)
            return error;
    }
    *ret = scan->blocks[scan->process - scan->events.processes.data].whole;
    return NULL;
}

/* Add a column of raw_site to the groups of its stacks. */
static struct neap_error *add_sites(struct neap_scan *scan, const char *sql)
{
    neap_auto_stmt sqlite3_stmt *stmt = NULL;
    struct neap_error *error = neap_recording_prepare(scan->recording, sql, &stmt);
    int status;

    if (error)
        return error;
    sqlite3_bind_int64(stmt, 1, scan->process->id);
    while ((status = sqlite3_step(stmt)) == SQLITE_ROW) {
        uint32_t slot =
            neap_groups_find(scan->groups, (uint64_t)sqlite3_column_int64(stmt, 0));
        struct neap_sums *sums;

        if (slot == NEAP_GROUP_NONE)
            return NEAP_NO_MEMORY;
        sums = &scan->groups->work.data[slot];
        sums->bytes += (uint64_t)sqlite3_column_int64(stmt, 1);
        sums->count += (uint64_t)sqlite3_column_int64(stmt, 2) * NEAP_WEIGHT_ONE;
        sums->variance += sqlite3_column_double(stmt, 3);
    }
    return status == SQLITE_DONE ? NULL : neap_recording_error(scan->recording);
}

static struct neap_error *add_blocks(struct neap_scan *scan)
{
    neap_auto_stmt sqlite3_stmt *stmt = NULL;
    struct neap_error *error = neap_recording_prepare(
        scan->recording,
        "SELECT address, size, interval, stack, tid FROM raw_live"
        " WHERE process = ?1 AND id BETWEEN ?2 AND ?3",
        &stmt);
    const struct neap_scan_blocks *blocks =
        &scan->blocks[scan->process - scan->events.processes.data];
    int status;

    if (error)
        return error;
    sqlite3_bind_int64(stmt, 1, scan->process->id);
    sqlite3_bind_int64(stmt, 2, blocks->first);
    sqlite3_bind_int64(stmt, 3, blocks->last);
    while ((status = sqlite3_step(stmt)) == SQLITE_ROW) {
        uint64_t size = (uint64_t)sqlite3_column_int64(stmt, 1);
        uint32_t tid = (uint32_t)sqlite3_column_int64(stmt, 4), slot;
        struct neap_weight weight =
            neap_scan_weigh(scan, size, (uint64_t)sqlite3_column_int64(stmt, 2),
                            (uint64_t)sqlite3_column_int64(stmt, 0));
        struct neap_sums *sums;

        if (!neap_scan_wants(scan, size, tid))
            continue;
        if (scan->query->by == NEAP_BY_THREAD)
            slot = neap_scan_slot_of_thread(scan, tid);
        else if (scan->query->by == NEAP_BY_SIZE)
            slot = neap_scan_slot_of_class(scan, size);
        else
            slot =
                neap_groups_find(scan->groups, (uint64_t)sqlite3_column_int64(stmt, 3));
        if (slot == NEAP_GROUP_NONE)
            return NEAP_NO_MEMORY;
        sums = &scan->groups->work.data[slot];
        sums->bytes += weight.bytes;
        sums->count += weight.count;
        sums->variance += weight.variance;
    }
    return status == SQLITE_DONE ? NULL : neap_recording_error(scan->recording);
}

#define SITES(what)                                                   \
    "SELECT stack, " what "_bytes, " what "_count, " what "_variance" \
    " FROM raw_site WHERE process = ?"

struct neap_error *neap_scan_add_end(struct neap_scan *scan, enum neap_metric metric)
{
    static const char *const questions[] = {
        [NEAP_METRIC_LIVE] = SITES("live"),
        [NEAP_METRIC_PEAK] = SITES("live"),
        [NEAP_METRIC_ALLOCATED] = SITES("alloc"),
        [NEAP_METRIC_TEMPORARY] = SITES("temporary"),
    };

    if (!by_aggregates(scan))
        return add_blocks(scan);
    return add_sites(scan, questions[metric]);
}

struct neap_error *neap_scan_add_peak(struct neap_scan *scan)
{
    return add_sites(scan, SITES("peak"));
}

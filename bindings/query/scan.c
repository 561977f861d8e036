/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions that take the events of each process, one after the other, each on its own
 * way through them:
 *
 *   live at a time        all events up to it; or what was live at the end, less what
 *                         came after: whichever is shorter, and the other one where a
 *                         chunk on the first cannot be read
 *   allocated, temporary  the same
 *   peak up to a time     the aggregates, if the process's peak is before it; else
 * where the most was live (one way), and what was live there (another) between two
 * times     sums of the events in between; for `live` with a map of the blocks that are
 * allocated there; a peak as above
 *
 * A peak of samples has two moments, one for each half of them (schema/base/weigh.h).
 *
 * After retention only what the last events hold can be asked: the ways that would need
 * more end with an error that says what is left.
 */
#include "bindings/query/scan.h"

#include <stdlib.h>

#include "schema/base/cleanup.h"

/* ---- one process ---- */

uint32_t neap_scan_slot_of_thread(struct neap_scan *scan, uint32_t tid)
{
    if (scan->last_slot == NEAP_GROUP_NONE || scan->last_tid != tid) {
        scan->last_tid = tid;
        scan->last_slot =
            neap_groups_find(scan->groups, neap_thread_key(scan->process->pid, tid));
    }
    return scan->last_slot;
}

uint32_t neap_scan_slot_of_class(struct neap_scan *scan, uint64_t size)
{
    unsigned class = neap_size_class(size);

    if (scan->class_slots[class] == NEAP_GROUP_NONE)
        scan->class_slots[class] = neap_groups_find(scan->groups, class);
    return scan->class_slots[class];
}

struct neap_error *neap_scan_enter(struct neap_scan *scan,
                                   const struct neap_events_process *process)
{
    struct neap_error *error;

    neap_scan_leave(scan);
    scan->process = process;
    scan->last_slot = NEAP_GROUP_NONE;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(scan->class_slots); i++)
        scan->class_slots[i] = NEAP_GROUP_NONE;
    if (scan->query->by != NEAP_BY_STACK)
        return NULL;
    error = neap_event_sites_load(&scan->events, process->id, &scan->sites);
    if (error)
        return error;
    scan->unknown_slot = neap_groups_find(scan->groups, NEAP_SCAN_UNKNOWN);
    scan->slots = calloc(scan->sites.count + 1, sizeof(*scan->slots));
    if (!scan->slots || scan->unknown_slot == NEAP_GROUP_NONE)
        return NEAP_NO_MEMORY;
    for (size_t i = 0; i < scan->sites.count; i++) {
        scan->slots[i] =
            scan->sites.stacks[i]
                ? neap_groups_find(scan->groups, (uint64_t)scan->sites.stacks[i])
                : scan->unknown_slot;
        if (scan->slots[i] == NEAP_GROUP_NONE)
            return NEAP_NO_MEMORY;
    }
    return NULL;
}

void neap_scan_leave(struct neap_scan *scan)
{
    neap_event_sites_deinit(&scan->sites);
    free(scan->slots);
    scan->slots = NULL;
}

static void scan_guard(struct neap_scan *scan)
{
    neap_scan_leave(scan);
    free(scan->blocks);
    neap_events_deinit(&scan->events);
}

/* The question needs events that retention has dropped, or that were never kept. */
static struct neap_error *gone(const struct neap_scan *scan)
{
    const struct neap_events_process *process = scan->process;
    char left[NEAP_SECONDS_LENGTH];

    if (process->chunks == 0)
        return neap_error_create(
            NEAP_ERROR_USAGE,
            "%s holds no single events of process %lld, only their sums: ask without "
            "times, threads and sizes, or record again with a larger --max-size",
            scan->recording->path, (long long)process->pid);
    neap_seconds_text(process->first_ns, left);
    return neap_error_create(
        NEAP_ERROR_USAGE,
        "%s no longer holds what process %lld did before %s s, which this question "
        "needs: ask about %s s and later, or record again with a larger --max-size",
        scan->recording->path, (long long)process->pid, left, left);
}

/* One way to what a metric was after `n` events. */
static struct neap_error *go(struct neap_scan *scan, enum neap_metric metric, int64_t n,
                             bool forwards)
{
    struct neap_error *error = NULL;

    neap_groups_clear(scan->groups);
    scan->sign = forwards ? 1 : UINT64_MAX;
    if (!forwards)
        error = neap_scan_add_end(scan, metric);
    if (!error)
        error = forwards ? neap_scan_sum(scan, metric, 0, n)
                         : neap_scan_sum(scan, metric, n, scan->process->count);
    if (!error)
        neap_groups_keep(scan->groups);
    return error;
}

/* What a metric was after `n` events: by the shorter way that is open. */
static struct neap_error *state_after(struct neap_scan *scan, enum neap_metric metric,
                                      int64_t n)
{
    const struct neap_events_process *process = scan->process;
    bool forwards, open[2] = {false, process->first == 0}; /* backwards, forwards */
    struct neap_error *error;

    if (n <= 0)
        return NULL;
    if (n < process->first)
        return gone(scan);
    error = neap_scan_end_known(scan, metric, &open[false]);
    if (error)
        return error;
    if (process->chunks == 0) {
        open[true] = false;
        open[false] = open[false] && n == process->count;
    }
    if (!open[true] && !open[false])
        return gone(scan);
    /* Forwards, samples are added up unrounded. */
    forwards = open[true] &&
               (!open[false] || scan->events.interval > 0 || n < process->count - n);
    error = go(scan, metric, n, forwards);
    if (error && error->code == NEAP_ERROR_DAMAGED && open[!forwards]) {
        struct neap_error *second = go(scan, metric, n, !forwards);

        if (!second || second->code != NEAP_ERROR_DAMAGED) {
            neap_error_destroy(error);
            return second;
        }
        neap_error_destroy(second);
    }
    return error;
}

/* What was live at these two moments, one for each half of the samples. */
static struct neap_error *state_at_peak(struct neap_scan *scan, const int64_t peak[2])
{
    struct neap_error *error = NULL;

    if (scan->events.interval == 0)
        return state_after(scan, NEAP_METRIC_LIVE, peak[1]);
    for (int half = 0; half < 2 && !error; half++) {
        scan->half = half;
        error = state_after(scan, NEAP_METRIC_LIVE, peak[half]);
    }
    scan->half = -1;
    return error;
}

/* The peak of the process as a whole. */
static struct neap_error *whole_peak(struct neap_scan *scan)
{
    struct neap_error *error;

    if (scan->query->by != NEAP_BY_STACK || scan->filtered)
        return state_at_peak(scan, scan->process->peak);
    neap_groups_clear(scan->groups);
    error = neap_scan_add_peak(scan);
    if (!error)
        neap_groups_keep(scan->groups);
    return error;
}

/* The highest point in what happened from event `from` to event `to`. */
static struct neap_error *peak_between(struct neap_scan *scan, bool from_start,
                                       int64_t from, int64_t to)
{
    const struct neap_events_process *process = scan->process;
    struct neap_error *error;
    int64_t at[2];

    if (from_start && process->peak[1] <= to &&
        (scan->events.interval == 0 || process->peak[0] <= to))
        return whole_peak(scan);
    if (from < process->first || (process->chunks == 0 && to > from))
        return gone(scan);
    error = neap_scan_highest(scan, from, to, at);
    return error ? error : state_at_peak(scan, at);
}

/* What happened from event `from` to event `to`. */
static struct neap_error *sum_between(struct neap_scan *scan, int64_t from, int64_t to)
{
    enum neap_metric metric = scan->query->metric;
    struct neap_error *error;

    if (from < scan->process->first || (scan->process->chunks == 0 && to > from))
        return gone(scan);
    neap_groups_clear(scan->groups);
    scan->sign = 1;
    error = metric == NEAP_METRIC_LIVE ? neap_scan_survivors(scan, from, to)
                                       : neap_scan_sum(scan, metric, from, to);
    if (!error)
        neap_groups_keep(scan->groups);
    return error;
}

/* How many events had been applied at a time; less than `first`: it is not held. */
static struct neap_error *moment(struct neap_scan *scan, int64_t ns, int64_t *ret)
{
    const struct neap_events_process *process = scan->process;

    bool before = process->chunks ? process->first > 0 && ns < process->first_ns
                                  : process->count > 0 && ns < process->end_ns;

    if (ns >= process->start_ns && before)
        return gone(scan);
    return neap_scan_moment(scan, ns, ret);
}

static struct neap_error *scan_process(struct neap_scan *scan)
{
    const struct neap_report_query *query = scan->query;
    int64_t from = 0, to = scan->process->count;
    /* Before the start is the start. */
    bool from_start = !query->has_from || query->from_ns <= 0;
    struct neap_error *error = NULL;

    if (query->has_at || query->has_to)
        error = moment(scan, query->has_at ? query->at_ns : query->to_ns, &to);
    if (!error && !from_start)
        error = moment(scan, query->from_ns, &from);
    if (error || to == 0)
        return error;
    if (query->metric == NEAP_METRIC_PEAK)
        return peak_between(scan, from_start, from, to);
    return from_start ? state_after(scan, query->metric, to)
                      : sum_between(scan, from, to);
}

/* ---- all of them ---- */

static bool asked(const struct neap_scan *scan,
                  const struct neap_events_process *process)
{
    return !scan->query->has_pid || process->pid == scan->query->pid;
}

/* Was the recording ever switched on, as far as it knows? */
static struct neap_error *was_on(struct neap_recording *recording, bool *ret)
{
    neap_auto_stmt sqlite3_stmt *stmt = NULL;
    struct neap_error *error = neap_recording_prepare(
        recording, "SELECT 1 FROM raw_switch WHERE mode <> 'off'", &stmt);
    int status;

    if (error)
        return error;
    status = sqlite3_step(stmt);
    if (status != SQLITE_ROW && status != SQLITE_DONE)
        return neap_recording_error(recording);
    *ret = status == SQLITE_ROW;
    return NULL;
}

/* Where nothing was recorded the answer is not "0 bytes". */
static struct neap_error *check_any(const struct neap_scan *scan)
{
    bool on = false;
    struct neap_error *error;

    for (size_t i = 0; i < scan->events.processes.count; i++) {
        if (asked(scan, &scan->events.processes.data[i]) &&
            scan->events.processes.data[i].count > 0)
            return NULL;
    }
    error = was_on(scan->recording, &on);
    if (error || on)
        return error;
    return neap_error_create(
        NEAP_ERROR_USAGE,
        "%s holds no events: it was dormant all the time; switch it on while the "
        "program runs, with: neap switch FILE on",
        scan->recording->path);
}

/* Sites without a stack belong to the one that stands for them, if there is one. */
static struct neap_error *name_unknown(struct neap_scan *scan)
{
    uint64_t row = neap_map_get(&scan->groups->index, NEAP_SCAN_UNKNOWN);
    int64_t unknown = 0;
    struct neap_error *error;

    if (row == NEAP_MAP_NONE || (!scan->groups->rows.data[row].sums.bytes &&
                                 !scan->groups->rows.data[row].sums.count))
        return NULL;
    error = neap_events_unknown_stack(&scan->events, &unknown);
    if (error)
        return error;
    return neap_groups_move(scan->groups, NEAP_SCAN_UNKNOWN, (uint64_t)unknown)
               ? NULL
               : NEAP_NO_MEMORY;
}

struct neap_error *neap_recording_scan(struct neap_recording *recording,
                                       const struct neap_report_query *query,
                                       struct neap_groups *groups)
{
    neap_auto(scan_guard) struct neap_scan scan = {
        .recording = recording,
        .query = query,
        .groups = groups,
        .filtered = query->has_tid || query->has_min_size || query->has_max_size,
        .half = -1,
    };
    struct neap_error *error =
        neap_events_init(&scan.events, recording->db, recording->path);

    if (!error)
        error = check_any(&scan);
    for (size_t i = 0; i < scan.events.processes.count && !error; i++) {
        if (!asked(&scan, &scan.events.processes.data[i]))
            continue;
        error = neap_scan_enter(&scan, &scan.events.processes.data[i]);
        if (!error)
            error = scan_process(&scan);
    }
    return error ? error : name_unknown(&scan);
}

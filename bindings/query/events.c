/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The heads of all chunks are read at once, 56 bytes for up to 16,384 events; the BLOBs
 * one at a time, when somebody wants them.
 *
 * Heads are no more to be trusted than BLOBs. What contradicts its neighbours (numbers
 * that overlap, times that fall) is kept, with `wrong` set, so that it is an error
 * where it is needed and nowhere else.
 */
#include "bindings/query/events.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schema/base/cleanup.h"

/* Numbers of sites are those of distinct stacks: more than this does not fit the
 * collector's memory. */
#define SITES_MAX (1 << 24)

#define auto_stmt neap_auto(stmt_guard)

static void stmt_guard(sqlite3_stmt **stmt)
{
    sqlite3_finalize(*stmt);
}

static struct neap_error *sqlite_error(const struct neap_events *events)
{
    switch (sqlite3_errcode(events->db) & 0xff) {
    case SQLITE_NOMEM:
        return NEAP_NO_MEMORY;
    case SQLITE_INTERRUPT:
        return neap_error_create(NEAP_ERROR_CANCELLED, "stopped before the answer");
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return neap_error_create(NEAP_ERROR_DAMAGED,
                                 "%s is damaged: %s; record again, or save what can be "
                                 "saved with: sqlite3 FILE .recover",
                                 events->name, sqlite3_errmsg(events->db));
    default:
        return neap_error_create(NEAP_ERROR_STORE, "cannot read %s: %s", events->name,
                                 sqlite3_errmsg(events->db));
    }
}

static struct neap_error *prepare(const struct neap_events *events, const char *sql,
                                  sqlite3_stmt **ret)
{
    if (sqlite3_prepare_v2(events->db, sql, -1, ret, NULL) != SQLITE_OK)
        return sqlite_error(events);
    return NULL;
}

/* ---- heads ---- */

/* Numbers of events, kept where sums and differences of them fit. */
static int64_t number_in(int64_t number, int64_t low)
{
    if (number < low)
        return low;
    return number > INT64_MAX / 4 ? INT64_MAX / 4 : number;
}

static struct neap_error *read_processes(struct neap_events *events)
{
    auto_stmt sqlite3_stmt *stmt = NULL;
    int status;
    struct neap_error *error = prepare(
        events,
        "SELECT p.id, p.pid, p.start_ns, p.interval, p.event_count, p.event_first,"
        " p.event_first_ns, p.peak_event_other, p.peak_event, p.live_bytes,"
        " p.live_count, coalesce((SELECT interval FROM raw_recording), 0), p.end_ns"
        " FROM raw_process p ORDER BY p.id",
        &stmt);

    if (error)
        return error;
    while ((status = sqlite3_step(stmt)) == SQLITE_ROW) {
        struct neap_events_process process = {
            .id = sqlite3_column_int64(stmt, 0),
            .pid = sqlite3_column_int64(stmt, 1),
            .start_ns = sqlite3_column_int64(stmt, 2),
            .interval = sqlite3_column_int64(stmt, 3),
            .count = sqlite3_column_int64(stmt, 4),
            .first = sqlite3_column_int64(stmt, 5),
            .first_ns = sqlite3_column_int64(stmt, 6),
            .peak = {sqlite3_column_int64(stmt, 7), sqlite3_column_int64(stmt, 8)},
            .live_bytes = sqlite3_column_int64(stmt, 9),
            .live_count = sqlite3_column_int64(stmt, 10),
        };

        process.first = number_in(process.first, 0);
        process.count = number_in(process.count, process.first);
        process.peak[0] = number_in(process.peak[0], 0);
        process.peak[1] = number_in(process.peak[1], 0);
        events->interval = sqlite3_column_int64(stmt, 11);
        process.end_ns = sqlite3_column_type(stmt, 12) == SQLITE_NULL
                             ? INT64_MAX
                             : sqlite3_column_int64(stmt, 12);
        if (!neap_vec_push(&events->processes, process))
            return NEAP_NO_MEMORY;
    }
    return status == SQLITE_DONE ? NULL : sqlite_error(events);
}

/* Events that should be there and are not, up to number `end`. */
static bool push_hole(struct neap_events *events, int64_t process, int64_t first,
                      int64_t end, int64_t t0, int64_t t1)
{
    struct neap_events_chunk hole = {.process = process,
                                     .first = first,
                                     .count = end - first,
                                     .t0 = t0,
                                     .t1 = t1,
                                     .wrong = "they are missing"};

    return end <= first || neap_vec_push(&events->chunks, hole);
}

static struct neap_error *push_chunk(struct neap_events *events,
                                     struct neap_events_process *process,
                                     struct neap_events_chunk *chunk)
{
    int64_t end = process->first, t1 = process->first ? process->first_ns : 0;

    if (process->chunks == 0) {
        process->chunk = events->chunks.count;
    } else {
        const struct neap_events_chunk *last =
            &events->chunks.data[events->chunks.count - 1];

        end = last->first + last->count;
        t1 = last->t1;
    }
    if (chunk->count < 1 || chunk->count > NEAP_CHUNK_EVENTS || chunk->t0 > chunk->t1 ||
        chunk->t0 < 0 || chunk->first != number_in(chunk->first, 0)) {
        chunk->count = chunk->count < 0 ? 0 : chunk->count & INT32_MAX;
        chunk->first = number_in(chunk->first, 0);
        chunk->wrong = "their row makes no sense";
    } else if (chunk->first < end || chunk->t0 < t1) {
        chunk->wrong = "they contradict the events before them";
    }
    if (!push_hole(events, chunk->process, end, chunk->first, t1, chunk->t0) ||
        !neap_vec_push(&events->chunks, *chunk))
        return NEAP_NO_MEMORY;
    process->chunks = events->chunks.count - process->chunk;
    return NULL;
}

/* What the last chunk of a process leaves out. */
static struct neap_error *close_process(struct neap_events *events,
                                        struct neap_events_process *process)
{
    const struct neap_events_chunk *last;

    if (process->chunks == 0)
        return NULL;
    last = &events->chunks.data[events->chunks.count - 1];
    if (!push_hole(events, process->id, last->first + last->count, process->count,
                   last->t1, INT64_MAX))
        return NEAP_NO_MEMORY;
    process->chunks = events->chunks.count - process->chunk;
    return NULL;
}

/* Before the first event that is said to be there: a collector that had to give events
 * up leaves rows before them as they are. */
static bool is_given_up(const struct neap_events_process *process,
                        const struct neap_events_chunk *chunk)
{
    return chunk->first >= 0 && chunk->count > 0 && chunk->count <= NEAP_CHUNK_EVENTS &&
           chunk->first <= process->first - chunk->count;
}

static struct neap_error *read_heads(struct neap_events *events)
{
    auto_stmt sqlite3_stmt *stmt = NULL;
    size_t at = 0;
    int status;
    struct neap_error *error =
        prepare(events,
                "SELECT id, process, first, count, t0, t1 FROM raw_events"
                " ORDER BY process, first",
                &stmt);

    if (error)
        return error;
    while (!error && (status = sqlite3_step(stmt)) == SQLITE_ROW) {
        struct neap_events_chunk chunk = {
            .row = sqlite3_column_int64(stmt, 0),
            .process = sqlite3_column_int64(stmt, 1),
            .first = sqlite3_column_int64(stmt, 2),
            .count = sqlite3_column_int64(stmt, 3),
            .t0 = sqlite3_column_int64(stmt, 4),
            .t1 = sqlite3_column_int64(stmt, 5),
        };

        while (!error && at < events->processes.count &&
               events->processes.data[at].id < chunk.process)
            error = close_process(events, &events->processes.data[at++]);
        /* Events of a process that has no row are nobody's. */
        if (!error && at < events->processes.count &&
            events->processes.data[at].id == chunk.process &&
            !is_given_up(&events->processes.data[at], &chunk))
            error = push_chunk(events, &events->processes.data[at], &chunk);
    }
    if (!error && status != SQLITE_DONE)
        error = sqlite_error(events);
    if (!error && at < events->processes.count)
        error = close_process(events, &events->processes.data[at]);
    return error;
}

struct neap_error *neap_events_init(struct neap_events *events, sqlite3 *db,
                                    const char *name)
{
    struct neap_error *error;

    *events = (struct neap_events){.db = db, .name = name};
    error = prepare(events, "SELECT data FROM raw_events WHERE id = ?", &events->blob);
    if (!error)
        error = neap_chunk_reader_create(&events->reader);
    if (!error)
        error = read_processes(events);
    if (!error)
        error = read_heads(events);
    if (error)
        neap_events_deinit(events);
    return error;
}

void neap_events_deinit(struct neap_events *events)
{
    sqlite3_finalize(events->blob);
    neap_chunk_reader_destroy(events->reader);
    neap_vec_deinit(&events->processes);
    neap_vec_deinit(&events->chunks);
    *events = (struct neap_events){0};
}

/* ---- what is in them ---- */

void neap_seconds_text(int64_t ns, char text[NEAP_SECONDS_LENGTH])
{
    size_t length = (size_t)snprintf(text, NEAP_SECONDS_LENGTH, "%lld.%09lld",
                                     (long long)(ns / 1000000000),
                                     (long long)llabs(ns % 1000000000));

    while (text[length - 1] == '0')
        text[--length] = '\0';
    if (text[length - 1] == '.')
        text[--length] = '\0';
}

/* The error about a chunk that cannot be read. */
static struct neap_error *unreadable(const struct neap_events *events,
                                     const struct neap_events_chunk *chunk,
                                     enum neap_error_code code, const char *why)
{
    char t0[NEAP_SECONDS_LENGTH], t1[NEAP_SECONDS_LENGTH], when[80], row[48] = "";
    int64_t pid = 0, last = chunk->first + (chunk->count > 0 ? chunk->count - 1 : 0);

    for (size_t i = 0; i < events->processes.count; i++) {
        if (events->processes.data[i].id == chunk->process)
            pid = events->processes.data[i].pid;
    }
    neap_seconds_text(chunk->t0, t0);
    neap_seconds_text(chunk->t1, t1);
    if (chunk->t1 == INT64_MAX)
        snprintf(when, sizeof(when), "after %s s", t0);
    else
        snprintf(when, sizeof(when), "from %s s to %s s", t0, t1);
    if (chunk->row)
        snprintf(row, sizeof(row), ", row %lld of raw_events", (long long)chunk->row);
    return neap_error_create(
        code,
        "%s: events %lld to %lld of process %lld (%s%s) cannot be read: %s; "
        "questions that do not need them are still answered, such as a report "
        "without a time",
        events->name, (long long)chunk->first, (long long)last, (long long)pid, when,
        row, why);
}

struct neap_error *neap_events_decode(struct neap_events *events,
                                      const struct neap_events_chunk *chunk,
                                      const struct neap_chunk_event **ret)
{
    const struct neap_chunk_event *found;
    struct neap_error *error, *named;
    const void *data;
    int status;

    if (chunk->wrong)
        return unreadable(events, chunk, NEAP_ERROR_DAMAGED, chunk->wrong);
    sqlite3_reset(events->blob);
    sqlite3_bind_int64(events->blob, 1, chunk->row);
    status = sqlite3_step(events->blob);
    if (status == SQLITE_DONE)
        return unreadable(events, chunk, NEAP_ERROR_DAMAGED, "they are gone");
    if (status != SQLITE_ROW)
        return sqlite_error(events);
    data = sqlite3_column_blob(events->blob, 0);
    error = neap_chunk_decode(events->reader, data,
                              (size_t)sqlite3_column_bytes(events->blob, 0),
                              (uint32_t)chunk->count, &found);
    sqlite3_reset(events->blob);
    if (error && error->code != NEAP_ERROR_NO_MEMORY) {
        named = unreadable(events, chunk, error->code, error->message);
        neap_error_destroy(error);
        return named;
    }
    if (error)
        return error;
    if (found[0].ts_ns != (uint64_t)chunk->t0 ||
        found[chunk->count - 1].ts_ns != (uint64_t)chunk->t1)
        return unreadable(events, chunk, NEAP_ERROR_DAMAGED,
                          "they have other times than their row says");
    *ret = found;
    return NULL;
}

/* ---- sites ---- */

void neap_event_sites_deinit(struct neap_event_sites *sites)
{
    free(sites->stacks);
    *sites = (struct neap_event_sites){0};
}

struct neap_error *neap_event_sites_load(struct neap_events *events, int64_t process,
                                         struct neap_event_sites *ret)
{
    auto_stmt sqlite3_stmt *stmt = NULL;
    neap_auto_free int64_t *stacks = NULL;
    int64_t count = 0;
    int status;
    struct neap_error *error =
        prepare(events,
                "SELECT site, stack FROM raw_event_site WHERE process = ?"
                " ORDER BY site DESC",
                &stmt);

    if (error)
        return error;
    sqlite3_bind_int64(stmt, 1, process);
    while ((status = sqlite3_step(stmt)) == SQLITE_ROW) {
        int64_t site = sqlite3_column_int64(stmt, 0);

        if (site < 0 || site >= SITES_MAX)
            return neap_error_create(NEAP_ERROR_DAMAGED,
                                     "%s is damaged: a site has the number %lld; "
                                     "record again",
                                     events->name, (long long)site);
        if (!stacks) {
            count = site + 1;
            stacks = calloc((size_t)count, sizeof(*stacks));
            if (!stacks)
                return NEAP_NO_MEMORY;
        }
        stacks[site] = sqlite3_column_int64(stmt, 1);
    }
    if (status != SQLITE_DONE)
        return sqlite_error(events);
    *ret = (struct neap_event_sites){neap_take(stacks), (size_t)count};
    return NULL;
}

struct neap_error *neap_events_unknown_stack(struct neap_events *events, int64_t *ret)
{
    auto_stmt sqlite3_stmt *stmt = NULL;
    int status;
    /* One frame that says nothing, and the rest is missing: see neap_stacks_unknown().
     */
    struct neap_error *error = prepare(
        events,
        "SELECT id FROM raw_stack WHERE truncated = 1 AND frames IN (SELECT '[' || id"
        " || ']' FROM raw_frame WHERE module IS NULL AND offset = 0) ORDER BY id",
        &stmt);

    if (error)
        return error;
    status = sqlite3_step(stmt);
    if (status != SQLITE_ROW && status != SQLITE_DONE)
        return sqlite_error(events);
    *ret = status == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : 0;
    return NULL;
}

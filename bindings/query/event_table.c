/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An eponymous virtual table: it is there without CREATE, reads only what SQL could
 * read as well, and so may stand in a view of a file that nobody trusts (INNOCUOUS).
 *
 * A cursor goes from chunk to chunk, by process and number. What `ts_ns`, `pid` and
 * `process` are compared with chooses chunks before they are read, so a condition on
 * time also leads around a damaged one. SQLite checks the conditions again on each row:
 * here they only save work, and a comparison with anything but a number saves none.
 *
 * Rows of one process come in the order of time. ORDER BY ts_ns is believed without a
 * sort where there can be one process only: it is named, or the recording is finished
 * and has no other.
 */
#include "bindings/query/event_table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bindings/query/events.h"
#include "schema/base/weigh.h"

static const char declaration[] =
    "CREATE TABLE x (ts_ns INTEGER, pid INTEGER, tid INTEGER, op TEXT, address INTEGER,"
    " size INTEGER, stack_id INTEGER, weight INTEGER, owner_tid INTEGER,"
    " temporary INTEGER, number INTEGER, process INTEGER HIDDEN)";

enum column {
    COLUMN_TS_NS,
    COLUMN_PID,
    COLUMN_TID,
    COLUMN_OP,
    COLUMN_ADDRESS,
    COLUMN_SIZE,
    COLUMN_STACK_ID,
    COLUMN_WEIGHT,
    COLUMN_OWNER_TID,
    COLUMN_TEMPORARY,
    COLUMN_NUMBER,
    COLUMN_PROCESS,
};

/* Which conditions xFilter gets, in this order. */
enum plan {
    PLAN_TS_MIN = 1,
    PLAN_TS_MAX = 2,
    PLAN_PID = 4,
    PLAN_PROCESS = 8,
    PLAN_SHARED = 16,     /* one condition, ts_ns = X, is both limits */
    PLAN_MIN_BEYOND = 32, /* ts_ns > X, not >= */
    PLAN_MAX_BELOW = 64,
};

struct table {
    sqlite3_vtab base;
    sqlite3 *db;
};

struct cursor {
    sqlite3_vtab_cursor base;
    struct neap_events events; /* of the moment xFilter was called */
    struct neap_event_sites sites;
    int64_t unknown; /* stack of what has none */
    int64_t t_min, t_max, pid, process_id;
    bool has_pid, has_process, read;
    size_t process, chunk; /* where it stands, chunk within the process */
    const struct neap_chunk_event *chunk_events;
    uint32_t at, end; /* in the chunk */
};

/* ---- errors ---- */

static int raise_error(sqlite3_vtab *table, struct neap_error *error)
{
    int status;

    switch (error->code) {
    case NEAP_ERROR_NO_MEMORY:
        status = SQLITE_NOMEM;
        break;
    case NEAP_ERROR_CANCELLED:
        status = SQLITE_INTERRUPT;
        break;
    case NEAP_ERROR_DAMAGED:
        status = SQLITE_CORRUPT_VTAB;
        break;
    default:
        status = SQLITE_ERROR;
        break;
    }
    sqlite3_free(table->zErrMsg);
    table->zErrMsg = sqlite3_mprintf("%s", error->message);
    neap_error_destroy(error);
    return status;
}

/* The file's name, for messages. */
static const char *name_of(sqlite3 *db)
{
    const char *path = sqlite3_db_filename(db, "main");

    return path && path[0] ? path : "this database";
}

/* ---- the table ---- */

static int connect_table(sqlite3 *db, void *data, int argc, const char *const *argv,
                         sqlite3_vtab **ret, char **error)
{
    struct table *table;
    int status = sqlite3_declare_vtab(db, declaration);

    (void)data, (void)argc, (void)argv, (void)error;
    if (status != SQLITE_OK)
        return status;
    sqlite3_vtab_config(db, SQLITE_VTAB_INNOCUOUS);
    table = sqlite3_malloc(sizeof(*table));
    if (!table)
        return SQLITE_NOMEM;
    *table = (struct table){.db = db};
    *ret = &table->base;
    return SQLITE_OK;
}

static int disconnect_table(sqlite3_vtab *table)
{
    sqlite3_free(table);
    return SQLITE_OK;
}

/* Can there be rows of one process only, now and later? */
static bool single_process(sqlite3 *db)
{
    sqlite3_stmt *stmt = NULL;
    bool single = false;

    if (sqlite3_prepare_v2(db,
                           "SELECT finished AND (SELECT count(*) FROM raw_process) = 1"
                           " FROM main.raw_recording",
                           -1, &stmt, NULL) == SQLITE_OK &&
        sqlite3_step(stmt) == SQLITE_ROW)
        single = sqlite3_column_int(stmt, 0) != 0;
    sqlite3_finalize(stmt);
    return single;
}

/* The part of the plan that a condition is good for; 0: none. */
static int plan_of(int column, int op)
{
    if (column == COLUMN_PID && op == SQLITE_INDEX_CONSTRAINT_EQ)
        return PLAN_PID;
    if (column == COLUMN_PROCESS && op == SQLITE_INDEX_CONSTRAINT_EQ)
        return PLAN_PROCESS;
    if (column != COLUMN_TS_NS)
        return 0;
    switch (op) {
    case SQLITE_INDEX_CONSTRAINT_GT:
    case SQLITE_INDEX_CONSTRAINT_GE:
        return PLAN_TS_MIN;
    case SQLITE_INDEX_CONSTRAINT_LT:
    case SQLITE_INDEX_CONSTRAINT_LE:
        return PLAN_TS_MAX;
    case SQLITE_INDEX_CONSTRAINT_EQ:
        return PLAN_TS_MIN | PLAN_TS_MAX;
    default:
        return 0;
    }
}

static int best_index(sqlite3_vtab *base, sqlite3_index_info *info)
{
    int chosen[4] = {-1, -1, -1, -1}, arguments = 0;
    double rows = 1e7;

    for (int i = 0; i < info->nConstraint; i++) {
        int plan = info->aConstraint[i].usable
                       ? plan_of(info->aConstraint[i].iColumn, info->aConstraint[i].op)
                       : 0;

        for (int bit = 0; bit < 4; bit++) {
            if (plan & 1 << bit && chosen[bit] < 0)
                chosen[bit] = i;
        }
    }
    for (int bit = 0; bit < 4; bit++) {
        if (chosen[bit] < 0)
            continue;
        info->idxNum |= 1 << bit;
        rows /= 4;
        /* One condition may serve as both ends: ask for it once. */
        if (info->aConstraintUsage[chosen[bit]].argvIndex == 0)
            info->aConstraintUsage[chosen[bit]].argvIndex = ++arguments;
        else
            info->idxNum |= PLAN_SHARED;
        if (info->aConstraint[chosen[bit]].op == SQLITE_INDEX_CONSTRAINT_GT)
            info->idxNum |= PLAN_MIN_BEYOND;
        if (info->aConstraint[chosen[bit]].op == SQLITE_INDEX_CONSTRAINT_LT)
            info->idxNum |= PLAN_MAX_BELOW;
    }
    info->estimatedRows = (sqlite3_int64)rows;
    info->estimatedCost = rows;
    if (info->nOrderBy == 1 && info->aOrderBy[0].iColumn == COLUMN_TS_NS &&
        !info->aOrderBy[0].desc &&
        (info->idxNum & PLAN_PROCESS || single_process(((struct table *)base)->db)))
        info->orderByConsumed = 1;
    return SQLITE_OK;
}

/* ---- the cursor ---- */

static int open_cursor(sqlite3_vtab *table, sqlite3_vtab_cursor **ret)
{
    struct cursor *cursor = sqlite3_malloc(sizeof(*cursor));

    (void)table;
    if (!cursor)
        return SQLITE_NOMEM;
    memset(cursor, 0, sizeof(*cursor));
    *ret = &cursor->base;
    return SQLITE_OK;
}

static int close_cursor(sqlite3_vtab_cursor *base)
{
    struct cursor *cursor = (struct cursor *)base;

    neap_event_sites_deinit(&cursor->sites);
    neap_events_deinit(&cursor->events);
    sqlite3_free(cursor);
    return SQLITE_OK;
}

static bool wants_process(const struct cursor *cursor,
                          const struct neap_events_process *process)
{
    return (!cursor->has_pid || process->pid == cursor->pid) &&
           (!cursor->has_process || process->id == cursor->process_id);
}

/* Stand on the first wanted event of the chunk, if it has one. */
static struct neap_error *enter_chunk(struct cursor *cursor,
                                      const struct neap_events_chunk *chunk)
{
    struct neap_error *error;

    cursor->at = cursor->end = 0;
    if (chunk->t1 < cursor->t_min || chunk->t0 > cursor->t_max)
        return NULL;
    error = neap_events_decode(&cursor->events, chunk, &cursor->chunk_events);
    if (error)
        return error;
    cursor->end = (uint32_t)chunk->count;
    while (cursor->at < cursor->end &&
           (int64_t)cursor->chunk_events[cursor->at].ts_ns < cursor->t_min)
        cursor->at++;
    while (cursor->end > cursor->at &&
           (int64_t)cursor->chunk_events[cursor->end - 1].ts_ns > cursor->t_max)
        cursor->end--;
    return NULL;
}

/* To the next event there is, from the end of a chunk on. */
static struct neap_error *advance(struct cursor *cursor)
{
    struct neap_events *events = &cursor->events;
    struct neap_error *error = NULL;

    while (cursor->at == cursor->end && cursor->process < events->processes.count) {
        const struct neap_events_process *process =
            &events->processes.data[cursor->process];

        if (cursor->chunk >= process->chunks || !wants_process(cursor, process)) {
            cursor->process++;
            cursor->chunk = 0;
            continue;
        }
        if (cursor->chunk == 0) {
            neap_event_sites_deinit(&cursor->sites);
            error = neap_event_sites_load(events, process->id, &cursor->sites);
        }
        if (!error)
            error = enter_chunk(cursor,
                                &events->chunks.data[process->chunk + cursor->chunk]);
        cursor->chunk++;
        if (error)
            return error;
    }
    return NULL;
}

/* The whole number nearest to a limit that keeps what the limit keeps; false: unusable.
 */
static bool limit_of(sqlite3_value *value, bool up, int64_t *ret)
{
    double real;

    switch (sqlite3_value_type(value)) {
    case SQLITE_INTEGER:
        *ret = sqlite3_value_int64(value);
        return true;
    case SQLITE_FLOAT:
        real =
            up ? ceil(sqlite3_value_double(value)) : floor(sqlite3_value_double(value));
        if (!(real > -9e18 && real < 9e18))
            return false;
        *ret = (int64_t)real;
        return true;
    default:
        return false;
    }
}

static void take_limits(struct cursor *cursor, int plan, sqlite3_value **values)
{
    int64_t number;
    int next = 0;

    cursor->t_min = INT64_MIN;
    cursor->t_max = INT64_MAX;
    cursor->has_pid = cursor->has_process = false;
    if (plan & PLAN_TS_MIN && limit_of(values[next++], false, &number))
        cursor->t_min = number + (plan & PLAN_MIN_BEYOND && number < INT64_MAX);
    if (plan & PLAN_TS_MAX) {
        if (plan & PLAN_SHARED)
            next--;
        if (limit_of(values[next++], true, &number))
            cursor->t_max = number - (plan & PLAN_MAX_BELOW && number > INT64_MIN);
    }
    if (plan & PLAN_PID && limit_of(values[next++], false, &cursor->pid))
        cursor->has_pid = true;
    if (plan & PLAN_PROCESS && limit_of(values[next++], false, &cursor->process_id))
        cursor->has_process = true;
}

static int filter(sqlite3_vtab_cursor *base, int plan, const char *text, int count,
                  sqlite3_value **values)
{
    struct cursor *cursor = (struct cursor *)base;
    sqlite3 *db = ((struct table *)base->pVtab)->db;
    struct neap_error *error = NULL;

    (void)text, (void)count;
    take_limits(cursor, plan, values);
    cursor->process = cursor->chunk = 0;
    cursor->at = cursor->end = 0;
    if (!cursor->read) {
        error = neap_events_init(&cursor->events, db, name_of(db));
        if (!error)
            error = neap_events_unknown_stack(&cursor->events, &cursor->unknown);
        cursor->read = !error;
    }
    if (!error)
        error = advance(cursor);
    return error ? raise_error(base->pVtab, error) : SQLITE_OK;
}

static int next_row(sqlite3_vtab_cursor *base)
{
    struct cursor *cursor = (struct cursor *)base;
    struct neap_error *error;

    cursor->at++;
    if (cursor->at < cursor->end)
        return SQLITE_OK;
    error = advance(cursor);
    return error ? raise_error(base->pVtab, error) : SQLITE_OK;
}

static int at_end(sqlite3_vtab_cursor *base)
{
    const struct cursor *cursor = (const struct cursor *)base;

    return cursor->at == cursor->end;
}

/* ---- values ---- */

static const char *word_of(unsigned op)
{
    static const char *const words[2][4] = {
        {"alloc", "free", "free", "realloc_fail"},
        {"realloc_alloc", "realloc_free", "realloc_free", "realloc_fail"},
    };

    return words[op & NEAP_CHUNK_REALLOC ? 1 : 0][op & NEAP_CHUNK_KIND];
}

static int64_t number_of(const struct cursor *cursor)
{
    const struct neap_events_process *process =
        &cursor->events.processes.data[cursor->process];

    return cursor->events.chunks.data[process->chunk + cursor->chunk - 1].first +
           cursor->at;
}

/* Of the block, which a free of an unknown one does not have. */
static void block_column(const struct cursor *cursor, sqlite3_context *context,
                         const struct neap_chunk_event *event, int column)
{
    int64_t stack;

    if ((event->op & NEAP_CHUNK_KIND) == NEAP_CHUNK_FOREIGN)
        return;
    switch (column) {
    case COLUMN_SIZE:
        sqlite3_result_int64(context, (int64_t)event->size);
        break;
    case COLUMN_STACK_ID:
        stack =
            event->site < cursor->sites.count ? cursor->sites.stacks[event->site] : 0;
        stack = stack ? stack : cursor->unknown;
        if (stack)
            sqlite3_result_int64(context, stack);
        break;
    case COLUMN_WEIGHT:
        sqlite3_result_int64(
            context, (int64_t)neap_weigh(
                         event->size,
                         neap_interval((uint64_t)cursor->events.interval, event->shift))
                         .bytes);
        break;
    default:
        sqlite3_result_int64(context, event->owner);
        break;
    }
}

static int column_value(sqlite3_vtab_cursor *base, sqlite3_context *context, int column)
{
    const struct cursor *cursor = (const struct cursor *)base;
    const struct neap_events_process *process =
        &cursor->events.processes.data[cursor->process];
    const struct neap_chunk_event *event = &cursor->chunk_events[cursor->at];

    switch (column) {
    case COLUMN_TS_NS:
        sqlite3_result_int64(context, (int64_t)event->ts_ns);
        break;
    case COLUMN_PID:
        sqlite3_result_int64(context, process->pid);
        break;
    case COLUMN_TID:
        sqlite3_result_int64(context, event->tid);
        break;
    case COLUMN_OP:
        sqlite3_result_text(context, word_of(event->op), -1, SQLITE_STATIC);
        break;
    case COLUMN_ADDRESS:
        sqlite3_result_int64(context, (int64_t)event->address);
        break;
    case COLUMN_TEMPORARY:
        sqlite3_result_int(context, (event->op & NEAP_CHUNK_TEMPORARY) != 0);
        break;
    case COLUMN_NUMBER:
        sqlite3_result_int64(context, number_of(cursor));
        break;
    case COLUMN_PROCESS:
        sqlite3_result_int64(context, process->id);
        break;
    default:
        block_column(cursor, context, event, column);
        break;
    }
    return SQLITE_OK;
}

static int row_id(sqlite3_vtab_cursor *base, sqlite3_int64 *ret)
{
    const struct cursor *cursor = (const struct cursor *)base;
    uint64_t process = (uint64_t)cursor->events.processes.data[cursor->process].id;

    uint64_t id = (process << 40) + (uint64_t)number_of(cursor);

    *ret = (sqlite3_int64)id;
    return SQLITE_OK;
}

int neap_event_table_register(sqlite3 *db)
{
    /* No xCreate: the table is there, and nobody can make another one. */
    static const sqlite3_module module = {
        .xConnect = connect_table,
        .xBestIndex = best_index,
        .xDisconnect = disconnect_table,
        .xOpen = open_cursor,
        .xClose = close_cursor,
        .xFilter = filter,
        .xNext = next_row,
        .xEof = at_end,
        .xColumn = column_value,
        .xRowid = row_id,
    };

    return sqlite3_create_module_v2(db, "neap_events", &module, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A user's SQL statement, answered as a table in memory.
 *
 * The recording is opened for reading, so nothing a statement does can change it.
 * The authorizer is there for the rest: other files (ATTACH), settings that outlive
 * the statement (PRAGMA, transactions), temporary tables. It also turns SQLite's
 * "not authorized" into a sentence.
 */
#include <stdlib.h>
#include <string.h>

#include "bindings/query/arena.h"
#include "bindings/query/recording.h"
#include "schema/base/cleanup.h"

#define PAGE_ROWS 512

/* The public part first, so that the one is the other. */
struct table {
    struct neap_table table;
    struct neap_arena arena;
    struct neap_cell **pages; /* PAGE_ROWS rows each */
    size_t room;
};

void neap_table_destroy(struct neap_table *table)
{
    struct table *whole = (struct table *)table;

    if (!whole)
        return;
    neap_arena_deinit(&whole->arena);
    free(whole->pages);
    free(whole);
}

static void table_guard(struct table **table)
{
    neap_table_destroy((struct neap_table *)*table);
}

const struct neap_cell *neap_table_row(const struct neap_table *table, size_t row)
{
    const struct table *whole = (const struct table *)table;

    return whole->pages[row / PAGE_ROWS] + row % PAGE_ROWS * table->columns;
}

/* Settings that only tell, whatever follows them. */
static bool is_telling(const char *pragma)
{
    static const char *const telling[] = {
        "table_info",    "table_xinfo",   "table_list",
        "index_list",    "index_info",    "index_xinfo",
        "database_list", "function_list", "compile_options",
    };

    for (size_t i = 0; i < NEAP_ARRAY_LEN(telling); i++) {
        if (sqlite3_stricmp(pragma, telling[i]) == 0)
            return true;
    }
    return false;
}

static int authorize(void *refused, int action, const char *first, const char *second,
                     const char *database, const char *trigger)
{
    (void)second, (void)database, (void)trigger;
    switch (action) {
    case SQLITE_SELECT:
    case SQLITE_READ:
    case SQLITE_FUNCTION:
    case SQLITE_RECURSIVE:
        return SQLITE_OK;
    case SQLITE_PRAGMA:
        if (is_telling(first))
            return SQLITE_OK;
        break;
    }
    *(bool *)refused = true;
    return SQLITE_DENY;
}

static struct neap_error *sql_error(struct neap_recording *recording, bool refused)
{
    int code = sqlite3_errcode(recording->db) & 0xff;

    if (refused && code == SQLITE_AUTH)
        return neap_error_create(
            NEAP_ERROR_SQL, "SQL: this statement does more than read; only SELECT, "
                            "WITH, VALUES and EXPLAIN are allowed");
    if (code == SQLITE_ERROR || code == SQLITE_AUTH || code == SQLITE_RANGE ||
        code == SQLITE_MISMATCH || code == SQLITE_TOOBIG || code == SQLITE_READONLY)
        return neap_error_create(NEAP_ERROR_SQL, "SQL: %s",
                                 sqlite3_errmsg(recording->db));
    return neap_recording_error(recording);
}

/* Is there anything but space and comments from `at` on? */
static bool is_blank(const char *at)
{
    for (;;) {
        at += strspn(at, " \t\r\n\f;");
        if (strncmp(at, "--", 2) == 0) {
            at += strcspn(at, "\n");
        } else if (strncmp(at, "/*", 2) == 0) {
            at = strstr(at + 2, "*/");
            if (!at)
                return true;
            at += 2;
        } else {
            return *at == '\0';
        }
    }
}

static struct neap_error *prepare(struct neap_recording *recording, const char *sql,
                                  const bool *refused, sqlite3_stmt **ret)
{
    neap_auto_stmt sqlite3_stmt *stmt = NULL;
    const char *tail;

    if (is_blank(sql))
        return neap_error_create(NEAP_ERROR_SQL,
                                 "SQL: no statement; try: SELECT * FROM recording");
    if (sqlite3_prepare_v2(recording->db, sql, -1, &stmt, &tail) != SQLITE_OK)
        return sql_error(recording, *refused);
    if (!is_blank(tail))
        return neap_error_create(NEAP_ERROR_SQL,
                                 "SQL: one statement at a time; give the next one in a "
                                 "call of its own");
    *ret = neap_take(stmt);
    return NULL;
}

static struct neap_error *bind(struct neap_recording *recording, sqlite3_stmt *stmt,
                               const struct neap_cell *parameters, size_t count)
{
    size_t wanted = (size_t)sqlite3_bind_parameter_count(stmt);

    if (wanted != count)
        return neap_error_create(NEAP_ERROR_SQL,
                                 "SQL: the statement has %zu parameters and %zu were "
                                 "given",
                                 wanted, count);
    for (size_t i = 0; i < count; i++) {
        const struct neap_cell *cell = &parameters[i];
        int number = (int)i + 1, status = SQLITE_OK;

        switch (cell->type) {
        case NEAP_CELL_NULL:
            break;
        case NEAP_CELL_INTEGER:
            status = sqlite3_bind_int64(stmt, number, cell->integer);
            break;
        case NEAP_CELL_REAL:
            status = sqlite3_bind_double(stmt, number, cell->real);
            break;
        case NEAP_CELL_TEXT:
            status = sqlite3_bind_text64(stmt, number, cell->bytes, cell->length,
                                         SQLITE_STATIC, SQLITE_UTF8);
            break;
        case NEAP_CELL_BLOB:
            status = sqlite3_bind_blob64(stmt, number, cell->bytes, cell->length,
                                         SQLITE_STATIC);
            break;
        }
        if (status != SQLITE_OK)
            return sql_error(recording, false);
    }
    return NULL;
}

static struct neap_error *read_names(struct table *table, sqlite3_stmt *stmt)
{
    int columns = sqlite3_column_count(stmt);
    const char **names =
        neap_arena_alloc(&table->arena, (size_t)columns + 1, sizeof(const char *));

    if (!names)
        return NEAP_NO_MEMORY;
    for (int i = 0; i < columns; i++) {
        const char *name = sqlite3_column_name(stmt, i);

        names[i] = name ? neap_arena_copy(&table->arena, name, strlen(name)) : NULL;
        if (!names[i])
            return NEAP_NO_MEMORY;
    }
    table->table.columns = (uint32_t)columns;
    table->table.names = names;
    return NULL;
}

static struct neap_error *read_cell(struct table *table, sqlite3_stmt *stmt, int column,
                                    struct neap_cell *ret)
{
    const void *bytes;

    switch (sqlite3_column_type(stmt, column)) {
    case SQLITE_NULL:
        return NULL;
    case SQLITE_INTEGER:
        ret->type = NEAP_CELL_INTEGER;
        ret->integer = sqlite3_column_int64(stmt, column);
        return NULL;
    case SQLITE_FLOAT:
        ret->type = NEAP_CELL_REAL;
        ret->real = sqlite3_column_double(stmt, column);
        return NULL;
    case SQLITE_TEXT:
        ret->type = NEAP_CELL_TEXT;
        bytes = sqlite3_column_text(stmt, column);
        break;
    default:
        ret->type = NEAP_CELL_BLOB;
        bytes = sqlite3_column_blob(stmt, column);
        break;
    }
    ret->length = (uint32_t)sqlite3_column_bytes(stmt, column);
    if (!bytes && ret->length)
        return NEAP_NO_MEMORY;
    ret->bytes = neap_arena_copy(&table->arena, bytes, ret->length);
    return ret->bytes ? NULL : NEAP_NO_MEMORY;
}

static struct neap_error *add_row(struct table *table, sqlite3_stmt *stmt)
{
    size_t page = table->table.rows / PAGE_ROWS;
    struct neap_cell *cells;

    if (table->table.rows % PAGE_ROWS == 0) {
        if (page == table->room) {
            size_t room = table->room ? table->room * 2 : 16;
            struct neap_cell **pages =
                reallocarray(table->pages, room, sizeof(struct neap_cell *));

            if (!pages)
                return NEAP_NO_MEMORY;
            table->pages = pages;
            table->room = room;
        }
        table->pages[page] = neap_arena_alloc(
            &table->arena, PAGE_ROWS * (size_t)table->table.columns, sizeof(*cells));
        if (!table->pages[page])
            return NEAP_NO_MEMORY;
    }
    cells = table->pages[page] + table->table.rows % PAGE_ROWS * table->table.columns;
    for (int i = 0; i < (int)table->table.columns; i++) {
        struct neap_error *error = read_cell(table, stmt, i, &cells[i]);

        if (error)
            return error;
    }
    table->table.rows++;
    return NULL;
}

static struct neap_error *answer(struct neap_recording *recording, const char *sql,
                                 const struct neap_cell *parameters, size_t count,
                                 const bool *refused, struct table *table)
{
    neap_auto_stmt sqlite3_stmt *stmt = NULL;
    struct neap_error *error;
    int status;

    if ((error = prepare(recording, sql, refused, &stmt)) ||
        (error = bind(recording, stmt, parameters, count)) ||
        (error = read_names(table, stmt)))
        return error;
    while ((status = sqlite3_step(stmt)) == SQLITE_ROW) {
        error = add_row(table, stmt);
        if (error)
            return error;
    }
    return status == SQLITE_DONE ? NULL : sql_error(recording, *refused);
}

struct neap_error *neap_recording_sql(struct neap_recording *recording, const char *sql,
                                      const struct neap_cell *parameters, size_t count,
                                      struct neap_table **ret)
{
    neap_auto(table_guard) struct table *table = calloc(1, sizeof(*table));
    bool refused = false;
    struct neap_error *error;

    if (!table)
        return NEAP_NO_MEMORY;
    sqlite3_set_authorizer(recording->db, authorize, &refused);
    error = answer(recording, sql, parameters, count, &refused, table);
    sqlite3_set_authorizer(recording->db, NULL, NULL);
    if (error)
        return error;
    *ret = &neap_take(table)->table;
    return NULL;
}

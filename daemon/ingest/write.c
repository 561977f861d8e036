/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/ingest/write.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "schema/base/cleanup.h"
#include "schema/store/store.h"

static const char *const sql_of[NEAP_STATEMENT_COUNT] = {
#define NEAP_STATEMENT_SQL(name, sql) [NEAP_STATEMENT_##name] = (sql),
    NEAP_STATEMENTS(NEAP_STATEMENT_SQL)
#undef NEAP_STATEMENT_SQL
};

static struct neap_error *failed(struct neap_write *write)
{
    return neap_store_error(write->db, "cannot write to the recording");
}

struct neap_error *neap_write_init(struct neap_write *write, sqlite3 *db)
{
    *write = (struct neap_write){.db = db};
    for (int i = 0; i < NEAP_STATEMENT_COUNT; i++) {
        if (sqlite3_prepare_v3(db, sql_of[i], -1, SQLITE_PREPARE_PERSISTENT,
                               &write->statements[i], NULL) != SQLITE_OK) {
            struct neap_error *err = failed(write);

            neap_write_deinit(write);
            return err;
        }
    }
    return NULL;
}

void neap_write_deinit(struct neap_write *write)
{
    for (int i = 0; i < NEAP_STATEMENT_COUNT; i++) {
        sqlite3_finalize(write->statements[i]);
        write->statements[i] = NULL;
    }
}

struct neap_error *neap_write_begin(struct neap_write *write)
{
    /* IMMEDIATE: a second writer shows now, not in the middle. */
    if (sqlite3_exec(write->db, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK)
        return failed(write);
    return NULL;
}

struct neap_error *neap_write_commit(struct neap_write *write)
{
    if (sqlite3_exec(write->db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK)
        return failed(write);
    return NULL;
}

void neap_write_rollback(struct neap_write *write)
{
    /* SQLite ends a transaction by itself on some errors, on others it does not. */
    if (!sqlite3_get_autocommit(write->db))
        sqlite3_exec(write->db, "ROLLBACK", NULL, NULL, NULL);
}

/* Bytes of the UTF-8 character at `text`, 0 if it is none. */
static size_t utf8_length(const uint8_t *text)
{
    uint32_t code;
    size_t length;

    if (text[0] < 0x80)
        return 1;
    if (text[0] >= 0xc2 && text[0] < 0xe0)
        length = 2;
    else if (text[0] >= 0xe0 && text[0] < 0xf0)
        length = 3;
    else if (text[0] >= 0xf0 && text[0] < 0xf5)
        length = 4;
    else
        return 0;
    code = text[0] & (0xffu >> (length + 1));
    for (size_t i = 1; i < length; i++) {
        /* The NUL at the end is no continuation: never reads beyond it. */
        if ((text[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (text[i] & 0x3f);
    }
    if ((length == 3 && (code < 0x800 || (code >= 0xd800 && code < 0xe000))) ||
        (length == 4 && (code < 0x10000 || code > 0x10ffff)))
        return 0;
    return length;
}

static int bind_text(sqlite3_stmt *statement, int at, const char *text)
{
    const uint8_t *bytes = (const uint8_t *)text;
    char *repaired;
    size_t i = 0;

    while (bytes[i] && utf8_length(bytes + i))
        i += utf8_length(bytes + i);
    if (!bytes[i])
        return sqlite3_bind_text(statement, at, text, -1, SQLITE_STATIC);
    repaired = strdup(text);
    if (!repaired)
        return SQLITE_NOMEM;
    while (repaired[i]) {
        size_t length = utf8_length((const uint8_t *)repaired + i);

        if (length == 0)
            repaired[i] = '?';
        i += length ? length : 1;
    }
    return sqlite3_bind_text(statement, at, repaired, -1, free);
}

struct neap_error *neap_write_row(struct neap_write *write,
                                  enum neap_statement statement, const char *types, ...)
{
    sqlite3_stmt *stmt = write->statements[statement];
    struct neap_error *err = NULL;
    int status = SQLITE_OK;
    va_list args;

    va_start(args, types);
    for (int at = 1; types[at - 1] && status == SQLITE_OK; at++) {
        if (types[at - 1] == 'd') {
            status = sqlite3_bind_double(stmt, at, va_arg(args, double));
        } else if (types[at - 1] == 'b') {
            const void *bytes = va_arg(args, const void *);

            status = sqlite3_bind_blob64(stmt, at, bytes, va_arg(args, size_t),
                                         SQLITE_STATIC);
        } else if (types[at - 1] == 'i') {
            int64_t value = va_arg(args, int64_t);

            status = value == NEAP_SQL_NULL ? sqlite3_bind_null(stmt, at)
                                            : sqlite3_bind_int64(stmt, at, value);
        } else {
            const char *text = va_arg(args, const char *);

            status = text ? bind_text(stmt, at, text) : sqlite3_bind_null(stmt, at);
        }
    }
    va_end(args);
    if (status == SQLITE_OK)
        status = sqlite3_step(stmt);
    if (status == SQLITE_NOMEM)
        err = NEAP_NO_MEMORY;
    else if (status != SQLITE_DONE)
        err = failed(write);
    sqlite3_reset(stmt);
    if (strchr(types, 'b'))
        sqlite3_clear_bindings(stmt); /* no pointer outlives the call */
    return err;
}

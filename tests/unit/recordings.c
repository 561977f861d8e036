/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small recordings for tests: made, left behind by a crash, looked into.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "schema/base/cleanup.h"
#include "tests/unit/recordings.h"
#include "tests/unit/scratch.h"

void assert_ok(struct neap_error *error)
{
    if (error)
        fail_msg("%s", error->message);
}

/* The error has this code and says these words; ends it. */
void assert_error(struct neap_error *error, enum neap_error_code code,
                  const char *words)
{
    assert_non_null(error);
    if (error->code != code || !strstr(error->message, words))
        fail_msg("not code %d with \"%s\" but %d: %s", code, words, error->code,
                 error->message);
    assert_null(strchr(error->message, '\n'));
    neap_error_destroy(error);
}

int64_t recording_number(sqlite3 *db, const char *sql)
{
    neap_auto(neap_stmt_guard) sqlite3_stmt *stmt = NULL;

    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK ||
        sqlite3_step(stmt) != SQLITE_ROW)
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    return sqlite3_column_int64(stmt, 0);
}

void recording_put(sqlite3 *db, int count)
{
    char sql[96];

    sqlite3_snprintf(sizeof(sql), sql,
                     "INSERT INTO raw_loss VALUES (0, 'events', 1, %d, 0)", count);
    assert_ok(neap_store_exec(db, sql));
}

/* A finished recording whose only row says `count`. */
const char *recording_make(const char *name, int count)
{
    const char *path = scratch_path(name);
    sqlite3 *db = NULL;

    assert_ok(neap_store_create(path, false, &db));
    recording_put(db, count);
    neap_store_close(db);
    return path;
}

/* What a collector leaves that died: a log beside the file. */
void recording_crashed(const char *name, int count)
{
    const char *path = scratch_path(name);
    pid_t pid = fork();
    int status;

    assert_int_not_equal(pid, -1);
    if (pid == 0) {
        sqlite3 *db = NULL;
        char sql[96];

        if (neap_store_create(path, false, &db))
            _exit(1);
        sqlite3_snprintf(sizeof(sql), sql,
                         "INSERT INTO raw_loss VALUES (0, 'events', 1, %d, 0)", count);
        _exit(neap_store_exec(db, sql) ? 2 : 0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

void recording_holds(const char *name, int count)
{
    neap_auto(neap_store_guard) sqlite3 *db = NULL;

    assert_ok(neap_store_open(scratch_path(name), &db));
    assert_int_equal(recording_number(db, "SELECT count FROM loss"), count);
}

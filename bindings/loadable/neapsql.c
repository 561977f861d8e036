/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libneapsql.so: the view `event` for everybody's SQLite.
 *
 *     sqlite3 app.neap -cmd '.load build/lib/libneapsql' 'SELECT count(*) FROM event'
 *
 * It reads the connection's main database. Loaded where that is no recording it refuses
 * at once: there would be nothing to read.
 */
#include "bindings/query/event_table.h"
#include "schema/attr.h"
#include "schema/store/store.h"

SQLITE_EXTENSION_INIT1

__attribute__((visibility("default"))) int
sqlite3_neapsql_init(sqlite3 *db, char **error, const sqlite3_api_routines *api);

/* The first number that a statement answers; -1: it cannot be asked. */
static int number_of(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *stmt = NULL;
    int number = -1;

    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK &&
        sqlite3_step(stmt) == SQLITE_ROW)
        number = sqlite3_column_int(stmt, 0);
    sqlite3_finalize(stmt);
    return number;
}

int sqlite3_neapsql_init(sqlite3 *db, char **error, const sqlite3_api_routines *api)
{
    int version;

    SQLITE_EXTENSION_INIT2(api);
    if (number_of(db, "PRAGMA main.application_id") != NEAP_STORE_APPLICATION_ID) {
        *error = sqlite3_mprintf("this database is no recording: open one that 'neap "
                                 "run' wrote, then load libneapsql");
        return SQLITE_ERROR;
    }
    version = number_of(db, "PRAGMA main.user_version");
    if (version > NEAP_STORE_VERSION) {
        *error = sqlite3_mprintf("this recording has format %d, libneapsql reads %d: "
                                 "update neaptide",
                                 version, NEAP_STORE_VERSION);
        return SQLITE_ERROR;
    }
    if (number_of(db, "SELECT count(*) FROM pragma_table_info('raw_events')") < 1) {
        *error = sqlite3_mprintf("this recording holds no table of events: it was "
                                 "never begun, or is damaged");
        return SQLITE_ERROR;
    }
    return neap_event_table_register(db);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A recording at rest: one SQLite file, WAL mode, STRICT tables.
 *
 * application_id says that a file is ours ("Neap"), user_version which migration
 * it has reached. Private tables are raw_*; what people build on are the views of
 * schema/sql/views.sql, which are dropped and made anew whenever a file is
 * created or migrated.
 *
 * Writers: neapd alone. Readers open with SQLITE_OPEN_READONLY semantics and see
 * the last commit, while recording goes on and after any crash.
 */
#ifndef NEAP_SCHEMA_STORE_STORE_H
#define NEAP_SCHEMA_STORE_STORE_H

#include <sqlite3.h>
#include <stdbool.h>

#include "schema/base/error.h"

#define NEAP_STORE_APPLICATION_ID 0x4e656170 /* "Neap" */
#define NEAP_STORE_VERSION        1          /* the newest migration */

/*
 * Create a recording at `path`, mode 0600, empty, at the newest version, ready for
 * a writer. Refuses a path that exists unless `force`, which replaces an older
 * recording or an empty file, and nothing else.
 * On success the caller owns `*ret` and closes it with neap_store_close.
 */
struct neap_error *neap_store_create(const char *path, bool force,
                                     sqlite3 **ret) NEAP_MUST_CHECK;

/*
 * Open a recording for reading. Works for a finished one on a read-only medium as
 * well as for one that is being written. Errors: MISSING, FOREIGN, DAMAGED, NEWER,
 * or OS (permission).
 */
struct neap_error *neap_store_open(const char *path, sqlite3 **ret) NEAP_MUST_CHECK;

/*
 * Close. For a writer: checkpoint the log into the file first, so that one file is
 * all there is. Takes NULL.
 */
void neap_store_close(sqlite3 *db);

/*
 * SQLite's last error on `db` as ours: "<what>: <message>". Code STORE, DAMAGED for
 * a corrupt file, or NO_MEMORY. `db` NULL means that there was no memory for one.
 */
struct neap_error *neap_store_error(sqlite3 *db, const char *format, ...)
    NEAP_PRINTF(2, 3) NEAP_MUST_CHECK;

/* Run statements that return nothing. `sql` is ours, never the user's. */
struct neap_error *neap_store_exec(sqlite3 *db, const char *sql) NEAP_MUST_CHECK;

static inline void neap_store_guard(sqlite3 **db)
{
    neap_store_close(*db);
}

static inline void neap_stmt_guard(sqlite3_stmt **stmt)
{
    sqlite3_finalize(*stmt);
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Each step: BEGIN IMMEDIATE, the migration, views if last, user_version, COMMIT. */
#include "schema/store/migrate.h"

#include "schema/base/str.h"
#include "schema/store/store.h"

struct neap_error *neap_migrate_version(sqlite3 *db, int *ret)
{
    neap_auto(neap_stmt_guard) sqlite3_stmt *stmt = NULL;

    if (sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &stmt, NULL) != SQLITE_OK ||
        sqlite3_step(stmt) != SQLITE_ROW)
        return neap_store_error(db, "cannot read the version of the recording");
    *ret = sqlite3_column_int(stmt, 0);
    return NULL;
}

/* DROP VIEW for every view there is: an older release may have had others. */
static struct neap_error *drop_views(sqlite3 *db)
{
    neap_auto(neap_stmt_guard) sqlite3_stmt *stmt = NULL;
    neap_auto_str struct neap_str drops = {0};
    neap_auto_free char *sql = NULL;
    struct neap_error *error;
    int rc;

    rc = sqlite3_prepare_v2(db,
                            "SELECT printf('DROP VIEW \"%w\";', name)"
                            " FROM sqlite_schema WHERE type = 'view'",
                            -1, &stmt, NULL);
    if (rc != SQLITE_OK)
        return neap_store_error(db, "cannot list the views of the recording");
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        const char *drop = (const char *)sqlite3_column_text(stmt, 0);

        if (!drop)
            return NEAP_NO_MEMORY;
        neap_str_text(&drops, drop);
    }
    if (rc != SQLITE_DONE)
        return neap_store_error(db, "cannot list the views of the recording");
    sqlite3_finalize(neap_take(stmt));
    error = neap_str_take(&drops, &sql);
    return error ? error : neap_store_exec(db, sql);
}

static struct neap_error *step(sqlite3 *db, const struct neap_migration *migration,
                               int version, const char *views_sql)
{
    struct neap_error *error = neap_store_exec(db, migration->sql);
    char pragma[64];

    if (!error && views_sql)
        error = drop_views(db);
    if (!error && views_sql)
        error = neap_store_exec(db, views_sql);
    if (error)
        return error;
    sqlite3_snprintf(sizeof(pragma), pragma, "PRAGMA user_version = %d", version);
    return neap_store_exec(db, pragma);
}

struct neap_error *neap_migrate(sqlite3 *db, const struct neap_migration *migrations,
                                int count, const char *views_sql)
{
    struct neap_error *error;
    int version = 0;

    error = neap_migrate_version(db, &version);
    if (!error && version < 0)
        error = neap_error_create(
            NEAP_ERROR_DAMAGED, "the recording has an impossible version: %d", version);
    while (!error && version < count) {
        version++;
        error = neap_store_exec(db, "BEGIN IMMEDIATE");
        if (error)
            break;
        error = step(db, &migrations[version - 1], version,
                     version == count ? views_sql : NULL);
        if (!error)
            error = neap_store_exec(db, "COMMIT");
        /* SQLite may have rolled back on its own; if not, this does. */
        if (error && !sqlite3_get_autocommit(db))
            neap_error_destroy(neap_store_exec(db, "ROLLBACK"));
    }
    return error;
}

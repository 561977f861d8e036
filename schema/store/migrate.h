/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From user_version N to the newest, one transaction a migration: a file is at a
 * version or at the one before it, never in between. The views are dropped and made
 * anew with the last one, in its transaction.
 *
 * The tables below are generated from schema/sql (embed_sql.py).
 */
#ifndef NEAP_SCHEMA_STORE_MIGRATE_H
#define NEAP_SCHEMA_STORE_MIGRATE_H

#include <sqlite3.h>

#include "schema/base/error.h"

struct neap_migration {
    const char *name; /* of the file, for messages */
    const char *sql;
};

extern const struct neap_migration neap_migrations[]; /* [i] leads to version i + 1 */
extern const int neap_migration_count;
extern const char neap_views_sql[];
extern const char *const neap_view_names[]; /* NULL ends it */

/*
 * Bring `db` from its user_version to `count` by migrations[version..count). Does
 * nothing to a file that is there already or beyond.
 */
struct neap_error *neap_migrate(sqlite3 *db, const struct neap_migration *migrations,
                                int count, const char *views_sql) NEAP_MUST_CHECK;

/* PRAGMA user_version. */
struct neap_error *neap_migrate_version(sqlite3 *db, int *ret) NEAP_MUST_CHECK;

#endif

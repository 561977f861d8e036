/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening and closing a recording, and what all questions need: prepared
 * statements, one snapshot for several of them, cancelling, and SQLite's errors in
 * words for people.
 */
#include "bindings/query/recording.h"

#include <stdlib.h>
#include <string.h>

#include "bindings/query/event_table.h"
#include "schema/base/cleanup.h"

/* SQLite's instructions between two looks at the caller's wish to stop: about 1 ms. */
#define CHECK_EVERY 50000

/* Make the view `event` readable, and see that it is. */
static struct neap_error *add_events(struct neap_recording *recording)
{
    neap_auto_stmt sqlite3_stmt *stmt = NULL;

    if (neap_event_table_register(recording->db) != SQLITE_OK)
        return neap_recording_error(recording);
    if (sqlite3_prepare_v2(recording->db, "SELECT * FROM event", -1, &stmt, NULL) ==
        SQLITE_OK)
        return NULL;
    if ((sqlite3_errcode(recording->db) & 0xff) == SQLITE_ERROR)
        return neap_error_create(NEAP_ERROR_DAMAGED,
                                 "%s is damaged: view event: %s; record again",
                                 recording->path, sqlite3_errmsg(recording->db));
    return neap_recording_error(recording);
}

struct neap_error *neap_recording_open(const char *path, struct neap_recording **ret)
{
    neap_auto(neap_store_guard) sqlite3 *db = NULL;
    neap_auto_free struct neap_recording *recording = NULL;
    struct neap_error *error = neap_store_open(path, &db);

    if (error)
        return error;
    recording = calloc(1, sizeof(*recording));
    if (!recording)
        return NEAP_NO_MEMORY;
    recording->path = strdup(path);
    if (!recording->path)
        return NEAP_NO_MEMORY;
    recording->db = db;
    error = add_events(recording);
    if (error) {
        free(recording->path);
        return error;
    }
    db = NULL;
    *ret = neap_take(recording);
    return NULL;
}

void neap_recording_close(struct neap_recording *recording)
{
    if (!recording)
        return;
    neap_store_close(recording->db);
    free(recording->path);
    free(recording);
}

static int progress(void *data)
{
    const struct neap_recording *recording = data;

    return recording->check(recording->data);
}

void neap_recording_watch(struct neap_recording *recording, bool (*check)(void *data),
                          void *data)
{
    recording->check = check;
    recording->data = data;
    sqlite3_progress_handler(recording->db, check ? CHECK_EVERY : 0,
                             check ? progress : NULL, recording);
}

struct neap_error *neap_recording_damaged(struct neap_recording *recording,
                                          const char *what)
{
    return neap_error_create(NEAP_ERROR_DAMAGED,
                             "%s is damaged: %s; record again, or save what can be "
                             "saved with: sqlite3 FILE .recover",
                             recording->path, what);
}

struct neap_error *neap_recording_error(struct neap_recording *recording)
{
    switch (sqlite3_errcode(recording->db) & 0xff) {
    case SQLITE_NOMEM:
        return NEAP_NO_MEMORY;
    case SQLITE_INTERRUPT:
        return neap_error_create(NEAP_ERROR_CANCELLED, "stopped before the answer");
    case SQLITE_CORRUPT:
        /* The table of events has said which, and what to do. */
        if (sqlite3_extended_errcode(recording->db) == SQLITE_CORRUPT_VTAB)
            return neap_error_create(NEAP_ERROR_DAMAGED, "%s",
                                     sqlite3_errmsg(recording->db));
        return neap_recording_damaged(recording, sqlite3_errmsg(recording->db));
    case SQLITE_NOTADB:
    case SQLITE_FORMAT:
        return neap_recording_damaged(recording, sqlite3_errmsg(recording->db));
    case SQLITE_IOERR:
        /* A page that the file is too short for reads as an I/O error. */
        if (sqlite3_extended_errcode(recording->db) == SQLITE_IOERR_SHORT_READ)
            return neap_recording_damaged(recording, "it ends too early");
        break;
    }
    return neap_store_error(recording->db, "cannot read %s", recording->path);
}

struct neap_error *neap_recording_prepare(struct neap_recording *recording,
                                          const char *sql, sqlite3_stmt **ret)
{
    sqlite3_stmt *stmt = NULL;

    if (sqlite3_prepare_v2(recording->db, sql, -1, &stmt, NULL) != SQLITE_OK)
        return neap_recording_error(recording);
    *ret = stmt;
    return NULL;
}

struct neap_error *neap_recording_begin(struct neap_recording *recording)
{
    if (sqlite3_exec(recording->db, "BEGIN", NULL, NULL, NULL) != SQLITE_OK)
        return neap_recording_error(recording);
    return NULL;
}

void neap_recording_end(struct neap_recording **recording)
{
    /* Nothing was written, so nothing can go wrong that matters. */
    if (*recording && !sqlite3_get_autocommit((*recording)->db))
        sqlite3_exec((*recording)->db, "ROLLBACK", NULL, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer's side of a recording: create, close; and what both sides share.
 *
 * A new recording is private (0600) from its first byte: the file is made by
 * open(O_EXCL) and SQLite gives its -wal and -shm the same mode. application_id is
 * written before anything else, and not through the log, so that a file which a
 * crash left behind at any later point says whose it is.
 *
 * Replacing an older recording: the new one is made whole under another name in the
 * same directory and renamed over the old one, which is there until that moment.
 * The old one's log is settled first; a log left beside the new file would be
 * replayed into it.
 *
 * A path is never handed to SQLite as it came: "./" keeps a relative one from being
 * taken for ":memory:" or a "file:" URI.
 */
#include "schema/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "schema/base/cleanup.h"
#include "schema/base/str.h"
#include "schema/store/inside.h"
#include "schema/store/migrate.h"

#define WRITER_WAIT_MS 1000

static const char writer_pragmas[] =
    /* NORMAL: a crash of the machine may lose the last commits, never the file. */
    "PRAGMA synchronous = NORMAL;"
    "PRAGMA wal_autocheckpoint = 1000;"     /* pages: 8 MiB of log */
    "PRAGMA journal_size_limit = 16777216;" /* what a checkpoint leaves of it */
    "PRAGMA cache_size = -4096;"            /* KiB; the collector's memory is bounded */
    "PRAGMA temp_store = MEMORY;"
    "PRAGMA foreign_keys = OFF"; /* ingest writes parents when it can */

struct neap_error *neap_store_error(sqlite3 *db, const char *format, ...)
{
    int code = db ? sqlite3_extended_errcode(db) : SQLITE_NOMEM;
    int errnum = db ? sqlite3_system_errno(db) : 0;
    neap_auto_free char *what = NULL;
    struct neap_error *error;
    const char *why, *system;
    va_list args;

    if ((code & 0xff) == SQLITE_NOMEM)
        return NEAP_NO_MEMORY;
    va_start(args, format);
    if (vasprintf(&what, format, args) < 0)
        what = NULL;
    va_end(args);
    if (!what)
        return NEAP_NO_MEMORY;
    why = sqlite3_errmsg(db);
    system = errnum ? strerrordesc_np(errnum) : NULL;
    if ((code & 0xff) == SQLITE_CORRUPT || (code & 0xff) == SQLITE_NOTADB)
        error = neap_error_create(NEAP_ERROR_DAMAGED, "%s: %s", what, why);
    else if (system &&
             ((code & 0xff) == SQLITE_IOERR || (code & 0xff) == SQLITE_CANTOPEN))
        error = neap_error_create(NEAP_ERROR_STORE, "%s: %s (%s)", what, why, system);
    else
        error = neap_error_create(NEAP_ERROR_STORE, "%s: %s", what, why);
    if (error != NEAP_NO_MEMORY)
        error->errnum = code;
    return error;
}

struct neap_error *neap_store_exec(sqlite3 *db, const char *sql)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK)
        return NULL;
    return neap_store_error(db, "cannot write to the recording");
}

struct neap_error *neap_store_path(const char *path, const char *suffix, char **ret)
{
    neap_auto_str struct neap_str str = {0};

    if (path[0] != '/')
        neap_str_text(&str, "./");
    neap_str_text(&str, path);
    neap_str_text(&str, suffix);
    return neap_str_take(&str, ret);
}

/* Needs no memory: this is what tidies up when there is none. */
void neap_store_remove(const char *path, bool sidecars_only)
{
    static const char *const suffixes[] = {"-wal", "-shm", "-journal"};
    char file[PATH_MAX];

    for (size_t i = 0; i < NEAP_ARRAY_LEN(suffixes); i++) {
        int length = snprintf(file, sizeof(file), "%s%s", path, suffixes[i]);

        if (length > 0 && (size_t)length < sizeof(file))
            unlink(file);
    }
    if (!sidecars_only)
        unlink(path);
}

/* Open an existing file for writing. `*ret` is the caller's even on error. */
static int open_writer(const char *path, sqlite3 **ret)
{
    neap_auto_free char *file = NULL;
    int rc;

    neap_error_destroy(neap_store_path(path, "", &file));
    if (!file)
        return SQLITE_NOMEM;
    rc = sqlite3_open_v2(file, ret, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (*ret) {
        sqlite3_extended_result_codes(*ret, 1);
        sqlite3_busy_timeout(*ret, WRITER_WAIT_MS);
    }
    return rc;
}

/*
 * Enter or leave WAL mode; leaving brings the log home and deletes it. The statement
 * answers with the mode there is now, whatever was asked for.
 */
static struct neap_error *set_journal(sqlite3 *db, const char *path, const char *mode)
{
    neap_auto(neap_stmt_guard) sqlite3_stmt *stmt = NULL;
    const char *now;
    char sql[64];

    sqlite3_snprintf(sizeof(sql), sql, "PRAGMA journal_mode = %s", mode);
    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK ||
        sqlite3_step(stmt) != SQLITE_ROW)
        return neap_store_error(db, "cannot record to %s", path);
    now = (const char *)sqlite3_column_text(stmt, 0);
    if (!now)
        return NEAP_NO_MEMORY;
    if (strcmp(now, mode) == 0)
        return NULL;
    if (strcmp(mode, "wal") != 0)
        return neap_error_create(
            NEAP_ERROR_STORE, "cannot record to %s: its log cannot be settled", path);
    return neap_error_create(
        NEAP_ERROR_STORE,
        "cannot record to %s: its file system has no shared memory "
        "for a write-ahead log; choose a local disk",
        path);
}

/* From an empty file at `path` to a recording at the newest version. */
static struct neap_error *fill(const char *path, const char *name, sqlite3 **ret)
{
    neap_auto(neap_store_guard) sqlite3 *db = NULL;
    struct neap_error *error;
    char pragmas[96];

    if (open_writer(path, &db) != SQLITE_OK)
        return neap_store_error(db, "cannot record to %s", name);
    sqlite3_snprintf(sizeof(pragmas), pragmas,
                     "PRAGMA page_size = 8192; PRAGMA application_id = %d",
                     NEAP_STORE_APPLICATION_ID);
    if (sqlite3_exec(db, pragmas, NULL, NULL, NULL) != SQLITE_OK)
        return neap_store_error(db, "cannot record to %s", name);
    error = set_journal(db, name, "wal");
    if (!error)
        error = neap_store_exec(db, writer_pragmas);
    if (!error)
        error = neap_migrate(db, neap_migrations, neap_migration_count, neap_views_sql);
    if (!error)
        *ret = neap_take(db);
    return error;
}

/* The file at `path` exists: may a new recording take its place? */
static struct neap_error *check_replaceable(const char *path)
{
    struct stat st;
    unsigned char header[NEAP_STORE_HEADER] = {0};
    neap_auto_close int fd = -1;
    ssize_t got;

    if (stat(path, &st) != 0)
        return neap_error_os(errno, "cannot replace %s", path);
    if (S_ISDIR(st.st_mode))
        return neap_error_create(NEAP_ERROR_EXISTS,
                                 "cannot record to %s: it is a directory; name a file "
                                 "in it",
                                 path);
    if (!S_ISREG(st.st_mode))
        return neap_error_create(NEAP_ERROR_EXISTS,
                                 "cannot record to %s: it is not a regular file", path);
    if (st.st_size == 0)
        return NULL;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return neap_error_os(errno, "cannot replace %s", path);
    got = pread(fd, header, sizeof(header), 0);
    if (got < 0)
        return neap_error_os(errno, "cannot replace %s", path);
    if (!neap_store_is_recording(header, (size_t)got))
        return neap_error_create(NEAP_ERROR_EXISTS,
                                 "will not replace %s: it is not a recording; choose "
                                 "another name",
                                 path);
    return NULL;
}

/*
 * Bring the log of an older recording home and delete it. Fails only if someone has
 * the recording open; one too damaged for that is replaced as it is.
 */
static struct neap_error *settle(const char *path)
{
    neap_auto(neap_store_guard) sqlite3 *db = NULL;
    int rc = open_writer(path, &db);

    if (db) {
        sqlite3_busy_timeout(db, 0);
        if (rc == SQLITE_OK)
            rc = sqlite3_exec(db, "PRAGMA journal_mode = DELETE", NULL, NULL, NULL);
    }
    rc &= 0xff;
    if (rc == SQLITE_BUSY || rc == SQLITE_LOCKED)
        return neap_error_create(NEAP_ERROR_EXISTS,
                                 "cannot replace %s: another process has it open; let "
                                 "it end or choose another name",
                                 path);
    return rc == SQLITE_NOMEM ? NEAP_NO_MEMORY : NULL;
}

/* Make the new recording beside the old one, then let it take its name. */
static struct neap_error *replace(const char *path)
{
    neap_auto(neap_store_guard) sqlite3 *db = NULL;
    neap_auto_free char *temporary = NULL;
    const char *slash = strrchr(path, '/');
    struct neap_error *error;
    int fd;

    if (asprintf(&temporary, "%.*s.neap-XXXXXX", slash ? (int)(slash - path) + 1 : 0,
                 path) < 0) {
        temporary = NULL;
        return NEAP_NO_MEMORY;
    }
    fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0)
        return neap_error_os(errno, "cannot record to %s", path);
    close(fd);
    error = fill(temporary, path, &db);
    /* A log would keep its old name: everything must be in the file by now. */
    if (!error)
        error = set_journal(db, path, "delete");
    neap_store_close(neap_take(db));
    if (!error)
        error = settle(path);
    if (!error) {
        neap_store_remove(path, true);
        if (rename(temporary, path) != 0)
            error = neap_error_os(errno, "cannot replace %s", path);
    }
    neap_store_remove(temporary, !error);
    return error;
}

/* A recording that replace() made, opened for writing. */
static struct neap_error *reopen(const char *path, sqlite3 **ret)
{
    neap_auto(neap_store_guard) sqlite3 *db = NULL;
    struct neap_error *error;

    if (open_writer(path, &db) != SQLITE_OK)
        return neap_store_error(db, "cannot record to %s", path);
    error = set_journal(db, path, "wal");
    if (!error)
        error = neap_store_exec(db, writer_pragmas);
    if (!error)
        *ret = neap_take(db);
    return error;
}

struct neap_error *neap_store_create(const char *path, bool force, sqlite3 **ret)
{
    neap_auto_free char *real = NULL;
    struct neap_error *error;
    int fd;

    if (!path[0])
        return neap_error_create(NEAP_ERROR_USAGE, "the recording needs a name");
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0) {
        close(fd);
        neap_store_remove(path, true);
        error = fill(path, path, ret);
        if (error)
            neap_store_remove(path, false);
        return error;
    }
    if (errno != EEXIST)
        return neap_error_os(errno, "cannot record to %s", path);
    if (!force)
        return neap_error_create(NEAP_ERROR_EXISTS,
                                 "%s exists already: replace it with --force or choose "
                                 "another name",
                                 path);
    error = check_replaceable(path);
    if (error)
        return error;
    /* Through a symbolic link it is the recording that gets replaced, not the link. */
    real = realpath(path, NULL);
    if (!real)
        return neap_error_os(errno, "cannot replace %s", path);
    error = replace(real);
    return error ? error : reopen(real, ret);
}

void neap_store_close(sqlite3 *db)
{
    if (!db)
        return;
    if (sqlite3_db_readonly(db, "main") == 0) {
        if (!sqlite3_get_autocommit(db))
            sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
        sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
        /* Without a log the file opens anywhere. A reader at work keeps it in WAL
         * mode, which is as good on any disk that can be written to. */
        sqlite3_exec(db, "PRAGMA journal_mode = DELETE", NULL, NULL, NULL);
    }
    sqlite3_close_v2(db);
}

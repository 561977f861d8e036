/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader's side: open a file and judge whether it is a recording, without
 * trusting it. The file may come from anywhere.
 *
 * Judged in this order, so that the message is about the first thing that is wrong:
 * is it a regular file; is it SQLite's; is it ours (application_id); is it whole as
 * far as its header tells; can SQLite read it; did a release write it that we know;
 * can all views be prepared. The header is read through SQLite's own descriptor:
 * closing one of ours would drop the locks of every connection this process has to
 * the same file.
 *
 * Three ways in, for one that cannot be opened normally (no permission to make a
 * -shm file beside it, as on a read-only medium):
 *   no log beside it    immutable=1: no locks, no shared memory; nobody writes
 *   a log beside it     no locks and the log's index in private memory
 */
#include "schema/store/store.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include "schema/base/cleanup.h"
#include "schema/base/str.h"
#include "schema/base/version.h"
#include "schema/store/inside.h"
#include "schema/store/migrate.h"

#define READER_WAIT_MS 5000
#define MEBIBYTE       (1 << 20)

static const char magic[16] = "SQLite format 3";

static uint32_t big_endian32(const unsigned char *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 |
           (uint32_t)bytes[2] << 8 | bytes[3];
}

bool neap_store_is_recording(const unsigned char *header, size_t length)
{
    return length >= NEAP_STORE_HEADER && memcmp(header, magic, sizeof(magic)) == 0 &&
           big_endian32(header + 68) == NEAP_STORE_APPLICATION_ID;
}

/* Bytes in the log beside the file; 0 = there is none, or an empty one. */
static sqlite3_int64 log_size(sqlite3 *db)
{
    const char *name = sqlite3_db_filename(db, "main");
    struct stat st;

    if (!name || !name[0] || stat(sqlite3_filename_wal(name), &st) != 0)
        return 0;
    return st.st_size;
}

/*
 * How many bytes the header says the file has, 0 if it does not say. The count of
 * pages at 28 is meant only if the two change counters agree.
 */
static sqlite3_int64 promised_size(const unsigned char *header)
{
    uint32_t page = (uint32_t)header[16] << 8 | header[17];

    if (memcmp(header + 24, header + 92, 4) != 0)
        return 0;
    return (sqlite3_int64)(page == 1 ? 65536 : page) * big_endian32(header + 28);
}

/* What can be told from the first page's header and the size. */
static struct neap_error *check_header(sqlite3 *db, const char *path)
{
    unsigned char header[NEAP_STORE_HEADER] = {0};
    sqlite3_file *file = NULL;
    sqlite3_int64 size = 0;
    int rc;

    rc = sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &file);
    if (rc != SQLITE_OK || !file || !file->pMethods)
        return neap_store_error(db, "cannot read %s", path);
    rc = file->pMethods->xFileSize(file, &size);
    if (rc == SQLITE_OK && size >= NEAP_STORE_HEADER)
        rc = file->pMethods->xRead(file, header, sizeof(header), 0);
    if (rc != SQLITE_OK)
        return neap_error_create(NEAP_ERROR_OS, "cannot read %s: %s", path,
                                 sqlite3_errstr(rc));
    if (size == 0)
        return neap_error_create(NEAP_ERROR_FOREIGN,
                                 "%s is not a recording: it is empty", path);
    if (size < NEAP_STORE_HEADER || memcmp(header, magic, sizeof(magic)) != 0)
        return neap_error_create(NEAP_ERROR_FOREIGN,
                                 "%s is not a recording: it is no SQLite file; name "
                                 "one that 'neap run' wrote",
                                 path);
    if (!neap_store_is_recording(header, sizeof(header)))
        return neap_error_create(NEAP_ERROR_FOREIGN,
                                 "%s is not a recording: it is an SQLite database of "
                                 "something else",
                                 path);
    /* A log may hold the pages that a crash kept from the file. */
    if (size < promised_size(header) && log_size(db) == 0)
        return neap_error_create(NEAP_ERROR_DAMAGED,
                                 "%s is cut short: %lld of %lld bytes are there; copy "
                                 "it anew or record again",
                                 path, size, promised_size(header));
    return NULL;
}

/* The release that wrote the file, if even a newer one still says so like this. */
static struct neap_error *newer(sqlite3 *db, const char *path, int version)
{
    neap_auto(neap_stmt_guard) sqlite3_stmt *stmt = NULL;
    const char *release = NULL;

    if (sqlite3_prepare_v2(db, "SELECT version FROM raw_recording", -1, &stmt, NULL) ==
            SQLITE_OK &&
        sqlite3_step(stmt) == SQLITE_ROW)
        release = (const char *)sqlite3_column_text(stmt, 0);
    return neap_error_create(NEAP_ERROR_NEWER,
                             "%s was written by neaptide %s (format %d); this is %s "
                             "(format %d): update neaptide to read it",
                             path, release ? release : "of a later release", version,
                             NEAP_VERSION, NEAP_STORE_VERSION);
}

static struct neap_error *check_views(sqlite3 *db, const char *path)
{
    for (const char *const *view = neap_view_names; *view; view++) {
        neap_auto(neap_stmt_guard) sqlite3_stmt *stmt = NULL;
        char sql[64];

        sqlite3_snprintf(sizeof(sql), sql, "SELECT * FROM %s", *view);
        if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK)
            continue;
        /* Its table is made by those who read it: bindings/query/event_table.h. */
        if (strcmp(*view, "event") == 0 && strstr(sqlite3_errmsg(db), "neap_events"))
            continue;
        if ((sqlite3_errcode(db) & 0xff) == SQLITE_ERROR)
            return neap_error_create(NEAP_ERROR_DAMAGED,
                                     "%s is damaged: view %s: %s; record again", path,
                                     *view, sqlite3_errmsg(db));
        return neap_store_error(db, "cannot read %s", path);
    }
    return NULL;
}

static struct neap_error *check_content(sqlite3 *db, const char *path)
{
    struct neap_error *error;
    int version = 0;

    error = neap_migrate_version(db, &version);
    if (error) {
        neap_error_destroy(error);
        return neap_store_error(db, "cannot read %s", path);
    }
    if (version > NEAP_STORE_VERSION)
        return newer(db, path, version);
    if (version < 1)
        return neap_error_create(NEAP_ERROR_DAMAGED,
                                 "%s holds nothing: if it was copied during the "
                                 "recording, the rest is in the -wal file beside the "
                                 "original: copy both files, or use sqlite3 ORIGINAL "
                                 "\".backup COPY\"; if not, the recording ended before "
                                 "it had begun: record again",
                                 path);
    return check_views(db, path);
}

/* A recording is data: nothing in it may act, and no value is larger than memory. */
static void harden(sqlite3 *db)
{
    sqlite3_extended_result_codes(db, 1);
    sqlite3_busy_timeout(db, READER_WAIT_MS);
    sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    sqlite3_limit(db, SQLITE_LIMIT_LENGTH, 256 * MEBIBYTE);
    sqlite3_limit(db, SQLITE_LIMIT_SQL_LENGTH, MEBIBYTE);
    sqlite3_limit(db, SQLITE_LIMIT_ATTACHED, 0);
    sqlite3_limit(db, SQLITE_LIMIT_WORKER_THREADS, 0);
}

/* "file:" URI of a path: whatever could mean something there is escaped. */
static void append_uri(struct neap_str *uri, const char *file)
{
    neap_str_text(uri, file[0] == '/' ? "file://" : "file:");
    for (; *file; file++) {
        unsigned char c = (unsigned char)*file;

        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
            (c >= '0' && c <= '9') || strchr("/._-", c))
            neap_str_char(uri, (char)c);
        else
            neap_str_format(uri, "%%%02X", c);
    }
}

enum way {
    WAY_NORMAL,
    WAY_IMMUTABLE,
    WAY_PRIVATE_LOG
};

/* `*ret` is the caller's even on error, for the message in it. */
static int open_reader(const char *path, enum way way, sqlite3 **ret)
{
    neap_auto_str struct neap_str uri = {0};
    neap_auto_free char *file = NULL;
    neap_auto_free char *name = NULL;
    int rc;

    neap_error_destroy(neap_store_path(path, "", &file));
    if (!file)
        return SQLITE_NOMEM;
    append_uri(&uri, file);
    if (way == WAY_IMMUTABLE)
        neap_str_text(&uri, "?immutable=1");
    neap_error_destroy(neap_str_take(&uri, &name));
    if (!name)
        return SQLITE_NOMEM;
    rc = sqlite3_open_v2(name, ret,
                         SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_FULLMUTEX,
                         way == WAY_PRIVATE_LOG ? "unix-none" : NULL);
    if (rc != SQLITE_OK)
        return rc;
    harden(*ret);
    if (way == WAY_PRIVATE_LOG)
        rc = sqlite3_exec(*ret, "PRAGMA locking_mode = EXCLUSIVE", NULL, NULL, NULL);
    return rc;
}

/* Does the normal way stop here, though the file as such may be fine? */
static bool wants_other_way(sqlite3 *db)
{
    int code =
        sqlite3_exec(db, "SELECT 1 FROM sqlite_schema LIMIT 1", NULL, NULL, NULL);

    return (code & 0xff) == SQLITE_CANTOPEN || (code & 0xff) == SQLITE_READONLY;
}

static struct neap_error *check_file(const char *path)
{
    struct stat st;

    if (stat(path, &st) != 0 && (errno == ENOENT || errno == ENOTDIR))
        return neap_error_create(NEAP_ERROR_MISSING,
                                 "no recording at %s: there is no such file", path);
    else if (stat(path, &st) != 0)
        return neap_error_os(errno, "cannot open %s", path);
    if (S_ISDIR(st.st_mode))
        return neap_error_create(NEAP_ERROR_FOREIGN,
                                 "%s is not a recording: it is a directory", path);
    if (!S_ISREG(st.st_mode))
        return neap_error_create(NEAP_ERROR_FOREIGN,
                                 "%s is not a recording: it is not a regular file",
                                 path);
    /* Not for safety but for the message: SQLite does not tell why it cannot open. */
    if (access(path, R_OK) != 0)
        return neap_error_os(errno, "cannot open %s", path);
    return NULL;
}

struct neap_error *neap_store_open(const char *path, sqlite3 **ret)
{
    neap_auto(neap_store_guard) sqlite3 *db = NULL;
    struct neap_error *error = check_file(path);

    if (error)
        return error;
    if (open_reader(path, WAY_NORMAL, &db) != SQLITE_OK)
        return neap_store_error(db, "cannot open %s", path);
    error = check_header(db, path);
    if (error)
        return error;
    if (wants_other_way(db)) {
        enum way way = log_size(db) == 0 ? WAY_IMMUTABLE : WAY_PRIVATE_LOG;

        neap_store_close(neap_take(db));
        if (open_reader(path, way, &db) != SQLITE_OK)
            return neap_store_error(db, "cannot open %s", path);
    }
    error = check_content(db, path);
    if (!error)
        *ret = neap_take(db);
    return error;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schema/store: recordings made, replaced, opened, and every bad file that opening
 * must tell apart. The bad files are made from a good one by the tests themselves.
 * Links: tests/unit/scratch.c
 */
#include "schema/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "schema/base/cleanup.h"
#include "schema/store/migrate.h"
#include "tests/unit/scratch.h"

static void assert_ok(struct neap_error *error)
{
    if (error)
        fail_msg("%s", error->message);
}

/* The error has this code and says these words; ends it. */
static void assert_error(struct neap_error *error, enum neap_error_code code,
                         const char *words)
{
    assert_non_null(error);
    if (error->code != code || !strstr(error->message, words))
        fail_msg("not code %d with \"%s\" but %d: %s", code, words, error->code,
                 error->message);
    assert_null(strchr(error->message, '\n'));
    neap_error_destroy(error);
}

static int64_t number(sqlite3 *db, const char *sql)
{
    neap_auto(neap_stmt_guard) sqlite3_stmt *stmt = NULL;

    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK ||
        sqlite3_step(stmt) != SQLITE_ROW)
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    return sqlite3_column_int64(stmt, 0);
}

static void put_loss(sqlite3 *db, int count)
{
    char sql[96];

    sqlite3_snprintf(sizeof(sql), sql,
                     "INSERT INTO raw_loss VALUES (0, 'events', 1, %d, 0)", count);
    assert_ok(neap_store_exec(db, sql));
}

/* A finished recording whose only row says `count`. */
static const char *make(const char *name, int count)
{
    const char *path = scratch_path(name);
    sqlite3 *db = NULL;

    assert_ok(neap_store_create(path, false, &db));
    put_loss(db, count);
    neap_store_close(db);
    return path;
}

/* What a collector leaves that died: a log beside the file. */
static void make_crashed(const char *name, int count)
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

static void assert_holds(const char *name, int count)
{
    neap_auto(neap_store_guard) sqlite3 *db = NULL;

    assert_ok(neap_store_open(scratch_path(name), &db));
    assert_int_equal(number(db, "SELECT count FROM loss"), count);
}

static void assert_refused(const char *name, enum neap_error_code code,
                           const char *words)
{
    sqlite3 *db = NULL;

    assert_error(neap_store_open(scratch_path(name), &db), code, words);
    assert_null(db);
}

static void a_new_recording_is_private_and_ours(void **state)
{
    mode_t before = umask(0);
    sqlite3 *db = NULL;
    struct stat st;

    (void)state;
    assert_ok(neap_store_create(scratch_path("a.neap"), false, &db));
    umask(before);
    put_loss(db, 1);
    static const char *const names[] = {"a.neap", "a.neap-wal", "a.neap-shm"};

    for (size_t i = 0; i < NEAP_ARRAY_LEN(names); i++) {
        assert_int_equal(stat(scratch_path(names[i]), &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
    }
    assert_int_equal(number(db, "PRAGMA application_id"), NEAP_STORE_APPLICATION_ID);
    assert_int_equal(number(db, "PRAGMA user_version"), NEAP_STORE_VERSION);
    assert_int_equal(number(db, "PRAGMA page_size"), 8192);
    assert_int_equal(number(db, "PRAGMA synchronous"), 1);
    for (const char *const *view = neap_view_names; *view; view++) {
        char sql[64];

        sqlite3_snprintf(sizeof(sql), sql, "SELECT count(*) FROM %s", *view);
        assert_true(number(db, sql) >= 0);
    }
    neap_store_close(db);
}

static void a_closed_recording_is_one_file(void **state)
{
    (void)state;
    make("a.neap", 7);
    assert_int_equal(scratch_count(), 1);
    assert_holds("a.neap", 7);
    assert_int_equal(scratch_count(), 1);
}

static void closing_rolls_back_what_was_not_committed(void **state)
{
    sqlite3 *db = NULL;

    (void)state;
    make("a.neap", 7);
    assert_ok(neap_store_create(scratch_path("b.neap"), false, &db));
    put_loss(db, 1);
    assert_ok(neap_store_exec(db, "BEGIN; UPDATE raw_loss SET count = 2"));
    neap_store_close(db);
    assert_holds("b.neap", 1);
    neap_store_close(NULL);
}

static void a_reader_sees_each_commit_and_cannot_write(void **state)
{
    neap_auto(neap_store_guard) sqlite3 *writer = NULL;
    neap_auto(neap_store_guard) sqlite3 *reader = NULL;

    (void)state;
    assert_ok(neap_store_create(scratch_path("a.neap"), false, &writer));
    put_loss(writer, 1);
    assert_ok(neap_store_open(scratch_path("a.neap"), &reader));
    assert_int_equal(number(reader, "SELECT count FROM loss"), 1);
    assert_ok(neap_store_exec(writer, "UPDATE raw_loss SET count = 2"));
    assert_int_equal(number(reader, "SELECT count FROM loss"), 2);
    assert_error(neap_store_exec(reader, "DELETE FROM raw_loss"), NEAP_ERROR_STORE,
                 "readonly");
    assert_error(neap_store_exec(reader, "ATTACH ':memory:' AS other"),
                 NEAP_ERROR_STORE, "too many attached");
    /* The writer ends first: what it leaves is whole for both of them. */
    neap_store_close(neap_take(writer));
    assert_int_equal(number(reader, "SELECT count FROM loss"), 2);
    assert_holds("a.neap", 2);
}

static void a_dead_writers_recording_opens(void **state)
{
    (void)state;
    make_crashed("a.neap", 3);
    assert_int_equal(access(scratch_path("a.neap-wal"), F_OK), 0);
    assert_holds("a.neap", 3);
}

static void an_existing_file_is_not_overwritten(void **state)
{
    sqlite3 *db = NULL;

    (void)state;
    make("a.neap", 7);
    assert_error(neap_store_create(scratch_path("a.neap"), false, &db),
                 NEAP_ERROR_EXISTS, "--force");
    assert_null(db);
    assert_holds("a.neap", 7);
    assert_int_equal(symlink("nowhere", scratch_path("link")), 0);
    assert_error(neap_store_create(scratch_path("link"), false, &db), NEAP_ERROR_EXISTS,
                 "exists");
}

static void force_replaces_an_older_recording(void **state)
{
    sqlite3 *db = NULL;

    (void)state;
    make("a.neap", 7);
    make_crashed("b.neap", 8);
    assert_int_equal(symlink("a.neap", scratch_path("link")), 0);
    for (const char *const *name = (const char *const[]){"a.neap", "b.neap", "link", 0};
         *name; name++) {
        assert_ok(neap_store_create(scratch_path(*name), true, &db));
        assert_int_equal(number(db, "SELECT count(*) FROM loss"), 0);
        put_loss(db, 9);
        neap_store_close(db);
        assert_holds(*name, 9);
    }
    assert_holds("a.neap", 9);
    assert_int_equal(scratch_count(), 3);
}

static void force_replaces_an_empty_and_a_damaged_one(void **state)
{
    sqlite3 *db = NULL;

    (void)state;
    scratch_write("empty", "", 0);
    assert_ok(neap_store_create(scratch_path("empty"), true, &db));
    neap_store_close(db);
    make("cut", 1);
    assert_int_equal(truncate(scratch_path("cut"), 5000), 0);
    assert_ok(neap_store_create(scratch_path("cut"), true, &db));
    neap_store_close(db);
    assert_int_equal(scratch_count(), 2);
}

static void force_spares_everything_else(void **state)
{
    neap_auto(neap_store_guard) sqlite3 *reader = NULL;
    neap_auto_free unsigned char *bytes = NULL;
    sqlite3 *db = NULL;
    size_t length;

    (void)state;
    scratch_write("letter", "Dear reader,", 12);
    assert_error(neap_store_create(scratch_path("letter"), true, &db),
                 NEAP_ERROR_EXISTS, "not a recording");
    bytes = scratch_read("letter", &length);
    assert_memory_equal(bytes, "Dear reader,", 12);
    assert_error(neap_store_create(scratch_dir(), true, &db), NEAP_ERROR_EXISTS,
                 "directory");
    assert_int_equal(mkfifo(scratch_path("fifo"), 0600), 0);
    assert_error(neap_store_create(scratch_path("fifo"), true, &db), NEAP_ERROR_EXISTS,
                 "regular");
    assert_int_equal(symlink("nowhere", scratch_path("link")), 0);
    assert_error(neap_store_create(scratch_path("link"), true, &db), NEAP_ERROR_OS,
                 "No such file");
    /* One that is open somewhere, and is read on there. */
    make_crashed("busy", 4);
    assert_ok(neap_store_open(scratch_path("busy"), &reader));
    assert_int_equal(number(reader, "SELECT count FROM loss"), 4);
    assert_error(neap_store_create(scratch_path("busy"), true, &db), NEAP_ERROR_EXISTS,
                 "open");
    assert_int_equal(number(reader, "SELECT count FROM loss"), 4);
    assert_null(db);
}

static void places_that_take_no_file_are_named(void **state)
{
    sqlite3 *db = NULL;
    char deep[800];

    (void)state;
    assert_error(neap_store_create("", false, &db), NEAP_ERROR_USAGE, "name");
    assert_error(neap_store_create(scratch_path("no/such/dir"), false, &db),
                 NEAP_ERROR_OS, "No such file");
    memset(deep, 'x', sizeof(deep));
    deep[sizeof(deep) - 1] = 0;
    assert_error(neap_store_create(deep, false, &db), NEAP_ERROR_OS, "too long");
    assert_null(db);
    assert_int_equal(scratch_count(), 0);
}

static void any_name_a_file_can_have_is_fine(void **state)
{
    static const char *const names[] = {"with space", "a?b=c&d",  "100%25",   "#hash",
                                        "\xff\xfe",   "file:x",   ":memory:", "-o",
                                        "a'b\"c",     "new\nline"};
    char before[PATH_MAX];

    (void)state;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(names); i++) {
        make(names[i], (int)i);
        assert_holds(names[i], (int)i);
    }
    /* Relative names as well: SQLite has its own ideas about some. */
    assert_non_null(getcwd(before, sizeof(before)));
    assert_int_equal(chdir(scratch_dir()), 0);
    for (size_t i = 0; i < NEAP_ARRAY_LEN(names); i++) {
        neap_auto(neap_store_guard) sqlite3 *db = NULL;

        assert_ok(neap_store_open(names[i], &db));
        assert_int_equal(number(db, "SELECT count FROM loss"), i);
    }
    assert_int_equal(chdir(before), 0);
    assert_int_equal(scratch_count(), NEAP_ARRAY_LEN(names));
}

static void what_is_no_file_is_refused(void **state)
{
    (void)state;
    assert_refused("gone", NEAP_ERROR_MISSING, "no such file");
    scratch_write("file", "x", 1);
    assert_refused("file/below", NEAP_ERROR_MISSING, "no such file");
    assert_int_equal(mkdir(scratch_path("dir"), 0700), 0);
    assert_refused("dir", NEAP_ERROR_FOREIGN, "directory");
    assert_int_equal(mkfifo(scratch_path("fifo"), 0600), 0);
    assert_refused("fifo", NEAP_ERROR_FOREIGN, "regular");
    assert_int_equal(symlink("loop", scratch_path("loop")), 0);
    assert_refused("loop", NEAP_ERROR_OS, "symbolic links");
}

static void foreign_files_are_told_apart(void **state)
{
    static const char text[4096] = "just some text";
    sqlite3 *db = NULL;

    (void)state;
    scratch_write("empty", "", 0);
    assert_refused("empty", NEAP_ERROR_FOREIGN, "empty");
    scratch_write("short", "SQLite", 6);
    assert_refused("short", NEAP_ERROR_FOREIGN, "no SQLite file");
    scratch_write("text", text, sizeof(text));
    assert_refused("text", NEAP_ERROR_FOREIGN, "no SQLite file");
    assert_int_equal(sqlite3_open(scratch_path("other"), &db), SQLITE_OK);
    assert_ok(neap_store_exec(db, "CREATE TABLE notes (line TEXT)"));
    sqlite3_close(db);
    assert_refused("other", NEAP_ERROR_FOREIGN, "something else");
}

static void truncated_files_are_damaged(void **state)
{
    neap_auto_free unsigned char *bytes = NULL;
    size_t length;

    (void)state;
    make("a.neap", 1);
    bytes = scratch_read("a.neap", &length);
    for (size_t cut = 100; cut < length; cut += 1001) {
        scratch_write("cut", bytes, cut);
        assert_refused("cut", NEAP_ERROR_DAMAGED, "cut short");
    }
}

/* No byte of the file may bring the reader down, whatever it is changed to. */
static void damaged_bytes_are_an_error_or_harmless(void **state)
{
    neap_auto_free unsigned char *bytes = NULL;
    size_t length;
    int refused = 0;

    (void)state;
    make("a.neap", 1);
    bytes = scratch_read("a.neap", &length);
    for (size_t at = 0; at < length; at += at < 200 ? 1 : 61) {
        neap_auto(neap_store_guard) sqlite3 *db = NULL;
        unsigned char was = bytes[at];
        struct neap_error *error;

        bytes[at] = (unsigned char)(was ^ 0x55);
        scratch_write("bent", bytes, length);
        bytes[at] = was;
        error = neap_store_open(scratch_path("bent"), &db);
        if (error) {
            refused++;
            assert_null(strchr(error->message, '\n'));
            assert_non_null(strstr(error->message, "bent"));
            neap_error_destroy(error);
        } else {
            sqlite3_exec(db, "SELECT * FROM site; SELECT * FROM loss", NULL, NULL,
                         NULL);
        }
    }
    /* The magic and the application_id alone are 20 bytes. */
    assert_true(refused >= 20);
}

static void a_newer_format_says_who_wrote_it(void **state)
{
    sqlite3 *db = NULL;

    (void)state;
    make("a.neap", 1);
    assert_int_equal(sqlite3_open(scratch_path("a.neap"), &db), SQLITE_OK);
    assert_ok(neap_store_exec(db, "PRAGMA user_version = 99"));
    sqlite3_close(db);
    assert_refused("a.neap", NEAP_ERROR_NEWER, "later release");
    assert_int_equal(sqlite3_open(scratch_path("a.neap"), &db), SQLITE_OK);
    assert_ok(neap_store_exec(
        db, "INSERT INTO raw_recording VALUES (1, '7.5.3', '[]', '', 0, '', '', '',"
            " 'exact', 0, '', '', 0, 0, NULL, 0)"));
    sqlite3_close(db);
    assert_refused("a.neap", NEAP_ERROR_NEWER, "neaptide 7.5.3 (format 99)");
}

static void a_recording_without_its_parts_is_damaged(void **state)
{
    sqlite3 *db = NULL;

    (void)state;
    make("a.neap", 1);
    assert_int_equal(sqlite3_open(scratch_path("a.neap"), &db), SQLITE_OK);
    assert_ok(neap_store_exec(db, "DROP TABLE raw_site"));
    sqlite3_close(db);
    assert_refused("a.neap", NEAP_ERROR_DAMAGED, "raw_site");
    assert_int_equal(sqlite3_open(scratch_path("b.neap"), &db), SQLITE_OK);
    assert_ok(neap_store_exec(db, "PRAGMA application_id = 0x4e656170"));
    sqlite3_close(db);
    assert_refused("b.neap", NEAP_ERROR_DAMAGED, "holds nothing");
}

/* Run `check` in a child that is nobody, where the kernel grants nothing by rank. */
static void as_nobody(void (*check)(void))
{
    pid_t pid;
    int status;

    if (geteuid() != 0) {
        check();
        return;
    }
    pid = fork();
    assert_int_not_equal(pid, -1);
    if (pid == 0) {
        if (setgid(65534) != 0 || setuid(65534) != 0)
            _exit(3);
        check();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* In a child an assertion of cmocka's would go astray: ask by hand. */
static void expect(bool fact)
{
    if (!fact)
        _exit(1);
}

static void check_unreadable(void)
{
    sqlite3 *db = NULL;
    struct neap_error *error = neap_store_open(scratch_path("a.neap"), &db);

    expect(error && error->code == NEAP_ERROR_OS && error->errnum == EACCES);
    neap_error_destroy(error);
    error = neap_store_create(scratch_path("b.neap"), false, &db);
    expect(error && error->code == NEAP_ERROR_OS && error->errnum == EACCES);
    neap_error_destroy(error);
}

static void no_permission_is_said(void **state)
{
    (void)state;
    make("a.neap", 1);
    assert_int_equal(chmod(scratch_path("a.neap"), 0), 0);
    assert_int_equal(chmod(scratch_dir(), 0555), 0);
    as_nobody(check_unreadable);
}

/* Opened in a directory where no file can be made. */
static void check_in_fixed_place(void)
{
    static const struct {
        const char *name;
        int count;
    } rows[] = {{"done.neap", 5}, {"walmode.neap", 6}, {"crashed.neap", 7}};

    for (size_t i = 0; i < NEAP_ARRAY_LEN(rows); i++) {
        sqlite3 *db = NULL;
        struct neap_error *error = neap_store_open(scratch_path(rows[i].name), &db);

        if (error)
            fprintf(stderr, "%s\n", error->message);
        expect(!error);
        expect(number(db, "SELECT count FROM loss") == rows[i].count);
        neap_store_close(db);
    }
}

static void recordings_open_where_nothing_can_be_written(void **state)
{
    static const char *const names[] = {"done.neap", "walmode.neap", "crashed.neap",
                                        "crashed.neap-wal"};
    sqlite3 *db = NULL;

    (void)state;
    make("done.neap", 5);
    make("walmode.neap", 6);
    assert_int_equal(sqlite3_open(scratch_path("walmode.neap"), &db), SQLITE_OK);
    assert_ok(neap_store_exec(db, "PRAGMA journal_mode = WAL"));
    sqlite3_close(db);
    make_crashed("crashed.neap", 7);
    assert_int_equal(unlink(scratch_path("crashed.neap-shm")), 0);
    for (size_t i = 0; i < NEAP_ARRAY_LEN(names); i++)
        assert_int_equal(chmod(scratch_path(names[i]), 0444), 0);
    assert_int_equal(chmod(scratch_dir(), 0555), 0);
    as_nobody(check_in_fixed_place);
    assert_int_equal(chmod(scratch_dir(), 0700), 0);
    assert_int_equal(scratch_count(), 4);
}

static void hostile_views_cannot_act(void **state)
{
    neap_auto(neap_store_guard) sqlite3 *db = NULL;
    sqlite3 *other = NULL;

    (void)state;
    make("a.neap", 1);
    assert_int_equal(sqlite3_open(scratch_path("a.neap"), &other), SQLITE_OK);
    assert_ok(neap_store_exec(other,
                              "DROP VIEW loss; CREATE VIEW loss AS SELECT 1 AS count,"
                              " load_extension('x') AS what"));
    sqlite3_close(other);
    assert_refused("a.neap", NEAP_ERROR_DAMAGED, "load_extension");
}

static void migrations_run_one_by_one(void **state)
{
    static const struct neap_migration steps[] = {
        {"1", "CREATE TABLE one (x)"},
        {"2", "CREATE TABLE two (x)"},
        {"3", "CREATE TABLE three (x); CREATE TABLE one (x)"}, /* fails */
    };
    sqlite3 *db = NULL;
    int version = -1;

    (void)state;
    assert_int_equal(sqlite3_open(scratch_path("a"), &db), SQLITE_OK);
    assert_ok(neap_migrate(db, steps, 1, "CREATE VIEW old AS SELECT x FROM one"));
    assert_ok(neap_migrate(db, steps, 2, "CREATE VIEW new AS SELECT x FROM two"));
    assert_int_equal(number(db, "SELECT count(*) FROM sqlite_schema WHERE type = 'view'"
                                " AND name = 'new'"),
                     1);
    assert_int_equal(
        number(db, "SELECT count(*) FROM sqlite_schema WHERE type = 'view'"), 1);
    assert_error(neap_migrate(db, steps, 3, ""), NEAP_ERROR_STORE, "already exists");
    assert_int_not_equal(sqlite3_get_autocommit(db), 0);
    assert_ok(neap_migrate_version(db, &version));
    assert_int_equal(version, 2);
    assert_int_equal(
        number(db, "SELECT count(*) FROM sqlite_schema WHERE name = 'three'"), 0);
    /* Nothing to do for a file that is there already, or beyond. */
    assert_ok(neap_migrate(db, steps, 1, "no SQL at all"));
    assert_ok(neap_store_exec(db, "PRAGMA user_version = -1"));
    assert_error(neap_migrate(db, steps, 3, ""), NEAP_ERROR_DAMAGED, "-1");
    sqlite3_close(db);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_new_recording_is_private_and_ours),
        TEST(a_closed_recording_is_one_file),
        TEST(closing_rolls_back_what_was_not_committed),
        TEST(a_reader_sees_each_commit_and_cannot_write),
        TEST(a_dead_writers_recording_opens),
        TEST(an_existing_file_is_not_overwritten),
        TEST(force_replaces_an_older_recording),
        TEST(force_replaces_an_empty_and_a_damaged_one),
        TEST(force_spares_everything_else),
        TEST(places_that_take_no_file_are_named),
        TEST(any_name_a_file_can_have_is_fine),
        TEST(what_is_no_file_is_refused),
        TEST(foreign_files_are_told_apart),
        TEST(truncated_files_are_damaged),
        TEST(damaged_bytes_are_an_error_or_harmless),
        TEST(a_newer_format_says_who_wrote_it),
        TEST(a_recording_without_its_parts_is_damaged),
        TEST(no_permission_is_said),
        TEST(recordings_open_where_nothing_can_be_written),
        TEST(hostile_views_cannot_act),
        TEST(migrations_run_one_by_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

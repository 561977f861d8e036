/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schema/store, the reader's side: every bad file that opening must tell apart. The
 * bad files are made from a good one by the tests themselves.
 * Links: tests/unit/recordings.c tests/unit/scratch.c
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
#include "tests/unit/recordings.h"
#include "tests/unit/scratch.h"

static void assert_refused(const char *name, enum neap_error_code code,
                           const char *words)
{
    sqlite3 *db = NULL;

    assert_error(neap_store_open(scratch_path(name), &db), code, words);
    assert_null(db);
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
    recording_make("a.neap", 1);
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
    recording_make("a.neap", 1);
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
    recording_make("a.neap", 1);
    assert_int_equal(sqlite3_open(scratch_path("a.neap"), &db), SQLITE_OK);
    assert_ok(neap_store_exec(db, "PRAGMA user_version = 99"));
    sqlite3_close(db);
    assert_refused("a.neap", NEAP_ERROR_NEWER, "later release");
    assert_int_equal(sqlite3_open(scratch_path("a.neap"), &db), SQLITE_OK);
    assert_ok(neap_store_exec(
        db, "INSERT INTO raw_recording (id, version, command, start_utc, duration_ns,"
            " host, kernel, machine, mode, interval, policy, boot_id, collector_pid,"
            " collector_start) VALUES (1, '7.5.3', '[]', '', 0, '', '', '', 'exact', 0,"
            " '', '', 0, 0)"));
    sqlite3_close(db);
    assert_refused("a.neap", NEAP_ERROR_NEWER, "neaptide 7.5.3 (format 99)");
}

static void a_recording_without_its_parts_is_damaged(void **state)
{
    sqlite3 *db = NULL;

    (void)state;
    recording_make("a.neap", 1);
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
    recording_make("a.neap", 1);
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
        expect(recording_number(db, "SELECT count FROM loss") == rows[i].count);
        neap_store_close(db);
    }
}

static void recordings_open_where_nothing_can_be_written(void **state)
{
    static const char *const names[] = {"done.neap", "walmode.neap", "crashed.neap",
                                        "crashed.neap-wal"};
    sqlite3 *db = NULL;

    (void)state;
    recording_make("done.neap", 5);
    recording_make("walmode.neap", 6);
    assert_int_equal(sqlite3_open(scratch_path("walmode.neap"), &db), SQLITE_OK);
    assert_ok(neap_store_exec(db, "PRAGMA journal_mode = WAL"));
    sqlite3_close(db);
    recording_crashed("crashed.neap", 7);
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
    sqlite3 *other = NULL;

    (void)state;
    recording_make("a.neap", 1);
    assert_int_equal(sqlite3_open(scratch_path("a.neap"), &other), SQLITE_OK);
    assert_ok(neap_store_exec(other,
                              "DROP VIEW loss; CREATE VIEW loss AS SELECT 1 AS count,"
                              " load_extension('x') AS what"));
    sqlite3_close(other);
    assert_refused("a.neap", NEAP_ERROR_DAMAGED, "load_extension");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_no_file_is_refused),
        TEST(foreign_files_are_told_apart),
        TEST(truncated_files_are_damaged),
        TEST(damaged_bytes_are_an_error_or_harmless),
        TEST(a_newer_format_says_who_wrote_it),
        TEST(a_recording_without_its_parts_is_damaged),
        TEST(no_permission_is_said),
        TEST(recordings_open_where_nothing_can_be_written),
        TEST(hostile_views_cannot_act),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

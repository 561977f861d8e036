/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schema/store, the writer's side: recordings made, replaced, closed, migrated.
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

static void a_new_recording_is_private_and_ours(void **state)
{
    mode_t before = umask(0);
    sqlite3 *db = NULL;
    struct stat st;

    (void)state;
    assert_ok(neap_store_create(scratch_path("a.neap"), false, &db));
    umask(before);
    recording_put(db, 1);
    static const char *const names[] = {"a.neap", "a.neap-wal", "a.neap-shm"};

    for (size_t i = 0; i < NEAP_ARRAY_LEN(names); i++) {
        assert_int_equal(stat(scratch_path(names[i]), &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
    }
    assert_int_equal(recording_number(db, "PRAGMA application_id"),
                     NEAP_STORE_APPLICATION_ID);
    assert_int_equal(recording_number(db, "PRAGMA user_version"), NEAP_STORE_VERSION);
    assert_int_equal(recording_number(db, "PRAGMA page_size"), 8192);
    assert_int_equal(recording_number(db, "PRAGMA synchronous"), 1);
    for (const char *const *view = neap_view_names; *view; view++) {
        char sql[64];

        if (strcmp(*view, "event") == 0)
            continue; /* its table is made by readers */
        sqlite3_snprintf(sizeof(sql), sql, "SELECT count(*) FROM %s", *view);
        assert_true(recording_number(db, sql) >= 0);
    }
    neap_store_close(db);
}

static void a_closed_recording_is_one_file(void **state)
{
    (void)state;
    recording_make("a.neap", 7);
    assert_int_equal(scratch_count(), 1);
    recording_holds("a.neap", 7);
    assert_int_equal(scratch_count(), 1);
}

static void closing_rolls_back_what_was_not_committed(void **state)
{
    sqlite3 *db = NULL;

    (void)state;
    recording_make("a.neap", 7);
    assert_ok(neap_store_create(scratch_path("b.neap"), false, &db));
    recording_put(db, 1);
    assert_ok(neap_store_exec(db, "BEGIN; UPDATE raw_loss SET count = 2"));
    neap_store_close(db);
    recording_holds("b.neap", 1);
    neap_store_close(NULL);
}

static void a_reader_sees_each_commit_and_cannot_write(void **state)
{
    neap_auto(neap_store_guard) sqlite3 *writer = NULL;
    neap_auto(neap_store_guard) sqlite3 *reader = NULL;

    (void)state;
    assert_ok(neap_store_create(scratch_path("a.neap"), false, &writer));
    recording_put(writer, 1);
    assert_ok(neap_store_open(scratch_path("a.neap"), &reader));
    assert_int_equal(recording_number(reader, "SELECT count FROM loss"), 1);
    assert_ok(neap_store_exec(writer, "UPDATE raw_loss SET count = 2"));
    assert_int_equal(recording_number(reader, "SELECT count FROM loss"), 2);
    assert_error(neap_store_exec(reader, "DELETE FROM raw_loss"), NEAP_ERROR_STORE,
                 "readonly");
    assert_error(neap_store_exec(reader, "ATTACH ':memory:' AS other"),
                 NEAP_ERROR_STORE, "too many attached");
    /* The writer ends first: what it leaves is whole for both of them. */
    neap_store_close(neap_take(writer));
    assert_int_equal(recording_number(reader, "SELECT count FROM loss"), 2);
    recording_holds("a.neap", 2);
}

static void a_dead_writers_recording_opens(void **state)
{
    (void)state;
    recording_crashed("a.neap", 3);
    assert_int_equal(access(scratch_path("a.neap-wal"), F_OK), 0);
    recording_holds("a.neap", 3);
}

static void an_existing_file_is_not_overwritten(void **state)
{
    sqlite3 *db = NULL;

    (void)state;
    recording_make("a.neap", 7);
    assert_error(neap_store_create(scratch_path("a.neap"), false, &db),
                 NEAP_ERROR_EXISTS, "--force");
    assert_null(db);
    recording_holds("a.neap", 7);
    assert_int_equal(symlink("nowhere", scratch_path("link")), 0);
    assert_error(neap_store_create(scratch_path("link"), false, &db), NEAP_ERROR_EXISTS,
                 "exists");
}

static void force_replaces_an_older_recording(void **state)
{
    sqlite3 *db = NULL;

    (void)state;
    recording_make("a.neap", 7);
    recording_crashed("b.neap", 8);
    assert_int_equal(symlink("a.neap", scratch_path("link")), 0);
    for (const char *const *name = (const char *const[]){"a.neap", "b.neap", "link", 0};
         *name; name++) {
        assert_ok(neap_store_create(scratch_path(*name), true, &db));
        assert_int_equal(recording_number(db, "SELECT count(*) FROM loss"), 0);
        recording_put(db, 9);
        neap_store_close(db);
        recording_holds(*name, 9);
    }
    recording_holds("a.neap", 9);
    assert_int_equal(scratch_count(), 3);
}

static void force_replaces_an_empty_and_a_damaged_one(void **state)
{
    sqlite3 *db = NULL;

    (void)state;
    scratch_write("empty", "", 0);
    assert_ok(neap_store_create(scratch_path("empty"), true, &db));
    neap_store_close(db);
    recording_make("cut", 1);
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
    recording_crashed("busy", 4);
    assert_ok(neap_store_open(scratch_path("busy"), &reader));
    assert_int_equal(recording_number(reader, "SELECT count FROM loss"), 4);
    assert_error(neap_store_create(scratch_path("busy"), true, &db), NEAP_ERROR_EXISTS,
                 "open");
    assert_int_equal(recording_number(reader, "SELECT count FROM loss"), 4);
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
        recording_make(names[i], (int)i);
        recording_holds(names[i], (int)i);
    }
    /* Relative names as well: SQLite has its own ideas about some. */
    assert_non_null(getcwd(before, sizeof(before)));
    assert_int_equal(chdir(scratch_dir()), 0);
    for (size_t i = 0; i < NEAP_ARRAY_LEN(names); i++) {
        neap_auto(neap_store_guard) sqlite3 *db = NULL;

        assert_ok(neap_store_open(names[i], &db));
        assert_int_equal(recording_number(db, "SELECT count FROM loss"), i);
    }
    assert_int_equal(chdir(before), 0);
    assert_int_equal(scratch_count(), NEAP_ARRAY_LEN(names));
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
    assert_int_equal(
        recording_number(db, "SELECT count(*) FROM sqlite_schema WHERE type = 'view'"
                             " AND name = 'new'"),
        1);
    assert_int_equal(
        recording_number(db, "SELECT count(*) FROM sqlite_schema WHERE type = 'view'"),
        1);
    assert_error(neap_migrate(db, steps, 3, ""), NEAP_ERROR_STORE, "already exists");
    assert_int_not_equal(sqlite3_get_autocommit(db), 0);
    assert_ok(neap_migrate_version(db, &version));
    assert_int_equal(version, 2);
    assert_int_equal(
        recording_number(db, "SELECT count(*) FROM sqlite_schema WHERE name = 'three'"),
        0);
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
        TEST(migrations_run_one_by_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

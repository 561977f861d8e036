/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows: NULLs, text that is no text, transactions that end badly.
 *
 * Links: tests/unit/scratch.c tests/unit/fail_vfs.c
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/ingest/write.h"
#include "schema/attr.h"
#include "schema/store/store.h"
#include "tests/unit/fail_vfs.h"
#include "tests/unit/scratch.h"

static sqlite3 *db;
static struct neap_write rows;

static int setup(void **state)
{
    if (scratch_setup(state))
        return -1;
    fail_vfs_install();
    if (neap_store_create(scratch_path("a.neap"), false, &db))
        return -1;
    return neap_write_init(&rows, db) ? -1 : 0;
}

static int teardown(void **state)
{
    neap_write_deinit(&rows);
    neap_store_close(db);
    return scratch_teardown(state);
}

static struct neap_error *module(int64_t id, const char *path)
{
    return neap_write_row(&rows, NEAP_STATEMENT_MODULE, "iss", id, path, "");
}

/* The path of module `id`, "none" without such a row. */
static const char *path_of(int id)
{
    static char text[256];
    sqlite3_stmt *stmt = NULL;

    strcpy(text, "none");
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT path FROM raw_module WHERE id = ?1",
                                        -1, &stmt, NULL),
                     SQLITE_OK);
    sqlite3_bind_int(stmt, 1, id);
    if (sqlite3_step(stmt) == SQLITE_ROW)
        strncpy(text, (const char *)sqlite3_column_text(stmt, 0), sizeof(text) - 1);
    sqlite3_finalize(stmt);
    return text;
}

static void test_text(void **unused)
{
    static const struct {
        const char *given, *stored;
    } texts[] = {
        {"", ""},
        {"/bin/app", "/bin/app"},
        {"/h\xc3\xb6hle/\xe6\xb4\x9e/\xf0\x9f\x95\xb3",
         "/h\xc3\xb6hle/\xe6\xb4\x9e/\xf0\x9f\x95\xb3"},
        {"/latin\xf6/one", "/latin?/one"},
        {"cut\xe6\xb4", "cut??"},
        {"cut\xf0", "cut?"},
        {"\x80\xbf", "??"},
        {"\xc0\xaf", "??"},           /* an overlong slash */
        {"\xe0\x80\xaf", "???"},      /* a longer one */
        {"\xed\xa0\x80", "???"},      /* half a surrogate pair */
        {"\xf4\x90\x80\x80", "????"}, /* beyond U+10FFFF */
        {"\xff\xc3\xb6", "?\xc3\xb6"},
        {"\xef\xbf\xbd", "\xef\xbf\xbd"},
    };

    (void)unused;
    assert_null(neap_write_begin(&rows));
    for (size_t i = 0; i < NEAP_ARRAY_LEN(texts); i++)
        assert_null(module((int64_t)i, texts[i].given));
    assert_null(neap_write_commit(&rows));
    for (size_t i = 0; i < NEAP_ARRAY_LEN(texts); i++)
        assert_string_equal(path_of((int)i), texts[i].stored);
}

static void test_null(void **unused)
{
    struct neap_error *err;

    (void)unused;
    assert_null(neap_write_begin(&rows));
    assert_null(neap_write_row(&rows, NEAP_STATEMENT_FRAME, "issiiii", INT64_C(1),
                               (const char *)NULL, (const char *)NULL, NEAP_SQL_NULL,
                               NEAP_SQL_NULL, INT64_C(-1), INT64_C(0)));
    err = module(1, NULL); /* the column says NOT NULL */
    assert_non_null(err);
    assert_int_equal(err->code, NEAP_ERROR_STORE);
    assert_non_null(strstr(err->message, "raw_module.path"));
    neap_error_destroy(err);
    assert_null(module(1, "after an error")); /* the statement works on */
    assert_null(neap_write_commit(&rows));
    assert_string_equal(path_of(1), "after an error");
}

static void test_rollback(void **unused)
{
    (void)unused;
    neap_write_rollback(&rows); /* without a transaction: nothing */
    assert_null(neap_write_begin(&rows));
    assert_null(module(1, "first"));
    neap_write_rollback(&rows);
    assert_string_equal(path_of(1), "none");
    assert_null(neap_write_begin(&rows));
    assert_null(module(1, "second"));
    assert_null(neap_write_commit(&rows));
    assert_string_equal(path_of(1), "second");
}

static void test_full_at_commit(void **unused)
{
    struct neap_error *err;

    (void)unused;
    assert_null(neap_write_begin(&rows));
    assert_null(module(1, "first"));
    fail_vfs_at(1, SQLITE_FULL, false);
    err = neap_write_commit(&rows);
    assert_true(fail_vfs_happened());
    assert_non_null(err);
    assert_int_equal(err->code, NEAP_ERROR_STORE);
    neap_error_destroy(err);
    neap_write_rollback(&rows);
    assert_string_equal(path_of(1), "none");
    assert_null(neap_write_begin(&rows));
    assert_null(module(1, "second"));
    assert_null(neap_write_commit(&rows));
    assert_string_equal(path_of(1), "second");
}

static void test_not_a_recording(void **unused)
{
    struct neap_write other;
    sqlite3 *empty = NULL;
    struct neap_error *err;

    (void)unused;
    assert_int_equal(sqlite3_open(":memory:", &empty), SQLITE_OK);
    err = neap_write_init(&other, empty);
    assert_non_null(err);
    assert_non_null(strstr(err->message, "raw_recording"));
    neap_error_destroy(err);
    sqlite3_close(empty);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_text),
        TEST(test_null),
        TEST(test_rollback),
        TEST(test_full_at_commit),
        TEST(test_not_a_recording),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

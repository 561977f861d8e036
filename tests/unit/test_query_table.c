/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bindings/query: SQL, cancelling, the arena; and every question while memory runs
 * out at its 1st, 2nd, 3rd ... allocation: an error each time, no leak, no crash.
 * Links: tests/unit/query_sample.c tests/unit/recordings.c tests/unit/scratch.c
 * Links: tests/unit/fail_alloc.c
 * Links: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=reallocarray
 * Links: -Wl,--wrap=strdup,--wrap=strndup,--wrap=mmap
 */
#include "bindings/query/query.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bindings/query/arena.h"
#include "tests/unit/fail_alloc.h"
#include "tests/unit/query_sample.h"
#include "tests/unit/recordings.h"
#include "tests/unit/scratch.h"

static void cells(void **state)
{
    struct neap_recording *recording = query_sample_open(NULL);
    const struct neap_cell values[] = {
        {.type = NEAP_CELL_INTEGER, .integer = INT64_MIN},
        {.type = NEAP_CELL_REAL, .real = 2.5},
        {.type = NEAP_CELL_TEXT, .bytes = "a\0b", .length = 3},
        {.type = NEAP_CELL_BLOB, .bytes = "\xff", .length = 1},
        {.type = NEAP_CELL_NULL},
    };
    struct neap_table *table = NULL;
    const struct neap_cell *row;

    (void)state;
    assert_ok(neap_recording_sql(recording, "SELECT ? AS i, ? AS r, ?, ?, ? -- end",
                                 values, NEAP_ARRAY_LEN(values), &table));
    neap_recording_close(recording);
    assert_int_equal(table->rows, 1);
    assert_int_equal(table->columns, 5);
    assert_string_equal(table->names[0], "i");
    assert_string_equal(table->names[1], "r");
    row = neap_table_row(table, 0);
    for (size_t i = 0; i < NEAP_ARRAY_LEN(values); i++)
        assert_int_equal(row[i].type, values[i].type);
    assert_true(row[0].integer == INT64_MIN);
    assert_true(row[1].real == 2.5);
    assert_memory_equal(row[2].bytes, "a\0b", 4);
    assert_int_equal(row[2].length, 3);
    assert_memory_equal(row[3].bytes, "\xff", 1);
    neap_table_destroy(table);
    neap_table_destroy(NULL);
}

static void many_rows(void **state)
{
    struct neap_recording *recording = query_sample_open(NULL);
    struct neap_table *table = NULL;

    (void)state;
    assert_ok(neap_recording_sql(
        recording,
        "WITH RECURSIVE n(x) AS (SELECT 0 UNION ALL SELECT x + 1 FROM n LIMIT 20000)"
        " SELECT x, -x FROM n",
        NULL, 0, &table));
    assert_int_equal(table->rows, 20000);
    for (int64_t i = 0; i < 20000; i++) {
        const struct neap_cell *row = neap_table_row(table, (size_t)i);

        assert_true(row[0].integer == i && row[1].integer == -i);
    }
    neap_table_destroy(table);
    neap_recording_close(recording);
}

static void refused(void **state)
{
    static const struct {
        const char *sql, *words;
    } bad[] = {
        {"", "no statement"},
        {" ; -- x", "no statement"},
        {"SELEC", "syntax error"},
        {"SELECT x FROM site", "no such column"},
        {"SELECT 1; SELECT 2", "one statement"},
        {"SELECT ?", "1 parameters and 0"},
        {"DELETE FROM raw_site", "does more than read"},
        {"CREATE TEMP TABLE t (x)", "does more than read"},
        {"ATTACH ':memory:' AS m", "does more than read"},
        {"PRAGMA journal_mode = DELETE", "does more than read"},
        {"PRAGMA query_only", "does more than read"},
        {"BEGIN", "does more than read"},
        {"SELECT abs(-9223372036854775808)", "integer overflow"},
    };
    struct neap_recording *recording = query_sample_open(NULL);
    struct neap_table *table = NULL;

    (void)state;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(bad); i++)
        assert_error(neap_recording_sql(recording, bad[i].sql, NULL, 0, &table),
                     NEAP_ERROR_SQL, bad[i].words);
    assert_null(table);
    assert_ok(neap_recording_sql(recording, "SELECT 1; /* and */ -- no more", NULL, 0,
                                 &table));
    neap_table_destroy(table);
    assert_ok(
        neap_recording_sql(recording, "PRAGMA table_info(site)", NULL, 0, &table));
    assert_int_equal(table->rows, 16);
    neap_table_destroy(table);
    neap_recording_close(recording);
}

static bool third_time(void *calls)
{
    return ++*(int *)calls == 3;
}

static void cancelled(void **state)
{
    static const char *endless =
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"
        " SELECT count(*) FROM n";
    struct neap_recording *recording = query_sample_open(NULL);
    struct neap_table *table = NULL;
    int calls = 0;

    (void)state;
    neap_recording_watch(recording, third_time, &calls);
    assert_error(neap_recording_sql(recording, endless, NULL, 0, &table),
                 NEAP_ERROR_CANCELLED, "stopped");
    assert_int_equal(calls, 3);
    neap_recording_watch(recording, NULL, NULL);
    assert_ok(neap_recording_sql(recording, "SELECT 1", NULL, 0, &table));
    assert_int_equal(calls, 3);
    neap_table_destroy(table);
    neap_recording_close(recording);
}

static void arena(void **state)
{
    struct neap_arena memory = {0};
    unsigned char *pieces[400];

    (void)state;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(pieces); i++) {
        size_t size = i % 7 == 0 ? 20000 + i : i;

        pieces[i] = neap_arena_alloc(&memory, 1, size);
        assert_non_null(pieces[i]);
        assert_int_equal((uintptr_t)pieces[i] % _Alignof(max_align_t), 0);
        for (size_t j = 0; j < size; j++)
            assert_int_equal(pieces[i][j], 0);
        memset(pieces[i], (int)(i % 251) + 1, size);
    }
    for (size_t i = 0; i < NEAP_ARRAY_LEN(pieces); i++) {
        for (size_t j = 0; j < (i % 7 == 0 ? 20000 + i : i); j++)
            assert_int_equal(pieces[i][j], (i % 251) + 1);
    }
    assert_null(neap_arena_alloc(&memory, SIZE_MAX, 2));
    assert_null(neap_arena_alloc(&memory, SIZE_MAX - 7, 1));
    neap_arena_deinit(&memory);
    neap_arena_deinit(&memory);
}

/* Everything there is to ask, once. */
static struct neap_error *ask_all(const char *path)
{
    const struct neap_report_query query = {.metric = NEAP_METRIC_LIVE,
                                            .limit = -1,
                                            .builtin_suppressions = true,
                                            .suppressions = "leak:other\n"};
    struct neap_recording *recording = NULL;
    struct neap_report *report = NULL;
    struct neap_table *table = NULL;
    struct neap_summary about = {0};
    struct neap_error *error;
    char *text = NULL;
    size_t length;

    (void)((error = neap_recording_open(path, &recording)) ||
           (error = neap_recording_summary(recording, &about)) ||
           (error = neap_recording_report(recording, &query, &report)) ||
           (error = neap_report_collapsed(report, &text, &length)) ||
           (error =
                neap_recording_sql(recording, "SELECT * FROM frame", NULL, 0, &table)));
    neap_summary_deinit(&about);
    neap_report_destroy(report);
    neap_table_destroy(table);
    neap_recording_close(recording);
    free(text);
    return error;
}

static void memory_runs_out(void **state)
{
    const char *path = query_sample_path();
    uint64_t n = 0;

    (void)state;
    neap_recording_close(query_sample_open(NULL));
    for (;;) {
        struct neap_error *error;
        bool happened;

        fail_alloc_at(++n);
        error = ask_all(path);
        happened = fail_alloc_happened();
        fail_alloc_at(0);
        if (!happened) {
            assert_ok(error);
            break;
        }
        assert_non_null(error);
        assert_int_equal(error->code, NEAP_ERROR_NO_MEMORY);
        neap_error_destroy(error);
    }
    /* Opening, a summary, a report, its frames, its text, a table. */
    assert_true(n > 20);
}

int main(void)
{
#define TEST(function) \
    cmocka_unit_test_setup_teardown(function, scratch_setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(cells),     TEST(many_rows),         TEST(refused),
        TEST(cancelled), cmocka_unit_test(arena), TEST(memory_runs_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

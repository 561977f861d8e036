/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bindings/query: scans of events. What they answer is tested against a model in
 * tests/python/test_events.py; here are a few numbers by hand, cancelling, and every
 * scan while memory runs out at its 1st, 2nd, 3rd ... allocation.
 * Links: tests/unit/query_sample.c tests/unit/recordings.c tests/unit/scratch.c
 * Links: tests/unit/fail_alloc.c
 * Links: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=reallocarray
 * Links: -Wl,--wrap=strdup,--wrap=strndup,--wrap=mmap
 */
#include "bindings/query/events.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bindings/query/groups.h"
#include "bindings/query/query.h"
#include "schema/base/cleanup.h"
#include "tests/unit/fail_alloc.h"
#include "tests/unit/query_sample.h"
#include "tests/unit/recordings.h"
#include "tests/unit/scratch.h"

#define CHUNKS 40u
#define EVENTS 10u /* of each: 8 allocations of 100 bytes, of which 2 are freed */

static struct neap_chunk_event event_of(unsigned chunk, unsigned i)
{
    unsigned block = i < 8 ? i : i - 8;

    return (struct neap_chunk_event){.ts_ns = 10 * chunk + i,
                                     .address = 0x1000 + 16 * (10 * chunk + block),
                                     .size = 100,
                                     .site = block % 3, /* 2 has no row */
                                     .tid = 100 + block % 2,
                                     .owner = 100 + block % 2,
                                     .op = i < 8 ? NEAP_CHUNK_ALLOC : NEAP_CHUNK_FREE};
}

static void store_chunk(sqlite3 *db, struct neap_chunk_encoder *encoder,
                        unsigned number)
{
    neap_auto(neap_stmt_guard) sqlite3_stmt *stmt = NULL;
    neap_auto(neap_chunk_deinit) struct neap_chunk chunk = {0};
    uint16_t refs[EVENTS] = {0};
    const void *blob = NULL;
    size_t length = 0;

    for (unsigned i = 0; i < EVENTS; i++) {
        struct neap_chunk_event event = event_of(number, i);

        assert_true(neap_chunk_append(&chunk, &event, &refs[i % 8]));
    }
    assert_ok(neap_chunk_encode(encoder, &chunk, &blob, &length));
    assert_int_equal(
        sqlite3_prepare_v2(db,
                           "INSERT INTO raw_events (process, first, count, t0, t1,"
                           " live_bytes, data) VALUES (1, ?1 * 10, 10, ?1 * 10,"
                           " ?1 * 10 + 9, ?1 * 600, ?2)",
                           -1, &stmt, NULL),
        SQLITE_OK);
    sqlite3_bind_int(stmt, 1, (int)number);
    sqlite3_bind_blob(stmt, 2, blob, (int)length, SQLITE_STATIC);
    assert_int_equal(sqlite3_step(stmt), SQLITE_DONE);
}

static struct neap_recording *open_sample(const char *change)
{
    struct neap_chunk_encoder *encoder = NULL;
    struct neap_recording *recording = NULL;
    sqlite3 *db = NULL;

    neap_recording_close(
        query_sample_open("UPDATE raw_process SET event_count = 400, peak_event = 398, "
                          "start_ns = 0 WHERE id = 1;"
                          "INSERT INTO raw_event_site VALUES (1, 0, 1), (1, 1, 2);"
                          "INSERT INTO raw_thread (process, tid, name, start_ns) VALUES"
                          " (1, 100, 'one', 0), (1, 101, 'two', 0)"));
    assert_int_equal(sqlite3_open(query_sample_path(), &db), SQLITE_OK);
    assert_ok(neap_chunk_encoder_create(&encoder));
    assert_ok(neap_store_exec(db, "BEGIN"));
    for (unsigned i = 0; i < CHUNKS; i++)
        store_chunk(db, encoder, i);
    if (change)
        assert_ok(neap_store_exec(db, change));
    assert_ok(neap_store_exec(db, "COMMIT"));
    neap_chunk_encoder_destroy(encoder);
    sqlite3_close(db);
    assert_ok(neap_recording_open(query_sample_path(), &recording));
    return recording;
}

static const struct neap_report_query questions[] = {
    {.metric = NEAP_METRIC_LIVE, .limit = -1, .has_at = true, .at_ns = 7},
    {.metric = NEAP_METRIC_PEAK, .limit = -1, .has_to = true, .to_ns = 19},
    {.metric = NEAP_METRIC_ALLOCATED,
     .limit = -1,
     .by = NEAP_BY_THREAD,
     .has_from = true,
     .from_ns = 99,
     .has_to = true,
     .to_ns = 199},
    {.metric = NEAP_METRIC_LIVE,
     .limit = -1,
     .by = NEAP_BY_SIZE,
     .has_from = true,
     .from_ns = 9},
    {.metric = NEAP_METRIC_ALLOCATED,
     .limit = -1,
     .has_tid = true,
     .tid = 101,
     .has_min_size = true,
     .min_size = 100},
};

static const struct {
    int64_t value, count;
    uint32_t rows;
} answers[] = {
    {800, 8, 3}, {1400, 14, 3}, {8000, 80, 2}, {23400, 234, 1}, {16000, 160, 3},
};

static void numbers(void **state)
{
    struct neap_recording *recording = open_sample(NULL);

    (void)state;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(questions); i++) {
        struct neap_report *report = NULL;

        assert_ok(neap_recording_report(recording, &questions[i], &report));
        assert_int_equal(report->total_value, answers[i].value);
        assert_int_equal(report->total_count, answers[i].count);
        assert_int_equal(report->count, answers[i].rows);
        assert_int_equal(report->by, questions[i].by);
        assert_true(report->total_ci95 == 0);
        neap_report_destroy(report);
    }
    neap_recording_close(recording);
}

/* Where sites have no row and the recording has no unknown stack: no frames. */
static void the_unknown_stack(void **state)
{
    struct neap_recording *recording = open_sample(NULL);
    struct neap_report *report = NULL;
    const struct neap_row *row;

    (void)state;
    assert_ok(neap_recording_report(recording, &questions[0], &report));
    row = &report->rows[2]; /* of 8 blocks sites 0 and 1 have 3 each */
    assert_int_equal(row->stack_id, 0);
    assert_int_equal(row->value, 200);
    assert_int_equal(row->depth, 0);
    assert_true(row->truncated);
    neap_report_destroy(report);
    neap_recording_close(recording);
    recording = open_sample(
        "INSERT INTO raw_frame VALUES (77, NULL, NULL, NULL, NULL, 0, 'native', 0);"
        "INSERT INTO raw_stack VALUES (8, '[77]', 1)");
    assert_ok(neap_recording_report(recording, &questions[0], &report));
    assert_int_equal(report->rows[2].stack_id, 8);
    assert_int_equal(report->rows[2].depth, 1);
    neap_report_destroy(report);
    neap_recording_close(recording);
}

static bool second_time(void *calls)
{
    return ++*(int *)calls == 2;
}

static void cancelled(void **state)
{
    struct neap_recording *recording = open_sample(NULL);
    struct neap_report *report = NULL;
    int calls = 0;

    (void)state;
    neap_recording_watch(recording, second_time, &calls);
    assert_error(neap_recording_report(recording, &questions[3], &report),
                 NEAP_ERROR_CANCELLED, "stopped");
    assert_int_equal(calls, 2);
    assert_null(report);
    neap_recording_watch(recording, NULL, NULL);
    assert_ok(neap_recording_report(recording, &questions[3], &report));
    neap_report_destroy(report);
    neap_recording_close(recording);
}

static void forged_sites(void **state)
{
    struct neap_recording *recording =
        open_sample("INSERT INTO raw_event_site VALUES (1, 4000000000, 1)");
    struct neap_report *report = NULL;
    struct neap_table *table = NULL;

    (void)state;
    assert_error(neap_recording_report(recording, &questions[0], &report),
                 NEAP_ERROR_DAMAGED, "a site has the number 4000000000");
    assert_error(neap_recording_sql(recording, "SELECT * FROM event", NULL, 0, &table),
                 NEAP_ERROR_DAMAGED, "a site has the number 4000000000");
    neap_recording_close(recording);
}

/* Numbers that contradict everything: an answer or an error, and nothing undefined. */
static void forged_numbers(void **state)
{
    static const char *const changes[] = {
        "UPDATE raw_events SET first = first + 9223372036854770000 WHERE id = 8",
        "UPDATE raw_events SET first = -9223372036854775808 WHERE id = 8",
        "UPDATE raw_events SET t0 = -5, t1 = 9223372036854775807 WHERE id = 8",
        "UPDATE raw_events SET count = -9223372036854775808 WHERE id = 8",
        "UPDATE raw_process SET event_first = 9223372036854775807",
        "UPDATE raw_process SET event_first = -9223372036854775808",
        "UPDATE raw_process SET event_count = 9223372036854775807",
        "UPDATE raw_process SET event_count = -9223372036854775808",
        "UPDATE raw_process SET peak_event = 9223372036854775807",
        "UPDATE raw_process SET peak_event = -9223372036854775808",
        "UPDATE raw_process SET start_ns = -9223372036854775808",
        "UPDATE raw_process SET pid = -9223372036854775808, interval = -1",
        "UPDATE raw_recording SET interval = 9223372036854775807",
        "UPDATE raw_recording SET interval = -9223372036854775808",
        "UPDATE raw_recording SET duration_ns = 9223372036854775807",
        "UPDATE raw_site SET live_bytes = -9223372036854775808",
        "UPDATE raw_site SET live_count = 9223372036854775807, live_variance = 1e999",
        "UPDATE raw_event_site SET stack = -9223372036854775808",
        "DELETE FROM raw_recording",
        "INSERT INTO raw_live (process, address, size, weight, interval, stack, tid,"
        " ts_ns) VALUES (1, -1, -1, 9223372036854775807, -9223372036854775808, 1, -1,"
        " 0), (1, 0, 1, 9223372036854775807, 1, 1, 0, 0)",
    };

    (void)state;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(changes); i++) {
        struct neap_recording *recording = open_sample(changes[i]);

        for (size_t k = 0; k < NEAP_ARRAY_LEN(questions); k++) {
            struct neap_report *report = NULL;
            struct neap_error *error =
                neap_recording_report(recording, &questions[k], &report);

            assert_true(!error == (report != NULL));
            neap_error_destroy(error);
            neap_report_destroy(report);
        }
        neap_recording_close(recording);
    }
}

/* A collector without memory or disk leaves rows behind of which the process's row says
 * that they are gone, with a gap after them: nobody is to trip over that. */
static void rows_before_the_first_event(void **state)
{
    struct neap_recording *recording =
        open_sample("DELETE FROM raw_events WHERE first BETWEEN 50 AND 290;"
                    "UPDATE raw_process SET event_first = 300, event_first_ns = 300"
                    " WHERE id = 1");
    struct neap_table *table = NULL;

    (void)state;
    assert_ok(neap_recording_sql(recording,
                                 "SELECT count(*), min(number), max(number) FROM event",
                                 NULL, 0, &table));
    assert_int_equal(neap_table_row(table, 0)[0].integer, 100);
    assert_int_equal(neap_table_row(table, 0)[1].integer, 300);
    assert_int_equal(neap_table_row(table, 0)[2].integer, 399);
    neap_table_destroy(table);
    neap_recording_close(recording);
}

static void seconds_and_classes(void **state)
{
    static const struct {
        int64_t ns;
        const char *text;
    } times[] = {{0, "0"},
                 {3200000000, "3.2"},
                 {17, "0.000000017"},
                 {10000000000, "10"},
                 {-1500000000, "-1.5"},
                 {INT64_MAX, "9223372036.854775807"},
                 {INT64_MIN, "-9223372036.854775808"}};
    char text[NEAP_SECONDS_LENGTH];

    (void)state;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(times); i++) {
        neap_seconds_text(times[i].ns, text);
        assert_string_equal(text, times[i].text);
    }
    assert_int_equal(neap_size_class(0), 0);
    assert_int_equal(neap_size_class(1), 1);
    assert_int_equal(neap_size_class(2), 2);
    assert_int_equal(neap_size_class(3), 2);
    assert_int_equal(neap_size_class(UINT64_MAX), 64);
}

static struct neap_error *ask(size_t question)
{
    struct neap_recording *recording = NULL;
    struct neap_report *report = NULL;
    struct neap_table *table = NULL;
    struct neap_error *error;

    error = neap_recording_open(query_sample_path(), &recording);
    if (!error)
        error = neap_recording_report(recording, &questions[question], &report);
    if (!error)
        error = neap_recording_sql(
            recording, "SELECT * FROM event WHERE ts_ns < 20 ORDER BY ts_ns", NULL, 0,
            &table);
    neap_table_destroy(table);
    neap_report_destroy(report);
    neap_recording_close(recording);
    return error;
}

static void memory_runs_out(void **state)
{
    (void)state;
    neap_recording_close(open_sample(NULL));
    for (size_t i = 0; i < NEAP_ARRAY_LEN(questions); i++) {
        for (uint64_t n = 1;; n++) {
            struct neap_error *error;
            bool happened;

            fail_alloc_at(n);
            error = ask(i);
            happened = fail_alloc_happened();
            fail_alloc_at(0);
            if (!happened) {
                assert_ok(error);
                assert_true(n > 20);
                break;
            }
            assert_non_null(error);
            assert_int_equal(error->code, NEAP_ERROR_NO_MEMORY);
            neap_error_destroy(error);
        }
    }
}

int main(void)
{
#define TEST(function) \
    cmocka_unit_test_setup_teardown(function, scratch_setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(numbers),
        TEST(the_unknown_stack),
        TEST(cancelled),
        TEST(forged_sites),
        TEST(forged_numbers),
        cmocka_unit_test(seconds_and_classes),
        TEST(rows_before_the_first_event),
        TEST(memory_runs_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bindings/query: summary, report and collapsed stacks against known numbers, the
 * ends of limits, and recordings whose rows contradict each other.
 * Links: tests/unit/query_sample.c tests/unit/recordings.c tests/unit/scratch.c
 */
#include "bindings/query/query.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/query_sample.h"
#include "tests/unit/recordings.h"
#include "tests/unit/scratch.h"

static void summary(void **state)
{
    struct neap_recording *recording = query_sample_open(NULL);
    struct neap_summary about;

    (void)state;
    assert_ok(neap_recording_summary(recording, &about));
    assert_string_equal(about.path, query_sample_path());
    assert_string_equal(about.version, "0.1.0");
    assert_string_equal(about.command, "[\"./app\", \"x\"]");
    assert_string_equal(about.start_utc, "2025-01-02T03:04:05Z");
    assert_string_equal(about.mode, "exact");
    assert_string_equal(about.allocator, "app");
    assert_string_equal(about.exit_kind, "exited");
    assert_int_equal(about.pid, 100);
    assert_int_equal(about.start_ns, 10);
    assert_int_equal(about.duration_ns, 3200);
    assert_int_equal(about.interval, 0);
    assert_true(about.has_exit_code);
    assert_int_equal(about.exit_code, 3);
    assert_int_equal(about.state, NEAP_RECORDING_FINISHED);
    assert_int_equal(about.processes, 2);
    assert_int_equal(about.images, 3);
    assert_int_equal(about.loss_events, 4);
    assert_int_equal(about.loss_bytes, 2048);
    assert_int_equal(about.loss_stacks, 7);
    neap_summary_deinit(&about);
    neap_recording_close(recording);
    neap_recording_close(NULL);
}

static void assert_exit(const char *change, const char *kind, int64_t pid,
                        enum neap_recording_state expected)
{
    struct neap_recording *recording = query_sample_open(change);
    struct neap_summary about;

    assert_ok(neap_recording_summary(recording, &about));
    assert_string_equal(about.exit_kind, kind);
    assert_int_equal(about.pid, pid);
    assert_int_equal(about.state, expected);
    neap_summary_deinit(&about);
    neap_recording_close(recording);
}

static void exits(void **state)
{
    (void)state;
    assert_exit("UPDATE raw_recording SET main_process = 2", "signaled", 101,
                NEAP_RECORDING_FINISHED);
    assert_exit("UPDATE raw_recording SET main_process = NULL", "lost", 0,
                NEAP_RECORDING_FINISHED);
    assert_exit("UPDATE raw_recording SET main_process = 77", "lost", 0,
                NEAP_RECORDING_FINISHED);
    assert_exit("UPDATE raw_recording SET finished = 0", "lost", 100,
                NEAP_RECORDING_LOST);
    assert_exit("UPDATE raw_recording SET finished = 0;"
                "UPDATE raw_process SET exit_kind = 'running'",
                "lost", 100, NEAP_RECORDING_LOST);
    assert_exit("UPDATE raw_process SET exit_kind = 'exec'", "lost", 100,
                NEAP_RECORDING_FINISHED);
}

static struct neap_report *ask(struct neap_recording *recording,
                               struct neap_report_query query)
{
    struct neap_report *report = NULL;

    assert_ok(neap_recording_report(recording, &query, &report));
    return report;
}

static void metrics(void **state)
{
    static const struct {
        enum neap_metric metric;
        int64_t value, count, stacks, first;
    } expected[] = {
        {NEAP_METRIC_PEAK, 1150, 13, 2, 1000},
        {NEAP_METRIC_LIVE, 407, 8, 4, 400},
        {NEAP_METRIC_ALLOCATED, 11500, 133, 4, 10000},
        {NEAP_METRIC_TEMPORARY, 40, 4, 1, 40},
    };
    struct neap_recording *recording = query_sample_open(NULL);

    (void)state;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(expected); i++) {
        struct neap_report *report =
            ask(recording,
                (struct neap_report_query){.metric = expected[i].metric, .limit = -1});

        assert_int_equal(report->metric, expected[i].metric);
        assert_int_equal(report->total_value, expected[i].value);
        assert_int_equal(report->total_count, expected[i].count);
        assert_int_equal(report->stacks, expected[i].stacks);
        assert_int_equal(report->count, expected[i].stacks);
        assert_int_equal(report->rows[0].value, expected[i].first);
        assert_int_equal(report->processes, 2);
        assert_int_equal(report->images, 3);
        assert_int_equal(report->suppressed_count, 0);
        neap_report_destroy(report);
    }
    neap_recording_close(recording);
    neap_report_destroy(NULL);
}

static void rows_outlive_the_recording(void **state)
{
    struct neap_recording *recording = query_sample_open(NULL);
    struct neap_report *report = ask(
        recording, (struct neap_report_query){.metric = NEAP_METRIC_LIVE, .limit = -1});
    const struct neap_row *row = report->rows;

    (void)state;
    neap_recording_close(recording);
    assert_int_equal(row[0].depth, 3);
    assert_false(row[0].truncated);
    assert_string_equal(row[0].frames[1]->function, "middle");
    assert_true(row[0].frames[1]->inlined);
    assert_string_equal(row[0].frames[2]->file, "app.c");
    assert_int_equal(row[0].frames[2]->line, 3);
    assert_int_equal(row[0].frames[2]->offset, 4128);
    /* The same frame in two stacks is one. */
    assert_ptr_equal(row[0].frames[2], row[1].frames[1]);
    assert_null(row[1].frames[0]->file);
    assert_int_equal(row[1].frames[0]->line, 0);
    /* Equal values, by stack. */
    assert_int_equal(row[2].stack_id, 3);
    assert_int_equal(row[3].stack_id, 9);
    assert_true(row[2].truncated);
    assert_null(row[2].frames[0]->function);
    assert_string_equal(row[2].frames[0]->module, "/lib/libx.so");
    assert_int_equal(row[3].depth, 0);
    assert_true(row[3].truncated);
    neap_report_destroy(report);
}

static void limits_pids_and_suppressions(void **state)
{
    struct neap_recording *recording = query_sample_open(NULL);
    struct neap_report_query query = {.metric = NEAP_METRIC_LIVE, .limit = 1};
    struct neap_report *report = ask(recording, query);

    (void)state;
    assert_int_equal(report->count, 1);
    assert_int_equal(report->total_value, 407);
    assert_int_equal(report->stacks, 4);
    neap_report_destroy(report);
    query.limit = 0;
    report = ask(recording, query);
    assert_int_equal(report->count, 0);
    assert_int_equal(report->total_value, 407);
    neap_report_destroy(report);
    query = (struct neap_report_query){
        .metric = NEAP_METRIC_PEAK, .limit = -1, .has_pid = true, .pid = 101};
    report = ask(recording, query);
    assert_int_equal(report->total_value, 450);
    assert_int_equal(report->processes, 1);
    assert_int_equal(report->images, 2);
    neap_report_destroy(report);
    query = (struct neap_report_query){
        .metric = NEAP_METRIC_LIVE, .limit = 1, .suppressions = "leak:^leaf$"};
    report = ask(recording, query);
    assert_int_equal(report->rows[0].value, 7);
    assert_int_equal(report->total_value, 7);
    assert_int_equal(report->suppressed_value, 400);
    assert_int_equal(report->suppressed_count, 4);
    neap_report_destroy(report);
    query = (struct neap_report_query){.has_pid = true, .pid = 7};
    assert_error(neap_recording_report(recording, &query, &report), NEAP_ERROR_USAGE,
                 "no process 7");
    neap_recording_close(recording);
}

static void collapsed(void **state)
{
    struct neap_recording *recording = query_sample_open(
        "UPDATE raw_frame SET function = 'a;b' || char(10) || '\\' WHERE id = 4");
    struct neap_report *report = ask(
        recording, (struct neap_report_query){.metric = NEAP_METRIC_LIVE, .limit = -1});
    size_t length = 0;
    char *text = NULL;

    (void)state;
    assert_ok(neap_report_collapsed(report, &text, &length));
    assert_string_equal(text, "main;middle;leaf 400\n"
                              "main;a\\x3bb\\x0a\\x5c 7\n"
                              "[truncated];libx.so+0x1234 0\n"
                              "[no stack] 0\n");
    assert_int_equal(length, strlen(text));
    free(text);
    neap_report_destroy(report);
    neap_recording_close(recording);
}

static void assert_damaged(const char *change, const char *words)
{
    struct neap_recording *recording = query_sample_open(change);
    struct neap_report_query query = {.metric = NEAP_METRIC_LIVE, .limit = -1};
    struct neap_report *report = NULL;

    assert_error(neap_recording_report(recording, &query, &report), NEAP_ERROR_DAMAGED,
                 words);
    assert_null(report);
    neap_recording_close(recording);
}

static void damage(void **state)
{
    struct neap_recording *recording;
    struct neap_summary about;

    (void)state;
    assert_damaged("DELETE FROM raw_frame WHERE id = 3", "a frame that is missing");
    assert_damaged("UPDATE raw_stack SET frames = '[1,2,]'", "no list of frames");
    assert_damaged("UPDATE raw_stack SET frames = '1'", "no list of frames");
    assert_damaged("UPDATE raw_stack SET frames = ''", "no list of frames");
    assert_damaged("UPDATE raw_stack SET frames = '[1 2]'", "no list of frames");
    recording = query_sample_open("DELETE FROM raw_recording");
    assert_error(neap_recording_summary(recording, &about), NEAP_ERROR_DAMAGED,
                 "holds nothing yet");
    neap_recording_close(recording);
}

/* Totals that do not fit stay as large as they can be, and never turn negative. */
static void totals_saturate(void **state)
{
    struct neap_recording *recording = query_sample_open(
        "UPDATE raw_site SET live_bytes = 9223372036854775807 WHERE process = 1");
    struct neap_report *report =
        ask(recording,
            (struct neap_report_query){
                .metric = NEAP_METRIC_LIVE, .limit = 2, .has_pid = true, .pid = 100});

    (void)state;
    assert_true(report->total_value == INT64_MAX);
    neap_report_destroy(report);
    neap_recording_close(recording);
}

static void metric_words(void **state)
{
    enum neap_metric metric;

    (void)state;
    for (int i = NEAP_METRIC_LIVE; i <= NEAP_METRIC_TEMPORARY; i++) {
        assert_ok(neap_metric_parse(neap_metric_name(i), &metric));
        assert_int_equal(metric, i);
    }
    assert_error(neap_metric_parse("resident", &metric), NEAP_ERROR_USAGE,
                 "does not hold");
    assert_error(neap_metric_parse("Peak", &metric), NEAP_ERROR_USAGE,
                 "unknown metric 'Peak': choose live, peak, allocated or temporary");
}

int main(void)
{
#define TEST(function) \
    cmocka_unit_test_setup_teardown(function, scratch_setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(summary),
        TEST(exits),
        TEST(metrics),
        TEST(rows_outlive_the_recording),
        TEST(limits_pids_and_suppressions),
        TEST(collapsed),
        TEST(damage),
        TEST(totals_saturate),
        cmocka_unit_test(metric_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

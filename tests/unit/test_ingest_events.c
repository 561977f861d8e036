/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events one by one: what the rows say is what was fed, sums of events are the totals,
 * and what is not kept any more is said to be gone.
 *
 * Links: tests/unit/feed.c tests/unit/scratch.c tests/unit/fake_symbolizer.c
 * Links: tests/unit/event_model.c tests/unit/event_rows.c tests/unit/fail_vfs.c
 * Links: tests/unit/fail_alloc.c
 * Links: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=reallocarray
 * Links: -Wl,--wrap=strdup,--wrap=strndup,--wrap=mmap
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "schema/store/store.h"
#include "tests/unit/event_model.h"
#include "tests/unit/event_rows.h"
#include "tests/unit/fail_alloc.h"
#include "tests/unit/fail_vfs.h"
#include "tests/unit/fake_symbolizer.h"
#include "tests/unit/feed.h"
#include "tests/unit/scratch.h"

#define EVERYTHING (1ull << 30)

static sqlite3 *db;
static struct neap_ingest *ingest;
static struct event_model *models[2];

static void begin(uint64_t max_size)
{
    db = feed_open(scratch_path("a.neap"));
    ingest = feed_create_with(db, 0, max_size);
}

static void end(void)
{
    neap_ingest_destroy(ingest);
    neap_store_close(db);
}

static int setup(void **state)
{
    fail_vfs_install();
    fake_symbolizer_reset();
    for (int i = 0; i < 2; i++)
        models[i] = event_model_create();
    return scratch_setup(state);
}

static int teardown(void **state)
{
    for (int i = 0; i < 2; i++)
        event_model_destroy(models[i]);
    return scratch_teardown(state);
}

/* ---- what was fed is what is there ---- */

/* Some chunks' worth, with commits in between, each of which writes the last again. */
static void test_rows_are_what_was_fed(void **unused)
{
    (void)unused;
    begin(EVERYTHING);
    event_model_start(models[0], feed_start(ingest, 100));
    for (int i = 0; i < 60; i++) {
        event_model_steps(models[0], 1000);
        feed_commit(ingest, models[0]->now);
        if (i % 12 == 0)
            assert_true(event_rows_check(db, 1, models[0]) == 0);
    }
    event_model_end(models[0]);
    feed_finish(ingest, models[0]->now);
    ask_consistent(db);
    assert_true(event_rows_check(db, 1, models[0]) == 0);
    event_rows_check_totals(db, 1, models[0]);
    assert_true(ask_number(db, "SELECT count(*) FROM raw_events") >= 4);
    assert_int_equal(ask_number(db, "SELECT count(*) FROM raw_events WHERE count > 0 "
                                    "AND count <> 16384"),
                     1);
    end();
}

static void test_several_processes(void **unused)
{
    (void)unused;
    begin(EVERYTHING);
    for (int i = 0; i < 2; i++)
        event_model_start(models[i], feed_start(ingest, 100 + i));
    for (int i = 0; i < 50; i++) {
        event_model_steps(models[0], 500);
        event_model_steps(models[1], 300);
        if (i % 7 == 0)
            feed_commit(ingest, models[0]->now);
    }
    event_model_end(models[0]);
    feed_commit(ingest, models[0]->now);
    event_model_steps(models[1], 20000);
    event_model_end(models[1]);
    feed_finish(ingest, models[0]->now);
    ask_consistent(db);
    for (int i = 0; i < 2; i++) {
        assert_true(event_rows_check(db, i + 1, models[i]) == 0);
        event_rows_check_totals(db, i + 1, models[i]);
    }
    end();
}

/* Frames that come late, or not at all: the events are the same. */
static void test_sites_without_stacks(void **unused)
{
    struct neap_ingest_process *process;

    (void)unused;
    begin(EVERYTHING);
    process = feed_start(ingest, 100);
    feed_alloc(process, 0, NEAP_EV_ALLOC, 16, 5, 77);
    feed_alloc(process, 0, NEAP_EV_ALLOC, 32, 6, 78);
    feed_commit(ingest, 1);
    assert_int_equal(ask_number(db, "SELECT count(*) FROM raw_event_site"), 0);
    assert_int_equal(ask_number(db, "SELECT count FROM raw_events"), 2);
    feed_module(process, 0, 0, 0x100000, 0x200000, "/bin/app");
    feed_stack(process, 0, 78, 0, 0, (const uint64_t[]){0x100011, 0});
    feed_free(process, 0, NEAP_EV_FREE, 32);
    feed_commit(ingest, 2);
    assert_string_equal(ask_text(db, "SELECT site || ' ' || (SELECT alloc_bytes FROM "
                                     "site s WHERE s.stack_id = stack) FROM "
                                     "raw_event_site"),
                        "1 6");
    assert_int_equal(ask_number(db, "SELECT count FROM raw_events"), 3);
    end();
}

static void test_nothing_is_kept(void **unused)
{
    (void)unused;
    begin(0);
    event_model_start(models[0], feed_start(ingest, 100));
    event_model_steps(models[0], 30000);
    event_model_end(models[0]);
    feed_finish(ingest, models[0]->now);
    assert_int_equal(ask_number(db, "SELECT count(*) FROM raw_events"), 0);
    assert_true(event_rows_check(db, 1, models[0]) == models[0]->count);
    event_rows_check_totals(db, 1, models[0]);
    end();
}

/* ---- bad days ---- */

static void test_commits_that_fail(void **unused)
{
    uint64_t failures = 0;

    (void)unused;
    begin(EVERYTHING);
    event_model_start(models[0], feed_start(ingest, 100));
    for (uint64_t i = 0; i < 300; i++) {
        event_model_steps(models[0], 200);
        fail_vfs_at(1 + i % 5, SQLITE_FULL, i % 3 == 0);
        neap_error_destroy(neap_ingest_commit(ingest, models[0]->now));
        failures += fail_vfs_happened();
        fail_vfs_at(0, 0, false);
    }
    assert_in_range(failures, 50, 300);
    event_model_end(models[0]);
    feed_finish(ingest, models[0]->now);
    ask_consistent(db);
    assert_true(event_rows_check(db, 1, models[0]) == 0);
    event_rows_check_totals(db, 1, models[0]);
    end();
}

/* A disk that stays full: what waits is bounded, and the rest is said to be gone. */
static void test_a_disk_that_stays_full(void **unused)
{
    struct neap_ingest_process *process;
    uint64_t count = 0, first;

    (void)unused;
    begin(EVERYTHING);
    process = feed_start(ingest, 100);
    feed_commit(ingest, 1);
    fail_vfs_at(1, SQLITE_FULL, true);
    /* Addresses and sizes that nothing can guess: some ten bytes an event. */
    for (uint64_t word = 1; count < 6000000; count++) {
        word = word * 6364136223846793005u + 1442695040888963407u;
        feed_alloc(process, 0, NEAP_EV_ALLOC, 16 * (1 + (word >> 24 & 0xfff)),
                   word >> 30, 1 + (word >> 60));
    }
    fail_vfs_at(0, 0, false);
    feed_end(process, NEAP_EXIT_EXITED, 0);
    feed_finish(ingest, 2);
    first = event_rows_check(db, 1, NULL);
    assert_in_range(first, 1, 12000000);
    assert_true(ask_number(db, "SELECT sum(length(data)) FROM raw_events") < 40 << 20);
    ask_consistent(db);
    end();
}

/* The n-th allocation fails. Events may be missing at the beginning, and nowhere else;
 * what is said to be there adds up. */
static void test_no_memory(void **unused)
{
    uint64_t cuts = 0, n;

    (void)unused;
    for (n = 1;; n++) {
        bool happened;

        begin(EVERYTHING);
        event_model_reset(models[0]);
        event_model_start(models[0], feed_start(ingest, 100));
        fail_alloc_at(n);
        for (int i = 0; i < 4; i++) {
            event_model_steps(models[0], 5000);
            neap_error_destroy(neap_ingest_commit(ingest, models[0]->now));
        }
        happened = fail_alloc_happened();
        fail_alloc_at(0);
        event_model_end(models[0]);
        feed_finish(ingest, models[0]->now);
        ask_consistent(db);
        cuts += event_rows_check(db, 1, happened ? NULL : models[0]) > 0;
        end();
        if (!happened)
            break;
    }
    assert_in_range(n, 30, 10000);
    assert_in_range(cuts, 3, n);
}

/* ---- retention ---- */

static void test_the_oldest_go(void **unused)
{
    const int64_t max_size = 100000;
    int64_t gone = 0;

    (void)unused;
    begin((uint64_t)max_size);
    event_model_start(models[0], feed_start(ingest, 100));
    for (int i = 0; i < 60; i++) {
        int64_t before = ask_number(db, "SELECT coalesce(sum(length(data)), 0) FROM "
                                        "raw_events");

        event_model_steps(models[0], 2500);
        feed_commit(ingest, models[0]->now);
        /* What was there when it began fits; it may add some. */
        if (before <= max_size)
            before = max_size;
        assert_in_range(ask_number(db, "SELECT sum(length(data)) FROM raw_events"), 0,
                        before + max_size);
        if (i % 10 == 9)
            gone = (int64_t)event_rows_check(db, 1, models[0]);
    }
    event_model_end(models[0]);
    feed_finish(ingest, models[0]->now);
    assert_in_range(event_rows_check(db, 1, models[0]), gone, models[0]->count - 1);
    assert_in_range(ask_number(db, "SELECT sum(length(data)) FROM raw_events"), 1,
                    max_size);
    assert_int_equal(ask_number(db, "SELECT min(first) FROM raw_events"),
                     ask_number(db, "SELECT event_first FROM process"));
    event_rows_check_totals(db, 1, models[0]);
    ask_consistent(db);
    end();
}

/* Of two processes the older rows go, whosesoever they are; commits fail now and then,
 * and a chunk that is still being filled is not taken apart. */
static void test_the_oldest_of_two(void **unused)
{
    (void)unused;
    begin(60000);
    for (int i = 0; i < 2; i++)
        event_model_start(models[i], feed_start(ingest, 100 + i));
    event_model_steps(models[1], 50);
    for (uint64_t i = 0; i < 80; i++) {
        event_model_steps(models[0], 1900);
        event_model_steps(models[1], i % 10 == 9 ? 17000 : 5);
        if (i % 3 == 1)
            fail_vfs_at(1 + i % 7, SQLITE_FULL, false);
        neap_error_destroy(neap_ingest_commit(ingest, models[0]->now));
        fail_vfs_at(0, 0, false);
    }
    for (int i = 0; i < 2; i++)
        event_model_end(models[i]);
    feed_finish(ingest, models[0]->now);
    for (int i = 0; i < 2; i++) {
        assert_true(event_rows_check(db, i + 1, models[i]) > 0);
        event_rows_check_totals(db, i + 1, models[i]);
    }
    assert_in_range(ask_number(db, "SELECT sum(length(data)) FROM raw_events"), 1,
                    60000);
    assert_int_equal(ask_number(db, "SELECT count(*) FROM raw_events e JOIN raw_process"
                                    " p ON p.id = e.process WHERE e.first <"
                                    " p.event_first"),
                     0);
    ask_consistent(db);
    end();
}

/* Chunks of two get their numbers in another order than they are written in. Each is
 * counted once: what is kept comes near to what was asked for, and has no holes. */
static void test_as_much_is_kept_as_was_asked_for(void **unused)
{
    const int64_t max_size = 300000;

    (void)unused;
    begin((uint64_t)max_size);
    for (int i = 0; i < 2; i++)
        event_model_start(models[i], feed_start(ingest, 100 + i));
    for (int i = 0; i < 9; i++) {
        event_model_steps(models[0], 17000);
        event_model_steps(models[1], 36000);
        feed_commit(ingest, models[0]->now);
        assert_int_equal(
            ask_number(db, "SELECT count(*) FROM raw_process p WHERE event_first <>"
                           " (SELECT min(first) FROM raw_events WHERE process = p.id)"),
            0);
    }
    for (int i = 0; i < 2; i++)
        event_model_end(models[i]);
    feed_finish(ingest, models[0]->now);
    for (int i = 0; i < 2; i++)
        assert_true(event_rows_check(db, i + 1, models[i]) > 0);
    assert_in_range(ask_number(db, "SELECT sum(length(data)) FROM raw_events"),
                    max_size - 60000, max_size);
    end();
}

/* Less than one chunk is asked for: none is left, and that is said. */
static void test_nothing_fits(void **unused)
{
    (void)unused;
    begin(1);
    event_model_start(models[0], feed_start(ingest, 100));
    for (int i = 0; i < 5; i++) {
        event_model_steps(models[0], 9000);
        feed_commit(ingest, models[0]->now);
        (void)event_rows_check(db, 1, models[0]);
    }
    event_model_end(models[0]);
    feed_finish(ingest, models[0]->now);
    assert_int_equal(ask_number(db, "SELECT count(*) FROM raw_events"), 0);
    assert_true(event_rows_check(db, 1, models[0]) == models[0]->count);
    event_rows_check_totals(db, 1, models[0]);
    end();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_rows_are_what_was_fed),
        TEST(test_several_processes),
        TEST(test_sites_without_stacks),
        TEST(test_nothing_is_kept),
        TEST(test_commits_that_fail),
        TEST(test_a_disk_that_stays_full),
        TEST(test_no_memory),
        TEST(test_the_oldest_go),
        TEST(test_the_oldest_of_two),
        TEST(test_as_much_is_kept_as_was_asked_for),
        TEST(test_nothing_fits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From records to rows: numbers, threads, processes, maps and losses.
 *
 * Links: tests/unit/feed.c tests/unit/scratch.c tests/unit/fake_symbolizer.c
 */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "schema/store/store.h"
#include "tests/unit/fake_symbolizer.h"
#include "tests/unit/feed.h"
#include "tests/unit/scratch.h"

static sqlite3 *db;
static struct neap_ingest *ingest;
static struct neap_ingest_process *app;

static const uint64_t two_frames[] = {0x100011, 0x100021, 0};

static int setup(void **state)
{
    if (scratch_setup(state))
        return -1;
    fake_symbolizer_reset();
    db = feed_open(scratch_path("a.neap"));
    ingest = feed_create(db);
    app = feed_start(ingest, 100);
    feed_module(app, 0, 0, 0x100000, 0x200000, "/bin/app");
    feed_thread(app, 0, 100, "app");
    return 0;
}

static int teardown(void **state)
{
    neap_ingest_destroy(ingest);
    neap_store_close(db);
    return scratch_teardown(state);
}

static void test_recording(void **unused)
{
    (void)unused;
    feed_commit(ingest, 5000);
    assert_int_equal(ask_number(db, "SELECT duration_ns FROM recording"), 5000);
    assert_int_equal(ask_number(db, "SELECT finished FROM recording"), 0);
    assert_string_equal(ask_text(db, "SELECT version || mode || interval || policy "
                                     "FROM recording"),
                        "1.0exact0block");
    assert_int_equal(ask_number(db, "SELECT pid FROM recording"), 100);
    assert_int_equal(ask_number(db, "SELECT collector_pid FROM raw_recording"),
                     getpid());
    assert_true(ask_number(db, "SELECT collector_start FROM raw_recording") > 0);
    assert_int_equal(ask_number(db, "SELECT length(boot_id) FROM raw_recording"), 36);
    assert_string_equal(ask_text(db, "SELECT exit_kind FROM process"), "running");
    feed_end(app, NEAP_EXIT_EXITED, 3);
    feed_finish(ingest, 9000);
    assert_int_equal(ask_number(db, "SELECT finished FROM recording"), 1);
    assert_string_equal(ask_text(db, "SELECT exit_kind || exit_code || ' ' || end_ns "
                                     "FROM process"),
                        "exited3 9000000");
}

static void test_numbers(void **unused)
{
    struct neap_tally tally;

    (void)unused;
    feed_stack(app, 0, 77, 0, 0, two_frames);
    feed_time(app, 0, 2000);
    feed_alloc(app, 0, NEAP_EV_ALLOC, 0x10, 100, 77);
    feed_time(app, 0, 3000);
    feed_alloc(app, 0, NEAP_EV_ALLOC, 0x20, 50, 77);
    feed_free(app, 0, NEAP_EV_FREE, 0x20);
    feed_commit(ingest, 5000);
    ask_consistent(db);
    assert_string_equal(
        ask_text(db,
                 "SELECT alloc_count || ' ' || alloc_bytes || ' ' || free_count || "
                 "' ' || free_bytes || ' ' || live_bytes || ' ' || peak_bytes || ' '"
                 " || temporary_count || ' ' || temporary_bytes FROM site"),
        "2 150 1 50 100 150 1 50");
    assert_int_equal(ask_number(db, "SELECT peak_ns FROM process"), 3000);
    feed_free(app, 0, NEAP_EV_FREE, 0x999);
    feed_end(app, NEAP_EXIT_SIGNALED, 9);
    feed_finish(ingest, 4000); /* an earlier time does not turn the clock back */
    ask_consistent(db);
    assert_int_equal(ask_number(db, "SELECT duration_ns FROM recording"), 5000);
    assert_int_equal(ask_number(db, "SELECT foreign_free_count FROM process"), 1);
    assert_string_equal(ask_text(db,
                                 "SELECT address || ' ' || size || ' ' || weight || "
                                 "' ' || tid || ' ' || ts_ns FROM live"),
                        "16 100 100 100 2000");
    neap_ingest_tally(ingest, &tally);
    assert_int_equal(tally.processes, 1);
    assert_int_equal(tally.running, 0);
    assert_int_equal(tally.alloc_count, 2);
    assert_int_equal(tally.alloc_bytes, 150);
    assert_int_equal(tally.peak_bytes, 150);
    assert_int_equal(tally.live_count, 1);
    assert_int_equal(tally.live_bytes, 100);
    for (int i = 0; i < NEAP_LOSS_COUNT; i++)
        assert_int_equal(tally.lost[i], 0);
}

/* A site that did not change takes part in a new peak, and its row says so. */
static void test_share_of_later_peak(void **unused)
{
    const uint64_t other[] = {0x100031, 0};

    (void)unused;
    feed_stack(app, 0, 1, 0, 0, two_frames);
    feed_stack(app, 0, 2, 0, 0, other);
    feed_alloc(app, 0, NEAP_EV_ALLOC, 0x10, 100, 1);
    feed_alloc(app, 0, NEAP_EV_ALLOC, 0x20, 30, 1);
    feed_free(app, 0, NEAP_EV_FREE, 0x20);
    feed_commit(ingest, 1);
    assert_int_equal(ask_number(db, "SELECT peak_bytes FROM site"), 130);
    feed_alloc(app, 0, NEAP_EV_ALLOC, 0x30, 40, 2);
    feed_commit(ingest, 2);
    ask_consistent(db);
    assert_string_equal(ask_text(db,
                                 "SELECT group_concat(peak_bytes, ' ') FROM (SELECT "
                                 "peak_bytes FROM site ORDER BY stack_id)"),
                        "100 40");
}

static void test_reallocs(void **unused)
{
    (void)unused;
    feed_stack(app, 0, 1, 0, 0, two_frames);
    feed_alloc(app, 0, NEAP_EV_ALLOC, 0x10, 100, 1);
    feed_free(app, 0, NEAP_EV_REALLOC_FREE, 0x10);
    feed_alloc(app, 0, NEAP_EV_REALLOC_ALLOC, 0x10, 300, 1); /* in place */
    feed_free(app, 0, NEAP_EV_REALLOC_FREE, 0x10);
    feed_free(app, 0, NEAP_EV_REALLOC_FAIL, 0x10); /* nothing */
    feed_free(app, 0, NEAP_EV_REALLOC_FREE, 0x500);
    feed_free(app, 0, NEAP_EV_REALLOC_FAIL, 0x500); /* nothing of a foreign block */
    feed_alloc(app, 1, NEAP_EV_REALLOC_ALLOC, 0x20, 7, 1); /* out of nowhere */
    feed_free(app, 1, NEAP_EV_REALLOC_FAIL, 0x20);         /* so is this */
    feed_free(app, 0, NEAP_EV_REALLOC_FREE, 0x10);         /* and dies */
    feed_end(app, NEAP_EXIT_SIGNALED, 9);
    feed_finish(ingest, 1);
    ask_consistent(db);
    assert_string_equal(ask_text(db,
                                 "SELECT alloc_count || ' ' || alloc_bytes || ' ' || "
                                 "free_count || ' ' || free_bytes || ' ' || "
                                 "live_bytes || ' ' || temporary_count FROM site"),
                        "3 407 1 100 307 1");
    assert_int_equal(ask_number(db, "SELECT foreign_free_count FROM process"), 0);
    assert_string_equal(ask_text(db, "SELECT what || ' ' || count FROM loss"),
                        "corrupt 1");
}

/* A block that is handed out twice was freed unseen; what was said lost explains it. */
static void test_unseen_frees(void **unused)
{
    (void)unused;
    feed_stack(app, 0, 1, 0, 0, two_frames);
    for (int i = 0; i < 5; i++)
        feed_alloc(app, 0, NEAP_EV_ALLOC, 0x10, 8, 1);
    neap_ingest_loss(ingest, app, "events", 1, 16);
    feed_end(app, NEAP_EXIT_EXITED, 0);
    feed_finish(ingest, 1);
    ask_consistent(db);
    assert_int_equal(ask_number(db, "SELECT live_count FROM site"), 1);
    assert_int_equal(ask_number(db, "SELECT count FROM loss WHERE what = 'events'"), 4);
}

static void test_threads(void **unused)
{
    (void)unused;
    feed_stack(app, 0, 1, 0, 0, two_frames);
    feed_time(app, 1, 1000000);
    feed_thread(app, 1, 101, "one");
    feed_alloc(app, 1, NEAP_EV_ALLOC, 0x10, 1, 1);
    feed_thread(app, 1, 101, "renamed");
    feed_thread_end(app, 1);
    feed_time(app, 2, 2000000);
    feed_thread(app, 2, 101, "renamed"); /* still at it, in its last moments */
    feed_free(app, 2, NEAP_EV_FREE, 0x10);
    feed_thread_end(app, 2);
    feed_commit(ingest, 3000000);
    assert_int_equal(ask_number(db, "SELECT temporary_count FROM site"), 1);
    assert_string_equal(ask_text(db, "SELECT name || ' ' || start_ns || ' ' || end_ns "
                                     "FROM thread WHERE tid = 101"),
                        "renamed 1000000 2000000");
    feed_commit(ingest, 1000000000);
    feed_time(app, 1, 2000000000);
    feed_thread(app, 1, 101, "another"); /* its tid was used again */
    feed_thread(app, 1, 102, "third");   /* the lane went on without a word */
    feed_end(app, NEAP_EXIT_EXITED, 0);
    feed_finish(ingest, 3000000000);
    assert_string_equal(
        ask_text(db, "SELECT group_concat(tid || ' ' || name || ' ' || end_ns, ', ') "
                     "FROM (SELECT * FROM raw_thread ORDER BY id)"),
        "100 app 9000000, 101 renamed 2000000, 101 another 2000000000, 102 third "
        "9000000");
}

/* Thousands of threads in turn leave rows, not memory: numbers are used again. */
static void test_many_threads(void **unused)
{
    (void)unused;
    for (uint32_t i = 0; i < 5000; i++) {
        uint64_t now = (uint64_t)i * 100000000;

        feed_time(app, 1 + i % 3, now);
        feed_thread(app, 1 + i % 3, 1000 + i, "worker");
        feed_thread_end(app, 1 + i % 3);
        if (i % 100 == 0)
            feed_commit(ingest, now);
    }
    feed_commit(ingest, 0);
    assert_int_equal(ask_number(db, "SELECT count(*) FROM thread WHERE name = 'worker' "
                                    "AND end_ns = start_ns"),
                     5000);
}

static void test_maps(void **unused)
{
    (void)unused;
    feed_stack(app, 0, 1, 0, 0, two_frames);
    feed_time(app, 0, 4000);
    feed_map(app, 0, NEAP_MAP_MMAP, 0x7000, 4096, 1);
    feed_map(app, 0, NEAP_MAP_MADVISE, 0x7000, 4096, 0);
    feed_commit(ingest, 1);
    feed_map(app, 0, NEAP_MAP_MUNMAP, 0x7000, 4096, 1);
    feed_commit(ingest, 2);
    assert_string_equal(
        ask_text(db, "SELECT group_concat(op || ' ' || ts_ns || ' ' || tid || ' ' || "
                     "address || ' ' || size || ' ' || source || ' ' || "
                     "coalesce(stack_id, '-'), ', ') FROM map_event"),
        "mmap 4000 100 28672 4096 hook 1, madvise 4000 100 28672 4096 hook -, munmap "
        "4000 100 28672 4096 hook 1");
    /* A stack that only mapped memory is no site. */
    assert_int_equal(ask_number(db, "SELECT count(*) FROM site"), 0);
}

/* A map whose stack does not come goes out without, while others come with theirs. */
static void test_held_maps(void **unused)
{
    (void)unused;
    feed_map(app, 0, NEAP_MAP_MMAP, 1, 4096, 1);
    feed_map(app, 0, NEAP_MAP_MMAP, 2, 4096, 2);
    for (uint64_t i = 0; i < 2; i++) {
        feed_commit(ingest, i);
        assert_int_equal(ask_number(db, "SELECT count(*) FROM map_event"), 0);
    }
    feed_stack(app, 0, 2, 0, 0, two_frames);
    feed_commit(ingest, 3);
    assert_int_equal(ask_number(db, "SELECT address FROM map_event WHERE stack_id = 1"),
                     2);
    assert_int_equal(
        ask_number(db, "SELECT address FROM map_event WHERE stack_id IS NULL"), 1);
}

/* More maps than are kept in memory: they go out before their time. */
static void test_many_maps(void **unused)
{
    (void)unused;
    feed_stack(app, 0, 1, 0, 0, two_frames);
    for (uint64_t i = 0; i < 150000; i++)
        feed_map(app, 0, NEAP_MAP_BRK, i, i, 1);
    assert_true(ask_number(db, "SELECT count(*) FROM raw_map") > 100000);
    feed_commit(ingest, 1);
    assert_int_equal(ask_number(db, "SELECT count(DISTINCT address) FROM raw_map"),
                     150000);
    assert_int_equal(ask_number(db, "SELECT count(*) FROM loss"), 0);
}

static void test_exit_record(void **unused)
{
    struct neap_ingest_process *other = feed_start(ingest, 200);

    (void)unused;
    feed_exit(app, 0, 5);
    feed_end(app, NEAP_EXIT_EXITED, -1);
    feed_exit(other, 0, 6);
    feed_end(other, NEAP_EXIT_LOST, -1);
    feed_finish(ingest, 1);
    assert_string_equal(ask_text(db, "SELECT group_concat(exit_kind || ' ' || "
                                     "coalesce(exit_code, '-'), ', ') FROM process"),
                        "exited 5, lost -");
}

static void test_losses_and_counters(void **unused)
{
    struct neap_process_counters counters = {
        .truncated_stacks = 1, .verified = 2, .verify_differences = 3, .waits = 4};

    (void)unused;
    neap_ingest_loss(ingest, NULL, "process", 2, 0);
    neap_ingest_loss(ingest, app, "lanes", 3, 30);
    neap_ingest_loss(ingest, app, "lanes", 4, 40);
    neap_ingest_loss(ingest, app, "order", 0, 0);
    neap_ingest_counters(app, &counters);
    feed_commit(ingest, 50);
    neap_ingest_loss(ingest, app, "lanes", 1, 1);
    feed_commit(ingest, 60);
    assert_string_equal(
        ask_text(db, "SELECT group_concat(coalesce(pid, '-') || ' ' || what || ' ' || "
                     "count || ' ' || bytes || ' ' || ts_ns, ', ') FROM loss"),
        "- process 2 0 0, 100 lanes 8 71 50");
    assert_string_equal(ask_text(db, "SELECT truncated_stacks || verified || "
                                     "verify_differences || waits FROM process"),
                        "1234");
}

/* An image that execs, and a child that frees what it has inherited. */
static void test_processes(void **unused)
{
    struct neap_ingest_process *child;
    struct neap_tally tally;

    (void)unused;
    feed_stack(app, 0, 1, 0, 0, two_frames);
    feed_alloc(app, 0, NEAP_EV_ALLOC, 0x10, 100, 1);
    child = feed_start(ingest, 101);
    feed_free(child, 0, NEAP_EV_FREE, 0x10);
    feed_end(app, NEAP_EXIT_EXEC, -1);
    app = feed_start(ingest, 100);
    feed_alloc(app, 0, NEAP_EV_ALLOC, 0x10, 7, 1); /* its own hash 1: no frames */
    feed_commit(ingest, 1);
    neap_ingest_tally(ingest, &tally);
    assert_int_equal(tally.processes, 2); /* an exec makes no new one */
    assert_int_equal(tally.programs, 3);
    assert_int_equal(tally.running, 2);
    assert_int_equal(tally.live_bytes, 107);
    feed_end(app, NEAP_EXIT_EXITED, 0);
    feed_end(child, NEAP_EXIT_EXITED, 0);
    feed_finish(ingest, 2);
    ask_consistent(db);
    assert_string_equal(ask_text(db,
                                 "SELECT group_concat(pid || ' ' || exit_kind || ' '"
                                 " || live_bytes || ' ' || foreign_free_count, ', ')"
                                 " FROM process"),
                        "100 exec 100 0, 101 exited 0 1, 100 exited 7 0");
    assert_int_equal(ask_number(db, "SELECT main_process FROM raw_recording"), 1);
}

/* What a process has needed goes when it is stored: thousands in turn add up to none.
 */
static void test_many_processes(void **unused)
{
    size_t before = 0;

    (void)unused;
    for (int i = 0; i < 3000; i++) {
        struct neap_ingest_process *process = feed_start(ingest, 1000 + i);

        if (i == 1000)
            before = mallinfo2().uordblks;
        feed_module(process, 0, 0, 0x100000, 0x200000, "/bin/app");
        feed_thread(process, 0, 1, "short");
        feed_stack(process, 0, 1, 0, 0, two_frames);
        for (uint64_t j = 1; j <= 100; j++)
            feed_alloc(process, 0, NEAP_EV_ALLOC, j * 16, 1, 1);
        feed_end(process, NEAP_EXIT_EXITED, 0);
        if (i % 10 == 0)
            feed_commit(ingest, (uint64_t)i);
    }
    feed_commit(ingest, 3000);
    /* SQLite's cache may grow by its limit; 2 000 of these processes need 60 MiB. */
    assert_in_range(mallinfo2().uordblks, 0, before + (8 << 20));
    ask_consistent(db);
    assert_int_equal(ask_number(db, "SELECT count(*) FROM live"), 300000);
}

/* A process with more live blocks than one commit takes. */
static void test_live_in_pieces(void **unused)
{
    const int64_t count = 600000;

    (void)unused;
    feed_stack(app, 0, 1, 0, 0, two_frames);
    for (uint64_t i = 1; i <= (uint64_t)count; i++)
        feed_alloc(app, 0, NEAP_EV_ALLOC, i * 16, i, 1);
    feed_end(app, NEAP_EXIT_EXITED, 0);
    feed_commit(ingest, 1);
    assert_string_equal(ask_text(db, "SELECT exit_kind FROM process"), "running");
    assert_in_range(ask_number(db, "SELECT count(*) FROM live"), 1, count - 1);
    feed_commit(ingest, 2);
    assert_string_equal(ask_text(db, "SELECT exit_kind FROM process"), "exited");
    ask_consistent(db);
    assert_int_equal(ask_number(db, "SELECT count(DISTINCT address) FROM live"), count);
    assert_int_equal(ask_number(db, "SELECT sum(size) FROM live"),
                     count * (count + 1) / 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_recording),           TEST(test_numbers),
        TEST(test_share_of_later_peak), TEST(test_reallocs),
        TEST(test_unseen_frees),        TEST(test_threads),
        TEST(test_many_threads),        TEST(test_maps),
        TEST(test_held_maps),           TEST(test_many_maps),
        TEST(test_exit_record),         TEST(test_losses_and_counters),
        TEST(test_processes),           TEST(test_many_processes),
        TEST(test_live_in_pieces),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

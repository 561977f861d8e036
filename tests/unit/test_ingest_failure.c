/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bad days: memory that runs out, a disk that is full, targets that write nonsense.
 * In each case the collector goes on, and what the recording says is consistent; after
 * a disk was full and is not any more, the recording is as if nothing had been.
 *
 * Links: tests/unit/feed.c tests/unit/scratch.c tests/unit/fake_symbolizer.c
 * Links: tests/unit/fail_vfs.c tests/unit/fail_alloc.c
 * Links: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=reallocarray
 * Links: -Wl,--wrap=strdup,--wrap=strndup,--wrap=mmap
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "schema/store/store.h"
#include "tests/unit/fail_alloc.h"
#include "tests/unit/fail_vfs.h"
#include "tests/unit/fake_symbolizer.h"
#include "tests/unit/feed.h"
#include "tests/unit/scratch.h"

static int setup(void **state)
{
    fail_vfs_install();
    fake_symbolizer_reset();
    return scratch_setup(state);
}

/* All of a recording's content but its clocks, as one text. */
#define DIGEST                                                                        \
    "SELECT group_concat(line, '; ') FROM (SELECT line FROM ("                        \
    "SELECT 's' || process || ' ' || stack || ' ' || alloc_count || ' ' || "          \
    "alloc_bytes"                                                                     \
    " || ' ' || free_bytes || ' ' || peak_bytes || ' ' || temporary_count AS line"    \
    " FROM raw_site UNION ALL"                                                        \
    " SELECT 'p' || id || exit_kind || live_bytes || ' ' || peak_bytes FROM "         \
    "raw_process"                                                                     \
    " UNION ALL SELECT 'l' || process || ' ' || address || ' ' || size FROM raw_live" \
    " UNION ALL SELECT 'm' || op || ' ' || address || ' ' || stack FROM raw_map"      \
    " UNION ALL SELECT 't' || tid || name FROM raw_thread"                            \
    " UNION ALL SELECT 'k' || id || frames FROM raw_stack"                            \
    " UNION ALL SELECT 'f' || id || function FROM raw_frame"                          \
    " UNION ALL SELECT 'o' || process || what || count FROM raw_loss WHERE count) "   \
    "ORDER BY line)"

static const uint64_t pcs[][4] = {{0x100011, 0x100021}, {0x100031, 0x100021, 0x100041}};

/* A small life of two processes, with a commit in its middle. Errors do not stop it. */
static void live(struct neap_ingest *ingest)
{
    struct neap_process_info info = {.pid = 7,
                                     .exe = "/bin/app",
                                     .command = "[]",
                                     .allocator = "glibc",
                                     .unwinder = "libunwind"};

    for (int32_t pid = 1; pid <= 2; pid++) {
        struct neap_ingest_process *process;
        struct neap_error *err = neap_ingest_start(ingest, &info, &process);

        neap_error_destroy(err);
        if (err)
            continue;
        feed_module(process, 0, 0, 0x100000, 0x200000, "/bin/app");
        feed_thread(process, 0, 7, "app");
        for (uint64_t hash = 1; hash <= 2; hash++)
            feed_stack(process, 0, hash, 0, 0, pcs[hash - 1]);
        for (uint64_t i = 1; i <= 40; i++) {
            feed_alloc(process, 0, NEAP_EV_ALLOC, i * 16, 64 + i, 1 + i % 2);
            if (i % 4 == 0)
                feed_free(process, 0, NEAP_EV_FREE, i * 16);
            if (i % 10 == 0)
                feed_map(process, 0, NEAP_MAP_MMAP, i << 12, 4096, 1);
            if (i == 20)
                neap_error_destroy(neap_ingest_commit(ingest, 20));
        }
        feed_end(process, NEAP_EXIT_EXITED, 0);
        neap_error_destroy(neap_ingest_commit(ingest, 40));
    }
}

/* The recording that is made when nothing fails. The caller frees it. */
static char *expected(void)
{
    sqlite3 *db = feed_open(scratch_path("good.neap"));
    struct neap_ingest *ingest = feed_create(db);
    char *digest;

    live(ingest);
    feed_finish(ingest, 100);
    ask_consistent(db);
    digest = strdup(ask_text(db, DIGEST));
    neap_ingest_destroy(ingest);
    neap_store_close(db);
    return digest;
}

static void test_disk_full(void **unused)
{
    static const int statuses[] = {SQLITE_FULL, SQLITE_IOERR_WRITE};
    char *good = expected();
    uint64_t failures = 0;

    (void)unused;
    for (uint64_t n = 1;; n++) {
        sqlite3 *db = feed_open(scratch_path("bad.neap"));
        struct neap_ingest *ingest = feed_create(db);
        bool happened;

        fail_vfs_at(n, statuses[n / 2 % 2], n % 2);
        live(ingest);
        happened = fail_vfs_happened();
        fail_vfs_at(0, 0, false);
        failures += happened;
        feed_finish(ingest, 100);
        ask_consistent(db);
        assert_string_equal(ask_text(db, DIGEST), good);
        assert_int_equal(ask_number(db, "SELECT finished FROM recording"), 1);
        neap_ingest_destroy(ingest);
        neap_store_close(db);
        if (!happened)
            break;
    }
    assert_in_range(failures, 10, 100000);
    free(good);
}

/* Full to the end: an error says so, and what was committed before is readable. */
static void test_disk_stays_full(void **unused)
{
    sqlite3 *db = feed_open(scratch_path("a.neap"));
    struct neap_ingest *ingest = feed_create(db);
    struct neap_error *err;

    (void)unused;
    live(ingest);
    fail_vfs_at(1, SQLITE_FULL, true);
    live(ingest);
    err = neap_ingest_finish(ingest, 100, true);
    assert_non_null(err);
    assert_non_null(strstr(err->message, "full"));
    assert_null(strchr(err->message, '\n'));
    neap_error_destroy(err);
    neap_ingest_destroy(ingest);
    fail_vfs_at(0, 0, false);
    neap_store_close(db);

    err = neap_store_open(scratch_path("a.neap"), &db);
    assert_null(err);
    ask_consistent(db);
    assert_int_equal(ask_number(db, "SELECT count(*) FROM process"), 2);
    assert_int_equal(ask_number(db, "SELECT finished FROM recording"), 0);
    neap_store_close(db);
}

/* It can say at least that it could not: a row of `loss`, taken back by success. */
static void test_last_words(void **unused)
{
    sqlite3 *db = feed_open(scratch_path("a.neap"));
    struct neap_ingest *ingest = feed_create(db);
    struct neap_ingest_process *process = feed_start(ingest, 1);
    struct neap_error *err;

    (void)unused;
    for (uint64_t i = 1; i <= 50; i++)
        feed_alloc(process, 0, NEAP_EV_ALLOC, i * 16, 8, 1);
    feed_end(process, NEAP_EXIT_EXITED, 0);
    fail_vfs_at(1, SQLITE_FULL, false);
    err = neap_ingest_finish(ingest, 100, true);
    assert_non_null(err);
    neap_error_destroy(err);
    assert_string_equal(ask_text(db, "SELECT what || ' ' || count || ' ' || bytes FROM "
                                     "loss"),
                        "store 51 400");
    feed_finish(ingest, 100);
    assert_int_equal(ask_number(db, "SELECT count FROM loss WHERE what = 'store'"), 0);
    ask_consistent(db);
    neap_ingest_destroy(ingest);
    neap_store_close(db);
}

/* Of samples: the blocks that they stand for. */
static void test_last_words_of_samples(void **unused)
{
    sqlite3 *db = feed_open(scratch_path("a.neap"));
    struct neap_ingest *ingest = feed_create_with(db, 16, 0);
    struct neap_ingest_process *process = feed_start(ingest, 1);
    struct neap_error *err;

    (void)unused;
    for (uint64_t i = 1; i <= 50; i++) /* each for itself alone, nearly */
        feed_sample(process, 0, i * 4096, 1000, 1, 16, 0);
    feed_end(process, NEAP_EXIT_EXITED, 0);
    fail_vfs_at(1, SQLITE_FULL, false);
    err = neap_ingest_finish(ingest, 100, true);
    assert_non_null(err);
    neap_error_destroy(err);
    assert_string_equal(ask_text(db, "SELECT what || ' ' || count || ' ' || bytes FROM "
                                     "loss"),
                        "store 51 50000");
    neap_ingest_destroy(ingest);
    neap_store_close(db);
}

/* A full disk and a program that maps without end: memory stays bounded, all counted.
 */
static void test_maps_on_a_full_disk(void **unused)
{
    sqlite3 *db = feed_open(scratch_path("a.neap"));
    struct neap_ingest *ingest = feed_create(db);
    struct neap_ingest_process *process = feed_start(ingest, 1);

    (void)unused;
    fail_vfs_at(1, SQLITE_FULL, true);
    for (uint64_t i = 0; i < 100000; i++)
        feed_map(process, 0, NEAP_MAP_MMAP, i, 1, 0);
    fail_vfs_at(0, 0, false);
    feed_commit(ingest, 1);
    assert_int_equal(ask_number(db, "SELECT (SELECT count(*) FROM raw_map) + (SELECT "
                                    "count FROM loss WHERE what = 'store')"),
                     100000);
    assert_int_equal(ask_number(db, "SELECT bytes FROM loss WHERE what = 'store'"),
                     100000 - 65536);
    feed_map(process, 0, NEAP_MAP_MMAP, 1, 1, 0);
    feed_commit(ingest, 2);
    assert_int_equal(ask_number(db, "SELECT count(*) FROM raw_map"), 65537);
    neap_ingest_destroy(ingest);
    neap_store_close(db);
}

static void test_create_fails(void **unused)
{
    struct neap_recording_info info = {
        .version = "1", .command = "[]", .start_utc = "", .policy = "block"};
    struct neap_ingest *ingest = NULL;
    uint64_t n;

    (void)unused;
    for (n = 1;; n++) {
        sqlite3 *db = feed_open(scratch_path("a.neap"));
        struct neap_error *err;

        fail_alloc_at(n);
        err = neap_ingest_create(db, &info, &ingest);
        fail_alloc_at(0);
        if (err) {
            assert_int_equal(err->code, NEAP_ERROR_NO_MEMORY);
            assert_null(ingest);
        }
        neap_ingest_destroy(ingest);
        neap_store_close(db);
        if (!err)
            break;
    }
    assert_in_range(n, 2, 100);
    sqlite3 *db = feed_open(scratch_path("a.neap"));
    struct neap_error *err;

    ingest = NULL;
    fail_vfs_at(1, SQLITE_FULL, false);
    err = neap_ingest_create(db, &info, &ingest);
    assert_non_null(err);
    assert_null(ingest);
    neap_error_destroy(err);
    fail_vfs_at(0, 0, false);
    neap_store_close(db);
}

/* The n-th allocation fails: it is counted if anything is lost, and all of it adds up.
 */
static void test_no_memory(void **unused)
{
    char *good = expected();
    uint64_t n, same = 0;

    (void)unused;
    for (n = 1;; n++) {
        sqlite3 *db = feed_open(scratch_path("bad.neap"));
        struct neap_ingest *ingest = feed_create(db);
        struct neap_tally tally;
        bool happened, complete;

        fail_alloc_at(n);
        live(ingest);
        happened = fail_alloc_happened();
        fail_alloc_at(0);
        feed_finish(ingest, 100);
        ask_consistent(db);
        complete = strcmp(ask_text(db, DIGEST), good) == 0;
        same += complete;
        neap_ingest_tally(ingest, &tally);
        /* What is missing is counted, or is a process that the caller knows of. */
        if (!complete && tally.processes == 2 && feed_lost(&tally) == 0)
            assert_int_equal(ask_number(db, "SELECT sum(alloc_count) FROM raw_site"),
                             80);
        if (!happened)
            assert_true(complete);
        neap_ingest_destroy(ingest);
        neap_store_close(db);
        if (!happened)
            break;
    }
    assert_in_range(n, 30, 10000);
    assert_in_range(same, 1, n);
    free(good);
}

static uint64_t state = 3141592653589793238u;

static uint64_t draw(uint64_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (state >> 16) % below;
}

/* Well-formed nonsense: any kind, any number, in any order. */
static void nonsense(uint64_t interval)
{
    static const uint64_t values[] = {0,          1,          16,         4096,
                                      INT64_MAX,  UINT64_MAX, 0x100011,   0x2fffff,
                                      1ull << 47, 1ull << 48, 1ull << 63, 48};
    sqlite3 *db = feed_open(scratch_path("a.neap"));
    struct neap_ingest *ingest = feed_create_with(db, interval, 1 << 20);
    struct neap_ingest_process *processes[2];

    for (int round = 0; round < 40; round++) {
        for (int i = 0; i < 2; i++)
            processes[i] = feed_start(ingest, i + 1);
        for (int i = 0; i < 4000; i++) {
            uint64_t words[9];
            struct neap_event event;

            for (int j = 1; j < 9; j++)
                words[j] = draw(4) ? values[draw(12)] : draw(UINT64_MAX);
            words[0] =
                neap_ev_head((enum neap_ev_kind)(1 + draw(NEAP_EV_KIND_END - 1)), 0, 0);
            if (draw(3) == 0)
                words[2] = draw(200); /* sizes that make sense */
            if (neap_ev_kind(words[0]) == NEAP_EV_MAP)
                words[5] = draw(8); /* operation */
            if (neap_ev_kind(words[0]) == NEAP_EV_STACK)
                words[2] = draw(4) | draw(6) << 32; /* generation, depth */
            if (neap_ev_kind(words[0]) == NEAP_EV_MODULE)
                words[4] = draw(4) | draw(3) << 32 | draw(16) << 48; /* and lengths */
            if (neap_decode(words, sizeof(words), &event) == NEAP_DECODE_OK)
                neap_ingest_event(processes[draw(2)], (uint32_t)draw(4), &event);
            if (draw(1000) == 0)
                feed_commit(ingest, (uint64_t)round);
        }
        for (uint64_t i = 0; interval && i < 100; i++) {
            struct neap_table_slot slot = {.size = values[draw(12)],
                                           .stack = draw(4),
                                           .interval = values[draw(12)]};

            neap_ingest_alive(processes[draw(2)], values[draw(12)], &slot);
        }
        for (int i = 0; interval && i < 2; i++)
            neap_ingest_heal(processes[i]);
        feed_end(processes[0], NEAP_EXIT_SIGNALED, 9);
        feed_end(processes[1], NEAP_EXIT_EXITED, -1);
        feed_commit(ingest, (uint64_t)round);
    }
    feed_finish(ingest, 100);
    if (!interval) /* estimates of such sizes are beyond what rows can hold */
        ask_consistent(db);
    assert_true(ask_number(db, "SELECT sum(count) FROM loss WHERE what = 'corrupt'") >
                0);
    assert_true(ask_number(db, "SELECT count(*) FROM live") > 0);
    assert_true(ask_number(db, "SELECT count(*) FROM raw_map") > 0);
    assert_true(ask_number(db, "SELECT count(*) FROM module") > 10);
    assert_true(ask_number(db, "SELECT count(*) FROM raw_stack") > 10);
    neap_ingest_destroy(ingest);
    neap_store_close(db);
}

static void test_nonsense(void **unused)
{
    (void)unused;
    nonsense(0);
}

static void test_sampled_nonsense(void **unused)
{
    (void)unused;
    nonsense(16);
}

#define STACKS 6

/*
 * The same random life twice: once with commits at random, some of which fail, once
 * with one at the end. Both recordings say the same.
 */
static void random_life(struct neap_ingest *ingest, bool commits)
{
    struct neap_ingest_process *process = feed_start(ingest, 1);
    uint64_t chaos = 42;

    state = 2718281828459045235u;
    feed_module(process, 0, 0, 0x100000, 0x200000, "/bin/app");
    for (uint32_t lane = 0; lane < 2; lane++)
        feed_thread(process, lane, lane + 1, "thread");
    for (int i = 0; i < 6000; i++) {
        uint32_t lane = (uint32_t)draw(2);
        uint64_t address = 16 + 16 * draw(300), hash = 1 + draw(STACKS);

        switch (draw(8)) {
        case 0:
        case 1:
        case 2:
            feed_alloc(process, lane, NEAP_EV_ALLOC, address, draw(5000), hash);
            break;
        case 3:
        case 4:
        case 5:
            feed_free(process, lane, NEAP_EV_FREE, address);
            break;
        case 6:
            feed_free(process, lane, NEAP_EV_REALLOC_FREE, address);
            feed_free(process, lane, NEAP_EV_REALLOC_FAIL, address);
            break;
        default: /* frames come late; two hashes have the same ones, one has none */
            if (i > 3000 && hash < STACKS)
                feed_stack(process, lane, hash, 0, 0, pcs[hash / 4]);
            break;
        }
        chaos = chaos * 6364136223846793005u + 1;
        if (commits && chaos >> 56 == 0) {
            fail_vfs_at(chaos >> 40 & 7, SQLITE_FULL, false);
            neap_error_destroy(neap_ingest_commit(ingest, (uint64_t)i));
            fail_vfs_at(0, 0, false);
        }
    }
    feed_end(process, NEAP_EXIT_EXITED, 0);
    feed_finish(ingest, 6000);
}

static void test_commits_at_any_time(void **unused)
{
    char *rows[2];

    (void)unused;
    for (int i = 0; i < 2; i++) {
        sqlite3 *db = feed_open(scratch_path("a.neap"));
        struct neap_ingest *ingest = feed_create(db);

        random_life(ingest, i == 1);
        ask_consistent(db);
        assert_int_equal(ask_number(db, "SELECT count(*) FROM site"), 3);
        rows[i] = strdup(ask_text(
            db, "SELECT group_concat(line, '; ') FROM (SELECT alloc_count || ' ' || "
                "alloc_bytes || ' ' || free_count || ' ' || free_bytes || ' ' || "
                "peak_count || ' ' || peak_bytes || ' ' || temporary_count || ' ' || "
                "temporary_bytes AS line FROM raw_site ORDER BY alloc_count)"));
        neap_ingest_destroy(ingest);
        neap_store_close(db);
    }
    assert_string_equal(rows[0], rows[1]);
    free(rows[0]);
    free(rows[1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, scratch_teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_disk_full),           TEST(test_disk_stays_full),
        TEST(test_last_words),          TEST(test_last_words_of_samples),
        TEST(test_maps_on_a_full_disk), TEST(test_create_fails),
        TEST(test_no_memory),           TEST(test_nonsense),
        TEST(test_sampled_nonsense),    TEST(test_commits_at_any_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

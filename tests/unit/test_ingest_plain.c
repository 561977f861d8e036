/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records that become rows as they are: where maps come from, memory errors, and which
 * stacks of theirs the books know when the target does not.
 *
 * Links: tests/unit/feed.c tests/unit/scratch.c tests/unit/fake_symbolizer.c
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "schema/store/store.h"
#include "tests/unit/fake_symbolizer.h"
#include "tests/unit/feed.h"
#include "tests/unit/scratch.h"

#define ERROR_TEXT                                                                 \
    "SELECT group_concat(kind || ' ' || ts_ns || ' ' || tid || ' ' || address || " \
    "' ' || coalesce(block, '-') || ' ' || coalesce(size, '-') || ' ' || "         \
    "coalesce(alloc_stack_id, '-') || ' ' || coalesce(free_stack_id, '-') || "     \
    "' ' || coalesce(stack_id, '-'), ', ') FROM memory_error"

static sqlite3 *db;
static struct neap_ingest *ingest;
static struct neap_ingest_process *app;

/* Three stacks; the first to be resolved is stack 1 of the recording. */
static const uint64_t allocated[] = {0x100011, 0}, freed[] = {0x100021, 0},
                      found[] = {0x100031, 0};

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
    feed_time(app, 0, 4000);
    return 0;
}

static int teardown(void **state)
{
    neap_ingest_destroy(ingest);
    neap_store_close(db);
    return scratch_teardown(state);
}

static void send_stacks(void)
{
    feed_stack(app, 0, 1, 0, 0, allocated);
    feed_stack(app, 0, 2, 0, 0, freed);
    feed_stack(app, 0, 3, 0, 0, found);
}

static void send_error(enum neap_memory_error kind, uint64_t address, uint64_t block)
{
    feed_memory_error(app, 0,
                      &(struct neap_ev_memory_error){.kind = kind,
                                                     .address = address,
                                                     .block = block,
                                                     .size = block ? 64 : 0,
                                                     .stack = 3});
}

static void test_sources(void **unused)
{
    struct neap_ev_map map = {.address = 0x7000, .size = 4096, .fd = -1};

    (void)unused;
    map.op = NEAP_MAP_MMAP;
    feed_map_event(app, 0, &map);
    map.op = NEAP_MAP_BRK;
    map.source = NEAP_MAP_HEAP;
    map.old_size = 5;
    feed_map_event(app, 0, &map);
    feed_commit(ingest, 1);
    assert_string_equal(ask_text(db, "SELECT group_concat(op || ' ' || source || ' ' "
                                     "|| size || ' ' || old_size, ', ') FROM "
                                     "map_event"),
                        "mmap hook 4096 0, brk heap 4096 5");
}

static void test_errors(void **unused)
{
    static const char *const kinds[] = {"double-free",      "invalid-free",
                                        "interior-free",    "overflow",
                                        "write-after-free", "size-mismatch"};
    struct neap_ev_memory_error event = {.address = 0x5008,
                                         .block = 0x5000,
                                         .size = 64,
                                         .alloc_stack = 1,
                                         .free_stack = 2,
                                         .stack = 3};
    struct neap_tally tally;

    (void)unused;
    send_stacks();
    for (uint32_t kind = NEAP_MEMORY_DOUBLE_FREE; kind < NEAP_MEMORY_ERROR_END;
         kind++) {
        event.kind = kind;
        feed_memory_error(app, 0, &event);
    }
    feed_commit(ingest, 1);
    for (size_t i = 0; i < NEAP_ARRAY_LEN(kinds); i++) {
        char sql[512], expected[160];

        snprintf(sql, sizeof(sql), ERROR_TEXT " WHERE kind = '%s'", kinds[i]);
        snprintf(expected, sizeof(expected), "%s 4000 100 20488 20480 64 1 2 3",
                 kinds[i]);
        assert_string_equal(ask_text(db, sql), expected);
    }
    neap_ingest_tally(ingest, &tally);
    assert_int_equal(tally.errors, 6);
    feed_end(app, NEAP_EXIT_SIGNALED, 6);
    feed_finish(ingest, 2);
    neap_ingest_tally(ingest, &tally);
    assert_int_equal(tally.errors, 6);
    /* A stack that only made mistakes is no site. */
    assert_int_equal(ask_number(db, "SELECT count(*) FROM site"), 0);
    ask_consistent(db);
}

/* What the target does not know of live blocks the books do. */
static void test_stacks_of_the_books(void **unused)
{
    (void)unused;
    send_stacks();
    feed_alloc(app, 0, NEAP_EV_ALLOC, 0x5000, 64, 1);
    send_error(NEAP_MEMORY_INTERIOR_FREE, 0x5008, 0x5000);
    feed_free(app, 0, NEAP_EV_FREE, 0x5000);
    send_error(NEAP_MEMORY_SIZE_MISMATCH, 0x5000, 0x5000);
    feed_commit(ingest, 1);
    assert_string_equal(ask_text(db, ERROR_TEXT),
                        "interior-free 4000 100 20488 20480 64 1 - 3, size-mismatch "
                        "4000 100 20480 20480 64 1 - 3");
}

/* ... and what they do not know is not made up: who had the address before is nobody's
 * business. */
static void test_no_stack_is_guessed(void **unused)
{
    (void)unused;
    send_stacks();
    feed_alloc(app, 0, NEAP_EV_ALLOC, 0x5000, 64, 1);
    send_error(NEAP_MEMORY_INVALID_FREE, 0x5000, 0);
    send_error(NEAP_MEMORY_OVERFLOW, 0x6000, 0x6000);
    send_error(NEAP_MEMORY_DOUBLE_FREE, 0x5000, 0x5000);
    send_error(NEAP_MEMORY_WRITE_AFTER_FREE, 0x5000, 0x5000);
    feed_free(app, 0, NEAP_EV_FREE, 0x5000);
    feed_free(app, 0, NEAP_EV_FREE, 0x5000);
    send_error(NEAP_MEMORY_SIZE_MISMATCH, 0x5000, 0x5000);
    feed_commit(ingest, 1);
    assert_int_equal(ask_number(db, "SELECT count(*) FROM memory_error"), 5);
    assert_int_equal(ask_number(db, "SELECT count(alloc_stack_id) + "
                                    "count(free_stack_id) FROM memory_error"),
                     0);
    assert_int_equal(
        ask_number(db, "SELECT count(*) FROM memory_error WHERE block IS NULL"), 1);
}

/* An error waits for each of its stacks, and goes out without those that are lost. */
static void test_held_errors(void **unused)
{
    struct neap_ev_memory_error event = {.kind = NEAP_MEMORY_DOUBLE_FREE,
                                         .address = 0x5000,
                                         .alloc_stack = 1,
                                         .free_stack = 2,
                                         .stack = 3};

    (void)unused;
    feed_memory_error(app, 0, &event);
    event.free_stack = 99; /* whose frames never come */
    feed_memory_error(app, 0, &event);
    feed_stack(app, 0, 1, 0, 0, allocated);
    feed_commit(ingest, 1);
    assert_int_equal(ask_number(db, "SELECT count(*) FROM memory_error"), 0);
    send_stacks();
    feed_commit(ingest, 2);
    assert_string_equal(ask_text(db, ERROR_TEXT),
                        "double-free 4000 100 20480 - - 1 2 3");
    feed_commit(ingest, 3);
    assert_int_equal(ask_number(db, "SELECT count(*) FROM memory_error WHERE "
                                    "alloc_stack_id = 1 AND free_stack_id IS NULL AND "
                                    "stack_id = 3"),
                     1);
}

/* A program may make millions of them, at any addresses. */
static void test_hostile_errors(void **unused)
{
    struct neap_ev_memory_error event = {.block = UINT64_MAX,
                                         .size = UINT64_MAX,
                                         .address = UINT64_MAX,
                                         .alloc_stack = UINT64_MAX,
                                         .free_stack = UINT64_MAX,
                                         .stack = UINT64_MAX};

    (void)unused;
    for (uint32_t i = 0; i < 150000; i++) {
        event.kind = 1 + i % (NEAP_MEMORY_ERROR_END - 1);
        feed_memory_error(app, 7, &event);
    }
    feed_end(app, NEAP_EXIT_EXITED, 0);
    feed_finish(ingest, 1);
    assert_int_equal(ask_number(db, "SELECT count(*) FROM memory_error WHERE "
                                    "address = 9223372036854775807 AND stack_id IS "
                                    "NULL"),
                     ask_number(db, "SELECT count(*) FROM memory_error"));
    /* None is lost without a word: what found no room is counted. */
    assert_int_equal(
        ask_number(db, "SELECT count(*) FROM memory_error") +
            ask_number(db, "SELECT coalesce(sum(count), 0) FROM loss WHERE what = "
                           "'store'"),
        150000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_sources),
        TEST(test_errors),
        TEST(test_stacks_of_the_books),
        TEST(test_no_stack_is_guessed),
        TEST(test_held_errors),
        TEST(test_hostile_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

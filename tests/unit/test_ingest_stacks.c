/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From records to rows: stacks, their frames and their names.
 *
 * Links: tests/unit/feed.c tests/unit/scratch.c tests/unit/fake_symbolizer.c
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "schema/store/store.h"
#include "tests/unit/fake_symbolizer.h"
#include "tests/unit/feed.h"
#include "tests/unit/scratch.h"

#define FRAMES(stack)                                                          \
    "SELECT group_concat(coalesce(function, '-'), ' ') FROM (SELECT function " \
    "FROM frame WHERE stack_id = " stack " ORDER BY depth)"

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

static void test_frames(void **unused)
{
    const uint64_t pcs[] = {0x100011, 0x100021, 0x300001, 0x100031, 0};

    (void)unused;
    fake_symbolizer_name(0x10, "small|large");
    fake_symbolizer_name(0x30, "main");
    feed_stack(app, 0, 1, 0, 0, pcs);
    feed_alloc(app, 0, NEAP_EV_ALLOC, 0x10, 1, 1);
    feed_end(app, NEAP_EXIT_EXITED, 0);
    feed_finish(ingest, 1);
    ask_consistent(db);
    assert_string_equal(ask_text(db, FRAMES("1")), "small large f_20 - main");
    assert_string_equal(
        ask_text(db,
                 "SELECT group_concat(coalesce(module, '-') || ' ' || offset || ' ' "
                 "|| coalesce(file || ':' || line, '-') || ' ' || inlined, ', ') "
                 "FROM (SELECT * FROM frame ORDER BY depth)"),
        "/bin/app 16 /bin/app.c:16 1, /bin/app 16 /bin/app.c:16 0, /bin/app 32 "
        "/bin/app.c:32 0, - 3145729 - 0, /bin/app 48 /bin/app.c:48 0");
    assert_string_equal(ask_text(db, "SELECT path || ' ' || build_id FROM module"),
                        "/bin/app ab01");
}

/* Names that come late: rows are there without them and get them, ids stay. */
static void test_names_come_late(void **unused)
{
    const uint64_t pcs[] = {0x100011, 0x100021, 0x100031, 0};

    (void)unused;
    fake_symbolizer_name(0x10, "small|large");
    fake_symbolizer_name(0x20, "main");
    fake_symbolizer_name(0x30, "_start");
    fake_symbolizer_hold(true);
    feed_stack(app, 0, 1, 0, 0, pcs);
    feed_alloc(app, 0, NEAP_EV_ALLOC, 0x10, 1, 1);
    feed_commit(ingest, 1);
    ask_consistent(db);
    assert_string_equal(ask_text(db, FRAMES("1")), "- - -");
    assert_string_equal(ask_text(db, "SELECT frames FROM raw_stack"), "[1,2,3]");
    feed_commit(ingest, 2);
    assert_string_equal(ask_text(db, "SELECT frames FROM raw_stack"), "[1,2,3]");
    fake_symbolizer_hold(false);
    feed_commit(ingest, 3);
    assert_string_equal(ask_text(db, FRAMES("1")), "small large main");
    assert_string_equal(ask_text(db, "SELECT frames FROM raw_stack"), "[4,1,2]");
    assert_int_equal(fake_symbolizer_asked(), 3);
    ask_consistent(db);
}

/* A commit between a stack and the announcement of the module it is the first to meet.
 */
static void test_module_comes_late(void **unused)
{
    (void)unused;
    feed_stack(app, 0, 1, 0, 0, (const uint64_t[]){0x300011, 0x100021, 0});
    feed_alloc(app, 0, NEAP_EV_ALLOC, 0x10, 1, 1);
    feed_commit(ingest, 1);
    ask_consistent(db);
    feed_module(app, 0, 0, 0x300000, 0x400000, "/lib/late");
    feed_commit(ingest, 2);
    assert_string_equal(ask_text(db, FRAMES("(SELECT stack_id FROM site)")),
                        "f_10 f_20");
    ask_consistent(db);
}

/* Code made at run time is nobody's: it does not wait for ever, and not for an event.
 */
static void test_module_never_comes(void **unused)
{
    (void)unused;
    feed_stack(app, 0, 1, 0, 0, (const uint64_t[]){0x300011, 0x100021, 0});
    feed_alloc(app, 0, NEAP_EV_ALLOC, 0x10, 1, 1);
    feed_commit(ingest, 1);
    feed_commit(ingest, 3000000000);
    assert_string_equal(ask_text(db, FRAMES("(SELECT stack_id FROM site)")), "- f_20");
    ask_consistent(db);
}

static void test_finish_waits_for_names(void **unused)
{
    (void)unused;
    fake_symbolizer_hold(true);
    feed_stack(app, 0, 1, 0, 0, two_frames);
    feed_alloc(app, 0, NEAP_EV_ALLOC, 0x10, 1, 1);
    feed_end(app, NEAP_EXIT_EXITED, 0);
    feed_finish(ingest, 1);
    assert_string_equal(ask_text(db, FRAMES("1")), "f_10 f_20");
}

static void test_no_symbolizer(void **unused)
{
    (void)unused;
    fake_symbolizer_fail(true);
    feed_module(app, 0, 0, 0x200000, 0x300000, "/lib/other");
    feed_stack(app, 0, 1, 0, 0, (const uint64_t[]){0x100011, 0x200021, 0});
    feed_alloc(app, 0, NEAP_EV_ALLOC, 0x10, 1, 1);
    feed_end(app, NEAP_EXIT_EXITED, 0);
    feed_finish(ingest, 1);
    assert_string_equal(ask_text(db, FRAMES("1")), "- -");
    assert_int_equal(ask_number(db, "SELECT count(module) FROM frame"), 2);
    ask_consistent(db);
}

/* Two hashes, one list of frames: one stack and one row of numbers. */
static void test_equal_stacks(void **unused)
{
    (void)unused;
    feed_stack(app, 0, 1, 0, 0, two_frames);
    feed_alloc(app, 0, NEAP_EV_ALLOC, 0x10, 1, 1);
    feed_commit(ingest, 1);
    feed_stack(app, 0, 2, 5, 0, two_frames);
    feed_alloc(app, 0, NEAP_EV_ALLOC, 0x20, 10, 2);
    feed_commit(ingest, 2);
    ask_consistent(db);
    assert_int_equal(ask_number(db, "SELECT alloc_bytes FROM site"), 11);
    /* In another process as well, with another address of the same module. */
    struct neap_ingest_process *other = feed_start(ingest, 200);

    feed_module(other, 0, 0, 0x500000, 0x600000, "/bin/app");
    feed_stack(other, 0, 1, 0, 0, (const uint64_t[]){0x500011, 0x500021, 0});
    feed_alloc(other, 0, NEAP_EV_ALLOC, 0x10, 100, 1);
    feed_commit(ingest, 3);
    ask_consistent(db);
    assert_int_equal(ask_number(db, "SELECT count(*) FROM raw_stack"), 1);
    assert_int_equal(ask_number(db, "SELECT sum(alloc_bytes) FROM site WHERE stack_id ="
                                    " 1"),
                     111);
}

/* dlclose and dlopen: one address, two modules. */
static void test_module_generations(void **unused)
{
    const uint64_t pcs[] = {0x300011, 0};

    (void)unused;
    feed_module(app, 0, 1, 0x300000, 0x400000, "/lib/first");
    feed_stack(app, 0, 1, 1, 0, pcs);
    feed_alloc(app, 0, NEAP_EV_ALLOC, 0x10, 1, 1);
    feed_module(app, 0, 3, 0x300000, 0x400000, "/lib/second");
    feed_stack(app, 0, 2, 3, 0, pcs);
    feed_alloc(app, 0, NEAP_EV_ALLOC, 0x20, 1, 2);
    feed_commit(ingest, 1);
    assert_string_equal(ask_text(db, "SELECT group_concat(module, ' ') FROM (SELECT "
                                     "module FROM frame ORDER BY stack_id)"),
                        "/lib/first /lib/second");
}

/* An event may come before its frames do, and they may never come. */
static void test_stacks_late_and_never(void **unused)
{
    struct neap_tally tally;

    (void)unused;
    feed_alloc(app, 0, NEAP_EV_ALLOC, 0x10, 1, 1);
    feed_alloc(app, 0, NEAP_EV_ALLOC, 0x20, 10, 2);
    feed_map(app, 0, NEAP_MAP_MMAP, 0x9000, 4096, 1);
    feed_commit(ingest, 1);
    ask_consistent(db);
    assert_int_equal(ask_number(db, "SELECT alloc_bytes FROM site"), 11);
    assert_int_equal(ask_number(db, "SELECT truncated FROM raw_stack"), 1);
    assert_int_equal(ask_number(db, "SELECT count(*) FROM map_event"), 0);
    feed_stack(app, 1, 1, 0, 0, two_frames);
    feed_stack(app, 1, 2, 0, 0, (const uint64_t[]){0});
    feed_commit(ingest, 2);
    ask_consistent(db);
    assert_string_equal(ask_text(db,
                                 "SELECT group_concat(alloc_bytes, ' ') FROM (SELECT "
                                 "alloc_bytes FROM site ORDER BY stack_id)"),
                        "10 1");
    assert_int_equal(ask_number(db, "SELECT stack_id FROM map_event"), 2);
    feed_end(app, NEAP_EXIT_LOST, -1);
    feed_finish(ingest, 3);
    ask_consistent(db);
    assert_string_equal(ask_text(db, FRAMES("1")), "-");
    assert_string_equal(ask_text(db, "SELECT what || ' ' || count FROM loss"),
                        "stacks 1");
    neap_ingest_tally(ingest, &tally);
    assert_int_equal(tally.lost[NEAP_LOSS_STACKS], 1);
}

/* The row of sites without a stack goes when all of them have found theirs. */
static void test_last_unknown_stack(void **unused)
{
    (void)unused;
    feed_alloc(app, 0, NEAP_EV_ALLOC, 0x10, 1, 1);
    feed_commit(ingest, 1);
    feed_stack(app, 0, 1, 0, 0, two_frames);
    feed_commit(ingest, 2);
    ask_consistent(db);
    assert_int_equal(ask_number(db, "SELECT count(*) FROM site"), 1);
    assert_int_equal(ask_number(db, "SELECT stack_id FROM site"), 2);
}

static void test_truncated(void **unused)
{
    (void)unused;
    fake_symbolizer_name(0x20, "_start");
    feed_stack(app, 0, 1, 0, NEAP_STACK_TRUNCATED, two_frames);
    feed_alloc(app, 0, NEAP_EV_ALLOC, 0x10, 1, 1);
    feed_stack(app, 0, 2, 0, 0, two_frames);
    feed_alloc(app, 0, NEAP_EV_ALLOC, 0x20, 1, 2);
    feed_commit(ingest, 1);
    feed_commit(ingest, 2);
    assert_string_equal(ask_text(db, FRAMES("1")), "f_10 _start");
    assert_string_equal(ask_text(db, FRAMES("2")), "f_10");
    assert_string_equal(ask_text(db, "SELECT group_concat(truncated, ' ') FROM (SELECT "
                                     "truncated FROM raw_stack ORDER BY id)"),
                        "1 0");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_frames),
        TEST(test_names_come_late),
        TEST(test_module_comes_late),
        TEST(test_module_never_comes),
        TEST(test_finish_waits_for_names),
        TEST(test_no_symbolizer),
        TEST(test_equal_stacks),
        TEST(test_module_generations),
        TEST(test_stacks_late_and_never),
        TEST(test_last_unknown_stack),
        TEST(test_truncated),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

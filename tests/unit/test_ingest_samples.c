/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sampled recordings: what samples stand for, in rows; reallocs of sampled blocks; the
 * table of what is live, which makes good what was lost; targets that write nonsense.
 *
 * Links: tests/unit/feed.c tests/unit/scratch.c tests/unit/fake_symbolizer.c
 * Links: tests/unit/event_rows.c tests/unit/event_model.c
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "schema/base/weigh.h"
#include "schema/store/store.h"
#include "schema/wire/table.h"
#include "tests/unit/event_rows.h"
#include "tests/unit/fake_symbolizer.h"
#include "tests/unit/feed.h"
#include "tests/unit/scratch.h"

#define BASE 1000

static sqlite3 *db;
static struct neap_ingest *ingest;
static struct neap_ingest_process *app;

static void start(uint64_t interval)
{
    db = feed_open(scratch_path("a.neap"));
    ingest = feed_create_with(db, interval, 1 << 30);
    app = feed_start(ingest, 100);
    feed_module(app, 0, 0, 0x100000, 0x200000, "/bin/app");
    feed_thread(app, 0, 100, "app");
    feed_thread(app, 1, 101, "other");
    for (uint64_t hash = 0; hash < EVENT_MODEL_HASHES; hash++)
        feed_stack(app, 0, hash, 0, 0, (const uint64_t[]){0x100011 + 16 * hash, 0});
}

static int setup(void **state)
{
    if (scratch_setup(state))
        return -1;
    fake_symbolizer_reset();
    start(BASE);
    return 0;
}

static void stop(void)
{
    neap_ingest_destroy(ingest);
    neap_store_close(db);
}

static int teardown(void **state)
{
    stop();
    return scratch_teardown(state);
}

/* Insist that `sql` gives a number near `value`. */
static void ask_near(const char *sql, double value)
{
    double got = strtod(ask_text(db, sql), NULL);

    if (!(fabs(got - value) <= 1e-9 * fabs(value)))
        fail_msg("%s: %.17g is not %.17g", sql, got, value);
}

/* Sites add up to their processes: bytes exactly, blocks but for rounding. */
static void ask_adds_up(void)
{
    assert_int_equal(
        ask_number(db, "SELECT count(*) FROM raw_process p WHERE (live_bytes,"
                       " peak_bytes) IS NOT (SELECT sum(live_bytes), sum(peak_bytes)"
                       " FROM raw_site WHERE process = p.id)"),
        0);
    assert_int_equal(
        ask_number(db, "SELECT count(*) FROM raw_process p JOIN (SELECT process,"
                       " sum(live_count) AS live, sum(peak_count) AS peak, count(*) AS"
                       " rows, sum(live_variance) AS lv, sum(peak_variance) AS pv FROM"
                       " raw_site GROUP BY process) s ON s.process = p.id WHERE"
                       " abs(p.live_count - s.live) > rows OR abs(p.peak_count -"
                       " s.peak) > rows OR abs(lv - p.live_variance) > 1e-6 * lv + 1 OR"
                       " abs(pv - p.peak_variance) > 1e-6 * pv + 1"),
        0);
    assert_int_equal(ask_number(db,
                                "SELECT count(*) FROM raw_site WHERE"
                                " live_bytes <> alloc_bytes - free_bytes OR"
                                " abs(live_count - (alloc_count - free_count)) > 1"),
                     0);
    assert_int_equal(
        ask_number(db, "SELECT count(*) FROM raw_site s JOIN raw_process p ON p.id ="
                       " s.process WHERE p.exit_kind <> 'running' AND s.live_bytes <>"
                       " (SELECT coalesce(sum(weight), 0) FROM raw_live l WHERE"
                       " l.process = p.id AND l.stack = s.stack)"),
        0);
}

static void finish(void)
{
    feed_end(app, NEAP_EXIT_EXITED, 0);
    feed_finish(ingest, 100000);
    ask_adds_up();
}

static struct neap_table_slot slot_of(uint64_t size, uint64_t hash)
{
    return (struct neap_table_slot){
        .size = size, .stack = hash, .interval = BASE, .ts_ns = 1500, .tid = 101};
}

/* ---- what samples stand for ---- */

static void test_weights(void **unused)
{
    struct neap_weight small = neap_weigh(50, BASE), medium = neap_weigh(700, 4 * BASE),
                       large = neap_weigh(90000, BASE);
    uint64_t count = small.count + medium.count + large.count;
    struct neap_tally tally;
    char live[256];

    (void)unused;
    feed_time(app, 0, 2000);
    feed_sample(app, 0, 0x1000, 50, 1, BASE, 0);
    feed_sample(app, 0, 0x2000, 700, 1, 4 * BASE, 0);
    feed_sample(app, 1, 0x3000, 90000, 1, BASE, 0);
    feed_sample(app, 0, 0x4000, 50, 1, 2 * BASE, 0);
    feed_sample_free(app, 0, 0x4000, NEAP_SAMPLE_TEMPORARY);
    assert_int_equal(neap_ingest_samples(ingest), 4);
    neap_ingest_tally(ingest, &tally);
    assert_int_equal(tally.live_bytes, small.bytes + medium.bytes + large.bytes);
    assert_int_equal(tally.live_count, neap_weight_blocks(count));
    assert_int_equal(tally.alloc_bytes,
                     tally.live_bytes + neap_weigh(50, 2 * BASE).bytes);
    assert_int_equal(tally.alloc_count,
                     neap_weight_blocks(count + neap_weigh(50, 2 * BASE).count));
    finish();
    ask_near("SELECT live_variance FROM site",
             small.variance + medium.variance + large.variance);
    ask_near("SELECT alloc_variance FROM site", small.variance + medium.variance +
                                                    large.variance +
                                                    neap_weigh(50, 2 * BASE).variance);
    ask_near("SELECT temporary_variance FROM site", neap_weigh(50, 2 * BASE).variance);
    ask_near("SELECT temporary_bytes FROM site",
             (double)neap_weigh(50, 2 * BASE).bytes);
    ask_near("SELECT temporary_count FROM site",
             (double)neap_weight_blocks(neap_weigh(50, 2 * BASE).count));
    assert_int_equal(ask_number(db, "SELECT interval FROM process"), 4 * BASE);
    assert_string_equal(ask_text(db, "SELECT mode || interval FROM recording"),
                        "sampled1000");
    snprintf(live, sizeof(live), "50 1000 %llu, 700 4000 %llu, 90000 1000 %llu",
             (unsigned long long)small.bytes, (unsigned long long)medium.bytes,
             (unsigned long long)large.bytes);
    assert_string_equal(
        ask_text(db, "SELECT group_concat(size || ' ' || interval || ' ' || weight, ', "
                     "') FROM (SELECT * FROM live ORDER BY size)"),
        live);
}

/* Only its thread knows whether a sampled block was temporary: the flag says so. */
static void test_temporary_is_a_flag(void **unused)
{
    (void)unused;
    feed_sample(app, 0, 0x1000, 5000, 1, BASE, 0);
    feed_sample_free(app, 0, 0x1000, 0);
    feed_sample(app, 0, 0x1000, 5000, 1, BASE, 0);
    feed_sample(app, 0, 0x2000, 5000, 1, BASE, 0);
    feed_sample_free(app, 1, 0x1000, NEAP_SAMPLE_TEMPORARY);
    finish();
    assert_int_equal(ask_number(db, "SELECT temporary_count FROM site"), 1);
}

/* Intervals that are no doublings are taken for the nearest below. */
static void test_odd_intervals(void **unused)
{
    static const uint64_t intervals[][2] = {{1, BASE},
                                            {BASE - 1, BASE},
                                            {BASE, BASE},
                                            {2 * BASE - 1, BASE},
                                            {2 * BASE, 2 * BASE},
                                            {3 * BASE, 2 * BASE},
                                            {BASE << 20, BASE << 20}};
    char sql[128];

    (void)unused;
    for (uint64_t i = 0; i < NEAP_ARRAY_LEN(intervals); i++)
        feed_sample(app, 0, 0x1000 + 16 * i, 5, 1, intervals[i][0], 0);
    finish();
    for (uint64_t i = 0; i < NEAP_ARRAY_LEN(intervals); i++) {
        snprintf(sql, sizeof(sql), "SELECT interval FROM live WHERE address = %llu",
                 0x1000ull + 16 * i);
        assert_int_equal(ask_number(db, sql), intervals[i][1]);
    }
}

/* ---- reallocs ---- */

static void test_reallocs(void **unused)
{
    (void)unused;
    feed_sample(app, 0, 0x1000, 8000, 1, BASE, 0);
    /* Into a block that is not sampled. */
    feed_sample_free(app, 0, 0x1000, NEAP_SAMPLE_REALLOC);
    feed_realloc_done(app, 0);
    /* Into one that is. */
    feed_sample(app, 0, 0x1000, 9000, 1, BASE, 0);
    feed_sample_free(app, 0, 0x1000, NEAP_SAMPLE_REALLOC | NEAP_SAMPLE_TEMPORARY);
    feed_realloc_done(app, 0);
    feed_sample(app, 0, 0x2000, 10000, 1, BASE, NEAP_SAMPLE_REALLOC);
    /* Into none: as if nothing had been. */
    feed_sample_free(app, 0, 0x2000, NEAP_SAMPLE_REALLOC | NEAP_SAMPLE_TEMPORARY);
    feed_free(app, 0, NEAP_EV_REALLOC_FAIL, 0x2000);
    finish();
    assert_string_equal(ask_text(db, "SELECT alloc_count || ' ' || alloc_bytes || ' ' "
                                     "|| free_count || ' ' || live_bytes || ' ' || "
                                     "temporary_count || ' ' || temporary_bytes FROM "
                                     "site"),
                        "3 27004 2 10000 1 9002");
    assert_int_equal(ask_number(db, "SELECT foreign_free_count FROM process"), 0);
    assert_int_equal(ask_number(db, "SELECT count(*) FROM loss"), 0);
    assert_int_equal(event_rows_check(db, 1, NULL), 0);
    assert_int_equal(ask_number(db, "SELECT event_count FROM process"), 7);
}

/* A signal handler that allocates in the middle of a realloc does not answer it. */
static void test_sample_in_the_middle_of_a_realloc(void **unused)
{
    (void)unused;
    feed_sample(app, 0, 0x1000, 8000, 1, BASE, 0);
    feed_sample_free(app, 0, 0x1000, NEAP_SAMPLE_REALLOC);
    feed_sample(app, 0, 0x2000, 9000, 1, BASE, 0);
    feed_free(app, 0, NEAP_EV_REALLOC_FAIL, 0x1000);
    finish();
    assert_int_equal(ask_number(db, "SELECT count(*) FROM live"), 2);
    assert_int_equal(ask_number(db, "SELECT count(*) FROM loss"), 0);
}

/* An answer that was lost: the sample that it came with says as much. */
static void test_realloc_without_its_answer(void **unused)
{
    (void)unused;
    feed_sample(app, 0, 0x1000, 8000, 1, BASE, 0);
    feed_sample_free(app, 0, 0x1000, NEAP_SAMPLE_REALLOC);
    feed_sample(app, 0, 0x2000, 9000, 1, BASE, NEAP_SAMPLE_REALLOC);
    feed_thread_end(app, 0);
    finish();
    assert_int_equal(ask_number(db, "SELECT address FROM live"), 0x2000);
}

/* ---- the table ---- */

static void test_heal(void **unused)
{
    struct neap_table_slot slots[] = {slot_of(8000, 1), slot_of(9000, 2)};

    (void)unused;
    feed_time(app, 0, 2000);
    feed_sample(app, 0, 0x1000, 8000, 1, BASE, 0); /* still there */
    feed_sample(app, 0, 0x2000, 50, 1, BASE, 0);   /* its free was lost */
    feed_sample(app, 0, 0x3000, 8000, 1, BASE, 0); /* a realloc without its answer */
    feed_sample_free(app, 0, 0x3000, NEAP_SAMPLE_REALLOC);
    neap_ingest_alive(app, 0x1000, &slots[0]);
    neap_ingest_alive(app, 0x4000, &slots[1]); /* its sample was lost */
    neap_ingest_alive(app, 0x4000, &slots[1]); /* once is enough */
    neap_ingest_heal(app);
    finish();
    assert_string_equal(ask_text(db, "SELECT group_concat(address || ' ' || size || ' '"
                                     " || tid, ', ') FROM (SELECT * FROM live ORDER BY "
                                     "address)"),
                        "4096 8000 100, 16384 9000 101");
    /* One free was not seen, for however many blocks its sample stood. */
    assert_string_equal(ask_text(db, "SELECT what || ' ' || count || ' ' || bytes FROM "
                                     "loss"),
                        "events 1 50");
    assert_int_equal(event_rows_check(db, 1, NULL), 0);
}

/* What the target has counted as lost explains what the table shows. */
static void test_heal_of_what_is_counted(void **unused)
{
    (void)unused;
    feed_sample(app, 0, 0x1000, 8000, 1, BASE, 0);
    feed_sample(app, 0, 0x2000, 8000, 1, BASE, 0);
    neap_ingest_heal(app);
    neap_ingest_loss(ingest, app, "events", 2, 0);
    finish();
    assert_int_equal(ask_number(db, "SELECT count(*) FROM live"), 0);
    assert_int_equal(ask_number(db, "SELECT count FROM loss"), 2);
}

/* A block that stands for itself is not in the table, and not missed there. */
static void test_heal_leaves_exact_blocks(void **unused)
{
    (void)unused;
    feed_alloc(app, 0, NEAP_EV_ALLOC, 0x1000, 50, 1);
    neap_ingest_heal(app);
    finish();
    assert_string_equal(ask_text(db, "SELECT size || ' ' || weight || ' ' || interval "
                                     "FROM live"),
                        "50 50 0");
}

/* ---- nonsense ---- */

static void test_hostile_samples(void **unused)
{
    struct neap_table_slot slots[] = {slot_of(1ull << 48, 1), slot_of(5, 1),
                                      slot_of(5, 1)};

    (void)unused;
    feed_sample(app, 0, 0, 50, 1, BASE, 0);
    feed_sample(app, 0, 0x1000, 1ull << 48, 1, BASE, 0);
    feed_sample(app, 0, 0x1000, UINT64_MAX, 1, BASE, 0);
    feed_sample(app, 0, 0x1000, 50, 1, NEAP_INTERVAL_MAX + 1, 0);
    feed_sample(app, 0, 0x1000, 50, 1, UINT64_MAX, UINT32_MAX);
    feed_sample_free(app, 0, 0, UINT32_MAX); /* foreign, and ends in nothing */
    feed_free(app, 0, NEAP_EV_REALLOC_FAIL, 0x1234);
    slots[1].interval = 0;
    slots[2].interval = UINT64_MAX;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(slots); i++)
        neap_ingest_alive(app, 0x5000 + 16 * i, &slots[i]);
    slots[0].size = 5;
    neap_ingest_alive(app, 0, &slots[0]);
    neap_ingest_heal(app);
    feed_end(app, NEAP_EXIT_EXITED, 0);
    feed_finish(ingest, 1);
    assert_int_equal(ask_number(db, "SELECT count FROM loss WHERE what = 'corrupt'"),
                     6);
    /* An interval of less than the first is none; it is taken for the first. */
    assert_string_equal(ask_text(db, "SELECT size || ' ' || interval FROM live"),
                        "5 1000");
    assert_int_equal(ask_number(db, "SELECT interval FROM process"), BASE);
}

/* The same address twice: it was freed in between, unseen. */
static void test_an_address_twice(void **unused)
{
    (void)unused;
    for (int i = 0; i < 5; i++)
        feed_sample(app, 0, 0x1000, 50, 1, BASE << i, 0);
    finish();
    assert_int_equal(ask_number(db, "SELECT interval FROM live"), BASE << 4);
    assert_string_equal(ask_text(db, "SELECT what || ' ' || count || ' ' || bytes FROM "
                                     "loss"),
                        "events 4 200");
    assert_int_equal(event_rows_check(db, 1, NULL), 0);
}

/* Samples in an exact recording count as what they are, blocks. */
static void test_samples_in_an_exact_recording(void **unused)
{
    (void)unused;
    stop();
    start(0);
    feed_sample(app, 0, 0x1000, 50, 1, BASE, 0);
    feed_sample(app, 0, 0x2000, 60, 1, UINT64_MAX >> 30, 0);
    feed_sample_free(app, 0, 0x1000, 0);
    feed_end(app, NEAP_EXIT_EXITED, 0);
    feed_finish(ingest, 1);
    ask_consistent(db);
    assert_int_equal(ask_number(db, "SELECT alloc_bytes FROM site"), 110);
    assert_int_equal(ask_number(db, "SELECT interval FROM process"), 0);
}

/* ---- at random ---- */

static uint64_t state;

static uint64_t draw(uint64_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (state >> 20) % below;
}

/* Any order of any samples: rows add up at each commit, and events to live bytes. */
static void test_random(void **unused)
{
    (void)unused;
    state = 88172645463325252u;
    for (int i = 0; i < 40000; i++) {
        uint32_t lane = (uint32_t)draw(2), flags = (uint32_t)draw(4);
        uint64_t address = 0x1000 + 16 * draw(300);

        switch (draw(8)) {
        case 0:
        case 1:
        case 2:
            feed_sample(app, lane, address, draw(3) ? draw(100) : draw(20000), draw(40),
                        BASE << draw(4), flags & NEAP_SAMPLE_REALLOC);
            break;
        case 3:
            feed_free(app, lane, NEAP_EV_REALLOC_FAIL, address);
            break;
        case 4:
            feed_realloc_done(app, lane);
            break;
        default:
            feed_sample_free(app, lane, address, flags);
            break;
        }
        if (draw(4000) == 0) {
            feed_commit(ingest, (uint64_t)i);
            ask_adds_up();
        }
    }
    for (uint64_t i = 0; i < 300; i += 3) {
        struct neap_table_slot slot = slot_of(i, i % 40);

        neap_ingest_alive(app, 0x1000 + 16 * i, &slot);
    }
    neap_ingest_heal(app);
    finish();
    assert_int_equal(ask_number(db, "SELECT count(*) FROM live WHERE (address - 4096) %"
                                    " 48 = 0"),
                     100);
    assert_int_equal(ask_number(db, "SELECT count(*) FROM live"), 100);
    assert_true(ask_number(db, "SELECT peak_event BETWEEN 1 AND event_count AND "
                               "peak_event_other BETWEEN 1 AND event_count FROM "
                               "raw_process"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_weights),
        TEST(test_temporary_is_a_flag),
        TEST(test_odd_intervals),
        TEST(test_reallocs),
        TEST(test_sample_in_the_middle_of_a_realloc),
        TEST(test_realloc_without_its_answer),
        TEST(test_heal),
        TEST(test_heal_of_what_is_counted),
        TEST(test_heal_leaves_exact_blocks),
        TEST(test_hostile_samples),
        TEST(test_an_address_twice),
        TEST(test_samples_in_an_exact_recording),
        TEST(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

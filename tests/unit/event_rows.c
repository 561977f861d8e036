/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/event_rows.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/feed.h"

#define SITES_MAX 4096

struct check {
    sqlite3 *db;
    int64_t process;
    const struct event_model *model;
    uint64_t interval;  /* of the recording */
    uint64_t first, at; /* numbers of events */
    uint64_t ts_ns, live_bytes, foreign;
    int64_t hash_of[SITES_MAX]; /* by site, -1 where no stack is known */
    struct event_sums sums[EVENT_MODEL_HASHES];
};

static int64_t of_process(const struct check *check, const char *column)
{
    char sql[256];

    snprintf(sql, sizeof(sql), "SELECT %s FROM raw_process WHERE id = %lld", column,
             (long long)check->process);
    return ask_number(check->db, sql);
}

static sqlite3_stmt *prepare(const struct check *check, const char *sql)
{
    sqlite3_stmt *stmt = NULL;

    if (sqlite3_prepare_v2(check->db, sql, -1, &stmt, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(check->db));
    sqlite3_bind_int64(stmt, 1, check->process);
    return stmt;
}

static void load_sites(struct check *check)
{
    sqlite3_stmt *stmt =
        prepare(check, "SELECT e.site, f.offset FROM raw_event_site e JOIN frame f ON"
                       " f.stack_id = e.stack AND f.depth = 0 WHERE e.process = ?1");

    memset(check->hash_of, 0xff, sizeof(check->hash_of));
    while (sqlite3_step(stmt) == SQLITE_ROW) {
        int64_t site = sqlite3_column_int64(stmt, 0);

        assert_in_range(site, 0, SITES_MAX - 1);
        check->hash_of[site] = (sqlite3_column_int64(stmt, 1) - 0x10) / 16;
    }
    sqlite3_finalize(stmt);
}

static void check_event(struct check *check, const struct neap_chunk_event *event)
{
    assert_true(event->ts_ns >= check->ts_ns);
    check->ts_ns = event->ts_ns;
    check->live_bytes += (uint64_t)event_delta(event, check->interval);
    if (event->site == NEAP_CHUNK_NONE) {
        assert_int_equal(event->op & NEAP_CHUNK_KIND, NEAP_CHUNK_FOREIGN);
        check->foreign++;
    } else if (event->site < SITES_MAX && check->hash_of[event->site] >= 0) {
        event_sum(&check->sums[check->hash_of[event->site] % EVENT_MODEL_HASHES],
                  event);
    }
    if (check->model) {
        const struct neap_chunk_event *expected = &check->model->events[check->at];

        assert_int_equal(event->op, expected->op);
        assert_int_equal(event->ts_ns, expected->ts_ns);
        assert_int_equal(event->address, expected->address);
        assert_int_equal(event->size, expected->size);
        assert_int_equal(event->tid, expected->tid);
        assert_int_equal(event->owner, expected->owner);
        assert_int_equal(event->shift, expected->shift);
        if (expected->site == NEAP_CHUNK_NONE)
            assert_true(event->site == NEAP_CHUNK_NONE);
        else
            assert_int_equal(check->hash_of[event->site], expected->site);
    }
    check->at++;
}

/* first, count, t0, t1, live_bytes, data */
static void check_row(struct check *check, struct neap_chunk_reader *reader,
                      sqlite3_stmt *row)
{
    const struct neap_chunk_event *events = NULL;
    uint32_t count = (uint32_t)sqlite3_column_int64(row, 1);
    struct neap_error *error;

    assert_int_equal(sqlite3_column_int64(row, 0), check->at);
    assert_in_range(count, 1, NEAP_CHUNK_EVENTS);
    if (check->at == check->first)
        check->live_bytes = (uint64_t)sqlite3_column_int64(row, 4);
    assert_int_equal(sqlite3_column_int64(row, 4), check->live_bytes);
    error = neap_chunk_decode(reader, sqlite3_column_blob(row, 5),
                              (size_t)sqlite3_column_bytes(row, 5), count, &events);
    if (error)
        fail_msg("%s", error->message);
    assert_int_equal(sqlite3_column_int64(row, 2), events[0].ts_ns);
    assert_int_equal(sqlite3_column_int64(row, 3), events[count - 1].ts_ns);
    for (uint32_t i = 0; i < count; i++)
        check_event(check, &events[i]);
}

/* Sums of all events against the rows of raw_site, as far as stacks are known. */
static void check_sites(const struct check *check, const struct event_sums *sums)
{
    sqlite3_stmt *stmt =
        prepare(check, "SELECT s.alloc_count, s.alloc_bytes, s.free_count,"
                       " s.free_bytes, s.temporary_count, s.temporary_bytes, f.offset"
                       " FROM raw_site s JOIN frame f ON f.stack_id = s.stack AND"
                       " f.depth = 0 WHERE s.process = ?1 AND f.module IS NOT NULL");

    while (sqlite3_step(stmt) == SQLITE_ROW) {
        uint64_t hash = (uint64_t)(sqlite3_column_int64(stmt, 6) - 0x10) / 16;
        const struct event_sums *sum = &sums[hash % EVENT_MODEL_HASHES];
        const uint64_t *numbers = &sum->alloc_count;

        for (int i = 0; i < 6; i++)
            assert_int_equal(sqlite3_column_int64(stmt, i), numbers[i]);
    }
    sqlite3_finalize(stmt);
}

uint64_t event_rows_check(sqlite3 *db, int64_t process, const struct event_model *model)
{
    struct check *check = calloc(1, sizeof(*check));
    struct neap_chunk_reader *reader = NULL;
    uint64_t first;
    sqlite3_stmt *row;

    assert_non_null(check);
    *check = (struct check){.db = db, .process = process, .model = model};
    assert_null(neap_chunk_reader_create(&reader));
    load_sites(check);
    check->interval = (uint64_t)ask_number(db, "SELECT interval FROM raw_recording");
    first = check->first = check->at = (uint64_t)of_process(check, "event_first");
    check->ts_ns = (uint64_t)of_process(check, "event_first_ns");
    row = prepare(check, "SELECT first, count, t0, t1, live_bytes, data FROM raw_events"
                         " WHERE process = ?1 AND first >= (SELECT event_first FROM"
                         " raw_process WHERE id = ?1) ORDER BY first");
    while (sqlite3_step(row) == SQLITE_ROW)
        check_row(check, reader, row);
    sqlite3_finalize(row);
    neap_chunk_reader_destroy(reader);
    assert_int_equal(of_process(check, "event_count"), check->at);
    if (first < check->at)
        assert_int_equal(of_process(check, "live_bytes"), check->live_bytes);
    if (model)
        assert_int_equal(model->count, check->at);
    /* Whatever is later than event_first_ns is there. */
    if (model && first > 0)
        assert_true((uint64_t)of_process(check, "event_first_ns") >=
                    model->events[first - 1].ts_ns);
    if (first == 0 && !check->interval)
        check_sites(check, check->sums);
    free(check);
    return first;
}

void event_rows_check_totals(sqlite3 *db, int64_t process,
                             const struct event_model *model)
{
    struct check check = {.db = db, .process = process};

    assert_int_equal(of_process(&check, "event_count"), model->count);
    assert_int_equal(of_process(&check, "peak_event"), model->peak_event);
    assert_int_equal(of_process(&check, "peak_bytes"), model->peak_bytes);
    assert_int_equal(of_process(&check, "live_bytes"), model->live_bytes);
    assert_int_equal(of_process(&check, "foreign_free_count"), model->foreign);
    check_sites(&check, model->sums);
}

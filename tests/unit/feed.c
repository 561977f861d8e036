/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "schema/store/store.h"
#include "tests/unit/feed.h"

static void no_error(struct neap_error *err)
{
    if (err)
        fail_msg("%s", err->message);
}

sqlite3 *feed_open(const char *path)
{
    sqlite3 *db = NULL;

    unlink(path);
    no_error(neap_store_create(path, false, &db));
    return db;
}

struct neap_ingest *feed_create(sqlite3 *db)
{
    return feed_create_with(db, 0, 0);
}

struct neap_ingest *feed_create_with(sqlite3 *db, uint64_t interval, uint64_t max_size)
{
    struct neap_recording_info info = {.version = "1.0",
                                       .command = "[\"app\"]",
                                       .start_utc = "2024-01-01T00:00:00.000000Z",
                                       .policy = "block",
                                       .interval = interval,
                                       .max_size = max_size};
    struct neap_ingest *ingest = NULL;

    no_error(neap_ingest_create(db, &info, &ingest));
    return ingest;
}

struct neap_ingest_process *feed_start(struct neap_ingest *ingest, int32_t pid)
{
    struct neap_tally tally;
    struct neap_process_info info = {.pid = pid,
                                     .ppid = 1,
                                     .exe = "/bin/app",
                                     .command = "[\"app\"]",
                                     .allocator = "glibc",
                                     .unwinder = "libunwind",
                                     .start_ns = 1000};
    struct neap_ingest_process *process = NULL;

    neap_ingest_tally(ingest, &tally);
    info.main = tally.programs == 0;
    no_error(neap_ingest_start(ingest, &info, &process));
    return process;
}

uint64_t feed_lost(const struct neap_tally *tally)
{
    uint64_t sum = 0;

    for (int i = 0; i < NEAP_LOSS_COUNT; i++)
        sum += tally->lost[i];
    return sum;
}

void feed_end(struct neap_ingest_process *process, enum neap_exit_kind kind,
              int32_t code)
{
    struct neap_process_end end = {
        .end_ns = 9000000, .kind = kind, .has_code = code >= 0, .code = code};

    neap_ingest_end(process, &end);
}

void feed_commit(struct neap_ingest *ingest, uint64_t now_ns)
{
    no_error(neap_ingest_commit(ingest, now_ns));
}

void feed_finish(struct neap_ingest *ingest, uint64_t now_ns)
{
    no_error(neap_ingest_finish(ingest, now_ns, true));
}

static void feed(struct neap_ingest_process *process, uint32_t lane, const void *record,
                 uint32_t length)
{
    struct neap_event event;

    assert_int_equal(neap_decode(record, length, &event), NEAP_DECODE_OK);
    neap_ingest_event(process, lane, &event);
}

void feed_time(struct neap_ingest_process *process, uint32_t lane, uint64_t now_ns)
{
    struct neap_ev_time record = {.head = neap_ev_head(NEAP_EV_TIME, 0, 0),
                                  .now_ns = now_ns};

    feed(process, lane, &record, sizeof(record));
}

void feed_thread(struct neap_ingest_process *process, uint32_t lane, uint32_t tid,
                 const char *name)
{
    struct neap_ev_thread record = {.head = neap_ev_head(NEAP_EV_THREAD, 0, 0),
                                    .tid = tid};

    memcpy(record.name, name,
           strlen(name) < sizeof(record.name) ? strlen(name) : sizeof(record.name));
    feed(process, lane, &record, sizeof(record));
}

void feed_thread_end(struct neap_ingest_process *process, uint32_t lane)
{
    uint64_t record = neap_ev_head(NEAP_EV_THREAD_END, 0, 0);

    feed(process, lane, &record, sizeof(record));
}

void feed_module(struct neap_ingest_process *process, uint32_t lane,
                 uint32_t generation, uint64_t start, uint64_t end, const char *path)
{
    uint64_t words[64] = {0};
    struct neap_ev_module *record = (struct neap_ev_module *)words;

    record->head = neap_ev_head(NEAP_EV_MODULE, 0, 0);
    record->bias = start;
    record->start = start;
    record->end = end;
    record->generation = generation;
    record->build_id_len = 2;
    record->path_len = (uint16_t)strlen(path);
    assert_true(strlen(path) < 400);
    memcpy(record->bytes, "\xab\x01", 2);
    memcpy(record->bytes + 2, path, strlen(path));
    feed(process, lane, words, sizeof(words));
}

void feed_stack(struct neap_ingest_process *process, uint32_t lane, uint64_t hash,
                uint32_t generation, unsigned flags, const uint64_t *pcs)
{
    uint64_t words[3 + NEAP_STACK_DEPTH_MAX];
    struct neap_ev_stack *record = (struct neap_ev_stack *)words;

    record->head = neap_ev_head(NEAP_EV_STACK, 0, 0);
    record->hash = hash;
    record->generation = generation;
    record->flags = (uint16_t)flags;
    for (record->depth = 0; pcs[record->depth]; record->depth++)
        record->pc[record->depth] = pcs[record->depth];
    feed(process, lane, words, sizeof(words));
}

void feed_alloc(struct neap_ingest_process *process, uint32_t lane,
                enum neap_ev_kind kind, uint64_t address, uint64_t size, uint64_t hash)
{
    struct neap_ev_alloc record = {.head = neap_ev_head(kind, 0, 0),
                                   .address = address,
                                   .size = size,
                                   .stack = hash};

    feed(process, lane, &record, sizeof(record));
}

void feed_free(struct neap_ingest_process *process, uint32_t lane,
               enum neap_ev_kind kind, uint64_t address)
{
    struct neap_ev_free record = {.head = neap_ev_head(kind, 0, 0), .address = address};

    feed(process, lane, &record, sizeof(record));
}

void feed_sample(struct neap_ingest_process *process, uint32_t lane, uint64_t address,
                 uint64_t size, uint64_t hash, uint64_t interval, uint32_t flags)
{
    struct neap_ev_sample record = {.head = neap_ev_head(NEAP_EV_SAMPLE, 0, 0),
                                    .address = address,
                                    .size = size,
                                    .stack = hash,
                                    .interval = interval,
                                    .flags = flags};

    feed(process, lane, &record, sizeof(record));
}

void feed_sample_free(struct neap_ingest_process *process, uint32_t lane,
                      uint64_t address, uint32_t flags)
{
    struct neap_ev_sample_free record = {.head =
                                             neap_ev_head(NEAP_EV_SAMPLE_FREE, 0, 0),
                                         .address = address,
                                         .flags = flags};

    feed(process, lane, &record, sizeof(record));
}

void feed_realloc_done(struct neap_ingest_process *process, uint32_t lane)
{
    uint64_t record = neap_ev_head(NEAP_EV_REALLOC_DONE, 0, 0);

    feed(process, lane, &record, sizeof(record));
}

void feed_map(struct neap_ingest_process *process, uint32_t lane, enum neap_map_op op,
              uint64_t address, uint64_t size, uint64_t hash)
{
    struct neap_ev_map record = {.head = neap_ev_head(NEAP_EV_MAP, 0, 0),
                                 .address = address,
                                 .size = size,
                                 .op = op,
                                 .fd = -1,
                                 .stack = hash};

    feed(process, lane, &record, sizeof(record));
}

void feed_map_event(struct neap_ingest_process *process, uint32_t lane,
                    const struct neap_ev_map *event)
{
    struct neap_ev_map record = *event;

    record.head = neap_ev_head(NEAP_EV_MAP, 0, 0);
    feed(process, lane, &record, sizeof(record));
}

void feed_memory_error(struct neap_ingest_process *process, uint32_t lane,
                       const struct neap_ev_memory_error *event)
{
    struct neap_ev_memory_error record = *event;

    record.head = neap_ev_head(NEAP_EV_MEMORY_ERROR, 0, 0);
    feed(process, lane, &record, sizeof(record));
}

void feed_exit(struct neap_ingest_process *process, uint32_t lane, int64_t code)
{
    struct neap_ev_exit record = {.head = neap_ev_head(NEAP_EV_EXIT, 0, 0),
                                  .code = code};

    feed(process, lane, &record, sizeof(record));
}

const char *ask_text(sqlite3 *db, const char *sql)
{
    static char text[4096];
    sqlite3_stmt *stmt = NULL;

    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    if (sqlite3_step(stmt) != SQLITE_ROW)
        fail_msg("%s: no row", sql);
    snprintf(text, sizeof(text), "%s",
             sqlite3_column_type(stmt, 0) == SQLITE_NULL
                 ? "NULL"
                 : (const char *)sqlite3_column_text(stmt, 0));
    if (sqlite3_step(stmt) != SQLITE_DONE)
        fail_msg("%s: more than one row", sql);
    sqlite3_finalize(stmt);
    return text;
}

int64_t ask_number(sqlite3 *db, const char *sql)
{
    const char *text = ask_text(db, sql);
    char *end;
    long long number = strtoll(text, &end, 10);

    if (end == text || *end)
        fail_msg("%s: '%s' is no number", sql, text);
    return number;
}

void ask_consistent(sqlite3 *db)
{
    assert_int_equal(
        ask_number(db, "SELECT count(*) FROM raw_process p WHERE"
                       " p.live_bytes <> (SELECT coalesce(sum(live_bytes), 0) FROM"
                       " raw_site WHERE process = p.id) OR"
                       " p.live_count <> (SELECT coalesce(sum(live_count), 0) FROM"
                       " raw_site WHERE process = p.id) OR"
                       " p.peak_bytes <> (SELECT coalesce(sum(peak_bytes), 0) FROM"
                       " raw_site WHERE process = p.id) OR"
                       " p.peak_count <> (SELECT coalesce(sum(peak_count), 0) FROM"
                       " raw_site WHERE process = p.id)"),
        0);
    assert_int_equal(ask_number(db, "SELECT count(*) FROM raw_site WHERE"
                                    " live_count <> alloc_count - free_count OR"
                                    " live_bytes <> alloc_bytes - free_bytes"),
                     0);
    assert_int_equal(
        ask_number(db,
                   "SELECT count(*) FROM raw_site s JOIN raw_process p ON p.id ="
                   " s.process WHERE p.exit_kind <> 'running' AND (s.live_count,"
                   " s.live_bytes) IS NOT (SELECT count(*), coalesce(sum(size), 0)"
                   " FROM raw_live l WHERE l.process = p.id AND l.stack = s.stack)"),
        0);
    assert_int_equal(ask_number(db,
                                "SELECT count(*) FROM raw_live WHERE (process, stack)"
                                " NOT IN (SELECT process, stack FROM raw_site)"),
                     0);
    assert_int_equal(ask_number(db, "SELECT count(*) FROM raw_site WHERE stack NOT IN"
                                    " (SELECT stack_id FROM frame)"),
                     0);
    assert_int_equal(ask_number(db,
                                "SELECT count(*) FROM raw_stack s, json_each(s.frames)"
                                " j WHERE j.value NOT IN (SELECT id FROM raw_frame)"),
                     0);
    assert_int_equal(
        ask_number(
            db,
            "SELECT count(*) FROM raw_frame WHERE module IS NOT NULL AND module NOT IN"
            " (SELECT id FROM raw_module)"),
        0);
}

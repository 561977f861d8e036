/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Put events into a recording that exists, for tests of those who read them:
 *
 *     make_events FILE CHUNK <EVENTS
 *
 * CHUNK is how many events a row holds at most. A line is a word and numbers:
 *
 *     process ID               what follows is of this row of raw_process
 *     OP TS TID OWNER ADDRESS SIZE SITE SHIFT
 *
 * where OP is a letter and flags: a (alloc), f (free), x (free of an unknown block),
 * u (a realloc failed), then r (half of a realloc), t (temporary), i (implied).
 * event_count of the processes follows; all other numbers are the caller's.
 */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schema/base/cleanup.h"
#include "schema/base/map.h"
#include "schema/base/weigh.h"
#include "schema/store/chunk.h"
#include "schema/store/store.h"

struct maker {
    sqlite3 *db;
    sqlite3_stmt *insert, *count;
    struct neap_chunk_encoder *encoder;
    struct neap_chunk chunk;
    struct neap_map refs; /* address -> row of its allocation */
    uint64_t interval;
    int64_t process, first, t0, t1, live_bytes, live_now;
};

static void die(const char *what)
{
    fprintf(stderr, "make_events: %s\n", what);
    exit(1);
}

static void must(struct neap_error *error)
{
    if (error)
        die(error->message);
}

static void step(sqlite3 *db, sqlite3_stmt *stmt)
{
    if (sqlite3_step(stmt) != SQLITE_DONE)
        die(sqlite3_errmsg(db));
    sqlite3_reset(stmt);
}

static void store_chunk(struct maker *maker)
{
    const void *blob = NULL;
    size_t length = 0;

    if (!maker->chunk.count)
        return;
    must(neap_chunk_encode(maker->encoder, &maker->chunk, &blob, &length));
    sqlite3_bind_int64(maker->insert, 1, maker->process);
    sqlite3_bind_int64(maker->insert, 2, maker->first);
    sqlite3_bind_int64(maker->insert, 3, maker->chunk.count);
    sqlite3_bind_int64(maker->insert, 4, maker->t0);
    sqlite3_bind_int64(maker->insert, 5, maker->t1);
    sqlite3_bind_int64(maker->insert, 6, maker->live_bytes);
    sqlite3_bind_blob(maker->insert, 7, blob, (int)length, SQLITE_STATIC);
    step(maker->db, maker->insert);
    maker->first += maker->chunk.count;
    maker->live_bytes = maker->live_now;
    neap_chunk_clear(&maker->chunk);
}

static void end_process(struct maker *maker)
{
    store_chunk(maker);
    if (maker->process) {
        sqlite3_bind_int64(maker->count, 1, maker->first);
        sqlite3_bind_int64(maker->count, 2, maker->process);
        step(maker->db, maker->count);
    }
    maker->first = maker->live_bytes = maker->live_now = 0;
    neap_map_deinit(&maker->refs);
}

static uint8_t op_of(const char *word)
{
    static const char kinds[] = "afxu";
    const char *kind = strchr(kinds, word[0]);
    uint8_t op;

    if (!kind || !word[0])
        die("an event of an unknown kind");
    op = (uint8_t)(kind - kinds);
    for (const char *flag = word + 1; *flag; flag++)
        op |= *flag == 'r'   ? NEAP_CHUNK_REALLOC
              : *flag == 't' ? NEAP_CHUNK_TEMPORARY
                             : NEAP_CHUNK_IMPLIED;
    return op;
}

static void add_event(struct maker *maker, const struct neap_chunk_event *event,
                      uint32_t most)
{
    uint64_t known = neap_map_get(&maker->refs, event->address);
    uint16_t ref = known == NEAP_MAP_NONE ? 0 : (uint16_t)known;
    unsigned kind = event->op & NEAP_CHUNK_KIND;
    int64_t weight =
        (int64_t)neap_weigh(event->size, neap_interval(maker->interval, event->shift))
            .bytes;

    if (maker->chunk.count == most)
        store_chunk(maker);
    if (!maker->chunk.count)
        maker->t0 = (int64_t)event->ts_ns;
    maker->t1 = (int64_t)event->ts_ns;
    if (!neap_chunk_append(&maker->chunk, event, &ref) ||
        (kind == NEAP_CHUNK_ALLOC && !neap_map_put(&maker->refs, event->address, ref)))
        die("no memory");
    if (kind == NEAP_CHUNK_ALLOC || kind == NEAP_CHUNK_UNDO)
        maker->live_now += weight;
    else if (kind == NEAP_CHUNK_FREE)
        maker->live_now -= weight;
}

static void read_events(struct maker *maker, uint32_t most)
{
    char line[256], word[16];

    while (fgets(line, sizeof(line), stdin)) {
        unsigned long long ts, address, size;
        struct neap_chunk_event event = {0};
        unsigned tid, owner, site, shift;
        long long process;

        if (sscanf(line, "process %lld", &process) == 1) {
            end_process(maker);
            maker->process = process;
            continue;
        }
        if (sscanf(line, "%15s %llu %u %u %llu %llu %u %u", word, &ts, &tid, &owner,
                   &address, &size, &site, &shift) != 8)
            die("a line that is neither a process nor an event");
        event = (struct neap_chunk_event){.ts_ns = ts,
                                          .address = address,
                                          .size = size,
                                          .site = site,
                                          .tid = tid,
                                          .owner = owner,
                                          .op = op_of(word),
                                          .shift = (uint8_t)shift};
        add_event(maker, &event, most);
    }
    end_process(maker);
}

static void prepare(struct maker *maker, const char *sql, sqlite3_stmt **ret)
{
    if (sqlite3_prepare_v2(maker->db, sql, -1, ret, NULL) != SQLITE_OK)
        die(sqlite3_errmsg(maker->db));
}

int main(int argc, char **argv)
{
    struct maker maker = {0};
    sqlite3_stmt *interval;
    long most = argc == 3 ? strtol(argv[2], NULL, 10) : 0;

    if (most < 1 || most > NEAP_CHUNK_EVENTS)
        die("usage: make_events FILE CHUNK <EVENTS");
    if (sqlite3_open(argv[1], &maker.db) != SQLITE_OK)
        die(sqlite3_errmsg(maker.db));
    must(neap_store_exec(maker.db, "BEGIN"));
    prepare(&maker, "SELECT interval FROM raw_recording", &interval);
    if (sqlite3_step(interval) == SQLITE_ROW)
        maker.interval = (uint64_t)sqlite3_column_int64(interval, 0);
    sqlite3_finalize(interval);
    prepare(&maker,
            "INSERT INTO raw_events (process, first, count, t0, t1, live_bytes, data)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            &maker.insert);
    prepare(&maker, "UPDATE raw_process SET event_count = ? WHERE id = ?",
            &maker.count);
    must(neap_chunk_encoder_create(&maker.encoder));
    read_events(&maker, (uint32_t)most);
    must(neap_store_exec(maker.db, "COMMIT"));
    neap_chunk_encoder_destroy(maker.encoder);
    neap_chunk_deinit(&maker.chunk);
    sqlite3_finalize(maker.insert);
    sqlite3_finalize(maker.count);
    sqlite3_close(maker.db);
    return 0;
}

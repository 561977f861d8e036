/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What chunks of events cost to write and to read: those of a recording, decoded,
 * appended and encoded again.
 *
 *     build/bench-chunk FILE.neap
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "schema/store/chunk.h"
#include "schema/store/store.h"

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static void die(struct neap_error *err)
{
    if (!err)
        return;
    fprintf(stderr, "%s\n", err->message);
    exit(1);
}

/* Append what was read. Refs are found as a writer knows them: by address. */
static double append(struct neap_chunk *chunk, const struct neap_chunk_event *events,
                     uint32_t count, uint16_t *refs)
{
    double start;

    for (uint32_t i = 0; i < count; i++)
        refs[events[i].address >> 4 & 0xfffff] = 0;
    start = now();
    for (uint32_t i = 0; i < count; i++)
        if (!neap_chunk_append(chunk, &events[i],
                               &refs[events[i].address >> 4 & 0xfffff]))
            abort();
    return now() - start;
}

int main(int argc, char **argv)
{
    static uint16_t refs[1 << 20];
    double appending = 0, encoding = 0, decoding = 0;
    uint64_t total = 0, bytes = 0, again = 0;
    struct neap_chunk_encoder *encoder;
    struct neap_chunk_reader *reader;
    struct neap_chunk chunk = {0};
    sqlite3_stmt *stmt;
    sqlite3 *db;

    if (argc != 2)
        return 2;
    die(neap_store_open(argv[1], &db));
    die(neap_chunk_encoder_create(&encoder));
    die(neap_chunk_reader_create(&reader));
    if (sqlite3_prepare_v2(db, "SELECT count, data FROM raw_events ORDER BY id", -1,
                           &stmt, NULL) != SQLITE_OK)
        return 1;
    while (sqlite3_step(stmt) == SQLITE_ROW) {
        uint32_t count = (uint32_t)sqlite3_column_int(stmt, 0);
        const void *data = sqlite3_column_blob(stmt, 1), *blob;
        size_t length = (size_t)sqlite3_column_bytes(stmt, 1);
        const struct neap_chunk_event *events;
        double start = now();

        die(neap_chunk_decode(reader, data, length, count, &events));
        decoding += now() - start;
        appending += append(&chunk, events, count, refs);
        start = now();
        bytes += length;
        die(neap_chunk_encode(encoder, &chunk, &blob, &length));
        encoding += now() - start;
        neap_chunk_clear(&chunk);
        again += length;
        total += count;
    }
    sqlite3_finalize(stmt);
    neap_store_close(db);
    neap_chunk_deinit(&chunk);
    neap_chunk_encoder_destroy(encoder);
    neap_chunk_reader_destroy(reader);
    if (!total)
        return 1;
    printf("%llu events, %.2f bytes each (%.2f with guessed refs): append %.1f, encode "
           "%.1f, decode %.1f ns an event\n",
           (unsigned long long)total, (double)bytes / (double)total,
           (double)again / (double)total, appending / (double)total,
           encoding / (double)total, decoding / (double)total);
    return 0;
}

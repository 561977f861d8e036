/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast the collector's books take events, and how much memory a live block costs.
 *
 *     cc -std=gnu11 -D_GNU_SOURCE -O2 -I. tests/bench/ingest.c build/libhosted.a \
 *        -lsqlite3 -ldw -lelf -lstdc++ -pthread -o build/bench-ingest
 *     build/bench-ingest
 *
 * Each line is the best of five runs, in ns an event, decoding included; the median
 * would tell more of the machine's other work than of ours.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/ingest/blocks.h"
#include "daemon/ingest/ingest.h"
#include "schema/store/store.h"

#define RUNS 5

static uint64_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void die(struct neap_error *err)
{
    if (!err)
        return;
    fprintf(stderr, "%s\n", err->message);
    exit(1);
}

static uint64_t state = 88172645463325252u;

static uint64_t draw(uint64_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (state >> 11) % below;
}

/* Records of a program: `count` pairs of malloc and free with `live` blocks kept. */
struct program {
    const char *name;
    uint32_t events;
    uint32_t live;   /* blocks at a time */
    uint32_t stacks; /* taken at random, 1 = always the same */
};

static uint64_t *records_create(const struct program *program, size_t *ret_bytes)
{
    size_t words = (size_t)program->events * 4;
    uint64_t *records = malloc(words * sizeof(*records)), *at = records;
    uint64_t *blocks = calloc(program->live, sizeof(*blocks));

    if (!records || !blocks)
        abort();
    for (uint32_t i = 0; i < program->events; i++) {
        uint32_t which = (uint32_t)draw(program->live);

        if (blocks[which]) {
            *at++ = neap_ev_head(NEAP_EV_FREE, 0, 0);
            *at++ = blocks[which];
            blocks[which] = 0;
        } else {
            blocks[which] = 0x7f0000000000u + (uint64_t)which * 64;
            *at++ = neap_ev_head(NEAP_EV_ALLOC, 0, 0);
            *at++ = blocks[which];
            *at++ = 48;
            *at++ = 1 + draw(program->stacks) * 0x9e3779b97f4a7c15u;
        }
    }
    free(blocks);
    *ret_bytes = (size_t)(at - records) * sizeof(*records);
    return records;
}

static double run(struct neap_ingest *ingest, const uint64_t *records, size_t bytes,
                  uint32_t events)
{
    struct neap_process_info info = {
        .exe = "", .command = "[]", .allocator = "glibc", .unwinder = "none"};
    struct neap_process_end end = {.kind = NEAP_EXIT_EXITED};
    struct neap_ingest_process *process;
    const uint8_t *at = (const uint8_t *)records;
    uint64_t start;

    die(neap_ingest_start(ingest, &info, &process));
    start = now();
    while (bytes) {
        struct neap_event event;

        if (neap_decode(at, (uint32_t)(bytes < 65536 ? bytes : 65536), &event) !=
            NEAP_DECODE_OK)
            abort();
        neap_ingest_event(process, 0, &event);
        at += event.length;
        bytes -= event.length;
    }
    start = now() - start;
    neap_ingest_end(process, &end);
    return (double)start / events;
}

static void bench_events(const struct program *program)
{
    struct neap_recording_info info = {.version = "",
                                       .command = "[]",
                                       .start_utc = "",
                                       .policy = "",
                                       .max_size =
                                           getenv("NO_EVENTS") ? 0 : 1ull << 40};
    char path[] = "/tmp/neap-bench-XXXXXX";
    struct neap_ingest *ingest;
    double best = 1e9;
    size_t bytes;
    uint64_t *records = records_create(program, &bytes);
    sqlite3 *db;

    if (!mkdtemp(path))
        abort();
    char file[64];

    snprintf(file, sizeof(file), "%s/bench.neap", path);
    die(neap_store_create(file, false, &db));
    die(neap_ingest_create(db, &info, &ingest));
    for (int i = 0; i < RUNS; i++) {
        double ns = run(ingest, records, bytes, program->events);

        best = ns < best ? ns : best;
    }
    printf("%-44s %7.1f ns an event %7.1f M events/s\n", program->name, best,
           1000 / best);
    neap_ingest_destroy(ingest);
    neap_store_close(db);
    remove(file);
    remove(path);
    free(records);
}

/* The map alone: an insertion and a removal among `live` others. */
static void bench_blocks(uint64_t live)
{
    const uint64_t pairs = 5000000;
    double best = 1e9;
    struct neap_blocks blocks;
    struct neap_block block;
    bool existed;

    neap_blocks_init(&blocks);
    for (uint64_t i = 1; i <= live; i++)
        neap_blocks_put(&blocks, i << 20, &existed)->size = i;
    for (int round = 0; round < RUNS; round++) {
        uint64_t start = now();

        for (uint64_t i = 0; i < pairs; i++) {
            uint64_t address = 0x10 + (i % 512) * 64;

            neap_blocks_put(&blocks, address, &existed)->size = i;
            neap_blocks_take(&blocks, address, &block);
        }
        double ns = (double)(now() - start) / (double)pairs;

        best = ns < best ? ns : best;
    }
    printf("map: insert and remove, %8llu blocks live    %7.1f ns a pair %7.1f bytes a "
           "block\n",
           (unsigned long long)live, best,
           (double)neap_blocks_bytes(&blocks) / (double)live);
    neap_blocks_deinit(&blocks);
}

int main(void)
{
    static const struct program programs[] = {
        {"loop: one block, one stack", 4000000, 1, 1},
        {"1 000 blocks, 100 stacks", 4000000, 1000, 100},
        {"100 000 blocks, 5 000 stacks", 4000000, 100000, 5000},
        {"2 000 000 blocks, 100 000 stacks", 8000000, 2000000, 100000},
    };

    for (size_t i = 0; i < NEAP_ARRAY_LEN(programs); i++)
        bench_events(&programs[i]);
    bench_blocks(1000);
    bench_blocks(100000);
    bench_blocks(1000000);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a process's shared memory: header words, lane heads and records of up
 * to three lanes, changed between two passes. Whatever they are, every event handed
 * on must lie within what the decoder may hand out, and each pass must come to an end.
 *
 * Input: 1 byte of switches, then for each lane 3 bytes of head; the rest is records,
 * dealt out to the lanes in turn.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "daemon/source/procfs.h"
#include "daemon/source/ring_source.h"

#define LANES 3

static uint64_t sum;

static void on_event(void *context, uint32_t lane, const struct neap_event *event)
{
    const uint8_t *bytes = (const uint8_t *)event->time;

    (void)context;
    if (lane >= LANES || event->kind == NEAP_EV_NONE || event->kind == NEAP_EV_PAD ||
        event->kind >= NEAP_EV_KIND_END || event->length > NEAP_EV_SIZE_MAX)
        abort();
    for (uint32_t i = 0; i < event->length; i++)
        sum += bytes[i];
}

static void on_loss(void *context, const char *what, uint64_t count, uint64_t bytes)
{
    (void)context;
    sum += what[0] + bytes;
    if (count == 0)
        abort();
}

static struct neap_lane *lane_at(uint8_t *memory, uint32_t lane)
{
    return (struct neap_lane *)(void *)(memory + NEAP_LANE_OFFSET(lane));
}

static void drain(struct neap_ring_source *source, struct neap_ring_scratch *scratch,
                  uint64_t now_ns, enum neap_drain mode)
{
    struct neap_ring_counters counters;

    (void)neap_ring_source_waiting(source);
    (void)neap_ring_source_drain(source, scratch, now_ns, mode);
    neap_ring_source_counters(source, &counters);
}

static void parse(const uint8_t *data, size_t size)
{
    struct neap_procfs_stat stat;
    struct neap_error *error;
    char *json = NULL;

    (void)neap_procfs_stat_parse((const char *)data, size, &stat);
    (void)neap_procfs_environ_has((const char *)data, size, "A=1");
    error = neap_procfs_command_json((const char *)data, size, &json);
    if (!error)
        free(json);
    neap_error_destroy(error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct neap_ring_scratch *scratch;
    static _Atomic uint64_t tails[NEAP_LANES_MAX];
    struct neap_sink sink = {.event = on_event, .loss = on_loss};
    struct neap_ring_source *source;
    struct neap_data_header *header;
    uint8_t *memory;

    parse(data, size);
    if (size < 1 + 3 * LANES || (!scratch && neap_ring_scratch_create(&scratch)))
        return 0;
    memset((void *)tails, 0, sizeof(tails[0]) * LANES);
    if (neap_ring_source_create(tails, &sink, data[0] & 1, &source))
        return 0;
    memory = mmap(NULL, NEAP_LANE_OFFSET(LANES), PROT_READ | PROT_WRITE, MAP_SHARED,
                  neap_ring_source_fd(source), 0);
    if (memory == MAP_FAILED)
        abort();
    header = (struct neap_data_header *)(void *)memory;
    header->multi = data[0] & 1;
    header->lanes = 1 + (data[0] >> 1) % LANES;
    header->lane_loss = data[0] & 0x80 ? UINT64_MAX : data[0];
    for (uint32_t i = 0; i < LANES; i++) {
        const uint8_t *words = data + 1 + 3 * i;
        size_t share = (size - 1 - 3 * LANES) / LANES;

        memcpy(lane_at(memory, i)->data, data + 1 + 3 * LANES + i * share, share);
        /* As a rule what was written; else anything, beyond the lane too. */
        lane_at(memory, i)->head =
            words[0] & 1
                ? share & ~7ull
                : (uint64_t)words[0] << 12 | (uint64_t)words[1] << 4 | words[2];
        lane_at(memory, i)->lost_events = words[2];
    }
    drain(source, scratch, 1, NEAP_DRAIN_PASS);
    drain(source, scratch, 2000000000, NEAP_DRAIN_PASS);
    lane_at(memory, 0)->head += data[1];
    lane_at(memory, 1)->lost_events -= 1;
    drain(source, scratch, 4000000000, NEAP_DRAIN_FINAL);
    munmap(memory, NEAP_LANE_OFFSET(LANES));
    neap_ring_source_destroy(source);
    return 0;
}

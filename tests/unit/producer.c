/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/producer.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

void producer_init(struct producer *producer, int fd, const _Atomic uint64_t *tails)
{
    void *memory =
        mmap(NULL, NEAP_DATA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (memory == MAP_FAILED)
        abort();
    producer->memory = memory;
    producer->header = memory;
    producer->tails = tails;
}

void producer_deinit(struct producer *producer)
{
    munmap(producer->memory, NEAP_DATA_BYTES);
}

struct neap_lane *producer_lane(const struct producer *producer, uint32_t lane)
{
    return (struct neap_lane *)(void *)(producer->memory + NEAP_LANE_OFFSET(lane));
}

void producer_claim(struct producer *producer, uint32_t count)
{
    atomic_store_explicit(&producer->header->lanes, count, memory_order_release);
}

void *producer_reserve(const struct producer *producer, uint32_t lane, uint64_t *head,
                       uint32_t length)
{
    struct neap_lane *shared = producer_lane(producer, lane);

    *head = atomic_load_explicit(&shared->head, memory_order_relaxed);
    return neap_lane_reserve(
        shared, head,
        atomic_load_explicit(&producer->tails[lane], memory_order_acquire), length);
}

bool producer_put(const struct producer *producer, uint32_t lane, const void *record,
                  uint32_t length)
{
    uint64_t head;
    void *room = producer_reserve(producer, lane, &head, length);

    if (!room)
        return false;
    memcpy(room, record, length);
    neap_lane_publish(producer_lane(producer, lane), head + length);
    return true;
}

bool producer_time(const struct producer *producer, uint32_t lane, uint64_t stamp)
{
    struct neap_ev_time record = {.head = neap_ev_head(NEAP_EV_TIME, 0, 0),
                                  .stamp = stamp};

    return producer_put(producer, lane, &record, sizeof(record));
}

bool producer_alloc(const struct producer *producer, uint32_t lane, uint32_t seq,
                    uint32_t delta, uint64_t address, uint64_t size)
{
    struct neap_ev_alloc record = {.head = neap_ev_head(NEAP_EV_ALLOC, seq, delta),
                                   .address = address,
                                   .size = size,
                                   .stack = 1};

    return producer_put(producer, lane, &record, sizeof(record));
}

bool producer_free(const struct producer *producer, uint32_t lane, uint32_t seq,
                   uint32_t delta, uint64_t address)
{
    struct neap_ev_free record = {.head = neap_ev_head(NEAP_EV_FREE, seq, delta),
                                  .address = address};

    return producer_put(producer, lane, &record, sizeof(record));
}

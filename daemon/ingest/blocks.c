/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/ingest/blocks.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>

#define CAPACITY_MIN 16u
/* Tables up to here are at most half full, and never shrunk: 64 of them are 2 MiB. */
#define CAPACITY_ROOMY 1024u
/* Larger ones are 4/5 full at the most, and shrunk below 1/3; from here on below 1/2.
 */
#define CAPACITY_TIGHT 4096u
/* Larger tables are mappings of their own, so that freeing one gives it back. */
#define MAP_BYTES (128u << 10)

/*
 * Multiplication by a secret odd number: its high bits are a universal hash
 * (Dietzfelbinger 1997), so a target that does not know it cannot choose addresses that
 * collide, and addresses at equal distances, as allocators give them, spread evenly.
 * 3 cycles; a full mixer's 14 were a tenth of the collector's time.
 */
NEAP_ALWAYS_INLINE uint64_t mix(uint64_t address, uint64_t seed)
{
    return address * seed;
}

/* Six bits choose the table, the next 32 scale to the home within it. */
static struct neap_blocks_table *table_of(struct neap_blocks *blocks, uint64_t hash)
{
    return &blocks->tables[hash >> 58];
}

static uint32_t home_of(uint64_t hash, uint32_t capacity)
{
    return (uint32_t)(((hash >> 26 & UINT32_MAX) * capacity) >> 32);
}

static struct neap_block *slots_create(uint32_t capacity)
{
    size_t bytes = (size_t)capacity * sizeof(struct neap_block);
    void *slots;

    if (bytes < MAP_BYTES)
        return calloc(capacity, sizeof(struct neap_block));
    slots =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return slots == MAP_FAILED ? NULL : slots;
}

static void slots_destroy(struct neap_block *slots, uint32_t capacity)
{
    size_t bytes = (size_t)capacity * sizeof(struct neap_block);

    if (bytes < MAP_BYTES)
        free(slots);
    else
        munmap(slots, bytes);
}

void neap_blocks_init(struct neap_blocks *blocks)
{
    *blocks = (struct neap_blocks){.seed = 0};
    /* Without randomness the map works as well; it is only easier to slow down. */
    if (getrandom(&blocks->seed, sizeof(blocks->seed), GRND_NONBLOCK) < 0)
        blocks->seed = (uint64_t)(uintptr_t)blocks * 0x9e3779b97f4a7c15u;
    blocks->seed |= 1;
}

void neap_blocks_deinit(struct neap_blocks *blocks)
{
    for (unsigned i = 0; i < NEAP_BLOCKS_TABLES; i++) {
        if (blocks->tables[i].slots)
            slots_destroy(blocks->tables[i].slots, blocks->tables[i].capacity);
        blocks->tables[i] = (struct neap_blocks_table){0};
    }
}

/* The entry of `address`, or the empty one where it would go. */
static struct neap_block *probe(const struct neap_blocks_table *table, uint64_t hash,
                                uint64_t address)
{
    struct neap_block *slot = table->slots + home_of(hash, table->capacity);
    const struct neap_block *end = table->slots + table->capacity;

    while (slot->address && slot->address != address) {
        if (++slot == end)
            slot = table->slots;
    }
    return slot;
}

static bool resize(const struct neap_blocks *blocks, struct neap_blocks_table *table,
                   uint32_t capacity)
{
    struct neap_blocks_table moved = {.capacity = capacity, .count = table->count};

    moved.slots = slots_create(capacity);
    if (!moved.slots)
        return false;
    for (uint32_t i = 0; table->slots && i < table->capacity; i++) {
        const struct neap_block *block = &table->slots[i];

        if (block->address)
            *probe(&moved, mix(block->address, blocks->seed), block->address) = *block;
    }
    if (table->slots)
        slots_destroy(table->slots, table->capacity);
    *table = moved;
    return true;
}

static NEAP_NOINLINE bool grow(const struct neap_blocks *blocks,
                               struct neap_blocks_table *table)
{
    uint64_t capacity = (uint64_t)table->capacity + table->capacity / 8 * 3;

    if (capacity < CAPACITY_MIN)
        capacity = CAPACITY_MIN;
    return capacity <= UINT32_MAX && resize(blocks, table, (uint32_t)capacity);
}

/* Shrinking is a favour: without memory for it the table stays as it is. */
static NEAP_NOINLINE void shrink(const struct neap_blocks *blocks,
                                 struct neap_blocks_table *table)
{
    uint32_t capacity = table->count + table->count / 2;

    (void)resize(blocks, table, capacity < CAPACITY_ROOMY ? CAPACITY_ROOMY : capacity);
}

static bool is_full(const struct neap_blocks_table *table)
{
    if (table->capacity <= CAPACITY_ROOMY)
        return table->count * 2 >= table->capacity;
    return (uint64_t)table->count * 5 >= (uint64_t)table->capacity * 4;
}

struct neap_block *neap_blocks_put(struct neap_blocks *blocks, uint64_t address,
                                   bool *ret_existed)
{
    uint64_t hash = mix(address, blocks->seed);
    struct neap_blocks_table *table = table_of(blocks, hash);
    struct neap_block *slot;

    if (NEAP_UNLIKELY(!table->slots)) {
        if (!grow(blocks, table))
            return NULL;
    }
    slot = probe(table, hash, address);
    if (slot->address) {
        *ret_existed = true;
        return slot;
    }
    if (NEAP_UNLIKELY(is_full(table))) {
        if (!grow(blocks, table))
            return NULL;
        slot = probe(table, hash, address);
    }
    slot->address = address;
    table->count++;
    *ret_existed = false;
    return slot;
}

/* Close the gap at `hole`: move back what would not be found across it. */
static void shift_back(const struct neap_blocks *blocks,
                       struct neap_blocks_table *table, uint32_t hole)
{
    uint32_t capacity = table->capacity;
    uint32_t at = hole;

    for (;;) {
        uint32_t home, from_home, from_hole;

        at = at + 1 == capacity ? 0 : at + 1;
        if (!table->slots[at].address)
            break;
        home = home_of(mix(table->slots[at].address, blocks->seed), capacity);
        from_home = at >= home ? at - home : at + capacity - home;
        from_hole = at >= hole ? at - hole : at + capacity - hole;
        if (from_home >= from_hole) {
            table->slots[hole] = table->slots[at];
            hole = at;
        }
    }
    table->slots[hole] = (struct neap_block){0};
}

bool neap_blocks_take(struct neap_blocks *blocks, uint64_t address,
                      struct neap_block *ret)
{
    uint64_t hash = mix(address, blocks->seed);
    struct neap_blocks_table *table = table_of(blocks, hash);
    struct neap_block *slot;

    if (!table->slots || !address)
        return false;
    slot = probe(table, hash, address);
    if (!slot->address)
        return false;
    *ret = *slot;
    shift_back(blocks, table, (uint32_t)(slot - table->slots));
    table->count--;
    if (NEAP_UNLIKELY(table->capacity > CAPACITY_ROOMY &&
                      table->count <
                          table->capacity / (table->capacity > CAPACITY_TIGHT ? 2 : 3)))
        shrink(blocks, table);
    return true;
}

const struct neap_block *neap_blocks_find(const struct neap_blocks *blocks,
                                          uint64_t address)
{
    uint64_t hash = mix(address, blocks->seed);
    const struct neap_blocks_table *table = &blocks->tables[hash >> 58];
    const struct neap_block *block = table->slots ? probe(table, hash, address) : NULL;

    return block && block->address != 0 ? block : NULL;
}

const struct neap_block *neap_blocks_next(const struct neap_blocks *blocks,
                                          struct neap_blocks_cursor *cursor)
{
    for (; cursor->table < NEAP_BLOCKS_TABLES; cursor->table++, cursor->slot = 0) {
        const struct neap_blocks_table *table = &blocks->tables[cursor->table];

        while (cursor->slot < table->capacity) {
            const struct neap_block *block = &table->slots[cursor->slot++];

            if (block->address)
                return block;
        }
    }
    return NULL;
}

uint64_t neap_blocks_bytes(const struct neap_blocks *blocks)
{
    uint64_t bytes = 0;

    for (unsigned i = 0; i < NEAP_BLOCKS_TABLES; i++)
        bytes += (uint64_t)blocks->tables[i].capacity * sizeof(struct neap_block);
    return bytes;
}

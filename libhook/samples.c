/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A free claims the key first and gives the slot up afterwards, so that a realloc can
 * put the block back for certain, even if the table has filled meanwhile. A claimed key
 * is no block's address: were the program killed here, the block counts as freed.
 */
#include "libhook/samples.h"

#include "libhook/gate.h"
#include "libhook/life.h"
#include "libhook/link.h"
#include "libhook/marks.h"
#include "libhook/sys.h"

#define DOUBLE_EVERY 1024u /* samples above NEAP_TABLE_HIGH */
#define INTERVAL_MAX (1ull << 50)

static struct neap_table *table_now(void)
{
    /* Pairs with the release below: the memory is mapped. */
    return atomic_load_explicit(&neap_process->table, memory_order_acquire);
}

static NEAP_COLD struct neap_table *map_table(void)
{
    struct neap_table *table, *expected = NULL;

    table = neap_link_table(neap_process);
    if (!table)
        return NULL;
    /* Of two threads that come first the second has mapped it in vain. */
    if (atomic_compare_exchange_strong_explicit(&neap_process->table, &expected, table,
                                                memory_order_release,
                                                memory_order_acquire))
        return table;
    NEAP_SYS2(SYS_munmap, table, NEAP_TABLE_BYTES);
    return expected;
}

uint32_t neap_samples_claim(uint64_t address)
{
    struct neap_table *table = table_now();
    uint32_t home = neap_table_home(address);

    if (!table)
        table = map_table();
    if (!table)
        return NEAP_SAMPLES_NONE;
    for (uint32_t i = 0; i < NEAP_TABLE_TRIES * NEAP_TABLE_BUCKET; i++) {
        uint32_t at = (home + i) % NEAP_TABLE_SLOTS;
        uint64_t key = atomic_load_explicit(&table->key[at], memory_order_relaxed);

        /* Acquire: pairs with the release that gave the slot up. */
        if (key == 0 && atomic_compare_exchange_strong_explicit(
                            &table->key[at], &key, NEAP_TABLE_CLAIMED,
                            memory_order_acquire, memory_order_relaxed))
            return at;
    }
    return NEAP_SAMPLES_NONE;
}

/* Fewer samples from now on: each stands for twice as much. */
static NEAP_COLD void raise_interval(uint64_t drawn_with)
{
    uint64_t now = atomic_load_explicit(&neap_process->interval, memory_order_relaxed);
    uint64_t next = 2 * (now > drawn_with ? now : drawn_with);

    if (next <= INTERVAL_MAX)
        atomic_store_explicit(&neap_process->interval, next, memory_order_relaxed);
}

void neap_samples_keep(uint32_t index, uint64_t address,
                       const struct neap_table_slot *slot)
{
    struct neap_table *table = table_now();
    uint32_t used;

    table->slot[index] = *slot;
    /* Pairs with the acquire of whoever reads the key: the slot is whole. */
    atomic_store_explicit(&table->key[index], address, memory_order_release);
    neap_filter_add((const void *)(uintptr_t)address);
    if (neap_real.heap)
        neap_marks_put(index, (const void *)(uintptr_t)address);
    used =
        atomic_fetch_add_explicit(&neap_process->table_used, 1, memory_order_relaxed);
    if (NEAP_UNLIKELY(used >= NEAP_TABLE_HIGH) &&
        atomic_fetch_add_explicit(&neap_process->table_above, 1, memory_order_relaxed) %
                DOUBLE_EVERY ==
            0)
        raise_interval(slot->interval);
}

uint32_t neap_samples_take(const void *block)
{
    uint64_t address = (uint64_t)(uintptr_t)block;
    uint32_t home = neap_table_home(address);
    struct neap_table *table;

    /* In a forked child the table is not there, and the phase says so. */
    if (atomic_load_explicit(&neap_process->phase, memory_order_acquire) !=
        NEAP_PHASE_ON)
        return NEAP_SAMPLES_NONE;
    table = table_now();
    if (!table || address <= NEAP_TABLE_CLAIMED)
        return NEAP_SAMPLES_NONE;
    for (uint32_t i = 0; i < NEAP_TABLE_TRIES * NEAP_TABLE_BUCKET; i++) {
        uint32_t at = (home + i) % NEAP_TABLE_SLOTS;
        uint64_t key = atomic_load_explicit(&table->key[at], memory_order_relaxed);

        if (key == address && atomic_compare_exchange_strong_explicit(
                                  &table->key[at], &key, NEAP_TABLE_CLAIMED,
                                  memory_order_acquire, memory_order_relaxed)) {
            if (neap_real.heap)
                neap_marks_drop(at, block);
            return at;
        }
    }
    return NEAP_SAMPLES_NONE;
}

void neap_samples_drop(uint32_t index, const void *block)
{
    struct neap_table *table = table_now();

    neap_filter_remove(block);
    atomic_fetch_sub_explicit(&neap_process->table_used, 1, memory_order_relaxed);
    /* Pairs with the acquire of the next claim. */
    atomic_store_explicit(&table->key[index], 0, memory_order_release);
}

void neap_samples_return(uint32_t index, const void *block)
{
    if (neap_real.heap)
        neap_marks_put(index, block);
    atomic_store_explicit(&table_now()->key[index], (uint64_t)(uintptr_t)block,
                          memory_order_release);
}

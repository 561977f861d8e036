/* SPDX-License-Identifier: Apache-2.0 */
#include "libhook/marks.h"

#include <stdatomic.h>
#include <stdbool.h>

#include "libhook/heap/heap.h"
#include "schema/attr.h"
#include "schema/wire/table.h"

/* Addresses; touched only as far as there are samples. Who takes one out unmarks it. */
static _Atomic uint64_t marked[NEAP_TABLE_SLOTS];
static _Atomic uint32_t count;

void neap_marks_put(uint32_t index, const void *block)
{
    atomic_store_explicit(&marked[index], (uint64_t)(uintptr_t)block,
                          memory_order_relaxed);
    atomic_fetch_add_explicit(&count, 1, memory_order_relaxed);
    neap_heap_mark((void *)(uintptr_t)block);
}

void neap_marks_drop(uint32_t index, const void *block)
{
    uint64_t address = (uint64_t)(uintptr_t)block;

    /* Relaxed: the heap orders the free of a block with its next allocation, and so
     * what was written here for the one with what is for the other. */
    if (!atomic_compare_exchange_strong_explicit(
            &marked[index], &address, 0, memory_order_relaxed, memory_order_relaxed))
        return;
    atomic_fetch_sub_explicit(&count, 1, memory_order_relaxed);
    neap_heap_unmark((void *)(uintptr_t)block);
}

void neap_marks_forget(const void *block)
{
    uint64_t address = (uint64_t)(uintptr_t)block;
    uint32_t home = neap_table_home(address);

    for (uint32_t i = 0; i < NEAP_TABLE_TRIES * NEAP_TABLE_BUCKET; i++) {
        uint32_t at = (home + i) % NEAP_TABLE_SLOTS;

        if (atomic_load_explicit(&marked[at], memory_order_relaxed) == address)
            neap_marks_drop(at, block);
    }
}

void neap_marks_clear(void)
{
    if (atomic_load_explicit(&count, memory_order_relaxed) == 0)
        return;
    for (uint32_t at = 0; at < NEAP_TABLE_SLOTS; at++) {
        uint64_t address = atomic_load_explicit(&marked[at], memory_order_relaxed);

        if (address)
            neap_marks_drop(at, (const void *)(uintptr_t)address);
    }
}

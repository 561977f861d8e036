/* SPDX-License-Identifier: Apache-2.0 */
#include "libhook/gate.h"

#define FILTER (1u << NEAP_FILTER_BITS)

_Atomic uint8_t neap_filter[NEAP_FILTER_COUNT][FILTER] __attribute__((aligned(64))) = {
    [0 ... NEAP_FILTER_COUNT - 1] = {[0 ... FILTER - 1] = NEAP_FILTER_FULL}};

const _Atomic uint32_t neap_gate_start = NEAP_MODE_EXACT;
const _Atomic uint32_t neap_gate_off = NEAP_MODE_OFF;

void neap_gate_set(const _Atomic uint32_t *mode)
{
    /* Pairs with the acquire in neap_gate_mode (and with entry.c's dependency). */
    __atomic_store_n(&neap_real.mode, mode, __ATOMIC_RELEASE);
}

/* One up or down, unless the counter is full, which it stays. */
static void count(enum neap_filter filter, const void *block, int by)
{
    _Atomic uint8_t *counter = &neap_filter[filter][neap_filter_place(block)];
    uint8_t old = atomic_load_explicit(counter, memory_order_relaxed);

    while (old != NEAP_FILTER_FULL && (by > 0 || old > 0) &&
           !atomic_compare_exchange_weak_explicit(counter, &old, (uint8_t)(old + by),
                                                  memory_order_relaxed,
                                                  memory_order_relaxed))
        ;
}

void neap_filter_add(const void *block)
{
    if (!neap_real.heap)
        count(NEAP_FILTER_FREE, block, 1);
    count(NEAP_FILTER_REALLOC, block, 1);
}

void neap_filter_remove(const void *block)
{
    if (!neap_real.heap)
        count(NEAP_FILTER_FREE, block, -1);
    count(NEAP_FILTER_REALLOC, block, -1);
}

static void set(unsigned at, uint8_t value)
{
    for (int filter = 0; filter < NEAP_FILTER_COUNT; filter++)
        atomic_store_explicit(&neap_filter[filter][at], value, memory_order_relaxed);
}

void neap_filter_fill(void)
{
    for (unsigned i = 0; i < FILTER; i++)
        set(i, NEAP_FILTER_FULL);
}

static uint8_t kept[FILTER]; /* the bootstrap heap's; filled in once, then the same */

static void keep(const void *block)
{
    kept[neap_filter_place(block)] = NEAP_FILTER_FULL;
}

void neap_filter_reset(void)
{
    neap_boot_each(keep);
    for (unsigned i = 0; i < FILTER; i++)
        set(i, kept[i]);
}

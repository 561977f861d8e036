/* SPDX-License-Identifier: Apache-2.0 */
#include "libhook/gate.h"

#define FILTER (1u << NEAP_FILTER_BITS)

_Atomic uint8_t neap_filter[FILTER]
    __attribute__((aligned(64))) = {[0 ... FILTER - 1] = NEAP_FILTER_FULL};

const _Atomic uint32_t neap_gate_start = NEAP_MODE_EXACT;
const _Atomic uint32_t neap_gate_off = NEAP_MODE_OFF;

void neap_gate_set(const _Atomic uint32_t *mode)
{
    /* Pairs with the acquire in neap_gate_mode (and with entry.c's dependency). */
    __atomic_store_n(&neap_real.mode, mode, __ATOMIC_RELEASE);
}

/* One up or down, unless the counter is full, which it stays. */
static void count(const void *block, int by)
{
    _Atomic uint8_t *counter = neap_filter_of(block);
    uint8_t old = atomic_load_explicit(counter, memory_order_relaxed);

    while (old != NEAP_FILTER_FULL && (by > 0 || old > 0) &&
           !atomic_compare_exchange_weak_explicit(counter, &old, (uint8_t)(old + by),
                                                  memory_order_relaxed,
                                                  memory_order_relaxed))
        ;
}

void neap_filter_add(const void *block)
{
    count(block, 1);
}

void neap_filter_remove(const void *block)
{
    count(block, -1);
}

void neap_filter_fill(void)
{
    for (unsigned i = 0; i < FILTER; i++)
        atomic_store_explicit(&neap_filter[i], NEAP_FILTER_FULL, memory_order_relaxed);
}

static uint8_t kept[FILTER]; /* the bootstrap heap's; filled in once, then the same */

static void keep(const void *block)
{
    kept[neap_filter_of(block) - neap_filter] = NEAP_FILTER_FULL;
}

void neap_filter_reset(void)
{
    neap_boot_each(keep);
    for (unsigned i = 0; i < FILTER; i++)
        atomic_store_explicit(&neap_filter[i], kept[i], memory_order_relaxed);
}

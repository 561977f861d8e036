/* SPDX-License-Identifier: Apache-2.0 */
#include "libhook/stackset.h"

#include "libhook/selfmem.h"

#define SET_BYTES ((size_t)64 << NEAP_STACKSET_BITS)

_Atomic uint64_t *neap_stackset;

bool neap_stackset_init(void)
{
    neap_stackset = neap_selfmem_wiped(SET_BYTES);
    return neap_stackset != NULL;
}

void neap_stackset_forget(void)
{
    neap_selfmem_clear(neap_stackset, SET_BYTES);
}

void neap_stackset_add(uint64_t hash)
{
    _Atomic uint64_t *bucket = neap_stackset + (hash >> (64 - NEAP_STACKSET_BITS)) * 8;

    for (unsigned i = 0; i < 8; i++) {
        uint64_t empty = 0;

        if (atomic_compare_exchange_strong_explicit(
                &bucket[i], &empty, hash, memory_order_relaxed, memory_order_relaxed))
            return;
    }
    atomic_store_explicit(&bucket[hash % 8], hash, memory_order_relaxed);
}

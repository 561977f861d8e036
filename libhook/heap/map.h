/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From an address to the span that it lies in: two levels of pointers over 47 bits of
 * address space, one entry a unit. Where there is no span of ours there is NULL, so any
 * address may be asked for. 8 bytes for each 16 KiB that were ever used.
 */
#ifndef NEAP_LIBHOOK_HEAP_MAP_H
#define NEAP_LIBHOOK_HEAP_MAP_H

#include "libhook/heap/types.h"

#define NEAP_LEAF_BITS 17
#define NEAP_ROOT_BITS 16
_Static_assert(NEAP_ROOT_BITS + NEAP_LEAF_BITS + NEAP_UNIT_SHIFT == 47, "");

typedef struct neap_span *_Atomic neap_map_entry;

/* Untouched but for the few entries that are used. Leaves are never given back. */
extern neap_map_entry *_Atomic neap_map_root[1 << NEAP_ROOT_BITS];

/*
 * Bits above the 47th are not looked at: a wrong address that differs in them alone is
 * told by its distance from the span's start, which every free looks at.
 */
NEAP_ALWAYS_INLINE struct neap_span *neap_map_find(uintptr_t address)
{
    /* Pairs with the release in neap_map_reach. */
    neap_map_entry *leaf = atomic_load_explicit(
        &neap_map_root[address >> (NEAP_LEAF_BITS + NEAP_UNIT_SHIFT) &
                       ((1u << NEAP_ROOT_BITS) - 1)],
        memory_order_acquire);

    if (NEAP_UNLIKELY(!leaf))
        return NULL;
    /* The entry of a block in use does not change, and reached its user with it. */
    return atomic_load_explicit(
        &leaf[address >> NEAP_UNIT_SHIFT & ((1u << NEAP_LEAF_BITS) - 1)],
        memory_order_relaxed);
}

/* Room for the entries of these units; false: no memory. Caller holds the lock, here
 * and below, and has reached what it sets. */
bool neap_map_reach(uintptr_t base, size_t units);
void neap_map_set(uintptr_t base, size_t units, struct neap_span *span);

/* As neap_map_find, but NULL for an address beyond the 47th bit. */
static inline struct neap_span *neap_map_find_any(uintptr_t address)
{
    return address >> 47 ? NULL : neap_map_find(address);
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stacks already sent: a set of 64-bit hashes, so each crosses the wire about once.
 *
 * A hint, no more. An entry that is lost (a full bucket, a race, a new generation)
 * only sends a stack again. Shared by all threads without a lock; a forked child
 * starts with an empty one.
 */
#ifndef NEAP_LIBHOOK_STACKSET_H
#define NEAP_LIBHOOK_STACKSET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "schema/attr.h"

#define NEAP_STACKSET_BITS \
    15 /* buckets of 8: 262 144 stacks in 2 MiB, touched as used */

extern _Atomic uint64_t *neap_stackset;

/* Caller holds NEAP_INTERNAL; once per image. */
bool neap_stackset_init(void);
void neap_stackset_forget(void);
/* After the stack was published. `hash` is not 0. */
void neap_stackset_add(uint64_t hash);

/* One cache line; the words stand for themselves, so relaxed loads do. */
NEAP_ALWAYS_INLINE bool neap_stackset_has(uint64_t hash)
{
    const _Atomic uint64_t *bucket =
        neap_stackset + (hash >> (64 - NEAP_STACKSET_BITS)) * 8;

    for (unsigned i = 0; i < 8; i++) {
        uint64_t word = atomic_load_explicit(&bucket[i], memory_order_relaxed);

        if (word == hash)
            return true;
        if (word == 0)
            return false;
    }
    return false;
}

#endif

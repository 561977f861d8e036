/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate: which calls concern us at all. Most do not, in a dormant or a sampled
 * recording, and must cost next to nothing.
 *
 * An allocation looks at the recording's mode, which the collector keeps in ctl's first
 * page: OFF goes straight on, SAMPLED when its bytes leave the thread's gap standing.
 * neap_real.mode points at that word, so that there is never a NULL to test for: before
 * the process is connected at a word that sends everything the slow way, in an image
 * that is not recorded at one that is OFF for good. A forked child keeps ctl's first
 * page: its allocations are gated before it has connected anew.
 *
 * A free looks at a filter, 16 384 counters of which the address chooses one. 0: no
 * block that we must know of has that address. Other blocks are counted in: those that
 * are sampled, and those of the bootstrap heap, for good. Once the process has recorded
 * exactly, all counters are full, since any block may then be one of the recorded; so
 * that they are missed by no free, also while the mode is OFF. Before the image is
 * ready they are full as well. A child inherits the filter, and has it emptied when it
 * connects: until then it only takes the slow way once too often.
 *
 * 16 Ki bytes: with 2 000 sampled blocks 1 free in 9 goes the slow way in vain.
 *
 * realloc has a filter of its own, with the same in it, but for one thing. Over our own
 * allocator, which tells by itself of the frees of sampled blocks (ownheap.h), those
 * are not in free's: then no free goes the slow way in vain.
 */
#ifndef NEAP_LIBHOOK_GATE_H
#define NEAP_LIBHOOK_GATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "libhook/real.h"
#include "libhook/sampler.h"
#include "schema/wire/ring.h"

#define NEAP_FILTER_BITS 14
#define NEAP_FILTER_FULL 255 /* stays so */

/* Counters stand for themselves: relaxed. A block is counted in before its address is
 * given to anybody. */
enum neap_filter {
    NEAP_FILTER_FREE,
    NEAP_FILTER_REALLOC, /* behind the other: entry.c counts on it */
    NEAP_FILTER_COUNT,
};
extern _Atomic uint8_t neap_filter[NEAP_FILTER_COUNT][1u << NEAP_FILTER_BITS];

NEAP_ALWAYS_INLINE unsigned neap_filter_place(const void *block)
{
    return (uint32_t)((uintptr_t)block >> 4) * 0x9e3779b1u >> (32 - NEAP_FILTER_BITS);
}

NEAP_ALWAYS_INLINE bool neap_filter_holds(enum neap_filter filter, const void *block)
{
    return atomic_load_explicit(&neap_filter[filter][neap_filter_place(block)],
                                memory_order_relaxed) != 0;
}

/* A sampled block. */
void neap_filter_add(const void *block);
void neap_filter_remove(const void *block);
void neap_filter_fill(void);
/* Empty but for the bootstrap heap's blocks, of which none is missed meanwhile. */
void neap_filter_reset(void);

/* The words that neap_real.mode points at when it is not ctl's. */
extern const _Atomic uint32_t neap_gate_start, neap_gate_off;

NEAP_ALWAYS_INLINE uint32_t neap_gate_mode(void)
{
    /* Pairs with the release in neap_gate_set: the word is mapped. */
    const _Atomic uint32_t *mode = __atomic_load_n(&neap_real.mode, __ATOMIC_ACQUIRE);

    /* Pairs with the release in the collector's neap_ctl_mode: whoever sees the mode
     * sees its interval. */
    return atomic_load_explicit(mode, memory_order_acquire);
}

/* Point neap_real.mode at another word. */
void neap_gate_set(const _Atomic uint32_t *mode);

/* May an allocation go straight to the real function? Its bytes are used up then. */
NEAP_ALWAYS_INLINE bool neap_gate_passes(struct neap_tls *tls, size_t size)
{
    uint32_t mode = neap_gate_mode();

    return mode == NEAP_MODE_OFF ||
           (mode == NEAP_MODE_SAMPLED && NEAP_LIKELY(neap_sampler_passes(tls, size)));
}

/* May a free? NULL may, if its counter says so. */
NEAP_ALWAYS_INLINE bool neap_gate_frees(const void *block)
{
    return !neap_filter_holds(NEAP_FILTER_FREE, block);
}

/* May a realloc, as far as the old block matters? */
NEAP_ALWAYS_INLINE bool neap_gate_reallocs(const void *old)
{
    return !neap_filter_holds(NEAP_FILTER_REALLOC, old);
}

#endif

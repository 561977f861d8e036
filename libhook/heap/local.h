/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Heaps of threads: their spans of small blocks.
 */
#ifndef NEAP_LIBHOOK_HEAP_LOCAL_H
#define NEAP_LIBHOOK_HEAP_LOCAL_H

#include "libhook/heap/types.h"

/* The calling thread's. Before its first allocation, at its end, and always where
 * blocks are checked, it is neap_local_none: a heap that has nothing and owns nothing.
 */
extern __thread struct neap_local *neap_local;
extern struct neap_local neap_local_none;

/* All heaps there ever were: they are used again. */
extern struct neap_local *neap_locals;

/* A block of the class when the heap's word has none, or NULL: no memory. `*fresh`: it
 * reads as zero. Takes the lock if need be. */
void *neap_local_refill(unsigned class, bool *fresh);

/* A word of the span's held bits fell below its limit. */
void neap_local_look(struct neap_local *local, struct neap_span *span);

/* The free of a block of a small span that is another thread's, or is to be freed the
 * slow way. False: it was free already. */
bool neap_local_free(struct neap_span *span, uint32_t index);

/* The empty spans that the caller's heap keeps go back to the pool. */
void neap_local_trim(void);

/* Where allocation is to take the slow way always: neap_local stays neap_local_none. */
extern bool neap_local_hidden;

/* Keys and handlers; caller holds nothing. Once. */
void neap_local_begin(void);
/* Around fork, with the lock held: in the parent before it, and in the child. */
void neap_local_forks(void);
void neap_local_forked(void);

/* A free block of the kind's word, now in use. NULL: it has none. */
NEAP_ALWAYS_INLINE void *neap_kind_take(struct neap_kind *kind)
{
    uint64_t free = kind->free;

    if (NEAP_UNLIKELY(!free))
        return NULL;
    kind->free = free & (free - 1);
    atomic_store_explicit(kind->live,
                          atomic_load_explicit(kind->live, memory_order_relaxed) |
                              (free & -free),
                          memory_order_relaxed);
    return (void *)(kind->first + (uintptr_t)__builtin_ctzll(free) * kind->size);
}

/*
 * Time passes for the pool only when somebody looks: a heap that lives on what it has
 * at hand does so now and then, or what was freed before would stay for ever.
 */
#define NEAP_TICKS 1024u
void neap_local_tick(struct neap_local *local);

/* A block that is held but not live, back to its span, which is `local`'s. */
NEAP_ALWAYS_INLINE void neap_local_give(struct neap_local *local,
                                        struct neap_span *span, uint32_t index)
{
    struct neap_span_cold *cold = neap_span_cold(span);
    _Atomic uint64_t *word = &cold->held[index >> 6];
    uint64_t held =
        atomic_load_explicit(word, memory_order_relaxed) & ~(1ull << (index & 63));

    atomic_store_explicit(word, held, memory_order_relaxed);
    if (NEAP_UNLIKELY(held < cold->limit))
        neap_local_look(local, span);
    if (NEAP_UNLIKELY(local->ticks-- == 0))
        neap_local_tick(local);
}

/* Bits of word `word` that are carved. */
static inline uint64_t neap_span_mask(const struct neap_span *span, unsigned word)
{
    unsigned bits = span->carved - word * 64;

    return span->carved <= word * 64 ? 0 : bits >= 64 ? ~0ull : (1ull << bits) - 1;
}

#endif

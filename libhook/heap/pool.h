/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Units: got from the kernel in segments, cut into spans, put together again into runs,
 * and given back. Caller holds the lock.
 *
 * When what is given back: a run that may be resident is dirty. The dirty runs together
 * are kept below a budget, the oldest going first; and none stays longer than the
 * delay, as far as anybody passes by to see it. To give a run back is to lower the
 * break if it ends there, to unmap its segment if it is all of it, and MADV_DONTNEED
 * otherwise.
 */
#ifndef NEAP_LIBHOOK_HEAP_POOL_H
#define NEAP_LIBHOOK_HEAP_POOL_H

#include "libhook/heap/heap.h"
#include "libhook/heap/types.h"

/* A span of so many units, with room for `words` of bits, in no state yet; its map is
 * not set. cold->dirty is 0 if all of it reads as zero, which `zero` wishes
 * for, where it is new anyway. NULL: no memory. May unlock and lock again. */
struct neap_span *neap_pool_take(enum neap_pool pool, uint32_t units, unsigned words,
                                 bool zero);
/* The same, aligned to a power of two of units. */
struct neap_span *neap_pool_take_aligned(enum neap_pool pool, uint32_t units,
                                         uint32_t align);

/* Back; its structure becomes a run's. The caller has cleared its map. */
void neap_pool_give(struct neap_span *span);

/* Make the span end after `units`, in place: the rest is given back or the run behind
 * it taken from. False: it cannot be. The map is the caller's. */
bool neap_pool_resize(struct neap_span *span, uint32_t units);

/* Move a span that is all of its mapped segment to one of another size, contents and
 * all. False: it cannot be, and nothing has changed. Its map is the caller's. */
bool neap_pool_remap(struct neap_span *span, uint32_t units);

/* Has nobody looked at the clock for long enough that something may be due? Without the
 * lock. Then, with it: give back what is. */
bool neap_pool_is_due(void);
void neap_pool_settle(void);

/* Give back all that is free, but for so many bytes at the break. Unlocks and locks
 * again. */
void neap_pool_trim(size_t pad);

/* All segments. */
extern struct neap_segment *neap_segments;

struct neap_pool_counts {
    _Atomic size_t used_units; /* read without the lock, too */
    size_t dirty_units, run_units, runs;
    size_t given_back; /* runs that were, ever */
};
extern struct neap_pool_counts neap_pool_counts;

/* As asked for in options and by mallopt. */
extern struct neap_pool_settings {
    uint32_t delay_ms;
    enum neap_heap_thp thp;
    int64_t keep_units;       /* of dirty ones in each pool, whatever their age; < 0: as
                                 is best */
    _Atomic size_t large_min; /* blocks from here on have a mapping; SIZE_MAX: none */
} neap_pool_settings;

#endif

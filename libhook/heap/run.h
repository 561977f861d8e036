/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs: found by length, told apart by age, cut and joined. Caller holds the lock, as
 * for all of the pool, whose inner side this is.
 */
#ifndef NEAP_LIBHOOK_HEAP_RUN_H
#define NEAP_LIBHOOK_HEAP_RUN_H

#include "libhook/heap/types.h"

/* Runs up to 64 units have a bin for each length, longer ones eight to a doubling. */
#define NEAP_RUN_EXACT     64u
#define NEAP_RUN_UNITS_MAX (UINT32_MAX / 4) /* that anybody may ask for */
#define NEAP_RUN_BINS      320u             /* for 32 bits of units */

struct neap_run_bin {
    struct neap_span *first, *last;
};

struct neap_pool_state {
    struct neap_run_bin bin[NEAP_RUN_BINS];
    uint64_t filled[NEAP_RUN_BINS / 64];
    struct neap_span *oldest, *newest; /* dirty runs, by age */
    /* in units; pool.c, regret */
    size_t used, used_most;  /* in spans, now and at once ever */
    size_t dirty;            /* in runs */
    size_t recently, before; /* given back: in this second and the one before; before */
    size_t allowance;
    bool regrets; /* in this second */
};
extern struct neap_pool_state neap_pools[NEAP_POOLS];

static inline struct neap_pool_state *neap_pool_of(const struct neap_span_cold *cold)
{
    return &neap_pools[cold->segment->pool];
}

/* The time when somebody last looked at the clock: runs are dated by it. */
extern _Atomic uint32_t neap_run_now_ms;

/* A run that is long enough, and hardly longer. NULL: there is none. */
struct neap_span *neap_run_find(enum neap_pool pool, uint32_t units);
/* One of the longest. NULL: there is none. */
struct neap_span *neap_run_longest(enum neap_pool pool);

/* Out of the bins and the map, to be changed; and back. */
void neap_run_out(struct neap_span *run);
void neap_run_in(struct neap_span *run);

/* The run beside a span of `segment` that has the unit at `at` as its first or last:
 * of the same segment; or, where segments are cut and joined like runs, of any. */
struct neap_span *neap_run_at(const struct neap_segment *segment, uintptr_t at);
/* Make the run, which lies right before or behind, a part of the span. */
void neap_run_swallow(struct neap_span *span, struct neap_span *run);
/* Put a span that is in no state back among the runs, joined with its neighbours. */
void neap_run_join(struct neap_span *span);
/* What lies behind the first `units` of a span becomes one of its own, in a segment of
 * its own where that is the law. NULL: no memory, and nothing has changed. */
struct neap_span *neap_run_split(struct neap_span *span, uint32_t units,
                                 unsigned words);

void neap_segment_link(struct neap_segment *segment);
void neap_segment_unlink(struct neap_segment *segment);
static inline uintptr_t neap_segment_end(const struct neap_segment *segment)
{
    return segment->base + segment->units * NEAP_UNIT;
}

/* ---- grow.c: address space from the kernel ---- */

/* A run of so many units or more, found anew; `zero`: all of it. False: no memory. */
bool neap_grow(enum neap_pool pool, uint32_t units, bool zero);
/* Lower the break by what of the run is above `keep` units. False: it does not end
 * there. The run may be gone. */
bool neap_grow_lower(struct neap_span *run, uint32_t keep);
/* The run that ends at the break, or NULL. */
struct neap_span *neap_grow_top(void);
/* Give a span that is a mapped segment, and in no bin, so many units, by mremap. */
bool neap_grow_remap(struct neap_span *span, uint32_t units);

#endif

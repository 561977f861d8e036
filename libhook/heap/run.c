/* SPDX-License-Identifier: Apache-2.0 */
#include "libhook/heap/run.h"

#include "libhook/heap/map.h"
#include "libhook/heap/meta.h"
#include "libhook/heap/os.h"
#include "libhook/heap/pool.h"

struct neap_pool_state neap_pools[NEAP_POOLS];
struct neap_segment *neap_segments;
_Atomic uint32_t neap_run_now_ms;
struct neap_pool_counts neap_pool_counts;

/* ---- bins ---- */

static unsigned bin_of(uint32_t units)
{
    unsigned e;

    if (units <= NEAP_RUN_EXACT)
        return units - 1;
    e = 31u - (unsigned)__builtin_clz(units);
    return NEAP_RUN_EXACT + (e - 6) * 8 + (units >> (e - 3) & 7);
}

static void bin_add(struct neap_span *run)
{
    struct neap_span_cold *cold = neap_span_cold(run);
    struct neap_pool_state *pool = neap_pool_of(cold);
    unsigned index = bin_of(cold->units);
    struct neap_run_bin *bin = &pool->bin[index];

    /* Resident ones first: the others cost new memory. */
    if (cold->dirty) {
        cold->prev = NULL;
        cold->next = bin->first;
        *(bin->first ? &neap_span_cold(bin->first)->prev : &bin->last) = run;
        bin->first = run;
    } else {
        cold->next = NULL;
        cold->prev = bin->last;
        *(bin->last ? &neap_span_cold(bin->last)->next : &bin->first) = run;
        bin->last = run;
    }
    pool->filled[index / 64] |= 1ull << index % 64;
    neap_pool_counts.run_units += cold->units;
    neap_pool_counts.runs++;
}

static void bin_remove(struct neap_span *run)
{
    struct neap_span_cold *cold = neap_span_cold(run);
    struct neap_pool_state *pool = neap_pool_of(cold);
    unsigned index = bin_of(cold->units);
    struct neap_run_bin *bin = &pool->bin[index];

    *(cold->prev ? &neap_span_cold(cold->prev)->next : &bin->first) = cold->next;
    *(cold->next ? &neap_span_cold(cold->next)->prev : &bin->last) = cold->prev;
    if (!bin->first)
        pool->filled[index / 64] &= ~(1ull << index % 64);
    neap_pool_counts.run_units -= cold->units;
    neap_pool_counts.runs--;
}

/* Within the first bin they may be shorter, in all others they are long enough. */
struct neap_span *neap_run_find(enum neap_pool number, uint32_t units)
{
    struct neap_pool_state *pool = &neap_pools[number];
    unsigned index = bin_of(units);

    for (struct neap_span *run = pool->bin[index].first; run;
         run = neap_span_cold(run)->next)
        if (neap_span_cold(run)->units >= units)
            return run;
    for (index++; index < NEAP_RUN_BINS; index = (index | 63) + 1) {
        uint64_t filled = pool->filled[index / 64] >> index % 64;

        if (filled)
            return pool->bin[index + (unsigned)__builtin_ctzll(filled)].first;
    }
    return NULL;
}

struct neap_span *neap_run_longest(enum neap_pool number)
{
    struct neap_pool_state *pool = &neap_pools[number];

    for (unsigned i = NEAP_RUN_BINS / 64; i-- > 0;)
        if (pool->filled[i])
            return pool->bin[i * 64 + 63 - (unsigned)__builtin_clzll(pool->filled[i])]
                .first;
    return NULL;
}

/* ---- age ---- */

static void age_add(struct neap_span *run)
{
    struct neap_span_cold *cold = neap_span_cold(run);
    struct neap_pool_state *pool = neap_pool_of(cold);

    if (!cold->dirty)
        return;
    if (!neap_run_now_ms)
        neap_run_now_ms = neap_os_now_ms();
    cold->limit = neap_run_now_ms;
    cold->newer = NULL;
    cold->older = pool->newest;
    if (pool->newest)
        neap_span_cold(pool->newest)->newer = run;
    else
        pool->oldest = run;
    pool->newest = run;
    pool->dirty += cold->dirty;
    neap_pool_counts.dirty_units += cold->dirty;
}

static void age_remove(struct neap_span *run)
{
    struct neap_span_cold *cold = neap_span_cold(run);
    struct neap_pool_state *pool = neap_pool_of(cold);

    if (!cold->dirty)
        return;
    if (cold->older)
        neap_span_cold(cold->older)->newer = cold->newer;
    else
        pool->oldest = cold->newer;
    if (cold->newer)
        neap_span_cold(cold->newer)->older = cold->older;
    else
        pool->newest = cold->older;
    cold->older = cold->newer = NULL;
    pool->dirty -= cold->dirty;
    neap_pool_counts.dirty_units -= cold->dirty;
}

/* ---- runs ---- */

void neap_run_out(struct neap_span *run)
{
    struct neap_span_cold *cold = neap_span_cold(run);

    bin_remove(run);
    age_remove(run);
    neap_map_set(cold->base, 1, NULL);
    neap_map_set(cold->base + (cold->units - 1) * NEAP_UNIT, 1, NULL);
    run->state = NEAP_SPAN_NONE;
}

void neap_run_in(struct neap_span *run)
{
    struct neap_span_cold *cold = neap_span_cold(run);

    run->state = NEAP_SPAN_RUN;
    run->start = cold->base;
    neap_map_set(cold->base, 1, run);
    neap_map_set(cold->base + (cold->units - 1) * NEAP_UNIT, 1, run);
    bin_add(run);
    age_add(run);
}

/* ---- segments ---- */

void neap_segment_link(struct neap_segment *segment)
{
    segment->prev = NULL;
    segment->next = neap_segments;
    if (neap_segments)
        neap_segments->prev = segment;
    neap_segments = segment;
}

void neap_segment_unlink(struct neap_segment *segment)
{
    if (segment->prev)
        segment->prev->next = segment->next;
    else
        neap_segments = segment->next;
    if (segment->next)
        segment->next->prev = segment->prev;
}

/* ---- joining ---- */

struct neap_span *neap_run_at(const struct neap_segment *segment, uintptr_t at)
{
    struct neap_span *span;

    if (segment->pool == NEAP_POOL_SMALL &&
        (at < segment->base || at >= segment->base + segment->units * NEAP_UNIT))
        return NULL;
    span = neap_map_find(at);
    return span && span->state == NEAP_SPAN_RUN &&
                   neap_span_cold(span)->segment->pool == segment->pool
               ? span
               : NULL;
}

void neap_run_swallow(struct neap_span *span, struct neap_span *run)
{
    struct neap_span_cold *cold = neap_span_cold(span), *other = neap_span_cold(run);

    neap_run_out(run);
    if (other->segment != cold->segment) {
        if (other->base < cold->base)
            cold->segment->base = cold->segment->start = other->base;
        cold->segment->units += other->units;
        neap_segment_unlink(other->segment);
        neap_meta_segment_free(other->segment);
    }
    if (other->base < cold->base)
        cold->base = other->base;
    cold->units += other->units;
    cold->dirty += other->dirty;
    neap_meta_span_free(run);
}

void neap_run_join(struct neap_span *span)
{
    struct neap_span_cold *cold = neap_span_cold(span);
    struct neap_span *before = neap_run_at(cold->segment, cold->base - NEAP_UNIT);
    struct neap_span *after =
        neap_run_at(cold->segment, cold->base + cold->units * NEAP_UNIT);

    if (before)
        neap_run_swallow(span, before);
    if (after)
        neap_run_swallow(span, after);
    neap_run_in(span);
}

struct neap_span *neap_run_split(struct neap_span *span, uint32_t units, unsigned words)
{
    struct neap_span_cold *cold = neap_span_cold(span), *other;
    struct neap_segment *segment = cold->segment;
    struct neap_span *rest = neap_meta_span(words);

    if (!rest)
        return NULL;
    other = neap_span_cold(rest);
    if (segment->pool == NEAP_POOL_LARGE) {
        segment = neap_meta_segment();
        if (!segment) {
            neap_meta_span_free(rest);
            return NULL;
        }
        segment->base = segment->start = cold->base + units * NEAP_UNIT;
        segment->units = cold->units - units;
        segment->pool = NEAP_POOL_LARGE;
        cold->segment->units = units;
        neap_segment_link(segment);
    }
    other->segment = segment;
    other->base = cold->base + units * NEAP_UNIT;
    other->units = cold->units - units;
    /* Where in a run the resident units lie is not known; but none is zero for sure. */
    other->dirty = cold->dirty > units ? cold->dirty - units : cold->dirty > 0;
    if (cold->dirty > units)
        cold->dirty = units;
    cold->units = units;
    return rest;
}

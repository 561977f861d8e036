/* SPDX-License-Identifier: Apache-2.0 */
#include "libhook/heap/pool.h"

#include <sys/mman.h>

#include "libhook/heap/lock.h"
#include "libhook/heap/map.h"
#include "libhook/heap/meta.h"
#include "libhook/heap/os.h"
#include "libhook/heap/run.h"

struct neap_pool_settings neap_pool_settings = {
    .delay_ms = 500, .keep_units = -1, .large_min = NEAP_LARGE_MIN};

/* ---- giving back ---- */

/*
 * Regret: memory taken anew soon after some was given back shows that it was given back
 * too soon, and widens the budget by as much; a second without any narrows it by half.
 * A program that allocates and frees the same again and again so keeps it from the
 * second time on, up to what it has ever used at once.
 */
#define KEEP_SMALL 256u  /* units: 4 MiB */
#define KEEP_LARGE 2048u /* 32 MiB, but no more than half of what was used */

static void regret_taken(struct neap_pool_state *pool, size_t units)
{
    if (units > pool->recently)
        units = pool->recently;
    if (!units)
        return;
    pool->recently -= units;
    pool->regrets = true;
    pool->allowance += units;
    if (pool->allowance > pool->used_most)
        pool->allowance = pool->used_most;
}

static void regret_second(struct neap_pool_state *pool, uint32_t seconds)
{
    if (!pool->regrets)
        pool->allowance = seconds < 32 ? pool->allowance >> seconds : 0;
    pool->regrets = false;
    pool->recently = pool->before < pool->recently ? pool->recently - pool->before : 0;
    if (seconds > 1)
        pool->recently = 0;
    pool->before = pool->recently;
}

static size_t budget_of(const struct neap_pool_state *pool)
{
    size_t keep = KEEP_SMALL;

    if (neap_pool_settings.keep_units >= 0)
        return (size_t)neap_pool_settings.keep_units;
    if (pool == &neap_pools[NEAP_POOL_LARGE])
        keep = pool->used_most / 2 < KEEP_LARGE ? pool->used_most / 2 : KEEP_LARGE;
    return (pool->used / 8 > keep ? pool->used / 8 : keep) + pool->allowance;
}

static void give_back(struct neap_span *run, uint32_t keep)
{
    struct neap_span_cold *cold = neap_span_cold(run);
    struct neap_segment *segment = cold->segment;

    neap_pool_of(cold)->recently += cold->dirty;
    neap_pool_counts.given_back++;
    if (neap_grow_lower(run, keep))
        return;
    neap_run_out(run);
    if (!segment->brk && cold->units == segment->units &&
        neap_os_unmap(segment->base, segment->units * NEAP_UNIT)) {
        neap_segment_unlink(segment);
        neap_meta_segment_free(segment);
        neap_meta_span_free(run);
        return;
    }
    /* Where even that fails, as for locked memory, it counts as hardly anything, so as
     * not to be tried again and again; but it does not read as zero. */
    cold->dirty = !neap_os_advise(cold->base, cold->units * NEAP_UNIT, MADV_DONTNEED);
    neap_run_in(run);
}

void neap_pool_settle(void)
{
    static uint32_t second_ms;
    uint32_t now_ms, seconds;

    now_ms = neap_os_now_ms();
    neap_run_now_ms = now_ms;
    seconds = (now_ms - second_ms) / 1000;

    if (seconds)
        second_ms = now_ms;
    for (struct neap_pool_state *pool = neap_pools; pool < neap_pools + NEAP_POOLS;
         pool++) {
        size_t budget;

        if (seconds)
            regret_second(pool, seconds);
        budget = budget_of(pool);
        for (unsigned i = 0; i < 32 && pool->oldest && neap_os_room(4) &&
                             (pool->dirty > budget ||
                              (neap_pool_settings.keep_units < 0 &&
                               now_ms - (uint32_t)neap_span_cold(pool->oldest)->limit >=
                                   neap_pool_settings.delay_ms));
             i++)
            give_back(pool->oldest, 0);
    }
}

/* The clock costs as much as the rest of giving a span: now and then is enough. */
static void settle(void)
{
    static uint32_t skipped;

    if (++skipped % 16 == 0 ||
        neap_pools[NEAP_POOL_SMALL].dirty > budget_of(&neap_pools[NEAP_POOL_SMALL]) ||
        neap_pools[NEAP_POOL_LARGE].dirty > budget_of(&neap_pools[NEAP_POOL_LARGE]))
        neap_pool_settle();
}

bool neap_pool_is_due(void)
{
    uint32_t wait_ms = neap_pool_settings.delay_ms / 4;

    return neap_os_now_ms() -
               atomic_load_explicit(&neap_run_now_ms, memory_order_relaxed) >=
           (wait_ms < 250 ? wait_ms : 250);
}

void neap_pool_trim(size_t pad)
{
    uint32_t keep =
        pad / NEAP_UNIT < UINT32_MAX ? (uint32_t)(pad / NEAP_UNIT) : UINT32_MAX;
    struct neap_span *run;

    /* No more than there are now: what cannot be given back is in the list again. */
    for (struct neap_pool_state *pool = neap_pools; pool < neap_pools + NEAP_POOLS;
         pool++) {
        for (size_t i = neap_pool_counts.runs; i && pool->oldest; i--) {
            if (!neap_os_room(4)) {
                neap_unlock();
                neap_lock();
                if (!pool->oldest)
                    break;
            }
            give_back(pool->oldest, keep);
        }
    }
    run = neap_grow_top();
    if (run && neap_grow_lower(run, keep))
        neap_pool_counts.given_back++;
    for (struct neap_segment *segment = neap_segments, *next; segment; segment = next) {
        next = segment->next;
        if (!segment->brk && segment->used == 0 && neap_os_room(4))
            give_back(neap_map_find(segment->base), keep);
    }
    /* The caller goes on to ask the kernel. */
    if (!neap_os_room(12)) {
        neap_unlock();
        neap_lock();
    }
}

/* ---- face ---- */

/* So many units more, or less, are in spans. */
static void count_used(struct neap_span_cold *cold, size_t more, size_t less)
{
    struct neap_pool_state *pool = neap_pool_of(cold);

    cold->segment->used += (uint32_t)more - (uint32_t)less;
    pool->used += more - less;
    if (pool->used > pool->used_most)
        pool->used_most = pool->used;
    neap_pool_counts.used_units += more - less;
}

/* The first units of a run as a span with room for `words`; the rest stays a run. */
static struct neap_span *cut(struct neap_span *run, uint32_t units, unsigned words)
{
    struct neap_span_cold *cold = neap_span_cold(run);
    struct neap_span *rest = NULL, *span = run;

    if (run->kind != neap_span_kind(words)) {
        span = neap_meta_span(words);
        if (!span)
            return NULL;
    }
    neap_run_out(run);
    if (cold->units > units) {
        rest = neap_run_split(run, units, 1);
        if (!rest) {
            neap_run_in(run);
            if (span != run)
                neap_meta_span_free(span);
            return NULL;
        }
        neap_run_in(rest);
    }
    if (span != run) {
        struct neap_span_cold *other = neap_span_cold(span);

        other->segment = cold->segment;
        other->base = cold->base;
        other->units = cold->units;
        other->dirty = cold->dirty;
        neap_meta_span_free(run);
    }
    span->words = (uint8_t)words;
    count_used(neap_span_cold(span), units, 0);
    return span;
}

/* A run that is long enough; where the kernel gives no more, one of the other pool. */
static struct neap_span *find(enum neap_pool pool, uint32_t units, bool zero)
{
    struct neap_span *run = neap_run_find(pool, units);

    if (run)
        return run;
    if (neap_grow(pool, units, zero))
        return neap_run_find(pool, units);
    return neap_run_find(NEAP_POOL_SMALL + NEAP_POOL_LARGE - pool, units);
}

struct neap_span *neap_pool_take(enum neap_pool pool, uint32_t units, unsigned words,
                                 bool zero)
{
    struct neap_span *run = find(pool, units, zero), *span;

    span = run ? cut(run, units, words) : NULL;
    if (NEAP_UNLIKELY(!span) && neap_pool_counts.runs) {
        /* At a limit, be it for blocks or for metadata: once more, with all that is
         * free given back. */
        neap_pool_trim(0);
        run = find(pool, units, zero);
        span = run ? cut(run, units, words) : NULL;
    }
    if (span)
        regret_taken(&neap_pools[pool], units - neap_span_cold(span)->dirty);
    return span;
}

static struct neap_span *take_aligned(enum neap_pool pool, uint32_t units,
                                      uint32_t align)
{
    uint32_t more = units + align - 1, before;
    struct neap_span *head, *span;
    struct neap_span_cold *cold;

    if (more < units || more > NEAP_RUN_UNITS_MAX)
        return NULL;
    head = neap_pool_take(pool, more, 1, false);
    if (!head)
        return NULL;
    cold = neap_span_cold(head);
    before = (uint32_t)(-(cold->base >> NEAP_UNIT_SHIFT) & (align - 1));
    span = before ? neap_run_split(head, before, 1) : head;
    if (!span) {
        neap_pool_give(head);
        return NULL;
    }
    span->words = 1;
    if (span != head) {
        if (cold->segment != neap_span_cold(span)->segment) {
            cold->segment->used = before;
            neap_span_cold(span)->segment->used = neap_span_cold(span)->units;
        }
        neap_pool_give(head);
    }
    if (neap_span_cold(span)->units > units && !neap_pool_resize(span, units)) {
        neap_pool_give(span);
        return NULL;
    }
    return span;
}

struct neap_span *neap_pool_take_aligned(enum neap_pool pool, uint32_t units,
                                         uint32_t align)
{
    struct neap_span *span = take_aligned(pool, units, align);

    if (!span && neap_pool_counts.runs) {
        neap_pool_trim(0); /* for metadata, as above */
        span = take_aligned(pool, units, align);
    }
    return span;
}

void neap_pool_give(struct neap_span *span)
{
    struct neap_span_cold *cold = neap_span_cold(span);

    count_used(cold, 0, cold->units);
    neap_run_join(span);
    settle();
}

bool neap_pool_resize(struct neap_span *span, uint32_t units)
{
    struct neap_span_cold *cold = neap_span_cold(span);
    uint32_t had = cold->units;
    struct neap_span *run;

    if (units < had) {
        run = neap_run_split(span, units, 1);
        if (!run)
            return false;
        if (neap_span_cold(run)->segment != cold->segment) {
            cold->segment->used = units;
            neap_span_cold(run)->segment->used = had - units;
        }
        neap_span_cold(run)->dirty = had - units;
        neap_pool_give(run);
        return true;
    }
    if (units > had) {
        run = neap_run_at(cold->segment, cold->base + had * NEAP_UNIT);
        if (!run || neap_span_cold(run)->units < units - had)
            return false;
        run = cut(run, units - had, 1);
        if (!run)
            return false;
        /* Used already: it only changes hands. */
        if (neap_span_cold(run)->segment != cold->segment)
            cold->segment->used += units - had;
        neap_run_in(run);
        neap_run_swallow(span, run);
    }
    return true;
}

bool neap_pool_remap(struct neap_span *span, uint32_t units)
{
    struct neap_span_cold *cold = neap_span_cold(span);
    uint32_t had = cold->units;

    if (cold->segment->pool != NEAP_POOL_LARGE || !neap_grow_remap(span, units))
        return false;
    count_used(cold, units, had);
    return true;
}

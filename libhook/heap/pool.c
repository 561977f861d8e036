/* SPDX-License-Identifier: Apache-2.0 */
#include "libhook/heap/pool.h"

#include <sys/mman.h>

#include "libhook/heap/lock.h"
#include "libhook/heap/map.h"
#include "libhook/heap/meta.h"
#include "libhook/heap/os.h"

/* Runs up to 64 units have a bin for each length, longer ones eight to a doubling. */
#define EXACT 64u
#define BINS 256u

struct bin {
    struct neap_span *first, *last;
};

struct pool {
    struct bin bin[BINS];
    uint64_t filled[BINS / 64];
    struct neap_span *oldest, *newest; /* dirty runs, by age */
    /* units; see regret */
    size_t used, used_most;   /* in spans, now and at once ever */
    size_t dirty;             /* in runs */
    size_t recently, before;  /* given back: in this second and the one before; before */
    size_t allowance;
    bool regrets; /* in this second */
};

static struct pool pools[NEAP_POOLS];

static struct pool *pool_of(const struct neap_span_cold *cold)
{
    return &pools[cold->segment->pool];
}

struct neap_segment *neap_segments;
struct neap_pool_counts neap_pool_counts;
struct neap_pool_settings neap_pool_settings = {.delay_ms = 500};

/* ---- bins ---- */

static unsigned bin_of(uint32_t units)
{
    unsigned e;

    if (units <= EXACT)
        return units - 1;
    e = 31u - (unsigned)__builtin_clz(units);
    return EXACT + (e - 6) * 8 + (units >> (e - 3) & 7);
}

static void bin_add(struct neap_span *run)
{
    struct neap_span_cold *cold = neap_span_cold(run);
    struct pool *pool = pool_of(cold);
    unsigned index = bin_of(cold->units);
    struct bin *bin = &pool->bin[index];

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
    struct pool *pool = pool_of(cold);
    unsigned index = bin_of(cold->units);
    struct bin *bin = &pool->bin[index];

    *(cold->prev ? &neap_span_cold(cold->prev)->next : &bin->first) = cold->next;
    *(cold->next ? &neap_span_cold(cold->next)->prev : &bin->last) = cold->prev;
    if (!bin->first)
        pool->filled[index / 64] &= ~(1ull << index % 64);
    neap_pool_counts.run_units -= cold->units;
    neap_pool_counts.runs--;
}

/* The shortest run that is long enough, or nearly so: within a bin the first. */
static struct neap_span *bin_find(struct pool *pool, uint32_t units)
{
    unsigned index = bin_of(units);

    for (struct neap_span *run = pool->bin[index].first; run;
         run = neap_span_cold(run)->next)
        if (neap_span_cold(run)->units >= units)
            return run;
    for (index++; index < BINS; index = (index | 63) + 1) {
        uint64_t filled = pool->filled[index / 64] >> index % 64;

        if (filled)
            return pool->bin[index + (unsigned)__builtin_ctzll(filled)].first;
    }
    return NULL;
}

/* ---- age ---- */

static void age_add(struct neap_span *run)
{
    struct neap_span_cold *cold = neap_span_cold(run);
    struct pool *pool = pool_of(cold);

    if (!cold->dirty)
        return;
    cold->limit = neap_os_now_ms();
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
    struct pool *pool = pool_of(cold);

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

static void run_out(struct neap_span *run)
{
    struct neap_span_cold *cold = neap_span_cold(run);

    bin_remove(run);
    age_remove(run);
    neap_map_set(cold->base, 1, NULL);
    neap_map_set(cold->base + (cold->units - 1) * NEAP_UNIT, 1, NULL);
    run->state = NEAP_SPAN_NONE;
}

static void run_in(struct neap_span *run)
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

static void link_segment(struct neap_segment *segment)
{
    segment->prev = NULL;
    segment->next = neap_segments;
    if (neap_segments)
        neap_segments->prev = segment;
    neap_segments = segment;
}

static void unlink_segment(struct neap_segment *segment)
{
    if (segment->prev)
        segment->prev->next = segment->next;
    else
        neap_segments = segment->next;
    if (segment->next)
        segment->next->prev = segment->prev;
}

/* ---- joining ---- */

/* The run beside a span of `segment` that has the unit at `at` as its first or last:
 * of the same segment; or, where segments are cut and joined like runs, of any. */
static struct neap_span *run_at(const struct neap_segment *segment, uintptr_t at)
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

/* Make the run, which lies right before or behind, a part of the span. */
static void swallow(struct neap_span *span, struct neap_span *run)
{
    struct neap_span_cold *cold = neap_span_cold(span), *other = neap_span_cold(run);

    run_out(run);
    if (other->segment != cold->segment) {
        if (other->base < cold->base)
            cold->segment->base = cold->segment->start = other->base;
        cold->segment->units += other->units;
        unlink_segment(other->segment);
        neap_meta_segment_free(other->segment);
    }
    if (other->base < cold->base)
        cold->base = other->base;
    cold->units += other->units;
    cold->dirty += other->dirty;
    neap_meta_span_free(run);
}

/* Put a span that is in no state back among the runs, joined with its neighbours. */
static void join(struct neap_span *span)
{
    struct neap_span_cold *cold = neap_span_cold(span);
    struct neap_span *before = run_at(cold->segment, cold->base - NEAP_UNIT);
    struct neap_span *after =
        run_at(cold->segment, cold->base + cold->units * NEAP_UNIT);

    if (before)
        swallow(span, before);
    if (after)
        swallow(span, after);
    run_in(span);
}

/* What lies behind the first `units` of a span becomes one of its own, in a segment of
 * its own where that is the law. NULL: no memory, and nothing has changed. */
static struct neap_span *split(struct neap_span *span, uint32_t units, unsigned words)
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
        link_segment(segment);
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

static void choose_pages(uintptr_t base, size_t size)
{
    if (neap_pool_settings.thp == NEAP_HEAP_THP_ALWAYS)
        neap_os_advise(base, size, MADV_HUGEPAGE);
    else if (neap_pool_settings.thp == NEAP_HEAP_THP_NEVER)
        neap_os_advise(base, size, MADV_NOHUGEPAGE);
}

/* Units at the end of a segment that read as zero, as a run. */
static bool new_run(struct neap_segment *segment, uintptr_t base, uint32_t units)
{
    struct neap_span *span = neap_meta_span(1);
    struct neap_span_cold *cold;

    if (!span)
        return false;
    cold = neap_span_cold(span);
    cold->segment = segment;
    cold->base = base;
    cold->units = units;
    cold->dirty = 0;
    join(span);
    return true;
}

/* The segment that ends at the break, if it is ours still. */
static struct neap_segment *top;

static uintptr_t end_of(const struct neap_segment *segment)
{
    return segment->base + segment->units * NEAP_UNIT;
}

/* Enough for `units`, and an eighth of what there is, so that a growing heap moves the
 * break now and then; what is not touched costs nothing. */
static uint32_t step(uint32_t units, uint32_t least, uint32_t most)
{
    size_t more = neap_pool_counts.used_units / 8;

    more = more < least ? least : more > most ? most : more;
    return units > more ? units : (uint32_t)more;
}

static bool grow_by_break(uint32_t units)
{
    uintptr_t now = neap_os_break(), base, to;
    struct neap_segment *segment = top;
    uint32_t missing = units;

    if (now == NEAP_OS_FAILED || neap_pool_settings.no_brk)
        return false;
    if (segment && end_of(segment) == now) {
        struct neap_span *last = run_at(segment, now - NEAP_UNIT);

        missing -= last ? neap_span_cold(last)->units : 0;
        base = now;
    } else {
        segment = NULL;
        base = (now + NEAP_UNIT - 1) & ~(NEAP_UNIT - 1);
    }
    missing = step(missing, 16, 256);
    to = base + missing * NEAP_UNIT;
    if ((segment && segment->units > UINT32_MAX / 2) || to < base ||
        !neap_map_reach(base, missing))
        return false;
    if (!segment) {
        segment = neap_meta_segment();
        if (!segment)
            return false;
        segment->base = base;
        segment->start = now;
        segment->brk = true;
    }
    if (!neap_os_break_to(now, to)) {
        if (segment != top)
            neap_meta_segment_free(segment);
        return false;
    }
    choose_pages(base, missing * NEAP_UNIT);
    if (segment != top)
        link_segment(segment);
    top = segment;
    segment->units += missing;
    if (new_run(segment, base, missing))
        return true;
    segment->units -= missing;
    neap_os_break_to(to, now);
    if (segment->units == 0) {
        unlink_segment(segment);
        neap_meta_segment_free(segment);
        top = NULL;
    }
    return false;
}

/* New mapped units, as a run of a segment. */
static bool new_segment(struct neap_segment *segment, uintptr_t base, uint32_t units,
                        enum neap_pool pool)
{
    segment->base = segment->start = base;
    segment->units = units;
    segment->pool = (uint8_t)pool;
    choose_pages(base, units * NEAP_UNIT);
    link_segment(segment);
    if (neap_map_reach(base, units) && new_run(segment, base, units))
        return true;
    unlink_segment(segment);
    neap_os_unmap(base, units * NEAP_UNIT);
    neap_meta_segment_free(segment);
    return false;
}

static bool grow_by_map(enum neap_pool pool, uint32_t units)
{
    uint32_t count = pool == NEAP_POOL_SMALL ? step(units, 64, 1024) : units;
    struct neap_segment *segment = neap_meta_segment();
    uintptr_t base;

    if (!segment)
        return false;
    base = neap_os_map_aligned(count * NEAP_UNIT, NEAP_UNIT);
    if (base == NEAP_OS_FAILED && count > units) {
        count = units;
        base = neap_os_map_aligned(count * NEAP_UNIT, NEAP_UNIT);
    }
    if (base == NEAP_OS_FAILED) {
        neap_meta_segment_free(segment);
        return false;
    }
    return new_segment(segment, base, count, pool);
}

/* Move a span or a run that is out of its bin. */
static bool remap(struct neap_span *span, uint32_t units)
{
    struct neap_span_cold *cold = neap_span_cold(span);
    struct neap_segment *segment = cold->segment;
    size_t old_size = cold->units * NEAP_UNIT, size = units * NEAP_UNIT;
    uintptr_t place;

    if (!neap_map_reach(segment->base, units) ||
        !neap_os_remap(segment->base, old_size, size, segment->base)) {
        /* Elsewhere it must lie on a unit, and in the map: the place is made first. */
        place = neap_os_map_aligned(size, NEAP_UNIT);
        if (place == NEAP_OS_FAILED)
            return false;
        if (!neap_map_reach(place, units) ||
            !neap_os_remap(segment->base, old_size, size, place)) {
            neap_os_unmap(place, size);
            return false;
        }
        segment->base = segment->start = cold->base = place;
    }
    segment->units = cold->units = units;
    return true;
}

/*
 * No run is long enough: what the longest one lacks, right below it, where the kernel
 * puts the next mapping anyway. The run's own pages need no fault and no clearing then.
 * (To make it longer by mremap moves it, and the kernel never again takes it and its
 * neighbours as one mapping, which the next mremap then fails on.)
 */
static bool grow_below(uint32_t units)
{
    struct pool *pool = &pools[NEAP_POOL_LARGE];
    struct neap_span *run = NULL;
    struct neap_segment *segment;
    struct neap_span_cold *cold;
    uintptr_t base;
    uint32_t missing;

    for (unsigned i = BINS / 64; i-- > 0 && !run;)
        if (pool->filled[i])
            run = pool->bin[i * 64 + 63 - (unsigned)__builtin_clzll(pool->filled[i])]
                      .first;
    if (!run)
        return false;
    cold = neap_span_cold(run);
    missing = units - cold->units;
    base = cold->base - missing * NEAP_UNIT;
    if (base > cold->base || !neap_map_reach(base, missing))
        return false;
    segment = neap_meta_segment();
    if (!segment)
        return false;
    if (!neap_os_map_at(base, missing * NEAP_UNIT)) {
        neap_meta_segment_free(segment);
        return false;
    }
    return new_segment(segment, base, missing, NEAP_POOL_LARGE);
}

/* ---- giving back ---- */

/*
 * Regret: memory taken anew soon after some was given back shows that it was given back
 * too soon, and widens the budget by as much; a second without any narrows it by half.
 * A program that allocates and frees the same again and again so keeps it from the
 * second time on, up to what it has ever used at once.
 */
#define KEEP_SMALL 256u  /* units: 4 MiB */
#define KEEP_LARGE 2048u /* 32 MiB, but no more than half of what was used */

static void regret_taken(struct pool *pool, size_t units)
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

static void regret_second(struct pool *pool, uint32_t seconds)
{
    if (!pool->regrets)
        pool->allowance = seconds < 32 ? pool->allowance >> seconds : 0;
    pool->regrets = false;
    pool->recently = pool->before < pool->recently ? pool->recently - pool->before : 0;
    if (seconds > 1)
        pool->recently = 0;
    pool->before = pool->recently;
}

static size_t budget_of(const struct pool *pool)
{
    size_t keep = KEEP_SMALL;

    if (pool == &pools[NEAP_POOL_LARGE])
        keep = pool->used_most / 2 < KEEP_LARGE ? pool->used_most / 2 : KEEP_LARGE;
    return (pool->used / 8 > keep ? pool->used / 8 : keep) + pool->allowance;
}

/* Lower the break by what of the run is above `keep` units. */
static bool lower(struct neap_span *run, uint32_t keep)
{
    struct neap_span_cold *cold = neap_span_cold(run);
    struct neap_segment *segment = cold->segment;
    uintptr_t end = end_of(segment);

    if (segment != top || cold->base + cold->units * NEAP_UNIT != end ||
        cold->units <= keep || neap_os_break() != end ||
        !neap_os_break_to(end, cold->base + keep * NEAP_UNIT))
        return false;
    run_out(run);
    segment->units -= cold->units - keep;
    cold->units = keep;
    if (cold->dirty > keep)
        cold->dirty = keep;
    if (keep)
        run_in(run);
    else
        neap_meta_span_free(run);
    return true;
}

static void give_back(struct neap_span *run, uint32_t keep)
{
    struct neap_span_cold *cold = neap_span_cold(run);
    struct neap_segment *segment = cold->segment;

    pool_of(cold)->recently += cold->dirty;
    if (lower(run, keep))
        return;
    run_out(run);
    if (!segment->brk && cold->units == segment->units &&
        neap_os_unmap(segment->base, segment->units * NEAP_UNIT)) {
        unlink_segment(segment);
        neap_meta_segment_free(segment);
        neap_meta_span_free(run);
        return;
    }
    /* Where even that fails, as for locked memory, it counts as hardly anything, so as
     * not to be tried again and again; but it does not read as zero. */
    cold->dirty =
        !neap_os_advise(cold->base, cold->units * NEAP_UNIT, MADV_DONTNEED);
    run_in(run);
}

static void settle(void)
{
    static uint32_t second_ms;
    uint32_t now_ms = neap_os_now_ms(), seconds = (now_ms - second_ms) / 1000;

    if (seconds)
        second_ms = now_ms;
    for (struct pool *pool = pools; pool < pools + NEAP_POOLS; pool++) {
        size_t budget;

        if (seconds)
            regret_second(pool, seconds);
        budget = budget_of(pool);
        for (unsigned i = 0;
             i < 32 && pool->oldest && neap_os_room(4) &&
             (pool->dirty > budget ||
              now_ms - (uint32_t)neap_span_cold(pool->oldest)->limit >=
                  neap_pool_settings.delay_ms);
             i++)
            give_back(pool->oldest, 0);
    }
}

bool neap_pool_trim(size_t pad)
{
    uint32_t keep = pad / NEAP_UNIT < UINT32_MAX ? (uint32_t)(pad / NEAP_UNIT) : 0;
    size_t before = neap_os_mapped, dirty = neap_pool_counts.dirty_units;
    struct neap_span *run;

    /* No more than there are now: what cannot be given back is in the list again. */
    for (struct pool *pool = pools; pool < pools + NEAP_POOLS; pool++) {
        for (size_t i = neap_pool_counts.runs; i && pool->oldest; i--) {
            if (!neap_os_room(4)) {
                neap_unlock();
                neap_lock();
            }
            give_back(pool->oldest, keep);
        }
    }
    run = top ? run_at(top, end_of(top) - NEAP_UNIT) : NULL;
    if (run)
        lower(run, keep);
    for (struct neap_segment *segment = neap_segments, *next; segment; segment = next) {
        next = segment->next;
        if (!segment->brk && segment->used == 0 && neap_os_room(4))
            give_back(neap_map_find(segment->base), keep);
    }
    return neap_os_mapped < before || neap_pool_counts.dirty_units < dirty;
}

/* ---- face ---- */

/* So many units more, or less, are in spans. */
static void count_used(struct neap_span_cold *cold, size_t more, size_t less)
{
    struct pool *pool = pool_of(cold);

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
    run_out(run);
    if (cold->units > units) {
        rest = split(run, units, 1);
        if (!rest) {
            run_in(run);
            if (span != run)
                neap_meta_span_free(span);
            return NULL;
        }
        run_in(rest);
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

struct neap_span *neap_pool_take(enum neap_pool pool, uint32_t units, unsigned words)
{
    struct neap_span *run = bin_find(&pools[pool], units), *span;

    if (!run) {
        if (!(pool == NEAP_POOL_SMALL ? grow_by_break(units) : grow_below(units)) &&
            !grow_by_map(pool, units))
            return NULL;
        run = bin_find(&pools[pool], units);
        if (!run)
            return NULL;
    }
    span = cut(run, units, words);
    if (span)
        regret_taken(&pools[pool], units - neap_span_cold(span)->dirty);
    return span;
}

struct neap_span *neap_pool_take_aligned(enum neap_pool pool, uint32_t units,
                                         uint32_t align)
{
    uint32_t more = units + align - 1, before;
    struct neap_span *head, *span;
    struct neap_span_cold *cold;

    if (more < units)
        return NULL;
    head = neap_pool_take(pool, more, 1);
    if (!head)
        return NULL;
    cold = neap_span_cold(head);
    before = (uint32_t)(-(cold->base >> NEAP_UNIT_SHIFT) & (align - 1));
    span = before ? split(head, before, 1) : head;
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

void neap_pool_give(struct neap_span *span)
{
    struct neap_span_cold *cold = neap_span_cold(span);

    count_used(cold, 0, cold->units);
    join(span);
    settle();
}

bool neap_pool_resize(struct neap_span *span, uint32_t units)
{
    struct neap_span_cold *cold = neap_span_cold(span);
    uint32_t had = cold->units;
    struct neap_span *run;

    if (units < had) {
        run = split(span, units, 1);
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
        run = run_at(cold->segment, cold->base + had * NEAP_UNIT);
        if (!run || neap_span_cold(run)->units < units - had)
            return false;
        run = cut(run, units - had, 1);
        if (!run)
            return false;
        /* Used already: it only changes hands. */
        if (neap_span_cold(run)->segment != cold->segment)
            cold->segment->used += units - had;
        run_in(run);
        swallow(span, run);
    }
    return true;
}

bool neap_pool_remap(struct neap_span *span, uint32_t units)
{
    struct neap_span_cold *cold = neap_span_cold(span);
    uint32_t had = cold->units;

    if (cold->segment->pool != NEAP_POOL_LARGE || !remap(span, units))
        return false;
    count_used(cold, units, had);
    return true;
}

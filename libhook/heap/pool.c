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
};

static struct pool pools[NEAP_POOLS];
static struct neap_span *oldest, *newest; /* dirty runs, by age */

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
    struct pool *pool = &pools[cold->segment->pool];
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
    struct pool *pool = &pools[cold->segment->pool];
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

    if (!cold->dirty)
        return;
    cold->limit = neap_os_now_ms();
    cold->newer = NULL;
    cold->older = newest;
    if (newest)
        neap_span_cold(newest)->newer = run;
    else
        oldest = run;
    newest = run;
    neap_pool_counts.dirty_units += cold->dirty;
}

static void age_remove(struct neap_span *run)
{
    struct neap_span_cold *cold = neap_span_cold(run);

    if (!cold->dirty)
        return;
    if (cold->older)
        neap_span_cold(cold->older)->newer = cold->newer;
    else
        oldest = cold->newer;
    if (cold->newer)
        neap_span_cold(cold->newer)->older = cold->older;
    else
        newest = cold->older;
    cold->older = cold->newer = NULL;
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

/* The run of the same segment that has the unit at `at` as its first or last. */
static struct neap_span *run_at(const struct neap_segment *segment, uintptr_t at)
{
    struct neap_span *span;

    if (at < segment->base || at >= segment->base + segment->units * NEAP_UNIT)
        return NULL;
    span = neap_map_find(at);
    return span && span->state == NEAP_SPAN_RUN ? span : NULL;
}

/* Put a span that is in no state back among the runs, joined with its neighbours. */
static struct neap_span *join(struct neap_span *span)
{
    struct neap_span_cold *cold = neap_span_cold(span);
    struct neap_span *before = run_at(cold->segment, cold->base - NEAP_UNIT);
    struct neap_span *after =
        run_at(cold->segment, cold->base + cold->units * NEAP_UNIT);

    if (before) {
        struct neap_span_cold *other = neap_span_cold(before);

        run_out(before);
        cold->base = other->base;
        cold->units += other->units;
        cold->dirty += other->dirty;
        neap_meta_span_free(before);
    }
    if (after) {
        struct neap_span_cold *other = neap_span_cold(after);

        run_out(after);
        cold->units += other->units;
        cold->dirty += other->dirty;
        neap_meta_span_free(after);
    }
    run_in(span);
    return span;
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
    segment->base = segment->start = base;
    segment->units = count;
    segment->pool = (uint8_t)pool;
    choose_pages(base, count * NEAP_UNIT);
    link_segment(segment);
    if (neap_map_reach(base, count) && new_run(segment, base, count))
        return true;
    unlink_segment(segment);
    neap_os_unmap(base, count * NEAP_UNIT);
    neap_meta_segment_free(segment);
    return false;
}

/* ---- giving back ---- */

/*
 * Regret: memory taken anew soon after some was given back shows that it was given back
 * too soon, and widens the budget by as much, up to 32 MiB; a second without any narrows
 * it by half.
 */
#define ALLOWANCE_MAX 2048u
#define BUDGET_MIN 64u

static struct {
    size_t recently;  /* units given back since the last tick of a second */
    size_t allowance; /* units */
    uint32_t since_ms;
} regret;

static void regret_taken(size_t units)
{
    if (units > regret.recently)
        units = regret.recently;
    regret.recently -= units;
    regret.allowance += units;
    if (regret.allowance > ALLOWANCE_MAX)
        regret.allowance = ALLOWANCE_MAX;
}

static void regret_tick(uint32_t now_ms)
{
    uint32_t passed = now_ms - regret.since_ms;

    if (passed < 1000)
        return;
    regret.allowance = passed < 10000 ? regret.allowance >> passed / 1000 : 0;
    regret.recently = 0;
    regret.since_ms = now_ms;
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

    regret.recently += cold->dirty;
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
    uint32_t now_ms = neap_os_now_ms();
    size_t budget;

    regret_tick(now_ms);
    budget = neap_pool_counts.used_units / 8;
    budget = (budget > BUDGET_MIN ? budget : BUDGET_MIN) + regret.allowance;
    for (unsigned i = 0;
         i < 32 && oldest && neap_os_room(4) &&
         (neap_pool_counts.dirty_units > budget ||
          now_ms - (uint32_t)neap_span_cold(oldest)->limit >= neap_pool_settings.delay_ms);
         i++)
        give_back(oldest, 0);
}

bool neap_pool_trim(size_t pad)
{
    uint32_t keep = pad / NEAP_UNIT < UINT32_MAX ? (uint32_t)(pad / NEAP_UNIT) : 0;
    size_t before = neap_os_mapped, dirty = neap_pool_counts.dirty_units;
    struct neap_span *run;

    /* No more than there are now: what cannot be given back is in the list again. */
    for (size_t i = neap_pool_counts.runs; i && oldest; i--) {
        if (!neap_os_room(4)) {
            neap_unlock();
            neap_lock();
        }
        give_back(oldest, keep);
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

/* The first units of a run that is out of its bin, the rest back in. */
static struct neap_span *cut(struct neap_span *run, uint32_t units, unsigned words)
{
    struct neap_span_cold *rest = neap_span_cold(run), *cold;
    struct neap_span *span = run;

    if (rest->units > units || run->kind != neap_span_kind(words)) {
        span = neap_meta_span(words);
        if (!span)
            return NULL;
    }
    run_out(run);
    cold = neap_span_cold(span);
    if (span != run) {
        cold->segment = rest->segment;
        cold->base = rest->base;
        cold->units = units;
        cold->dirty = rest->dirty < units ? rest->dirty : units;
        rest->base += units * NEAP_UNIT;
        rest->units -= units;
        rest->dirty -= cold->dirty;
        if (cold->dirty && rest->units && rest->dirty == 0)
            rest->dirty = 1; /* not known to be zero */
        if (rest->units)
            run_in(run);
        else
            neap_meta_span_free(run);
    }
    span->words = (uint8_t)words;
    cold->segment->used += units;
    neap_pool_counts.used_units += units;
    return span;
}

struct neap_span *neap_pool_take(enum neap_pool pool, uint32_t units, unsigned words)
{
    struct neap_span *run = bin_find(&pools[pool], units), *span;

    if (!run) {
        if (!(pool == NEAP_POOL_SMALL && grow_by_break(units)) &&
            !grow_by_map(pool, units))
            return NULL;
        run = bin_find(&pools[pool], units);
        if (!run)
            return NULL;
    }
    span = cut(run, units, words);
    if (span && neap_span_cold(span)->dirty == 0)
        regret_taken(units);
    return span;
}

struct neap_span *neap_pool_take_aligned(enum neap_pool pool, uint32_t units,
                                         uint32_t align)
{
    uint32_t more = units + align - 1, before;
    struct neap_span *head, *span;
    struct neap_span_cold *cold, *other;

    if (more < units)
        return NULL;
    span = neap_pool_take(pool, more, 1);
    if (!span)
        return NULL;
    cold = neap_span_cold(span);
    before = (uint32_t)(-(cold->base >> NEAP_UNIT_SHIFT) & (align - 1));
    if (before) {
        head = neap_meta_span(1);
        if (!head) {
            neap_pool_give(span);
            return NULL;
        }
        other = neap_span_cold(head);
        other->segment = cold->segment;
        other->base = cold->base;
        other->units = before;
        other->dirty = cold->dirty;
        cold->base += before * NEAP_UNIT;
        cold->units -= before;
        neap_pool_give(head);
    }
    if (cold->units > units && !neap_pool_resize(span, units)) {
        neap_pool_give(span);
        return NULL;
    }
    return span;
}

void neap_pool_give(struct neap_span *span)
{
    struct neap_span_cold *cold = neap_span_cold(span);

    cold->segment->used -= cold->units;
    neap_pool_counts.used_units -= cold->units;
    join(span);
    settle();
}

bool neap_pool_resize(struct neap_span *span, uint32_t units)
{
    struct neap_span_cold *cold = neap_span_cold(span), *other;
    uintptr_t end = cold->base + cold->units * NEAP_UNIT;
    struct neap_span *run;

    if (units < cold->units) {
        run = neap_meta_span(1);
        if (!run)
            return false;
        other = neap_span_cold(run);
        other->segment = cold->segment;
        other->units = cold->units - units;
        other->base = cold->base + units * NEAP_UNIT;
        other->dirty = other->units;
        cold->units = units;
        neap_pool_give(run);
        return true;
    }
    if (units > cold->units) {
        uint32_t more = units - cold->units;

        run = run_at(cold->segment, end);
        if (!run || neap_span_cold(run)->units < more)
            return false;
        run = cut(run, more, 1);
        if (!run)
            return false;
        cold->dirty += neap_span_cold(run)->dirty;
        cold->units = units;
        neap_meta_span_free(run);
    }
    return true;
}

bool neap_pool_remap(struct neap_span *span, uint32_t units)
{
    struct neap_span_cold *cold = neap_span_cold(span);
    struct neap_segment *segment = cold->segment;
    size_t old_size = cold->units * NEAP_UNIT, size = units * NEAP_UNIT;
    uintptr_t place;

    if (segment->brk || segment->units != cold->units)
        return false;
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
    segment->used = segment->units = units;
    neap_pool_counts.used_units += units - old_size / NEAP_UNIT;
    cold->units = units;
    return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small pool: the break first, so that the heap is one piece that can be lowered again;
 * mappings where somebody else has taken the place or the break is not to be had.
 * Large pool: mappings.
 */
#include <sys/mman.h>

#include "libhook/heap/map.h"
#include "libhook/heap/meta.h"
#include "libhook/heap/os.h"
#include "libhook/heap/pool.h"
#include "libhook/heap/run.h"

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
    neap_run_join(span);
    return true;
}

/* The segment that ends at the break, if it is ours still. */
static struct neap_segment *top;

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

    if (now == NEAP_OS_FAILED)
        return false;
    if (segment && neap_segment_end(segment) == now) {
        struct neap_span *last = neap_run_at(segment, now - NEAP_UNIT);

        missing -= last ? neap_span_cold(last)->units : 0;
        base = now;
    } else {
        segment = NULL;
        base = (now + NEAP_UNIT - 1) & ~(NEAP_UNIT - 1);
    }
    missing = step(missing, 16, 256);
    to = base + missing * NEAP_UNIT;
    if ((segment && segment->units > UINT32_MAX / 2) || to < base)
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
        neap_segment_link(segment);
    top = segment;
    segment->units += missing;
    if (neap_map_reach(base, missing) && new_run(segment, base, missing))
        return true;
    segment->units -= missing;
    neap_os_break_to(to, now);
    if (segment->units == 0) {
        neap_segment_unlink(segment);
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
    neap_segment_link(segment);
    if (neap_map_reach(base, units) && new_run(segment, base, units))
        return true;
    neap_segment_unlink(segment);
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

bool neap_grow_remap(struct neap_span *span, uint32_t units)
{
    struct neap_span_cold *cold = neap_span_cold(span);
    struct neap_segment *segment = cold->segment;
    size_t old_size = cold->units * NEAP_UNIT, size = units * NEAP_UNIT;
    uintptr_t place;

    if (neap_os_remap(segment->base, old_size, size, segment->base)) {
        if (!neap_map_reach(segment->base, units)) {
            neap_os_remap(segment->base, size, old_size, segment->base);
            return false;
        }
    } else if (units <= cold->units || neap_os_is_cut(segment->base, old_size)) {
        /* The kernel may have unmapped the new place before it finds that the old one
         * is more than one mapping, and somebody else may be there by then: not tried.
         */
        return false;
    } else {
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
    struct neap_span *run = neap_run_longest(NEAP_POOL_LARGE);
    struct neap_segment *segment;
    struct neap_span_cold *cold;
    uintptr_t base;
    uint32_t missing;

    if (!run)
        return false;
    cold = neap_span_cold(run);
    missing = units - cold->units;
    base = cold->base - missing * NEAP_UNIT;
    if (base > cold->base)
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

bool neap_grow_lower(struct neap_span *run, uint32_t keep)
{
    struct neap_span_cold *cold = neap_span_cold(run);
    struct neap_segment *segment = cold->segment;
    uintptr_t end = neap_segment_end(segment);

    if (segment != top || cold->base + cold->units * NEAP_UNIT != end ||
        cold->units <= keep || neap_os_break() != end ||
        !neap_os_break_to(end, cold->base + keep * NEAP_UNIT))
        return false;
    neap_run_out(run);
    segment->units -= cold->units - keep;
    cold->units = keep;
    if (cold->dirty > keep)
        cold->dirty = keep;
    if (keep)
        neap_run_in(run);
    else
        neap_meta_span_free(run);
    return true;
}

struct neap_span *neap_grow_top(void)
{
    return top ? neap_run_at(top, neap_segment_end(top) - NEAP_UNIT) : NULL;
}

bool neap_grow(enum neap_pool pool, uint32_t units, bool zero)
{
    if (pool == NEAP_POOL_SMALL ? grow_by_break(units) : !zero && grow_below(units))
        return true;
    return grow_by_map(pool, units);
}

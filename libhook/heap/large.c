/* SPDX-License-Identifier: Apache-2.0 */
#include "libhook/heap/large.h"

#include "libhook/heap/lock.h"
#include "libhook/heap/map.h"
#include "libhook/heap/notes.h"
#include "libhook/heap/pool.h"
#include "libhook/heap/run.h"

static uint64_t pages_of(size_t size)
{
    return (size + NEAP_HEAP_PAGE - 1) & ~(uint64_t)(NEAP_HEAP_PAGE - 1);
}

static bool units_of(size_t size, uint32_t *ret)
{
    size_t units = (size + NEAP_UNIT - 1) >> NEAP_UNIT_SHIFT;

    *ret = (uint32_t)units;
    return units <= NEAP_RUN_UNITS_MAX;
}

void *neap_large_alloc(size_t size, size_t align, bool *fresh)
{
    size_t least =
        atomic_load_explicit(&neap_pool_settings.large_min, memory_order_relaxed);
    enum neap_pool pool = size < least ? NEAP_POOL_SMALL : NEAP_POOL_LARGE;
    struct neap_span_cold *cold;
    struct neap_span *span = NULL;
    uint32_t units, align_units;
    void *block = NULL;

    if (size == 0)
        size = 1;
    if (!units_of(size, &units) || !units_of(align, &align_units))
        return NULL;
    neap_lock();
    if (align_units <= 1)
        span = neap_pool_take(pool, units, 1, *fresh);
    else
        span = neap_pool_take_aligned(pool, units, align_units);
    if (span) {
        cold = neap_span_cold(span);
        cold->bytes = pages_of(size);
        *fresh = cold->dirty == 0;
        span->start = cold->base;
        span->size = span->recip = 0;
        span->carved = span->capacity = 1;
        span->state = NEAP_SPAN_LARGE;
        atomic_store_explicit(&span->live[0], 1, memory_order_relaxed);
        atomic_store_explicit(&cold->held[0], 1, memory_order_relaxed);
        neap_map_set(cold->base, 1, span);
        block = (void *)span->start;
    }
    neap_unlock();
    return block;
}

/* Caller holds the lock. */
static struct neap_span *span_of(const void *block)
{
    struct neap_span *span = neap_map_find_any((uintptr_t)block);

    return span && span->state == NEAP_SPAN_LARGE && span->start == (uintptr_t)block
               ? span
               : NULL;
}

bool neap_large_free(void *block)
{
    struct neap_span *span;

    neap_lock();
    span = span_of(block);
    if (span) {
        struct neap_span_cold *cold = neap_span_cold(span);

        neap_notes_release(span);
        atomic_store_explicit(&span->live[0], 0, memory_order_relaxed);
        atomic_store_explicit(&cold->held[0], 0, memory_order_relaxed);
        neap_map_set(cold->base, 1, NULL);
        span->state = NEAP_SPAN_NONE;
        span->carved = span->capacity = 0;
        cold->dirty = cold->units;
        neap_pool_give(span);
    }
    neap_unlock();
    return span != NULL;
}

void *neap_large_resize(void *block, size_t size)
{
    struct neap_span_cold *cold;
    struct neap_span *span;
    uint32_t units;
    void *result = NULL;

    if (!units_of(size, &units))
        return NULL;
    neap_lock();
    span = span_of(block);
    if (span) {
        uintptr_t base = span->start;

        cold = neap_span_cold(span);
        if (neap_pool_remap(span, units) || neap_pool_resize(span, units)) {
            cold->bytes = pages_of(size);
            if (cold->base != base) {
                neap_map_set(base, 1, NULL);
                span->start = cold->base;
                neap_map_set(cold->base, 1, span);
            }
            result = (void *)span->start;
        }
    }
    neap_unlock();
    return result;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "libhook/heap/lists.h"

#include "libhook/heap/local.h"
#include "libhook/heap/lock.h"
#include "libhook/heap/span.h"

_Atomic uint64_t neap_lists_no_word;

void neap_lists_ready_add(struct neap_local *local, struct neap_span *span)
{
    struct neap_span **first = &local->ready[span->class];
    struct neap_span_cold *cold = neap_span_cold(span);

    cold->limit = NEAP_LIMIT_READY;
    cold->prev = NULL;
    cold->next = *first;
    if (*first)
        neap_span_cold(*first)->prev = span;
    *first = span;
}

void neap_lists_ready_remove(struct neap_local *local, struct neap_span *span)
{
    struct neap_span_cold *cold = neap_span_cold(span);

    if (cold->prev)
        neap_span_cold(cold->prev)->next = cold->next;
    else
        local->ready[span->class] = cold->next;
    if (cold->next)
        neap_span_cold(cold->next)->prev = cold->prev;
}

void neap_lists_no_current(struct neap_local *local, unsigned class)
{
    local->current[class] = NULL;
    local->kind[class].held = local->kind[class].live = &neap_lists_no_word;
    local->kind[class].free = 0;
}

void neap_lists_set_current(struct neap_local *local, struct neap_span *span)
{
    neap_span_cold(span)->limit = NEAP_LIMIT_CURRENT;
    local->current[span->class] = span;
    local->kind[span->class].free = 0;
    local->kind[span->class].size = span->size;
}

bool neap_lists_hold_word(struct neap_kind *kind, struct neap_span *span, unsigned word)
{
    _Atomic uint64_t *held = &neap_span_cold(span)->held[word];
    uint64_t before = atomic_load_explicit(held, memory_order_relaxed);

    kind->free = neap_span_mask(span, word) & ~before;
    if (!kind->free)
        return false;
    atomic_store_explicit(held, before | kind->free, memory_order_relaxed);
    kind->held = held;
    kind->live = &span->live[word];
    kind->first = span->start + (uintptr_t)word * 64 * span->size;
    return true;
}

bool neap_lists_hold_any_word(struct neap_kind *kind, struct neap_span *span)
{
    for (unsigned i = 0; i < span->words; i++)
        if (neap_lists_hold_word(kind, span, i))
            return true;
    return false;
}

/* Empty spans that a heap keeps: a pair of calls at the edge of a span, or a batch that
 * comes and goes, would otherwise take and give one each time. */
#define IDLE_UNITS 64u

void neap_lists_release(struct neap_local *local, struct neap_span *span, bool locked)
{
    if (neap_span_cold(span)->limit == NEAP_LIMIT_READY)
        neap_lists_ready_remove(local, span);
    else if (local->current[span->class] == span)
        neap_lists_no_current(local, span->class);
    if (!locked)
        neap_lock();
    neap_span_give(span);
    if (!locked)
        neap_unlock();
}

void neap_lists_emptied(struct neap_local *local, struct neap_span *span, bool locked)
{
    struct neap_span_cold *cold = neap_span_cold(span);

    if (locked || local->idle_units + cold->units > IDLE_UNITS) {
        neap_lists_release(local, span, locked);
        return;
    }
    neap_lists_ready_remove(local, span);
    cold->limit = NEAP_LIMIT_IDLE;
    cold->next = local->idle[span->class];
    local->idle[span->class] = span;
    local->idle_units += cold->units;
}

struct neap_span *neap_lists_idle_take(struct neap_local *local, unsigned class)
{
    struct neap_span *span = local->idle[class];

    if (span) {
        local->idle[class] = neap_span_cold(span)->next;
        local->idle_units -= neap_span_cold(span)->units;
    }
    return span;
}

void neap_lists_release_idle(struct neap_local *local)
{
    struct neap_span *span;

    for (unsigned i = 0; i < NEAP_CLASSES; i++) {
        while ((span = neap_lists_idle_take(local, i)))
            neap_lists_release(local, span, true);
        if (local->current[i] && neap_span_is_empty(local->current[i]))
            neap_lists_release(local, local->current[i], true);
    }
}

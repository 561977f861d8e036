/* SPDX-License-Identifier: Apache-2.0 */
#include "libhook/heap/dead.h"

#include "libhook/heap/lists.h"
#include "libhook/heap/local.h"
#include "libhook/heap/lock.h"
#include "libhook/heap/map.h"
#include "libhook/heap/pool.h"
#include "libhook/heap/queue.h"
#include "libhook/heap/span.h"

static struct neap_local *dead; /* those that are, linked */
/* What ended threads leave behind with blocks to give: a heap that is dead for ever. */
static struct neap_local orphans;

/* Lists anew from the live bits, of a heap whose thread a fork has left behind. */
static void restore(struct neap_local *local)
{
    for (unsigned i = 0; i < NEAP_CLASSES; i++) {
        neap_lists_no_current(local, i);
        local->ready[i] = local->idle[i] = NULL;
        local->kind[i].top = local->kind[i].bottom;
    }
    local->idle_units = 0;
    neap_queue_empty(local);
    local->stale = false;
    for (struct neap_segment *segment = neap_segments; segment;
         segment = segment->next) {
        for (uint32_t unit = 0; unit < segment->units;) {
            struct neap_span *span =
                neap_map_find(segment->base + (uintptr_t)unit * NEAP_UNIT);

            unit += neap_span_cold(span)->units;
            if (span->state != NEAP_SPAN_SMALL || neap_local_owner(span) != local)
                continue;
            neap_span_collect(span);
            neap_span_let_go(span);
            neap_span_cold(span)->limit = NEAP_LIMIT_FULL;
            if (neap_span_has_free(span))
                neap_lists_ready_add(local, span);
        }
    }
}

/* Take a span out of a dead heap. Caller holds the lock. */
static void take_over(struct neap_local *from, struct neap_span *span,
                      struct neap_local *to)
{
    uintptr_t owner = atomic_load_explicit(&span->owner, memory_order_relaxed);

    if (!from->stale) {
        if (neap_span_cold(span)->limit == NEAP_LIMIT_READY)
            neap_lists_ready_remove(from, span);
        else if (from->current[span->class] == span)
            neap_lists_no_current(from, span->class);
    }
    /* Others set the low bit meanwhile. */
    while (!atomic_compare_exchange_weak_explicit(
        &span->owner, &owner, (uintptr_t)to | (owner & NEAP_OWNER_SLOWLY),
        memory_order_release, memory_order_relaxed))
        ;
    neap_span_collect(span);
    neap_span_cold(span)->limit = NEAP_LIMIT_FULL;
    if (neap_span_has_free(span))
        neap_lists_ready_add(to, span);
}

/*
 * What was freed of dead heaps' blocks comes together in the orphans' queue, whosever
 * it was. Caller holds the lock.
 */
static void gather(void)
{
    struct neap_span *span = neap_queue_take(&orphans), *next;

    for (; span; span = next) {
        struct neap_local *owner = neap_local_owner(span);

        next = neap_queue_next(span);
        if (owner == &orphans) {
            neap_queue_collect(&orphans, span, true, true);
            continue;
        }
        neap_queue_out(span);
        owner = neap_local_owner(span);
        if (!owner)
            continue;
        if (atomic_load_explicit(&owner->state, memory_order_relaxed) !=
            NEAP_LOCAL_DEAD) {
            if (neap_span_has_remote(span))
                neap_queue_put(owner, span);
            continue;
        }
        if (owner->stale)
            restore(owner);
        take_over(owner, span, &orphans);
        if (neap_span_is_empty(span))
            neap_lists_release(&orphans, span, true);
    }
}

struct neap_span *neap_dead_inherit(struct neap_local *local, unsigned class)
{
    struct neap_local *from = &orphans;

    gather();
    for (unsigned i = 0; from && i < 16; i++) {
        struct neap_span *span;

        if (from->stale)
            restore(from);
        if (from != &orphans)
            neap_queue_drain(from, true);
        span = from->ready[class];
        if (span) {
            take_over(from, span, local);
            neap_lists_ready_remove(local, span);
            return span;
        }
        from = from == &orphans ? dead : from->next_dead;
    }
    return NULL;
}

void neap_dead_help(struct neap_local *local)
{
    if (atomic_load_explicit(&local->state, memory_order_seq_cst) != NEAP_LOCAL_DEAD)
        return;
    neap_lock();
    if (atomic_load_explicit(&local->state, memory_order_relaxed) == NEAP_LOCAL_DEAD) {
        if (local->stale)
            restore(local);
        neap_queue_drain(local, true);
    }
    neap_unlock();
}

bool neap_dead_claim(struct neap_local *mine, struct neap_span *span)
{
    static __thread const struct neap_span *last;
    bool again = span == last, claimed = false;
    struct neap_local *owner;

    last = span;
    if (!mine || (!again && mine->ready[span->class]))
        return false;
    neap_lock();
    owner = neap_local_owner(span);
    if (owner &&
        atomic_load_explicit(&owner->state, memory_order_relaxed) == NEAP_LOCAL_DEAD) {
        if (owner->stale)
            restore(owner);
        take_over(owner, span, mine);
        claimed = true;
    }
    neap_unlock();
    return claimed;
}

/* Whole spans that wait in the orphans' queue: when that is more than 1 MiB, it is
 * seen to now. */
#define WAITING_UNITS 64u

void neap_dead_freed(struct neap_span *span, uint32_t units)
{
    neap_queue_put(&orphans, span);
    if (!units || atomic_fetch_add_explicit(&orphans.waiting, units,
                                            memory_order_relaxed) <= WAITING_UNITS)
        return;
    neap_lock();
    gather();
    neap_unlock();
}

struct neap_local *neap_dead_adopt(void)
{
    struct neap_local *local = dead;

    if (!local)
        return NULL;
    dead = local->next_dead;
    if (local->stale)
        restore(local);
    atomic_store_explicit(&local->state, NEAP_LOCAL_LIVE, memory_order_relaxed);
    return local;
}

void neap_dead_add(struct neap_local *local)
{
    for (unsigned i = 0; i < NEAP_CLASSES; i++) {
        if (local->current[i])
            take_over(local, local->current[i], &orphans);
        while (local->ready[i])
            take_over(local, local->ready[i], &orphans);
    }
    atomic_store_explicit(&local->state, NEAP_LOCAL_DEAD, memory_order_seq_cst);
    /* What came in before that is seen here; what comes later sees it and helps. */
    neap_queue_drain(local, true);
    local->next_dead = dead;
    dead = local;
}

void neap_dead_begin(void)
{
    for (unsigned i = 0; i < NEAP_CLASSES; i++)
        neap_lists_no_current(&orphans, i);
    atomic_store_explicit(&orphans.state, NEAP_LOCAL_DEAD, memory_order_relaxed);
    orphans.next = neap_locals;
    neap_locals = &orphans;
}

void neap_dead_forked(const struct neap_local *mine)
{
    for (struct neap_local *local = neap_locals; local; local = local->next) {
        if (local == mine ||
            atomic_load_explicit(&local->state, memory_order_relaxed) ==
                NEAP_LOCAL_DEAD)
            continue;
        local->stale = true;
        atomic_store_explicit(&local->state, NEAP_LOCAL_DEAD, memory_order_relaxed);
        local->next_dead = dead;
        dead = local;
    }
}

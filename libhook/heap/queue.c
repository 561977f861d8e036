/* SPDX-License-Identifier: Apache-2.0 */
#include "libhook/heap/queue.h"

#include <sched.h>
#include <sys/mman.h>

#include "libhook/heap/lists.h"
#include "libhook/heap/local.h"
#include "libhook/heap/lock.h"
#include "libhook/heap/map.h"
#include "libhook/heap/meta.h"
#include "libhook/heap/os.h"
#include "libhook/heap/pool.h"
#include "libhook/heap/span.h"

bool neap_queue_put(struct neap_local *local, struct neap_span *span)
{
    struct neap_span_cold *cold = neap_span_cold(span);
    struct neap_span *first;
    uint32_t not = NEAP_QUEUED_NOT;

    /* Be it queued or not: its owner may just have collected, and frees fast again. All
     * in one order with the bit in remote[], see collect. */
    if (!(atomic_load_explicit(&span->owner, memory_order_seq_cst) & NEAP_OWNER_SLOWLY))
        atomic_fetch_or_explicit(&span->owner, NEAP_OWNER_SLOWLY, memory_order_seq_cst);
    if (atomic_load_explicit(&cold->queued, memory_order_seq_cst) != NEAP_QUEUED_NOT ||
        !atomic_compare_exchange_strong_explicit(&cold->queued, &not, NEAP_QUEUED,
                                                 memory_order_seq_cst,
                                                 memory_order_seq_cst))
        return false;
    first = atomic_load_explicit(&local->queue, memory_order_relaxed);
    do {
        atomic_store_explicit(&cold->queue_next, first, memory_order_relaxed);
    } while (!atomic_compare_exchange_weak_explicit(
        &local->queue, &first, span, memory_order_seq_cst, memory_order_relaxed));
    return true;
}

uint32_t neap_queue_hold(struct neap_span_cold *cold)
{
    uint32_t queued = atomic_load_explicit(&cold->queued, memory_order_relaxed);

    for (unsigned tries = 0;; tries++) {
        if (queued >= NEAP_QUEUED_COLLECTING) {
            /* It is a few instructions, or one madvise, of a thread that may have a
             * lower priority and this CPU. */
            if (tries < 32)
                sched_yield();
            else
                neap_os_rest();
            queued = atomic_load_explicit(&cold->queued, memory_order_relaxed);
        } else if (atomic_compare_exchange_weak_explicit(
                       &cold->queued, &queued, NEAP_QUEUED_COLLECTING,
                       memory_order_acquire, memory_order_relaxed)) {
            return queued;
        }
    }
}

void neap_queue_collect(struct neap_local *local, struct neap_span *span, bool out,
                        bool locked)
{
    struct neap_span_cold *cold = neap_span_cold(span);
    uint32_t queued = neap_queue_hold(cold);
    bool some;

    if (!neap_local_hidden &&
        atomic_load_explicit(&cold->marks, memory_order_relaxed) == 0)
        /* First this, then the bits: who sets one after that sets it again. */
        atomic_fetch_and_explicit(&span->owner, ~NEAP_OWNER_SLOWLY,
                                  memory_order_seq_cst);
    /* A mark that came in between. */
    if (atomic_load_explicit(&cold->marks, memory_order_seq_cst))
        atomic_fetch_or_explicit(&span->owner, NEAP_OWNER_SLOWLY, memory_order_relaxed);
    some = neap_span_collect(span);
    /* Who sets a bit from here on queues it again; who did before is looked for. */
    atomic_store_explicit(&cold->queued, out ? NEAP_QUEUED_NOT : queued,
                          memory_order_seq_cst);
    if (neap_span_has_remote(span))
        neap_queue_put(local, span);
    if (!some)
        return;
    if (cold->limit == NEAP_LIMIT_FULL)
        neap_lists_ready_add(local, span);
    if (cold->limit == NEAP_LIMIT_READY && neap_span_is_empty(span))
        neap_lists_emptied(local, span, locked);
}

struct neap_span *neap_queue_take(struct neap_local *local)
{
    atomic_store_explicit(&local->waiting, 0, memory_order_relaxed);
    /* Pairs with the release in neap_queue_put: what is linked is there. */
    return atomic_exchange_explicit(&local->queue, NULL, memory_order_acq_rel);
}

void neap_queue_out(struct neap_span *span)
{
    struct neap_span_cold *cold = neap_span_cold(span);

    neap_queue_hold(cold);
    atomic_store_explicit(&cold->queued, NEAP_QUEUED_NOT, memory_order_seq_cst);
}

/* Out, and on to its owner if that has something to collect. */
static void send_on(struct neap_span *span)
{
    struct neap_local *owner;

    neap_queue_out(span);
    owner = neap_local_owner(span);
    if (owner && neap_span_has_remote(span))
        neap_queue_put(owner, span);
}

void neap_queue_drain(struct neap_local *local, bool locked)
{
    struct neap_span *span = neap_queue_take(local), *next;

    for (; span; span = next) {
        next = neap_queue_next(span);
        if (neap_local_owner(span) == local)
            neap_queue_collect(local, span, true, locked);
        else
            send_on(span);
    }
}

void neap_queue_empty(struct neap_local *local)
{
    struct neap_span *span = neap_queue_take(local), *next;

    for (; span; span = next) {
        next = neap_queue_next(span);
        if (neap_local_owner(span) == local)
            neap_queue_out(span);
        else
            send_on(span);
    }
}

/*
 * The queues anew, in the child. Threads that are gone may have been about to put a
 * span into one; and a span that a heap took over may be in the queue of the one it was
 * taken from: if restore made it be put into another, the two would run into each
 * other.
 */
void neap_queue_anew(void)
{
    for (struct neap_local *local = neap_locals; local; local = local->next)
        atomic_store_explicit(&local->queue, NULL, memory_order_relaxed);
    neap_meta_forked();
    for (struct neap_segment *segment = neap_segments; segment;
         segment = segment->next) {
        for (uint32_t unit = 0; unit < segment->units;) {
            struct neap_span *span =
                neap_map_find(segment->base + (uintptr_t)unit * NEAP_UNIT);
            struct neap_span_cold *cold = neap_span_cold(span);

            unit += cold->units;
            /* Looked at first, so that only what changes is copied. */
            if (atomic_load_explicit(&cold->queued, memory_order_relaxed))
                atomic_store_explicit(&cold->queued, NEAP_QUEUED_NOT,
                                      memory_order_relaxed);
            if (span->state == NEAP_SPAN_SMALL && neap_span_has_remote(span))
                neap_queue_put(neap_local_owner(span), span);
        }
    }
}

bool neap_queue_is_over(struct neap_span *span)
{
    bool over = span->carved > 0;

    for (unsigned i = 0; i < span->words && over; i++)
        over = atomic_load_explicit(neap_span_remote(span, i), memory_order_acquire) ==
               neap_span_mask(span, i);
    return over;
}

bool neap_queue_waits_long(struct neap_local *owner, uint32_t units)
{
    return atomic_fetch_add_explicit(&owner->waiting, units, memory_order_relaxed) >
           256 + neap_pool_counts.used_units / 8;
}

void neap_queue_purge(struct neap_span *span)
{
    struct neap_span_cold *cold = neap_span_cold(span);
    uint32_t queued = NEAP_QUEUED;

    neap_lock();
    if (atomic_compare_exchange_strong_explicit(
            &cold->queued, &queued, NEAP_QUEUED_PURGING, memory_order_acq_rel,
            memory_order_relaxed)) {
        if (span->state == NEAP_SPAN_SMALL && neap_queue_is_over(span))
            neap_os_advise(cold->base, cold->units * NEAP_UNIT, MADV_DONTNEED);
        atomic_store_explicit(&cold->queued, NEAP_QUEUED, memory_order_release);
    }
    neap_unlock();
}

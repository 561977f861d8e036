/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks that a thread other than their owner frees.
 *
 * Who frees one sets its bit in remote[] and, if that is the first since the owner last
 * looked, puts the span into the queue of the owner's heap. From the moment the bit is
 * set the block, and with it the span, may be gone: the owner may collect the bit by
 * another way and give the span back, and its structure may be another span by then. So
 * what follows may put a structure into a queue that has nothing to do with it. That is
 * harmless: who takes it out sends it on to the heap that owns it, if it has bits to
 * collect.
 *
 * While a span is queued its owner's frees take the slow way (NEAP_OWNER_SLOWLY), which
 * collects first: so a block that two threads free is found out, whoever comes first.
 */
#ifndef NEAP_LIBHOOK_HEAP_QUEUE_H
#define NEAP_LIBHOOK_HEAP_QUEUE_H

#include "libhook/heap/types.h"

static inline struct neap_local *neap_local_owner(const struct neap_span *span)
{
    /* Pairs with the release of who made the span, or took it over. */
    return (
        struct neap_local *)(atomic_load_explicit(&span->owner, memory_order_acquire) &
                             ~NEAP_OWNER_SLOWLY);
}

/* False: it was in one already, whose owner sees to it. */
bool neap_queue_put(struct neap_local *local, struct neap_span *span);

/* Nobody else may collect, or purge, what `queued` says is being worked on. Returns
 * what it said before; the caller stores something else than COLLECTING. */
uint32_t neap_queue_hold(struct neap_span_cold *cold);

/* What others freed of it: a span of `local`'s, whose state it brings up to date.
 * `out`: it has been taken out of the queue. */
void neap_queue_collect(struct neap_local *local, struct neap_span *span, bool out,
                        bool locked);

/* All that is in the queue. Caller is its thread, or holds the lock (`locked`) and the
 * heap is dead. */
void neap_queue_drain(struct neap_local *local, bool locked);

/* The same, but its own spans are only taken out. */
void neap_queue_empty(struct neap_local *local);

/* Parts of it: the queue's first span, and no queue any more; the one behind, asked
 * before this one is taken out; out, to be put into one again. */
struct neap_span *neap_queue_take(struct neap_local *local);
static inline struct neap_span *neap_queue_next(const struct neap_span *span)
{
    return atomic_load_explicit(&neap_span_cold(span)->queue_next,
                                memory_order_relaxed);
}
void neap_queue_out(struct neap_span *span);

/* In the child of a fork: queues anew. Caller holds the lock. */
void neap_queue_anew(void);

/*
 * A thread that does not allocate does not collect either: what others free of its
 * blocks would stay resident for as long as it sleeps. So when much of that has come
 * together, who frees the last block of a span gives back its pages, and leaves the
 * rest to the owner. No block of the span can be allocated before its bit is collected,
 * and `queued` keeps the owner from that. (Not where blocks are checked: what is
 * written into free ones is looked for later.)
 */
bool neap_queue_is_over(struct neap_span *span); /* all carved blocks were freed so */
/* The heap, which has one more such span of so many units now, has not looked for a
 * while. */
bool neap_queue_waits_long(struct neap_local *owner, uint32_t units);
void neap_queue_purge(struct neap_span *span);

#endif

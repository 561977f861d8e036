/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread allocates from its stack of blocks freed last, or else from one word of its
 * current span's bits, without a lock. When the word is used up it comes here: to another
 * word of the span, to another span that has free blocks, to blocks that others freed,
 * to a dead heap's, to the pool.
 *
 * Queue. Who frees a block of another thread's sets its bit in remote[] and, if that is
 * the first since the owner last looked, puts the span into the queue of the owner's
 * heap. From the moment the bit is set the block, and with it the span, may be gone: the
 * owner may collect the bit by another way and give the span back, and its structure may
 * be another span by then. So what follows may put a structure into a queue that has
 * nothing to do with it. That is harmless: who takes it out sends it on to the heap that
 * owns it, if it has bits to collect.
 *
 * While a span is queued its owner's frees take the slow way (NEAP_OWNER_SLOWLY), which
 * collects first: so a block that two threads free is found out, whoever comes first.
 *
 * A heap whose thread has ended is dead: a new thread takes it as its own, and meanwhile
 * any thread in need of a span, or about to free a block of it, takes the span over.
 * Dying and taking over are done under the lock. A heap that a fork left behind is dead
 * as well, but stale: its thread may have been anywhere. Its live bits are the truth; its
 * lists are made anew from them when it is taken.
 */
#include "libhook/heap/local.h"

#include <errno.h>
#include <pthread.h>

#include "libhook/heap/lock.h"
#include "libhook/heap/map.h"
#include "libhook/heap/meta.h"
#include "libhook/heap/pool.h"
#include "libhook/heap/span.h"

static _Atomic uint64_t no_word;

#define NONE {.held = &no_word, .live = &no_word}
#define NONE8 NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE

struct neap_local neap_local_none = {
    .kind = {NONE8, NONE8, NONE8, NONE8, NONE8, NONE8, NONE8, NONE8, NONE8},
};
__thread struct neap_local *neap_local = &neap_local_none;
static __thread struct neap_local *mine; /* the same, or behind neap_local_none */

struct neap_local *neap_locals;
bool neap_local_hidden;

static struct neap_local *dead; /* those that are, linked */
static _Atomic unsigned dead_count;
static uint32_t numbers;
static pthread_key_t key;
static bool has_key;

struct neap_local *neap_local_mine(void)
{
    return mine;
}

/* ---- states of a span; the owner's thread, or the lock if that is dead ---- */

static void ready_add(struct neap_local *local, struct neap_span *span)
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

static void ready_remove(struct neap_local *local, struct neap_span *span)
{
    struct neap_span_cold *cold = neap_span_cold(span);

    if (cold->prev)
        neap_span_cold(cold->prev)->next = cold->next;
    else
        local->ready[span->class] = cold->next;
    if (cold->next)
        neap_span_cold(cold->next)->prev = cold->prev;
}

static void no_current(struct neap_local *local, unsigned class)
{
    local->current[class] = NULL;
    local->kind[class].held = local->kind[class].live = &no_word;
    local->kind[class].mask = 0;
}

static void set_current(struct neap_local *local, struct neap_span *span)
{
    neap_span_cold(span)->limit = NEAP_LIMIT_CURRENT;
    local->current[span->class] = span;
    local->kind[span->class].mask = 0;
    local->kind[span->class].size = span->size;
}

static void set_word(struct neap_kind *kind, struct neap_span *span, unsigned word)
{
    kind->held = &neap_span_cold(span)->held[word];
    kind->live = &span->live[word];
    kind->mask = neap_span_mask(span, word);
    kind->first = span->start + (uintptr_t)word * 64 * span->size;
}

/* To the first word of the current span that has a free block. */
static bool find_word(struct neap_kind *kind, struct neap_span *span)
{
    const struct neap_span_cold *cold = neap_span_cold(span);

    for (unsigned i = 0; i < span->words; i++) {
        if (neap_span_mask(span, i) &
            ~atomic_load_explicit(&cold->held[i], memory_order_relaxed)) {
            set_word(kind, span, i);
            return true;
        }
    }
    return false;
}

/* Out of the heap's lists, to the pool. */
static void release(struct neap_local *local, struct neap_span *span, bool locked)
{
    if (neap_span_cold(span)->limit == NEAP_LIMIT_READY)
        ready_remove(local, span);
    else if (local->current[span->class] == span)
        no_current(local, span->class);
    if (!locked)
        neap_lock();
    neap_span_give(span);
    if (!locked)
        neap_unlock();
}

void neap_local_look(struct neap_local *local, struct neap_span *span)
{
    if (neap_span_cold(span)->limit == NEAP_LIMIT_FULL) {
        ready_add(local, span);
        if (!neap_span_is_empty(span))
            return;
    }
    if (neap_span_cold(span)->limit == NEAP_LIMIT_READY && neap_span_is_empty(span))
        release(local, span, false);
}

/* ---- the queue ---- */

static void queue_put(struct neap_local *local, struct neap_span *span)
{
    struct neap_span_cold *cold = neap_span_cold(span);
    struct neap_span *first;

    if (atomic_load_explicit(&cold->queued, memory_order_relaxed) ||
        atomic_exchange_explicit(&cold->queued, 1, memory_order_acq_rel))
        return;
    atomic_fetch_or_explicit(&span->owner, NEAP_OWNER_SLOWLY, memory_order_relaxed);
    first = atomic_load_explicit(&local->queue, memory_order_relaxed);
    do {
        atomic_store_explicit(&cold->queue_next, first, memory_order_relaxed);
    } while (!atomic_compare_exchange_weak_explicit(
        &local->queue, &first, span, memory_order_seq_cst, memory_order_relaxed));
}

static struct neap_local *owner_of(const struct neap_span *span)
{
    return (struct neap_local *)(atomic_load_explicit(&span->owner,
                                                      memory_order_acquire) &
                                 ~NEAP_OWNER_SLOWLY);
}

/* What others freed of it: a span of `local`'s, whose state it brings up to date. */
static void collect(struct neap_local *local, struct neap_span *span, bool locked)
{
    if (!neap_local_hidden &&
        atomic_load_explicit(&neap_span_cold(span)->marks, memory_order_relaxed) == 0)
        atomic_fetch_and_explicit(&span->owner, ~NEAP_OWNER_SLOWLY,
                                  memory_order_relaxed);
    if (!neap_span_collect(span))
        return;
    if (neap_span_cold(span)->limit == NEAP_LIMIT_FULL)
        ready_add(local, span);
    if (neap_span_cold(span)->limit == NEAP_LIMIT_READY && neap_span_is_empty(span))
        release(local, span, locked);
}

/* Caller is its thread, or holds the lock (`locked`) and the heap is dead. */
static void drain(struct neap_local *local, bool locked)
{
    struct neap_span *span, *next;

    /* Pairs with the release in queue_put: what is linked is there. */
    span = atomic_exchange_explicit(&local->queue, NULL, memory_order_acq_rel);
    for (; span; span = next) {
        struct neap_span_cold *cold = neap_span_cold(span);
        struct neap_local *owner;

        next = atomic_load_explicit(&cold->queue_next, memory_order_relaxed);
        /* First this, then the bits: who sets a bit after that queues it again. */
        atomic_store_explicit(&cold->queued, 0, memory_order_seq_cst);
        owner = owner_of(span);
        if (owner == local)
            collect(local, span, locked);
        else if (owner)
            queue_put(owner, span);
    }
}

/* ---- dead heaps ---- */

/* Lists anew from the live bits, of a heap whose thread a fork has left behind. */
static void restore(struct neap_local *local)
{
    for (unsigned i = 0; i < NEAP_CLASSES; i++) {
        no_current(local, i);
        local->ready[i] = NULL;
        local->kind[i].top = local->kind[i].bottom;
    }
    atomic_store_explicit(&local->queue, NULL, memory_order_relaxed);
    local->stale = false;
    for (struct neap_segment *segment = neap_segments; segment;
         segment = segment->next) {
        for (uint32_t unit = 0; unit < segment->units;) {
            struct neap_span *span =
                neap_map_find(segment->base + (uintptr_t)unit * NEAP_UNIT);

            unit += neap_span_cold(span)->units;
            if (span->state != NEAP_SPAN_SMALL || owner_of(span) != local)
                continue;
            atomic_store_explicit(&neap_span_cold(span)->queued, 0,
                                  memory_order_relaxed);
            neap_span_collect(span);
            neap_span_let_go(span);
            neap_span_cold(span)->limit = NEAP_LIMIT_FULL;
            if (neap_span_has_free(span))
                ready_add(local, span);
        }
    }
}

/* Take a span out of a dead heap. Caller holds the lock. */
static void take_over(struct neap_local *from, struct neap_span *span,
                      struct neap_local *to)
{
    uintptr_t slowly = atomic_load_explicit(&span->owner, memory_order_relaxed) &
                       NEAP_OWNER_SLOWLY;

    if (!from->stale) {
        if (neap_span_cold(span)->limit == NEAP_LIMIT_READY)
            ready_remove(from, span);
        else if (from->current[span->class] == span)
            no_current(from, span->class);
    }
    atomic_store_explicit(&span->owner, (uintptr_t)to | slowly, memory_order_release);
    neap_span_collect(span);
    neap_span_cold(span)->limit = NEAP_LIMIT_FULL;
    if (neap_span_has_free(span))
        ready_add(to, span);
}

/* A span of the class that has free blocks, from the first dead heaps. */
static struct neap_span *inherit(struct neap_local *local, unsigned class)
{
    struct neap_local *from = dead;

    for (unsigned i = 0; from && i < 16; i++, from = from->next_dead) {
        struct neap_span *span;

        if (from->stale)
            restore(from);
        drain(from, true);
        span = from->ready[class] ? from->ready[class] : from->current[class];
        if (!span)
            continue;
        take_over(from, span, local);
        if (neap_span_cold(span)->limit == NEAP_LIMIT_READY) {
            ready_remove(local, span);
            return span;
        }
    }
    return NULL;
}

/* Something has come into the queue of a heap that may be dead. */
static void help(struct neap_local *local)
{
    if (atomic_load_explicit(&local->state, memory_order_seq_cst) != NEAP_LOCAL_DEAD)
        return;
    neap_lock();
    if (atomic_load_explicit(&local->state, memory_order_relaxed) == NEAP_LOCAL_DEAD) {
        if (local->stale)
            restore(local);
        drain(local, true);
    }
    neap_unlock();
}

/* Make the span the caller's, if its owner is dead. */
static bool claim(struct neap_span *span)
{
    struct neap_local *owner;
    bool claimed = false;

    neap_lock();
    owner = owner_of(span);
    if (owner && atomic_load_explicit(&owner->state, memory_order_relaxed) ==
                     NEAP_LOCAL_DEAD) {
        if (owner->stale)
            restore(owner);
        take_over(owner, span, mine);
        claimed = true;
    }
    neap_unlock();
    return claimed;
}

bool neap_local_free(struct neap_span *span, uint32_t index)
{
    uint64_t bit = 1ull << index % 64, before;
    struct neap_local *owner = owner_of(span);

    if (mine && owner != mine &&
        atomic_load_explicit(&owner->state, memory_order_relaxed) == NEAP_LOCAL_DEAD &&
        claim(span))
        owner = mine;
    if (mine && owner == mine) {
        _Atomic uint64_t *word = &span->live[index / 64];

        collect(mine, span, false);
        before = atomic_load_explicit(word, memory_order_relaxed);
        if (!(before & bit))
            return false;
        atomic_store_explicit(word, before & ~bit, memory_order_relaxed);
        neap_local_give(mine, span, index);
        return true;
    }
    if (!(atomic_load_explicit(&span->live[index / 64], memory_order_relaxed) & bit))
        return false;
    before = atomic_fetch_or_explicit(neap_span_remote(span, index / 64), bit,
                                      memory_order_seq_cst);
    if (before & bit)
        return false;
    queue_put(owner, span);
    help(owner);
    return true;
}

/* ---- threads ---- */

/* What is on the heap's stacks goes to the spans. */
static void unstack(struct neap_local *local)
{
    for (unsigned i = 0; i < NEAP_CLASSES; i++) {
        struct neap_kind *kind = &local->kind[i];

        while (kind->top != kind->bottom) {
            uintptr_t address = (uintptr_t)(--kind->top)->block;
            struct neap_span *span = neap_map_find(address);
            uint32_t index;

            neap_span_index(span, address, &index);
            neap_local_give(local, span, index);
        }
    }
}

static void thread_ends(void *heap)
{
    struct neap_local *local = heap;

    neap_local = &neap_local_none;
    unstack(local);
    mine = NULL;
    neap_lock();
    drain(local, true);
    for (unsigned i = 0; i < NEAP_CLASSES; i++)
        if (local->current[i] && neap_span_is_empty(local->current[i]))
            release(local, local->current[i], true);
    atomic_store_explicit(&local->state, NEAP_LOCAL_DEAD, memory_order_seq_cst);
    /* What came in before that is seen here; what comes later sees it and helps. */
    drain(local, true);
    local->next_dead = dead;
    dead = local;
    atomic_fetch_add_explicit(&dead_count, 1, memory_order_relaxed);
    neap_unlock();
}

static struct neap_local *adopt(void)
{
    struct neap_local *local = dead;

    if (!local)
        return NULL;
    dead = local->next_dead;
    atomic_fetch_sub_explicit(&dead_count, 1, memory_order_relaxed);
    if (local->stale)
        restore(local);
    atomic_store_explicit(&local->state, NEAP_LOCAL_LIVE, memory_order_relaxed);
    return local;
}

/* Blocks on a stack: up to 8 KiB of a class, but at least one and at most 32. */
static unsigned room_of(unsigned class)
{
    unsigned room = 32768 / neap_class_size(class);

    return neap_local_hidden ? 0 : room > 64 ? 64 : room < 1 ? 1 : room;
}

static struct neap_local *create(void)
{
    struct neap_local *local;
    struct neap_entry *entry;
    unsigned room = 0;

    for (unsigned i = 0; i < NEAP_CLASSES; i++)
        room += room_of(i);
    local = neap_meta_bytes(sizeof(*local) + room * sizeof(*entry));
    if (!local)
        return NULL;
    entry = (struct neap_entry *)(local + 1);
    for (unsigned i = 0; i < NEAP_CLASSES; i++) {
        no_current(local, i);
        local->kind[i].top = local->kind[i].bottom = entry;
        entry += room_of(i);
        local->kind[i].end = entry;
    }
    local->number = ++numbers;
    local->next = neap_locals;
    neap_locals = local;
    return local;
}

static struct neap_local *attach(void)
{
    struct neap_local *local;

    neap_lock();
    local = adopt();
    if (!local)
        local = create();
    neap_unlock();
    if (!local)
        return NULL;
    mine = local;
    if (!neap_local_hidden)
        neap_local = local;
    if (has_key) {
        int saved = errno;

        /* May allocate: there is a heap by now. */
        pthread_setspecific(key, local);
        errno = saved;
    }
    return local;
}

void neap_local_begin(void)
{
    has_key = pthread_key_create(&key, thread_ends) == 0;
}

void neap_local_forked(void)
{
    for (struct neap_local *local = neap_locals; local; local = local->next) {
        if (local == mine || atomic_load_explicit(&local->state,
                                                  memory_order_relaxed) ==
                                 NEAP_LOCAL_DEAD)
            continue;
        local->stale = true;
        atomic_store_explicit(&local->state, NEAP_LOCAL_DEAD, memory_order_relaxed);
        local->next_dead = dead;
        dead = local;
        atomic_fetch_add_explicit(&dead_count, 1, memory_order_relaxed);
    }
}

/* ---- allocation ---- */

/* More blocks of the current span: at least what one kernel page holds, so that pages
 * are touched one after the other; up to the end of a word. */
static void *carve(struct neap_local *local, struct neap_span *span, bool *fresh)
{
    unsigned more = span->size < NEAP_HEAP_PAGE ? NEAP_HEAP_PAGE / span->size : 1;
    unsigned word = span->carved / 64, end = span->carved + more;
    struct neap_kind *kind = &local->kind[span->class];

    if (end > (word + 1) * 64)
        end = (word + 1) * 64;
    if (end > span->capacity)
        end = span->capacity;
    *fresh = more == 1 && neap_span_cold(span)->dirty == 0;
    span->carved = (uint16_t)end;
    set_word(kind, span, word);
    return neap_kind_take(kind);
}

static struct neap_span *next_span(struct neap_local *local, unsigned class)
{
    struct neap_span *span = local->ready[class];

    if (span) {
        ready_remove(local, span);
        return span;
    }
    neap_lock();
    if (atomic_load_explicit(&dead_count, memory_order_relaxed))
        span = inherit(local, class);
    if (!span)
        span = neap_span_take(class, (uintptr_t)local |
                                         (neap_local_hidden ? NEAP_OWNER_SLOWLY : 0));
    neap_unlock();
    return span;
}

void *neap_local_refill(unsigned class, bool *fresh)
{
    struct neap_local *local = mine ? mine : attach();
    struct neap_kind *kind;
    struct neap_span *span;

    *fresh = false;
    if (!local)
        return NULL;
    kind = &local->kind[class];
    for (;;) {
        span = local->current[class];
        if (span) {
            if (find_word(kind, span))
                return neap_kind_take(kind);
            if (span->carved < span->capacity)
                return carve(local, span, fresh);
            neap_span_cold(span)->limit = NEAP_LIMIT_FULL;
            no_current(local, class);
        }
        if (!local->ready[class] &&
            atomic_load_explicit(&local->queue, memory_order_relaxed))
            drain(local, false);
        span = next_span(local, class);
        if (!span)
            return NULL;
        set_current(local, span);
    }
}

void neap_local_trim(void)
{
    struct neap_local *local = mine;

    if (!local)
        return;
    unstack(local);
    drain(local, false);
    for (unsigned i = 0; i < NEAP_CLASSES; i++)
        if (local->current[i] && neap_span_is_empty(local->current[i]))
            release(local, local->current[i], false);
}

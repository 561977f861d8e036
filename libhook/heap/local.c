/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread allocates from its stack of blocks freed last, or else from one word of its
 * current span's bits, without a lock. When the word is used up it comes here: to
 * another word of the span, to another span that has free blocks, to blocks that others
 * freed, to a dead heap's, to the pool.
 *
 * Queue. Who frees a block of another thread's sets its bit in remote[] and, if that is
 * the first since the owner last looked, puts the span into the queue of the owner's
 * heap. From the moment the bit is set the block, and with it the span, may be gone:
 * the owner may collect the bit by another way and give the span back, and its
 * structure may be another span by then. So what follows may put a structure into a
 * queue that has nothing to do with it. That is harmless: who takes it out sends it on
 * to the heap that owns it, if it has bits to collect.
 *
 * While a span is queued its owner's frees take the slow way (NEAP_OWNER_SLOWLY), which
 * collects first: so a block that two threads free is found out, whoever comes first.
 *
 * A heap whose thread has ended is dead. Its spans that have blocks to give are
 * orphans, which any thread in need of one takes over; its full ones stay with it until
 * somebody frees a block of theirs, or until a new thread takes the heap as its own.
 * Dying and taking over are done under the lock. A heap that a fork left behind is dead
 * as well, but stale: its thread may have been anywhere. Its live bits are the truth;
 * its lists are made anew from them when it is taken.
 */
#include "libhook/heap/local.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

#include "libhook/heap/lock.h"
#include "libhook/heap/map.h"
#include "libhook/heap/meta.h"
#include "libhook/heap/os.h"
#include "libhook/heap/pool.h"
#include "libhook/heap/span.h"

static _Atomic uint64_t no_word;

#define NONE                               \
    {                                      \
        .held = &no_word, .live = &no_word \
    }
#define NONE8 NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE

struct neap_local neap_local_none = {
    .kind = {NONE8, NONE8, NONE8, NONE8, NONE8, NONE8, NONE8, NONE8, NONE8},
};
__thread struct neap_local *neap_local = &neap_local_none;
static __thread struct neap_local *mine; /* the same, or behind neap_local_none */

struct neap_local *neap_locals;
bool neap_local_hidden;

static struct neap_local *dead; /* those that are, linked */
/* What ended threads leave behind with blocks to give: a heap that is dead for ever. */
static struct neap_local orphans;
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
    local->kind[class].free = 0;
}

static void set_current(struct neap_local *local, struct neap_span *span)
{
    neap_span_cold(span)->limit = NEAP_LIMIT_CURRENT;
    local->current[span->class] = span;
    local->kind[span->class].free = 0;
    local->kind[span->class].size = span->size;
}

/* The free blocks of a word of the current span are the heap's. False: there are none.
 */
static bool hold_word(struct neap_kind *kind, struct neap_span *span, unsigned word)
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

static bool hold_any_word(struct neap_kind *kind, struct neap_span *span)
{
    for (unsigned i = 0; i < span->words; i++)
        if (hold_word(kind, span, i))
            return true;
    return false;
}

/* Empty spans that a heap keeps: a pair of calls at the edge of a span, or a batch that
 * comes and goes, would otherwise take and give one each time. */
#define IDLE_UNITS 64u

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

/* A ready span that is empty: kept, or released. */
static void emptied(struct neap_local *local, struct neap_span *span, bool locked)
{
    struct neap_span_cold *cold = neap_span_cold(span);

    if (locked || local->idle_units + cold->units > IDLE_UNITS) {
        release(local, span, locked);
        return;
    }
    ready_remove(local, span);
    cold->limit = NEAP_LIMIT_IDLE;
    cold->next = local->idle[span->class];
    local->idle[span->class] = span;
    local->idle_units += cold->units;
}

static struct neap_span *idle_take(struct neap_local *local, unsigned class)
{
    struct neap_span *span = local->idle[class];

    if (span) {
        local->idle[class] = neap_span_cold(span)->next;
        local->idle_units -= neap_span_cold(span)->units;
    }
    return span;
}

/* What the heap keeps without need. Caller holds the lock. */
static void release_idle(struct neap_local *local)
{
    struct neap_span *span;

    for (unsigned i = 0; i < NEAP_CLASSES; i++) {
        while ((span = idle_take(local, i)))
            release(local, span, true);
        if (local->current[i] && neap_span_is_empty(local->current[i]))
            release(local, local->current[i], true);
    }
}

void neap_local_look(struct neap_local *local, struct neap_span *span)
{
    if (neap_span_cold(span)->limit == NEAP_LIMIT_FULL) {
        ready_add(local, span);
        if (!neap_span_is_empty(span))
            return;
    }
    if (neap_span_cold(span)->limit == NEAP_LIMIT_READY && neap_span_is_empty(span))
        emptied(local, span, false);
}

/* ---- the queue ---- */

static void queue_put(struct neap_local *local, struct neap_span *span)
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
        return;
    first = atomic_load_explicit(&local->queue, memory_order_relaxed);
    do {
        atomic_store_explicit(&cold->queue_next, first, memory_order_relaxed);
    } while (!atomic_compare_exchange_weak_explicit(
        &local->queue, &first, span, memory_order_seq_cst, memory_order_relaxed));
}

static struct neap_local *owner_of(const struct neap_span *span)
{
    return (
        struct neap_local *)(atomic_load_explicit(&span->owner, memory_order_acquire) &
                             ~NEAP_OWNER_SLOWLY);
}

/* Nobody else may collect, or purge, what `queued` says is being worked on. */
static uint32_t hold(struct neap_span_cold *cold)
{
    uint32_t queued = atomic_load_explicit(&cold->queued, memory_order_relaxed);

    for (;;) {
        if (queued >= NEAP_QUEUED_COLLECTING) {
            sched_yield();
            queued = atomic_load_explicit(&cold->queued, memory_order_relaxed);
        } else if (atomic_compare_exchange_weak_explicit(
                       &cold->queued, &queued, NEAP_QUEUED_COLLECTING,
                       memory_order_acquire, memory_order_relaxed)) {
            return queued;
        }
    }
}

/* What others freed of it: a span of `local`'s, whose state it brings up to date.
 * `out`: it has been taken out of the queue. */
static void collect(struct neap_local *local, struct neap_span *span, bool out,
                    bool locked)
{
    struct neap_span_cold *cold = neap_span_cold(span);
    uint32_t queued = hold(cold);
    bool some;

    if (!neap_local_hidden &&
        atomic_load_explicit(&cold->marks, memory_order_relaxed) == 0)
        /* First this, then the bits: who sets one after that sets it again. */
        atomic_fetch_and_explicit(&span->owner, ~NEAP_OWNER_SLOWLY,
                                  memory_order_seq_cst);
    some = neap_span_collect(span);
    /* Who sets a bit from here on queues it again; who did before is looked for. */
    atomic_store_explicit(&cold->queued, out ? NEAP_QUEUED_NOT : queued,
                          memory_order_seq_cst);
    if (neap_span_has_remote(span))
        queue_put(local, span);
    if (!some)
        return;
    if (cold->limit == NEAP_LIMIT_FULL)
        ready_add(local, span);
    if (cold->limit == NEAP_LIMIT_READY && neap_span_is_empty(span))
        emptied(local, span, locked);
}

/* Caller is its thread, or holds the lock (`locked`) and the heap is dead. */
static void drain(struct neap_local *local, bool locked)
{
    struct neap_span *span, *next;

    atomic_store_explicit(&local->waiting, 0, memory_order_relaxed);
    /* Pairs with the release in queue_put: what is linked is there. */
    span = atomic_exchange_explicit(&local->queue, NULL, memory_order_acq_rel);
    for (; span; span = next) {
        struct neap_span_cold *cold = neap_span_cold(span);
        struct neap_local *owner;

        next = atomic_load_explicit(&cold->queue_next, memory_order_relaxed);
        owner = owner_of(span);
        if (owner == local) {
            collect(local, span, true, locked);
            continue;
        }
        hold(cold);
        atomic_store_explicit(&cold->queued, NEAP_QUEUED_NOT, memory_order_seq_cst);
        owner = owner_of(span);
        if (owner && neap_span_has_remote(span))
            queue_put(owner, span);
    }
}

/* ---- dead heaps ---- */

/* Lists anew from the live bits, of a heap whose thread a fork has left behind. */
static void restore(struct neap_local *local)
{
    for (unsigned i = 0; i < NEAP_CLASSES; i++) {
        no_current(local, i);
        local->ready[i] = local->idle[i] = NULL;
        local->kind[i].top = local->kind[i].bottom;
    }
    local->idle_units = 0;
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
    uintptr_t owner = atomic_load_explicit(&span->owner, memory_order_relaxed);

    if (!from->stale) {
        if (neap_span_cold(span)->limit == NEAP_LIMIT_READY)
            ready_remove(from, span);
        else if (from->current[span->class] == span)
            no_current(from, span->class);
    }
    /* Others set the low bit meanwhile. */
    while (!atomic_compare_exchange_weak_explicit(
        &span->owner, &owner, (uintptr_t)to | (owner & NEAP_OWNER_SLOWLY),
        memory_order_release, memory_order_relaxed))
        ;
    neap_span_collect(span);
    neap_span_cold(span)->limit = NEAP_LIMIT_FULL;
    if (neap_span_has_free(span))
        ready_add(to, span);
}

/* A span of the class that has free blocks, from the orphans or the first dead heaps.
 */
static struct neap_span *inherit(struct neap_local *local, unsigned class)
{
    struct neap_local *from = &orphans;

    for (unsigned i = 0; from && i < 16; i++) {
        struct neap_span *span;

        if (from->stale)
            restore(from);
        drain(from, true);
        span = from->ready[class];
        if (span) {
            take_over(from, span, local);
            ready_remove(local, span);
            return span;
        }
        from = from == &orphans ? dead : from->next_dead;
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

enum freed {
    NOT_DEAD, /* its owner is alive: not done */
    CLAIMED,  /* it is the caller's own from here on: not done */
    DONE,
    WAS_FREE,
};

/*
 * A free of a dead heap's block. If the caller has no span of the class to allocate
 * from, or frees in the same span as the last time, it takes the span over; else the
 * span is left to whoever needs one: threads that come and go would otherwise hoard
 * what they happened to free in.
 */
static enum freed free_of_dead(struct neap_span *span, uint32_t index)
{
    static __thread const struct neap_span *last;
    uint64_t bit = 1ull << index % 64, live;
    enum freed done = NOT_DEAD;
    struct neap_local *owner;

    neap_lock();
    owner = owner_of(span);
    if (owner &&
        atomic_load_explicit(&owner->state, memory_order_relaxed) == NEAP_LOCAL_DEAD) {
        bool claim = mine && (span == last || !mine->ready[span->class]);

        if (owner->stale)
            restore(owner);
        take_over(owner, span, claim ? mine : &orphans);
        live = atomic_load_explicit(&span->live[index / 64], memory_order_relaxed);
        last = span;
        if (claim) {
            done = CLAIMED;
        } else if (!(live & bit)) {
            done = WAS_FREE;
        } else {
            atomic_store_explicit(&span->live[index / 64], live & ~bit,
                                  memory_order_relaxed);
            neap_span_let_go(span);
            if (neap_span_cold(span)->limit == NEAP_LIMIT_FULL)
                ready_add(&orphans, span);
            if (neap_span_is_empty(span))
                release(&orphans, span, true);
            done = DONE;
        }
    }
    neap_unlock();
    return done;
}

/*
 * A thread that does not allocate does not collect either: what others free of its
 * blocks would stay resident for as long as it sleeps. So when much of that has come
 * together, who frees the last block of a span gives back its pages, and leaves the
 * rest to the owner. No block of the span can be allocated before its bit is collected,
 * and `queued` keeps the owner from that.
 */
static bool is_over(struct neap_span *span)
{
    bool over = span->carved > 0;

    for (unsigned i = 0; i < span->words && over; i++)
        over = atomic_load_explicit(neap_span_remote(span, i), memory_order_acquire) ==
               neap_span_mask(span, i);
    return over;
}

/* Its heap has not looked into its queue for a while. */
static bool waits_long(struct neap_local *owner, struct neap_span *span)
{
    size_t units = neap_span_cold(span)->units;

    return atomic_fetch_add_explicit(&owner->waiting, units, memory_order_relaxed) >
           256 + neap_pool_counts.used_units / 8;
}

static void purge(struct neap_span *span)
{
    struct neap_span_cold *cold = neap_span_cold(span);
    uint32_t queued = NEAP_QUEUED;

    neap_lock();
    if (atomic_compare_exchange_strong_explicit(
            &cold->queued, &queued, NEAP_QUEUED_PURGING, memory_order_acq_rel,
            memory_order_relaxed)) {
        if (span->state == NEAP_SPAN_SMALL && is_over(span))
            neap_os_advise(cold->base, cold->units * NEAP_UNIT, MADV_DONTNEED);
        atomic_store_explicit(&cold->queued, NEAP_QUEUED, memory_order_release);
    }
    neap_unlock();
}

bool neap_local_free(struct neap_span *span, uint32_t index)
{
    uint64_t bit = 1ull << index % 64, before;
    struct neap_local *owner = owner_of(span);
    bool whole;

    if (owner != mine && owner &&
        atomic_load_explicit(&owner->state, memory_order_relaxed) == NEAP_LOCAL_DEAD) {
        enum freed freed = free_of_dead(span, index);

        if (freed == DONE || freed == WAS_FREE)
            return freed == DONE;
        owner = owner_of(span);
    }
    if (!owner)
        return false;
    if (owner == mine) {
        _Atomic uint64_t *word = &span->live[index / 64];

        collect(mine, span, false, false);
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
    whole = (before | bit) == neap_span_mask(span, index / 64) && is_over(span);
    queue_put(owner, span);
    if (NEAP_UNLIKELY(whole) && !neap_local_hidden && waits_long(owner, span))
        purge(span);
    help(owner);
    return true;
}

/* ---- threads ---- */

/* The blocks that the heap has at hand go to their spans. */
static void unstack(struct neap_local *local)
{
    for (unsigned i = 0; i < NEAP_CLASSES; i++) {
        struct neap_kind *kind = &local->kind[i];

        atomic_store_explicit(kind->held,
                              atomic_load_explicit(kind->held, memory_order_relaxed) &
                                  ~kind->free,
                              memory_order_relaxed);
        kind->free = 0;
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
    release_idle(local);
    for (unsigned i = 0; i < NEAP_CLASSES; i++) {
        if (local->current[i])
            take_over(local, local->current[i], &orphans);
        while (local->ready[i])
            take_over(local, local->ready[i], &orphans);
    }
    atomic_store_explicit(&local->state, NEAP_LOCAL_DEAD, memory_order_seq_cst);
    /* What came in before that is seen here; what comes later sees it and helps. */
    drain(local, true);
    local->next_dead = dead;
    dead = local;
    neap_unlock();
}

static struct neap_local *adopt(void)
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
    uintptr_t at;
    size_t size;

    for (unsigned i = 0; i < NEAP_CLASSES; i++)
        room += room_of(i);
    /* A mapping of its own: most of the room is never touched. */
    size = sizeof(*local) + room * sizeof(*entry) + NEAP_LINE;
    at = neap_meta_map((size + NEAP_HEAP_PAGE - 1) & ~(size_t)(NEAP_HEAP_PAGE - 1));
    if (at == NEAP_OS_FAILED)
        return NULL;
    local = (struct neap_local *)(at + NEAP_LINE);
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
    if (!local) { /* at a limit; what is free may make room for it */
        neap_pool_trim(0);
        local = create();
    }
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
    for (unsigned i = 0; i < NEAP_CLASSES; i++)
        no_current(&orphans, i);
    atomic_store_explicit(&orphans.state, NEAP_LOCAL_DEAD, memory_order_relaxed);
    orphans.next = neap_locals;
    neap_locals = &orphans;
}

/*
 * The queues anew, in the child. Threads that are gone may have been about to put a
 * span into one; and a span that a heap took over may be in the queue of the one it was
 * taken from: if restore made it be put into another, the two would run into each
 * other.
 */
static void queue_anew(void)
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
                queue_put(owner_of(span), span);
        }
    }
}

void neap_local_forked(void)
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
    /* Where there is one heap besides the orphans' there are no queues. */
    if (numbers > 1)
        queue_anew();
}

/* ---- allocation ---- */

/* More blocks of the current span: at least what one kernel page holds, so that pages
 * are touched one after the other; up to the end of a word. */
static void *carve(struct neap_local *local, struct neap_span *span, bool *fresh)
{
    unsigned more = span->size < NEAP_HEAP_PAGE ? NEAP_HEAP_PAGE / span->size : 1;
    unsigned word = span->carved / 64, end = span->carved + more;
    struct neap_kind *kind = &local->kind[span->class];
    uint32_t queued;

    if (end > (word + 1) * 64)
        end = (word + 1) * 64;
    if (end > span->capacity)
        end = span->capacity;
    *fresh = more == 1 && neap_span_cold(span)->dirty == 0;
    /* If all that was carved is free again, another thread may be giving the pages
     * back: it is done with them, or finds that there is more by now. */
    queued = hold(neap_span_cold(span));
    span->carved = (uint16_t)end;
    atomic_store_explicit(&neap_span_cold(span)->queued, queued, memory_order_seq_cst);
    if (queued == NEAP_QUEUED_NOT && neap_span_has_remote(span))
        queue_put(local, span);
    hold_word(kind, span, word);
    return neap_kind_take(kind);
}

static struct neap_span *next_span(struct neap_local *local, unsigned class)
{
    struct neap_span *span = local->ready[class];

    if (span) {
        ready_remove(local, span);
        return span;
    }
    span = idle_take(local, class);
    if (span)
        return span;
    neap_lock();
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
    /* Where the heap is hidden it is asked here first of all. */
    if (kind->free)
        return neap_kind_take(kind);
    for (;;) {
        span = local->current[class];
        if (span) {
            if (hold_any_word(kind, span))
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
    neap_lock();
    release_idle(local);
    neap_unlock();
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread allocates from its stack of blocks freed last, or else from one word of its
 * current span's bits, without a lock. When the word is used up it comes here: to
 * another word of the span, to another span that has free blocks, to blocks that others
 * freed, to a dead heap's, to the pool.
 */
#include "libhook/heap/local.h"

#include <errno.h>
#include <pthread.h>

#include "libhook/heap/dead.h"
#include "libhook/heap/lists.h"
#include "libhook/heap/lock.h"
#include "libhook/heap/map.h"
#include "libhook/heap/meta.h"
#include "libhook/heap/os.h"
#include "libhook/heap/pool.h"
#include "libhook/heap/queue.h"
#include "libhook/heap/span.h"

#define NONE                                                     \
    {                                                            \
        .held = &neap_lists_no_word, .live = &neap_lists_no_word \
    }
#define NONE8 NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE

struct neap_local neap_local_none = {
    .kind = {NONE8, NONE8, NONE8, NONE8, NONE8, NONE8, NONE8, NONE8, NONE8},
};
__thread struct neap_local *neap_local = &neap_local_none;
static __thread struct neap_local *mine; /* the same, or behind neap_local_none */

struct neap_local *neap_locals;
bool neap_local_hidden;

static uint32_t numbers;
static pthread_key_t key;
static bool has_key;

void neap_local_tick(struct neap_local *local)
{
    local->ticks = NEAP_TICKS;
    if (!neap_pool_is_due())
        return;
    neap_lock();
    neap_pool_settle();
    neap_unlock();
}

void neap_local_look(struct neap_local *local, struct neap_span *span)
{
    if (neap_span_cold(span)->limit == NEAP_LIMIT_FULL) {
        neap_lists_ready_add(local, span);
        if (!neap_span_is_empty(span))
            return;
    }
    if (neap_span_cold(span)->limit == NEAP_LIMIT_READY && neap_span_is_empty(span))
        neap_lists_emptied(local, span, false);
}

static bool is_dead(const struct neap_local *owner)
{
    return owner &&
           atomic_load_explicit(&owner->state, memory_order_relaxed) == NEAP_LOCAL_DEAD;
}

/* A free of the owner's that is to be looked at. */
static bool free_own(struct neap_span *span, uint32_t index)
{
    _Atomic uint64_t *word = &span->live[index / 64];
    uint64_t bit = 1ull << index % 64, before;

    neap_queue_collect(mine, span, false, false);
    before = atomic_load_explicit(word, memory_order_relaxed);
    if (!(before & bit))
        return false;
    atomic_store_explicit(word, before & ~bit, memory_order_relaxed);
    neap_local_give(mine, span, index);
    return true;
}

bool neap_local_free(struct neap_span *span, uint32_t index)
{
    uint64_t bit = 1ull << index % 64, before;
    struct neap_local *owner = neap_local_owner(span);
    bool dead = owner != mine && is_dead(owner), whole, put;
    uint32_t units;

    if (!owner)
        return false;
    if (owner == mine || (dead && neap_dead_claim(mine, span)))
        return free_own(span, index);
    if (!(atomic_load_explicit(&span->live[index / 64], memory_order_relaxed) & bit))
        return false;
    units = neap_span_cold(span)->units; /* after the next line it may be gone */
    before = atomic_fetch_or_explicit(neap_span_remote(span, index / 64), bit,
                                      memory_order_seq_cst);
    if (before & bit)
        return false;
    whole =
        (before | bit) == neap_span_mask(span, index / 64) && neap_queue_is_over(span);
    if (dead) {
        neap_dead_freed(span, whole ? units : 0);
        return true;
    }
    put = neap_queue_put(owner, span);
    if (NEAP_UNLIKELY(whole) && !neap_local_hidden &&
        neap_queue_waits_long(owner, units))
        neap_queue_purge(span);
    if (put)
        neap_dead_help(owner);
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
    neap_queue_drain(local, true);
    neap_lists_release_idle(local);
    neap_dead_add(local);
    neap_unlock();
}

/* Blocks on a stack: up to 32 KiB of a class, but at least one and at most 64. */
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
        neap_lists_no_current(local, i);
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
    local = neap_dead_adopt();
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
    neap_dead_begin();
}

/* glibc's, from 2.32 on: no other thread was ever started, or the last has been joined.
 */
extern char __libc_single_threaded __attribute__((weak));
static bool forks_alone;

void neap_local_forks(void)
{
    forks_alone = &__libc_single_threaded && __libc_single_threaded;
}

void neap_local_forked(void)
{
    neap_dead_forked(mine);
    /* Where there was one thread alone there are no queues, and nobody was at them. */
    if (!forks_alone)
        neap_queue_anew();
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
    queued = neap_queue_hold(neap_span_cold(span));
    span->carved = (uint16_t)end;
    atomic_store_explicit(&neap_span_cold(span)->queued, queued, memory_order_seq_cst);
    if (queued == NEAP_QUEUED_NOT && neap_span_has_remote(span))
        neap_queue_put(local, span);
    neap_lists_hold_word(kind, span, word);
    return neap_kind_take(kind);
}

static struct neap_span *next_span(struct neap_local *local, unsigned class)
{
    struct neap_span *span = local->ready[class];

    if (span) {
        neap_lists_ready_remove(local, span);
        return span;
    }
    span = neap_lists_idle_take(local, class);
    if (span)
        return span;
    neap_lock();
    span = neap_dead_inherit(local, class);
    if (!span && !neap_os_room(12)) {
        neap_unlock();
        neap_lock();
    }
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
    if (local->ticks < 16)
        neap_local_tick(local);
    else
        local->ticks -= 16;
    kind = &local->kind[class];
    /* Where the heap is hidden it is asked here first of all. */
    if (kind->free)
        return neap_kind_take(kind);
    for (;;) {
        span = local->current[class];
        if (span) {
            if (neap_lists_hold_any_word(kind, span))
                return neap_kind_take(kind);
            if (span->carved < span->capacity)
                return carve(local, span, fresh);
            neap_span_cold(span)->limit = NEAP_LIMIT_FULL;
            neap_lists_no_current(local, class);
        }
        if (!local->ready[class] &&
            atomic_load_explicit(&local->queue, memory_order_relaxed))
            neap_queue_drain(local, false);
        span = next_span(local, class);
        if (!span)
            return NULL;
        neap_lists_set_current(local, span);
    }
}

void neap_local_trim(void)
{
    struct neap_local *local = mine;

    if (!local)
        return;
    unstack(local);
    neap_queue_drain(local, false);
    neap_lock();
    neap_lists_release_idle(local);
    neap_unlock();
}

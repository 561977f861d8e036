/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The observers run within a call of malloc or free, on its thread, with no lock of the
 * heap held. That call may have come here by any entry point or straight through the
 * gate; so the stack is walked from the observer outwards, and begins where it leaves
 * libneap.so.
 *
 * What cannot be recorded where it happens (the image is not connected yet, or a signal
 * handler has interrupted a record) waits in `pending` for the next occasion, then
 * without its stack: a growth that is missing would make all later ones look wrong.
 */
#include "libhook/ownheap.h"

#include <pthread.h>

#include "libhook/enter.h"
#include "libhook/heap/heap.h"
#include "libhook/heap/stats.h"
#include "libhook/marks.h"
#include "libhook/samples.h"
#include "libhook/unwind.h"

/* ---- what waits ---- */

#define PENDING_MAX 32u

enum slot_state {
    SLOT_FREE = 0,
    SLOT_CLAIMED,
    SLOT_FULL,
};

static struct {
    _Atomic uint32_t state; /* release when it is given on, acquire when it is taken */
    struct neap_emit_map map;
} pending[PENDING_MAX];
static _Atomic uint32_t pending_count; /* a hint */

static bool claim(unsigned at, uint32_t from)
{
    return atomic_compare_exchange_strong_explicit(&pending[at].state, &from,
                                                   SLOT_CLAIMED, memory_order_acquire,
                                                   memory_order_relaxed);
}

static void keep(struct neap_tls *tls, const struct neap_emit_map *map)
{
    for (unsigned i = 0; i < PENDING_MAX; i++) {
        if (!claim(i, SLOT_FREE))
            continue;
        pending[i].map = *map;
        atomic_store_explicit(&pending[i].state, SLOT_FULL, memory_order_release);
        atomic_fetch_add_explicit(&pending_count, 1, memory_order_relaxed);
        return;
    }
    neap_emit_nested(tls);
}

/* tls->busy is NEAP_RECORDING. */
static NEAP_NOINLINE void send_pending(struct neap_tls *tls)
{
    for (unsigned i = 0; i < PENDING_MAX; i++) {
        struct neap_emit_map map;

        if (!claim(i, SLOT_FULL))
            continue;
        map = pending[i].map;
        atomic_store_explicit(&pending[i].state, SLOT_FREE, memory_order_release);
        atomic_fetch_sub_explicit(&pending_count, 1, memory_order_relaxed);
        neap_emit_map(tls, NULL, &map);
    }
}

static void forget_pending(void)
{
    for (unsigned i = 0; i < PENDING_MAX; i++) {
        if (claim(i, SLOT_FULL)) {
            atomic_fetch_sub_explicit(&pending_count, 1, memory_order_relaxed);
            atomic_store_explicit(&pending[i].state, SLOT_FREE, memory_order_release);
        }
    }
}

void neap_ownheap_flush(struct neap_tls *tls)
{
    uint8_t busy = tls->busy;

    if (atomic_load_explicit(&pending_count, memory_order_relaxed) == 0)
        return;
    /* What happened before the mode was known is not to be recorded when it is OFF. */
    if (neap_gate_mode() == NEAP_MODE_OFF) {
        forget_pending();
        return;
    }
    tls->busy = NEAP_RECORDING;
    send_pending(tls);
    tls->busy = busy;
}

void neap_ownheap_forked(void)
{
    neap_marks_clear();
    for (unsigned i = 0; i < PENDING_MAX; i++)
        atomic_store_explicit(&pending[i].state, SLOT_FREE, memory_order_relaxed);
    atomic_store_explicit(&pending_count, 0, memory_order_relaxed);
}

/* ---- observers ---- */

/* Is this thread free to write a record, and the process connected? */
static bool may_record(struct neap_tls *tls)
{
    if (!neap_real.ready || neap_real.off ||
        (tls->busy != NEAP_IDLE && tls->busy != NEAP_ALLOCATING))
        return false;
    return NEAP_LIKELY(atomic_load_explicit(&neap_process->phase,
                                            memory_order_relaxed) == NEAP_PHASE_ON) ||
           neap_enter_connect(tls);
}

static void changed(const struct neap_heap_change *change)
{
    static const uint8_t ops[] = {[NEAP_HEAP_MMAP] = NEAP_MAP_MMAP,
                                  [NEAP_HEAP_MUNMAP] = NEAP_MAP_MUNMAP,
                                  [NEAP_HEAP_MREMAP] = NEAP_MAP_MREMAP,
                                  [NEAP_HEAP_BRK] = NEAP_MAP_BRK,
                                  [NEAP_HEAP_MADVISE] = NEAP_MAP_MADVISE};
    struct neap_emit_map map = {.op = (enum neap_map_op)ops[change->op],
                                .source = NEAP_MAP_HEAP,
                                .prot = (uint32_t)change->prot,
                                .flags = (uint32_t)change->flags,
                                .fd = -1,
                                .address = change->address,
                                .size = change->size,
                                .old_address = change->old_address,
                                .old_size = change->old_size};
    struct neap_context caller = NEAP_CALLER();
    struct neap_tls *tls = &neap_tls;
    uint8_t busy = tls->busy;
    bool found;

    /* Before the first image is connected the mode is not known; then it is EXACT. */
    if (neap_real.off || neap_gate_mode() == NEAP_MODE_OFF)
        return;
    if (!may_record(tls)) {
        if (!neap_real.off)
            keep(tls, &map);
        return;
    }
    if (neap_gate_mode() == NEAP_MODE_OFF)
        return;
    tls->busy = NEAP_RECORDING;
    if (NEAP_UNLIKELY(atomic_load_explicit(&pending_count, memory_order_relaxed) != 0))
        send_pending(tls);
    found = neap_unwind_out(tls, &caller);
    neap_emit_map(tls, found ? &caller : NULL, &map);
    tls->busy = busy;
}

static void mistaken(const struct neap_heap_error *error)
{
    static const uint8_t kinds[NEAP_HEAP_ERROR_END] = {
        [NEAP_HEAP_DOUBLE_FREE] = NEAP_MEMORY_DOUBLE_FREE,
        [NEAP_HEAP_INVALID_FREE] = NEAP_MEMORY_INVALID_FREE,
        [NEAP_HEAP_INTERIOR_FREE] = NEAP_MEMORY_INTERIOR_FREE,
        [NEAP_HEAP_OVERFLOW] = NEAP_MEMORY_OVERFLOW,
        [NEAP_HEAP_WRITE_AFTER_FREE] = NEAP_MEMORY_WRITE_AFTER_FREE,
        [NEAP_HEAP_SIZE_MISMATCH] = NEAP_MEMORY_SIZE_MISMATCH};
    struct neap_emit_error told = {.kind = (enum neap_memory_error)kinds[error->kind],
                                   .address = error->address,
                                   .block = error->block,
                                   .size = error->size,
                                   .alloc_stack = error->alloc_stack,
                                   .free_stack = error->free_stack};
    struct neap_context caller = NEAP_CALLER();
    struct neap_tls *tls = &neap_tls;
    uint8_t busy = tls->busy;
    bool found;

    /* The heap's own records, not the program's blocks: only said, as no row fits. */
    if (!kinds[error->kind])
        return;
    if (!may_record(tls)) {
        if (!neap_real.off)
            neap_emit_nested(tls);
        return;
    }
    tls->busy = NEAP_RECORDING;
    found = neap_unwind_out(tls, &caller);
    neap_emit_memory_error(tls, found ? &caller : NULL, &told);
    tls->busy = busy;
}

static uint64_t stack_token(void)
{
    struct neap_context caller = NEAP_CALLER();
    struct neap_tls *tls = &neap_tls;
    uint8_t busy = tls->busy;
    uint64_t token = 0;

    if (!may_record(tls))
        return 0;
    tls->busy = NEAP_RECORDING;
    if (neap_unwind_out(tls, &caller))
        token = neap_emit_stack(tls, &caller);
    tls->busy = busy;
    return token;
}

/*
 * A block near a marked one, or such a one itself, whose free the gate let pass. In a
 * child that has not connected yet it is a sample of its parent's.
 */
static void freed(void *block)
{
    struct neap_tls *tls = &neap_tls;
    uint8_t busy = tls->busy;
    uint32_t index, flags;

    if (NEAP_LIKELY(!neap_filter_holds(NEAP_FILTER_REALLOC, block)))
        return;
    index = neap_samples_take(block);
    if (index == NEAP_SAMPLES_NONE) {
        neap_marks_forget(block);
        return;
    }
    flags = neap_sample_flags(tls, block);
    neap_samples_drop(index, block);
    if (busy != NEAP_IDLE && busy != NEAP_ALLOCATING) {
        neap_emit_nested(tls);
        return;
    }
    tls->busy = NEAP_RECORDING;
    neap_emit_sample_free(tls, block, flags);
    tls->busy = busy;
}

/* ---- in place of the next allocator ---- */

static void free_right(void *block, size_t size)
{
    (void)size;
    neap_heap_free(block);
}

static void free_aligned_right(void *block, size_t align, size_t size)
{
    (void)align;
    (void)size;
    neap_heap_free(block);
}

static void serve(void)
{
#define SERVE(name) neap_real.name = neap_heap_##name
    SERVE(malloc);
    SERVE(calloc);
    SERVE(realloc);
    SERVE(reallocarray);
    SERVE(free);
    SERVE(posix_memalign);
    SERVE(aligned_alloc);
    SERVE(memalign);
    SERVE(valloc);
    SERVE(pvalloc);
#undef SERVE
    neap_real.free_sized = free_right; /* the size was asked for, see hook_malloc.c */
    neap_real.free_aligned_sized = free_aligned_right;
    neap_real.malloc_usable_size = neap_heap_usable_size;
    neap_real.mallopt = neap_heap_option;
    neap_real.malloc_trim = neap_heap_trim;
    neap_real.malloc_stats = neap_heap_stats;
    neap_real.malloc_info = neap_heap_info;
    neap_real.mallinfo = neap_heap_mallinfo;
    neap_real.mallinfo2 = neap_heap_mallinfo2;
}

/* Do all of the program's blocks come from us? */
static bool is_all_behind_us(void)
{
    return neap_real_is_behind_us("malloc") && neap_real_is_behind_us("calloc") &&
           neap_real_is_behind_us("realloc") && neap_real_is_behind_us("free");
}

void neap_ownheap_begin(char *const *env)
{
    static const struct neap_heap_observer observer = {
        .changed = changed, .error = mistaken, .stack = stack_token, .freed = freed};
    struct neap_heap_options options;

    if (!is_all_behind_us())
        return;
    neap_heap_options_from(env, &options);
    neap_heap_observe(&observer);
    if (!neap_heap_begin(&options))
        return;
    /* Before anybody else's (hook_process.c): so the last before a fork, and the first
     * after it. */
    pthread_atfork(neap_heap_fork_prepare, neap_heap_fork_parent, neap_heap_fork_child);
    serve();
    neap_real.heap = true;
}

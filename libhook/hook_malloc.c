/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entry points of the malloc family, over whatever allocator the program has. malloc,
 * calloc, realloc and free themselves stand in entry.c: what they do not send straight
 * on comes here, as if here was where the program had called.
 *
 * The order in each: an allocation is recorded after the real call, when its address
 * is known and nobody else has it; a free before the real call, when nobody else can
 * have it yet. realloc is both, around the call. A call that fails is nothing.
 */
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "libhook/enter.h"
#include "libhook/entry.h"
#include "libhook/heap/heap.h"
#include "libhook/samples.h"

static void *out_of_memory(void)
{
    errno = ENOMEM;
    return NULL;
}

static void *boot(size_t align, size_t size)
{
    void *block = neap_boot_alloc(align, size);

    return block ? block : out_of_memory();
}

/* Both factors as one size; false on overflow. */
static bool product(size_t count, size_t size, size_t *ret)
{
    return !__builtin_mul_overflow(count, size, ret);
}

/* A call that is not to be recorded. True: forward it; false: the allocator behind us
 * is not known yet. */
static bool missed(struct neap_tls *tls)
{
    neap_missed_allocation(tls);
    return neap_real.ready;
}

/* ---- allocation ---- */

NEAP_ENTRY void *neap_malloc(size_t size)
{
    struct neap_tls *tls = &neap_tls;
    struct neap_context caller = NEAP_CALLER();
    uint64_t interval;

    if (NEAP_UNLIKELY(!neap_enter(tls)))
        return missed(tls) ? neap_real.malloc(size) : boot(16, size);
    interval = neap_choose(tls, size);
    return neap_leave_allocated(tls, &caller, neap_real.malloc(size), size, interval);
}

NEAP_ENTRY void *neap_calloc(size_t count, size_t size)
{
    struct neap_tls *tls = &neap_tls;
    struct neap_context caller = NEAP_CALLER();
    uint64_t interval;
    size_t total;

    if (NEAP_UNLIKELY(!neap_enter(tls))) {
        if (missed(tls))
            return neap_real.calloc(count, size);
        return product(count, size, &total) ? boot(16, total) : out_of_memory();
    }
    if (!product(count, size, &total)) { /* will fail, which is nothing */
        neap_leave(tls);
        return neap_real.calloc(count, size);
    }
    interval = neap_choose(tls, total);
    return neap_leave_allocated(tls, &caller, neap_real.calloc(count, size), total,
                                interval);
}

NEAP_EXPORT int posix_memalign(void **ret, size_t align, size_t size)
{
    struct neap_tls *tls = &neap_tls;
    struct neap_context caller = NEAP_CALLER();
    uint64_t interval;
    int result;

    if (NEAP_LIKELY(neap_gate_passes(tls, size)))
        return neap_real.posix_memalign(ret, align, size);
    if (NEAP_UNLIKELY(!neap_enter(tls))) {
        if (missed(tls))
            return neap_real.posix_memalign(ret, align, size);
        *ret = neap_boot_alloc(align, size);
        return *ret ? 0 : ENOMEM;
    }
    interval = neap_choose(tls, size);
    result = neap_real.posix_memalign(ret, align, size);
    neap_leave_allocated(tls, &caller, result == 0 ? *ret : NULL, size, interval);
    return result;
}

NEAP_EXPORT void *aligned_alloc(size_t align, size_t size)
{
    struct neap_tls *tls = &neap_tls;
    struct neap_context caller = NEAP_CALLER();
    uint64_t interval;

    if (NEAP_LIKELY(neap_gate_passes(tls, size)))
        return neap_real.aligned_alloc(align, size);
    if (NEAP_UNLIKELY(!neap_enter(tls)))
        return missed(tls) ? neap_real.aligned_alloc(align, size) : boot(align, size);
    interval = neap_choose(tls, size);
    return neap_leave_allocated(tls, &caller, neap_real.aligned_alloc(align, size),
                                size, interval);
}

NEAP_EXPORT void *memalign(size_t align, size_t size)
{
    struct neap_tls *tls = &neap_tls;
    struct neap_context caller = NEAP_CALLER();
    uint64_t interval;

    if (NEAP_LIKELY(neap_gate_passes(tls, size)))
        return neap_real.memalign(align, size);
    if (NEAP_UNLIKELY(!neap_enter(tls)))
        return missed(tls) ? neap_real.memalign(align, size) : boot(align, size);
    interval = neap_choose(tls, size);
    return neap_leave_allocated(tls, &caller, neap_real.memalign(align, size), size,
                                interval);
}

NEAP_EXPORT void *valloc(size_t size)
{
    struct neap_tls *tls = &neap_tls;
    struct neap_context caller = NEAP_CALLER();
    uint64_t interval;

    if (NEAP_LIKELY(neap_gate_passes(tls, size)))
        return neap_real.valloc(size);
    if (NEAP_UNLIKELY(!neap_enter(tls)))
        return missed(tls) ? neap_real.valloc(size) : boot(NEAP_PAGE, size);
    interval = neap_choose(tls, size);
    return neap_leave_allocated(tls, &caller, neap_real.valloc(size), size, interval);
}

NEAP_EXPORT void *pvalloc(size_t size)
{
    struct neap_tls *tls = &neap_tls;
    struct neap_context caller = NEAP_CALLER();
    uint64_t interval;

    if (NEAP_LIKELY(neap_gate_passes(tls, size)))
        return neap_real.pvalloc(size);
    if (NEAP_UNLIKELY(!neap_enter(tls)))
        return missed(tls) ? neap_real.pvalloc(size) : boot(NEAP_PAGE, size);
    interval = neap_choose(tls, size);
    return neap_leave_allocated(tls, &caller, neap_real.pvalloc(size), size, interval);
}

/* ---- reallocation ---- */

/* A block of the bootstrap heap moves out of it; what it held is copied. */
static void *move_from_boot(void *old, size_t size)
{
    size_t held = neap_boot_size(old);
    void *block = malloc(size);

    if (block)
        memcpy(block, old, held < size ? held : size);
    return block;
}

/* realloc(p, 0) is a free; an allocator that hands out a block all the same (jemalloc,
 * mimalloc) has allocated one of 0 bytes. */
static void *resize_to_zero(struct neap_tls *tls, const struct neap_context *caller,
                            void *old)
{
    uint64_t interval;
    void *block;

    neap_freeing(tls, old);
    interval = neap_choose(tls, 0);
    block = neap_real.realloc(old, 0);
    return neap_leave_allocated(tls, caller, block, 0, interval);
}

/* What was said of the old block before the real call. */
struct given_up {
    bool told;      /* in a record, which asks for another one after the call */
    uint32_t index; /* of a sampled block, which stays claimed until then */
};

static struct given_up give_up(struct neap_tls *tls, void *old, uint64_t interval,
                               uint32_t flags)
{
    struct given_up given = {false, NEAP_SAMPLES_NONE};

    tls->busy = NEAP_RECORDING;
    if (interval == NEAP_EXACTLY ||
        atomic_load_explicit(&neap_process->exact, memory_order_relaxed)) {
        given.told = neap_emit_free(tls, NEAP_EV_REALLOC_FREE, old);
    } else {
        given.index = neap_samples_take(old);
        if (given.index != NEAP_SAMPLES_NONE)
            given.told = neap_emit_sample_free(tls, old, flags | NEAP_SAMPLE_REALLOC);
    }
    tls->busy = NEAP_ALLOCATING;
    return given;
}

/* After the real call. */
static void settle(struct neap_tls *tls, const struct neap_context *caller,
                   const struct given_up *given, void *old, void *block, size_t size,
                   uint64_t interval)
{
    tls->busy = NEAP_RECORDING;
    if (!block) {
        if (given->index != NEAP_SAMPLES_NONE)
            neap_samples_return(given->index, old);
        if (given->told)
            neap_emit_free(tls, NEAP_EV_REALLOC_FAIL, old);
        return;
    }
    if (given->index != NEAP_SAMPLES_NONE)
        neap_samples_drop(given->index, old);
    if (interval == NEAP_EXACTLY) {
        /* If there is no room to tell of the new block: that the old one is gone. */
        if (!neap_emit_alloc(tls, given->told ? NEAP_EV_REALLOC_ALLOC : NEAP_EV_ALLOC,
                             caller, block, size) &&
            given->told)
            neap_emit_realloc_done(tls);
        return;
    }
    if (given->told)
        neap_emit_realloc_done(tls);
    if (interval != NEAP_UNSEEN)
        neap_emit_sample(tls, caller, block, size,
                         &(struct neap_emit_sample){interval, NEAP_SAMPLE_REALLOC});
}

static void *resize(struct neap_tls *tls, const struct neap_context *caller, void *old,
                    size_t size)
{
    struct given_up given;
    uint64_t interval;
    uint32_t flags;
    void *block;

    if (size > PTRDIFF_MAX) { /* must fail, and then nothing has happened */
        block = neap_real.realloc(old, size);
        neap_leave(tls);
        return block;
    }
    if (old && size == 0)
        return resize_to_zero(tls, caller, old);
    flags = neap_sample_flags(tls, old); /* before the new size moves the countdown */
    interval = neap_choose(tls, size);
    if (!old)
        return neap_leave_allocated(tls, caller, neap_real.realloc(NULL, size), size,
                                    interval);
    given = give_up(tls, old, interval, flags);
    block = neap_real.realloc(old, size);
    settle(tls, caller, &given, old, block, size, interval);
    neap_leave(tls);
    return block;
}

/* Not entered. The old block is gone for us, whatever becomes of it. */
static void *resize_missed(struct neap_tls *tls, void *old, size_t size)
{
    if (missed(tls)) {
        if (old)
            neap_missed_free(tls, old);
        return neap_real.realloc(old, size);
    }
    return boot(16, size);
}

NEAP_ENTRY void *neap_realloc(void *old, size_t size)
{
    struct neap_tls *tls = &neap_tls;
    struct neap_context caller = NEAP_CALLER();

    if (NEAP_UNLIKELY(old && neap_boot_owns(old)))
        return move_from_boot(old, size);
    if (NEAP_UNLIKELY(!neap_enter(tls)))
        return resize_missed(tls, old, size);
    return resize(tls, &caller, old, size);
}

NEAP_EXPORT void *reallocarray(void *old, size_t count, size_t size)
{
    struct neap_tls *tls = &neap_tls;
    struct neap_context caller = NEAP_CALLER();
    size_t total;

    /* libc's calls realloc by its name, and so the program's. */
    if (NEAP_UNLIKELY(neap_real.own && neap_real.reallocarray))
        return neap_real.reallocarray(old, count, size);
    if (!product(count, size, &total))
        return out_of_memory();
    if (NEAP_LIKELY(neap_gate_reallocs(old) && neap_gate_passes(tls, total)))
        return neap_real.realloc(old, total);
    if (NEAP_UNLIKELY(old && neap_boot_owns(old)))
        return move_from_boot(old, total);
    if (NEAP_UNLIKELY(!neap_enter(tls)))
        return resize_missed(tls, old, total);
    return resize(tls, &caller, old, total);
}

/* ---- release ---- */

/* Nothing to do: NULL, and blocks of the bootstrap heap, which are never given back. */
NEAP_ALWAYS_INLINE bool nothing_to_free(void *block)
{
    return block == NULL || NEAP_UNLIKELY(neap_boot_owns(block));
}

/* Into the hook for a free, recorded if that may be. True: neap_leave when it is done.
 */
NEAP_ALWAYS_INLINE bool enter_free(struct neap_tls *tls, void *block)
{
    if (NEAP_UNLIKELY(!neap_enter(tls))) {
        neap_missed_free(tls, block);
        return false;
    }
    neap_freeing(tls, block);
    return true;
}

NEAP_ENTRY void neap_free(void *block)
{
    struct neap_tls *tls = &neap_tls;

    if (nothing_to_free(block))
        return;
    if (NEAP_LIKELY(enter_free(tls, block))) {
        neap_real.free(block);
        neap_leave(tls);
    } else if (neap_real.ready) {
        neap_real.free(block);
    }
}

/*
 * C23. glibc has them from 2.41 on; before, they are free with a hint. Our own
 * allocator refuses a size that is wrong: it is asked before anything is told of a free
 * that does not come to pass.
 */
NEAP_ALWAYS_INLINE bool is_refused(void *block, size_t size)
{
    return neap_real.heap && !neap_heap_is_sized(block, size);
}

NEAP_EXPORT void free_sized(void *block, size_t size);
NEAP_EXPORT void free_sized(void *block, size_t size)
{
    struct neap_tls *tls = &neap_tls;
    bool entered;

    if (!neap_real.free_sized || nothing_to_free(block)) {
        free(block);
        return;
    }
    if (is_refused(block, size))
        return;
    entered = !neap_gate_frees(block) && enter_free(tls, block);
    neap_real.free_sized(block, size);
    if (entered)
        neap_leave(tls);
}

NEAP_EXPORT void free_aligned_sized(void *block, size_t align, size_t size);
NEAP_EXPORT void free_aligned_sized(void *block, size_t align, size_t size)
{
    struct neap_tls *tls = &neap_tls;
    bool entered;

    if (!neap_real.free_aligned_sized || nothing_to_free(block)) {
        free(block);
        return;
    }
    if (is_refused(block, size))
        return;
    entered = !neap_gate_frees(block) && enter_free(tls, block);
    neap_real.free_aligned_sized(block, align, size);
    if (entered)
        neap_leave(tls);
}

NEAP_EXPORT size_t malloc_usable_size(void *block)
{
    if (block && neap_boot_owns(block))
        return neap_boot_size(block);
    if (!neap_real.ready && neap_tls.busy == NEAP_IDLE)
        neap_life_begin();
    return neap_real.malloc_usable_size ? neap_real.malloc_usable_size(block) : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entry points of the malloc family, over whatever allocator the program has.
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
#include "libhook/life.h"

bool neap_enter_slowly(struct neap_tls *tls)
{
    if (!neap_real.ready && tls->busy == NEAP_IDLE)
        neap_life_begin();
    if (tls->busy == NEAP_RECORDING)
        neap_emit_nested(tls);
    if (tls->busy != NEAP_IDLE || !neap_real.ready || neap_real.off)
        return false;
    tls->busy = NEAP_ALLOCATING;
    return true;
}

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

/* ---- allocation ---- */

NEAP_EXPORT void *malloc(size_t size)
{
    struct neap_tls *tls = &neap_tls;
    struct neap_context caller = NEAP_CALLER();

    if (NEAP_UNLIKELY(!neap_enter(tls)))
        return neap_real.ready ? neap_real.malloc(size) : boot(16, size);
    return neap_leave_allocated(tls, &caller, neap_real.malloc(size), size);
}

NEAP_EXPORT void *calloc(size_t count, size_t size)
{
    struct neap_tls *tls = &neap_tls;
    struct neap_context caller = NEAP_CALLER();
    size_t total;

    if (NEAP_UNLIKELY(!neap_enter(tls))) {
        if (neap_real.ready)
            return neap_real.calloc(count, size);
        return product(count, size, &total) ? boot(16, total) : out_of_memory();
    }
    return neap_leave_allocated(tls, &caller, neap_real.calloc(count, size),
                                count * size);
}

NEAP_EXPORT int posix_memalign(void **ret, size_t align, size_t size)
{
    struct neap_tls *tls = &neap_tls;
    struct neap_context caller = NEAP_CALLER();
    int result;

    if (NEAP_UNLIKELY(!neap_enter(tls))) {
        if (neap_real.ready)
            return neap_real.posix_memalign(ret, align, size);
        *ret = neap_boot_alloc(align, size);
        return *ret ? 0 : ENOMEM;
    }
    result = neap_real.posix_memalign(ret, align, size);
    neap_leave_allocated(tls, &caller, result == 0 ? *ret : NULL, size);
    return result;
}

NEAP_EXPORT void *aligned_alloc(size_t align, size_t size)
{
    struct neap_tls *tls = &neap_tls;
    struct neap_context caller = NEAP_CALLER();

    if (NEAP_UNLIKELY(!neap_enter(tls)))
        return neap_real.ready ? neap_real.aligned_alloc(align, size)
                               : boot(align, size);
    return neap_leave_allocated(tls, &caller, neap_real.aligned_alloc(align, size),
                                size);
}

NEAP_EXPORT void *memalign(size_t align, size_t size)
{
    struct neap_tls *tls = &neap_tls;
    struct neap_context caller = NEAP_CALLER();

    if (NEAP_UNLIKELY(!neap_enter(tls)))
        return neap_real.ready ? neap_real.memalign(align, size) : boot(align, size);
    return neap_leave_allocated(tls, &caller, neap_real.memalign(align, size), size);
}

NEAP_EXPORT void *valloc(size_t size)
{
    struct neap_tls *tls = &neap_tls;
    struct neap_context caller = NEAP_CALLER();

    if (NEAP_UNLIKELY(!neap_enter(tls)))
        return neap_real.ready ? neap_real.valloc(size) : boot(NEAP_PAGE, size);
    return neap_leave_allocated(tls, &caller, neap_real.valloc(size), size);
}

NEAP_EXPORT void *pvalloc(size_t size)
{
    struct neap_tls *tls = &neap_tls;
    struct neap_context caller = NEAP_CALLER();

    if (NEAP_UNLIKELY(!neap_enter(tls)))
        return neap_real.ready ? neap_real.pvalloc(size) : boot(NEAP_PAGE, size);
    return neap_leave_allocated(tls, &caller, neap_real.pvalloc(size), size);
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
    void *block;

    neap_freeing(tls, old);
    block = neap_real.realloc(old, 0);
    return neap_leave_allocated(tls, caller, block, 0);
}

static void *resize(struct neap_tls *tls, const struct neap_context *caller, void *old,
                    size_t size)
{
    void *block;
    bool told;

    if (!old)
        return neap_leave_allocated(tls, caller, neap_real.realloc(NULL, size), size);
    if (size == 0)
        return resize_to_zero(tls, caller, old);
    if (size > PTRDIFF_MAX) { /* must fail, and then nothing has happened */
        block = neap_real.realloc(old, size);
        neap_leave(tls);
        return block;
    }
    tls->busy = NEAP_RECORDING;
    told = neap_emit_free(tls, NEAP_EV_REALLOC_FREE, old);
    tls->busy = NEAP_ALLOCATING;
    block = neap_real.realloc(old, size);
    tls->busy = NEAP_RECORDING;
    if (block)
        neap_emit_alloc(tls, told ? NEAP_EV_REALLOC_ALLOC : NEAP_EV_ALLOC, caller,
                        block, size);
    else if (told)
        neap_emit_free(tls, NEAP_EV_REALLOC_FAIL, old);
    neap_leave(tls);
    return block;
}

NEAP_EXPORT void *realloc(void *old, size_t size)
{
    struct neap_tls *tls = &neap_tls;
    struct neap_context caller = NEAP_CALLER();

    if (NEAP_UNLIKELY(old && neap_boot_owns(old)))
        return move_from_boot(old, size);
    if (NEAP_UNLIKELY(!neap_enter(tls)))
        return neap_real.ready ? neap_real.realloc(old, size) : boot(16, size);
    return resize(tls, &caller, old, size);
}

NEAP_EXPORT void *reallocarray(void *old, size_t count, size_t size)
{
    struct neap_tls *tls = &neap_tls;
    struct neap_context caller = NEAP_CALLER();
    size_t total;

    if (!product(count, size, &total))
        return out_of_memory();
    if (NEAP_UNLIKELY(old && neap_boot_owns(old)))
        return move_from_boot(old, total);
    if (NEAP_UNLIKELY(!neap_enter(tls)))
        return neap_real.ready ? neap_real.realloc(old, total) : boot(16, total);
    return resize(tls, &caller, old, total);
}

/* ---- release ---- */

/* Nothing to do: NULL, and blocks of the bootstrap heap, which are never given back. */
NEAP_ALWAYS_INLINE bool nothing_to_free(void *block)
{
    return block == NULL || NEAP_UNLIKELY(neap_boot_owns(block));
}

NEAP_EXPORT void free(void *block)
{
    struct neap_tls *tls = &neap_tls;

    if (nothing_to_free(block))
        return;
    if (NEAP_UNLIKELY(!neap_enter(tls))) {
        if (neap_real.ready)
            neap_real.free(block);
        return;
    }
    neap_freeing(tls, block);
    neap_real.free(block);
    neap_leave(tls);
}

/* Into the hook for a free, recorded if that may be. True: neap_leave when it is done.
 */
NEAP_ALWAYS_INLINE bool enter_free(struct neap_tls *tls, void *block)
{
    if (NEAP_UNLIKELY(!neap_enter(tls)))
        return false;
    neap_freeing(tls, block);
    return true;
}

/* C23. glibc has them from 2.41 on; before, they are free with a hint. */
NEAP_EXPORT void free_sized(void *block, size_t size);
NEAP_EXPORT void free_sized(void *block, size_t size)
{
    struct neap_tls *tls = &neap_tls;
    bool entered;

    if (!neap_real.free_sized || nothing_to_free(block)) {
        free(block);
        return;
    }
    entered = enter_free(tls, block);
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
    entered = enter_free(tls, block);
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

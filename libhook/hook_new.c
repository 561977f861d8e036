/* SPDX-License-Identifier: Apache-2.0 */
/*
 * C++ operator new and delete, in all forms, by their mangled names.
 *
 * The C++ library's and the allocators' definitions are malloc and free by another
 * name, but not all of them call malloc (jemalloc's, tcmalloc's and mimalloc's do not),
 * and libstdc++ asks malloc for a rounded size. Over those, new is malloc first,
 * recorded with the size the program asked for; only if that has nothing is the next
 * new called, to call the new handler and to throw as it would have done without us.
 *
 * Definitions of the program's own making may be anything, and so may a malloc of its
 * own that comes before ours. They are jumped to, so that nothing of ours stands in the
 * way of an exception; if they call malloc, that is seen. Replacing the plain form
 * changes what the others do, so it decides for all.
 *
 * A C program that loads a C++ plug-in has no next definition in its own search order:
 * then it is looked for once in the plug-in's libraries.
 */
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "libhook/enter.h"
#include "libhook/life.h"

typedef void *new_plain(size_t);
typedef void *new_nothrow(size_t, const void *);
typedef void *new_aligned(size_t, size_t);
typedef void *new_aligned_nothrow(size_t, size_t, const void *);
typedef void delete_plain(void *);
typedef void delete_sized(void *, size_t);
typedef void delete_aligned(void *, size_t);
typedef void delete_sized_aligned(void *, size_t, size_t);
typedef void delete_nothrow(void *, const void *);
typedef void delete_aligned_nothrow(void *, size_t, const void *);

NEAP_EXPORT void *_Znwm(size_t size);
NEAP_EXPORT void _ZdlPv(void *block);

/* A next definition, looked for when it is first needed. */
struct next {
    void *found;   /* NULL: none (an old C++ library has no aligned forms, say) */
    bool standard; /* malloc and free by another name */
    bool by_name;  /* which it calls: the C++ library's, not the allocator's own */
    bool ready;    /* stored last, with release */
};

/* Does everybody get the standard's plain form, past us? */
static bool plain_is_standard(const char *symbol, const void *caller)
{
    const void *next = neap_real_find(symbol, caller);

    return neap_real_is_behind_us(symbol) && next && neap_real_is_standard(next);
}

static NEAP_COLD void find(struct next *next, const char *symbol, const void *caller)
{
    struct neap_tls *tls = &neap_tls;
    uint8_t busy = tls->busy;

    if (!neap_real.ready)
        neap_life_begin();
    tls->busy = NEAP_INTERNAL;
    next->found = neap_real_find(symbol, caller);
    /* One that serves no more would hand out blocks of its own. */
    if (neap_real.heap && next->found && neap_real_is_allocators(next->found))
        next->found = neap_real_find_standard(symbol);
    /* A program with its own malloc gets it from the library's new as well. */
    next->standard =
        next->found && neap_real_is_standard(next->found) &&
        neap_real_is_behind_us("malloc") && neap_real_is_behind_us("free") &&
        plain_is_standard("_Znwm", caller) && plain_is_standard("_ZdlPv", caller);
    next->by_name = next->standard && !neap_real_is_allocators(next->found);
    __atomic_store_n(&next->ready, true, __ATOMIC_RELEASE);
    tls->busy = busy;
}

#define NEXT(symbol)                                                    \
    static struct next next;                                            \
                                                                        \
    if (NEAP_UNLIKELY(!__atomic_load_n(&next.ready, __ATOMIC_ACQUIRE))) \
    find(&next, #symbol, __builtin_return_address(0))

NEAP_ALWAYS_INLINE void *ask(size_t align, size_t size)
{
    return align ? neap_real.memalign(align, size) : neap_real.malloc(size);
}

/* malloc in the standard new's stead, recorded. NULL: not recorded, or none. */
static void *allocate(const struct neap_context *caller, size_t align, size_t size)
{
    struct neap_tls *tls = &neap_tls;
    uint64_t interval;

    if (NEAP_LIKELY(neap_gate_passes(tls, size)))
        return ask(align, size);
    if (!neap_enter(tls))
        return NULL;
    interval = neap_choose(tls, size);
    return neap_leave_allocated(tls, caller, ask(align, size), size, interval);
}

static bool deleting(struct neap_tls *tls, void *block)
{
    if (NEAP_LIKELY(neap_gate_frees(block)) || !block)
        return false;
    if (!neap_enter(tls)) {
        neap_missed_free(tls, block);
        return false;
    }
    neap_freeing(tls, block);
    return true;
}

#define DEFINE_NEW(symbol, type, align, params, args)                \
    NEAP_EXPORT void *symbol params;                                 \
    NEAP_EXPORT void *symbol params                                  \
    {                                                                \
        NEXT(symbol);                                                \
        if (NEAP_LIKELY(next.standard)) {                            \
            struct neap_context caller = NEAP_CALLER();              \
            void *block = allocate(&caller, align, size);            \
                                                                     \
            if (block)                                               \
                return block;                                        \
        }                                                            \
        return next.found ? ((type *)next.found)args : malloc(size); \
    }

/* A free that nobody needs to know of goes straight to the real one where delete would
 * come to that in the end, which saves 1.3 ns of 2.8. */
#define DEFINE_DELETE(symbol, type, params, args)                \
    NEAP_EXPORT void symbol params;                              \
    NEAP_EXPORT void symbol params                               \
    {                                                            \
        struct neap_tls *tls = &neap_tls;                        \
                                                                 \
        NEXT(symbol);                                            \
        if (NEAP_LIKELY(next.by_name && neap_gate_frees(block))) \
            neap_real.free(block);                               \
        else if (NEAP_UNLIKELY(!next.found)) {                   \
            free(block);                                         \
        } else if (next.standard && deleting(tls, block)) {      \
            ((type *)next.found) args;                           \
            neap_leave(tls);                                     \
        } else {                                                 \
            ((type *)next.found) args;                           \
        }                                                        \
    }

DEFINE_NEW(_Znwm, new_plain, 0, (size_t size), (size))
DEFINE_NEW(_Znam, new_plain, 0, (size_t size), (size))
DEFINE_NEW(_ZnwmRKSt9nothrow_t, new_nothrow, 0, (size_t size, const void *tag),
           (size, tag))
DEFINE_NEW(_ZnamRKSt9nothrow_t, new_nothrow, 0, (size_t size, const void *tag),
           (size, tag))
DEFINE_NEW(_ZnwmSt11align_val_t, new_aligned, align, (size_t size, size_t align),
           (size, align))
DEFINE_NEW(_ZnamSt11align_val_t, new_aligned, align, (size_t size, size_t align),
           (size, align))
DEFINE_NEW(_ZnwmSt11align_val_tRKSt9nothrow_t, new_aligned_nothrow, align,
           (size_t size, size_t align, const void *tag), (size, align, tag))
DEFINE_NEW(_ZnamSt11align_val_tRKSt9nothrow_t, new_aligned_nothrow, align,
           (size_t size, size_t align, const void *tag), (size, align, tag))
DEFINE_DELETE(_ZdlPv, delete_plain, (void *block), (block))
DEFINE_DELETE(_ZdaPv, delete_plain, (void *block), (block))
DEFINE_DELETE(_ZdlPvm, delete_sized, (void *block, size_t size), (block, size))
DEFINE_DELETE(_ZdaPvm, delete_sized, (void *block, size_t size), (block, size))
DEFINE_DELETE(_ZdlPvSt11align_val_t, delete_aligned, (void *block, size_t align),
              (block, align))
DEFINE_DELETE(_ZdaPvSt11align_val_t, delete_aligned, (void *block, size_t align),
              (block, align))
DEFINE_DELETE(_ZdlPvmSt11align_val_t, delete_sized_aligned,
              (void *block, size_t size, size_t align), (block, size, align))
DEFINE_DELETE(_ZdaPvmSt11align_val_t, delete_sized_aligned,
              (void *block, size_t size, size_t align), (block, size, align))
DEFINE_DELETE(_ZdlPvRKSt9nothrow_t, delete_nothrow, (void *block, const void *tag),
              (block, tag))
DEFINE_DELETE(_ZdaPvRKSt9nothrow_t, delete_nothrow, (void *block, const void *tag),
              (block, tag))
DEFINE_DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t, delete_aligned_nothrow,
              (void *block, size_t align, const void *tag), (block, align, tag))
DEFINE_DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t, delete_aligned_nothrow,
              (void *block, size_t align, const void *tag), (block, align, tag))

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * C++ operator new and delete, in all forms, by their mangled names.
 *
 * They are hooked although libstdc++'s call malloc, because others do not (tcmalloc,
 * jemalloc and mimalloc serve new themselves, programs bring their own), and because
 * the caller of new is who people look for.
 *
 * The throwing forms must not throw while we are inside: an exception would pass us by
 * and leave the guard up. So the real nothrow form is called first; if it has nothing,
 * the real throwing form is called with the guard down, to throw or to call the
 * program's new handler as it would have done without us.
 *
 * A C program that loads a C++ plug-in has no next definition in its own search
 * order: then it is looked for once in the plug-in's libraries.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "libhook/emit.h"
#include "libhook/guard.h"
#include "libhook/life.h"
#include "libhook/real.h"

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

/* Looked for and not there: an old C++ library has no aligned forms, say. */
#define ABSENT ((void *)&neap_real)

/* The next definition of `symbol`, kept in `*slot`. */
static NEAP_COLD void *find(void *_Atomic *slot, const char *symbol, const void *caller)
{
    struct neap_tls *tls = &neap_tls;
    uint8_t busy = tls->busy;
    void *found;

    if (!neap_real.ready)
        neap_life_begin();
    tls->busy = NEAP_INTERNAL;
    found = neap_real_find(symbol, caller);
    tls->busy = busy;
    __atomic_store_n(slot, found ? found : ABSENT, __ATOMIC_RELEASE);
    return found ? found : ABSENT;
}

/* NULL: there is none. */
#define NEXT(type, symbol)                                             \
    ({                                                                 \
        static void *_Atomic slot;                                     \
        void *next_ = __atomic_load_n(&slot, __ATOMIC_ACQUIRE);        \
                                                                       \
        if (NEAP_UNLIKELY(next_ == NULL))                              \
            next_ = find(&slot, #symbol, __builtin_return_address(0)); \
        (type *)(NEAP_LIKELY(next_ != ABSENT) ? next_ : NULL);         \
    })

/* An object of type std::nothrow_t has no contents: any address will do. */
static const char nothrow;

NEAP_ALWAYS_INLINE bool enter(struct neap_tls *tls)
{
    if (NEAP_LIKELY(tls->busy == NEAP_IDLE && neap_real.ready && !neap_real.off)) {
        tls->busy = NEAP_ALLOCATING;
        return true;
    }
    return neap_enter_slowly(tls);
}

static bool allocated(struct neap_tls *tls, const struct neap_context *caller,
                      void *block, size_t size)
{
    if (block) {
        tls->busy = NEAP_RECORDING;
        neap_emit_alloc(tls, NEAP_EV_ALLOC, caller, block, size);
    }
    tls->busy = NEAP_IDLE;
    return block != NULL;
}

static bool deleting(struct neap_tls *tls, void *block)
{
    if (!block || !enter(tls))
        return false;
    tls->busy = NEAP_RECORDING;
    neap_emit_free(tls, NEAP_EV_FREE, block);
    tls->busy = NEAP_ALLOCATING;
    return true;
}

/* parameters, their names, and what the next definition is called with */
#define DEFINE_NEW(symbol, next_type, quiet_symbol, quiet_type, params, args, \
                   quiet_args)                                                \
    NEAP_EXPORT void *symbol params;                                          \
    NEAP_EXPORT void *symbol params                                           \
    {                                                                         \
        struct neap_tls *tls = &neap_tls;                                     \
        struct neap_context caller = NEAP_CALLER();                           \
        next_type *next = NEXT(next_type, symbol);                            \
        quiet_type *quiet = NEXT(quiet_type, quiet_symbol);                   \
        void *block;                                                          \
                                                                              \
        if (!next)                                                            \
            return malloc(size);                                              \
        if (!quiet || !enter(tls))                                            \
            return next args;                                                 \
        block = quiet quiet_args;                                             \
        return allocated(tls, &caller, block, size) ? block : next args;      \
    }

#define DEFINE_NEW_NOTHROW(symbol, next_type, params, args) \
    NEAP_EXPORT void *symbol params;                        \
    NEAP_EXPORT void *symbol params                         \
    {                                                       \
        struct neap_tls *tls = &neap_tls;                   \
        struct neap_context caller = NEAP_CALLER();         \
        next_type *next = NEXT(next_type, symbol);          \
        void *block;                                        \
                                                            \
        if (!next)                                          \
            return malloc(size);                            \
        if (!enter(tls))                                    \
            return next args;                               \
        block = next args;                                  \
        allocated(tls, &caller, block, size);               \
        return block;                                       \
    }

#define DEFINE_DELETE(symbol, next_type, params, args) \
    NEAP_EXPORT void symbol params;                    \
    NEAP_EXPORT void symbol params                     \
    {                                                  \
        struct neap_tls *tls = &neap_tls;              \
        next_type *next = NEXT(next_type, symbol);     \
        bool recorded;                                 \
                                                       \
        if (!next) {                                   \
            free(block);                               \
            return;                                    \
        }                                              \
        recorded = deleting(tls, block);               \
        next args;                                     \
        if (recorded)                                  \
            tls->busy = NEAP_IDLE;                     \
    }

DEFINE_NEW(_Znwm, new_plain, _ZnwmRKSt9nothrow_t, new_nothrow, (size_t size), (size),
           (size, &nothrow))
DEFINE_NEW(_Znam, new_plain, _ZnamRKSt9nothrow_t, new_nothrow, (size_t size), (size),
           (size, &nothrow))
DEFINE_NEW(_ZnwmSt11align_val_t, new_aligned, _ZnwmSt11align_val_tRKSt9nothrow_t,
           new_aligned_nothrow, (size_t size, size_t align), (size, align),
           (size, align, &nothrow))
DEFINE_NEW(_ZnamSt11align_val_t, new_aligned, _ZnamSt11align_val_tRKSt9nothrow_t,
           new_aligned_nothrow, (size_t size, size_t align), (size, align),
           (size, align, &nothrow))
DEFINE_NEW_NOTHROW(_ZnwmRKSt9nothrow_t, new_nothrow, (size_t size, const void *tag),
                   (size, tag))
DEFINE_NEW_NOTHROW(_ZnamRKSt9nothrow_t, new_nothrow, (size_t size, const void *tag),
                   (size, tag))
DEFINE_NEW_NOTHROW(_ZnwmSt11align_val_tRKSt9nothrow_t, new_aligned_nothrow,
                   (size_t size, size_t align, const void *tag), (size, align, tag))
DEFINE_NEW_NOTHROW(_ZnamSt11align_val_tRKSt9nothrow_t, new_aligned_nothrow,
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

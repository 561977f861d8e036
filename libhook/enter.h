/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way into the hook and out of it, for the entry points that allocate.
 */
#ifndef NEAP_LIBHOOK_ENTER_H
#define NEAP_LIBHOOK_ENTER_H

#include "libhook/emit.h"
#include "libhook/guard.h"
#include "libhook/real.h"

/*
 * May this call be recorded? If not, forward it (neap_real.ready tells whether there
 * is something to forward to yet). If so, tls->busy is NEAP_ALLOCATING from here on,
 * until neap_leave.
 */
NEAP_ALWAYS_INLINE bool neap_enter(struct neap_tls *tls)
{
    if (NEAP_LIKELY(tls->busy == NEAP_IDLE && neap_real.ready && !neap_real.off)) {
        tls->busy = NEAP_ALLOCATING;
        return true;
    }
    return neap_enter_slowly(tls);
}

/* After the real call; a NULL block is no allocation. Leaves, and gives the block. */
NEAP_ALWAYS_INLINE void *neap_leave_allocated(struct neap_tls *tls,
                                              const struct neap_context *caller,
                                              void *block, size_t size)
{
    if (NEAP_LIKELY(block != NULL)) {
        tls->busy = NEAP_RECORDING;
        neap_emit_alloc(tls, NEAP_EV_ALLOC, caller, block, size);
    }
    tls->busy = NEAP_IDLE;
    return block;
}

/* Entered; before the real call. */
NEAP_ALWAYS_INLINE void neap_freeing(struct neap_tls *tls, void *block)
{
    tls->busy = NEAP_RECORDING;
    neap_emit_free(tls, NEAP_EV_FREE, block);
    tls->busy = NEAP_ALLOCATING;
}

NEAP_ALWAYS_INLINE void neap_leave(struct neap_tls *tls)
{
    tls->busy = NEAP_IDLE;
}

#endif

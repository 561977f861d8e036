/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way into the hook and out of it, for calls that the gate did not let pass.
 */
#ifndef NEAP_LIBHOOK_ENTER_H
#define NEAP_LIBHOOK_ENTER_H

#include "libhook/emit.h"
#include "libhook/gate.h"
#include "libhook/guard.h"
#include "libhook/life.h"
#include "libhook/real.h"

/* enter.c, the rare ways. */
bool neap_enter_slowly(struct neap_tls *tls);
bool neap_enter_connect(struct neap_tls *tls);
void neap_enter_exact(void);
void neap_freeing_slowly(struct neap_tls *tls, void *block);

/* Not entered, so not to be recorded: counted as lost if it is a signal handler's in
 * the middle of a record. A sampled block is no longer live all the same. */
void neap_missed_allocation(struct neap_tls *tls);
void neap_missed_free(struct neap_tls *tls, const void *block);

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

NEAP_ALWAYS_INLINE void neap_leave(struct neap_tls *tls)
{
    tls->busy = NEAP_IDLE;
}

#define NEAP_EXACTLY 0u /* for an interval: the block stands for itself alone */

/*
 * Entered; before the real call. How is the allocation to be recorded: NEAP_EXACTLY, as
 * a sample drawn with that interval, or NEAP_UNSEEN?
 */
NEAP_ALWAYS_INLINE uint64_t neap_choose(struct neap_tls *tls, size_t size)
{
    uint32_t mode;

    if (NEAP_UNLIKELY(atomic_load_explicit(&neap_process->phase,
                                           memory_order_relaxed) != NEAP_PHASE_ON) &&
        !neap_enter_connect(tls))
        return NEAP_UNSEEN;
    mode = neap_gate_mode();
    if (NEAP_LIKELY(mode == NEAP_MODE_EXACT)) {
        if (NEAP_UNLIKELY(
                !atomic_load_explicit(&neap_process->exact, memory_order_relaxed)))
            neap_enter_exact();
        return NEAP_EXACTLY;
    }
    return mode == NEAP_MODE_SAMPLED ? neap_sampler_take(tls, size) : NEAP_UNSEEN;
}

/* After the real call; a NULL block is no allocation. Leaves, and gives the block. */
NEAP_ALWAYS_INLINE void *neap_leave_allocated(struct neap_tls *tls,
                                              const struct neap_context *caller,
                                              void *block, size_t size,
                                              uint64_t interval)
{
    if (NEAP_LIKELY(block != NULL && interval != NEAP_UNSEEN)) {
        tls->busy = NEAP_RECORDING;
        if (NEAP_LIKELY(interval == NEAP_EXACTLY))
            neap_emit_alloc(tls, NEAP_EV_ALLOC, caller, block, size);
        else
            neap_emit_sample(tls, caller, block, size,
                             &(struct neap_emit_sample){.interval = interval});
    }
    tls->busy = NEAP_IDLE;
    return block;
}

/* Entered; before the real call. */
NEAP_ALWAYS_INLINE void neap_freeing(struct neap_tls *tls, void *block)
{
    if (NEAP_LIKELY(atomic_load_explicit(&neap_process->exact, memory_order_relaxed) &&
                    atomic_load_explicit(&neap_process->phase, memory_order_relaxed) ==
                        NEAP_PHASE_ON)) {
        tls->busy = NEAP_RECORDING;
        neap_emit_free(tls, NEAP_EV_FREE, block);
        tls->busy = NEAP_ALLOCATING;
    } else {
        neap_freeing_slowly(tls, block);
    }
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "libhook/enter.h"

#include <errno.h>

#include "libhook/samples.h"

bool neap_enter_slowly(struct neap_tls *tls)
{
    if (!neap_real.ready && tls->busy == NEAP_IDLE)
        neap_life_begin();
    if (tls->busy != NEAP_IDLE || !neap_real.ready || neap_real.off)
        return false;
    tls->busy = NEAP_ALLOCATING;
    return true;
}

NEAP_COLD void neap_missed_allocation(struct neap_tls *tls)
{
    uint32_t mode = neap_gate_mode();

    if (!neap_real.ready || neap_real.off || mode == NEAP_MODE_OFF)
        return;
    if (mode == NEAP_MODE_SAMPLED)
        neap_sampler_spoil(tls);
    if (tls->busy == NEAP_RECORDING)
        neap_emit_nested(tls);
}

NEAP_COLD void neap_missed_free(struct neap_tls *tls, const void *block)
{
    uint32_t index;

    if (!neap_real.ready || neap_real.off)
        return;
    index = neap_samples_take(block);
    if (index != NEAP_SAMPLES_NONE)
        neap_samples_drop(index, block);
    if (tls->busy == NEAP_RECORDING &&
        (index != NEAP_SAMPLES_NONE ||
         atomic_load_explicit(&neap_process->exact, memory_order_relaxed)))
        neap_emit_nested(tls);
}

NEAP_COLD bool neap_enter_connect(struct neap_tls *tls)
{
    int saved = errno;
    uint8_t busy = tls->busy;
    bool on;

    tls->busy = NEAP_INTERNAL;
    on = neap_life_connect(tls);
    tls->busy = busy;
    errno = saved;
    return on;
}

/* Any block may be one of the recorded from here on: every free is looked at. */
NEAP_COLD void neap_enter_exact(void)
{
    neap_filter_fill();
    /* Before this thread hands out its block; others do the same. */
    atomic_store_explicit(&neap_process->exact, true, memory_order_release);
}

/*
 * Frees of a process that records samples, has recorded nothing exactly yet, or has not
 * connected. The first image finds the mode exact before it is connected, and may find
 * another one then.
 */
NEAP_COLD void neap_freeing_slowly(struct neap_tls *tls, void *block)
{
    uint32_t index;

    if (neap_gate_mode() == NEAP_MODE_EXACT && neap_enter_connect(tls) &&
        neap_gate_mode() == NEAP_MODE_EXACT) {
        tls->busy = NEAP_RECORDING;
        neap_emit_free(tls, NEAP_EV_FREE, block);
    } else {
        index = neap_samples_take(block);
        if (index != NEAP_SAMPLES_NONE) {
            tls->busy = NEAP_RECORDING;
            neap_samples_drop(index, block);
            neap_emit_sample_free(tls, block, neap_sample_flags(tls, block));
        }
    }
    tls->busy = NEAP_ALLOCATING;
}

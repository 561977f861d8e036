/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/adapt.h"

#include "schema/base/weigh.h"

/* A sample costs its program some 3 us: the budget is about 1 % of a processor. */
#define LOOK_NS     250000000ull
#define SAMPLES_MAX 1000u /* in that time */

void neap_adapt(struct neap_adapt *adapt, struct neap_ctl *ctl, uint64_t samples,
                uint64_t now_ns, enum neap_activity activity)
{
    uint64_t interval = neap_ctl_interval(ctl);

    adapt->busy |= activity == NEAP_ACTIVITY_BUSY;
    if (now_ns - adapt->looked_ns < LOOK_NS)
        return;
    if ((adapt->busy || samples - adapt->samples > SAMPLES_MAX) &&
        interval <= NEAP_INTERVAL_MAX / 2)
        neap_ctl_mode(ctl,
                      atomic_load_explicit(&ctl->header->mode, memory_order_relaxed),
                      interval * 2);
    *adapt = (struct neap_adapt){.looked_ns = now_ns, .samples = samples};
}

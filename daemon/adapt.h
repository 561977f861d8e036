/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --policy adapt: while more samples come than the budget allows, or lanes are filling
 * up, take half as many. The interval only grows: each sample carries its own, so the
 * totals stay without bias, and a recording that calms down is no worse for it.
 */
#ifndef NEAP_DAEMON_ADAPT_H
#define NEAP_DAEMON_ADAPT_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/source/ctl.h"
#include "daemon/source/source.h"

/* All zero at the start. */
struct neap_adapt {
    uint64_t looked_ns; /* when it was last decided */
    uint64_t samples;   /* there had been then */
    bool busy;          /* lanes were filling up since */
};

/* Once a turn; `samples` there have been in all. */
void neap_adapt(struct neap_adapt *adapt, struct neap_ctl *ctl, uint64_t samples,
                uint64_t now_ns, enum neap_activity activity);

#endif

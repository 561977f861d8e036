/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The collector's half of the shared memory: clock, bell, read positions.
 *
 * One memfd for a recording, mapped here for writing and then sealed, so that no
 * target can ever write, shrink or grow it (schema/wire/ring.h has the layout).
 *
 * A slot holds one process's read positions. It is given out zeroed, lowest number
 * first, so that the pages in use follow the processes alive and not all there were.
 */
#ifndef NEAP_DAEMON_SOURCE_CTL_H
#define NEAP_DAEMON_SOURCE_CTL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "schema/base/error.h"
#include "schema/wire/ring.h"

struct neap_ctl {
    int fd;
    struct neap_ctl_header *header;
    uint64_t start_ns;                      /* CLOCK_MONOTONIC at the start */
    uint64_t used[NEAP_CTL_SLOTS_MAX / 64]; /* a bit a slot */
};

struct neap_error *neap_ctl_create(struct neap_ctl **ret) NEAP_MUST_CHECK;
/* Tells targets that the recording has ended. Takes NULL. */
void neap_ctl_destroy(struct neap_ctl *ctl);

/* What targets record from now on; `interval` only grows. */
void neap_ctl_mode(struct neap_ctl *ctl, enum neap_mode mode, uint64_t interval);

uint64_t neap_ctl_interval(const struct neap_ctl *ctl);

/* A free slot, its words all 0. False if every slot is taken. */
bool neap_ctl_take(struct neap_ctl *ctl, uint32_t *ret);
/* Give it back; `lanes` = how many of its words may be other than 0. */
void neap_ctl_give(struct neap_ctl *ctl, uint32_t slot, uint32_t lanes);
/* The tail words of a slot, NEAP_LANES_MAX of them. */
_Atomic uint64_t *neap_ctl_tails(const struct neap_ctl *ctl, uint32_t slot);

/* Nanoseconds since the start; also stored in the clock word. */
uint64_t neap_ctl_tick(struct neap_ctl *ctl);

#endif

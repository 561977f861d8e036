/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread's lane: claiming one, waiting for room in it, giving it back.
 */
#ifndef NEAP_LIBHOOK_LANE_H
#define NEAP_LIBHOOK_LANE_H

#include <stdbool.h>
#include <stdint.h>

#include "libhook/guard.h"

/*
 * Claim a free lane for this thread and take up its positions. False: there is none
 * (NEAP_LANES_MAX threads record at this moment), or no memory to map it.
 */
bool neap_lane_claim(struct neap_tls *tls);

/* Give it back; the next owner goes on from our head. */
void neap_lane_release(struct neap_tls *tls);

/*
 * A record of `length` bytes goes beyond tls->limit: look at the tail again, ring if
 * the lane is half full, and set the next limit. False: the room that is left is kept
 * for more important records than this one (`spare`).
 */
bool neap_lane_look(struct neap_tls *tls, uint32_t length, bool spare);

/*
 * The lane has no room for `length` bytes. Wait for the collector as the policy says,
 * then reserve again: room as from neap_lane_reserve, or NULL if this record is lost.
 * `*head` as for neap_lane_reserve.
 */
void *neap_lane_wait(struct neap_tls *tls, uint64_t *head, uint32_t length);

#endif

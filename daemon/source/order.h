/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order of one process's events over all of its lanes (schema/wire/event.h).
 *
 * Rules. (1) A lane's events in the lane's order. (2) The events of a shard strictly
 * by sequence number. (3) Among what these two allow, the lowest stamp first.
 *
 * This cannot deadlock. A thread takes an event's number at one moment, after the
 * moments of all its earlier events, and a shard hands numbers out in the order of
 * those moments: (1) and (2) are both part of one total order, that of the moments.
 * Take the blocked lane whose first event has the earliest moment: what it waits for
 * has an earlier one still, so it cannot stand behind any blocked event. It has not
 * been published yet, or never will be: its producer was preempted, lost it for want
 * of room, or died. Hence only the gap of the earliest blocked event may ever be
 * skipped, which is what happens when patience ends.
 *
 * The cut. A pass over a process with several threads takes a stamp before it reads
 * any head and applies nothing later than that. An event that happened because of
 * another one (its thread saw the other's publication) is then applied only in a pass
 * that also sees the other.
 */
#ifndef NEAP_DAEMON_SOURCE_ORDER_H
#define NEAP_DAEMON_SOURCE_ORDER_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/source/lane.h"
#include "daemon/source/source.h"

struct neap_order {
    uint32_t expected[NEAP_ORDER_SHARDS]; /* the next number of each */
    uint64_t gaps;                        /* numbers skipped and not seen since */
};

struct neap_order_heap_entry {
    uint64_t stamp;
    uint32_t lane;
};

/* Room for one merge; nothing in it lasts. */
struct neap_order_scratch {
    uint32_t heap_length;
    struct neap_order_heap_entry heap[NEAP_LANES_MAX];
    uint16_t shard_first[NEAP_ORDER_SHARDS]; /* waiting lanes, +1; 0 = none */
    uint16_t lane_next[NEAP_LANES_MAX];
};

struct neap_order_limits {
    uint64_t cut;         /* apply no later stamp; UINT64_MAX = all */
    uint64_t now_ns;      /* for patience only */
    uint64_t patience_ns; /* how long a gap may hold up a lane; 0 = not at all */
};

/* All of the only lane there is: its order is the order. */
void neap_order_single(struct neap_order *order, struct neap_lane_cursor *cursor,
                       uint32_t lane, const struct neap_sink *sink);

/* Several lanes, whose snapshots were all taken after `cut`. */
void neap_order_merge(struct neap_order *order, struct neap_order_scratch *scratch,
                      struct neap_lane_cursor *cursors, uint32_t count,
                      const struct neap_order_limits *limits,
                      const struct neap_sink *sink);

#endif

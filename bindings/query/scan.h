/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The questions that take the events: what was at a time, between two times, by thread,
 * by size. See scan.c.
 */
#ifndef NEAP_BINDINGS_QUERY_SCAN_H
#define NEAP_BINDINGS_QUERY_SCAN_H

#include "bindings/query/events.h"
#include "bindings/query/groups.h"
#include "bindings/query/recording.h"
#include "schema/base/weigh.h"

/* Of one process in raw_live. */
struct neap_scan_blocks {
    bool whole;          /* all that it had at its end is there */
    int64_t first, last; /* row ids */
};

struct neap_scan {
    struct neap_recording *recording;
    const struct neap_report_query *query;
    struct neap_groups *groups;
    struct neap_events events;
    struct neap_scan_blocks *blocks; /* one a process; NULL until needed */
    bool filtered;                   /* by thread or size */

    /* of the process under way */
    const struct neap_events_process *process;
    struct neap_event_sites sites;
    uint32_t *slots; /* by site: its group, when those are stacks */
    uint32_t unknown_slot;
    uint32_t class_slots[65];
    uint32_t last_tid, last_slot; /* the thread whose group was looked up last */

    /* of the sum under way */
    int effect[16];  /* by kind and flags of an event */
    uint64_t sign;   /* 1, or -1: backwards from the end */
    int half;        /* at the moment that counts this half of samples; < 0: all */
    unsigned chunks; /* read so far */
};

/* Key of the group of sites without a stack, until the end of the scan. */
#define NEAP_SCAN_UNKNOWN (UINT64_MAX - 1)

/*
 * Answer `query` into `groups`, in the snapshot that is open. Errors: USAGE for what
 * this recording does not hold (any more), DAMAGED for what cannot be read.
 */
struct neap_error *neap_recording_scan(struct neap_recording *recording,
                                       const struct neap_report_query *query,
                                       struct neap_groups *groups) NEAP_MUST_CHECK;

/* ---- inside: walk.c reads events, scan.c asks, ends.c knows what was at the end ----
 */

typedef bool neap_scan_step(struct neap_scan *scan, void *data,
                            const struct neap_chunk_event *events, uint32_t count,
                            int64_t first);

/* Hand events [from, to) of the process to `step`; it returns false without memory. */
struct neap_error *neap_scan_walk(struct neap_scan *scan, int64_t from, int64_t to,
                                  neap_scan_step *step, void *data) NEAP_MUST_CHECK;
/* How many events had been applied at a time. */
struct neap_error *neap_scan_moment(struct neap_scan *scan, int64_t ns,
                                    int64_t *ret) NEAP_MUST_CHECK;
/* Add what events [from, to) do to a metric, or take it away. */
struct neap_error *neap_scan_sum(struct neap_scan *scan, enum neap_metric metric,
                                 int64_t from, int64_t to) NEAP_MUST_CHECK;
/* Add the blocks that events [from, to) allocate and do not free. */
struct neap_error *neap_scan_survivors(struct neap_scan *scan, int64_t from,
                                       int64_t to) NEAP_MUST_CHECK;
/* Where the process had the most in [from, to], for each half of the samples. */
struct neap_error *neap_scan_highest(struct neap_scan *scan, int64_t from, int64_t to,
                                     int64_t ret[2]) NEAP_MUST_CHECK;

/* Look up the process's sites, if groups are stacks. */
struct neap_error *
neap_scan_enter(struct neap_scan *scan,
                const struct neap_events_process *process) NEAP_MUST_CHECK;
void neap_scan_leave(struct neap_scan *scan);

/* Is it known what a metric was at the process's end, of the blocks asked about? */
struct neap_error *neap_scan_end_known(struct neap_scan *scan, enum neap_metric metric,
                                       bool *ret) NEAP_MUST_CHECK;
struct neap_error *neap_scan_add_end(struct neap_scan *scan,
                                     enum neap_metric metric) NEAP_MUST_CHECK;
/* Each stack's share in the process's peak, from the aggregates. */
struct neap_error *neap_scan_add_peak(struct neap_scan *scan) NEAP_MUST_CHECK;

/* The group that a block counts for; NEAP_GROUP_NONE: no memory. */
uint32_t neap_scan_slot_of_thread(struct neap_scan *scan, uint32_t tid);
uint32_t neap_scan_slot_of_class(struct neap_scan *scan, uint64_t size);

/* Is a block asked about? */
static inline bool neap_scan_wants(const struct neap_scan *scan, uint64_t size,
                                   uint32_t owner)
{
    const struct neap_report_query *query = scan->query;

    return (!query->has_tid || owner == query->tid) &&
           (!query->has_min_size || size >= (uint64_t)query->min_size) &&
           (!query->has_max_size || size <= (uint64_t)query->max_size);
}

/* At one of a peak's two moments: the blocks of one half, and half of what is in both.
 */
struct neap_weight neap_scan_share(const struct neap_scan *scan, uint64_t size,
                                   uint64_t interval, uint64_t address);

/* What a block counts for. */
NEAP_ALWAYS_INLINE struct neap_weight neap_scan_weigh(const struct neap_scan *scan,
                                                      uint64_t size, uint64_t interval,
                                                      uint64_t address)
{
    if (NEAP_UNLIKELY(scan->half >= 0))
        return neap_scan_share(scan, size, interval, address);
    if (NEAP_LIKELY(interval == 0))
        return (struct neap_weight){.bytes = size, .count = NEAP_WEIGHT_ONE};
    return neap_weigh(size, interval);
}

#endif

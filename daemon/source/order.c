/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The merge: a heap of lanes by the stamp of their first event, and, for each shard,
 * a list of the lanes that wait for a number of it. A lane is in the heap, in one
 * list, or done for this pass. An event costs O(log lanes), and nothing but a
 * comparison while one lane stays the earliest.
 */
#include "daemon/source/order.h"

#include <string.h>

static bool is_ordered(enum neap_ev_kind kind)
{
    return kind >= NEAP_EV_ALLOC && kind <= NEAP_EV_SAMPLE_FREE;
}

static unsigned event_shard(const struct neap_event *event)
{
    /* These kinds all have the address as their second word. */
    return neap_order_shard(event->free->address);
}

/* How far an event is ahead of its shard; negative: it comes late. */
static int32_t event_ahead(const struct neap_order *order,
                           const struct neap_event *event, unsigned shard)
{
    uint32_t difference = (event->seq - order->expected[shard]) & NEAP_SEQ_MASK;

    if (difference > NEAP_SEQ_MASK / 2)
        return (int32_t)difference - (int32_t)NEAP_SEQ_MASK - 1;
    return (int32_t)difference;
}

/* The event at the cursor is next: count what it skips, hand it on. */
NEAP_ALWAYS_INLINE void apply(struct neap_order *order, struct neap_lane_cursor *cursor,
                              uint32_t lane, const struct neap_sink *sink)
{
    const struct neap_event *event = &cursor->event;

    if (is_ordered(event->kind)) {
        unsigned shard = event_shard(event);
        int32_t ahead = 0;

        if (NEAP_UNLIKELY(event->seq != order->expected[shard]))
            ahead = event_ahead(order, event, shard);

        if (ahead >= 0) {
            order->gaps += (uint32_t)ahead;
            order->expected[shard] = (event->seq + 1) & NEAP_SEQ_MASK;
        } else if (order->gaps) {
            order->gaps--; /* it was given up, and came after all */
        }
    }
    sink->event(sink->context, lane, event);
    neap_lane_cursor_take(cursor);
}

void neap_order_single(struct neap_order *order, struct neap_lane_cursor *cursor,
                       uint32_t lane, const struct neap_sink *sink)
{
    while (neap_lane_cursor_peek(cursor))
        apply(order, cursor, lane, sink);
}

/* ---- the heap ---- */

static void heap_push(struct neap_order_scratch *scratch, uint64_t stamp, uint32_t lane)
{
    struct neap_order_heap_entry *heap = scratch->heap;
    uint32_t at = scratch->heap_length++;

    while (at > 0) {
        uint32_t parent = (at - 1) / 2;

        if (heap[parent].stamp <= stamp)
            break;
        heap[at] = heap[parent];
        at = parent;
    }
    heap[at] = (struct neap_order_heap_entry){stamp, lane};
}

static uint32_t heap_pop(struct neap_order_scratch *scratch)
{
    struct neap_order_heap_entry *heap = scratch->heap;
    uint32_t lane = heap[0].lane;
    uint32_t length = --scratch->heap_length;
    struct neap_order_heap_entry last = heap[length];
    uint32_t at = 0;

    for (;;) {
        uint32_t child = 2 * at + 1;

        if (child >= length)
            break;
        if (child + 1 < length && heap[child + 1].stamp < heap[child].stamp)
            child++;
        if (heap[child].stamp >= last.stamp)
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return lane;
}

/* ---- the merge ---- */

struct merge {
    struct neap_order *order;
    struct neap_order_scratch *scratch;
    struct neap_lane_cursor *cursors;
    uint32_t count;
    uint64_t cut;
    const struct neap_sink *sink;
};

/* Lanes whose turn has come in `shard` go back into the heap. */
static void wake(struct merge *merge, unsigned shard)
{
    struct neap_order_scratch *scratch = merge->scratch;
    uint16_t *link = &scratch->shard_first[shard];

    while (*link) {
        uint32_t lane = *link - 1u;
        struct neap_lane_cursor *cursor = &merge->cursors[lane];

        if (event_ahead(merge->order, &cursor->event, shard) > 0) {
            link = &scratch->lane_next[lane];
            continue;
        }
        *link = scratch->lane_next[lane];
        heap_push(scratch, cursor->event_stamp, lane);
    }
}

static void wait_for(struct merge *merge, uint32_t lane, unsigned shard)
{
    struct neap_order_scratch *scratch = merge->scratch;

    scratch->lane_next[lane] = scratch->shard_first[shard];
    scratch->shard_first[shard] = (uint16_t)(lane + 1);
}

/* Events of `lane` for as long as it is the earliest. */
static void run_lane(struct merge *merge, uint32_t lane)
{
    struct neap_order_scratch *scratch = merge->scratch;
    struct neap_lane_cursor *cursor = &merge->cursors[lane];

    for (;;) {
        const struct neap_event *event = &cursor->event;
        bool ordered = is_ordered(event->kind);
        unsigned shard = ordered ? event_shard(event) : 0;

        if (ordered && event_ahead(merge->order, event, shard) > 0) {
            wait_for(merge, lane, shard);
            return;
        }
        apply(merge->order, cursor, lane, merge->sink);
        if (ordered && scratch->shard_first[shard])
            wake(merge, shard);
        if (!neap_lane_cursor_peek(cursor) || cursor->event_stamp > merge->cut)
            return;
        if (scratch->heap_length && scratch->heap[0].stamp < cursor->event_stamp) {
            heap_push(scratch, cursor->event_stamp, lane);
            return;
        }
    }
}

/* The waiting lane with the earliest event; false if none waits. */
static bool earliest_waiting(const struct merge *merge, uint32_t *ret_lane,
                             unsigned *ret_shard)
{
    bool found = false;
    uint64_t stamp = 0;

    for (unsigned shard = 0; shard < NEAP_ORDER_SHARDS; shard++) {
        for (uint16_t next = merge->scratch->shard_first[shard]; next;
             next = merge->scratch->lane_next[next - 1]) {
            const struct neap_lane_cursor *cursor = &merge->cursors[next - 1];

            if (found && cursor->event_stamp >= stamp)
                continue;
            found = true;
            stamp = cursor->event_stamp;
            *ret_lane = next - 1u;
            *ret_shard = shard;
        }
    }
    return found;
}

/* Start, or go on with, the time that a waiting lane has been held up. */
static void note_blocked(struct merge *merge, uint64_t now_ns)
{
    for (unsigned shard = 0; shard < NEAP_ORDER_SHARDS; shard++) {
        for (uint16_t next = merge->scratch->shard_first[shard]; next;
             next = merge->scratch->lane_next[next - 1]) {
            struct neap_lane_cursor *cursor = &merge->cursors[next - 1];

            if (cursor->blocked_at == cursor->position + 1)
                continue;
            cursor->blocked_at = cursor->position + 1;
            cursor->blocked_ns = now_ns;
        }
    }
}

/* Go over the gap before the earliest waiting event, if it has waited long enough. */
static bool skip_gap(struct merge *merge, const struct neap_order_limits *limits)
{
    const struct neap_lane_cursor *cursor;
    struct neap_order *order = merge->order;
    uint32_t lane;
    unsigned shard;
    int32_t step;

    if (!earliest_waiting(merge, &lane, &shard))
        return false;
    cursor = &merge->cursors[lane];
    if (limits->patience_ns &&
        (cursor->blocked_at != cursor->position + 1 ||
         limits->now_ns - cursor->blocked_ns < limits->patience_ns))
        return false;
    /* As far as the nearest event that waits on this shard, in whatever lane. */
    step = event_ahead(order, &cursor->event, shard);
    for (uint16_t next = merge->scratch->shard_first[shard]; next;
         next = merge->scratch->lane_next[next - 1]) {
        int32_t ahead = event_ahead(order, &merge->cursors[next - 1].event, shard);

        if (ahead < step)
            step = ahead;
    }
    order->gaps += (uint32_t)step;
    order->expected[shard] = (order->expected[shard] + (uint32_t)step) & NEAP_SEQ_MASK;
    wake(merge, shard);
    return true;
}

void neap_order_merge(struct neap_order *order, struct neap_order_scratch *scratch,
                      struct neap_lane_cursor *cursors, uint32_t count,
                      const struct neap_order_limits *limits,
                      const struct neap_sink *sink)
{
    struct merge merge = {
        .order = order,
        .scratch = scratch,
        .cursors = cursors,
        .count = count,
        .cut = limits->cut,
        .sink = sink,
    };

    scratch->heap_length = 0;
    memset(scratch->shard_first, 0, sizeof(scratch->shard_first));
    for (uint32_t i = 0; i < count; i++) {
        if (neap_lane_cursor_peek(&cursors[i]) && cursors[i].event_stamp <= limits->cut)
            heap_push(scratch, cursors[i].event_stamp, i);
    }
    do {
        while (scratch->heap_length)
            run_lane(&merge, heap_pop(scratch));
    } while (skip_gap(&merge, limits));
    note_blocked(&merge, limits->now_ns);
}

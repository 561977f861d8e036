/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cursor over one lane: bytes in, one decoded record at a time out.
 *
 * A pass begins with a snapshot of head; records up to it are copied in chunks into
 * a private buffer and decoded there. What was looked at but not taken is forgotten
 * at the end of the pass, and read anew in the next one, so the buffers belong to
 * the pass and not to the lane.
 *
 * Invariant: tail <= position <= limit <= tail + NEAP_LANE_BYTES.
 */
#ifndef NEAP_DAEMON_SOURCE_LANE_H
#define NEAP_DAEMON_SOURCE_LANE_H

#include <stdbool.h>
#include <stdint.h>

#include "schema/wire/codec.h"
#include "schema/wire/ring.h"

#define NEAP_CHUNK_MIN (16u << 10) /* more than NEAP_EV_SIZE_MAX: any record fits */
#define NEAP_CHUNK_MAX (64u << 10)

struct neap_lane_cursor {
    struct neap_lane_view view;
    int fd;             /* the data memfd; not ours */
    uint64_t offset;    /* of the lane's bytes in it */
    uint64_t position;  /* of the next record to take */
    uint64_t limit;     /* head at the start of the pass */
    uint8_t *chunk;     /* NULL between passes */
    uint32_t chunk_max; /* its size */
    uint32_t chunk_length;
    uint64_t chunk_start; /* position of chunk[0] */

    bool ready;              /* the next two are valid */
    struct neap_event event; /* the record at position */
    uint64_t event_stamp;    /* its effective order stamp */
    uint64_t stamp;          /* of the last record taken; never falls */
    uint64_t base;           /* the last TIME record's */

    bool dead;              /* made no sense once: read no more */
    uint64_t dropped_bytes; /* by that; not yet reported */
    uint64_t blocked_at;    /* position + 1 where it waited for a gap, 0 = did not */
    uint64_t blocked_ns;    /* since when */
    uint64_t lost_events, lost_bytes, lost_stacks; /* as last reported */
};

/* `lane` is the mapped header page of lane `index` of `fd`. */
void neap_lane_cursor_init(struct neap_lane_cursor *cursor, int fd, uint32_t index,
                           const struct neap_lane *lane, _Atomic uint64_t *tail_word);

/* Take the snapshot. Returns the bytes that wait. A dead lane just keeps up. */
uint32_t neap_lane_cursor_begin(struct neap_lane_cursor *cursor);
/* Lend a buffer for the pass, NEAP_CHUNK_MIN bytes at least, 8-byte aligned. */
void neap_lane_cursor_lend(struct neap_lane_cursor *cursor, uint8_t *chunk,
                           uint32_t length);
/* Decode the record at position. False: no more in this pass. */
bool neap_lane_cursor_peek_any(struct neap_lane_cursor *cursor);

/*
 * The same, without a call for the two kinds that nearly all records are; both are
 * valid whatever else their bytes are (codec.h). 20 instructions instead of 80.
 */
static inline bool neap_lane_cursor_peek(struct neap_lane_cursor *cursor)
{
    uint64_t at = cursor->position - cursor->chunk_start;
    uint64_t head, stamp;

    if (cursor->ready)
        return true;
    if (NEAP_UNLIKELY(cursor->position == cursor->limit ||
                      at + sizeof(struct neap_ev_alloc) > cursor->chunk_length))
        return neap_lane_cursor_peek_any(cursor);
    head = *(const uint64_t *)(const void *)(cursor->chunk + at);
    cursor->event.kind = neap_ev_kind(head);
    if (cursor->event.kind == NEAP_EV_ALLOC)
        cursor->event.length = sizeof(struct neap_ev_alloc);
    else if (cursor->event.kind == NEAP_EV_FREE)
        cursor->event.length = sizeof(struct neap_ev_free);
    else
        return neap_lane_cursor_peek_any(cursor);
    cursor->event.seq = neap_ev_seq(head);
    cursor->event.delta = neap_ev_delta(head);
    cursor->event.alloc = (const void *)(cursor->chunk + at);
    stamp = cursor->event.delta ? cursor->base + cursor->event.delta : 0;
    cursor->event_stamp = stamp > cursor->stamp ? stamp : cursor->stamp;
    cursor->ready = true;
    return true;
}
/* Move past the record that peek found. */
static inline void neap_lane_cursor_take(struct neap_lane_cursor *cursor)
{
    cursor->stamp = cursor->event_stamp;
    if (NEAP_UNLIKELY(cursor->event.kind == NEAP_EV_TIME))
        cursor->base = cursor->event.time->stamp;
    cursor->position += cursor->event.length;
    cursor->ready = false;
}
/* Give back what was taken and forget the buffer. */
void neap_lane_cursor_end(struct neap_lane_cursor *cursor);

#endif

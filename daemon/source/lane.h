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
bool neap_lane_cursor_peek(struct neap_lane_cursor *cursor);
/* Move past the record that peek found. */
void neap_lane_cursor_take(struct neap_lane_cursor *cursor);
/* Give back what was taken and forget the buffer. */
void neap_lane_cursor_end(struct neap_lane_cursor *cursor);

#endif

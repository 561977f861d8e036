/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader of one lane.
 *
 * Hostile bytes: head is checked against our own tail, a record against the copy it
 * was decoded from, and the copy cannot change under the decoder. The worst a target
 * can do is to have its own lane given up. Such a lane is then emptied unread, so
 * that a program that damaged it by accident never waits for room.
 *
 * Room is given back in steps of a chunk, not a record: the tail word is a cache
 * line that the producer reads.
 */
#include "daemon/source/lane.h"

#include <errno.h>
#include <unistd.h>

void neap_lane_cursor_init(struct neap_lane_cursor *cursor, int fd, uint32_t index,
                           const struct neap_lane *lane, _Atomic uint64_t *tail_word)
{
    *cursor = (struct neap_lane_cursor){
        .view = {.lane = lane, .tail_word = tail_word},
        .fd = fd,
        .offset = NEAP_LANE_OFFSET(index) + sizeof(*lane),
    };
}

/* Everything up to head is lost; the lane is not decoded again. */
static void give_up(struct neap_lane_cursor *cursor)
{
    /* Pairs with the release store in neap_lane_publish. */
    uint64_t head =
        atomic_load_explicit(&cursor->view.lane->head, memory_order_acquire);
    uint64_t waiting = head - cursor->position;

    /* A head out of range says nothing about how much there was. */
    cursor->dropped_bytes += waiting <= NEAP_LANE_BYTES ? waiting : 0;
    cursor->dead = true;
    cursor->ready = false;
    cursor->view.tail = head;
    cursor->position = head;
    cursor->limit = head;
    neap_lane_consume(&cursor->view, 0);
}

uint32_t neap_lane_cursor_begin(struct neap_lane_cursor *cursor)
{
    uint64_t head =
        atomic_load_explicit(&cursor->view.lane->head, memory_order_acquire);
    uint64_t waiting = head - cursor->view.tail;

    cursor->position = cursor->view.tail;
    cursor->limit = cursor->position;
    cursor->ready = false;
    cursor->chunk = NULL;
    cursor->chunk_length = 0;
    if (waiting == 0)
        return 0;
    if (cursor->dead || waiting > NEAP_LANE_BYTES || head % 8 != 0) {
        give_up(cursor);
        return 0;
    }
    cursor->limit = head;
    return (uint32_t)waiting;
}

void neap_lane_cursor_lend(struct neap_lane_cursor *cursor, uint8_t *chunk,
                           uint32_t length)
{
    cursor->chunk = chunk;
    cursor->chunk_max = length;
}

/* Where the lap that `position` is in ends, or the snapshot if that is nearer. */
static uint64_t lap_end(const struct neap_lane_cursor *cursor)
{
    uint64_t end =
        cursor->position + NEAP_LANE_BYTES - cursor->position % NEAP_LANE_BYTES;

    return end < cursor->limit ? end : cursor->limit;
}

/* Copy what follows position. False if there is nothing to copy with or from. */
static bool refill(struct neap_lane_cursor *cursor)
{
    uint64_t length = lap_end(cursor) - cursor->position;
    uint64_t from = cursor->offset + cursor->position % NEAP_LANE_BYTES;
    uint32_t done = 0;

    if (!cursor->chunk)
        return false;
    if (length > cursor->chunk_max)
        length = cursor->chunk_max;
    while (done < length) {
        ssize_t got = pread(cursor->fd, cursor->chunk + done, length - done,
                            (off_t)(from + done));

        if (got <= 0) {
            if (got < 0 && errno == EINTR)
                continue;
            return false;
        }
        done += (uint32_t)got;
    }
    /* What lies before position has been taken: let the producer have it. */
    neap_lane_consume(&cursor->view, (uint32_t)(cursor->position - cursor->view.tail));
    cursor->chunk_start = cursor->position;
    cursor->chunk_length = done;
    return done > 0;
}

static uint64_t effective_stamp(const struct neap_lane_cursor *cursor)
{
    const struct neap_event *event = &cursor->event;
    uint64_t stamp = 0;

    if (event->kind == NEAP_EV_TIME)
        stamp = event->time->stamp;
    else if (event->delta)
        stamp = cursor->base + event->delta;
    return stamp > cursor->stamp ? stamp : cursor->stamp;
}

bool neap_lane_cursor_peek_any(struct neap_lane_cursor *cursor)
{
    while (!cursor->ready) {
        uint64_t end = lap_end(cursor);
        uint64_t at = cursor->position - cursor->chunk_start;

        if (cursor->position == cursor->limit)
            return false;
        if (cursor->chunk_length == 0 || at >= cursor->chunk_length) {
            if (!refill(cursor))
                return false;
            at = 0;
        }
        switch (neap_decode(cursor->chunk + at, cursor->chunk_length - (uint32_t)at,
                            &cursor->event)) {
        case NEAP_DECODE_OK:
            if (cursor->event.kind == NEAP_EV_PAD) {
                cursor->position = end;
                continue;
            }
            cursor->event_stamp = effective_stamp(cursor);
            cursor->ready = true;
            break;
        case NEAP_DECODE_SHORT:
            /* Cut by the end of the chunk: read on. By the lap's or head: nonsense. */
            if (at == 0 || cursor->chunk_start + cursor->chunk_length >= end) {
                give_up(cursor);
                return false;
            }
            if (!refill(cursor))
                return false;
            break;
        case NEAP_DECODE_CORRUPT:
            give_up(cursor);
            return false;
        }
    }
    return true;
}

void neap_lane_cursor_end(struct neap_lane_cursor *cursor)
{
    if (cursor->position != cursor->view.tail)
        neap_lane_consume(&cursor->view,
                          (uint32_t)(cursor->position - cursor->view.tail));
    cursor->ready = false;
    cursor->chunk = NULL;
    cursor->chunk_length = 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chunks: the allocation events of one process, in the order they were applied, some
 * ten thousand to a BLOB (raw_events.data).
 *
 * A reader needs no other chunk and no map of blocks: a free says what it freed (size,
 * site, who allocated it), by pointing at the allocation where that is in the same
 * chunk, in full where it is not. So sums over any stretch of time are sums over its
 * chunks, forwards from the start or backwards from the end.
 *
 * Times never fall from one event of a process to the next.
 *
 * Format of a BLOB: a byte of version, then a zstd frame with the columns described in
 * chunk_model.h. The reader trusts nothing in it.
 */
#ifndef NEAP_SCHEMA_STORE_CHUNK_H
#define NEAP_SCHEMA_STORE_CHUNK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "schema/base/error.h"

#define NEAP_CHUNK_EVENTS 16384u /* at most */
#define NEAP_CHUNK_NONE   UINT32_MAX

/* What an event did, and of which kind it was. */
enum neap_chunk_op {
    NEAP_CHUNK_ALLOC = 0,
    NEAP_CHUNK_FREE = 1,
    NEAP_CHUNK_FOREIGN = 2, /* free of a block the recording does not know */
    NEAP_CHUNK_UNDO = 3,    /* a realloc failed: what the free before took is back */
    NEAP_CHUNK_KIND = 3,    /* mask of the above; the rest are flags */
    NEAP_CHUNK_REALLOC = 4, /* half of a realloc */
    NEAP_CHUNK_TEMPORARY =
        8, /* FREE: before its thread's next allocation; UNDO: such */
    NEAP_CHUNK_IMPLIED =
        16, /* FREE that was not seen: its address was handed out again */
};

struct neap_chunk_event {
    uint64_t ts_ns;
    uint64_t address;
    uint64_t size; /* of the block, as asked for; 0 for FOREIGN */
    uint32_t
        site;     /* of the allocation, numbered by process; FOREIGN: NEAP_CHUNK_NONE */
    uint32_t tid; /* of the thread that did it */
    uint32_t owner; /* of the thread that allocated the block; FOREIGN: 0 */
    uint8_t op;     /* enum neap_chunk_op */
    uint8_t shift;  /* of the sampling interval, see neap_interval() */
};

/* ---- writing ---- */

/* An event on its way to the columns. */
struct neap_chunk_row {
    uint64_t address;
    uint64_t size;
    uint32_t site;
    uint16_t thread; /* who did it, by number */
    uint16_t owner;  /* who allocated the block */
    uint16_t ref;    /* FREE, UNDO: the row of its allocation, or NEAP_CHUNK_OUTSIDE */
    uint8_t op;
    uint8_t shift;
};
NEAP_ASSERT_SIZE(struct neap_chunk_row, 32);

#define NEAP_CHUNK_OUTSIDE UINT16_MAX

/* The chunk that one process fills. A zeroed struct is an empty one. */
struct neap_chunk_time;
struct neap_chunk {
    struct neap_chunk_row *rows;
    uint32_t count, room;
    /* Of the last event, which the next one is mostly like. */
    uint64_t last_ns;
    uint32_t last_tid;
    uint16_t last_thread;
    struct neap_chunk_time *times; /* runs of equal time */
    uint32_t time_count, time_room;
    uint32_t *tids; /* threads met, by number */
    uint32_t tid_count, tid_room;
};

void neap_chunk_deinit(struct neap_chunk *chunk);

/*
 * Append to a chunk that is not full. `*ref` is where the allocation of the block that
 * a FREE or UNDO is about was put: what neap_chunk_append left there for it, however
 * long ago. False: no memory, nothing appended.
 */
bool neap_chunk_append(struct neap_chunk *chunk, const struct neap_chunk_event *event,
                       uint16_t *ref) NEAP_MUST_CHECK;

/* Is an event by this thread and at this time just another one of its chunk, which has
 * begun and is not full? */
static inline bool neap_chunk_goes_on(const struct neap_chunk *chunk, uint32_t tid,
                                      uint64_t ts_ns)
{
    return chunk->count < chunk->room && chunk->count < NEAP_CHUNK_EVENTS &&
           chunk->count && tid == chunk->last_tid && ts_ns == chunk->last_ns;
}

/* If so: an ALLOC, or a FREE of a block of the thread's own, with `row->ref` as for
 * neap_chunk_append. */
static inline void neap_chunk_put(struct neap_chunk *chunk,
                                  const struct neap_chunk_row *row)
{
    struct neap_chunk_row *to = &chunk->rows[chunk->count];

    *to = *row;
    if (row->op & NEAP_CHUNK_FREE) {
        const struct neap_chunk_row *alloc = &chunk->rows[row->ref];

        /* See neap_chunk_append. */
        if (row->ref >= chunk->count || alloc->address != row->address ||
            alloc->size != row->size || alloc->site != row->site ||
            alloc->shift != row->shift || alloc->thread != row->thread ||
            (alloc->op & NEAP_CHUNK_KIND) != NEAP_CHUNK_ALLOC)
            to->ref = NEAP_CHUNK_OUTSIDE;
    }
    chunk->count++;
}

/* The times of its first and last event. It is not empty. */
void neap_chunk_span(const struct neap_chunk *chunk, uint64_t *ret_first_ns,
                     uint64_t *ret_last_ns);

/* Begin the next one; memory is kept. */
void neap_chunk_clear(struct neap_chunk *chunk);

struct neap_chunk_encoder; /* buffers that all chunks share */

struct neap_error *
neap_chunk_encoder_create(struct neap_chunk_encoder **ret) NEAP_MUST_CHECK;
/* Takes NULL. */
void neap_chunk_encoder_destroy(struct neap_chunk_encoder *encoder);

/* The chunk as it is now, as a BLOB that is the encoder's, good until its next call. */
struct neap_error *neap_chunk_encode(struct neap_chunk_encoder *encoder,
                                     const struct neap_chunk *chunk, const void **ret,
                                     size_t *ret_length) NEAP_MUST_CHECK;

/* ---- reading ---- */

struct neap_chunk_reader; /* buffers that outlive a chunk */

struct neap_error *
neap_chunk_reader_create(struct neap_chunk_reader **ret) NEAP_MUST_CHECK;
/* Takes NULL. */
void neap_chunk_reader_destroy(struct neap_chunk_reader *reader);

/*
 * Decode a BLOB that is to hold `count` events. `*ret` points at them, and stays good
 * until the next call. Errors: DAMAGED, with what is wrong; NEWER, for another
 * version's.
 */
struct neap_error *
neap_chunk_decode(struct neap_chunk_reader *reader, const void *data, size_t length,
                  uint32_t count, const struct neap_chunk_event **ret) NEAP_MUST_CHECK;

#endif

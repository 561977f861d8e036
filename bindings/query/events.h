/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The events of a recording, chunk by chunk: which there are, and what is in them.
 *
 * A chunk that cannot be read is an error of those who read it, and only of them: it is
 * named by its process, its numbers, its times and its row, so that one can ask around
 * it. Holes between chunks are chunks that cannot be read. What retention has dropped
 * before the first chunk is none: `event_first` tells of it.
 *
 * Stands on SQLite, schema/base and the reader of chunks alone, for it is a part of
 * libneapsql.so as well.
 */
#ifndef NEAP_BINDINGS_QUERY_EVENTS_H
#define NEAP_BINDINGS_QUERY_EVENTS_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "schema/base/error.h"
#include "schema/base/vec.h"
#include "schema/store/chunk.h"

struct neap_events_chunk {
    int64_t row; /* raw_events.id; 0: a hole */
    int64_t process;
    int64_t first, count; /* numbers of its events */
    int64_t t0, t1;       /* times of the first and the last */
    const char *wrong;    /* why it cannot be read, known without trying; or NULL */
};

struct neap_events_process {
    int64_t id, pid;
    int64_t start_ns, end_ns; /* INT64_MAX: it had not ended */
    int64_t interval;         /* of the last sample; 0 in exact mode */
    int64_t count;            /* events in all */
    int64_t first;            /* the first that is still there */
    int64_t first_ns;         /* its time */
    int64_t peak[2];          /* events applied at the peak, for each half of samples */
    int64_t live_bytes;       /* at its end */
    int64_t live_count;
    size_t chunk, chunks; /* where its chunks are, and how many */
};

struct neap_events {
    sqlite3 *db;
    const char *name; /* of the recording, for messages */
    int64_t interval; /* that the recording began with: see neap_interval() */
    sqlite3_stmt *blob;
    struct neap_chunk_reader *reader;
    NEAP_VEC(struct neap_events_process) processes; /* by id */
    NEAP_VEC(struct neap_events_chunk) chunks;      /* by process, then number */
};

/* Read what there is. `name` outlives `events`. */
struct neap_error *neap_events_init(struct neap_events *events, sqlite3 *db,
                                    const char *name) NEAP_MUST_CHECK;
/* Takes a zeroed one. */
void neap_events_deinit(struct neap_events *events);

/* The events of a chunk, good until the next call. Errors: DAMAGED, NEWER. */
struct neap_error *
neap_events_decode(struct neap_events *events, const struct neap_events_chunk *chunk,
                   const struct neap_chunk_event **ret) NEAP_MUST_CHECK;

/* ---- from the sites that events name to stacks ---- */

/* Sites of one process by number. What has no row belongs to the unknown stack. */
struct neap_event_sites {
    int64_t *stacks; /* 0: no row */
    size_t count;
};

struct neap_error *neap_event_sites_load(struct neap_events *events, int64_t process,
                                         struct neap_event_sites *ret) NEAP_MUST_CHECK;
void neap_event_sites_deinit(struct neap_event_sites *sites);

/* raw_stack.id of the unknown stack, 0 where the recording has none. */
struct neap_error *neap_events_unknown_stack(struct neap_events *events,
                                             int64_t *ret) NEAP_MUST_CHECK;

/* ns as seconds, exactly and no longer than needed: "3.2", "0.000017". */
#define NEAP_SECONDS_LENGTH 24
void neap_seconds_text(int64_t ns, char text[NEAP_SECONDS_LENGTH]);

#endif

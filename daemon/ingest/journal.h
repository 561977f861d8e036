/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The events of a process one by one, in chunks (schema/store/chunk.h), for questions
 * that the books cannot answer: what was live at a time, who did what in between.
 *
 * A chunk that is full is encoded at once and waits, some 30 KiB, for the next commit;
 * the one that is being filled is encoded for each commit and replaces its own row, so
 * that a collector that is killed loses no more events than totals.
 *
 * What cannot be kept (no memory, a disk that stays full) is cut off, as by retention:
 * events from `held` on are there, and the process's row says so.
 */
#ifndef NEAP_DAEMON_INGEST_JOURNAL_H
#define NEAP_DAEMON_INGEST_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "schema/base/error.h"
#include "schema/base/vec.h"
#include "schema/store/chunk.h"

/* A chunk as a row of raw_events. */
struct neap_journal_row {
    uint64_t id;
    uint64_t first; /* number of its first event */
    uint32_t count;
    uint64_t t0, t1;
    uint64_t live_bytes; /* of the process, before it */
    void *data;          /* ours, for full ones; the encoder's for the last */
    size_t length;
};

/* What all journals of a recording share. */
struct neap_journals {
    struct neap_chunk_encoder *encoder; /* NULL: no events are kept */
    uint64_t next_id;
    bool skip_foreign; /* frees of blocks from when the recording was off: not noted */
    uint64_t waiting;  /* bytes of full chunks that are not stored yet */
};

#define NEAP_JOURNALS_WAITING (16u << 20) /* more than this asks for a commit */

struct neap_journal {
    struct neap_journals *journals; /* NULL: events are only counted */
    struct neap_chunk chunk;
    uint64_t id;         /* of its row, 0 = none yet */
    uint64_t count;      /* events there have been, the chunk's included */
    uint64_t held;       /* number of the first one that is kept */
    uint64_t held_ns;    /* and its time */
    bool cut;            /* that is to be noted with the next event */
    uint64_t live_bytes; /* before the chunk */
    NEAP_VEC(struct neap_journal_row) full;
};

struct neap_error *neap_journals_init(struct neap_journals *journals) NEAP_MUST_CHECK;
void neap_journals_deinit(struct neap_journals *journals);

void neap_journal_deinit(struct neap_journal *journal);

/*
 * Note an event; `live_bytes` is of the process, before it. `ref` as for
 * neap_chunk_append.
 */
void neap_journal_note(struct neap_journal *journal,
                       const struct neap_chunk_event *event, uint64_t live_bytes,
                       uint16_t *ref);

/*
 * The row of the chunk that is being filled, as it is now. `ret->count` is 0 if there
 * is none. `ret->data` is good until the next call for any journal.
 */
struct neap_error *neap_journal_row(struct neap_journal *journal,
                                    struct neap_journal_row *ret) NEAP_MUST_CHECK;

/* A commit has stored the full chunks. */
void neap_journal_stored(struct neap_journal *journal);

#endif

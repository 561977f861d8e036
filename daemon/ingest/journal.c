/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/ingest/journal.h"

#include <string.h>

struct neap_error *neap_journals_init(struct neap_journals *journals)
{
    return neap_chunk_encoder_create(&journals->encoder);
}

void neap_journals_deinit(struct neap_journals *journals)
{
    neap_chunk_encoder_destroy(journals->encoder);
    journals->encoder = NULL;
}

static void forget_full(struct neap_journal *journal)
{
    for (size_t i = 0; i < journal->full.count; i++) {
        journal->journals->waiting -= journal->full.data[i].length;
        free(journal->full.data[i].data);
    }
    journal->full.count = 0;
}

void neap_journal_deinit(struct neap_journal *journal)
{
    forget_full(journal);
    neap_vec_deinit(&journal->full);
    neap_chunk_deinit(&journal->chunk);
}

/* Nothing that was not stored before the next event can be kept. */
static NEAP_COLD void cut(struct neap_journal *journal)
{
    forget_full(journal);
    neap_chunk_clear(&journal->chunk);
    journal->id = 0;
    journal->cut = true;
}

struct neap_error *neap_journal_row(struct neap_journal *journal,
                                    struct neap_journal_row *ret)
{
    const struct neap_chunk *chunk = &journal->chunk;
    struct neap_journal_row row = {.count = chunk->count};
    const void *data = NULL;
    struct neap_error *error;

    if (chunk->count) {
        error =
            neap_chunk_encode(journal->journals->encoder, chunk, &data, &row.length);
        if (error)
            return error;
        if (!journal->id)
            journal->id = ++journal->journals->next_id;
        neap_chunk_span(chunk, &row.t0, &row.t1);
        row.id = journal->id;
        row.first = journal->count - chunk->count;
        row.live_bytes = journal->live_bytes;
        row.data = (void *)data;
    }
    *ret = row;
    return NULL;
}

/* The chunk is full: put it aside. */
static NEAP_NOINLINE void turn(struct neap_journal *journal)
{
    struct neap_journals *journals = journal->journals;
    struct neap_journal_row row;
    struct neap_error *error = neap_journal_row(journal, &row);
    void *copy = NULL;

    if (!error && journals->waiting < 2 * NEAP_JOURNALS_WAITING)
        copy = malloc(row.length);
    if (!copy || !neap_vec_reserve(&journal->full, 1)) {
        neap_error_destroy(error);
        free(copy);
        cut(journal);
        return;
    }
    memcpy(copy, row.data, row.length);
    row.data = copy;
    journal->full.data[journal->full.count++] = row;
    journals->waiting += row.length;
    neap_chunk_clear(&journal->chunk);
    journal->id = 0;
}

void neap_journal_note(struct neap_journal *journal,
                       const struct neap_chunk_event *event, uint64_t live_bytes,
                       uint16_t *ref)
{
    if (NEAP_UNLIKELY(journal->chunk.count == NEAP_CHUNK_EVENTS))
        turn(journal);
    if (NEAP_UNLIKELY(journal->chunk.count == 0)) {
        journal->live_bytes = live_bytes;
        if (journal->cut) {
            journal->held = journal->count;
            journal->held_ns = event->ts_ns;
            journal->cut = false;
        }
    }
    if (NEAP_UNLIKELY(!neap_chunk_append(&journal->chunk, event, ref)))
        cut(journal);
    journal->count++;
}

void neap_journal_stored(struct neap_journal *journal)
{
    if (journal->journals)
        forget_full(journal);
}

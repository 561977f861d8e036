/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rows of raw_events, and their retention: what is kept of the events one by one is
 * bounded in bytes, and the oldest go first. Totals do not depend on them.
 */
#include <string.h>

#include "daemon/ingest/rows.h"
#include "daemon/ingest/state.h"

static struct neap_error *write_events_row(const struct neap_ingest_process *process,
                                           const struct neap_journal_row *row)
{
    return neap_write_row(&process->ingest->write, NEAP_STATEMENT_EVENTS, "iiiiiiib",
                          I(row->id), I(process->id), I(row->first), I(row->count),
                          I(row->t0), I(row->t1), I(row->live_bytes),
                          (const void *)row->data, row->length);
}

struct neap_error *neap_events_write(struct neap_ingest_process *process)
{
    struct neap_journal *journal = &process->track.journal;
    struct neap_journal_row last;

    if (!journal->journals)
        return NULL;
    for (size_t i = 0; i < journal->full.count; i++)
        TRY(write_events_row(process, &journal->full.data[i]));
    TRY(neap_journal_row(journal, &last));
    process->last_events = last;
    if (last.count)
        TRY(write_events_row(process, &last));
    for (size_t i = 0; i < process->track.sites.count; i++) {
        const struct neap_site *site = &process->track.sites.data[i];

        if (site->told || site->group == NEAP_SITE_NONE || !site->alloc.count)
            continue;
        TRY(neap_write_row(&process->ingest->write, NEAP_STATEMENT_EVENT_SITE, "iii",
                           I(process->id), I(i),
                           I(neap_site_stack(process, (uint32_t)i)) + 1));
    }
    return NULL;
}

/*
 * A row is in the recording; it may have been there before, shorter. They stand by
 * their ids, which are given in the order in which chunks were begun: processes are
 * written in another one, so that a new row may have its place before the last.
 */
static void keep(struct neap_ingest *ingest, const struct neap_ingest_process *process,
                 const struct neap_journal_row *row)
{
    struct neap_kept kept = {.id = row->id,
                             .process = process->id,
                             .end = row->first + row->count,
                             .t1 = row->t1,
                             .bytes = row->length};
    size_t at = ingest->kept.count;

    while (at > ingest->kept_first &&
           (!ingest->kept.data[at - 1].id || ingest->kept.data[at - 1].id > row->id))
        at--;
    if (at > ingest->kept_first && ingest->kept.data[at - 1].id == row->id) {
        ingest->kept_bytes += kept.bytes - ingest->kept.data[at - 1].bytes;
        ingest->kept.data[at - 1] = kept;
        return;
    }
    /* Without memory for it, it is kept for ever: more than was asked for. */
    if (!neap_vec_reserve(&ingest->kept, 1))
        return;
    memmove(&ingest->kept.data[at + 1], &ingest->kept.data[at],
            (ingest->kept.count - at) * sizeof(kept));
    ingest->kept.data[at] = kept;
    ingest->kept.count++;
    ingest->kept_bytes += kept.bytes;
}

void neap_events_stored(struct neap_ingest_process *process)
{
    struct neap_journal *journal = &process->track.journal;

    for (size_t i = 0; i < journal->full.count; i++)
        keep(process->ingest, process, &journal->full.data[i]);
    if (process->last_events.count)
        keep(process->ingest, process, &process->last_events);
    neap_journal_stored(journal);
    for (size_t i = 0; i < process->track.sites.count; i++) {
        struct neap_site *site = &process->track.sites.data[i];

        site->told |= site->group != NEAP_SITE_NONE && site->alloc.count;
    }
}

/* It will be written again, longer: full by now, or still being filled. */
static bool is_growing(const struct neap_ingest *ingest, const struct neap_kept *kept)
{
    const struct neap_ingest_process *process = ingest->first;
    const struct neap_journal *journal;

    while (process && process->id != kept->process)
        process = process->next;
    if (!process)
        return false;
    journal = &process->track.journal;
    for (size_t i = 0; i < journal->full.count; i++) {
        if (journal->full.data[i].id == kept->id)
            return true;
    }
    return journal->id == kept->id;
}

/*
 * Of what is stored, delete the oldest until the rest fits; a chunk that is still being
 * filled stays. What this commit adds is looked at by the next one.
 */
struct neap_error *neap_events_trim(struct neap_ingest *ingest)
{
    uint64_t bytes = ingest->kept_bytes;

    for (size_t i = ingest->kept_first;
         i < ingest->kept.count && bytes > ingest->max_size; i++) {
        struct neap_kept *kept = &ingest->kept.data[i];

        kept->going = false; /* or a commit has failed */
        if (!kept->id || is_growing(ingest, kept))
            continue;
        TRY(neap_write_row(&ingest->write, NEAP_STATEMENT_EVENTS_DELETE, "i",
                           I(kept->id)));
        TRY(neap_write_row(&ingest->write, NEAP_STATEMENT_EVENTS_GONE, "iii",
                           I(kept->process), I(kept->end), I(kept->t1)));
        bytes -= kept->bytes;
        kept->going = true;
    }
    return NULL;
}

void neap_events_trimmed(struct neap_ingest *ingest)
{
    for (size_t i = ingest->kept_first; i < ingest->kept.count; i++) {
        struct neap_kept *kept = &ingest->kept.data[i];

        if (kept->going) {
            ingest->kept_bytes -= kept->bytes;
            *kept = (struct neap_kept){0};
        }
        if (!kept->id && i == ingest->kept_first)
            ingest->kept_first++;
    }
    if (ingest->kept_first > ingest->kept.count / 2) {
        ingest->kept.count -= ingest->kept_first;
        memmove(ingest->kept.data, ingest->kept.data + ingest->kept_first,
                ingest->kept.count * sizeof(*ingest->kept.data));
        ingest->kept_first = 0;
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rows of raw_site: one a stack of a process.
 *
 * A row is the sum of its group: the sites that have the same stack under several
 * hashes. It is written when a site has changed, or when the process has had a new
 * peak in which the share of the group is another one, though it did not change.
 * Sites whose frames have not come share one row, that of the unknown stack.
 */
#include "daemon/ingest/rows.h"
#include "daemon/ingest/state.h"

static void row_add(struct neap_amount *sum, struct neap_amount amount)
{
    sum->count += amount.count;
    sum->bytes += amount.bytes;
}

static void row_add_measure(struct neap_measure *sum, struct neap_measure measure)
{
    row_add(&sum->amount, measure.amount);
    sum->variance += measure.variance;
}

static void row_add_site(const struct neap_track *track, struct neap_site_row *row,
                         uint32_t number)
{
    const struct neap_site *site = &track->sites.data[number];

    row_add(&row->alloc.amount, site->alloc);
    row_add(&row->free, site->free);
    row_add_measure(&row->live, neap_site_live(track, number));
    row_add_measure(&row->peak, neap_site_peak(track, number));
    row_add(&row->temporary.amount, site->temporary);
    if (track->estimate.base) {
        row->alloc.variance += track->estimate.sites.data[number].alloc;
        row->temporary.variance += track->estimate.sites.data[number].temporary;
    }
}

/* The row of a group. True: one of its sites has changed. */
static bool group_row(const struct neap_ingest_process *process,
                      const struct neap_group *group, struct neap_site_row *ret)
{
    bool dirty = false;

    *ret = (struct neap_site_row){0};
    for (uint32_t i = group->first_site; i != NEAP_SITE_NONE;
         i = process->track.sites.data[i].next) {
        row_add_site(&process->track, ret, i);
        dirty |= process->track.sites.data[i].dirty;
    }
    return dirty;
}

/* The row of all sites without a stack. */
static struct neap_site_row unknown_row(const struct neap_ingest_process *process)
{
    struct neap_site_row row = {0};

    for (uint32_t i = 0; i < process->track.sites.count; i++) {
        if (process->track.sites.data[i].group == NEAP_SITE_NONE)
            row_add_site(&process->track, &row, i);
    }
    return row;
}

static bool amount_equal(struct neap_amount a, struct neap_amount b)
{
    return a.count == b.count && a.bytes == b.bytes;
}

static bool row_equal(const struct neap_site_row *a, const struct neap_site_row *b)
{
    return amount_equal(a->alloc.amount, b->alloc.amount) &&
           amount_equal(a->free, b->free) &&
           amount_equal(a->peak.amount, b->peak.amount) &&
           amount_equal(a->temporary.amount, b->temporary.amount);
}

static struct neap_error *write_site(const struct neap_ingest_process *process,
                                     uint32_t stack, const struct neap_site_row *row)
{
    const struct neap_track *track = &process->track;
    struct neap_amount alloc = neap_track_blocks(track, row->alloc.amount);
    struct neap_amount freed = neap_track_blocks(track, row->free);
    struct neap_amount live = neap_track_blocks(track, row->live.amount);
    struct neap_amount peak = neap_track_blocks(track, row->peak.amount);
    struct neap_amount temporary = neap_track_blocks(track, row->temporary.amount);

    return neap_write_row(
        &process->ingest->write, NEAP_STATEMENT_SITE, "iiiiiiiiiiiidddd",
        I(process->id), I(stack) + 1, I(alloc.count), I(alloc.bytes), I(freed.count),
        I(freed.bytes), I(live.count), I(live.bytes), I(peak.count), I(peak.bytes),
        I(temporary.count), I(temporary.bytes), row->alloc.variance, row->live.variance,
        row->peak.variance, row->temporary.variance);
}

struct neap_error *neap_sites_write(const struct neap_ingest_process *process)
{
    struct neap_site_row row;
    uint32_t unknown = process->ingest->stacks.unknown;

    for (size_t i = 0; i < process->groups.count; i++) {
        const struct neap_group *group = &process->groups.data[i];

        if (!group_row(process, group, &row) &&
            amount_equal(row.peak.amount, group->stored_peak))
            continue;
        /* A stack that only mapped memory has no row. */
        if (row.alloc.amount.count)
            TRY(write_site(process, group->stack, &row));
    }
    row = unknown_row(process);
    if (row_equal(&row, &process->unknown))
        return NULL;
    if (unknown == NEAP_STACK_NONE)
        return NEAP_NO_MEMORY;
    if (row.alloc.amount.count == 0)
        return neap_write_row(&process->ingest->write, NEAP_STATEMENT_SITE_DELETE, "ii",
                              I(process->id), I(unknown) + 1);
    return write_site(process, unknown, &row);
}

void neap_sites_stored(struct neap_ingest_process *process)
{
    for (size_t i = 0; i < process->groups.count; i++) {
        struct neap_site_row row;

        (void)group_row(process, &process->groups.data[i], &row);
        process->groups.data[i].stored_peak = row.peak.amount;
    }
    process->unknown = unknown_row(process);
    for (size_t i = 0; i < process->track.sites.count; i++)
        process->track.sites.data[i].dirty = false;
}

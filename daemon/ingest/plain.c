/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is stored as it comes, a row a record: changes of the address space and memory
 * errors. Rows wait for the next commit, and there for their stacks, which are sent
 * once and maybe in another lane: HELD_MAX commits at most, as they may be lost.
 *
 * Should they fill the buffer between two commits, there is a commit now; but only one
 * in vain, not one for each record on a full disk.
 */
#include "daemon/ingest/commit.h"
#include "daemon/ingest/rows.h"
#include "daemon/ingest/state.h"

#define ROWS_LIMIT 65536u /* waiting, 7 MiB */
#define HELD_MAX   2u     /* commits that a row waits for its stacks */

/* ---- records ---- */

static uint32_t site_of(struct neap_ingest_process *process, uint64_t hash)
{
    return hash ? neap_track_site(&process->track, hash) : NEAP_SITE_NONE;
}

static bool has_room(struct neap_ingest *ingest)
{
    if (ingest->plain_rows >= ROWS_LIMIT && !ingest->commit_failed)
        neap_error_destroy(neap_commit(ingest, ingest->now_ns));
    return ingest->plain_rows < ROWS_LIMIT;
}

static uint32_t tid_of(const struct neap_ingest_process *process, uint32_t lane)
{
    return process->threads.data[process->lanes.data[lane].thread].actor.tid;
}

void neap_plain_map(struct neap_ingest_process *process, uint32_t lane,
                    const struct neap_ev_map *event)
{
    struct neap_map_row row = {.event = *event,
                               .ts_ns = process->now_ns,
                               .tid = tid_of(process, lane),
                               .site = site_of(process, event->stack)};

    if (has_room(process->ingest) && neap_vec_push(&process->maps, row))
        process->ingest->plain_rows++;
    else
        neap_loss_add(process->ingest, process, NEAP_LOSS_STORE, 1, event->size);
}

/*
 * The books know the stack of each block that is live, which a target that keeps none
 * does not. A free is told before it is tried: of the block that this thread has freed
 * last they knew it a moment ago.
 */
static uint32_t alloc_site(const struct neap_ingest_process *process,
                           const struct neap_lane_state *lane,
                           const struct neap_ev_memory_error *event)
{
    const struct neap_block *block;

    if (event->block == 0 || event->kind == NEAP_MEMORY_DOUBLE_FREE ||
        event->kind == NEAP_MEMORY_WRITE_AFTER_FREE)
        return NEAP_SITE_NONE;
    block = neap_blocks_find(&process->track.blocks, event->block);
    if (block)
        return block->site;
    return lane->freed == event->block ? lane->freed_site : NEAP_SITE_NONE;
}

void neap_plain_error(struct neap_ingest_process *process, uint32_t lane,
                      const struct neap_ev_memory_error *event)
{
    struct neap_memory_error_row row = {
        .event = *event, .ts_ns = process->now_ns, .tid = tid_of(process, lane)};

    row.alloc_site = event->alloc_stack
                         ? site_of(process, event->alloc_stack)
                         : alloc_site(process, &process->lanes.data[lane], event);
    row.free_site = site_of(process, event->free_stack);
    row.site = site_of(process, event->stack);
    process->error_count++;
    if (has_room(process->ingest) && neap_vec_push(&process->errors, row))
        process->ingest->plain_rows++;
    else
        neap_loss_add(process->ingest, process, NEAP_LOSS_STORE, 1, 0);
}

/* ---- rows ---- */

static bool is_found(const struct neap_ingest_process *process, uint32_t site)
{
    return site != NEAP_SITE_NONE &&
           process->track.sites.data[site].group != NEAP_SITE_NONE;
}

/* Its stack is there, or there is none. */
static bool is_settled(const struct neap_ingest_process *process, uint32_t site)
{
    return site == NEAP_SITE_NONE || is_found(process, site);
}

static int64_t stack_id(const struct neap_ingest_process *process, uint32_t site)
{
    return is_found(process, site) ? I(neap_site_stack(process, site)) + 1
                                   : NEAP_SQL_NULL;
}

static bool map_ready(const struct neap_ingest_process *process,
                      const struct neap_map_row *row)
{
    return process->ended || row->held >= HELD_MAX || is_settled(process, row->site);
}

static bool error_ready(const struct neap_ingest_process *process,
                        const struct neap_memory_error_row *row)
{
    return process->ended || row->held >= HELD_MAX ||
           (is_settled(process, row->site) && is_settled(process, row->free_site) &&
            is_settled(process, row->alloc_site));
}

static struct neap_error *write_map(const struct neap_ingest_process *process,
                                    const struct neap_map_row *row)
{
    static const char *const ops[NEAP_MAP_OP_END] = {
        "", "mmap", "munmap", "mremap", "brk", "madvise",
    };
    static const char *const sources[NEAP_MAP_SOURCE_END] = {"hook", "heap"};
    const struct neap_ev_map *event = &row->event;

    return neap_write_row(&process->ingest->write, NEAP_STATEMENT_MAP, "iiisiiiiiisi",
                          I(row->ts_ns), I(process->id), I(row->tid), ops[event->op],
                          I(event->address), I(event->size), I(event->old_address),
                          I(event->old_size), I(event->prot), I(event->flags),
                          sources[event->source], stack_id(process, row->site));
}

static struct neap_error *write_error(const struct neap_ingest_process *process,
                                      const struct neap_memory_error_row *row)
{
    static const char *const kinds[NEAP_MEMORY_ERROR_END] = {
        "",         "double-free",      "invalid-free",  "interior-free",
        "overflow", "write-after-free", "size-mismatch",
    };
    const struct neap_ev_memory_error *event = &row->event;

    return neap_write_row(
        &process->ingest->write, NEAP_STATEMENT_MEMORY_ERROR, "iiisiiiiii",
        I(row->ts_ns), I(process->id), I(row->tid), kinds[event->kind],
        I(event->address), event->block ? I(event->block) : NEAP_SQL_NULL,
        event->block ? I(event->size) : NEAP_SQL_NULL,
        stack_id(process, row->alloc_site), stack_id(process, row->free_site),
        stack_id(process, row->site));
}

struct neap_error *neap_plain_write(const struct neap_ingest_process *process)
{
    for (size_t i = 0; i < process->maps.count; i++) {
        if (map_ready(process, &process->maps.data[i]))
            TRY(write_map(process, &process->maps.data[i]));
    }
    for (size_t i = 0; i < process->errors.count; i++) {
        if (error_ready(process, &process->errors.data[i]))
            TRY(write_error(process, &process->errors.data[i]));
    }
    return NULL;
}

void neap_plain_stored(struct neap_ingest_process *process)
{
    size_t before = process->maps.count + process->errors.count, kept = 0;

    for (size_t i = 0; i < process->maps.count; i++) {
        if (map_ready(process, &process->maps.data[i]))
            continue;
        process->maps.data[kept] = process->maps.data[i];
        process->maps.data[kept++].held++;
    }
    process->maps.count = kept;
    kept = 0;
    for (size_t i = 0; i < process->errors.count; i++) {
        if (error_ready(process, &process->errors.data[i]))
            continue;
        process->errors.data[kept] = process->errors.data[i];
        process->errors.data[kept++].held++;
    }
    process->errors.count = kept;
    process->ingest->plain_rows -= before - process->maps.count - kept;
}

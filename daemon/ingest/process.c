/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One event after another: from a lane's record to the books of its process.
 *
 * Records are well-formed (the codec has seen to that) and may still be nonsense.
 * What cannot be true is counted as corrupt and otherwise ignored; what finds no
 * memory is counted as a lost event. Sizes and sums stay far from overflow, as no
 * block is larger than the address space.
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/ingest/commit.h"
#include "daemon/ingest/state.h"

#define SIZE_LIMIT ((uint64_t)1 << 48) /* malloc has no larger address space */
#define TIME_LIMIT ((uint64_t)1 << 57) /* four years; a block has 58 bits for it */

static NEAP_COLD void lost(struct neap_ingest_process *process,
                           enum neap_loss_what what, uint64_t bytes)
{
    neap_loss_add(process->ingest, process, what, 1, bytes);
}

static NEAP_COLD bool lanes_reach(struct neap_ingest_process *process, uint32_t lane)
{
    if (lane >= UINT32_MAX / 2 ||
        !neap_vec_reserve(&process->lanes, lane + 1 - process->lanes.count))
        return false;
    while (process->lanes.count <= lane)
        process->lanes.data[process->lanes.count++] = (struct neap_lane_state){
            .site = NEAP_SITE_NONE, .freed_site = NEAP_SITE_NONE};
    return true;
}

/* The site of `hash`: a loop asks for the same one again and again. */
NEAP_ALWAYS_INLINE uint32_t site_of(struct neap_ingest_process *process,
                                    struct neap_lane_state *lane, uint64_t hash)
{
    if (NEAP_LIKELY(lane->site != NEAP_SITE_NONE && lane->hash == hash))
        return lane->site;
    lane->hash = hash;
    lane->site = neap_track_site(&process->track, hash);
    return lane->site;
}

NEAP_ALWAYS_INLINE void on_block(struct neap_ingest_process *process,
                                 struct neap_lane_state *lane,
                                 struct neap_track_alloc *alloc, uint64_t hash)
{
    struct neap_actor *actor = &process->threads.data[lane->thread].actor;

    if (NEAP_UNLIKELY(alloc->address == 0 || alloc->size >= SIZE_LIMIT)) {
        lost(process, NEAP_LOSS_CORRUPT, 0);
        return;
    }
    alloc->site = site_of(process, lane, hash);
    if (NEAP_UNLIKELY(
            alloc->site == NEAP_SITE_NONE ||
            !neap_track_alloc(&process->track, actor, alloc, process->now_ns)))
        lost(process, NEAP_LOSS_EVENTS, alloc->size);
}

static void on_alloc(struct neap_ingest_process *process, struct neap_lane_state *lane,
                     const struct neap_ev_alloc *event, bool realloc)
{
    struct neap_track_alloc alloc = {
        .address = event->address, .size = event->size, .realloc = realloc};

    on_block(process, lane, &alloc, event->stack);
}

/* How often the interval was doubled since the start, + 1; 0: no sample. Targets only
 * ever double it: what is in between is garbage, and taken for what it is near to. */
static unsigned shift_of(const struct neap_ingest_process *process, uint64_t interval)
{
    uint64_t base = process->ingest->interval;

    if (!base)
        return 0;
    if (interval < base)
        return 1;
    return 64u - (unsigned)__builtin_clzll(interval / base);
}

static void on_sample(struct neap_ingest_process *process, struct neap_lane_state *lane,
                      const struct neap_ev_sample *event)
{
    struct neap_estimate *estimate = &process->track.estimate;
    struct neap_track_alloc alloc = {.address = event->address,
                                     .size = event->size,
                                     .shift = shift_of(process, event->interval),
                                     .realloc = event->flags & NEAP_SAMPLE_REALLOC};

    if (event->interval > NEAP_INTERVAL_MAX) {
        lost(process, NEAP_LOSS_CORRUPT, 0);
        return;
    }
    if (alloc.realloc)
        neap_track_realloc_done(&lane->pending);
    on_block(process, lane, &alloc, event->stack);
    process->ingest->samples++;
    if (estimate->base && event->interval > estimate->interval)
        estimate->interval = event->interval;
}

static void on_sample_free(struct neap_ingest_process *process,
                           struct neap_lane_state *lane,
                           const struct neap_ev_sample_free *event)
{
    const struct neap_actor *actor = &process->threads.data[lane->thread].actor;
    bool temporary = event->flags & NEAP_SAMPLE_TEMPORARY;

    if (event->flags & NEAP_SAMPLE_REALLOC)
        neap_track_realloc_free(&process->track, actor, &lane->pending, event->address,
                                temporary, process->now_ns);
    else
        neap_track_sample_free(&process->track, actor, event->address, temporary,
                               process->now_ns);
}

/* The realloc that the lane has begun came to nothing. */
static void undo(struct neap_ingest_process *process, struct neap_lane_state *lane)
{
    neap_track_realloc_undo(&process->track, &process->threads.data[lane->thread].actor,
                            &lane->pending, process->now_ns);
}

static void on_thread(struct neap_ingest_process *process, uint32_t number,
                      const struct neap_ev_thread *record)
{
    struct neap_lane_state *lane = &process->lanes.data[number];
    const struct neap_thread *before = &process->threads.data[lane->thread];

    if (lane->thread == 0 || before->actor.tid != record->tid) {
        /* The thread before went without a word; nobody shares a lane. */
        undo(process, lane);
        if (before->lane == number)
            neap_thread_leave(process, lane->thread, process->now_ns);
    }
    lane->thread = neap_thread_enter(process, number, record, process->now_ns);
    if (lane->thread == 0)
        lost(process, NEAP_LOSS_EVENTS, 0);
}

static void on_thread_end(struct neap_ingest_process *process,
                          struct neap_lane_state *lane)
{
    undo(process, lane);
    neap_thread_leave(process, lane->thread, process->now_ns);
    lane->thread = 0;
}

/* Keep the pcs until the next commit. A pc of 0 is no code: there the walk ended. */
static void on_stack(struct neap_ingest_process *process,
                     const struct neap_ev_stack *event)
{
    uint32_t number = neap_track_site(&process->track, event->hash);
    struct neap_site *site;
    struct neap_raw_stack *raw;
    uint16_t depth = 0;

    while (depth < event->depth && event->pc[depth] != 0)
        depth++;
    if (depth == 0)
        return;
    if (number == NEAP_SITE_NONE) {
        lost(process, NEAP_LOSS_STACKS, 0);
        return;
    }
    site = &process->track.sites.data[number];
    if (site->raw || site->group != NEAP_SITE_NONE)
        return; /* sent again */
    raw = malloc(sizeof(*raw) + depth * sizeof(raw->pc[0]));
    if (!raw) {
        lost(process, NEAP_LOSS_STACKS, 0);
        return;
    }
    raw->since_ns = 0;
    raw->generation = event->generation;
    raw->depth = depth;
    raw->truncated = event->flags != 0 || depth < event->depth;
    memcpy(raw->pc, event->pc, depth * sizeof(raw->pc[0]));
    site->raw = raw;
}

static void on_module(struct neap_ingest_process *process,
                      const struct neap_ev_module *event)
{
    struct neap_range range = {.start = event->start,
                               .end = event->end,
                               .bias = event->bias,
                               .generation = event->generation};

    range.module = neap_names_module(
        &process->ingest->stacks.names, neap_ev_module_path(event), event->path_len,
        neap_ev_module_build_id(event), event->build_id_len);
    if (range.module == NEAP_MODULE_NONE || !neap_ranges_add(&process->ranges, &range))
        lost(process, NEAP_LOSS_EVENTS, 0);
}

static void on_realloc_fail(struct neap_ingest_process *process,
                            struct neap_lane_state *lane, uint64_t address)
{
    if (lane->pending.open && lane->pending.block.address == address)
        undo(process, lane);
    else
        lost(process, NEAP_LOSS_CORRUPT, 0);
}

static void on_rare(struct neap_ingest_process *process, uint32_t number,
                    const struct neap_event *event)
{
    struct neap_lane_state *lane = &process->lanes.data[number];

    switch (event->kind) {
    case NEAP_EV_TIME:
        if (event->time->now_ns > process->now_ns && event->time->now_ns < TIME_LIMIT)
            process->now_ns = event->time->now_ns;
        break;
    case NEAP_EV_THREAD:
        on_thread(process, number, event->thread);
        break;
    case NEAP_EV_THREAD_END:
        on_thread_end(process, lane);
        break;
    case NEAP_EV_STACK:
        on_stack(process, event->stack);
        break;
    case NEAP_EV_MODULE:
        on_module(process, event->module);
        break;
    case NEAP_EV_MAP:
        neap_plain_map(process, number, event->map);
        break;
    case NEAP_EV_MEMORY_ERROR:
        neap_plain_error(process, number, event->memory_error);
        break;
    case NEAP_EV_EXIT:
        process->has_exit_record = true;
        process->exit_record = (int32_t)event->exit->code;
        break;
    default:
        break;
    }
}

void neap_process_event(struct neap_ingest_process *process, uint32_t number,
                        const struct neap_event *event)
{
    struct neap_track *track = &process->track;
    struct neap_lane_state *lane;
    struct neap_actor *actor;

    if (NEAP_UNLIKELY(number >= process->lanes.count &&
                      !lanes_reach(process, number))) {
        lost(process, NEAP_LOSS_EVENTS, 0);
        return;
    }
    process->dirty = true;
    lane = &process->lanes.data[number];
    actor = &process->threads.data[lane->thread].actor;
    switch (event->kind) {
    case NEAP_EV_ALLOC:
        on_alloc(process, lane, event->alloc, false);
        break;
    case NEAP_EV_FREE:
        lane->freed = event->free->address;
        lane->freed_site =
            neap_track_free(track, actor, event->free->address, process->now_ns);
        break;
    case NEAP_EV_REALLOC_FREE:
        neap_track_realloc_free(track, actor, &lane->pending, event->free->address,
                                false, process->now_ns);
        break;
    case NEAP_EV_REALLOC_ALLOC:
        neap_track_realloc_done(&lane->pending);
        on_alloc(process, lane, event->alloc, true);
        break;
    case NEAP_EV_REALLOC_DONE:
        neap_track_realloc_done(&lane->pending);
        break;
    case NEAP_EV_SAMPLE:
        on_sample(process, lane, event->sample);
        break;
    case NEAP_EV_SAMPLE_FREE:
        on_sample_free(process, lane, event->sample_free);
        break;
    case NEAP_EV_REALLOC_FAIL:
        on_realloc_fail(process, lane, event->free->address);
        break;
    default:
        on_rare(process, number, event);
        break;
    }
    /* As for maps: chunks that fill the buffer are written now, once if that fails. */
    if (NEAP_UNLIKELY(process->ingest->journals.waiting > NEAP_JOURNALS_WAITING) &&
        !process->ingest->commit_failed)
        neap_error_destroy(neap_commit(process->ingest, process->ingest->now_ns));
}

/* ---- the table of samples ---- */

void neap_process_alive(struct neap_ingest_process *process, uint64_t address,
                        const struct neap_table_slot *slot)
{
    struct neap_track *track = &process->track;
    unsigned shift = shift_of(process, slot->interval);
    struct neap_track_alloc alloc = {
        .address = address, .size = slot->size, .shift = shift};
    struct neap_actor actor = {.tid = slot->tid};

    if (!address || slot->size >= SIZE_LIMIT || shift == 0 ||
        slot->interval > NEAP_INTERVAL_MAX)
        return;
    if (!neap_map_put(&process->alive, address, 1)) {
        process->alive_unknown = true; /* no memory to know all: nothing is healed */
        return;
    }
    if (neap_blocks_find(&track->blocks, address))
        return;
    alloc.site = neap_track_site(track, slot->stack);
    if (alloc.site == NEAP_SITE_NONE ||
        !neap_track_alloc(track, &actor, &alloc, process->now_ns))
        lost(process, NEAP_LOSS_EVENTS, slot->size);
}

void neap_process_heal(struct neap_ingest_process *process)
{
    struct neap_blocks_cursor cursor = {0};
    NEAP_VEC(uint64_t) gone = {0};
    const struct neap_block *block;

    /* What a realloc gave up without an answer is in the table if it is still there. */
    for (size_t i = 0; i < process->lanes.count; i++)
        neap_track_realloc_done(&process->lanes.data[i].pending);
    while (!process->alive_unknown &&
           (block = neap_blocks_next(&process->track.blocks, &cursor))) {
        if (block->shift &&
            neap_map_get(&process->alive, block->address) == NEAP_MAP_NONE &&
            !neap_vec_push(&gone, block->address))
            lost(process, NEAP_LOSS_EVENTS, block->size);
    }
    for (size_t i = 0; i < gone.count; i++)
        neap_track_lost_free(&process->track, gone.data[i], process->now_ns);
    neap_vec_deinit(&gone);
    neap_map_deinit(&process->alive);
}

void neap_process_settle(struct neap_ingest_process *process)
{
    for (size_t i = 0; i < process->lanes.count; i++)
        undo(process, &process->lanes.data[i]);
    for (uint32_t i = 1; i < process->threads.count; i++)
        neap_thread_leave(process, i, process->end.end_ns);
    neap_vec_deinit(&process->lanes);
}

void neap_process_destroy(struct neap_ingest_process *process)
{
    if (!process)
        return;
    for (size_t i = 0; i < process->track.sites.count; i++)
        free(process->track.sites.data[i].raw);
    neap_vec_deinit(&process->groups);
    neap_map_deinit(&process->group_of_stack);
    neap_vec_deinit(&process->maps);
    neap_vec_deinit(&process->errors);
    neap_vec_deinit(&process->lanes);
    neap_vec_deinit(&process->threads);
    neap_vec_deinit(&process->free_threads);
    neap_map_deinit(&process->thread_of_tid);
    neap_ranges_deinit(&process->ranges);
    neap_map_deinit(&process->alive);
    neap_track_deinit(&process->track);
    free(process->exe);
    free(process->command);
    free(process->allocator);
    free(process->unwinder);
    free(process);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One transaction with all that changed.
 *
 * Two passes. The first writes rows and changes nothing here but what it may repeat:
 * numbers of rows are given in memory, "stored" is a mark up to which rows exist.
 * The second runs after COMMIT has succeeded and moves the marks. A failure in
 * between rolls back, and the next commit writes the same rows again, and newer ones.
 *
 * Live blocks of a process that has ended are written LIVE_ROWS a commit, so that a
 * process that leaves ten million does not keep the lanes of others waiting for
 * seconds, nor makes a log of a gigabyte. Its row says `running` until the last.
 */
#include "daemon/ingest/commit.h"

#include "daemon/ingest/rows.h"
#include "daemon/ingest/state.h"

#define LIVE_ROWS 524288u

static struct neap_error *write_names(struct neap_ingest *ingest)
{
    const struct neap_names *names = &ingest->stacks.names;
    struct neap_write *write = &ingest->write;

    for (size_t i = names->modules_stored; i < names->modules.count; i++) {
        const struct neap_module *module = &names->modules.data[i];

        TRY(neap_write_row(write, NEAP_STATEMENT_MODULE, "iss", I(i + 1), module->path,
                           module->build_id));
    }
    for (size_t i = names->frames_stored; i < names->frames.count; i++) {
        const struct neap_frame *frame = &names->frames.data[i];
        const struct neap_location *location = &names->locations.data[frame->location];

        TRY(neap_write_row(
            write, NEAP_STATEMENT_FRAME, "issiiii", I(i + 1), frame->function,
            frame->file, frame->line ? I(frame->line) : NEAP_SQL_NULL,
            location->module == NEAP_MODULE_NONE ? NEAP_SQL_NULL
                                                 : I(location->module) + 1,
            I(location->offset), I(frame->inlined)));
    }
    for (size_t i = 0; i < names->renamed.count; i++) {
        uint32_t number = names->renamed.data[i];
        const struct neap_frame *frame = &names->frames.data[number];

        TRY(neap_write_row(write, NEAP_STATEMENT_FRAME_NAME, "issi", I(number) + 1,
                           frame->function, frame->file,
                           frame->line ? I(frame->line) : NEAP_SQL_NULL));
    }
    return NULL;
}

static struct neap_error *write_stacks(struct neap_ingest *ingest)
{
    const struct neap_stacks *stacks = &ingest->stacks;
    neap_auto_str struct neap_str json = {0};

    for (size_t i = 0; i < stacks->pending.count; i++) {
        uint32_t number = stacks->pending.data[i];
        const struct neap_stack *stack = &stacks->stacks.data[number];

        if (stack->stored && !neap_stack_final(stacks, number))
            continue;
        neap_stack_frames(stacks, number, &json);
        if (json.failed)
            return NEAP_NO_MEMORY;
        TRY(neap_write_row(&ingest->write, NEAP_STATEMENT_STACK, "isi", I(number) + 1,
                           json.data, I(stack->truncated)));
    }
    return NULL;
}

static struct neap_error *write_threads(const struct neap_ingest_process *process)
{
    for (size_t i = 1; i < process->threads.count; i++) {
        const struct neap_thread *thread = &process->threads.data[i];
        bool ended = thread->lane == NEAP_LANE_NONE;

        if (thread->dirty)
            TRY(neap_write_row(&process->ingest->write, NEAP_STATEMENT_THREAD, "iiisii",
                               I(thread->id), I(process->id), I(thread->actor.tid),
                               thread->name, I(thread->start_ns),
                               ended ? I(thread->end_ns) : NEAP_SQL_NULL));
    }
    return NULL;
}

static struct neap_error *write_live(struct neap_ingest_process *process,
                                     uint32_t *budget)
{
    const struct neap_block *block;

    process->live_next = process->live_cursor;
    process->live_done = false;
    while (*budget > 0) {
        uint64_t interval;
        uint32_t stack;

        block = neap_blocks_next(&process->track.blocks, &process->live_next);
        if (!block) {
            process->live_done = true;
            return NULL;
        }
        stack = neap_site_stack(process, block->site);
        if (stack == NEAP_STACK_NONE)
            return NEAP_NO_MEMORY;
        interval = neap_interval(process->track.estimate.base, block->shift);
        TRY(neap_write_row(&process->ingest->write, NEAP_STATEMENT_LIVE, "iiiiiiii",
                           I(process->id), I(block->address), I(block->size),
                           I(neap_weigh(block->size, interval).bytes), I(interval),
                           I(stack) + 1, I(block->tid), I(block->ts_ns)));
        (*budget)--;
    }
    return NULL;
}

static struct neap_error *write_losses(struct neap_ingest *ingest, uint64_t process,
                                       const struct neap_loss *losses)
{
    static const char *const words[NEAP_LOSS_COUNT] = {
#define NEAP_LOSS_WORD(upper, lower) [NEAP_LOSS_##upper] = #lower,
        NEAP_LOSSES(NEAP_LOSS_WORD)
#undef NEAP_LOSS_WORD
    };

    for (int i = 0; i < NEAP_LOSS_COUNT; i++) {
        if (losses[i].dirty)
            TRY(neap_write_row(&ingest->write, NEAP_STATEMENT_LOSS, "isiii", I(process),
                               words[i], I(losses[i].ts_ns), I(losses[i].amount.count),
                               I(losses[i].amount.bytes)));
    }
    return NULL;
}

static struct neap_error *write_process(const struct neap_ingest_process *process)
{
    static const char *const kinds[] = {
        [NEAP_EXIT_RUNNING] = "running",   [NEAP_EXIT_EXITED] = "exited",
        [NEAP_EXIT_SIGNALED] = "signaled", [NEAP_EXIT_EXEC] = "exec",
        [NEAP_EXIT_LOST] = "lost",
    };
    struct neap_write *write = &process->ingest->write;
    const struct neap_track *track = &process->track;
    const struct neap_process_counters *counters = &process->counters;
    struct neap_amount live = neap_track_blocks(track, track->live);
    struct neap_amount peak = neap_track_blocks(track, neap_track_peak(track).amount);
    uint64_t peak_ns =
        track->estimate.base ? track->estimate.moment[0].ts_ns : track->peak_ns;
    struct neap_process_end end = {.kind = NEAP_EXIT_RUNNING};

    if (process->ended && process->live_done)
        end = process->end;
    if (!process->stored) {
        TRY(neap_write_row(write, NEAP_STATEMENT_PROCESS, "iiississ", I(process->id),
                           I(process->pid), I(process->ppid), process->exe,
                           process->command, I(process->start_ns), process->allocator,
                           process->unwinder));
        if (process->main)
            TRY(neap_write_row(write, NEAP_STATEMENT_MAIN_PROCESS, "i",
                               I(process->id)));
    }
    return neap_write_row(
        write, NEAP_STATEMENT_PROCESS_STATE, "iisiiiiiiiiiii", I(process->id),
        end.kind == NEAP_EXIT_RUNNING ? NEAP_SQL_NULL : I(end.end_ns), kinds[end.kind],
        end.has_code ? (int64_t)end.code : NEAP_SQL_NULL, I(live.bytes), I(live.count),
        I(peak.bytes), I(peak.count), I(peak_ns), I(track->foreign_frees),
        I(counters->truncated_stacks), I(counters->verified),
        I(counters->verify_differences), I(counters->waits));
}

/* Number of events up to the end of a moment of the peak. */
static uint64_t moment_event(const struct neap_track *track, unsigned moment)
{
    const struct neap_moment *found = &track->estimate.moment[moment];

    if (!track->estimate.base)
        return track->peak_event;
    return found->lasts ? track->journal.count : found->event;
}

static struct neap_error *
write_process_events(const struct neap_ingest_process *process)
{
    const struct neap_track *track = &process->track;
    const struct neap_journal *journal = &track->journal;
    bool kept = journal->journals && !journal->cut;

    return neap_write_row(
        &process->ingest->write, NEAP_STATEMENT_PROCESS_EVENTS, "iiiiiiiddi",
        I(process->id), I(track->estimate.interval), I(journal->count),
        I(kept ? journal->held : journal->count),
        I(kept ? journal->held_ns : process->now_ns), I(moment_event(track, 0)),
        I(moment_event(track, 1)), neap_estimate_live(track->estimate.live).variance,
        neap_track_peak(track).variance, I(process->counters.fallbacks));
}

static struct neap_error *write_all(struct neap_ingest *ingest, uint64_t now_ns)
{
    uint32_t budget = LIVE_ROWS;

    TRY(write_names(ingest));
    TRY(write_stacks(ingest));
    TRY(neap_events_trim(ingest));
    for (size_t i = 0; i < ingest->switches.count; i++)
        TRY(neap_write_row(&ingest->write, NEAP_STATEMENT_SWITCH, "is",
                           I(ingest->switches.data[i].ts_ns),
                           ingest->switches.data[i].mode));
    for (struct neap_ingest_process *process = ingest->first; process;
         process = process->next) {
        if (!process->dirty)
            continue;
        TRY(write_threads(process));
        TRY(neap_sites_write(process));
        TRY(neap_plain_write(process));
        if (process->ended)
            TRY(write_live(process, &budget));
        TRY(write_losses(ingest, process->id, process->losses));
        TRY(write_process(process));
        TRY(neap_events_write(process));
        TRY(write_process_events(process));
    }
    TRY(write_losses(ingest, 0, ingest->losses));
    if (ingest->finished)
        TRY(neap_write_row(&ingest->write, NEAP_STATEMENT_FINISHED, ""));
    return neap_write_row(&ingest->write, NEAP_STATEMENT_DURATION, "i", I(now_ns));
}

static void losses_stored(struct neap_loss *losses)
{
    for (int i = 0; i < NEAP_LOSS_COUNT; i++)
        losses[i].dirty = false;
}

static void process_stored(struct neap_ingest_process *process, uint64_t now_ns)
{
    neap_sites_stored(process);
    neap_events_stored(process);
    neap_threads_stored(process, now_ns);
    neap_plain_stored(process);
    losses_stored(process->losses);
    process->live_cursor = process->live_next;
    process->stored = true;
    /* Until all live blocks and what was held back are out, there is more to write. */
    process->dirty = process->ended || process->maps.count > 0 ||
                     process->errors.count > 0 || process->unresolved;
}

void neap_tally_add(struct neap_tally *tally, const struct neap_ingest_process *process)
{
    const struct neap_track *track = &process->track;

    tally->programs++;
    /* Its successor is the same process. */
    tally->processes += !process->ended || process->end.kind != NEAP_EXIT_EXEC;
    tally->running += !process->ended || process->end.kind == NEAP_EXIT_RUNNING;
    tally->alloc_count += neap_track_blocks(track, track->alloc).count;
    tally->alloc_bytes += track->alloc.bytes;
    tally->peak_bytes += neap_track_peak(track).amount.bytes;
    tally->live_count += neap_track_blocks(track, track->live).count;
    tally->live_bytes += track->live.bytes;
    tally->errors += process->error_count;
    if (track->estimate.interval > tally->interval)
        tally->interval = track->estimate.interval;
    for (size_t i = 0; i < track->estimate.sites.count; i++)
        tally->alloc_variance += track->estimate.sites.data[i].alloc;
    tally->peak_variance += neap_track_peak(track).variance;
    tally->live_variance += neap_estimate_live(track->estimate.live).variance;
    for (int i = 0; i < NEAP_LOSS_COUNT; i++)
        tally->lost[i] += process->losses[i].amount.count;
}

static void all_stored(struct neap_ingest *ingest, uint64_t now_ns)
{
    struct neap_ingest_process **link = &ingest->first;

    neap_stacks_stored(&ingest->stacks);
    neap_events_trimmed(ingest);
    ingest->switches.count = 0;
    losses_stored(ingest->losses);
    while (*link) {
        struct neap_ingest_process *process = *link;

        if (process->dirty)
            process_stored(process, now_ns);
        if (process->ended && process->live_done) {
            *link = process->next;
            /* All of it is in the recording: its totals are all that is needed. */
            neap_tally_add(&ingest->gone, process);
            neap_process_destroy(process);
        } else {
            link = &process->next;
        }
    }
    ingest->last = link;
}

struct neap_error *neap_commit(struct neap_ingest *ingest, uint64_t now_ns)
{
    struct neap_error *err;

    if (now_ns > ingest->now_ns)
        ingest->now_ns = now_ns;
    for (struct neap_ingest_process *process = ingest->first; process;
         process = process->next) {
        if (process->dirty)
            neap_process_resolve(process);
    }
    neap_names_poll(&ingest->stacks.names, false);
    err = neap_write_begin(&ingest->write);
    if (!err)
        err = write_all(ingest, now_ns);
    if (!err)
        err = neap_write_commit(&ingest->write);
    ingest->commit_failed = err != NULL;
    if (err) {
        neap_write_rollback(&ingest->write);
        return err;
    }
    all_stored(ingest, now_ns);
    return NULL;
}

bool neap_commit_more(const struct neap_ingest *ingest)
{
    for (const struct neap_ingest_process *process = ingest->first; process;
         process = process->next) {
        if (process->ended)
            return true;
    }
    return false;
}

void neap_commit_loss(struct neap_ingest *ingest)
{
    struct neap_loss *loss = &ingest->losses[NEAP_LOSS_STORE];
    struct neap_amount rows = loss->amount;
    struct neap_error *err = neap_write_begin(&ingest->write);

    for (const struct neap_ingest_process *process = ingest->first; process;
         process = process->next) {
        if (!process->dirty)
            continue;
        rows.count += 1 + process->maps.count + process->errors.count;
        if (process->ended) {
            rows.count += neap_track_blocks(&process->track, process->track.live).count;
            rows.bytes += process->track.live.bytes;
        }
    }
    if (!err)
        err = neap_write_row(&ingest->write, NEAP_STATEMENT_LOSS, "isiii", I(0),
                             "store", I(ingest->now_ns), I(rows.count), I(rows.bytes));
    if (!err)
        err = neap_write_commit(&ingest->write);
    if (err)
        neap_write_rollback(&ingest->write);
    neap_error_destroy(err);
    loss->dirty = true;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/ingest/ingest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "daemon/ingest/commit.h"
#include "daemon/ingest/state.h"
#include "schema/base/cleanup.h"

/* One line of a file of /proc, without its newline. "" if there is none. */
static void read_line(const char *path, char *ret, size_t size)
{
    neap_auto_fclose FILE *file = fopen(path, "re");

    ret[0] = '\0';
    if (file && fgets(ret, (int)size, file))
        ret[strcspn(ret, "\n")] = '\0';
}

/* When this process started, in clock ticks since boot: tells reused pids apart. */
static int64_t own_start(void)
{
    char line[1024];
    char *at;

    read_line("/proc/self/stat", line, sizeof(line));
    at = strrchr(line, ')'); /* the name before it may hold anything */
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    return at ? strtoll(at, NULL, 10) : 0;
}

static struct neap_error *write_recording(struct neap_ingest *ingest,
                                          const struct neap_recording_info *info)
{
    struct utsname host = {0};
    char boot_id[64];
    struct neap_error *err = neap_write_begin(&ingest->write);

    if (err)
        return err;
    uname(&host);
    read_line("/proc/sys/kernel/random/boot_id", boot_id, sizeof(boot_id));
    err = neap_write_row(
        &ingest->write, NEAP_STATEMENT_RECORDING, "sssssssisissii", info->version,
        info->command, info->start_utc, host.nodename, host.release, host.machine,
        info->interval ? "sampled" : "exact", (int64_t)info->interval, info->policy,
        (int64_t)info->max_size, info->socket ? info->socket : "", boot_id,
        (int64_t)getpid(), own_start());
    if (!err)
        err = neap_write_commit(&ingest->write);
    if (err)
        neap_write_rollback(&ingest->write);
    return err;
}

static void ingest_guard(struct neap_ingest **ingest)
{
    neap_ingest_destroy(*ingest);
}

struct neap_error *neap_ingest_create(sqlite3 *db,
                                      const struct neap_recording_info *info,
                                      struct neap_ingest **ret)
{
    neap_auto(ingest_guard) struct neap_ingest *ingest = calloc(1, sizeof(*ingest));
    struct neap_error *err;

    if (!ingest)
        return NEAP_NO_MEMORY;
    ingest->last = &ingest->first;
    ingest->interval = info->interval;
    ingest->max_size = info->max_size;
    err = neap_stacks_init(&ingest->stacks);
    if (!err && ingest->max_size)
        err = neap_journals_init(&ingest->journals);
    if (!err)
        err = neap_write_init(&ingest->write, db);
    if (!err)
        err = write_recording(ingest, info);
    if (err)
        return err;
    *ret = neap_take(ingest);
    return NULL;
}

void neap_ingest_destroy(struct neap_ingest *ingest)
{
    if (!ingest)
        return;
    while (ingest->first) {
        struct neap_ingest_process *process = ingest->first;

        ingest->first = process->next;
        neap_process_destroy(process);
    }
    neap_vec_deinit(&ingest->switches);
    neap_vec_deinit(&ingest->kept);
    neap_journals_deinit(&ingest->journals);
    neap_stacks_deinit(&ingest->stacks);
    neap_write_deinit(&ingest->write);
    free(ingest);
}

static void process_guard(struct neap_ingest_process **process)
{
    neap_process_destroy(*process);
}

struct neap_error *neap_ingest_start(struct neap_ingest *ingest,
                                     const struct neap_process_info *info,
                                     struct neap_ingest_process **ret)
{
    neap_auto(process_guard) struct neap_ingest_process *process =
        calloc(1, sizeof(*process));

    if (!process)
        return NEAP_NO_MEMORY;
    neap_track_init(&process->track, ingest->interval,
                    ingest->max_size ? &ingest->journals : NULL);
    process->ingest = ingest;
    process->pid = info->pid;
    process->ppid = info->ppid;
    process->start_ns = info->start_ns;
    process->now_ns = info->start_ns;
    process->main = info->main;
    process->dirty = true;
    process->exe = strdup(info->exe);
    process->command = strdup(info->command);
    process->allocator = strdup(info->allocator);
    process->unwinder = strdup(info->unwinder);
    if (!process->exe || !process->command || !process->allocator ||
        !process->unwinder ||
        !neap_vec_push(&process->threads, (struct neap_thread){.lane = NEAP_LANE_NONE}))
        return NEAP_NO_MEMORY;
    process->id = ++ingest->next_process;
    *ingest->last = process;
    ingest->last = &process->next;
    *ret = neap_take(process);
    return NULL;
}

void neap_ingest_event(struct neap_ingest_process *process, uint32_t lane,
                       const struct neap_event *event)
{
    neap_process_event(process, lane, event);
}

void neap_loss_add(struct neap_ingest *ingest, struct neap_ingest_process *process,
                   enum neap_loss_what what, uint64_t count, uint64_t bytes)
{
    struct neap_loss *loss = process ? &process->losses[what] : &ingest->losses[what];

    if (count == 0)
        return;
    loss->amount.count += count;
    loss->amount.bytes += bytes;
    loss->ts_ns = ingest->now_ns;
    loss->dirty = true;
    if (process)
        process->dirty = true;
}

void neap_ingest_alive(struct neap_ingest_process *process, uint64_t address,
                       const struct neap_table_slot *slot)
{
    neap_process_alive(process, address, slot);
}

void neap_ingest_heal(struct neap_ingest_process *process)
{
    neap_process_heal(process);
}

void neap_ingest_switched(struct neap_ingest *ingest, uint64_t now_ns, const char *mode)
{
    if (!ingest->off)
        ingest->on_ns += now_ns - ingest->since_ns;
    ingest->off = strcmp(mode, "off") == 0;
    ingest->switched |= ingest->off;
    ingest->journals.skip_foreign |= ingest->off;
    ingest->since_ns = now_ns;
    if (!neap_vec_push(&ingest->switches, (struct neap_switch_row){now_ns, mode}))
        neap_loss_add(ingest, NULL, NEAP_LOSS_STORE, 1, 0);
}

uint64_t neap_ingest_samples(const struct neap_ingest *ingest)
{
    return ingest->samples;
}

void neap_ingest_loss(struct neap_ingest *ingest, struct neap_ingest_process *process,
                      const char *what, uint64_t count, uint64_t bytes)
{
    static const char *const words[NEAP_LOSS_COUNT] = {
#define NEAP_LOSS_WORD(upper, lower) [NEAP_LOSS_##upper] = #lower,
        NEAP_LOSSES(NEAP_LOSS_WORD)
#undef NEAP_LOSS_WORD
    };
    enum neap_loss_what number = 0;

    /* A word that is none is a loss all the same, of events. */
    for (int i = 0; i < NEAP_LOSS_COUNT; i++) {
        if (strcmp(words[i], what) == 0)
            number = (enum neap_loss_what)i;
    }
    neap_loss_add(ingest, process, number, count, bytes);
}

void neap_ingest_counters(struct neap_ingest_process *process,
                          const struct neap_process_counters *counters)
{
    if (memcmp(&process->counters, counters, sizeof(*counters)) == 0)
        return;
    process->counters = *counters;
    process->dirty = true;
}

/*
 * What the books of a process that has ended prove to be missing. The target counts
 * what it drops itself; only what is beyond that is added.
 *   - A block handed out twice was freed in between, by a call we did not see.
 *   - A stack that was used and has no frames by now never gets any.
 */
static void count_missing(struct neap_ingest_process *process)
{
    const struct neap_track *track = &process->track;
    uint64_t known = process->losses[NEAP_LOSS_EVENTS].amount.count +
                     process->losses[NEAP_LOSS_LANES].amount.count +
                     process->losses[NEAP_LOSS_CORRUPT].amount.count +
                     process->losses[NEAP_LOSS_ORDER].amount.count;
    struct neap_amount implied = track->implied;
    uint64_t stacks = 0;

    if (implied.count > known)
        neap_loss_add(process->ingest, process, NEAP_LOSS_EVENTS, implied.count - known,
                      implied.bytes);
    for (size_t i = 0; i < track->sites.count; i++) {
        const struct neap_site *site = &track->sites.data[i];

        stacks += site->group == NEAP_SITE_NONE && !site->raw && site->alloc.count > 0;
    }
    known = process->losses[NEAP_LOSS_STACKS].amount.count;
    if (stacks > known)
        neap_loss_add(process->ingest, process, NEAP_LOSS_STACKS, stacks - known, 0);
}

void neap_ingest_end(struct neap_ingest_process *process,
                     const struct neap_process_end *end)
{
    if (process->ended)
        return;
    process->ended = true;
    process->dirty = true;
    process->end = *end;
    if (end->end_ns > process->ingest->now_ns)
        process->ingest->now_ns = end->end_ns;
    if (end->kind == NEAP_EXIT_EXITED && !end->has_code && process->has_exit_record) {
        process->end.has_code = true;
        process->end.code = process->exit_record;
    }
    neap_process_settle(process);
    count_missing(process);
}

struct neap_error *neap_ingest_commit(struct neap_ingest *ingest, uint64_t now_ns)
{
    return neap_commit(ingest, now_ns);
}

struct neap_error *neap_ingest_finish(struct neap_ingest *ingest, uint64_t now_ns,
                                      bool finished)
{
    /* The first commit asks for the last names; the answers are in the next ones. */
    struct neap_error *err;

    ingest->closing = true;
    err = neap_commit(ingest, now_ns);
    if (!err)
        neap_names_poll(&ingest->stacks.names, true);
    while (!err && neap_commit_more(ingest))
        err = neap_commit(ingest, now_ns);
    ingest->finished = finished;
    if (!err)
        err = neap_commit(ingest, now_ns);
    if (err)
        neap_commit_loss(ingest);
    ingest->closing = false;
    return err;
}

bool neap_ingest_unnamed(const struct neap_ingest *ingest)
{
    return ingest->stacks.pending.count > 0;
}

void neap_ingest_tally(const struct neap_ingest *ingest, struct neap_tally *ret)
{
    struct neap_tally tally = ingest->gone;

    tally.switched = ingest->switched;
    tally.on_ns = ingest->on_ns + (ingest->off ? 0 : ingest->now_ns - ingest->since_ns);
    for (int i = 0; i < NEAP_LOSS_COUNT; i++)
        tally.lost[i] += ingest->losses[i].amount.count;
    for (const struct neap_ingest_process *process = ingest->first; process;
         process = process->next)
        neap_tally_add(&tally, process);
    *ret = tally;
}

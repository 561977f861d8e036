/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of one target.
 *
 * Its end, in this order, whatever ended it: the lanes are read to the end, the losses
 * are reported, the ingest is told. Its slot is given back last, when nobody writes to
 * its memory any more.
 */
#include "daemon/target.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/source/procfs.h"
#include "schema/base/cleanup.h"

static void target_gone(void *context)
{
    struct neap_target *target = context;

    if (target->gone)
        return;
    target->gone = true;
    neap_loop_remove(target->context->loop, &target->watch);
}

bool neap_target_poll(struct neap_target *target)
{
    struct pollfd pollfd = {.fd = target->watch.fd, .events = POLLIN};

    if (!target->gone && poll(&pollfd, 1, 0) == 1)
        target_gone(target);
    return target->gone;
}

/* ---- start ---- */

/* Events between two looks at the clock: a few hundred microseconds at the most. */
#define TICK_EVENTS 1024u

static void sink_event(void *context, uint32_t lane, const struct neap_event *event)
{
    struct neap_target *target = context;

    if (event->kind == NEAP_EV_EXIT) {
        target->said_exit = true;
        target->exit_code = (int32_t)event->exit->code & 0xff;
    }
    /* A pass over full lanes takes a while; targets watch the clock for our pulse. */
    if (++target->events % TICK_EVENTS == 0)
        neap_ctl_tick(target->context->ctl);
    neap_ingest_event(target->ingest, lane, event);
}

static void sink_loss(void *context, const char *what, uint64_t count, uint64_t bytes)
{
    const struct neap_target *target = context;

    neap_ingest_loss(target->context->ingest, target->ingest, what, count, bytes);
}

static struct neap_error *start_ingest(struct neap_target *target, bool main,
                                       const struct neap_hello *hello)
{
    static const char *const unwinders[] = {"none", "cfi", "libunwind"};
    struct neap_procfs_process facts = {0};
    char allocator[sizeof(hello->allocator) + 1] = {0};
    struct neap_process_info info;
    struct neap_error *error = neap_procfs_process_init(target->pid, &facts);

    if (error)
        return error;
    memcpy(allocator, hello->allocator, sizeof(hello->allocator));
    info = (struct neap_process_info){
        .pid = target->pid,
        .ppid = facts.ppid,
        .exe = facts.exe,
        .command = facts.command,
        .allocator = allocator,
        .unwinder = hello->unwinder < NEAP_ARRAY_LEN(unwinders)
                        ? unwinders[hello->unwinder]
                        : "none",
        .start_ns = neap_ctl_tick(target->context->ctl),
        .main = main,
    };
    error = neap_ingest_start(target->context->ingest, &info, &target->ingest);
    neap_procfs_process_deinit(&facts);
    return error;
}

/* The parts of a target; what was made is undone by the caller on error. */
static struct neap_error *fill(struct neap_target *target, bool main,
                               const struct neap_hello *hello)
{
    const struct neap_target_context *context = target->context;
    struct neap_sink sink = {.event = sink_event, .loss = sink_loss, .context = target};
    struct neap_error *error =
        neap_ring_source_create(neap_ctl_tails(context->ctl, target->slot), &sink,
                                context->sampled, &target->source);

    if (error)
        return error;
    error = neap_loop_add(context->loop, &target->watch);
    if (error)
        return error;
    error = start_ingest(target, main, hello);
    if (error)
        neap_loop_remove(context->loop, &target->watch);
    return error;
}

struct neap_error *neap_target_create(const struct neap_target_context *context,
                                      pid_t pid, int *pidfd, bool main,
                                      const struct neap_hello *hello,
                                      struct neap_target **ret)
{
    neap_auto_free struct neap_target *target = calloc(1, sizeof(*target));
    struct neap_error *error;

    if (!target)
        return NEAP_NO_MEMORY;
    target->context = context;
    target->pid = pid;
    target->watch =
        (struct neap_watch){.fd = *pidfd, .ready = target_gone, .context = target};
    if (!neap_ctl_take(context->ctl, &target->slot))
        return neap_error_create(NEAP_ERROR_OS, "too many processes at once");
    error = fill(target, main, hello);
    if (error) {
        neap_ctl_give(context->ctl, target->slot, 0);
        neap_ring_source_destroy(target->source);
        return error;
    }
    *pidfd = -1;
    *ret = neap_take(target);
    return NULL;
}

void neap_target_destroy(struct neap_target *target)
{
    if (!target)
        return;
    if (!target->gone)
        neap_loop_remove(target->context->loop, &target->watch);
    close(target->watch.fd);
    neap_ctl_give(target->context->ctl, target->slot,
                  neap_ring_source_lanes(target->source));
    neap_ring_source_destroy(target->source);
    free(target);
}

/* ---- end ---- */

void neap_target_counters(struct neap_target *target)
{
    struct neap_ring_counters ring;
    struct neap_process_counters counters;

    neap_ring_source_counters(target->source, &ring);
    counters = (struct neap_process_counters){
        .truncated_stacks = ring.stacks_truncated,
        .verified = ring.verified,
        .verify_differences = ring.verify_differences,
        .fallbacks = ring.fallbacks,
        .waits = ring.waits,
    };
    neap_ingest_counters(target->ingest, &counters);
}

static void found_alive(void *context, uint64_t address,
                        const struct neap_table_slot *slot)
{
    const struct neap_target *target = context;

    neap_ingest_alive(target->ingest, address, slot);
}

void neap_target_end(struct neap_target *target, struct neap_ring_scratch *scratch,
                     const struct neap_process_end *end)
{
    struct neap_process_end told = *end;

    told.end_ns = neap_ctl_tick(target->context->ctl);
    /* A pass that found no memory for all lanes leaves some for the next; a target
     * that lives on, because the recording ends first, may fill them for ever. */
    for (unsigned i = 0; i < NEAP_LANES_MAX; i++) {
        if (neap_ring_source_drain(target->source, scratch, told.end_ns,
                                   NEAP_DRAIN_FINAL) == NEAP_ACTIVITY_NONE)
            break;
    }
    /* Of a program that lives on, as the recording ends first, the table is ahead of
     * the events by now: what it does not hold was not lost. */
    if (target->context->sampled && told.kind != NEAP_EXIT_RUNNING &&
        neap_ring_source_table(target->source, found_alive, target))
        neap_ingest_heal(target->ingest);
    if (told.kind == NEAP_EXIT_LOST && target->said_exit) {
        told.kind = NEAP_EXIT_EXITED;
        told.has_code = true;
        told.code = target->exit_code;
    }
    neap_target_counters(target);
    neap_ingest_end(target->ingest, &told);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads of a process, by their THREAD and THREAD_END records.
 *
 * A thread may record after its end: destructors of other libraries' TLS run behind
 * ours. It then says THREAD again and is taken for the same thread if not more than
 * MERGE_NS have passed. The kernel hands tids out in a circle, so another thread has
 * the same tid that soon only if all others were used in between.
 */
#include <string.h>

#include "daemon/ingest/state.h"

#define MERGE_NS 50000000u

static uint32_t thread_add(struct neap_ingest_process *process,
                           const struct neap_ev_thread *record, uint64_t now_ns)
{
    uint32_t number;

    if (process->free_threads.count) {
        number = process->free_threads.data[process->free_threads.count - 1];
    } else {
        number = (uint32_t)process->threads.count;
        /* Room in the list of free ones too, so that leaving needs no memory. */
        if (!neap_vec_reserve(&process->threads, 1) ||
            !neap_vec_reserve(&process->free_threads, number + 1))
            return 0;
    }
    if (!neap_map_put(&process->thread_of_tid, record->tid, number))
        return 0;
    if (process->free_threads.count)
        process->free_threads.count--;
    else
        process->threads.count++;
    process->threads.data[number] =
        (struct neap_thread){.actor = {.tid = record->tid},
                             .id = ++process->ingest->next_thread,
                             .start_ns = now_ns};
    return number;
}

uint32_t neap_thread_enter(struct neap_ingest_process *process, uint32_t lane,
                           const struct neap_ev_thread *record, uint64_t now_ns)
{
    uint64_t number = neap_map_get(&process->thread_of_tid, record->tid);
    struct neap_thread *thread;

    if (number != NEAP_MAP_NONE) {
        thread = &process->threads.data[number];
        if (thread->lane == NEAP_LANE_NONE && now_ns > thread->end_ns + MERGE_NS)
            number = NEAP_MAP_NONE;
    }
    if (number == NEAP_MAP_NONE)
        number = thread_add(process, record, now_ns);
    if (number == 0)
        return 0;
    thread = &process->threads.data[number];
    thread->lane = lane;
    thread->end_ns = 0;
    memcpy(thread->name, record->name, sizeof(record->name));
    thread->dirty = true;
    return (uint32_t)number;
}

void neap_thread_leave(struct neap_ingest_process *process, uint32_t number,
                       uint64_t now_ns)
{
    struct neap_thread *thread = &process->threads.data[number];

    if (number == 0 || thread->lane == NEAP_LANE_NONE)
        return;
    thread->lane = NEAP_LANE_NONE;
    thread->end_ns = now_ns;
    thread->dirty = true;
}

void neap_threads_stored(struct neap_ingest_process *process, uint64_t now_ns)
{
    for (uint32_t i = 1; i < process->threads.count; i++) {
        struct neap_thread *thread = &process->threads.data[i];

        thread->dirty = false;
        if (thread->id == 0 || thread->lane != NEAP_LANE_NONE ||
            now_ns <= thread->end_ns + MERGE_NS)
            continue;
        if (neap_map_get(&process->thread_of_tid, thread->actor.tid) == i)
            (void)neap_map_remove(&process->thread_of_tid, thread->actor.tid);
        *thread = (struct neap_thread){.lane = NEAP_LANE_NONE};
        process->free_threads.data[process->free_threads.count++] = i;
    }
}

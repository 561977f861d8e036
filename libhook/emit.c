/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each allocation and each free, and what a lane needs before the first of them: an
 * owner, a clock, a thread's name.
 */
#include "libhook/emit.h"

#include <errno.h>
#include <string.h>
#include <sys/prctl.h>

#include "libhook/record.h"
#include "libhook/sys.h"

#define NAME_EVERY_NS 1000000000ull /* a renamed thread is noticed within a second */

NEAP_NOINLINE bool neap_record_first_multi(void)
{
    atomic_store_explicit(&neap_process->multi, true, memory_order_relaxed);
    atomic_store_explicit(&neap_process->data->multi, 1, memory_order_release);
    return true;
}

/* ---- the lane's clock and thread ---- */

static bool put_thread(struct neap_tls *tls)
{
    uint64_t head = tls->head;
    struct neap_ev_thread *thread = reserve(tls, &head, sizeof(*thread), false);

    if (!thread)
        return false;
    memset(thread, 0, sizeof(*thread));
    thread->head = neap_ev_head(NEAP_EV_THREAD, 0, 0);
    thread->tid = tls->tid;
    memcpy(thread->name, tls->name, sizeof(tls->name));
    publish(tls, head + sizeof(*thread));
    return true;
}

void neap_record_name(struct neap_tls *tls)
{
    char name[16] = {0};

    NEAP_SYS2(SYS_prctl, PR_GET_NAME, name);
    if (memcmp(name, tls->name, sizeof(name)) != 0) {
        memcpy(tls->name, name, sizeof(name));
        put_thread(tls);
    }
}

NEAP_NOINLINE bool neap_record_time(struct neap_tls *tls)
{
    uint64_t head = tls->head, now;
    struct neap_ev_time *time = reserve(tls, &head, sizeof(*time), false);

    if (!time)
        return false;
    now = atomic_load_explicit(&neap_process->ctl->now_ns, memory_order_relaxed);
    tls->now_ns = now;
    tls->base_stamp = neap_stamp() - 1; /* deltas of 0 mean something else */
    *time =
        (struct neap_ev_time){neap_ev_head(NEAP_EV_TIME, 0, 0), now, tls->base_stamp};
    publish(tls, head + sizeof(*time));
    if (now - tls->named_ns > NAME_EVERY_NS) {
        tls->named_ns = now;
        neap_record_name(tls);
    }
    return true;
}

/* Own a lane, with its clock set and its thread named. */
static bool take_lane(struct neap_tls *tls)
{
    if (tls->lane)
        return true;
    if (!neap_lane_claim(tls)) {
        atomic_fetch_add_explicit(&neap_process->data->lane_loss, 1,
                                  memory_order_relaxed);
        return false;
    }
    NEAP_SYS2(SYS_prctl, PR_GET_NAME, tls->name);
    tls->named_ns =
        atomic_load_explicit(&neap_process->ctl->now_ns, memory_order_relaxed);
    if (neap_record_time(tls) && put_thread(tls))
        return true;
    neap_lane_release(tls);
    return false;
}

/*
 * Be connected, own a lane, and (`settle`) know the thread's stack and see its end.
 * Settling calls libc, which may allocate: not from within an allocator, whose lock
 * this thread may hold while it calls mmap.
 */
NEAP_NOINLINE bool neap_record_attach(struct neap_tls *tls, bool settle)
{
    int saved = errno;
    uint8_t busy = tls->busy;
    bool ok;

    tls->busy = NEAP_INTERNAL;
    ok = neap_life_connect(tls);
    if (ok && settle && !tls->settled)
        neap_life_settle(tls);
    ok = ok && take_lane(tls);
    tls->busy = busy;
    errno = saved;
    return ok;
}

NEAP_NOINLINE void neap_record_verify(const struct neap_context *caller,
                                      const uint64_t *pcs, const struct neap_walk *walk)
{
    struct neap_data_header *data = neap_process->data;
    int same = neap_oracle_verify(caller, pcs, walk);

    if (same != 0)
        atomic_fetch_add_explicit(&data->verified, 1, memory_order_relaxed);
    if (same < 0)
        atomic_fetch_add_explicit(&data->verify_differences, 1, memory_order_relaxed);
}

NEAP_COLD void neap_record_lost(struct neap_tls *tls, uint64_t bytes)
{
    if (!tls->lane) {
        if (neap_process->data)
            atomic_fetch_add_explicit(&neap_process->data->lane_loss_bytes, bytes,
                                      memory_order_relaxed);
        return;
    }
    /* Only the lane's owner writes these. */
    atomic_store_explicit(
        &tls->lane->lost_events,
        atomic_load_explicit(&tls->lane->lost_events, memory_order_relaxed) + 1,
        memory_order_relaxed);
    atomic_store_explicit(
        &tls->lane->lost_bytes,
        atomic_load_explicit(&tls->lane->lost_bytes, memory_order_relaxed) + bytes,
        memory_order_relaxed);
}

/* ---- events ---- */

NEAP_HOT bool neap_emit_alloc(struct neap_tls *tls, enum neap_ev_kind kind,
                              const struct neap_context *caller, const void *block,
                              size_t size)
{
    uint64_t address = (uint64_t)(uintptr_t)block, head, hash;
    struct neap_ev_alloc *alloc;
    uint32_t delta, bytes;
    uint8_t *room;
    bool multi;

    if (NEAP_UNLIKELY(!begin(tls, true, &delta, &multi))) {
        if (recording())
            neap_record_lost(tls, size);
        return false;
    }
    head = tls->head;
    room = reserve(tls, &head, NEAP_EV_SIZE_MAX + sizeof(*alloc), true);
    if (NEAP_UNLIKELY(!room)) {
        neap_record_lost(tls, size);
        return false;
    }
    bytes = put_stack(tls, caller, room, &hash);
    alloc = (struct neap_ev_alloc *)(void *)(room + bytes);
    alloc->head = neap_ev_head(kind, next_seq(address, multi), delta);
    alloc->address = address;
    alloc->size = size;
    alloc->stack = hash;
    publish(tls, head + bytes + sizeof(*alloc));
    sent_stack(tls, bytes, hash);
    if (NEAP_UNLIKELY(tls->retired))
        neap_lane_release(tls);
    return true;
}

NEAP_HOT bool neap_emit_free(struct neap_tls *tls, enum neap_ev_kind kind,
                             const void *block)
{
    uint64_t address = (uint64_t)(uintptr_t)block, head;
    struct neap_ev_free *record;
    uint32_t delta;
    bool multi;

    if (NEAP_UNLIKELY(!begin(tls, true, &delta, &multi))) {
        if (recording())
            neap_record_lost(tls, 0);
        return false;
    }
    head = tls->head;
    record = reserve(tls, &head, sizeof(*record), false);
    if (NEAP_UNLIKELY(!record)) {
        neap_record_lost(tls, 0);
        return false;
    }
    record->head = neap_ev_head(kind, next_seq(address, multi), delta);
    record->address = address;
    finish(tls, head + sizeof(*record), kind == NEAP_EV_REALLOC_FREE);
    return true;
}

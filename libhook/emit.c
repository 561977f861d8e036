/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Order, as schema/wire/event.h asks for it:
 *   - stamp, then sequence, then publication, all after the real malloc and before
 *     the real free. A free is visible to the collector before the allocator can hand
 *     its memory to anybody else.
 *   - room is reserved before a sequence number is taken: a number that is taken is
 *     published, so a lost event leaves no gap.
 */
#include "libhook/emit.h"

#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/single_threaded.h>

#include "libhook/lane.h"
#include "libhook/life.h"
#include "libhook/modules.h"
#include "libhook/oracle.h"
#include "libhook/stackset.h"
#include "libhook/sys.h"
#include "libhook/unwind.h"

#define NAME_EVERY_NS 1000000000ull /* a renamed thread is noticed within a second */

/* ---- order ---- */

static NEAP_COLD bool first_seen_multi(void)
{
    atomic_store_explicit(&neap_process->multi, true, memory_order_relaxed);
    atomic_store_explicit(&neap_process->data->multi, 1, memory_order_release);
    return true;
}

/*
 * glibc clears __libc_single_threaded before a second thread exists, so no thread is
 * in the middle of the plain increment below when another one starts counting.
 */
NEAP_ALWAYS_INLINE bool is_multi(void)
{
    /* A hint for this thread alone: relaxed, as glibc's own flag decides. */
    if (atomic_load_explicit(&neap_process->multi, memory_order_relaxed))
        return true;
    return NEAP_LIKELY(__libc_single_threaded) ? false : first_seen_multi();
}

NEAP_ALWAYS_INLINE uint32_t next_seq(uint64_t address, bool multi)
{
    struct neap_order *order = &neap_process->order[neap_order_shard(address)];
    uint32_t seq;

    if (multi)
        return atomic_fetch_add_explicit(&order->next, 1, memory_order_relaxed);
    seq = atomic_load_explicit(&order->next, memory_order_relaxed);
    atomic_store_explicit(&order->next, seq + 1, memory_order_relaxed);
    return seq;
}

/* ---- the lane's clock and thread ---- */

/* Room at *head, waiting if need be; the record is not visible before publish(). */
NEAP_ALWAYS_INLINE void *reserve(struct neap_tls *tls, uint64_t *head, uint32_t length)
{
    void *room;

    if (NEAP_UNLIKELY(*head + length - tls->tail > NEAP_LANE_BYTES / 2))
        neap_lane_half_full(tls);
    room = neap_lane_reserve(tls->lane, head, tls->tail, length);
    return NEAP_LIKELY(room != NULL) ? room : neap_lane_wait(tls, head, length);
}

NEAP_ALWAYS_INLINE void publish(struct neap_tls *tls, uint64_t head)
{
    tls->head = head;
    neap_lane_publish(tls->lane, head);
}

static bool put_thread(struct neap_tls *tls)
{
    uint64_t head = tls->head;
    struct neap_ev_thread *thread = reserve(tls, &head, sizeof(*thread));

    if (!thread)
        return false;
    memset(thread, 0, sizeof(*thread));
    thread->head = neap_ev_head(NEAP_EV_THREAD, 0, 0);
    thread->tid = tls->tid;
    memcpy(thread->name, tls->name, sizeof(tls->name));
    publish(tls, head + sizeof(*thread));
    return true;
}

static void look_up_name(struct neap_tls *tls)
{
    char name[16] = {0};

    NEAP_SYS2(SYS_prctl, PR_GET_NAME, name);
    if (memcmp(name, tls->name, sizeof(name)) != 0) {
        memcpy(tls->name, name, sizeof(name));
        put_thread(tls);
    }
}

static NEAP_COLD bool put_time(struct neap_tls *tls)
{
    uint64_t head = tls->head, now;
    struct neap_ev_time *time = reserve(tls, &head, sizeof(*time));

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
        look_up_name(tls);
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
    if (put_time(tls) && put_thread(tls))
        return true;
    neap_lane_release(tls);
    return false;
}

/*
 * Be connected, own a lane, and (`settle`) know the thread's stack and see its end.
 * Settling calls libc, which may allocate: not from within an allocator, whose lock
 * this thread may hold while it calls mmap.
 */
static NEAP_COLD bool attach(struct neap_tls *tls, bool settle)
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

/*
 * Before each record: lane, clock, order stamp. 0xffffffff is out of `delta`'s use:
 * a lane's clock is set anew long before.
 */
NEAP_ALWAYS_INLINE bool begin(struct neap_tls *tls, bool settle, uint32_t *delta,
                              bool *multi)
{
    uint64_t since = 0;

    if (NEAP_UNLIKELY(!tls->lane || tls->settled < settle ||
                      atomic_load_explicit(&neap_process->phase,
                                           memory_order_relaxed) != NEAP_PHASE_ON) &&
        !attach(tls, settle))
        return false;
    *multi = is_multi();
    if (*multi)
        since = neap_stamp() - tls->base_stamp;
    if (NEAP_UNLIKELY(atomic_load_explicit(&neap_process->ctl->now_ns,
                                           memory_order_relaxed) != tls->now_ns ||
                      since >> 32 != 0)) {
        if (!put_time(tls))
            return false;
        if (*multi)
            since = neap_stamp() - tls->base_stamp;
    }
    *delta = (uint32_t)since;
    return true;
}

NEAP_ALWAYS_INLINE void finish(struct neap_tls *tls, uint64_t head)
{
    publish(tls, head);
    if (NEAP_UNLIKELY(tls->retired))
        neap_lane_release(tls);
}

static NEAP_COLD void lost(struct neap_tls *tls, uint64_t bytes)
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

static bool recording(void)
{
    return atomic_load_explicit(&neap_process->phase, memory_order_relaxed) ==
           NEAP_PHASE_ON;
}

void neap_emit_nested(struct neap_tls *tls)
{
    if (neap_process && recording() && tls->lane)
        lost(tls, 0);
}

/* ---- records ---- */

/* Unwind to `room`. Returns the bytes it takes as a STACK record, 0 if it was sent
 * before; `*ret` is its hash. */
NEAP_ALWAYS_INLINE uint32_t put_stack(struct neap_tls *tls,
                                      const struct neap_context *caller, void *room,
                                      uint64_t *ret)
{
    struct neap_ev_stack *stack = room;
    uint32_t generation, tries = 0;
    struct neap_walk walk;
    int same;

    /* Again if a library went meanwhile: objects met on the way then stand in another
     * generation than the stack would. */
    do {
        generation =
            atomic_load_explicit(&neap_process->generation, memory_order_acquire);
        neap_unwind(tls, caller, generation, stack->pc, &walk);
    } while (NEAP_UNLIKELY(generation != atomic_load_explicit(&neap_process->generation,
                                                              memory_order_acquire)) &&
             ++tries < 8);
    if (NEAP_UNLIKELY(neap_oracle_ready()))
        neap_unwind_frames(tls, &walk, stack->pc);
    same = neap_oracle_verify(caller, stack->pc, &walk);
    if (NEAP_UNLIKELY(same != 0)) {
        struct neap_data_header *data = neap_process->data;

        atomic_fetch_add_explicit(&data->verified, 1, memory_order_relaxed);
        if (same < 0)
            atomic_fetch_add_explicit(&data->verify_differences, 1,
                                      memory_order_relaxed);
    }
    *ret = walk.hash;
    if (NEAP_LIKELY(neap_stackset_has(walk.hash)))
        return 0;
    if (walk.flags & NEAP_STACK_TRUNCATED)
        atomic_fetch_add_explicit(&neap_process->data->stacks_truncated, 1,
                                  memory_order_relaxed);
    neap_unwind_frames(tls, &walk, stack->pc);
    stack->head = neap_ev_head(NEAP_EV_STACK, 0, 0);
    stack->hash = walk.hash;
    stack->generation = generation;
    stack->depth = walk.depth;
    stack->flags = walk.flags;
    return (uint32_t)sizeof(*stack) + 8u * walk.depth;
}

/* After publication: others need not send this stack again. */
NEAP_ALWAYS_INLINE void sent_stack(struct neap_tls *tls, uint32_t bytes, uint64_t hash)
{
    if (NEAP_UNLIKELY(bytes != 0))
        neap_stackset_add(hash);
    if (NEAP_UNLIKELY(tls->found))
        neap_modules_announce(tls);
}

void neap_emit_alloc(struct neap_tls *tls, enum neap_ev_kind kind,
                     const struct neap_context *caller, const void *block, size_t size)
{
    uint64_t address = (uint64_t)(uintptr_t)block, head, hash;
    struct neap_ev_alloc *alloc;
    uint32_t delta, bytes;
    uint8_t *room;
    bool multi;

    if (NEAP_UNLIKELY(!begin(tls, true, &delta, &multi))) {
        if (recording())
            lost(tls, size);
        return;
    }
    head = tls->head;
    room = reserve(tls, &head, NEAP_EV_SIZE_MAX + sizeof(*alloc));
    if (NEAP_UNLIKELY(!room)) {
        lost(tls, size);
        return;
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
}

bool neap_emit_free(struct neap_tls *tls, enum neap_ev_kind kind, const void *block)
{
    uint64_t address = (uint64_t)(uintptr_t)block, head;
    struct neap_ev_free *record;
    uint32_t delta;
    bool multi;

    if (NEAP_UNLIKELY(!begin(tls, true, &delta, &multi))) {
        if (recording())
            lost(tls, 0);
        return false;
    }
    head = tls->head;
    record = reserve(tls, &head, sizeof(*record));
    if (NEAP_UNLIKELY(!record)) {
        lost(tls, 0);
        return false;
    }
    record->head = neap_ev_head(kind, next_seq(address, multi), delta);
    record->address = address;
    finish(tls, head + sizeof(*record));
    return true;
}

void neap_emit_map(struct neap_tls *tls, const struct neap_context *caller,
                   const struct neap_emit_map *map)
{
    struct neap_ev_map *record;
    uint64_t head, hash;
    uint32_t delta, bytes;
    uint8_t *room;
    bool multi;

    if (!begin(tls, false, &delta, &multi)) {
        if (recording())
            lost(tls, 0);
        return;
    }
    head = tls->head;
    room = reserve(tls, &head, NEAP_EV_SIZE_MAX + sizeof(*record));
    if (!room) {
        lost(tls, 0);
        return;
    }
    bytes = put_stack(tls, caller, room, &hash);
    record = (struct neap_ev_map *)(void *)(room + bytes);
    *record = (struct neap_ev_map){.head = neap_ev_head(NEAP_EV_MAP, 0, delta),
                                   .address = map->address,
                                   .size = map->size,
                                   .old_address = map->old_address,
                                   .old_size = map->old_size,
                                   .op = map->op,
                                   .prot = map->prot,
                                   .flags = map->flags,
                                   .fd = map->fd,
                                   .stack = hash};
    publish(tls, head + bytes + sizeof(*record));
    sent_stack(tls, bytes, hash);
    if (NEAP_UNLIKELY(tls->retired))
        neap_lane_release(tls);
}

void neap_emit_module(struct neap_tls *tls, const struct neap_emit_module *module)
{
    uint64_t head = tls->head;
    uint32_t length = (uint32_t)(sizeof(struct neap_ev_module) + module->build_id_len +
                                 module->path_len + 7u) &
                      ~7u;
    struct neap_ev_module *record = tls->lane ? reserve(tls, &head, length) : NULL;

    if (!record)
        return;
    memset((uint8_t *)record + length - 8, 0, 8);
    record->head = neap_ev_head(NEAP_EV_MODULE, 0, 0);
    record->bias = module->bias;
    record->start = module->start;
    record->end = module->end;
    record->generation = module->generation;
    record->build_id_len = (uint16_t)module->build_id_len;
    record->path_len = (uint16_t)module->path_len;
    memcpy(record->bytes, module->build_id, module->build_id_len);
    memcpy(record->bytes + module->build_id_len, module->path, module->path_len);
    publish(tls, head + length);
}

void neap_emit_exit(struct neap_tls *tls, int status)
{
    struct neap_ev_exit *record;
    uint32_t delta;
    uint64_t head;
    bool multi;

    /* A vfork child that could not exec shares our lane, but it is not us that ends. */
    if (recording() && (uint32_t)NEAP_SYS1(SYS_getpid, 0) != neap_process->pid)
        return;
    if (!begin(tls, true, &delta, &multi))
        return;
    head = tls->head;
    record = reserve(tls, &head, sizeof(*record));
    if (!record)
        return;
    *record =
        (struct neap_ev_exit){neap_ev_head(NEAP_EV_EXIT, 0, delta), status & 0xff};
    finish(tls, head + sizeof(*record));
}

void neap_emit_thread_end(struct neap_tls *tls)
{
    uint64_t head;
    uint64_t *record;
    uint32_t delta;
    bool multi;

    tls->retired = true;
    if (!tls->lane || !recording() || !begin(tls, true, &delta, &multi))
        return;
    look_up_name(tls);
    head = tls->head;
    record = reserve(tls, &head, sizeof(*record));
    if (record) {
        *record = neap_ev_head(NEAP_EV_THREAD_END, 0, delta);
        publish(tls, head + sizeof(*record));
    }
    neap_lane_release(tls);
}

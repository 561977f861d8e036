/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a record is written: clock and number, room, stack, publication. Inlined into
 * emit.c and its brothers, which are the hot path of an exact recording.
 *
 * Order, as schema/wire/event.h asks for it:
 *   - stamp, then sequence, then publication, all after the real malloc and before
 *     the real free. A free is visible to the collector before the allocator can hand
 *     its memory to anybody else.
 *   - room is reserved before a sequence number is taken: a number that is taken is
 *     published, so a lost event leaves no gap.
 */
#ifndef NEAP_LIBHOOK_RECORD_H
#define NEAP_LIBHOOK_RECORD_H

#include <sys/single_threaded.h>

#include "libhook/emit.h"
#include "libhook/lane.h"
#include "libhook/life.h"
#include "libhook/modules.h"
#include "libhook/oracle.h"
#include "libhook/stackset.h"
#include "libhook/unwind.h"

/*
 * gcc (12) takes what goes on after a cold call for cold as well, even where other ways
 * lead there: neap_emit_alloc was held for never executed, made small instead of fast
 * and put away from its callers (2 to 4 ns a pair of malloc and free). So rare
 * functions that return into the hot path are not `cold`, only not inlined.
 */
#define NEAP_HOT __attribute__((hot))

/* The rare parts, in emit.c. */
bool neap_record_attach(struct neap_tls *tls, bool settle);
bool neap_record_time(struct neap_tls *tls);
bool neap_record_first_multi(void);
void neap_record_name(struct neap_tls *tls); /* looks it up, tells if it is another */
void neap_record_verify(const struct neap_context *caller, const uint64_t *pcs,
                        const struct neap_walk *walk);
void neap_record_lost(struct neap_tls *tls, uint64_t bytes);

/* ---- order ---- */

/*
 * glibc clears __libc_single_threaded before a second thread exists, so no thread is
 * in the middle of the plain increment below when another one starts counting.
 */
NEAP_ALWAYS_INLINE bool is_multi(void)
{
    /* A hint for this thread alone: relaxed, as glibc's own flag decides. */
    if (atomic_load_explicit(&neap_process->multi, memory_order_relaxed))
        return true;
    return NEAP_LIKELY(__libc_single_threaded) ? false : neap_record_first_multi();
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

/*
 * Room at *head, waiting if need be; the record is not visible before publish(). Up to
 * tls->limit there is nothing to look at: the lane is less than half full by the last
 * tail seen, or was looked at a moment ago.
 *
 * `spare`: the record is an allocation, and under the policies that do not wait an
 * eighth of the lane is kept for others. What a lost allocation would have said stays
 * unknown, but a free that is lost makes a leak of a block that is known.
 */
NEAP_ALWAYS_INLINE void *reserve(struct neap_tls *tls, uint64_t *head, uint32_t length,
                                 bool spare)
{
    void *room;

    if (NEAP_UNLIKELY(*head + length > tls->limit) &&
        !neap_lane_look(tls, length, spare))
        return NULL;
    room = neap_lane_reserve(tls->lane, head, tls->tail, length);
    return NEAP_LIKELY(room != NULL) ? room : neap_lane_wait(tls, head, length);
}

NEAP_ALWAYS_INLINE void publish(struct neap_tls *tls, uint64_t head)
{
    tls->head = head;
    neap_lane_publish(tls->lane, head);
}

NEAP_ALWAYS_INLINE bool recording(void)
{
    return atomic_load_explicit(&neap_process->phase, memory_order_relaxed) ==
           NEAP_PHASE_ON;
}

/* Is what the thread has, its lane, of this process? */
NEAP_ALWAYS_INLINE bool is_connected(const struct neap_tls *tls)
{
    return atomic_load_explicit(&neap_process->connection, memory_order_relaxed) ==
           tls->connection;
}

/*
 * Before each record: lane, clock, order stamp. 0xffffffff is out of `delta`'s use:
 * a lane's clock is set anew long before.
 */
NEAP_ALWAYS_INLINE bool begin(struct neap_tls *tls, bool settle, uint32_t *delta,
                              bool *multi)
{
    uint64_t since = 0;

    if (NEAP_UNLIKELY(!tls->lane || tls->settled < settle || !is_connected(tls)) &&
        !neap_record_attach(tls, settle))
        return false;
    *multi = is_multi();
    if (*multi)
        since = neap_stamp() - tls->base_stamp;
    if (NEAP_UNLIKELY(atomic_load_explicit(&neap_process->ctl->now_ns,
                                           memory_order_relaxed) != tls->now_ns ||
                      since >> 32 != 0)) {
        if (!neap_record_time(tls))
            return false;
        if (*multi)
            since = neap_stamp() - tls->base_stamp;
    }
    *delta = (uint32_t)since;
    return true;
}

/* `open`: another record answers this one, in the same lane. */
NEAP_ALWAYS_INLINE void finish(struct neap_tls *tls, uint64_t head, bool open)
{
    publish(tls, head);
    if (NEAP_UNLIKELY(tls->retired) && !open)
        neap_lane_release(tls);
}

/* Unwind to `room`. Returns the bytes it takes as a STACK record, 0 if it was sent
 * before; `*ret` is its hash. */
NEAP_ALWAYS_INLINE uint32_t put_stack(struct neap_tls *tls,
                                      const struct neap_context *caller, void *room,
                                      uint64_t *ret)
{
    struct neap_ev_stack *stack = room;
    uint32_t tries = 0;
    uint64_t epoch;
    struct neap_walk walk;

    /* Again if a library went meanwhile, or is about to: objects met on the way then
     * stand in another generation than the stack would, or rules are another's. */
    do {
        epoch = atomic_load_explicit(&neap_process->epoch, memory_order_acquire);
        neap_unwind(tls, caller, epoch, stack->pc, &walk);
    } while (NEAP_UNLIKELY(epoch != atomic_load_explicit(&neap_process->epoch,
                                                         memory_order_acquire)) &&
             ++tries < 8);
    if (NEAP_UNLIKELY(neap_oracle_verifies)) {
        neap_unwind_frames(tls, &walk, stack->pc);
        neap_record_verify(caller, stack->pc, &walk);
    }
    if (NEAP_UNLIKELY(walk.fallback))
        atomic_fetch_add_explicit(&neap_process->data->fallbacks, 1,
                                  memory_order_relaxed);
    *ret = walk.hash;
    if (NEAP_LIKELY(neap_stackset_has(walk.hash)))
        return 0;
    if (walk.flags & NEAP_STACK_TRUNCATED)
        atomic_fetch_add_explicit(&neap_process->data->stacks_truncated, 1,
                                  memory_order_relaxed);
    neap_unwind_frames(tls, &walk, stack->pc);
    stack->head = neap_ev_head(NEAP_EV_STACK, 0, 0);
    stack->hash = walk.hash;
    stack->generation = (uint32_t)epoch;
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

#endif

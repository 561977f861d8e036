/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting. `block` waits while the collector lives: its clock word moves at least
 * every 50 ms. Time that passes without a move counts as stalled, STALL_EVENT_NS
 * for one event and STALL_TOTAL_NS for the whole process at most; after that the
 * process records only what fits and is marked inexact. So a stopped or killed
 * collector costs a program a second in all, and a slow one costs no events.
 */
#include "libhook/lane.h"

#include <limits.h>
#include <linux/futex.h>
#include <time.h>

#include "libhook/life.h"
#include "libhook/link.h"
#include "libhook/sys.h"
#include "libhook/unwind.h"

#define STALL_EVENT_NS 200000000ull
#define STALL_TOTAL_NS 1000000000ull
#define PAUSE_NS       50000L  /* the first of a wait; each is twice the last */
#define PAUSE_MAX_NS   400000L /* the collector has 10^4 records to read till then */
/* Not at once when there is room for a record or two, which would be one pause for each
 * (with four threads on two cores 12 % of their time was spent falling asleep). */
#define GO_ON (NEAP_LANE_BYTES / 4 * 3)

static struct neap_lane *lane_at(unsigned index)
{
    unsigned group = index / NEAP_LANE_GROUP;
    uint8_t *base =
        atomic_load_explicit(&neap_process->groups[group], memory_order_acquire);

    if (!base) {
        while (atomic_exchange_explicit(&neap_process->group_lock, 1,
                                        memory_order_acquire))
            neap_sys_yield();
        base = atomic_load_explicit(&neap_process->groups[group], memory_order_relaxed);
        if (!base) {
            base = neap_link_lanes(neap_process, group);
            atomic_store_explicit(&neap_process->groups[group], base,
                                  memory_order_release);
        }
        atomic_store_explicit(&neap_process->group_lock, 0, memory_order_release);
        if (!base)
            return NULL;
    }
    return (struct neap_lane *)(void *)(base + (size_t)(index % NEAP_LANE_GROUP) *
                                                   NEAP_LANE_STRIDE);
}

/* Threads that ended without a word (killed by a raw exit) still own their lanes. */
static bool is_dead(uint32_t tid)
{
    return NEAP_SYS3(SYS_tgkill, neap_process->pid, tid, 0) == -3 /* ESRCH */;
}

static bool try_lane(struct neap_tls *tls, unsigned index, bool from_dead)
{
    struct neap_lane *lane = lane_at(index);
    uint32_t owner;

    if (!lane)
        return false;
    owner = atomic_load_explicit(&lane->owner, memory_order_relaxed);
    if (owner != 0 && !(from_dead && is_dead(owner)))
        return false;
    /* Pairs with the release in neap_lane_release: head is the last owner's. */
    if (!atomic_compare_exchange_strong_explicit(
            &lane->owner, &owner, tls->tid, memory_order_acquire, memory_order_relaxed))
        return false;
    if (!neap_process->memos[index])
        neap_process->memos[index] = neap_unwind_memo();
    tls->memo = neap_process->memos[index];
    tls->lane = lane;
    tls->tail_word = &neap_process->tails[index];
    tls->head = atomic_load_explicit(&lane->head, memory_order_relaxed);
    tls->tail = atomic_load_explicit(tls->tail_word, memory_order_acquire);
    tls->limit = 0;
    return true;
}

bool neap_lane_claim(struct neap_tls *tls)
{
    struct neap_data_header *data = neap_process->data;
    uint32_t lanes = atomic_load_explicit(&data->lanes, memory_order_relaxed);

    for (uint32_t i = 0; i < lanes && i < NEAP_LANES_MAX; i++)
        if (try_lane(tls, i, false))
            return true;
    if (lanes >= 64)
        for (uint32_t i = 0; i < lanes && i < NEAP_LANES_MAX; i++)
            if (try_lane(tls, i, true))
                return true;
    for (uint32_t i = lanes; i < NEAP_LANES_MAX; i++) {
        if (!try_lane(tls, i, false))
            continue;
        /* From here on the collector reads it. */
        while (lanes <= i && !atomic_compare_exchange_weak_explicit(
                                 &data->lanes, &lanes, i + 1, memory_order_release,
                                 memory_order_relaxed))
            ;
        return true;
    }
    return false;
}

void neap_lane_release(struct neap_tls *tls)
{
    struct neap_lane *lane = tls->lane;

    tls->lane = NULL;
    tls->memo = NULL;
    if (lane)
        atomic_store_explicit(&lane->owner, 0, memory_order_release);
}

static uint64_t clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

/*
 * The collector sleeps longer than a tick: it wants to be told. A ring that comes just
 * as it lies down is missed, so it is told again, the 2nd, 4th, 8th ... time, until its
 * clock moves. That of a dead one does not, and a system call for each event for good
 * would be 400 ns.
 */
static void ring_bell(struct neap_tls *tls)
{
    const struct neap_ctl_header *ctl = neap_process->ctl;
    uint64_t now_ns;

    if (!atomic_load_explicit(&ctl->asleep, memory_order_relaxed))
        return;
    now_ns = atomic_load_explicit(&ctl->now_ns, memory_order_relaxed);
    if (tls->rung_ns != now_ns) {
        tls->rung_ns = now_ns;
        tls->rings = 0;
    }
    tls->rings++;
    if ((tls->rings & (tls->rings - 1)) == 0)
        NEAP_SYS3(SYS_futex, &ctl->bell, FUTEX_WAKE, INT_MAX);
}

/*
 * Where half of the lane waits already, a sixteenth of it passes between two looks; so
 * the bell is rung that often, and the eighth that is kept is not touched unseen.
 */
bool neap_lane_look(struct neap_tls *tls, uint32_t length, bool spare)
{
    const uint64_t half = NEAP_LANE_BYTES / 2, keep = NEAP_LANE_BYTES / 8;
    uint64_t used, top;

    tls->tail = atomic_load_explicit(tls->tail_word, memory_order_acquire);
    used = tls->head + length - tls->tail;
    if (used <= half) {
        tls->limit = tls->tail + half;
        return true;
    }
    ring_bell(tls);
    top = tls->tail + NEAP_LANE_BYTES;
    if (neap_process->policy != NEAP_POLICY_BLOCK) {
        top -= keep;
        if (spare && used > NEAP_LANE_BYTES - keep)
            return false;
    }
    tls->limit = tls->head + length + NEAP_LANE_BYTES / 16;
    if (tls->limit > top)
        tls->limit = top;
    return true;
}

static void *reserve_again(struct neap_tls *tls, uint64_t *head, uint32_t length)
{
    /* Pairs with the release in neap_lane_consume: what it gave back was read. */
    tls->tail = atomic_load_explicit(tls->tail_word, memory_order_acquire);
    return neap_lane_reserve(tls->lane, head, tls->tail, length);
}

static bool may_wait(void)
{
    return neap_process->policy == NEAP_POLICY_BLOCK &&
           !atomic_load_explicit(&neap_process->ctl->closed, memory_order_relaxed) &&
           atomic_load_explicit(&neap_process->stalled_ns, memory_order_relaxed) <
               STALL_TOTAL_NS;
}

void *neap_lane_wait(struct neap_tls *tls, uint64_t *head, uint32_t length)
{
    const struct neap_ctl_header *ctl = neap_process->ctl;
    void *room = reserve_again(tls, head, length);
    uint64_t sign, since, stalled = 0;
    long pause = PAUSE_NS;

    if (room)
        return room;
    ring_bell(tls);
    if (!may_wait())
        return NULL;
    atomic_fetch_add_explicit(&neap_process->data->waits, 1, memory_order_relaxed);
    sign = atomic_load_explicit(&ctl->now_ns, memory_order_relaxed);
    since = clock_ns();
    while (stalled < STALL_EVENT_NS && may_wait()) {
        uint64_t now_ns;

        neap_sys_sleep_ns(pause);
        pause = pause < PAUSE_MAX_NS ? 2 * pause : pause;
        room = reserve_again(tls, head, length);
        if (room && *head - tls->tail <= GO_ON)
            return room;
        ring_bell(tls);
        now_ns = atomic_load_explicit(&ctl->now_ns, memory_order_relaxed);
        if (now_ns != sign) {
            sign = now_ns;
            since = clock_ns();
            stalled = 0;
        } else {
            uint64_t silence = clock_ns() - since;

            /* The first ticks of silence are its ordinary pause. */
            if (silence > 10000000ull && silence > stalled) {
                atomic_fetch_add_explicit(&neap_process->stalled_ns, silence - stalled,
                                          memory_order_relaxed);
                stalled = silence;
            }
        }
    }
    if (room)
        return room;
    atomic_store_explicit(&neap_process->data->inexact, 1, memory_order_relaxed);
    return NULL;
}

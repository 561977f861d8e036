/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lanes: single-producer, single-consumer rings in shared memory.
 *
 * Two memfds carry a process's recording.
 *
 *   data  written by the target, one per process:
 *           page 0       struct neap_data_header
 *           lane i at    NEAP_LANE_OFFSET(i): one page of header, then
 *                        NEAP_LANE_BYTES of records
 *           at NEAP_TABLE_OFFSET the table of sampled live blocks (table.h)
 *   ctl   written by the collector, one per recording, mapped read-only by
 *         targets (F_SEAL_FUTURE_WRITE):
 *           page 0       struct neap_ctl_header: clock, bell, end of recording
 *           slot s at    NEAP_CTL_SLOT_OFFSET(s): the read positions of one
 *                        process's lanes
 *
 * Positions are byte counts that only grow; position p is at byte
 * p % NEAP_LANE_BYTES. head - tail is what waits to be read and never exceeds
 * NEAP_LANE_BYTES. The producer fills a record and then publishes it by storing
 * head (release); the consumer loads head (acquire), reads, and stores its tail
 * (release), which the producer loads (acquire) before it overwrites.
 *
 * Each record is published at once, so a sudden death of the target loses
 * nothing: the memory belongs to the collector.
 *
 * A lane belongs to the thread that moved `owner` from 0 to its tid. Giving it
 * back (owner = 0, release) needs no word from the collector: the next owner goes
 * on where the last one stopped, after a THREAD record.
 *
 * The consumer trusts nothing it finds in data: it keeps its own tail, takes
 * head modulo the lane, and copies bytes before it decodes them.
 */
#ifndef NEAP_SCHEMA_WIRE_RING_H
#define NEAP_SCHEMA_WIRE_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "schema/attr.h"
#include "schema/wire/event.h"
#include "schema/wire/table.h"

#define NEAP_PAGE           4096u
#define NEAP_LANE_BYTES     (256u << 10)
#define NEAP_LANE_STRIDE    (NEAP_PAGE + NEAP_LANE_BYTES)
#define NEAP_LANES_MAX      1024u
#define NEAP_LANE_OFFSET(i) ((uint64_t)NEAP_PAGE + (uint64_t)(i)*NEAP_LANE_STRIDE)
#define NEAP_TABLE_OFFSET   NEAP_LANE_OFFSET(NEAP_LANES_MAX) /* see table.h */
#define NEAP_DATA_BYTES     (NEAP_TABLE_OFFSET + NEAP_TABLE_BYTES)

#define NEAP_CTL_SLOT_BYTES (8u * NEAP_LANES_MAX)
#define NEAP_CTL_SLOTS_MAX  16384u
#define NEAP_CTL_SLOT_OFFSET(s) \
    ((uint64_t)NEAP_PAGE + (uint64_t)(s)*NEAP_CTL_SLOT_BYTES)
#define NEAP_CTL_BYTES  NEAP_CTL_SLOT_OFFSET(NEAP_CTL_SLOTS_MAX)

#define NEAP_DATA_MAGIC 0x61746164706165ull /* "eapdata" */
#define NEAP_CTL_MAGIC  0x6c74637061656eull /* "neapctl" */

/* Page 0 of data. Written by the target; counters only grow. */
struct neap_data_header {
    uint64_t magic;             /* stored by the collector before it passes the fd */
    _Atomic uint32_t lanes;     /* lanes ever claimed: i < lanes may hold records */
    _Atomic uint32_t multi;     /* the process has had several threads */
    _Atomic uint64_t lane_loss; /* events of threads that found no lane */
    _Atomic uint64_t lane_loss_bytes;
    _Atomic uint64_t stacks_truncated; /* walks that ended before the root */
    _Atomic uint64_t verified; /* traces compared with libunwind's (NEAP_VERIFY) */
    _Atomic uint64_t verify_differences;
    _Atomic uint64_t fallbacks;        /* walks that needed more than plain rules */
    _Atomic uint64_t table_loss;       /* samples that found no room in the table */
    _Atomic uint64_t table_loss_bytes; /* what they would have stood for, about */
    _Atomic uint64_t waits;            /* times an event waited for the collector */
    _Atomic uint32_t inexact;          /* the `block` policy gave up waiting */
};

/* First page of a lane, written by its owner. */
struct neap_lane {
    _Atomic uint32_t owner; /* tid, 0 = free */
    uint32_t reserved;
    _Atomic uint64_t head;        /* pairs with the acquire in neap_lane_readable */
    _Atomic uint64_t lost_events; /* refused because the lane was full */
    _Atomic uint64_t lost_bytes;
    _Atomic uint64_t lost_stacks;
    uint8_t pad[NEAP_PAGE - 40];
    uint8_t data[]; /* NEAP_LANE_BYTES */
};
NEAP_ASSERT_SIZE(struct neap_lane, NEAP_PAGE);

/* What targets are to record at this moment. */
enum neap_mode {
    NEAP_MODE_OFF = 0, /* dormant: nothing new */
    NEAP_MODE_EXACT,
    NEAP_MODE_SAMPLED,
};

/*
 * Page 0 of ctl, written by the collector. Targets load `mode` at each allocation, so
 * it has a cache line to itself with what else seldom changes; a forked child keeps
 * this page mapped, since its first allocation comes before it has connected anew.
 */
struct neap_ctl_header {
    uint64_t magic;
    _Atomic uint64_t now_ns; /* clock word: ns since the recording's start */
    _Atomic uint32_t bell;   /* futex: a target rings it when it wants to be read */
    _Atomic uint32_t
        asleep; /* the reader waits longer than a tick: ring, if you must */
    _Atomic uint32_t closed; /* the recording has ended: record nothing more */
    uint8_t pad[64 - 28];
    _Atomic uint32_t mode; /* enum neap_mode */
    uint32_t reserved;
    _Atomic uint64_t interval; /* mean bytes between samples; only grows */
};
_Static_assert(offsetof(struct neap_ctl_header, mode) == 64, "a cache line of its own");

/*
 * Order stamps. Any counter that is monotonic over the cores of one machine
 * will do: it is compared within one process's lanes only.
 */
NEAP_ALWAYS_INLINE uint64_t neap_stamp(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t value;

    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(value));
    return value;
#else
#error "no time stamp counter known for this architecture"
#endif
}

/* ---- producer ---- */

/*
 * Room for `length` bytes at `head`, given the last tail seen. Writes a PAD when
 * the lap is too short for it and moves `*head` over it. NULL if full: load the
 * tail again, then wait or give up. Nothing is visible before neap_lane_publish.
 */
NEAP_ALWAYS_INLINE void *neap_lane_reserve(struct neap_lane *lane, uint64_t *head,
                                           uint64_t tail, uint32_t length)
{
    uint32_t at = (uint32_t)(*head % NEAP_LANE_BYTES);
    uint32_t rest = NEAP_LANE_BYTES - at;

    if (NEAP_UNLIKELY(rest < length)) {
        if (*head + rest + length - tail > NEAP_LANE_BYTES)
            return NULL;
        *(uint64_t *)(void *)(lane->data + at) = neap_ev_head(NEAP_EV_PAD, 0, 0);
        *head += rest;
        at = 0;
    } else if (NEAP_UNLIKELY(*head + length - tail > NEAP_LANE_BYTES)) {
        return NULL;
    }
    return lane->data + at;
}

/* Make everything before `head` readable. */
NEAP_ALWAYS_INLINE void neap_lane_publish(struct neap_lane *lane, uint64_t head)
{
    atomic_store_explicit(&lane->head, head, memory_order_release);
}

/* ---- consumer ---- */

struct neap_lane_view {
    const struct neap_lane *lane;
    _Atomic uint64_t *tail_word; /* in ctl */
    uint64_t tail;               /* ours; the word only mirrors it */
};

/*
 * Bytes that may be read in one piece from `view->tail`; 0 = none. Never more
 * than the rest of the lap. `*ret_corrupt` is set if head makes no sense.
 */
uint32_t neap_lane_readable(const struct neap_lane_view *view, bool *ret_corrupt);

/* The first unread byte. */
static inline const uint8_t *neap_lane_bytes(const struct neap_lane_view *view)
{
    return view->lane->data + view->tail % NEAP_LANE_BYTES;
}

/* Give `length` bytes back to the producer. */
void neap_lane_consume(struct neap_lane_view *view, uint32_t length);

#endif

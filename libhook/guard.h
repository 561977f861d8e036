/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each thread carries: who is inside, and its lane.
 *
 * `busy` says what this thread is doing in the hook, so that a call which arrives
 * meanwhile (from the allocator itself, from libc on our behalf, from a signal
 * handler) is only forwarded. One initial-exec TLS object: global-dynamic TLS costs
 * 5 to 18 ns an access and may itself allocate.
 */
#ifndef NEAP_LIBHOOK_GUARD_H
#define NEAP_LIBHOOK_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "schema/attr.h"
#include "schema/wire/ring.h"

enum neap_busy {
    NEAP_IDLE = 0,
    NEAP_ALLOCATING, /* in the real allocator: its mmap calls are recorded, and that is
                        all; its calls of malloc & co. are its own business */
    NEAP_RECORDING,  /* writing a record: nothing nested can be recorded */
    NEAP_INTERNAL,   /* calling libc for ourselves: nothing nested is the program's */
};

struct neap_memo;

/* What every event touches stands first, in one cache line. */
struct neap_tls {
    int64_t left; /* bytes until the next sample; entry.c knows that it stands first */
    uint8_t busy; /* enum neap_busy */
    bool settled; /* neap_life_settle has run for this thread */
    bool keyed;   /* our pthread key is set: the thread's end will be seen */
    bool retired; /* its end was seen; what still comes holds a lane only briefly */
    bool found;   /* met modules that are still to be announced */
    uint16_t connection;         /* that the lane, and all that goes with it, is of */
    struct neap_lane *lane;      /* NULL: none claimed yet */
    uint64_t head, tail;         /* of the lane: ours, and the last seen */
    uint64_t now_ns;             /* clock word when TIME was last written */
    uint64_t base_stamp;         /* TIME.stamp; deltas count from it */
    uint64_t limit;              /* of head: beyond it, look at the tail again */
    struct neap_memo *memo;      /* of the last walk; NULL: none */
    uint64_t stack_lo, stack_hi; /* the thread's own stack; 0 = not known yet */
    const _Atomic uint64_t *tail_word; /* the collector's read position, in ctl */
    uint64_t interval;                 /* `left` was drawn with; 0 = never drawn */
    uint64_t random;                   /* the generator's state; 0 = not seeded */
    const void *sampled;               /* the last block that was, and */
    int64_t sampled_left;              /* what `left` was after it */
    uint64_t rung_ns;                  /* clock word when the bell was last wanted, */
    uint32_t rings;                    /* and how often since it moved */
    uint64_t named_ns;                 /* when the thread's name was last looked up */
    uint32_t tid;
    char name[16];
} __attribute__((aligned(64)));
_Static_assert(offsetof(struct neap_tls, left) == 0, "entry.c counts on it");
_Static_assert(offsetof(struct neap_tls, limit) == 56, "one cache line");

extern __thread struct neap_tls neap_tls __attribute__((tls_model("initial-exec")));

/* neap_enter's rare ways: the image's first call, a nested one, one that is not for us.
 */
bool neap_enter_slowly(struct neap_tls *tls);

/* Where a hooked function was called from: the caller's registers at the call. */
struct neap_context {
    uint64_t pc; /* return address */
    uint64_t sp; /* stack pointer after the return */
    uint64_t bp; /* frame pointer register */
};

/*
 * Only in an entry point itself, never in something inlined into it. Asking for
 * frame address 0 makes the compiler set up a frame pointer there, so the caller's
 * registers are at fixed places and our own frame needs no unwinding.
 */
#define NEAP_CALLER()                                               \
    ((struct neap_context){                                         \
        .pc = (uint64_t)(uintptr_t)__builtin_return_address(0),     \
        .sp = (uint64_t)(uintptr_t)__builtin_frame_address(0) + 16, \
        .bp = *(const uint64_t *)__builtin_frame_address(0),        \
    })

#endif

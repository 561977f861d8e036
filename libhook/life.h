/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a recorded process: start, fork, exec, end.
 *
 * struct neap_process lies in memory that a forked child finds zeroed, so `phase`
 * is at once the on/off switch and the way a child learns that it is one: every
 * event loads it, for 0.3 ns. Only life.c writes phase.
 */
#ifndef NEAP_LIBHOOK_LIFE_H
#define NEAP_LIBHOOK_LIFE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "libhook/guard.h"
#include "schema/wire/hello.h"
#include "schema/wire/ring.h"

enum neap_phase {
    NEAP_PHASE_NEW = 0, /* fresh image, or a forked child: not connected yet */
    NEAP_PHASE_CONNECTING,
    NEAP_PHASE_ON,
    NEAP_PHASE_OFF, /* not recorded, for the rest of the image's life */
};

#define NEAP_LANE_GROUP  16u /* lanes mapped at a time */
#define NEAP_LANE_GROUPS (NEAP_LANES_MAX / NEAP_LANE_GROUP)

/* The counter of one shard, on a cache line of its own. */
struct neap_order {
    _Atomic uint32_t next;
    uint8_t pad[60];
};

struct neap_process {
    _Atomic uint32_t phase; /* release by life.c, acquire by whoever acts on ON */
    _Atomic bool multi;     /* several threads have been seen; never goes back */
    _Atomic bool exact;     /* allocations have been recorded one by one */
    /* Which of those that this image and its children made; 0: none yet. In a forked
     * child the thread that forked has its parent's lane, whoever connects: it knows by
     * this that it must not be used. Each thread compares it with its own: relaxed. */
    _Atomic uint16_t connection;
    uint32_t policy; /* enum neap_policy */
    uint32_t pid;
    const struct neap_ctl_header *ctl;           /* read-only */
    const _Atomic uint64_t *tails;               /* read-only: our slot of ctl */
    struct neap_data_header *data;               /* followed by the lanes of group 0 */
    _Atomic(uint8_t *) groups[NEAP_LANE_GROUPS]; /* address of a group's first lane */
    struct neap_memo *memos[NEAP_LANES_MAX];     /* used by a lane's owner */
    _Atomic uint32_t group_lock;
    _Atomic uint32_t module_lock;
    _Atomic uint64_t epoch; /* low half: generation of the module list, which grows when
                               one is unloaded; high half: dlcloses under way */
    _Atomic uint64_t stalled_ns; /* waited for a collector that gave no sign of life */
    _Atomic(struct neap_table *) table; /* sampled live blocks; NULL: none yet */
    _Atomic uint32_t table_used;        /* keys in it, about */
    _Atomic uint32_t table_above;       /* samples put in above NEAP_TABLE_HIGH */
    _Atomic uint64_t interval;          /* our own, raised above the recording's */
    _Atomic uint32_t ordinal;           /* of the next thread that is seeded */
    struct neap_order order[NEAP_ORDER_SHARDS];
};

extern struct neap_process *neap_process; /* NULL before neap_life_begin succeeded */

/*
 * First call of the image: find the next allocator, make our memory, read the
 * environment. Any thread may come first; nested calls are served from the bootstrap
 * heap meanwhile. Afterwards neap_real.ready holds.
 */
void neap_life_begin(void);

/* Be connected, or know that we never shall be. True: phase is ON. */
bool neap_life_connect(struct neap_tls *tls);

/* Learn the thread's stack, and arrange to see its end. Calls libc. */
void neap_life_settle(struct neap_tls *tls);

/* What survives exec: the variables that children are to have, as this image got them.
 */
struct neap_life_env {
    bool active;     /* recorded, and children are to be */
    char hook[4096]; /* our own path, as LD_PRELOAD named it */
    char socket[108];
    /* "" where there is none, or it makes no sense */
    char allocator[8], check[4], error[12];
};
extern struct neap_life_env neap_life_env;

#endif

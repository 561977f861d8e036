/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The collector's one wait: descriptors, the bell, and a pace.
 *
 * One thread owns a loop and calls everything here. A handler may remove any watch,
 * its own included. Nothing sleeps but neap_loop_wait.
 */
#ifndef NEAP_DAEMON_LOOP_H
#define NEAP_DAEMON_LOOP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "daemon/source/source.h"
#include "schema/base/error.h"

struct neap_watch {
    int fd;
    void (*ready)(void *context);
    void *context;
};

struct neap_loop;

struct neap_error *neap_loop_create(struct neap_loop **ret) NEAP_MUST_CHECK;
/* Closes no descriptor but its own. Takes NULL. */
void neap_loop_destroy(struct neap_loop *loop);

/* `watch` belongs to the caller and stays where it is until it is removed. */
struct neap_error *neap_loop_add(struct neap_loop *loop,
                                 struct neap_watch *watch) NEAP_MUST_CHECK;
void neap_loop_remove(struct neap_loop *loop, struct neap_watch *watch);
/* Wait up to `timeout_ns` and call what is ready. True if anything was. */
bool neap_loop_wait(struct neap_loop *loop, uint64_t timeout_ns);

/*
 * A thread that wakes the loop whenever a target rings `word` (FUTEX_WAKE). The word
 * itself never changes: targets cannot write it.
 */
struct neap_error *neap_loop_bell_start(struct neap_loop *loop,
                                        _Atomic uint32_t *word) NEAP_MUST_CHECK;

/*
 * While the owner is busy with something else than its loop, the bell's thread calls
 * `tick` every few milliseconds, for a bounded time: targets take a clock that stands
 * still for a collector that is stopped, and stop waiting for it. NULL ends it.
 */
void neap_loop_busy(struct neap_loop *loop, void (*tick)(void *context), void *context);

/* ---- pace ---- */

#define NEAP_PACE_TICK_NS 1000000ull /* while events flow */

struct neap_pace {
    uint64_t delay_ns; /* 0 = not started */
};

/* How long to sleep after a pass that found `activity`. */
uint64_t neap_pace_next(struct neap_pace *pace, enum neap_activity activity);

#endif

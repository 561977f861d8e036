/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One recorded program image: its lanes, its pidfd, its part of the ingest.
 *
 * It is made when the image says HELLO and ends once, by neap_target_end. Between
 * these its pidfd is watched; that it became readable is only noted, in `gone`, so
 * that nothing disappears under a pass over all targets.
 */
#ifndef NEAP_DAEMON_TARGET_H
#define NEAP_DAEMON_TARGET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/ingest/ingest.h"
#include "daemon/loop.h"
#include "daemon/source/ctl.h"
#include "daemon/source/ring_source.h"
#include "schema/wire/hello.h"

struct neap_target_context { /* what all targets of a recording share */
    struct neap_ingest *ingest;
    struct neap_loop *loop;
    struct neap_ctl *ctl;
    bool sampled; /* if anything is recorded, it is samples */
};

struct neap_target {
    const struct neap_target_context *context;
    struct neap_ingest_process *ingest;
    struct neap_ring_source *source;
    struct neap_watch watch; /* its pidfd */
    pid_t pid;
    uint32_t slot;
    bool gone;        /* the pidfd said so */
    uint64_t gone_ns; /* when that was noticed; 0 = not yet */
    bool said_exit;   /* it told its own status, for want of a better source */
    int32_t exit_code;
    uint32_t events; /* taken, modulo 2^32 */
};

/* Takes `*pidfd` over (and sets it to -1) if it succeeds. `context` outlives it. */
struct neap_error *neap_target_create(const struct neap_target_context *context,
                                      pid_t pid, int *pidfd, bool main,
                                      const struct neap_hello *hello,
                                      struct neap_target **ret) NEAP_MUST_CHECK;
/* Lets go of everything but the ingest's part. Takes NULL. */
void neap_target_destroy(struct neap_target *target);

/* Whether the process has ended by now; `gone` is up to date afterwards. */
bool neap_target_poll(struct neap_target *target);
/* Hand its losses and counters on. */
void neap_target_counters(struct neap_target *target);
/* Read what is left and tell the ingest. `end->end_ns` is filled in here. */
void neap_target_end(struct neap_target *target, struct neap_ring_scratch *scratch,
                     const struct neap_process_end *end);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The distinct stacks of a recording: lists of locations, shared by all processes.
 *
 * Equal lists are one stack, whatever hash a target gave them. A stack that has been
 * made is stored with the next commit, named or not, so that a collector that is
 * killed leaves no number without its stack. It is final when all its locations are
 * answered: only then inlined frames are in and start-up frames are out; if it was
 * stored before, it is updated, once. Ids never change.
 *
 * Numbers are indices from 0; ids in the recording are these plus 1.
 */
#ifndef NEAP_DAEMON_INGEST_STACKS_H
#define NEAP_DAEMON_INGEST_STACKS_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/ingest/names.h"
#include "schema/base/map.h"
#include "schema/base/str.h"
#include "schema/base/vec.h"

#define NEAP_STACK_NONE UINT32_MAX

struct neap_stack {
    uint64_t first; /* of its locations */
    uint32_t depth; /* at least 1 */
    bool truncated;
    bool stored;
};

struct neap_stacks {
    struct neap_names names;
    NEAP_VEC(struct neap_stack) stacks;
    NEAP_VEC(uint32_t) locations;
    NEAP_VEC(uint32_t) pending; /* not yet stored in their final form */
    struct neap_map index;
    uint32_t unknown; /* the stack of what has none, NEAP_STACK_NONE until needed */
};

struct neap_error *neap_stacks_init(struct neap_stacks *stacks) NEAP_MUST_CHECK;
void neap_stacks_deinit(struct neap_stacks *stacks);

/* The number of a stack (depth >= 1). NEAP_STACK_NONE: no memory. */
uint32_t neap_stacks_add(struct neap_stacks *stacks, const uint32_t *locations,
                         uint32_t depth, bool truncated);

/*
 * The stack of what has no frames: one frame without module or name, truncated.
 * NEAP_STACK_NONE: no memory.
 */
uint32_t neap_stacks_unknown(struct neap_stacks *stacks);

/* Are all names there that its final form needs? */
bool neap_stack_final(const struct neap_stacks *stacks, uint32_t number);

/* Set `ret` to the JSON array of the stack's frame ids as they are now. */
void neap_stack_frames(const struct neap_stacks *stacks, uint32_t number,
                       struct neap_str *ret);

/* A commit has stored all pending stacks as they are now. */
void neap_stacks_stored(struct neap_stacks *stacks);

#endif

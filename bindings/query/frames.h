/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a stack's id to its frames. Frames are shared by many stacks, so each is read
 * once for an answer. What is returned lives in the arena of that answer.
 */
#ifndef NEAP_BINDINGS_QUERY_FRAMES_H
#define NEAP_BINDINGS_QUERY_FRAMES_H

#include "bindings/query/arena.h"
#include "bindings/query/recording.h"

struct neap_frames_slot {
    int64_t id;
    const struct neap_frame *frame; /* NULL: the slot is free */
};

struct neap_frames {
    struct neap_recording *recording;
    struct neap_arena *arena;
    sqlite3_stmt *stack, *frame;
    struct neap_frames_slot *slots; /* a power of two of them, at most half in use */
    size_t size, used;
};

struct neap_error *neap_frames_init(struct neap_frames *frames,
                                    struct neap_recording *recording,
                                    struct neap_arena *arena) NEAP_MUST_CHECK;
void neap_frames_deinit(struct neap_frames *frames);

/* Fill in depth, truncated and frames of `row`, whose stack_id is set. */
struct neap_error *neap_frames_load(struct neap_frames *frames,
                                    struct neap_row *row) NEAP_MUST_CHECK;

/* The stack in a column of `stmt`; NULL there is none. */
struct neap_error *neap_frames_trace(struct neap_frames *frames, sqlite3_stmt *stmt,
                                     int column,
                                     struct neap_trace *ret) NEAP_MUST_CHECK;
struct neap_error *neap_frames_of(struct neap_frames *frames, int64_t stack_id,
                                  struct neap_trace *ret) NEAP_MUST_CHECK;

#endif

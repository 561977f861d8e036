/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of one answer: taken piece by piece, given back all at once.
 *
 * Pieces are aligned for any type, filled with zeros, and stay where they are. A
 * zeroed struct is an empty arena. Returns NULL when there is no memory.
 */
#ifndef NEAP_BINDINGS_QUERY_ARENA_H
#define NEAP_BINDINGS_QUERY_ARENA_H

#include <stddef.h>

#include "schema/attr.h"

struct neap_arena_block;

struct neap_arena {
    struct neap_arena_block *blocks; /* the newest first */
};

void *neap_arena_alloc(struct neap_arena *arena, size_t count,
                       size_t size) NEAP_MUST_CHECK;
/* A copy of `length` bytes with a zero behind them. */
char *neap_arena_copy(struct neap_arena *arena, const void *bytes,
                      size_t length) NEAP_MUST_CHECK;
void neap_arena_deinit(struct neap_arena *arena);

#endif

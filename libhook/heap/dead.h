/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Heaps whose thread has ended.
 *
 * Of such a heap the spans that have blocks to give are orphans, which any thread in
 * need of one takes over; its full ones stay with it until somebody frees a block of
 * theirs, or until a new thread takes the heap as its own. Dying and taking over are
 * done under the lock. A heap that a fork left behind is dead as well, but stale: its
 * thread may have been anywhere. Its live bits are the truth; its lists are made anew
 * from them when it is taken.
 */
#ifndef NEAP_LIBHOOK_HEAP_DEAD_H
#define NEAP_LIBHOOK_HEAP_DEAD_H

#include "libhook/heap/types.h"

void neap_dead_begin(void);

/* The heap is dead from here on. Caller is its thread, at its end, and holds the lock.
 */
void neap_dead_add(struct neap_local *local);
/* A dead one, for a new thread. NULL: there is none. Caller holds the lock. */
struct neap_local *neap_dead_adopt(void);
/* In the child of a fork: all but `mine` are, and stale. Caller holds the lock. */
void neap_dead_forked(const struct neap_local *mine);

/* A span of the class that has free blocks, now `local`'s and in no list, or NULL.
 * Caller holds the lock. */
struct neap_span *neap_dead_inherit(struct neap_local *local, unsigned class);

/* Something has come into the queue of a heap that may be dead. */
void neap_dead_help(struct neap_local *local);

/*
 * Before the free of a dead heap's block; `mine` may be NULL. If the caller has no span
 * of the class to allocate from, or frees in the same span as the last time, it takes
 * the span over: true, it is `mine`. Else the span is left to whoever needs one:
 * threads that come and go would otherwise hoard what they happened to free in.
 */
bool neap_dead_claim(struct neap_local *mine, struct neap_span *span);

/* The bit of a dead heap's block has been set in remote[]. `units` of the span if it
 * was the last block of it, else 0. */
void neap_dead_freed(struct neap_span *span, uint32_t units);

#endif

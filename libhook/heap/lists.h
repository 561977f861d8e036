/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lists of a heap: in which state its spans are. Of the heap's thread alone, or, if
 * that has ended, of who holds the lock.
 */
#ifndef NEAP_LIBHOOK_HEAP_LISTS_H
#define NEAP_LIBHOOK_HEAP_LISTS_H

#include "libhook/heap/types.h"

extern _Atomic uint64_t neap_lists_no_word; /* for a class that has no current span */

void neap_lists_ready_add(struct neap_local *local, struct neap_span *span);
void neap_lists_ready_remove(struct neap_local *local, struct neap_span *span);
void neap_lists_no_current(struct neap_local *local, unsigned class);
void neap_lists_set_current(struct neap_local *local, struct neap_span *span);

/* The free blocks of a word of the current span are the heap's. False: there are none.
 */
bool neap_lists_hold_word(struct neap_kind *kind, struct neap_span *span,
                          unsigned word);
bool neap_lists_hold_any_word(struct neap_kind *kind, struct neap_span *span);

/* Out of the lists, to the pool; takes the lock, unless `locked`. */
void neap_lists_release(struct neap_local *local, struct neap_span *span, bool locked);
/* A ready span that is empty: kept, or released. */
void neap_lists_emptied(struct neap_local *local, struct neap_span *span, bool locked);
/* One that was kept, or NULL. */
struct neap_span *neap_lists_idle_take(struct neap_local *local, unsigned class);
/* All that the heap keeps without need. Caller holds the lock. */
void neap_lists_release_idle(struct neap_local *local);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Spans of small blocks: made, asked, given back. */
#ifndef NEAP_LIBHOOK_HEAP_SPAN_H
#define NEAP_LIBHOOK_HEAP_SPAN_H

#include "libhook/heap/types.h"

/* A new one for `owner`, in no list. NULL: no memory. Caller holds the lock. */
struct neap_span *neap_span_take(unsigned class, uintptr_t owner);
/* An empty one, in no list. Caller holds the lock. */
void neap_span_give(struct neap_span *span);

/* Owner's: take over what others freed. False: that was nothing. */
bool neap_span_collect(struct neap_span *span);
bool neap_span_has_remote(
    struct neap_span *span); /* is there something to take over? */
/* Owner's: no stack has blocks of it any more. */
void neap_span_let_go(struct neap_span *span);
/* Owner's: is no block held, as far as collected? Has it one to give? */
bool neap_span_is_empty(const struct neap_span *span);
bool neap_span_has_free(const struct neap_span *span);

/* Block's number. False: `address` is not the start of a block of the small span. */
NEAP_ALWAYS_INLINE bool neap_span_index(const struct neap_span *span, uintptr_t address,
                                        uint32_t *ret)
{
    uint64_t offset = address - span->start;
    uint32_t index = (uint32_t)((offset >> 4) * span->recip >> 31);

    *ret = index;
    return (uint64_t)index * span->size == offset;
}

uint32_t neap_span_units(unsigned class);
uint32_t neap_span_capacity(unsigned class);

#endif

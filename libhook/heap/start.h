/* SPDX-License-Identifier: Apache-2.0 */
/* The heap's beginning. */
#ifndef NEAP_LIBHOOK_HEAP_START_H
#define NEAP_LIBHOOK_HEAP_START_H

#include <stdatomic.h>
#include <stdbool.h>

#include "schema/attr.h"

extern _Atomic bool neap_heap_begun;
void neap_heap_start_slowly(void);

/* Slow ways come by here first. */
static inline void neap_heap_start(void)
{
    /* Pairs with the release in neap_heap_begin. */
    if (NEAP_UNLIKELY(!atomic_load_explicit(&neap_heap_begun, memory_order_acquire)))
        neap_heap_start_slowly();
}

#endif

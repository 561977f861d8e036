/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Patterns that checks put where the program has nothing to write: behind a block, and
 * into freed ones. A byte of them depends on its address and on a secret of the
 * process, so that what is copied from elsewhere does not pass; it is never 0, a letter
 * or 0xff, which is what overflows write most.
 */
#ifndef NEAP_LIBHOOK_HEAP_FILL_H
#define NEAP_LIBHOOK_HEAP_FILL_H

#include <stddef.h>
#include <stdint.h>

enum neap_fill {
    NEAP_FILL_CANARY,
    NEAP_FILL_POISON,
};

void neap_fill_begin(void);
void neap_fill(enum neap_fill fill, uintptr_t from, size_t size);
/* The first byte that is not as filled; 0: all are. */
uintptr_t neap_fill_changed(enum neap_fill fill, uintptr_t from, size_t size);

#endif

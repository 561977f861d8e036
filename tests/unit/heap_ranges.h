/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The address space as an observer is told of it: ranges, none touching another, which
 * its changes are applied to. For one thread at a time.
 */
#ifndef NEAP_TESTS_UNIT_HEAP_RANGES_H
#define NEAP_TESTS_UNIT_HEAP_RANGES_H

#include <stdint.h>

#include "libhook/heap/heap.h"

#define HEAP_RANGES 4096u
struct heap_range {
    uint64_t start, end;
};
extern struct heap_range heap_ranges[HEAP_RANGES];
extern unsigned heap_range_count;
extern unsigned heap_ranges_wrong; /* changes that do not fit what was there */

void heap_ranges_apply(const struct neap_heap_change *change);
uint64_t heap_ranges_bytes(void);

#endif

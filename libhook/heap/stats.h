/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mallinfo, malloc_info, malloc_stats and mallopt of glibc, for this heap. What has no
 * like here (fast bins, arenas' own limits) is 0, or taken and passed over.
 */
#ifndef NEAP_LIBHOOK_HEAP_STATS_H
#define NEAP_LIBHOOK_HEAP_STATS_H

#include <malloc.h>

#pragma GCC visibility push(default)

/*
 * arena     bytes mapped for all but blocks that have a mapping; metadata too
 * ordblks   free blocks and runs there, keepcost the bytes of the largest free run
 * uordblks  bytes of live blocks there, as served
 * fordblks  the rest: arena - uordblks
 * hblks     live blocks that have a mapping, hblkhd the bytes of those mappings
 */
struct mallinfo2 neap_heap_mallinfo2(void);
/* The same; what is above INT_MAX is INT_MAX. */
struct mallinfo neap_heap_mallinfo(void);

/* XML in the form of glibc's. `options` must be 0. 0, or the number of the error. A
 * heap is one thread's, or was; number 0 is what belongs to none. */
int neap_heap_info(int options, FILE *stream);

/* To standard error. */
void neap_heap_stats(void);

/* 1: `parameter` is one of <malloc.h>'s and `value` one that it can have; else 0. */
int neap_heap_option(int parameter, int value);

#pragma GCC visibility pop

#endif

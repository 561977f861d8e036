/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocations of a real program: what libtrace.so writes of it, and what fold makes of
 * that for replay to do again.
 */
#ifndef NEAP_TESTS_BENCH_TRACE_H
#define NEAP_TESTS_BENCH_TRACE_H

#include <stdint.h>

/* Threads are folded into one: in the order in which they took the lock. */
enum trace_op {
    TRACE_MALLOC = 1,
    TRACE_CALLOC,
    TRACE_REALLOC, /* from `old`; size 0 and no block is never written */
    TRACE_ALIGNED,
    TRACE_FREE, /* of `block` */
};

struct trace_call {
    uint64_t op : 8, size : 56;
    uint64_t block, old;
    uint64_t align;
};

/* Blocks by the slot they are in; a freed block's slot is used again. */
struct trace_step {
    uint32_t op : 3, slot : 29;
    uint32_t size; /* ALIGNED: the shift of the alignment is in the top 5 bits */
};

#define TRACE_SIZE_BITS 27

struct trace_head {
    uint64_t steps, slots;
};

#endif

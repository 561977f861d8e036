/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the heap is made of, from outside the threads that use it: every byte that the
 * kernel mapped for it has a name. With M the bytes mapped,
 *
 *     M = live + slack + free + meta
 *
 * holds exactly, for each segment and for the whole. Blocks that threads allocate and
 * free meanwhile count as what they are when the walk reads their bit. A block that a
 * heap has at hand for its thread, and one that the quarantine of check level 3 keeps,
 * is free: the program has no business with it.
 */
#ifndef NEAP_LIBHOOK_HEAP_WALK_H
#define NEAP_LIBHOOK_HEAP_WALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct neap_heap_sum {
    uint64_t mapped;   /* all of the below */
    uint64_t live;     /* blocks in use, as served: with what rounding added */
    uint64_t slack;    /* what no block covers: ends of spans, gaps for alignment */
    uint64_t free;     /* blocks and runs that nobody uses */
    uint64_t meta;     /* segments of metadata */
    uint64_t resident; /* of `mapped`, in memory as mincore() tells */
    uint64_t free_resident; /* of `resident`, whole kernel pages that hold something
                               free and no live byte */
    uint64_t live_count;    /* blocks */
    uint64_t free_count;    /* blocks, carved or not, and runs */
    uint64_t
        requested; /* of `live`, as asked for; from check level 1 on, else `live` */
};

enum neap_heap_kind {
    NEAP_HEAP_KIND_BRK = 1, /* grown by the break */
    NEAP_HEAP_KIND_MMAP,    /* a segment mapped for spans */
    NEAP_HEAP_KIND_LARGE,   /* one large block, or a free one kept for reuse */
    NEAP_HEAP_KIND_META,    /* metadata */
};

struct neap_heap_segment_view {
    enum neap_heap_kind kind;
    uint64_t address, size;
};

struct neap_heap_span_view {
    uint64_t address, size; /* all of the span, its slack included */
    uint64_t first;         /* address of block 0 */
    uint64_t block_size;    /* 0: a free run */
    uint32_t capacity;      /* blocks */
    uint32_t live;          /* of them in use */
    uint32_t heap;          /* whose it is: the heap's number, 0 = nobody's */
};

/* Each may be NULL. Called with the heap's lock held: no allocation from this heap in
 * it, as that would wait for itself. */
struct neap_heap_visitor {
    void *context;
    void (*segment)(void *context, const struct neap_heap_segment_view *segment);
    void (*span)(void *context, const struct neap_heap_span_view *span);
    void (*block)(void *context, uint64_t address, uint64_t size, bool live);
};

/* Visits, and sums into `*ret` (may be NULL). `resident`: ask the kernel for the
 * resident bytes as well, which takes a system call for each segment. */
void neap_heap_walk(const struct neap_heap_visitor *visitor, bool resident,
                    struct neap_heap_sum *ret);

/* Every invariant of types.h. NULL: all hold; else which one does not, in words. Other
 * threads must be still. From check level 1 on neap_check_scan is done as well, and
 * what that finds is reported: it is the program's mistake. */
const char *neap_heap_verify(void);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The nouns of the heap.
 *
 *   unit      16 KiB of address space, aligned: what spans are measured in.
 *   segment   a range of units the kernel gave in one piece (brk or mmap).
 *   run       neighbouring units of one segment that nobody uses: a free span.
 *   span      units that hold equal blocks of one size class, or one large block.
 *   block     what malloc hands out.
 *   heap      what one thread allocates from; it owns spans.
 *   pool      the free runs: one for spans of blocks and blocks below 1 MiB, one for
 *             the large ones.
 *
 * Invariants, all checked by neap_heap_verify:
 *
 *   segment = its spans and runs, back to back
 *   span    = start - base  +  capacity * size  +  tail          (small)
 *   live[], remote[] <= held[] <= carved blocks       (as sets of blocks)
 *   held[] - live[]  = the blocks on the owner's stack of the class, and kind->free
 *   a small span is in exactly one of these states, told by its limit:
 *       current  of its heap and class      limit 0
 *       ready    in its heap's list         limit 1     has a block to give
 *       full     in no list                 limit ~0    had none when it was last tried
 *       idle     in its heap's idle list    limit 2     empty, kept for the next use
 *   map[u] of each unit u of a small span, of the first unit of a large block and of
 * the first and last unit of a run is that span; all others are NULL
 *
 * Who may touch what: a span's `live`, `held`, `limit`, `carved` and links belong to
 * the thread that owns its heap (or, if the heap is dead, to who holds the lock);
 * `remote` and `queued` to all, atomically; runs, segments, the map and metadata to who
 * holds the lock. A span's structure never becomes something else, so that a late look
 * at it from another thread finds a span, though maybe another one (see queue.h,
 * queue).
 */
#ifndef NEAP_LIBHOOK_HEAP_TYPES_H
#define NEAP_LIBHOOK_HEAP_TYPES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "schema/attr.h"

#define NEAP_HEAP_PAGE  4096u
#define NEAP_UNIT_SHIFT 14
#define NEAP_UNIT       ((size_t)1 << NEAP_UNIT_SHIFT)
#define NEAP_LINE       64u

/* ---- size classes ----
 *
 * Multiples of 16 up to 128, then eight to each doubling: rounding is at most 12.5 %
 * above 128 bytes and below 16 bytes under it. */
#define NEAP_CLASSES   72u
#define NEAP_SMALL_MAX ((size_t)32 << 10)
#define NEAP_LARGE_MIN ((size_t)1 << 20) /* blocks from here on have a mapping */
#define NEAP_SIZE_MAX  ((size_t)PTRDIFF_MAX)

extern const uint8_t neap_class_small[1024 / 16 + 1];

NEAP_ALWAYS_INLINE unsigned neap_class_medium(size_t size)
{
    unsigned e = 63u - (unsigned)__builtin_clzll(size - 1);

    return 8 + (e - 7) * 8 + (unsigned)((size - 1) >> (e - 3) & 7);
}

/* Of a size up to NEAP_SMALL_MAX. */
NEAP_ALWAYS_INLINE unsigned neap_class_of(size_t size)
{
    if (NEAP_LIKELY(size <= 1024))
        return neap_class_small[(size + 15) >> 4];
    return neap_class_medium(size);
}

static inline uint32_t neap_class_size(unsigned class)
{
    if (class < 8)
        return (class + 1) * 16;
    return (9 + class % 8) << (4 + class / 8 - 1);
}

/* ---- spans ---- */

enum neap_span_state {
    NEAP_SPAN_NONE, /* the structure is not in use */
    NEAP_SPAN_RUN,
    NEAP_SPAN_SMALL,
    NEAP_SPAN_LARGE,
};

#define NEAP_LIMIT_CURRENT 0u
#define NEAP_LIMIT_READY   1u
#define NEAP_LIMIT_IDLE    2u
#define NEAP_LIMIT_FULL    (~(uint64_t)0)

/* owner's low bit: frees are to take the slow way, by marks or checks. */
#define NEAP_OWNER_SLOWLY ((uintptr_t)1)

/*
 * Two bitmaps: a block in use has its bit set in live[] and in held[]; a free one that
 * its heap has at hand, in held[] alone; one that the span has to give, in neither. So
 * live[] tells double frees, held[] what is left.
 *
 * What is here is all that a free by the owner reads, and live[] all that it writes.
 * The cold part ends in front of the structure; see neap_span_cold.
 */
struct neap_span {
    uintptr_t start; /* address of block 0 */
    _Atomic uintptr_t
        owner;      /* struct neap_local *, or with NEAP_OWNER_SLOWLY; 0: none */
    uint32_t size;  /* of a block; 0 for runs and large blocks */
    uint32_t recip; /* 2^31 / (size / 16), rounded up; 0 where size is */
    uint8_t state;
    uint8_t class;
    uint8_t words; /* of live[], held[] and remote[] */
    uint8_t kind;  /* of structure: neap_span_kind */
    _Atomic uint16_t
        carved; /* blocks that were ever made available, from the first on */
    uint16_t capacity;
    _Atomic uint64_t live[];
};
_Static_assert(offsetof(struct neap_span, live) == 32, "the first line has four words");

enum neap_queued {
    NEAP_QUEUED_NOT,
    NEAP_QUEUED,
    NEAP_QUEUED_COLLECTING, /* its owner is taking over what others freed */
    NEAP_QUEUED_PURGING,    /* another thread is giving back its pages */
};

/* What only slower ways need. */
struct neap_span_cold {
    struct neap_span *_Atomic queue_next; /* in the queue it is in, see queue.h */
    _Atomic uint32_t queued;              /* neap_queued */
    _Atomic uint32_t marks;               /* neap_heap_mark */
    struct neap_segment *segment;
    uintptr_t base; /* of its first unit */
    uint32_t units;
    uint32_t dirty; /* of a run: at most so many units may be resident; 0: it is zeroed.
                       Of a new span: as the run it was cut from */
    uint64_t limit; /* a held word that falls below it asks for a look at the span; of a
                       run: when it became one, in ms */
    struct neap_span *next; /* in the list of its state */
    struct neap_span *prev;
    union {
        uint64_t bytes;          /* large: the block as served */
        struct neap_span *older; /* runs that are dirty: by age */
    };
    struct neap_span *newer;
    void *_Atomic notes; /* what check.c keeps of its blocks, from check level 1 on */
    _Atomic uint64_t held[]; /* then remote[], backwards from the structure */
};
_Static_assert(offsetof(struct neap_span_cold, held) == 88, "");

/* Structures for up to 2, 4, 8 and 16 words, in lines. */
#define NEAP_SPAN_KINDS     4u
#define NEAP_SPAN_WORDS_MAX 16u
static const uint8_t neap_span_lines[NEAP_SPAN_KINDS] = {1, 1, 2, 3};
static const uint8_t neap_span_cold_lines[NEAP_SPAN_KINDS] = {2, 3, 4, 6};

static inline unsigned neap_span_kind(unsigned words)
{
    return words <= 2 ? 0 : words <= 4 ? 1 : words <= 8 ? 2 : 3;
}

NEAP_ALWAYS_INLINE struct neap_span_cold *neap_span_cold(const struct neap_span *span)
{
    return (struct neap_span_cold *)((char *)(uintptr_t)span -
                                     NEAP_LINE * neap_span_cold_lines[span->kind]);
}

NEAP_ALWAYS_INLINE _Atomic uint64_t *neap_span_remote(struct neap_span *span,
                                                      unsigned word)
{
    return (_Atomic uint64_t *)(void *)span - 1 - word;
}

/* ---- segments ---- */

enum neap_pool {
    NEAP_POOL_SMALL,
    NEAP_POOL_LARGE,
    NEAP_POOLS,
};

struct neap_segment {
    struct neap_segment *next; /* all of them */
    struct neap_segment *prev;
    uintptr_t base;  /* of the first unit */
    uintptr_t start; /* of what the kernel gave: the gap before `base` is slack */
    uint32_t units;
    uint32_t used; /* units in spans */
    uint8_t pool;
    bool brk;
};

/* ---- heaps ---- */

/* A free block on a heap's stack. */
struct neap_entry {
    void *block;
    _Atomic uint64_t *word; /* of live[], and the block's bit in it */
    uint64_t bit;
};

/* Where a heap allocates blocks of a class: its stack, then a word of its current span.
 */
struct neap_kind {
    struct neap_entry *top; /* one past the latest */
    struct neap_entry *bottom, *end;
    uint64_t free;          /* of the word: blocks that are this heap's to hand out */
    _Atomic uint64_t *held; /* the word of the current span that they are of */
    _Atomic uint64_t *live;
    uintptr_t first; /* address of the block of bit 0 */
    uint64_t size;
} __attribute__((aligned(64)));
_Static_assert(sizeof(struct neap_kind) == 64, "one line");

enum neap_local_state {
    NEAP_LOCAL_LIVE,
    NEAP_LOCAL_DEAD, /* its thread has ended: whoever holds the lock may act for it */
};

struct neap_local {
    struct neap_kind kind[NEAP_CLASSES];
    struct neap_span *current[NEAP_CLASSES];
    struct neap_span *ready[NEAP_CLASSES]; /* the latest first */
    struct neap_span *idle[NEAP_CLASSES];  /* by cold->next alone */
    uint32_t idle_units;
    uint32_t ticks; /* calls off the fast way until somebody looks at the clock */
    /* what others touch */
    struct neap_span *_Atomic queue __attribute__((aligned(64)));
    _Atomic size_t waiting; /* units in the queue that hold nothing any more */
    _Atomic uint32_t state __attribute__((aligned(64)));
    uint32_t number;
    bool stale; /* dead by a fork: its lists are not to be trusted, see queue.h */
    struct neap_local *next;      /* all of them */
    struct neap_local *next_dead; /* of those that are dead */
};

#endif

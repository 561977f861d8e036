/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records in flight: what libneap.so writes into a lane and neapd reads from it.
 *
 * Layout. A record is a multiple of 8 bytes, host-endian (both ends are one
 * machine), and never wraps: a PAD record fills the rest of a lap. Its first
 * word, the head, is
 *
 *     bits  0..7   kind     enum neap_ev_kind
 *     bits  8..31  seq      place in the order of one address (see below)
 *     bits 32..63  delta    time stamp counter minus the lane's last TIME.stamp
 *
 * Order. Two orders are kept, each for what needs it.
 *   - One address: ALLOC, FREE, SAMPLE and the REALLOC kinds with an address take
 *     `seq` from a counter that the address chooses (neap_order_shard). malloc takes it
 * after the real call, free before it, so the sequence of one shard is the order in
 *     which the allocator handed that memory round, whatever thread did it. The
 *     reader applies a shard's events strictly in sequence (mod 2^24).
 *   - One process: while it has several threads each record carries a stamp, and
 *     the reader merges lanes by it, so that a peak over several threads is a
 *     state the program was in. A delta of 0 means "no later than what follows":
 *     a single-threaded process takes no stamps (rdtsc costs more than the
 *     record).
 *
 * realloc(p, n) is REALLOC_FREE(p) before the real call and, after it,
 * REALLOC_ALLOC(q, n) in the same lane, or REALLOC_FAIL(p) if p stays as it was.
 * Both of the latter are the next record of that kind in the lane. REALLOC_DONE stands
 * for a REALLOC_ALLOC that is lost, or that nobody asked for (recording is off).
 *
 * Sampling. A sampled recording has SAMPLE and SAMPLE_FREE instead, of the few blocks
 * that were sampled and of no others. A realloc of a sampled block is SAMPLE_FREE with
 * NEAP_SAMPLE_REALLOC before the real call and after it REALLOC_DONE in the same lane,
 * or REALLOC_FAIL. What it returned may be sampled as any block, then with the flag
 * too.
 *
 * Stacks. An event names its stack by a 64-bit hash; the STACK record with the
 * frames comes at least once per hash, in any lane, before or after the event.
 * Time of day is coarse: TIME records precede the first event of a new tick.
 */
#ifndef NEAP_SCHEMA_WIRE_EVENT_H
#define NEAP_SCHEMA_WIRE_EVENT_H

#include <stdint.h>

#include "schema/attr.h"

/* kind, wire name, fixed size in bytes (0 = its own length field says) */
#define NEAP_EV_KINDS(X)                                                               \
    X(PAD, pad, 8)                    /* skip to the end of the lap */                 \
    X(TIME, time, 24)                 /* the lane's clock from here on */              \
    X(THREAD, thread, 40)             /* the lane's thread from here on */             \
    X(THREAD_END, thread_end, 8)      /* that thread gave the lane back */             \
    X(STACK, stack, 0)                /* frames of one hash */                         \
    X(MODULE, module, 0)              /* an ELF object and where it is mapped */       \
    X(ALLOC, alloc, 32)               /* malloc & co. returned a block */              \
    X(FREE, free, 16)                 /* a block is about to be freed */               \
    X(REALLOC_FREE, realloc_free, 16) /* realloc is about to give up the old block */  \
    X(REALLOC_ALLOC, realloc_alloc, 32) /* ... and got a block for it */               \
    X(REALLOC_FAIL, realloc_fail,                                                      \
      16)                            /* ... or failed: the old block is still there */ \
    X(SAMPLE, sample, 48)            /* a block was allocated, and sampled */          \
    X(SAMPLE_FREE, sample_free, 24)  /* a sampled block is about to be freed */        \
    X(REALLOC_DONE, realloc_done, 8) /* realloc succeeded; no word of the new block */ \
    X(MAP, map, 72)                  /* mmap, munmap, mremap, brk, madvise */          \
    X(EXIT, exit, 16) /* exit status, when the process says it itself */               \
    X(MEMORY_ERROR, memory_error, 64) /* a mistake of the program's that our heap saw  \
                                       */

enum neap_ev_kind {
    NEAP_EV_NONE = 0, /* zeroed memory is never a record */
#define NEAP_EV_ENUM(upper, lower, size) NEAP_EV_##upper,
    NEAP_EV_KINDS(NEAP_EV_ENUM)
#undef NEAP_EV_ENUM
    NEAP_EV_KIND_END,
};

#define NEAP_STACK_DEPTH_MAX 1024u /* frames in one STACK record */
#define NEAP_PATH_MAX        4096u /* bytes of a MODULE path, no NUL */
#define NEAP_BUILD_ID_MAX    32u   /* bytes; GNU build-ids are 20 */
#define NEAP_EV_SIZE_MAX     (32u + 8u * NEAP_STACK_DEPTH_MAX)

#define NEAP_SEQ_BITS        24
#define NEAP_SEQ_MASK        ((1u << NEAP_SEQ_BITS) - 1)
#define NEAP_ORDER_SHARDS    256u

/*
 * The counter that orders an address. A MiB at a time, because allocators hand
 * threads arenas of that size and more: threads that share no memory then share
 * no counter (one contended cache line costs 30 to 60 ns an event).
 */
NEAP_ALWAYS_INLINE unsigned neap_order_shard(uint64_t address)
{
    uint64_t mib = address >> 20;

    return (unsigned)((mib ^ (mib >> 8) ^ (mib >> 16)) % NEAP_ORDER_SHARDS);
}

NEAP_ALWAYS_INLINE uint64_t neap_ev_head(enum neap_ev_kind kind, uint32_t seq,
                                         uint32_t delta)
{
    return (uint64_t)kind | (uint64_t)(seq & NEAP_SEQ_MASK) << 8 |
           (uint64_t)delta << 32;
}

NEAP_ALWAYS_INLINE unsigned neap_ev_kind(uint64_t head)
{
    return (unsigned)(head & 0xff);
}

NEAP_ALWAYS_INLINE uint32_t neap_ev_seq(uint64_t head)
{
    return (uint32_t)(head >> 8) & NEAP_SEQ_MASK;
}

NEAP_ALWAYS_INLINE uint32_t neap_ev_delta(uint64_t head)
{
    return (uint32_t)(head >> 32);
}

struct neap_ev_time {
    uint64_t head;
    uint64_t now_ns; /* since the recording's start, from the collector's clock word */
    uint64_t stamp;  /* time stamp counter; later deltas of this lane count from it */
};
NEAP_ASSERT_SIZE(struct neap_ev_time, 24);

struct neap_ev_thread {
    uint64_t head;
    uint32_t tid;
    uint32_t reserved;
    char name[24]; /* NUL-padded; the kernel's 15 bytes today */
};
NEAP_ASSERT_SIZE(struct neap_ev_thread, 40);

#define NEAP_STACK_TRUNCATED  1u /* frames missing at the outer end */
#define NEAP_STACK_UNREADABLE 2u /* the walk stopped at code without unwind rules */

struct neap_ev_stack {
    uint64_t head;
    uint64_t hash;
    uint32_t generation; /* of the module list; pcs mean what was mapped then */
    uint16_t depth;
    uint16_t flags; /* NEAP_STACK_* */
    uint64_t pc[];  /* innermost first; return addresses, so look up pc - 1 */
};
NEAP_ASSERT_SIZE(struct neap_ev_stack, 24);

struct neap_ev_module {
    uint64_t head;
    uint64_t bias;  /* address in the process minus address in the file's headers */
    uint64_t start; /* mapped range [start, end) */
    uint64_t end;
    uint32_t generation; /* first generation of the module list it is valid for */
    uint16_t build_id_len;
    uint16_t path_len;
    uint8_t bytes[]; /* build-id, then path, then zeros to a multiple of 8 */
};
NEAP_ASSERT_SIZE(struct neap_ev_module, 40);

struct neap_ev_alloc { /* ALLOC and REALLOC_ALLOC */
    uint64_t head;
    uint64_t address;
    uint64_t size;  /* as asked for */
    uint64_t stack; /* hash */
};
NEAP_ASSERT_SIZE(struct neap_ev_alloc, 32);

#define NEAP_SAMPLE_REALLOC   1u /* half of a realloc */
#define NEAP_SAMPLE_TEMPORARY 2u /* freed by its thread before that allocated again */

struct neap_ev_sample {
    uint64_t head;
    uint64_t address;
    uint64_t size;     /* as asked for */
    uint64_t stack;    /* hash */
    uint64_t interval; /* mean bytes between samples when it was drawn, at least 1 */
    uint32_t flags;    /* NEAP_SAMPLE_REALLOC */
    uint32_t reserved;
};
NEAP_ASSERT_SIZE(struct neap_ev_sample, 48);

struct neap_ev_sample_free {
    uint64_t head;
    uint64_t address;
    uint32_t flags; /* NEAP_SAMPLE_* */
    uint32_t reserved;
};
NEAP_ASSERT_SIZE(struct neap_ev_sample_free, 24);

struct neap_ev_free { /* FREE, REALLOC_FREE and REALLOC_FAIL */
    uint64_t head;
    uint64_t address;
};
NEAP_ASSERT_SIZE(struct neap_ev_free, 16);

enum neap_map_op {
    NEAP_MAP_MMAP = 1,
    NEAP_MAP_MUNMAP,
    NEAP_MAP_MREMAP,
    NEAP_MAP_BRK, /* brk and sbrk: old_address and address are the two breaks */
    NEAP_MAP_MADVISE,
    NEAP_MAP_OP_END,
};

/* How it is known. */
enum neap_map_source {
    NEAP_MAP_HOOK = 0, /* a call of the program or its allocator, by name */
    NEAP_MAP_HEAP,     /* our own allocator's doing; the stack is its caller's */
    NEAP_MAP_SOURCE_END,
};

struct neap_ev_map {
    uint64_t head;
    uint64_t address;
    uint64_t size;
    uint64_t old_address;
    uint64_t old_size;
    uint32_t op;
    uint32_t prot;
    uint32_t flags;  /* mmap's and mremap's flags, madvise's advice */
    int32_t fd;      /* -1 for anonymous memory */
    uint64_t stack;  /* hash */
    uint32_t source; /* enum neap_map_source */
    uint32_t reserved;
};
NEAP_ASSERT_SIZE(struct neap_ev_map, 72);

struct neap_ev_exit {
    uint64_t head;
    int64_t code;
};
NEAP_ASSERT_SIZE(struct neap_ev_exit, 16);

enum neap_memory_error {
    NEAP_MEMORY_DOUBLE_FREE = 1,
    NEAP_MEMORY_INVALID_FREE,     /* no address of the heap */
    NEAP_MEMORY_INTERIOR_FREE,    /* inside a block, not at its start */
    NEAP_MEMORY_OVERFLOW,         /* written to beyond a block's end */
    NEAP_MEMORY_WRITE_AFTER_FREE, /* written to after it was freed */
    NEAP_MEMORY_SIZE_MISMATCH,    /* a sized free with another size */
    NEAP_MEMORY_ERROR_END,
};

/* Stacks are hashes, 0 where the target does not know. */
struct neap_ev_memory_error {
    uint64_t head;
    uint64_t address;     /* that was freed, or the first byte that was written */
    uint64_t block;       /* start of the block it belongs to; 0 = none */
    uint64_t size;        /* of that block */
    uint64_t alloc_stack; /* of its allocation */
    uint64_t free_stack;  /* of its first free */
    uint64_t stack;       /* of the call that found it */
    uint32_t kind;        /* enum neap_memory_error */
    uint32_t reserved;
};
NEAP_ASSERT_SIZE(struct neap_ev_memory_error, 64);

#endif

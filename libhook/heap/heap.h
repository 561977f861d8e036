/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Neaptide's own allocator: what malloc, free and their family do, under names of their
 * own. It knows no hook and no profiler; who wants to hear of it passes an observer.
 *
 * Sizes, alignment, errno and overflow are as C23 and glibc have them. All functions
 * may be called from any thread; none but those marked so from a signal handler, and
 * none holds a lock while it calls an observer. docs/design/heap.md tells how it works.
 */
#ifndef NEAP_LIBHOOK_HEAP_HEAP_H
#define NEAP_LIBHOOK_HEAP_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* libneapheap.so exports them under the names of the malloc family (heap.map). */
#pragma GCC visibility push(default)

/* ---- the malloc family ---- */

void *neap_heap_malloc(size_t size);
void neap_heap_free(void *block);
void *neap_heap_calloc(size_t count, size_t size);
void *neap_heap_realloc(void *block, size_t size); /* size 0 frees, as in glibc */
void *neap_heap_reallocarray(void *block, size_t count, size_t size);
int neap_heap_posix_memalign(void **ret, size_t align, size_t size);
void *neap_heap_aligned_alloc(size_t align, size_t size);
void *neap_heap_memalign(size_t align, size_t size);
void *neap_heap_valloc(size_t size);
void *neap_heap_pvalloc(size_t size);
void neap_heap_free_sized(void *block, size_t size);
void neap_heap_free_aligned_sized(void *block, size_t align, size_t size);
size_t neap_heap_usable_size(void *block); /* 0 for NULL and what is not ours */

#pragma GCC visibility pop

/* ---- sized frees ---- */

/* The first half of free_sized, for who has to know before he frees: is the size right?
 * If not it is told, and the block is to stay as it is. True as well for what is no
 * block; that is free's to tell. */
bool neap_heap_is_sized(void *block, size_t size);

/* ---- giving back, settings ---- */

/* Give back what is free, but for `pad` bytes at the break. 1: something was; else 0.
 * It is malloc_trim; its kin are in stats.h. */
#pragma GCC visibility push(default)
int neap_heap_trim(size_t pad);
#pragma GCC visibility pop

/* ---- fork ---- */

/* Around fork, in this order; no other thread changes the heap in between. */
void neap_heap_fork_prepare(void);
void neap_heap_fork_parent(void);
void neap_heap_fork_child(void);

/* ---- observers ---- */

enum neap_heap_op {
    NEAP_HEAP_MMAP = 1, /* address, size, prot, flags */
    NEAP_HEAP_MUNMAP,   /* address, size */
    NEAP_HEAP_MREMAP,   /* all four extents */
    NEAP_HEAP_BRK,      /* old_address and address are the two breaks; size is how much
                           it grew, old_size how much it shrank */
    NEAP_HEAP_MADVISE,  /* address, size; flags is the advice */
};

/* A change of the address space that succeeded. */
struct neap_heap_change {
    enum neap_heap_op op;
    int prot;
    int flags;
    uint64_t address, size;
    uint64_t old_address, old_size;
};

enum neap_heap_error_kind {
    NEAP_HEAP_DOUBLE_FREE = 1,
    NEAP_HEAP_INVALID_FREE,     /* no address of this heap */
    NEAP_HEAP_INTERIOR_FREE,    /* inside a block, not at its start */
    NEAP_HEAP_OVERFLOW,         /* a block's end was written beyond */
    NEAP_HEAP_WRITE_AFTER_FREE, /* a free block was written to */
    NEAP_HEAP_SIZE_MISMATCH,    /* a sized free with another size */
    NEAP_HEAP_DAMAGED,          /* the heap's own records are wrong; check level 3 */
    NEAP_HEAP_ERROR_END,
};

/* A mistake of the program's. Stacks are the observer's own tokens, 0 = not known. */
struct neap_heap_error {
    enum neap_heap_error_kind kind;
    uint64_t address;     /* what was freed, or the first byte that was written */
    uint64_t block;       /* start of the block it belongs to, 0 = none */
    uint64_t size;        /* of that block as asked for, or as served where that is not
                             kept; 0 = no block */
    uint64_t alloc_stack; /* from check level 1 on */
    uint64_t free_stack;  /* the first free; from check level 1 on */
    uint64_t given;       /* size mismatch: what the free was told */
};

struct neap_heap_observer {
    /* After the change, on the thread that caused it, within its call of malloc or free
     * and with no lock held. May not use this heap. */
    void (*changed)(const struct neap_heap_change *change);
    /* Before the program goes on or is aborted; the message is on standard error. */
    void (*error)(const struct neap_heap_error *error);
    /* From check level 1 on: a token for the stack of the call under way; 0 = none. */
    uint64_t (*stack)(void);
    /* A block of a span that holds marked blocks is being freed: see neap_heap_mark. */
    void (*freed)(void *block);
};

/* Any member may be NULL. NULL: nobody observes. The structure is kept, not copied. */
void neap_heap_observe(const struct neap_heap_observer *observer);

/* Mark a live block, so that its free is told to observer->freed, before it happens and
 * on the freeing thread; so are, at no cost to others, the frees of its neighbours in
 * the same span. realloc moves no mark. One unmark for each mark, before the block's
 * free ends; `freed` is the place. */
void neap_heap_mark(void *block);
void neap_heap_unmark(void *block);

/* ---- start ---- */

enum neap_heap_thp {
    NEAP_HEAP_THP_SYSTEM, /* as the system is set */
    NEAP_HEAP_THP_ALWAYS, /* MADV_HUGEPAGE on every segment */
    NEAP_HEAP_THP_NEVER,  /* MADV_NOHUGEPAGE */
};

struct neap_heap_options {
    unsigned check;    /* level 0 to 3, see docs/design/heap.md */
    bool abort;        /* after an error; false: go on, without the free it was about */
    bool quiet;        /* no message on standard error */
    uint32_t delay_ms; /* free memory is given back when it is that old */
    enum neap_heap_thp thp;
};

/* Defaults, then what NEAP_HEAP_CHECK (above 3: 3), NEAP_HEAP_ERROR (continue, abort),
 * NEAP_HEAP_THP (system, always, never) and NEAP_HEAP_DELAY (milliseconds) say; what
 * makes no sense is passed over. */
void neap_heap_options_from(char *const *env, struct neap_heap_options *ret);

/* Before the first allocation, or it begins by itself with what the environment says.
 * False: it had begun. */
bool neap_heap_begin(const struct neap_heap_options *options);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is kept of blocks beside them: a table for each span from check level 1 on, and
 * at every level the spans given back last, so that a second free of a block of theirs
 * can be told from a free of any other address.
 *
 * A note's word says it all in one atomic: the state, the size as asked for, and a turn
 * that each change of state counts, so that who read a block's bytes can tell whether
 * the block was the same meanwhile. Who takes a block from LIVE to another state by a
 * compare-and-exchange is the one that frees it.
 */
#ifndef NEAP_LIBHOOK_HEAP_NOTES_H
#define NEAP_LIBHOOK_HEAP_NOTES_H

#include "libhook/heap/heap.h"
#include "libhook/heap/types.h"

enum neap_note_state {
    NEAP_NOTE_NEVER, /* was never handed out */
    NEAP_NOTE_LIVE,
    NEAP_NOTE_FREED,
    NEAP_NOTE_HELD, /* freed by the program, and kept back: level 3 */
};

#define NEAP_NOTE_SIZE_BITS 47 /* as many as addresses have */

struct neap_note {
    _Atomic uint64_t word; /* turn << 49 | size << 2 | state */
    _Atomic uint64_t alloc_stack;
    _Atomic uint64_t free_stack;
};

struct neap_notes {
    struct neap_notes *next; /* of those that are free, of the same class */
    uint32_t count, class;
    struct neap_note note[];
};

static inline enum neap_note_state neap_note_state(uint64_t word)
{
    return (enum neap_note_state)(word & 3);
}

static inline size_t neap_note_size(uint64_t word)
{
    return word >> 2 & (((size_t)1 << NEAP_NOTE_SIZE_BITS) - 1);
}

/* What the word becomes. */
static inline uint64_t neap_note_next(uint64_t word, size_t size,
                                      enum neap_note_state state)
{
    return ((word >> (NEAP_NOTE_SIZE_BITS + 2)) + 1) << (NEAP_NOTE_SIZE_BITS + 2) |
           (uint64_t)size << 2 | state;
}

/* A block and what is known of it. */
struct neap_place {
    struct neap_span *span;
    struct neap_note *note; /* NULL: the span has no table */
    uint32_t index;
    uintptr_t block;
    size_t served; /* bytes from there to the next block, or the span's last page */
};

static inline struct neap_notes *neap_notes_of(const struct neap_span *span)
{
    return (struct neap_notes *)atomic_load_explicit(&neap_span_cold(span)->notes,
                                                     memory_order_acquire);
}

/* A block by its number. */
void neap_place_at(struct neap_span *span, uint32_t index, struct neap_place *ret);
/* The block that begins at the address. False: none does. */
bool neap_place_find(const void *block, struct neap_place *ret);

/* The table of the block's span, made if need be. False: no memory. */
bool neap_notes_make(struct neap_place *place);

/* A span is about to be given back; under the lock, before anything of it is cleared.
 */
void neap_notes_release(struct neap_span *span);

/* Under the lock: the block that the address was in when its span was given back; the
 * latest if there were several. `ret` gets block, size and stacks. False: not known. */
bool neap_notes_recall(uintptr_t address, struct neap_heap_error *ret);

#endif

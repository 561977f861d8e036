/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which blocks are marked in our own allocator: the sampled ones that are live, each by
 * the number of its slot in the table of samples.
 *
 * A block has its mark as long as its key stands in the table: it loses it to whoever
 * claims the key, which is before the block is freed or moved, and gets it back when a
 * realloc fails. In a forked child the table is gone and the heap with its marks is
 * not: this list is inherited with it, and cleared when the child knows what it is.
 * Whoever takes a mark off the list unmarks the block, and nobody else.
 */
#ifndef NEAP_LIBHOOK_MARKS_H
#define NEAP_LIBHOOK_MARKS_H

#include <stdint.h>

/* A live block, before its address is given to anybody. The slot is the caller's. */
void neap_marks_put(uint32_t index, const void *block);

/* Take the mark of that slot away, if the block still has it. */
void neap_marks_drop(uint32_t index, const void *block);

/* The same for a block that is being freed, wherever its slot is. */
void neap_marks_forget(const void *block);

/* All of them. */
void neap_marks_clear(void);

#endif

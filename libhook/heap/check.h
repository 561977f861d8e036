/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mistakes of the program: found and told. docs/design/heap.md has the levels.
 *
 *   check.c       blocks that are checked: allocated, freed, resized
 *   wrong.c       what is wrong with a free, at any level
 *   quarantine.c  blocks that are kept back; looking at all of them now and then
 *   notes.h       what is kept of a block beside it
 *   fill.h        what is written behind blocks and into freed ones
 *   report.h      how it is told
 */
#ifndef NEAP_LIBHOOK_HEAP_CHECK_H
#define NEAP_LIBHOOK_HEAP_CHECK_H

#include "libhook/heap/heap.h"
#include "libhook/heap/notes.h"
#include "libhook/heap/report.h"
#include "libhook/heap/types.h"

extern unsigned neap_check_level;
extern bool neap_check_none; /* it is known that the level is 0 */

void neap_check_begin(const struct neap_heap_options *options);

/* ---- at every level; caller holds no lock ---- */

/* A free that cannot be: tell what is wrong with it. */
void neap_check_wrong_free(void *block);
/* Is the free of so many bytes right? If not it is told, and is not to be done. */
bool neap_check_size(void *block, size_t size);
/* The block's span has marks: the observer hears of the free. */
void neap_check_marked(void *block);

/* The class of blocks that are aligned so and hold so much. False: that takes a span of
 * its own. */
bool neap_check_class(size_t size, size_t align, unsigned *ret);

/* ---- from level 1 on, instead of the plain ways ---- */

void *neap_check_alloc(size_t size, size_t align, bool *fresh);
/* True: the free is done, or refused; the span may be NULL. */
bool neap_check_frees(struct neap_span *span, void *block);
/* `block` is not NULL, `size` neither 0 nor above NEAP_SIZE_MAX. */
void *neap_check_realloc(void *block, size_t size);
size_t neap_check_usable(struct neap_span *span, const void *block);

/* Look behind every live block. What is wrong is told, and put right, so that it is
 * told once. Returns how many blocks there are. Caller holds no lock. */
size_t neap_check_scan(void);

/* The end of the process: a last look at all that is kept. */
void neap_check_finish(void);

/* ---- parts ---- */

/* Has a block's end been written beyond? Has a freed one been written to? If so the
 * error says where, and the pattern is made whole. The block may change while it is
 * looked at; `word` is its note's from before, and it tells. */
bool neap_check_canary(const struct neap_place *place, uint64_t word,
                       struct neap_heap_error *ret);
bool neap_check_poison(const struct neap_place *place, struct neap_heap_error *ret);

/* A block that was held: free it in earnest. Caller holds no lock. */
void neap_check_release(struct neap_place *place);

/* Keep a block that has become HELD; older ones are released for it. */
void neap_quarantine_put(const struct neap_place *place);
bool neap_quarantine_takes(const struct neap_place *place);

/* An allocation or a free was done: at level 3 it may be time to look at everything. */
void neap_quarantine_tick(void);

#endif

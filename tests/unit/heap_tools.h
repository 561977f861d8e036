/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of the allocator share: blocks that know what is in them, chance that
 * is the same each time, pages that are resident. Nothing here asserts: it is called by
 * threads and by children of the tests as well.
 */
#ifndef NEAP_TESTS_UNIT_HEAP_TOOLS_H
#define NEAP_TESTS_UNIT_HEAP_TOOLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libhook/heap/heap.h"

#ifdef __SANITIZE_THREAD__
#define HEAP_TSAN 1
#else
#define HEAP_TSAN 0
#endif
#if defined(__SANITIZE_ADDRESS__) || HEAP_TSAN
#define HEAP_SANITIZED 1
#else
#define HEAP_SANITIZED 0
#endif
/* Steps of a long test: fewer where each is slow, fewest for one thread under TSan. */
#define HEAP_STEPS(count)       ((count) / (HEAP_SANITIZED ? 16 : 1))
#define HEAP_STEPS_ALONE(count) (HEAP_STEPS(count) / (HEAP_TSAN ? 8 : 1))

/* Quiet, after errors it goes on; errors are counted. Once a program. */
void heap_begin(void);
unsigned heap_errors(void);                              /* since it was asked last */
unsigned heap_errors_of(enum neap_heap_error_kind kind); /* since heap_begin */
/* The observer that counts, for tests that put their own in its place for a while. */
extern const struct neap_heap_observer heap_counting;

uint64_t heap_random(uint64_t *state); /* state != 0 */
/* Between `least` and `most`, each order of magnitude as likely as another. */
size_t heap_random_size(uint64_t *state, size_t least, size_t most);

struct heap_block {
    uint8_t *at; /* NULL: none */
    size_t size; /* as asked for */
    uint64_t seed;
};

/* Write what shall be found again: all of a small block; both ends and a byte a page of
 * others. */
void heap_fill(const struct heap_block *block);
/* Is it still there, as far as the first `limit` bytes go? */
bool heap_holds(const struct heap_block *block, size_t limit);
bool heap_is_zero(const uint8_t *at, size_t size);

/* Bytes of whole pages in [at, at + size) that are in memory. */
size_t heap_resident(const void *at, size_t size);
/* Of all the process: its address space, and what of it is in memory. */
size_t heap_process_size(void);
size_t heap_process_resident(void);

#endif

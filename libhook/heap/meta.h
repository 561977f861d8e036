/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory for metadata: away from the blocks, so that no overflow reaches it and no free
 * block is touched for it. Caller holds the lock.
 */
#ifndef NEAP_LIBHOOK_HEAP_META_H
#define NEAP_LIBHOOK_HEAP_META_H

#include "libhook/heap/types.h"

/* A span's structure for so many words, zeroed but for what a late look may still read.
 * NULL: no memory. */
struct neap_span *neap_meta_span(unsigned words);
void neap_meta_span_free(struct neap_span *span);
/* In the child of a fork: no structure that is not in use is in a queue. */
void neap_meta_forked(void);

/* Zeroed, aligned to a line, for ever. NULL: no memory. */
void *neap_meta_bytes(size_t size);

struct neap_segment *neap_meta_segment(void);
void neap_meta_segment_free(struct neap_segment *segment);

/* Mappings of metadata, for the walk. */
struct neap_meta_chunk {
    struct neap_meta_chunk *next;
    size_t size;
};
extern struct neap_meta_chunk *neap_meta_chunks;
/* A mapping of its own for whoever keeps account of it as metadata: leaves of the map.
 * The first line is the chunk's. */
uintptr_t neap_meta_map(size_t size);

#endif

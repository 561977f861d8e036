/* SPDX-License-Identifier: Apache-2.0 */
#include "libhook/heap/meta.h"

#include <string.h>

#include "libhook/heap/map.h"
#include "libhook/heap/os.h"

#define CHUNK_MIN ((size_t)64 << 10)
#define CHUNK_MAX ((size_t)1 << 20)

struct neap_meta_chunk *neap_meta_chunks;
neap_map_entry *_Atomic neap_map_root[1 << NEAP_ROOT_BITS];

static uintptr_t at, end; /* what is left of the latest chunk */
static size_t chunk_size = CHUNK_MIN;
static struct neap_span *free_spans[NEAP_SPAN_KINDS];
static struct neap_segment *free_segments;

uintptr_t neap_meta_map(size_t size)
{
    uintptr_t base = neap_os_map(size);
    struct neap_meta_chunk *chunk = (struct neap_meta_chunk *)base;

    if (base == NEAP_OS_FAILED)
        return NEAP_OS_FAILED;
    chunk->size = size;
    chunk->next = neap_meta_chunks;
    neap_meta_chunks = chunk;
    return base;
}

void *neap_meta_bytes(size_t size)
{
    void *found;

    size = (size + NEAP_LINE - 1) & ~(size_t)(NEAP_LINE - 1);
    if (size > end - at) {
        uintptr_t base;

        if (size > chunk_size - NEAP_LINE)
            return NULL;
        base = neap_meta_map(chunk_size);
        if (base == NEAP_OS_FAILED)
            return NULL;
        at = base + NEAP_LINE;
        end = base + chunk_size;
        if (chunk_size < CHUNK_MAX)
            chunk_size *= 2;
    }
    found = (void *)at;
    at += size;
    return found;
}

/*
 * Of a structure that is used again, `queued` and `queue_next` stay: another thread may
 * have put it in a queue after its block was gone, see queue.h.
 */
struct neap_span *neap_meta_span(unsigned words)
{
    unsigned kind = neap_span_kind(words);
    size_t cold = NEAP_LINE * neap_span_cold_lines[kind];
    struct neap_span *span = free_spans[kind];
    char *chunk;

    if (span) {
        free_spans[kind] = neap_span_cold(span)->next;
        neap_span_cold(span)->next = NULL;
        return span;
    }
    chunk = neap_meta_bytes(cold + NEAP_LINE * neap_span_lines[kind]);
    if (!chunk)
        return NULL;
    span = (struct neap_span *)(chunk + cold);
    span->kind = (uint8_t)kind;
    return span;
}

void neap_meta_span_free(struct neap_span *span)
{
    struct neap_span_cold *cold = neap_span_cold(span);

    atomic_store_explicit(&span->owner, 0, memory_order_relaxed);
    span->start = 0;
    span->size = span->recip = 0;
    span->state = NEAP_SPAN_NONE;
    span->carved = span->capacity = 0;
    for (unsigned i = 0; i < span->words; i++) {
        atomic_store_explicit(&span->live[i], 0, memory_order_relaxed);
        atomic_store_explicit(&cold->held[i], 0, memory_order_relaxed);
        atomic_store_explicit(neap_span_remote(span, i), 0, memory_order_relaxed);
    }
    span->words = 0;
    atomic_store_explicit(&cold->marks, 0, memory_order_relaxed);
    cold->segment = NULL;
    cold->base = 0;
    cold->units = cold->dirty = 0;
    cold->limit = 0;
    cold->bytes = 0;
    cold->newer = cold->prev = NULL;
    cold->next = free_spans[span->kind];
    free_spans[span->kind] = span;
}

void neap_meta_forked(void)
{
    for (unsigned i = 0; i < NEAP_SPAN_KINDS; i++)
        for (struct neap_span *span = free_spans[i]; span;
             span = neap_span_cold(span)->next)
            atomic_store_explicit(&neap_span_cold(span)->queued, 0,
                                  memory_order_relaxed);
}

struct neap_segment *neap_meta_segment(void)
{
    struct neap_segment *segment = free_segments;

    if (!segment)
        return neap_meta_bytes(sizeof(*segment));
    free_segments = segment->next;
    memset(segment, 0, sizeof(*segment));
    return segment;
}

void neap_meta_segment_free(struct neap_segment *segment)
{
    segment->next = free_segments;
    free_segments = segment;
}

/* ---- the map ---- */

#define LEAF_BYTES (sizeof(neap_map_entry) << NEAP_LEAF_BITS)
#define LEAF_SPAN  ((uintptr_t)1 << (NEAP_LEAF_BITS + NEAP_UNIT_SHIFT))

static bool is_reached(uintptr_t leaf)
{
    return atomic_load_explicit(&neap_map_root[leaf], memory_order_relaxed) != NULL;
}

bool neap_map_reach(uintptr_t base, size_t units)
{
    uintptr_t last = base + units * NEAP_UNIT - 1;

    if (last >> 47)
        return false;
    for (uintptr_t i = base / LEAF_SPAN; i <= last / LEAF_SPAN; i++) {
        uintptr_t leaf;
        size_t count = 1;

        if (is_reached(i))
            continue;
        while (i + count <= last / LEAF_SPAN && !is_reached(i + count))
            count++;
        /* The chunk's line is in front, so a page more. */
        leaf = neap_meta_map(count * LEAF_BYTES + NEAP_HEAP_PAGE);
        if (leaf == NEAP_OS_FAILED)
            return false;
        for (leaf += NEAP_HEAP_PAGE; count; count--, i++, leaf += LEAF_BYTES)
            /* Pairs with the acquire in neap_map_find. */
            atomic_store_explicit(&neap_map_root[i], (neap_map_entry *)leaf,
                                  memory_order_release);
        i--;
    }
    return true;
}

void neap_map_set(uintptr_t base, size_t units, struct neap_span *span)
{
    for (size_t i = 0; i < units; i++, base += NEAP_UNIT) {
        neap_map_entry *leaf = atomic_load_explicit(&neap_map_root[base / LEAF_SPAN],
                                                    memory_order_relaxed);

        atomic_store_explicit(
            &leaf[base >> NEAP_UNIT_SHIFT & ((1u << NEAP_LEAF_BITS) - 1)], span,
            memory_order_relaxed);
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks in a list; the newest one is filled from its start. A piece larger than a
 * quarter of a block gets a block of its own behind the newest, so that the room
 * left in the newest is not lost.
 */
#include "bindings/query/arena.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES ((size_t)64 * 1024)
#define ALIGNMENT   _Alignof(max_align_t)

struct neap_arena_block {
    struct neap_arena_block *next;
    size_t used, size;
    _Alignas(max_align_t) unsigned char bytes[];
};

static struct neap_arena_block *block_create(size_t size)
{
    struct neap_arena_block *block = calloc(1, sizeof(*block) + size);

    if (block)
        block->size = size;
    return block;
}

void *neap_arena_alloc(struct neap_arena *arena, size_t count, size_t size)
{
    struct neap_arena_block *block = arena->blocks;
    size_t bytes;

    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX / 2)
        return NULL;
    bytes = (bytes + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
    if (!block || block->size - block->used < bytes) {
        bool own = bytes > BLOCK_BYTES / 4;
        struct neap_arena_block *fresh = block_create(own ? bytes : BLOCK_BYTES);

        if (!fresh)
            return NULL;
        if (own && block) {
            fresh->next = block->next;
            block->next = fresh;
        } else {
            fresh->next = block;
            arena->blocks = fresh;
        }
        block = fresh;
    }
    block->used += bytes;
    return block->bytes + block->used - bytes;
}

char *neap_arena_copy(struct neap_arena *arena, const void *bytes, size_t length)
{
    char *copy = neap_arena_alloc(arena, length + 1, 1);

    if (copy && length)
        memcpy(copy, bytes, length);
    return copy;
}

void neap_arena_deinit(struct neap_arena *arena)
{
    while (arena->blocks) {
        struct neap_arena_block *next = arena->blocks->next;

        free(arena->blocks);
        arena->blocks = next;
    }
}

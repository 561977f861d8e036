/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The columns of a chunk, and what the encoder and the decoder both guess.
 *
 * Layout of the zstd frame's content: NEAP_COLUMNS lengths as 32-bit words, then the
 * columns, one after another. Integers are LEB128 varints, signed ones zigzag.
 *
 *   HEAD     number of events, of sites, log2 of what all addresses are multiples of
 *   OP       a byte an event: enum neap_chunk_op, and which guesses hold
 *   TIME     runs: events, time since the last run (since 0 for the first)
 *   TID      the threads met: count, then each; then runs: events, index
 *   SHIFT    runs: events, shift
 *   SITE     the sites met, in the order of their first event, each as difference
 *   WHERE    a site's index, where the guess fails
 *   SIZE     a size, where the guess fails
 *   ADDRESS  of an ALLOC or FOREIGN, where the guess fails: how far it is from the
 * guess REF      FREE or UNDO of a block of this chunk: how many ALLOCs ago it was
 *   OUTSIDE  FREE or UNDO of another: address as difference to the last such one,
 *            index of the thread that allocated it
 *
 * Guesses. A site follows the one that followed its predecessor the last time. A block
 * has the size of its site's last one. Its address is that of the block of this size
 * class which its thread freed last (allocators keep such lists, last in first out),
 * else the one behind the last address that was no such guess, as when a heap grows.
 */
#ifndef NEAP_SCHEMA_STORE_CHUNK_MODEL_H
#define NEAP_SCHEMA_STORE_CHUNK_MODEL_H

#include <stdint.h>

#include "schema/attr.h"
#include "schema/store/chunk.h"

#define NEAP_CHUNK_VERSION 1u

enum neap_column {
    NEAP_COLUMN_HEAD,
    NEAP_COLUMN_OP,
    NEAP_COLUMN_TIME,
    NEAP_COLUMN_TID,
    NEAP_COLUMN_SHIFT,
    NEAP_COLUMN_SITE,
    NEAP_COLUMN_WHERE,
    NEAP_COLUMN_SIZE,
    NEAP_COLUMN_ADDRESS,
    NEAP_COLUMN_REF,
    NEAP_COLUMN_OUTSIDE,
    NEAP_COLUMNS
};

/* In OP, beside enum neap_chunk_op. */
#define NEAP_OP_SIZE 32u /* the size is the guess */
#define NEAP_OP_ADDRESS \
    64u                   /* ALLOC: the address is; FREE, UNDO: of this chunk's block */
#define NEAP_OP_SITE 128u /* the site is */

/* No column is longer than what its events need at the worst. */
#define NEAP_COLUMN_BYTES (NEAP_CHUNK_EVENTS * 16u)
#define NEAP_CHUNK_BYTES  (NEAP_COLUMNS * (NEAP_COLUMN_BYTES + 4u))

#define NEAP_LIFO_LISTS   1024u
#define NEAP_LIFO_LENGTH  8u

struct neap_chunk_model {
    uint32_t next_site[NEAP_CHUNK_EVENTS]; /* by index, index + 1; 0 = no guess */
    uint64_t last_size[NEAP_CHUNK_EVENTS]; /* by index of the site */
    uint64_t freed[NEAP_LIFO_LISTS][NEAP_LIFO_LENGTH];
    uint8_t top[NEAP_LIFO_LISTS];
    uint32_t site;    /* of the last event that has one: its index + 1 */
    uint64_t address; /* behind the last one that was not guessed */
};

NEAP_ALWAYS_INLINE void neap_model_reset(struct neap_chunk_model *model)
{
    __builtin_memset(model->freed, 0, sizeof(model->freed));
    __builtin_memset(model->top, 0, sizeof(model->top));
    model->site = 0;
    model->address = 0;
}

/* A site is met for the first time: nothing is known of it. */
NEAP_ALWAYS_INLINE void neap_model_meet(struct neap_chunk_model *model, uint32_t index)
{
    model->next_site[index] = 0;
    model->last_size[index] = 0;
}

/* The index of the site that is guessed to come, + 1; 0 = none. */
NEAP_ALWAYS_INLINE uint32_t neap_model_site(const struct neap_chunk_model *model)
{
    return model->site ? model->next_site[model->site - 1] : 0;
}

NEAP_ALWAYS_INLINE void neap_model_went(struct neap_chunk_model *model, uint32_t index)
{
    if (model->site)
        model->next_site[model->site - 1] = index + 1;
    model->site = index + 1;
}

/* glibc's chunks, from which other allocators' classes differ little: 16 bytes apart,
 * with 8 bytes of header. */
NEAP_ALWAYS_INLINE uint64_t neap_model_step(uint64_t size)
{
    uint64_t step = (size + 8 + 15) & ~(uint64_t)15;

    return step < 32 ? 32 : step;
}

NEAP_ALWAYS_INLINE uint32_t neap_model_list(uint64_t size, uint32_t thread)
{
    return (uint32_t)(neap_model_step(size) / 16 + thread * 97) % NEAP_LIFO_LISTS;
}

NEAP_ALWAYS_INLINE void neap_model_freed(struct neap_chunk_model *model, uint32_t list,
                                         uint64_t address)
{
    uint8_t top = (uint8_t)(model->top[list] + 1) % NEAP_LIFO_LENGTH;

    model->freed[list][top] = address;
    model->top[list] = top;
}

NEAP_ALWAYS_INLINE uint64_t neap_model_reuse(const struct neap_chunk_model *model,
                                             uint32_t list)
{
    return model->freed[list][model->top[list]];
}

NEAP_ALWAYS_INLINE void neap_model_reused(struct neap_chunk_model *model, uint32_t list)
{
    uint8_t top = model->top[list];

    model->freed[list][top] = 0;
    model->top[list] = (uint8_t)(top + NEAP_LIFO_LENGTH - 1) % NEAP_LIFO_LENGTH;
}

NEAP_ALWAYS_INLINE uint64_t neap_zigzag(int64_t value)
{
    return (uint64_t)value << 1 ^ (uint64_t)(value >> 63);
}

NEAP_ALWAYS_INLINE int64_t neap_unzigzag(uint64_t value)
{
    return (int64_t)(value >> 1) ^ -(int64_t)(value & 1);
}

#endif

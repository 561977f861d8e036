/* SPDX-License-Identifier: Apache-2.0 */
#include "libhook/heap/span.h"

#include <string.h>

#include "libhook/heap/map.h"
#include "libhook/heap/meta.h"
#include "libhook/heap/notes.h"
#include "libhook/heap/pool.h"

#define N4(c) c, c, c, c
const uint8_t neap_class_small[1024 / 16 + 1] = {
    0,      0,      1,      2,      3,      4,      5,      6,      7,  8,  9,
    10,     11,     12,     13,     14,     15,     16,     16,     17, 17, 18,
    18,     19,     19,     20,     20,     21,     21,     22,     22, 23, 23,
    N4(24), N4(25), N4(26), N4(27), N4(28), N4(29), N4(30), N4(31),
};

/* 64 blocks or more up to 512 bytes, eight of the largest. */
uint32_t neap_span_units(unsigned class)
{
    uint32_t size = neap_class_size(class);

    return size <= 256     ? 1
           : size <= 1024  ? 2
           : size <= 8192  ? 4
           : size <= 16384 ? 8
                           : 16;
}

uint32_t neap_span_capacity(unsigned class)
{
    return neap_span_units(class) * (uint32_t)NEAP_UNIT / neap_class_size(class);
}

/* Where the first block lies in what the blocks leave free, by chance: blocks of equal
 * numbers then do not all fall into the same cache sets, and addresses say less. The
 * size's alignment is kept, up to a page: memalign relies on it. */
static uintptr_t place(uint32_t room, uint32_t size)
{
    static uint64_t random;
    uint32_t align = size & -size;
    uint32_t places;

    if (!random)
        random = (uintptr_t)&random ^ (uintptr_t)&align;
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    if (align > NEAP_HEAP_PAGE)
        align = NEAP_HEAP_PAGE;
    places = room / align + 1;
    return (uintptr_t)((random >> 32) * places >> 32) * align;
}

struct neap_span *neap_span_take(unsigned class, uintptr_t owner)
{
    uint32_t units = neap_span_units(class), size = neap_class_size(class);
    uint32_t capacity = neap_span_capacity(class);
    struct neap_span *span =
        neap_pool_take(NEAP_POOL_SMALL, units, (capacity + 63) / 64, false);
    struct neap_span_cold *cold;

    if (!span)
        return NULL;
    cold = neap_span_cold(span);
    span->start =
        cold->base + place(units * (uint32_t)NEAP_UNIT - capacity * size, size);
    span->size = size;
    span->recip = (uint32_t)(((1ull << 31) + size / 16 - 1) / (size / 16));
    span->class = (uint8_t) class;
    span->capacity = (uint16_t)capacity;
    span->carved = 0;
    span->state = NEAP_SPAN_SMALL;
    atomic_store_explicit(&span->owner, owner, memory_order_release);
    neap_map_set(cold->base, units, span);
    return span;
}

void neap_span_give(struct neap_span *span)
{
    struct neap_span_cold *cold = neap_span_cold(span);

    neap_notes_release(span);
    atomic_store_explicit(&span->owner, 0, memory_order_relaxed);
    neap_map_set(cold->base, cold->units, NULL);
    span->state = NEAP_SPAN_NONE;
    span->size = span->recip = 0;
    span->carved = span->capacity = 0;
    cold->dirty = cold->units;
    neap_pool_give(span);
}

static void clear(_Atomic uint64_t *word, uint64_t bits)
{
    atomic_store_explicit(word,
                          atomic_load_explicit(word, memory_order_relaxed) & ~bits,
                          memory_order_relaxed);
}

bool neap_span_collect(struct neap_span *span)
{
    struct neap_span_cold *cold = neap_span_cold(span);
    bool some = false;

    for (unsigned i = 0; i < span->words; i++) {
        _Atomic uint64_t *remote = neap_span_remote(span, i);
        uint64_t bits;

        /* Not relaxed: it may not be seen before what the caller stored, see queue_put.
         */
        if (!atomic_load_explicit(remote, memory_order_seq_cst))
            continue;
        /* Pairs with the fetch_or of who freed: what it wrote there is over. */
        bits = atomic_exchange_explicit(remote, 0, memory_order_acq_rel);
        /* One that is not live was freed by its owner in the same moment, and belongs
         * to its stack. */
        bits &= atomic_load_explicit(&span->live[i], memory_order_relaxed);
        clear(&span->live[i], bits);
        clear(&cold->held[i], bits);
        some = true;
    }
    return some;
}

bool neap_span_has_remote(struct neap_span *span)
{
    uint64_t bits = 0;

    for (unsigned i = 0; i < span->words; i++)
        bits |= atomic_load_explicit(neap_span_remote(span, i), memory_order_seq_cst);
    return bits != 0;
}

void neap_span_let_go(struct neap_span *span)
{
    for (unsigned i = 0; i < span->words; i++)
        atomic_store_explicit(
            &neap_span_cold(span)->held[i],
            atomic_load_explicit(&span->live[i], memory_order_relaxed),
            memory_order_relaxed);
}

bool neap_span_is_empty(const struct neap_span *span)
{
    const struct neap_span_cold *cold = neap_span_cold(span);
    uint64_t held = 0;

    for (unsigned i = 0; i < span->words; i++)
        held |= atomic_load_explicit(&cold->held[i], memory_order_relaxed);
    return held == 0;
}

bool neap_span_has_free(const struct neap_span *span)
{
    const struct neap_span_cold *cold = neap_span_cold(span);
    uint64_t full = ~(uint64_t)0;

    for (unsigned i = 0; i < span->words; i++) {
        unsigned bits = span->capacity - i * 64;
        uint64_t mask = bits >= 64 ? ~0ull : (1ull << bits) - 1;

        full &= atomic_load_explicit(&cold->held[i], memory_order_relaxed) | ~mask;
    }
    return full != ~(uint64_t)0;
}

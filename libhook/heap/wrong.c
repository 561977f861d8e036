/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is wrong with a free. The address may be any: of a block, inside of one, of what
 * once was one, of nothing. The spans say what is there now; where there is none, what
 * was given back last (notes.h) says what there was. Each kind is as far as can be
 * known: that a block was freed, and not merely never handed out, is certain from level
 * 1 on.
 */
#include <string.h>

#include "libhook/heap/check.h"
#include "libhook/heap/lock.h"
#include "libhook/heap/map.h"
#include "libhook/heap/pool.h"
#include "libhook/heap/span.h"

/* The span or run that the address is in. Caller holds the lock. */
static struct neap_span *around(uintptr_t address)
{
    struct neap_segment *segment = neap_segments;
    uintptr_t at = address & ~(uintptr_t)(NEAP_UNIT - 1);

    while (segment && (address < segment->base ||
                       address - segment->base >= segment->units * NEAP_UNIT))
        segment = segment->next;
    /* Where the map has nothing it is inside of a large block or a run, whose first
     * unit it has. */
    for (; segment && at >= segment->base; at -= NEAP_UNIT) {
        struct neap_span *span = neap_map_find(at);

        if (span)
            return span;
    }
    return NULL;
}

/* In a run, or in no segment. */
static void was_there(uintptr_t address, bool run, struct neap_heap_error *ret)
{
    if (neap_notes_recall(address, ret)) {
        ret->kind =
            ret->block == address ? NEAP_HEAP_DOUBLE_FREE : NEAP_HEAP_INTERIOR_FREE;
    } else if (run && address % NEAP_UNIT == 0) {
        /* Large blocks begin with a unit, and little else that is freed does. */
        ret->kind = NEAP_HEAP_DOUBLE_FREE;
        ret->block = address;
    }
}

/* In a block of the span: `served` is one's size there. */
static void is_there(struct neap_span *span, uintptr_t address, uint64_t served,
                     struct neap_heap_error *ret)
{
    uint64_t index = (address - span->start) / served;
    struct neap_place place;

    neap_place_at(span, (uint32_t)index, &place);
    ret->size = served;
    if (place.note) {
        uint64_t word = atomic_load_explicit(&place.note->word, memory_order_acquire);

        if (neap_note_state(word) == NEAP_NOTE_NEVER)
            return;
        ret->size = neap_note_size(word);
        ret->alloc_stack =
            atomic_load_explicit(&place.note->alloc_stack, memory_order_relaxed);
        ret->free_stack =
            atomic_load_explicit(&place.note->free_stack, memory_order_relaxed);
    } else if (index >= atomic_load_explicit(&span->carved, memory_order_relaxed)) {
        return;
    }
    ret->block = place.block;
    ret->kind =
        place.block == address ? NEAP_HEAP_DOUBLE_FREE : NEAP_HEAP_INTERIOR_FREE;
}

/* Caller holds the lock. */
static void judge(uintptr_t address, struct neap_heap_error *ret)
{
    struct neap_span *span = around(address);
    uint64_t served;

    *ret = (struct neap_heap_error){.kind = NEAP_HEAP_INVALID_FREE, .address = address};
    if (!span || span->state == NEAP_SPAN_RUN) {
        was_there(address, span != NULL, ret);
    } else {
        served =
            span->state == NEAP_SPAN_LARGE ? neap_span_cold(span)->bytes : span->size;
        if (address >= span->start && address - span->start < served * span->capacity)
            is_there(span, address, served, ret);
    }
    if (ret->kind == NEAP_HEAP_INVALID_FREE)
        ret->block = ret->size = ret->alloc_stack = ret->free_stack = 0;
}

void neap_check_wrong_free(void *block)
{
    struct neap_heap_error error;

    neap_lock();
    judge((uintptr_t)block, &error);
    neap_unlock();
    neap_report(&error);
}

/* ---- sizes ---- */

/* As alloc.c has it: blocks are aligned as their size is, up to a page. */
bool neap_check_class(size_t size, size_t align, unsigned *ret)
{
    size_t rounded = (size + align - 1) & ~(align - 1);

    if (align > NEAP_HEAP_PAGE || size > NEAP_SMALL_MAX)
        return false;
    if (align <= 16) {
        *ret = neap_class_of(size);
        return true;
    }
    for (rounded = rounded ? rounded : align; rounded <= NEAP_SMALL_MAX;
         rounded += align) {
        *ret = neap_class_of(rounded);
        if (neap_class_size(*ret) % align == 0)
            return true;
    }
    return false;
}

/*
 * Can a block of so many bytes have been asked for as `size`? It may have been rounded
 * up to its class, or for an alignment, and realloc leaves a block where it is down to
 * half of what it holds.
 */
static bool could_be(const struct neap_place *place, size_t size)
{
    unsigned class;

    if (size > place->served)
        return false;
    if (size >= place->served / 2)
        return true;
    if (place->span->state == NEAP_SPAN_LARGE)
        return (size ? size - 1 : 0) / NEAP_HEAP_PAGE ==
               (place->served - 1) / NEAP_HEAP_PAGE;
    for (size_t align = 16; align <= NEAP_HEAP_PAGE && place->block % align == 0;
         align *= 2)
        if (neap_check_class(size, align, &class) && class == place->span->class)
            return true;
    return false;
}

bool neap_check_size(void *block, size_t size)
{
    struct neap_heap_error error = {.kind = NEAP_HEAP_SIZE_MISMATCH,
                                    .address = (uintptr_t)block,
                                    .block = (uintptr_t)block,
                                    .given = size};
    struct neap_place place;

    /* What is no block is free's to tell. */
    if (!neap_place_find(block, &place))
        return true;
    error.size = place.served;
    if (place.note) {
        uint64_t word = atomic_load_explicit(&place.note->word, memory_order_acquire);

        if (neap_note_state(word) != NEAP_NOTE_LIVE || neap_note_size(word) == size)
            return true;
        error.size = neap_note_size(word);
        error.alloc_stack =
            atomic_load_explicit(&place.note->alloc_stack, memory_order_relaxed);
    } else if (!(atomic_load_explicit(&place.span->live[place.index / 64],
                                      memory_order_relaxed) >>
                     place.index % 64 &
                 1) ||
               could_be(&place, size)) {
        return true;
    }
    neap_report(&error);
    return false;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "libhook/heap/notes.h"

#include "libhook/heap/check.h"
#include "libhook/heap/lock.h"
#include "libhook/heap/map.h"
#include "libhook/heap/meta.h"
#include "libhook/heap/span.h"

/* A table fits one span of its class; large blocks are the class behind the last. */
#define LARGE_CLASS NEAP_CLASSES

static struct neap_notes *free_notes[NEAP_CLASSES + 1];

/* ---- places ---- */

void neap_place_at(struct neap_span *span, uint32_t index, struct neap_place *ret)
{
    struct neap_notes *notes = neap_notes_of(span);

    ret->span = span;
    ret->index = index;
    ret->note = notes && index < notes->count ? &notes->note[index] : NULL;
    ret->block = span->start + (uintptr_t)index * span->size;
    ret->served =
        span->state == NEAP_SPAN_LARGE ? neap_span_cold(span)->bytes : span->size;
}

bool neap_place_find(const void *block, struct neap_place *ret)
{
    struct neap_span *span = neap_map_find_any((uintptr_t)block);
    uint32_t index = 0;

    if (!span)
        return false;
    if (span->state == NEAP_SPAN_SMALL) {
        if (!neap_span_index(span, (uintptr_t)block, &index) || index >= span->capacity)
            return false;
    } else if (span->state != NEAP_SPAN_LARGE || span->start != (uintptr_t)block) {
        return false;
    }
    neap_place_at(span, index, ret);
    return true;
}

/* ---- tables ---- */

/* Zeroed. Caller holds the lock. */
static struct neap_notes *table_for(const struct neap_span *span)
{
    bool small = span->state == NEAP_SPAN_SMALL;
    uint32_t class = small ? span->class : LARGE_CLASS;
    uint32_t count = small ? span->capacity : 1;
    struct neap_notes *notes = free_notes[class];

    if (notes) {
        free_notes[class] = notes->next;
    } else {
        notes = neap_meta_bytes(sizeof(*notes) + count * sizeof(notes->note[0]));
        if (!notes)
            return NULL;
        notes->count = count;
        notes->class = class;
    }
    notes->next = NULL;
    return notes;
}

static void table_free(struct neap_notes *notes)
{
    for (uint32_t i = 0; i < notes->count; i++) {
        atomic_store_explicit(&notes->note[i].word, 0, memory_order_relaxed);
        atomic_store_explicit(&notes->note[i].alloc_stack, 0, memory_order_relaxed);
        atomic_store_explicit(&notes->note[i].free_stack, 0, memory_order_relaxed);
    }
    notes->next = free_notes[notes->class];
    free_notes[notes->class] = notes;
}

bool neap_notes_make(struct neap_place *place)
{
    struct neap_span_cold *cold = neap_span_cold(place->span);
    struct neap_notes *notes = neap_notes_of(place->span);

    if (!notes) {
        neap_lock();
        notes = table_for(place->span);
        if (notes)
            atomic_store_explicit(&cold->notes, notes, memory_order_release);
        neap_unlock();
        if (!notes)
            return false;
    }
    place->note = &notes->note[place->index];
    return true;
}

/* ---- spans that are gone ---- */

#define GONE 256u

/* Of so many there is one that was given back; with it its table, which is used again
 * when it is forgotten. */
static struct gone {
    uintptr_t start;
    uint64_t size;
    uint32_t count; /* blocks that were carved */
    struct neap_notes *notes;
} gone[GONE];
static unsigned gone_next;

/* Nobody will see these blocks again: what was written to them shows now or never. */
static void look_at(struct neap_span *span, const struct neap_notes *notes)
{
    struct neap_heap_error error;
    struct neap_place place;

    for (uint32_t i = 0; i < notes->count; i++) {
        neap_place_at(span, i, &place);
        if (neap_check_poison(&place, &error))
            neap_report_later(&error);
    }
}

void neap_notes_release(struct neap_span *span)
{
    struct neap_span_cold *cold = neap_span_cold(span);
    struct gone *slot = &gone[gone_next];
    struct neap_notes *notes = neap_notes_of(span);

    if (notes && span->state == NEAP_SPAN_SMALL)
        look_at(span, notes);
    if (slot->notes)
        table_free(slot->notes);
    *slot = (struct gone){
        .start = span->start,
        .size = span->state == NEAP_SPAN_LARGE ? cold->bytes : span->size,
        .count = span->carved,
        .notes = notes,
    };
    gone_next = (gone_next + 1) % GONE;
    atomic_store_explicit(&cold->notes, NULL, memory_order_release);
}

/* What the slot knows of the address. */
static bool recall(const struct gone *slot, uintptr_t address,
                   struct neap_heap_error *ret)
{
    uint64_t index = (address - slot->start) / slot->size;

    ret->block = slot->start + index * slot->size;
    ret->size = slot->size;
    if (slot->notes) {
        const struct neap_note *note = &slot->notes->note[index];
        uint64_t word = atomic_load_explicit(&note->word, memory_order_relaxed);

        if (neap_note_state(word) == NEAP_NOTE_NEVER)
            return false;
        ret->size = neap_note_size(word);
        ret->alloc_stack =
            atomic_load_explicit(&note->alloc_stack, memory_order_relaxed);
        ret->free_stack = atomic_load_explicit(&note->free_stack, memory_order_relaxed);
    }
    return true;
}

bool neap_notes_recall(uintptr_t address, struct neap_heap_error *ret)
{
    for (unsigned i = 1; i <= GONE; i++) {
        const struct gone *slot = &gone[(gone_next - i) % GONE];

        if (slot->size && address >= slot->start &&
            address - slot->start < slot->size * slot->count)
            return recall(slot, address, ret);
    }
    return false;
}

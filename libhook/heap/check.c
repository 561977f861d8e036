/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks that are checked. Behind what was asked for there are at least CANARY bytes of
 * a pattern; from level 2 on a free block holds another one. A block's note (notes.h)
 * is what counts: the order of a free is to take the note from LIVE, then to look
 * behind the block, then to fill it, and only then to give it to the heap, so whoever
 * frees it twice finds the note taken, and whoever gets it next finds it filled.
 */
#include "libhook/heap/check.h"

#include <errno.h>
#include <string.h>

#include "libhook/heap/fill.h"
#include "libhook/heap/large.h"
#include "libhook/heap/local.h"
#include "libhook/heap/map.h"
#include "libhook/heap/os.h"

#define CANARY     8u
#define CANARY_MAX 64u /* so much of what is behind a block is looked at */
#define POISON     ((size_t)4 << 10) /* at each end of a free block */
#define SIZE_LIMIT ((size_t)1 << NEAP_NOTE_SIZE_BITS)

unsigned neap_check_level;
bool neap_check_none;

void neap_check_begin(const struct neap_heap_options *options)
{
    neap_check_level = options->check < 3 ? options->check : 3;
    neap_check_none = neap_check_level == 0;
    neap_report_begin(options);
    neap_fill_begin();
}

/* ---- patterns of a block ---- */

static size_t canary_size(size_t served, size_t size)
{
    return served - size < CANARY_MAX ? served - size : CANARY_MAX;
}

static void about(const struct neap_place *place, size_t size,
                  struct neap_heap_error *ret)
{
    *ret = (struct neap_heap_error){
        .block = place->block,
        .size = size,
        .alloc_stack =
            atomic_load_explicit(&place->note->alloc_stack, memory_order_relaxed),
        .free_stack =
            atomic_load_explicit(&place->note->free_stack, memory_order_relaxed),
    };
}

bool neap_check_canary(const struct neap_place *place, uint64_t word,
                       struct neap_heap_error *ret)
{
    size_t size = neap_note_size(word), length = canary_size(place->served, size);
    uintptr_t changed =
        neap_fill_changed(NEAP_FILL_CANARY, place->block + size, length);

    if (!changed)
        return false;
    atomic_thread_fence(memory_order_acquire);
    if (atomic_load_explicit(&place->note->word, memory_order_relaxed) != word)
        return false;
    about(place, size, ret);
    /* It is live, or was until now: the free that finds this is no earlier one. */
    ret->free_stack = 0;
    ret->kind = NEAP_HEAP_OVERFLOW;
    ret->address = changed;
    neap_fill(NEAP_FILL_CANARY, changed, place->block + size + length - changed);
    return true;
}

/* Where the poison of the end begins; what is between that and the first is left. */
static size_t poison_end(const struct neap_place *place, size_t size)
{
    return place->served <= 2 * POISON || size < 2 * POISON ? POISON : size - POISON;
}

static void poison(const struct neap_place *place, size_t size)
{
    size_t end = poison_end(place, size);
    size_t first = place->served < POISON ? place->served : POISON;

    neap_fill(NEAP_FILL_POISON, place->block, first);
    if (end < place->served)
        neap_fill(NEAP_FILL_POISON, place->block + end, place->served - end);
}

bool neap_check_poison(const struct neap_place *place, struct neap_heap_error *ret)
{
    uint64_t word = atomic_load_explicit(&place->note->word, memory_order_acquire);
    enum neap_note_state state = neap_note_state(word);
    size_t size = neap_note_size(word), end = poison_end(place, size);
    size_t first = place->served < POISON ? place->served : POISON;
    uintptr_t changed;

    if (neap_check_level < 2 || (state != NEAP_NOTE_FREED && state != NEAP_NOTE_HELD))
        return false;
    changed = neap_fill_changed(NEAP_FILL_POISON, place->block, first);
    if (!changed && end < place->served)
        changed = neap_fill_changed(NEAP_FILL_POISON, place->block + end,
                                    place->served - end);
    if (!changed)
        return false;
    about(place, size, ret);
    ret->kind = NEAP_HEAP_WRITE_AFTER_FREE;
    ret->address = changed;
    poison(place, size);
    return true;
}

/* ---- allocation ---- */

static void *take(size_t size, size_t align, bool *fresh)
{
    unsigned class;

    if (neap_check_class(size, align, &class))
        return neap_local_refill(class, fresh);
    return neap_large_alloc(size, align, fresh);
}

/* Back to the heap, whatever its note says. */
static void give(const struct neap_place *place)
{
    if (place->span->state == NEAP_SPAN_SMALL)
        neap_local_free(place->span, place->index);
    else
        neap_large_free((void *)place->block);
}

void *neap_check_alloc(size_t size, size_t align, bool *fresh)
{
    struct neap_heap_error error;
    struct neap_place place;
    uint64_t word;
    void *block;

    if (size >= SIZE_LIMIT - CANARY)
        return NULL;
    block = take(size + CANARY, align, fresh);
    if (!block || !neap_place_find(block, &place))
        return NULL;
    if (!neap_notes_make(&place)) {
        give(&place);
        return NULL;
    }
    neap_report_kept();
    if (neap_check_poison(&place, &error))
        neap_report(&error);
    atomic_store_explicit(&place.note->alloc_stack, neap_report_stack(),
                          memory_order_relaxed);
    atomic_store_explicit(&place.note->free_stack, 0, memory_order_relaxed);
    neap_fill(NEAP_FILL_CANARY, place.block + size, canary_size(place.served, size));
    word = atomic_load_explicit(&place.note->word, memory_order_relaxed);
    /* Pairs with the acquire in neap_check_canary: the canary is there. */
    atomic_store_explicit(&place.note->word, neap_note_next(word, size, NEAP_NOTE_LIVE),
                          memory_order_release);
    neap_quarantine_tick();
    return block;
}

/* ---- free ---- */

/* The block's note from LIVE to `state`, by nobody else. Its word then; 0: it was not.
 */
static uint64_t end_life(struct neap_place *place, enum neap_note_state state)
{
    uint64_t word = atomic_load_explicit(&place->note->word, memory_order_acquire),
             next;

    do {
        if (neap_note_state(word) != NEAP_NOTE_LIVE)
            return 0;
        next = neap_note_next(word, neap_note_size(word), state);
    } while (!atomic_compare_exchange_weak_explicit(
        &place->note->word, &word, next, memory_order_acq_rel, memory_order_acquire));
    return next;
}

bool neap_check_frees(struct neap_span *span, void *block)
{
    struct neap_heap_error error;
    struct neap_place place;
    uint64_t stack = neap_report_stack(), word;
    bool held;

    (void)span; /* it was found by 47 bits of the address alone */
    if (!neap_place_find(block, &place) || !place.note) {
        neap_check_wrong_free(block);
        return true;
    }
    held = neap_quarantine_takes(&place);
    word = end_life(&place, held ? NEAP_NOTE_HELD : NEAP_NOTE_FREED);
    if (!word) {
        neap_check_wrong_free(block);
        return true;
    }
    atomic_store_explicit(&place.note->free_stack, stack, memory_order_relaxed);
    if (neap_check_canary(&place, word, &error))
        neap_report(&error);
    if (neap_check_level >= 2)
        poison(&place, neap_note_size(word));
    if (held)
        neap_quarantine_put(&place);
    else
        give(&place);
    neap_report_kept();
    neap_quarantine_tick();
    return true;
}

void neap_check_release(struct neap_place *place)
{
    struct neap_heap_error error;
    uint64_t word = atomic_load_explicit(&place->note->word, memory_order_relaxed);

    if (neap_check_poison(place, &error))
        neap_report(&error);
    atomic_store_explicit(&place->note->word,
                          neap_note_next(word, neap_note_size(word), NEAP_NOTE_FREED),
                          memory_order_release);
    give(place);
}

void neap_check_marked(void *block)
{
    const struct neap_heap_observer *observer =
        atomic_load_explicit(&neap_observer, memory_order_acquire);

    if (observer && observer->freed)
        observer->freed(block);
}

/* ---- sizes ---- */

/* The word of a live block's note; 0: it is none. */
static uint64_t live_word(const void *block, struct neap_place *ret)
{
    uint64_t word;

    if (!neap_place_find(block, ret) || !ret->note)
        return 0;
    word = atomic_load_explicit(&ret->note->word, memory_order_acquire);
    return neap_note_state(word) == NEAP_NOTE_LIVE ? word : 0;
}

size_t neap_check_usable(struct neap_span *span, const void *block)
{
    struct neap_place place;

    (void)span;
    return neap_note_size(live_word(block, &place));
}

/* Always moved: the old place shows who keeps on using it. */
void *neap_check_realloc(void *block, size_t size)
{
    struct neap_place place;
    uint64_t word = live_word(block, &place);
    size_t old = neap_note_size(word);
    void *moved;

    if (!word) {
        neap_check_wrong_free(block);
        errno = ENOMEM;
        return NULL;
    }
    moved = neap_heap_malloc(size);
    if (!moved)
        return NULL;
    memcpy(moved, block, size < old ? size : old);
    neap_heap_free(block);
    return moved;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every invariant of types.h as code. Each check is a row: what must hold, and what is
 * said when it does not. Reads only; stops at the first that fails, as what comes after
 * it may rest on it: a list is followed only through what was found to be right.
 */
#include "libhook/heap/check.h"
#include "libhook/heap/local.h"
#include "libhook/heap/lock.h"
#include "libhook/heap/map.h"
#include "libhook/heap/meta.h"
#include "libhook/heap/os.h"
#include "libhook/heap/pool.h"
#include "libhook/heap/span.h"
#include "libhook/heap/start.h"
#include "libhook/heap/walk.h"

#define MUST(condition, words) \
    do {                       \
        if (!(condition))      \
            return (words);    \
    } while (0)
#define TRY(call)                 \
    do {                          \
        const char *bad = (call); \
                                  \
        if (bad)                  \
            return bad;           \
    } while (0)

/* What is counted on the way. */
struct tally {
    size_t mapped, used_units, run_units, dirty_units, runs;
    size_t map_entries;
    size_t stacked; /* blocks held but not live, in spans of heaps to be trusted */
    size_t ready, current, idle; /* spans in these states, of the same */
};

static bool is_trusted(const struct neap_local *local)
{
    return local && !local->stale;
}

static struct neap_local *owner_of(const struct neap_span *span)
{
    return (
        struct neap_local *)(atomic_load_explicit(&span->owner, memory_order_acquire) &
                             ~NEAP_OWNER_SLOWLY);
}

/* ---- spans ---- */

static const char *check_map(const struct neap_span *span)
{
    const struct neap_span_cold *cold = neap_span_cold(span);

    for (uint32_t i = 0; i < cold->units; i++) {
        bool here = span->state == NEAP_SPAN_SMALL || i == 0 ||
                    (span->state == NEAP_SPAN_RUN && i == cold->units - 1);

        MUST(neap_map_find(cold->base + i * NEAP_UNIT) == (here ? span : NULL),
             "an entry of the map is not its span's");
    }
    return NULL;
}

static const char *check_run(const struct neap_span *run, struct tally *tally)
{
    const struct neap_span_cold *cold = neap_span_cold(run);

    MUST(run->size == 0 && run->recip == 0, "a run has a size of blocks");
    MUST(run->start == cold->base, "a run does not start with its first unit");
    MUST(owner_of(run) == NULL, "a run has an owner");
    MUST(cold->dirty <= cold->units, "a run has more dirty units than units");
    MUST(!neap_notes_of(run), "a run has notes");
    MUST(!cold->next || neap_span_cold(cold->next)->prev == run,
         "a run's neighbour in its bin does not know it");
    MUST(!cold->prev || neap_span_cold(cold->prev)->next == run,
         "a run's neighbour in its bin does not know it");
    if (cold->dirty) {
        MUST(!cold->older || neap_span_cold(cold->older)->newer == run,
             "a run's neighbour by age does not know it");
        MUST(!cold->newer || neap_span_cold(cold->newer)->older == run,
             "a run's neighbour by age does not know it");
    }
    tally->runs++;
    tally->run_units += cold->units;
    tally->dirty_units += cold->dirty;
    tally->map_entries += cold->units > 1 ? 2 : 1;
    return NULL;
}

static const char *check_large(const struct neap_span *span, struct tally *tally)
{
    const struct neap_span_cold *cold = neap_span_cold(span);

    MUST(span->start == cold->base, "a large block does not start with its first unit");
    MUST(span->size == 0 && span->recip == 0, "a large block has a size of small ones");
    MUST(span->capacity == 1 && span->carved == 1, "a large block is not alone");
    MUST((atomic_load_explicit(&span->live[0], memory_order_relaxed) & 1) &&
             (atomic_load_explicit(&cold->held[0], memory_order_relaxed) & 1),
         "a large block is not in use");
    MUST(cold->bytes % NEAP_HEAP_PAGE == 0 && cold->bytes <= cold->units * NEAP_UNIT &&
             cold->bytes > (cold->units - 1) * NEAP_UNIT,
         "a large block does not fill its units");
    tally->used_units += cold->units;
    tally->map_entries++;
    return NULL;
}

static const char *check_bits(struct neap_span *span, struct tally *tally)
{
    const struct neap_span_cold *cold = neap_span_cold(span);

    for (unsigned i = 0; i < span->words; i++) {
        uint64_t live = atomic_load_explicit(&span->live[i], memory_order_relaxed);
        uint64_t held = atomic_load_explicit(&cold->held[i], memory_order_relaxed);
        uint64_t remote =
            atomic_load_explicit(neap_span_remote(span, i), memory_order_relaxed);

        MUST(!(held & ~neap_span_mask(span, i)),
             "a block is held that was never carved");
        MUST(!(live & ~held), "a block is live and not held");
        MUST(!(remote & ~held), "a block was freed by another thread and is not held");
        MUST(!remote || !is_trusted(owner_of(span)) ||
                 atomic_load_explicit(&cold->queued, memory_order_relaxed),
             "a span has blocks that others freed and is in no queue");
        if (is_trusted(owner_of(span)))
            tally->stacked += (size_t)__builtin_popcountll(held & ~live);
    }
    return NULL;
}

/* A note says LIVE only of blocks whose bit does: a free takes the note first. */
static const char *check_notes(struct neap_span *span)
{
    const struct neap_notes *notes = neap_notes_of(span);

    MUST(!notes || neap_check_level, "there are notes where nothing is checked");
    for (uint32_t i = 0; notes && i < span->capacity; i++) {
        uint64_t word =
            atomic_load_explicit(&notes->note[i].word, memory_order_relaxed);
        bool live =
            atomic_load_explicit(&span->live[i / 64], memory_order_relaxed) >> i % 64 &
            1;

        MUST(live || (neap_note_state(word) != NEAP_NOTE_LIVE &&
                      neap_note_state(word) != NEAP_NOTE_HELD),
             "a block is noted as live and is not");
    }
    return NULL;
}

static const char *check_small(struct neap_span *span, struct tally *tally)
{
    const struct neap_span_cold *cold = neap_span_cold(span);
    struct neap_local *owner = owner_of(span);

    MUST(span->class < NEAP_CLASSES && span->size == neap_class_size(span->class),
         "a span's size is not its class's");
    MUST(span->recip == ((1ull << 31) + span->size / 16 - 1) / (span->size / 16),
         "a span's reciprocal is not its size's");
    MUST(cold->units == neap_span_units(span->class) &&
             span->capacity == neap_span_capacity(span->class),
         "a span has not the units or the blocks of its class");
    MUST(span->start >= cold->base && span->start % 16 == 0 &&
             span->start + (uintptr_t)span->capacity * span->size <=
                 cold->base + cold->units * NEAP_UNIT,
         "a span's blocks are not inside of it");
    MUST(span->carved <= span->capacity, "a span has more blocks carved than it has");
    MUST(span->words == (span->capacity + 63) / 64 &&
             span->kind == neap_span_kind(span->words),
         "a span has not the bits for its blocks");
    MUST(owner, "a span of blocks is nobody's");
    TRY(check_bits(span, tally));
    if (is_trusted(owner)) {
        bool current = owner->current[span->class] == span;

        MUST(cold->limit == NEAP_LIMIT_CURRENT || cold->limit == NEAP_LIMIT_READY ||
                 cold->limit == NEAP_LIMIT_FULL || cold->limit == NEAP_LIMIT_IDLE,
             "a span is in no state");
        MUST(cold->limit != NEAP_LIMIT_IDLE || neap_span_is_empty(span),
             "an idle span is not empty");
        MUST(current == (cold->limit == NEAP_LIMIT_CURRENT),
             "a span's limit and its heap do not agree on which is current");
        MUST(cold->limit != NEAP_LIMIT_READY || neap_span_has_free(span),
             "a ready span has no block to give");
        tally->ready += cold->limit == NEAP_LIMIT_READY;
        tally->idle += cold->limit == NEAP_LIMIT_IDLE;
        tally->current += current;
    }
    tally->used_units += cold->units;
    tally->map_entries += cold->units;
    return NULL;
}

/* ---- segments ---- */

static const char *check_segment(const struct neap_segment *segment,
                                 struct tally *tally)
{
    uint32_t used = 0;
    bool after_run = false;

    MUST(segment->base % NEAP_UNIT == 0, "a segment is not aligned to units");
    MUST(segment->brk ? segment->start <= segment->base
                      : segment->start == segment->base,
         "a segment starts behind its first unit");
    MUST(segment->next ? segment->next->prev == segment : true,
         "a segment's neighbour does not know it");
    tally->mapped += segment->base - segment->start + segment->units * NEAP_UNIT;
    for (uint32_t unit = 0; unit < segment->units;) {
        uintptr_t at = segment->base + (uintptr_t)unit * NEAP_UNIT;
        struct neap_span *span = neap_map_find(at);
        const struct neap_span_cold *cold;

        MUST(span, "a segment's spans and runs are not back to back");
        cold = neap_span_cold(span);
        MUST(cold->base == at && cold->segment == segment && cold->units > 0 &&
                 cold->units <= segment->units - unit,
             "a segment's spans and runs are not back to back");
        MUST(!(after_run && span->state == NEAP_SPAN_RUN),
             "two neighbouring runs are not joined");
        after_run = span->state == NEAP_SPAN_RUN;
        MUST(span->state == NEAP_SPAN_RUN || span->state == NEAP_SPAN_SMALL ||
                 span->state == NEAP_SPAN_LARGE,
             "a span of a segment is in no use");
        TRY(check_map(span));
        if (span->state == NEAP_SPAN_RUN)
            TRY(check_run(span, tally));
        else if (span->state == NEAP_SPAN_LARGE)
            TRY(check_large(span, tally));
        else
            TRY(check_small(span, tally));
        if (!after_run) {
            TRY(check_notes(span));
            used += cold->units;
        }
        unit += cold->units;
    }
    if (segment->pool == NEAP_POOL_LARGE) {
        const struct neap_span *span = neap_map_find(segment->base);
        const struct neap_span *next =
            neap_map_find(segment->base + segment->units * NEAP_UNIT);

        MUST(neap_span_cold(span)->units == segment->units,
             "a segment of large blocks has more than one");
        MUST(span->state != NEAP_SPAN_RUN || !next || next->state != NEAP_SPAN_RUN ||
                 neap_span_cold(next)->segment->pool != NEAP_POOL_LARGE,
             "two neighbouring runs are not joined");
    }
    MUST(used == segment->used, "a segment's count of used units is wrong");
    return NULL;
}

/* ---- heaps ---- */

static const char *check_stack(const struct neap_local *local, unsigned class,
                               struct tally *tally)
{
    const struct neap_kind *kind = &local->kind[class];

    MUST(kind->bottom <= kind->top && kind->top <= kind->end,
         "a stack of free blocks is beyond its ends");
    for (const struct neap_entry *entry = kind->bottom; entry < kind->top; entry++) {
        uintptr_t block = (uintptr_t)entry->block;
        struct neap_span *span = neap_map_find_any(block);
        uint64_t bit;
        uint32_t index;

        MUST(span && span->state == NEAP_SPAN_SMALL && span->class == class &&
                 owner_of(span) == local && neap_span_index(span, block, &index) &&
                 index < span->carved,
             "what is on a stack is no block of its heap and class");
        bit = 1ull << index % 64;
        MUST(entry->word == &span->live[index / 64] && entry->bit == bit,
             "a block on a stack has not its own bit there");
        MUST(!(atomic_load_explicit(entry->word, memory_order_relaxed) & bit),
             "a block on a stack is live");
        MUST(atomic_load_explicit(&neap_span_cold(span)->held[index / 64],
                                  memory_order_relaxed) &
                 bit,
             "a block on a stack is not held");
    }
    /* None is there twice, if in the end there are as many as are held but not live. */
    MUST(tally->stacked >= (size_t)(kind->top - kind->bottom),
         "blocks on stacks are more than those held but not live");
    tally->stacked -= (size_t)(kind->top - kind->bottom);
    MUST((kind->free & ~atomic_load_explicit(kind->held, memory_order_relaxed)) == 0 &&
             (kind->free & atomic_load_explicit(kind->live, memory_order_relaxed)) == 0,
         "what a heap has of a word is not held, or live");
    MUST(tally->stacked >= (size_t)__builtin_popcountll(kind->free),
         "heaps have more at hand than is held but not live");
    tally->stacked -= (size_t)__builtin_popcountll(kind->free);
    return NULL;
}

static const char *check_lists(const struct neap_local *local, unsigned class,
                               struct tally *tally)
{
    const struct neap_kind *kind = &local->kind[class];
    struct neap_span *current = local->current[class], *before = NULL;

    if (current) {
        MUST(current->state == NEAP_SPAN_SMALL && current->class == class &&
                 owner_of(current) == local && tally->current > 0,
             "a heap's current span is not its own");
        tally->current--;
        MUST(kind->free == 0 || kind->size == current->size,
             "a heap's word is of another size than its current span");
        MUST(kind->free == 0 || (kind->held >= neap_span_cold(current)->held &&
                                 kind->held - neap_span_cold(current)->held ==
                                     kind->live - current->live &&
                                 kind->live - current->live < current->words),
             "a heap's word is not of its current span");
    } else {
        MUST(kind->free == 0, "a heap has a word and no current span");
    }
    for (struct neap_span *span = local->ready[class]; span;
         before = span, span = neap_span_cold(span)->next) {
        MUST(span->state == NEAP_SPAN_SMALL && span->class == class &&
                 owner_of(span) == local &&
                 neap_span_cold(span)->limit == NEAP_LIMIT_READY && tally->ready > 0,
             "what is in a heap's list is no ready span of its");
        MUST(neap_span_cold(span)->prev == before,
             "a ready span's neighbour does not know it");
        tally->ready--;
    }
    for (struct neap_span *span = local->idle[class]; span;
         span = neap_span_cold(span)->next) {
        MUST(span->state == NEAP_SPAN_SMALL && span->class == class &&
                 owner_of(span) == local &&
                 neap_span_cold(span)->limit == NEAP_LIMIT_IDLE && tally->idle > 0,
             "what is in a heap's list is no idle span of its");
        tally->idle--;
    }
    return NULL;
}

static const char *check_heap(const struct neap_local *local, struct tally *tally)
{
    size_t bound = neap_os_mapped / NEAP_LINE;

    MUST(local->number > 0 ||
             atomic_load_explicit(&local->state, memory_order_relaxed) ==
                 NEAP_LOCAL_DEAD,
         "a thread's heap has no number");
    if (!is_trusted(local))
        return NULL;
    for (unsigned i = 0; i < NEAP_CLASSES; i++) {
        TRY(check_stack(local, i, tally));
        TRY(check_lists(local, i, tally));
    }
    for (struct neap_span *span =
             atomic_load_explicit(&local->queue, memory_order_acquire);
         span; span = atomic_load_explicit(&neap_span_cold(span)->queue_next,
                                           memory_order_relaxed)) {
        MUST(atomic_load_explicit(&neap_span_cold(span)->queued, memory_order_relaxed),
             "a span in a queue does not know of it");
        MUST(bound-- > 0, "a queue goes round");
    }
    return NULL;
}

/* ---- all ---- */

static size_t count_map(void)
{
    size_t count = 0;

    for (size_t i = 0; i < (size_t)1 << NEAP_ROOT_BITS; i++) {
        neap_map_entry *leaf =
            atomic_load_explicit(&neap_map_root[i], memory_order_relaxed);

        for (size_t k = 0; leaf && k < (size_t)1 << NEAP_LEAF_BITS; k++)
            count += atomic_load_explicit(&leaf[k], memory_order_relaxed) != NULL;
    }
    return count;
}

static const char *verify(void)
{
    struct tally tally = {0};

    for (const struct neap_segment *segment = neap_segments; segment;
         segment = segment->next)
        TRY(check_segment(segment, &tally));
    for (const struct neap_meta_chunk *chunk = neap_meta_chunks; chunk;
         chunk = chunk->next)
        tally.mapped += chunk->size;
    MUST(tally.mapped == neap_os_mapped,
         "the segments are not what the kernel was asked for");
    MUST(tally.used_units == neap_pool_counts.used_units,
         "the count of used units is wrong");
    MUST(tally.runs == neap_pool_counts.runs &&
             tally.run_units == neap_pool_counts.run_units,
         "the count of runs is wrong");
    MUST(tally.dirty_units == neap_pool_counts.dirty_units,
         "the count of dirty units is wrong");
    MUST(tally.map_entries == count_map(), "the map has entries outside of segments");
    for (const struct neap_local *local = neap_locals; local; local = local->next)
        TRY(check_heap(local, &tally));
    MUST(tally.stacked == 0, "blocks are held that are neither live nor at hand");
    MUST(tally.ready == 0, "a ready span is in no list");
    MUST(tally.idle == 0, "an idle span is in no list");
    MUST(tally.current == 0, "a current span is not its heap's");
    return NULL;
}

const char *neap_heap_verify(void)
{
    const char *bad;

    neap_heap_start();
    neap_lock();
    bad = verify();
    neap_unlock();
    if (!bad && neap_check_level)
        neap_check_scan();
    return bad;
}

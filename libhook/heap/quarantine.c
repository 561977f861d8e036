/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Check level 3: blocks that the program freed are kept back for a while, so that who
 * goes on using one writes to the pattern in it and not to another's block. First in,
 * first out; the whole process has one. What leaves is looked at and freed in earnest,
 * with no lock held. Now and then everything is looked at.
 */
#include "libhook/heap/check.h"
#include "libhook/heap/lock.h"
#include "libhook/heap/map.h"
#include "libhook/heap/meta.h"
#include "libhook/heap/os.h"
#include "libhook/heap/pool.h"
#include "libhook/heap/walk.h"

#define COUNT_MAX 16384u
#define BYTES_MAX ((size_t)8 << 20)
/* A larger one would push out too many others. From this size on the mapping is gone
 * soon after the free, which tells as well. */
#define BLOCK_MAX ((size_t)1 << 20)
#define BATCH     16u

/* With the lock held. */
static uintptr_t *ring;
static uint32_t first, count;
static size_t bytes;

bool neap_quarantine_takes(const struct neap_place *place)
{
    return neap_check_level >= 3 && place->served < BLOCK_MAX;
}

/* Those that are too many, into `ret`. Caller holds the lock. */
static unsigned take(struct neap_place ret[BATCH], size_t bytes_max, uint32_t count_max)
{
    unsigned taken = 0;

    while (taken < BATCH && count > 0 && (bytes > bytes_max || count > count_max)) {
        if (neap_place_find((void *)ring[first], &ret[taken])) {
            bytes -= ret[taken].served;
            taken++;
        }
        first = (first + 1) % COUNT_MAX;
        count--;
    }
    return taken;
}

void neap_quarantine_put(const struct neap_place *place)
{
    struct neap_place out[BATCH];
    bool kept;
    unsigned taken;

    do {
        neap_lock();
        if (!ring) {
            uintptr_t base = neap_meta_map(COUNT_MAX * sizeof(*ring) + NEAP_HEAP_PAGE);

            /* The chunk's line is in front. */
            if (base != NEAP_OS_FAILED)
                ring = (uintptr_t *)(base + NEAP_HEAP_PAGE);
        }
        taken = ring ? take(out, BYTES_MAX - place->served, COUNT_MAX - 1) : 0;
        kept = ring && taken < BATCH;
        if (kept) {
            ring[(first + count) % COUNT_MAX] = place->block;
            count++;
            bytes += place->served;
        }
        neap_unlock();
        for (unsigned i = 0; i < taken; i++)
            neap_check_release(&out[i]);
    } while (!kept && taken == BATCH);
    if (!kept) {
        out[0] = *place;
        neap_check_release(&out[0]);
    }
}

/* ---- looking at everything ---- */

#define FOUND_MAX 16u

struct scan {
    size_t blocks;
    unsigned found;
    struct neap_heap_error error[FOUND_MAX];
};

static void look(struct scan *scan, const struct neap_place *place)
{
    uint64_t word = atomic_load_explicit(&place->note->word, memory_order_acquire);
    struct neap_heap_error *error = &scan->error[scan->found];

    scan->blocks++;
    if (scan->found == FOUND_MAX)
        return;
    if (neap_note_state(word) == NEAP_NOTE_LIVE &&
        neap_check_canary(place, word, error))
        scan->found++;
}

static void look_at_span(struct scan *scan, struct neap_span *span)
{
    struct neap_place place;

    if (span->state == NEAP_SPAN_RUN || !neap_notes_of(span))
        return;
    for (uint32_t i = 0; i < span->capacity; i++) {
        neap_place_at(span, i, &place);
        look(scan, &place);
    }
}

size_t neap_check_scan(void)
{
    struct scan scan;
    size_t blocks;

    do {
        scan.blocks = scan.found = 0;
        neap_lock();
        for (struct neap_segment *segment = neap_segments; segment;
             segment = segment->next) {
            for (uint32_t unit = 0; unit < segment->units;) {
                struct neap_span *span =
                    neap_map_find(segment->base + (uintptr_t)unit * NEAP_UNIT);

                look_at_span(&scan, span);
                unit += neap_span_cold(span)->units;
            }
        }
        neap_unlock();
        blocks = scan.blocks;
        for (unsigned i = 0; i < scan.found; i++)
            neap_report(&scan.error[i]);
        /* There may be more: these are put right by now. */
    } while (scan.found == FOUND_MAX);
    return blocks;
}

/* Caller holds no lock, and does not give it to anyone who takes from the ring. */
static void look_at_held(void)
{
    struct neap_heap_error error;
    struct neap_place place;
    bool more = true, wrong;

    for (uint32_t i = 0; more; i++) {
        neap_lock();
        more = i < count;
        wrong = more &&
                neap_place_find((void *)ring[(first + i) % COUNT_MAX], &place) &&
                place.note && neap_check_poison(&place, &error);
        neap_unlock();
        if (wrong)
            neap_report(&error);
    }
}

/* ---- when ---- */

/* The work at each time grows with the blocks there are, so the time to the next does
 * as well: at most a few blocks are looked at for each that is allocated or freed. */
#define STEP 32768u

extern char __libc_single_threaded __attribute__((weak)); /* glibc's, from 2.32 on */

static _Atomic size_t left = STEP;

void neap_quarantine_tick(void)
{
    size_t blocks;
    const char *damage;

    if (neap_check_level < 3 ||
        atomic_fetch_sub_explicit(&left, 1, memory_order_relaxed) != 1)
        return;
    /* Nobody comes by here until `left` is set again. */
    blocks = neap_check_scan();
    if (&__libc_single_threaded && __libc_single_threaded) {
        damage = neap_heap_verify();
        if (damage)
            neap_report_damage(damage);
    }
    atomic_store_explicit(&left, STEP + blocks, memory_order_relaxed);
}

void neap_check_finish(void)
{
    if (neap_check_level < 3)
        return;
    look_at_held();
    neap_check_scan();
    neap_report_kept();
}

/* Of the library, or of the program that this is linked into. */
static __attribute__((destructor)) void at_exit(void)
{
    neap_check_finish();
}

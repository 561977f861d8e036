/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The walk's sums against what was allocated, against its own callbacks, and against
 * the kernel; and that verify tells of each invariant that is broken on purpose.
 *
 * Links: tests/unit/heap_child.c
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "libhook/heap/local.h"
#include "libhook/heap/lock.h"
#include "libhook/heap/map.h"
#include "libhook/heap/notes.h"
#include "libhook/heap/os.h"
#include "libhook/heap/pool.h"
#include "libhook/heap/span.h"
#include "libhook/heap/walk.h"
#include "tests/unit/heap_child.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static char *allocate(size_t size)
{
    char *block = child_hide(neap_heap_malloc(size));

    CHECK(block);
    return block;
}

/* ---- sums ---- */

struct seen {
    uint64_t mapped, spans, meta, live, free, live_count, free_count;
    uint64_t span_live, span_capacity;
    uint64_t end; /* of the segment, as far as its spans have come */
    uint64_t segment_end;
};

static void on_segment(void *context, const struct neap_heap_segment_view *segment)
{
    struct seen *seen = context;

    CHECK(seen->end == seen->segment_end);
    seen->mapped += segment->size;
    seen->meta += segment->kind == NEAP_HEAP_KIND_META ? segment->size : 0;
    seen->segment_end = segment->address + segment->size;
    seen->end = segment->kind == NEAP_HEAP_KIND_META
                    ? seen->segment_end
                    : (segment->address + NEAP_UNIT - 1) & ~(NEAP_UNIT - 1);
}

static void on_span(void *context, const struct neap_heap_span_view *span)
{
    struct seen *seen = context;

    CHECK(span->address == seen->end);
    seen->end += span->size;
    seen->spans += span->size;
    if (!span->block_size) {
        seen->free += span->size;
        seen->free_count++;
        return;
    }
    CHECK(span->first >= span->address &&
          span->first + span->capacity * span->block_size <=
              span->address + span->size);
    seen->span_live += span->live;
    seen->span_capacity += span->capacity;
}

static void on_block(void *context, uint64_t address, uint64_t size, bool live)
{
    struct seen *seen = context;

    CHECK(address >= seen->end && address + size <= seen->segment_end);
    *(live ? &seen->live : &seen->free) += size;
    *(live ? &seen->live_count : &seen->free_count) += 1;
}

static struct neap_heap_sum check_sums(void)
{
    struct seen seen = {0};
    struct neap_heap_visitor visitor = {&seen, on_segment, on_span, on_block};
    struct neap_heap_sum sum;

    neap_heap_walk(&visitor, true, &sum);
    CHECK(sum.mapped == sum.live + sum.slack + sum.free + sum.meta);
    CHECK(sum.mapped == seen.mapped && sum.meta == seen.meta);
    CHECK(sum.live == seen.live && sum.free == seen.free);
    CHECK(sum.live_count == seen.live_count && sum.free_count == seen.free_count);
    CHECK(seen.span_live == seen.live_count);
    CHECK(seen.end == seen.segment_end);
    CHECK(sum.resident <= sum.mapped && sum.free_resident <= sum.resident);
    CHECK(sum.requested <= sum.live);
    return sum;
}

static void sums_add_up(void)
{
    struct neap_heap_sum empty = check_sums(), now;
    static char *block[3000];
    size_t requested = 0;

    CHECK(empty.live == 0 && empty.mapped == neap_os_mapped);
    for (size_t i = 0; i < 3000; i++) {
        size_t size = i % 100 == 0 ? i * 300 : i;

        block[i] = allocate(size);
        memset(block[i], 1, size);
        requested += size;
    }
    now = check_sums();
    CHECK(now.mapped == neap_os_mapped);
    CHECK(now.live_count == 3000 && now.live >= requested);
    CHECK(now.resident >= requested);
    if (neap_heap_usable_size(block[17]) == 17)
        CHECK(now.requested == requested);
    else
        CHECK(now.requested == now.live);
    VERIFY();
    for (size_t i = 0; i < 3000; i += 2)
        neap_heap_free(block[i]);
    now = check_sums();
    CHECK(now.live_count == 1500);
    for (size_t i = 1; i < 3000; i += 2)
        neap_heap_free(block[i]);
    now = check_sums();
    CHECK(now.live_count == 0 && now.live == 0 && now.requested == 0);
    VERIFY();
    neap_heap_trim(0);
    now = check_sums();
    CHECK(now.mapped == neap_os_mapped);
    VERIFY();
}

static void test_sums(void **state)
{
    (void)state;
    for (unsigned level = 0; level <= 3; level++)
        child_run(level, sums_add_up);
}

/* Somebody else's break, off any page. */
static void break_is_odd(void)
{
    char *block;

    CHECK(sbrk(100) != (void *)-1);
    block = allocate(100);
    check_sums();
    CHECK(sbrk(4096 * 3 + 50) != (void *)-1);
    for (int i = 0; i < 100; i++)
        CHECK(allocate(16000));
    check_sums();
    VERIFY();
    neap_heap_free(block);
}

static void test_break(void **state)
{
    (void)state;
    child_run(0, break_is_odd);
}

/* ---- pages ---- */

static void pages_are_told(void)
{
    struct neap_heap_sum before, after;
    char *block, *small[64];

    neap_heap_free(allocate(10));
    before = check_sums();
    block = allocate(64 * MIB);
    after = check_sums();
    CHECK(after.live - before.live == 64 * MIB);
    CHECK(after.resident - before.resident < 64 * KIB);
    memset(block, 1, 10 * MIB);
    before = check_sums();
    CHECK(before.resident - after.resident >= 10 * MIB);
    CHECK(before.free_resident - after.free_resident < 64 * KIB);
    neap_heap_free(block);
    /* Pages of 4 KiB, each a block: free ones between live ones are whole pages. */
    for (int i = 0; i < 64; i++) {
        small[i] = neap_heap_aligned_alloc(4096, 4096);
        memset(small[i], 1, 4096);
    }
    before = check_sums();
    for (int i = 0; i < 64; i += 2)
        neap_heap_free(small[i]);
    after = check_sums();
    CHECK(after.free_resident - before.free_resident == 32 * 4096);
    CHECK(after.live == before.live - (size_t)32 * 4096);
}

/* Half of each page is free: none is whole. */
static void halves_are_no_pages(void)
{
    struct neap_heap_sum before, after;
    static char *block[512];

    for (int i = 0; i < 512; i++) {
        block[i] = allocate(2048);
        memset(block[i], 1, 2048);
    }
    before = check_sums();
    for (int i = 0; i < 512; i++)
        if ((uintptr_t)block[i] % 4096 == 0)
            neap_heap_free(block[i]);
    after = check_sums();
    CHECK(after.live < before.live);
    CHECK(after.free_resident <= before.free_resident);
}

static void test_pages(void **state)
{
    (void)state;
    child_run(0, pages_are_told);
    child_run(0, halves_are_no_pages);
}

/* ---- with threads ---- */

static _Atomic bool stop;

static void *churn(void *unused)
{
    uint32_t random = (uint32_t)(uintptr_t)&random;
    char *block[64] = {NULL};

    while (!stop) {
        random = random * 1664525 + 1013904223;
        neap_heap_free(block[random >> 26]);
        block[random >> 26] = neap_heap_malloc(random >> 8 & 4095);
    }
    for (int i = 0; i < 64; i++)
        neap_heap_free(block[i]);
    return unused;
}

static void threads_go_on(void)
{
    pthread_t thread[2];

    for (int i = 0; i < 2; i++)
        CHECK(pthread_create(&thread[i], NULL, churn, NULL) == 0);
    for (int i = 0; i < 200; i++)
        check_sums();
    stop = true;
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    CHECK(check_sums().live_count == 0);
    VERIFY();
}

static void test_threads(void **state)
{
    (void)state;
    for (unsigned level = 0; level <= 3; level++)
        child_run(level, threads_go_on);
}

/* ---- invariants ---- */

static void found_out(int line, const char *said, const char *words)
{
    if (!said || !strstr(said, words))
        child_fail(__FILE__, line, said ? said : "not found out");
}

/* What verify says while `at` has another value. */
#define BROKEN(at, value, words)                        \
    do {                                                \
        __typeof__(at) was_ = (at);                     \
                                                        \
        (at) = (value);                                 \
        found_out(__LINE__, neap_heap_verify(), words); \
        (at) = was_;                                    \
    } while (0)

static void spans_are_broken(void)
{
    char *block = allocate(100);
    struct neap_span *span = neap_map_find((uintptr_t)block);
    struct neap_span_cold *cold = neap_span_cold(span);

    VERIFY();
    BROKEN(span->size, span->size + 16, "size");
    BROKEN(span->recip, span->recip + 1, "reciprocal");
    BROKEN(span->start, span->start + 8, "inside");
    BROKEN(span->start, cold->base - 16, "inside");
    BROKEN(span->carved, span->capacity + 1, "carved");
    BROKEN(span->carved, 0, "never carved");
    BROKEN(span->words, span->words + 1, "bits");
    BROKEN(span->state, NEAP_SPAN_NONE, "in no use");
    VERIFY();
}

static void states_are_broken(void)
{
    char *block = allocate(100), *other = allocate(100), *gone = allocate(100);
    struct neap_span *span = neap_map_find((uintptr_t)block);
    struct neap_span_cold *cold = neap_span_cold(span);

    neap_heap_free(gone); /* on a stack */
    CHECK(other);
    BROKEN(cold->units, 2, "map");
    BROKEN(cold->units, 0, "back to back");
    BROKEN(cold->base, cold->base + NEAP_UNIT, "back to back");
    BROKEN(cold->limit, NEAP_LIMIT_FULL, "current");
    BROKEN(cold->limit, 17, "no state");
    BROKEN(cold->held[0], 0, "not held");
    BROKEN(span->live[0], 0, "neither live nor at hand");
    BROKEN(span->owner, 0, "nobody's");
    BROKEN(*neap_span_remote(span, 0), 1, "no queue");
    BROKEN(*neap_span_remote(span, 0), 1ull << 63, "not held");
    if (neap_local->kind[span->class].top != neap_local->kind[span->class].bottom) {
        struct neap_entry *entry = neap_local->kind[span->class].bottom;

        BROKEN(entry->block, block + 16, "no block");
        BROKEN(entry->bit, entry->bit << 1, "own bit");
        BROKEN(span->live[0], span->live[0] | entry->bit, "live");
        BROKEN(neap_local->kind[span->class].top, entry, "neither");
    }
    BROKEN(neap_local->current[span->class], NULL, "current");
    BROKEN(neap_local->ready[span->class], span, "ready");
    VERIFY();
}

static void segments_are_broken(void)
{
    char *block = allocate(100 * KIB), *mapped = allocate(8 * MIB);
    struct neap_span *span = neap_map_find((uintptr_t)block), *run = NULL;
    struct neap_segment *segment = neap_span_cold(span)->segment;
    struct neap_span_cold *cold;

    CHECK(mapped);
    VERIFY();
    BROKEN(segment->used, segment->used + 1, "used units");
    BROKEN(segment->units, segment->units - 1, "back to back");
    BROKEN(neap_os_mapped, neap_os_mapped + 1, "kernel");
    BROKEN(neap_pool_counts.runs, 99, "runs");
    BROKEN(neap_pool_counts.dirty_units, 99999, "dirty");
    BROKEN(neap_pool_counts.used_units, 99999, "used units");
    BROKEN(span->capacity, 2, "alone");
    BROKEN(span->live[0], 0, "in use");
    BROKEN(neap_span_cold(span)->bytes, 4096, "fill");
    for (uint32_t unit = 0; unit < segment->units && !run;) {
        struct neap_span *at =
            neap_map_find(segment->base + (uintptr_t)unit * NEAP_UNIT);

        run = at->state == NEAP_SPAN_RUN ? at : NULL;
        unit += neap_span_cold(at)->units;
    }
    CHECK(run);
    cold = neap_span_cold(run);
    BROKEN(cold->dirty, cold->units + 1, "dirty");
    BROKEN(run->start, 0, "first unit");
    neap_map_set(cold->base + NEAP_UNIT, 1, run);
    CHECK(strstr(neap_heap_verify(), "map"));
    neap_map_set(cold->base + NEAP_UNIT, 1, NULL);
    neap_map_set(segment->base - NEAP_UNIT, 1, run);
    CHECK(strstr(neap_heap_verify(), "map"));
    neap_map_set(segment->base - NEAP_UNIT, 1, NULL);
    VERIFY();
}

static void notes_are_broken(void)
{
    struct neap_place place;
    char *block = allocate(100);

    CHECK(neap_place_find(block, &place));
    BROKEN(place.span->live[place.index / 64], 0, "");
    neap_heap_free(block);
    BROKEN(place.note->word, 100 << 2 | NEAP_NOTE_LIVE, "noted as live");
}

static void test_invariants(void **state)
{
    (void)state;
    child_run(0, spans_are_broken);
    child_run(0, states_are_broken);
    child_run(0, segments_are_broken);
    child_run(1, segments_are_broken);
    child_run(1, notes_are_broken);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sums),       cmocka_unit_test(test_break),
        cmocka_unit_test(test_pages),      cmocka_unit_test(test_threads),
        cmocka_unit_test(test_invariants),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

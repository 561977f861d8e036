/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an observer is told. Its changes of the address space, replayed, are exactly
 * what the heap says it has and what /proc/self/maps shows; the free of a marked block
 * is told once, before it happens, on the thread that frees.
 *
 * Links: tests/unit/heap_tools.c tests/unit/heap_ranges.c
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "libhook/heap/os.h"
#include "libhook/heap/pool.h"
#include "libhook/heap/walk.h"
#include "tests/unit/heap_ranges.h"
#include "tests/unit/heap_tools.h"

#define MIB ((size_t)1 << 20)

static unsigned wrong;
static unsigned seen[NEAP_HEAP_MADVISE + 1];
static const void *allocating; /* the thread that is at it */

static void changed(const struct neap_heap_change *change)
{
    wrong += allocating != __builtin_thread_pointer();
    wrong += change->op < NEAP_HEAP_MMAP || change->op > NEAP_HEAP_MADVISE;
    seen[change->op]++;
    if (change->op == NEAP_HEAP_MMAP) {
        wrong += change->prot != (PROT_READ | PROT_WRITE);
        wrong += (change->flags & (MAP_PRIVATE | MAP_ANONYMOUS)) !=
                 (MAP_PRIVATE | MAP_ANONYMOUS);
    }
    heap_ranges_apply(change);
}

/* Is all of it there, to be read and written? Pages that end where the break does not
 * are there as a whole. */
static bool in_maps(const struct heap_range *range)
{
    FILE *file = fopen("/proc/self/maps", "re");
    uint64_t at = range->start & ~4095ull;
    char line[512];

    assert_non_null(file);
    while (at < range->end && fgets(line, sizeof(line), file)) {
        char *next;
        uint64_t start = strtoul(line, &next, 16), end = strtoul(next + 1, &next, 16);

        if (start <= at && at < end && strncmp(next, " rw-p ", 6) == 0)
            at = end;
    }
    fclose(file);
    return at >= range->end;
}

static void agree(void)
{
    struct neap_heap_sum sum;

    assert_null(neap_heap_verify());
    neap_heap_walk(NULL, false, &sum);
    assert_int_equal(sum.mapped, neap_os_mapped);
    assert_int_equal(wrong, 0);
    assert_int_equal(heap_ranges_wrong, 0);
    assert_true(heap_range_count < HEAP_RANGES);
    assert_int_equal(heap_ranges_bytes(), neap_os_mapped);
    for (unsigned i = 0; i < heap_range_count; i++)
        assert_true(in_maps(&heap_ranges[i]));
    for (struct neap_segment *segment = neap_segments; segment;
         segment = segment->next) {
        unsigned i = 0;

        while (i < heap_range_count &&
               !(heap_ranges[i].start <= segment->start &&
                 heap_ranges[i].end >= segment->base + segment->units * NEAP_UNIT))
            i++;
        assert_true(segment->units == 0 || i < heap_range_count);
    }
}

/* ---- marks ---- */

#define MARKED 1000u
static struct {
    void *_Atomic at;
    _Atomic unsigned told;
} marked[MARKED];
static _Atomic unsigned others_told;
static __thread void *freeing; /* what this thread is about to free */
static _Atomic unsigned wrong_thread;

static void freed(void *block)
{
    if (block != freeing)
        atomic_fetch_add(&wrong_thread, 1);
    for (unsigned i = 0; i < MARKED; i++) {
        if (atomic_load(&marked[i].at) == block) {
            atomic_fetch_add(&marked[i].told, 1);
            atomic_store(&marked[i].at, NULL);
            neap_heap_unmark(block);
            return;
        }
    }
    atomic_fetch_add(&others_told, 1);
}

static unsigned errors_told;
static void error(const struct neap_heap_error *what)
{
    (void)what;
    errors_told++;
}

static const struct neap_heap_observer observer = {
    .changed = changed, .error = error, .freed = freed};

static const struct neap_heap_observer frees_alone = {.freed = freed};

static int setup(void **state)
{
    const struct neap_heap_options options = {.quiet = true, .delay_ms = 500};

    (void)state;
    neap_heap_observe(&observer);
    allocating = __builtin_thread_pointer();
    neap_heap_begin(&options);
    return 0;
}

/* ---- tests ---- */

static void changes_add_up(void **state)
{
    static struct heap_block slots[600];
    uint64_t random = 21;

    (void)state;
    for (unsigned i = 0; i < 60000; i++) {
        struct heap_block *slot = &slots[heap_random(&random) % 600];
        size_t size = heap_random_size(&random, 1, i % 16 ? 20000 : 8 * MIB);

        if (!slot->at)
            slot->at = i % 5 ? neap_heap_malloc(size)
                             : neap_heap_memalign((size_t)16 << i % 17, size);
        else if (i % 3 == 0)
            slot->at = neap_heap_realloc(slot->at, size);
        else
            neap_heap_free(slot->at), slot->at = NULL;
        if (i % 500 == 0)
            neap_heap_trim(i % 1000);
        if (i % 100 == 0)
            assert_int_equal(heap_ranges_bytes(), neap_os_mapped);
        if (i % 4000 == 0)
            agree();
        if (i % 3001 == 0)
            assert_ptr_not_equal(sbrk(48), (void *)-1);
    }
    agree();
    for (unsigned i = 0; i < 600; i++)
        neap_heap_free(slots[i].at);
    neap_heap_trim(0);
    agree();
    for (unsigned i = NEAP_HEAP_MMAP; i <= NEAP_HEAP_MADVISE; i++)
        assert_true(seen[i] > 0);
    assert_int_equal(errors_told, 0);
}

static void free_told(void *block)
{
    freeing = block;
    neap_heap_free(block);
    freeing = NULL;
}

static void *marked_blocks[MARKED], *plain_blocks[MARKED];

static void mark_all(size_t size)
{
    for (unsigned i = 0; i < MARKED; i++) {
        plain_blocks[i] = neap_heap_malloc(size);
        marked_blocks[i] = neap_heap_malloc(size);
        atomic_store(&marked[i].told, 0);
        atomic_store(&marked[i].at, marked_blocks[i]);
        neap_heap_mark(marked_blocks[i]);
    }
}

static void *free_marked(void *arg)
{
    unsigned first = arg ? 1 : 0, step = arg ? 2 : 1;

    for (unsigned i = first; i < MARKED; i += step)
        free_told(marked_blocks[i]);
    return NULL;
}

static void *mark_in_thread(void *size)
{
    allocating = __builtin_thread_pointer();
    mark_all((size_t)(uintptr_t)size);
    return NULL;
}

static void in_thread(void *(*body)(void *), void *arg)
{
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, body, arg), 0);
    pthread_join(thread, NULL);
    allocating = __builtin_thread_pointer();
}

static void check_marked(void)
{
    for (unsigned i = 0; i < MARKED; i++)
        assert_int_equal(atomic_load(&marked[i].told), 1);
    assert_int_equal(atomic_load(&wrong_thread), 0);
    for (unsigned i = 0; i < MARKED; i++)
        free_told(plain_blocks[i]);
    atomic_store(&others_told, 0);
}

static void frees_of_marked_blocks_are_told_once(void **state)
{
    static const size_t sizes[] = {16, 100, 4096, 30000, 50000};

    (void)state;
    neap_heap_observe(&frees_alone);
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (unsigned way = 0; way < 4; way++) {
            if (way & 1)
                in_thread(mark_in_thread, (void *)(uintptr_t)sizes[i]);
            else
                mark_all(sizes[i]);
            if (way & 2)
                in_thread(free_marked, NULL);
            else
                free_marked(NULL);
            check_marked();
        }
    }
    neap_heap_observe(&heap_counting);
}

static void realloc_of_a_marked_block_is_told_when_it_moves(void **state)
{
    (void)state;
    neap_heap_observe(&frees_alone);
    mark_all(200);
    for (unsigned i = 0; i < MARKED; i++) {
        void *moved;

        freeing = marked_blocks[i];
        moved = neap_heap_realloc(marked_blocks[i], 3000);
        assert_ptr_not_equal(moved, marked_blocks[i]);
        freeing = NULL;
        assert_int_equal(atomic_load(&marked[i].told), 1);
        free_told(moved);
    }
    check_marked();
    neap_heap_observe(&heap_counting);
}

/* When no block of a span is marked any more its frees are as fast as before. */
static void unmarked_spans_are_not_told_of(void **state)
{
    unsigned told;

    (void)state;
    neap_heap_observe(&frees_alone);
    mark_all(64);
    free_marked(NULL);
    for (unsigned i = 0; i < MARKED; i++) /* and now they know */
        free_told(plain_blocks[i]);
    atomic_store(&others_told, 0);
    for (unsigned i = 0; i < MARKED; i++)
        plain_blocks[i] = neap_heap_malloc(64);
    for (unsigned i = 0; i < MARKED; i++)
        free_told(plain_blocks[i]);
    told = atomic_load(&others_told);
    neap_heap_observe(&heap_counting);
    assert_int_equal(told, 0);
}

/* ---- marks by others ---- */

static struct {
    void *_Atomic block, *_Atomic neighbour; /* handed to the one that marks */
    void *_Atomic marked;
    _Atomic unsigned told;
    _Atomic bool stop;
} others;

static void freed_of_others(void *block)
{
    if (block == atomic_load(&others.marked)) {
        atomic_fetch_add(&others.told, 1);
        neap_heap_unmark(block);
    }
}

static const struct neap_heap_observer marks_of_others = {.freed = freed_of_others};

/* A free first, so that the owner collects while the mark is made; sooner or later. */
static void *mark_of_others(void *arg)
{
    unsigned pause = 0;

    while (!atomic_load(&others.stop)) {
        void *block = atomic_exchange(&others.block, NULL);

        if (!block) {
            sched_yield();
            continue;
        }
        neap_heap_free(atomic_load(&others.neighbour));
        pause = (pause + 1) % 64;
        for (unsigned i = 0; i < pause; i++)
            atomic_signal_fence(memory_order_seq_cst);
        neap_heap_mark(block);
        atomic_store(&others.marked, block);
    }
    return arg;
}

static void marks_by_another_thread_are_told(void **state)
{
    unsigned rounds = HEAP_STEPS_ALONE(40000), lost = 0;
    pthread_t thread;

    (void)state;
    neap_heap_observe(&marks_of_others);
    assert_int_equal(pthread_create(&thread, NULL, mark_of_others, NULL), 0);
    for (unsigned i = 0; i < rounds; i++) {
        void *block = neap_heap_malloc(64);
        unsigned before = atomic_load(&others.told);

        atomic_store(&others.neighbour, neap_heap_malloc(64));
        atomic_store(&others.block, block);
        for (unsigned j = 1; !atomic_load(&others.marked); j++) {
            neap_heap_free(neap_heap_malloc(64)); /* which collects as well */
            if (j % 256 == 0)
                sched_yield();
        }
        neap_heap_free(block);
        if (atomic_load(&others.told) != before + 1) {
            lost++;
            neap_heap_unmark(block);
        }
        atomic_store(&others.marked, NULL);
    }
    atomic_store(&others.stop, true);
    pthread_join(thread, NULL);
    neap_heap_observe(&heap_counting);
    assert_int_equal(lost, 0);
}

/* ---- huge pages by choice ---- */

static unsigned advised[MADV_NOHUGEPAGE + 1];

static void count_advice(const struct neap_heap_change *change)
{
    if (change->op == NEAP_HEAP_MADVISE && change->flags <= MADV_NOHUGEPAGE)
        advised[change->flags]++;
}

static const struct neap_heap_observer advice_alone = {.changed = count_advice};

/* Each way of growing says what was chosen, and nothing by itself. */
static void huge_pages_are_as_chosen(void **state)
{
    static const enum neap_heap_thp chosen[] = {
        NEAP_HEAP_THP_SYSTEM, NEAP_HEAP_THP_ALWAYS, NEAP_HEAP_THP_NEVER};

    (void)state;
    neap_heap_observe(&advice_alone);
    for (unsigned i = 0; i < 3; i++) {
        void *small[64], *large;
        unsigned always, never;

        neap_heap_trim(0);
        neap_pool_settings.thp = chosen[i];
        memset(advised, 0, sizeof(advised));
        for (unsigned j = 0; j < 64; j++)
            small[j] = neap_heap_malloc(900000);
        large = neap_heap_malloc(40 * MIB);
        always = advised[MADV_HUGEPAGE];
        never = advised[MADV_NOHUGEPAGE];
        neap_heap_free(large);
        for (unsigned j = 0; j < 64; j++)
            neap_heap_free(small[j]);
        assert_true(chosen[i] == NEAP_HEAP_THP_ALWAYS ? always >= 2 : always == 0);
        assert_true(chosen[i] == NEAP_HEAP_THP_NEVER ? never >= 2 : never == 0);
    }
    neap_pool_settings.thp = NEAP_HEAP_THP_SYSTEM;
    neap_heap_observe(&heap_counting);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changes_add_up),
        cmocka_unit_test(frees_of_marked_blocks_are_told_once),
        cmocka_unit_test(realloc_of_a_marked_block_is_told_when_it_moves),
        cmocka_unit_test(unmarked_spans_are_not_told_of),
        cmocka_unit_test(marks_by_another_thread_are_told),
        cmocka_unit_test(huge_pages_are_as_chosen),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}

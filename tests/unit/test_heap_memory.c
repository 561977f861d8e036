/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the heap takes from the system and gives back: resident memory that follows the
 * blocks in use down, the break that it shares with whoever calls sbrk. Numbers of
 * bytes are no times, so they are asserted.
 *
 * Links: tests/unit/heap_tools.c
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "libhook/heap/os.h"
#include "libhook/heap/pool.h"
#include "libhook/heap/walk.h"
#include "tests/unit/heap_tools.h"

#define MIB ((size_t)1 << 20)

static int setup(void **state)
{
    (void)state;
    heap_begin();
    return 0;
}

static int no_errors(void **state)
{
    (void)state;
    neap_heap_trim(0);
    return neap_heap_verify() || heap_errors() || neap_pool_counts.dirty_units ? -1 : 0;
}

/* Of what blocks may lie in. */
static size_t resident(void)
{
    size_t sum = 0;

    for (struct neap_segment *segment = neap_segments; segment; segment = segment->next)
        sum += heap_resident((void *)segment->base, segment->units * NEAP_UNIT);
    return sum;
}

/* ---- up and down again ---- */

#define MANY 400000u
static struct heap_block many[MANY];

/* Each page touched. */
static unsigned fill(size_t total, size_t least, size_t most)
{
    uint64_t random = least + 1;
    unsigned count = 0;

    for (size_t sum = 0; sum < total && count < MANY; count++) {
        size_t size = heap_random_size(&random, least, most);

        many[count] = (struct heap_block){neap_heap_malloc(size), size, count + 1};
        assert_non_null(many[count].at);
        heap_fill(&many[count]);
        sum += size;
    }
    return count;
}

static void release(unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        assert_true(heap_holds(&many[i], many[i].size));
        neap_heap_free(many[i].at);
    }
}

/* What is free is given back by whoever passes by when it is old enough, if not before:
 * as a program that lives on does. */
static size_t resident_soon(size_t enough)
{
    const struct timespec pause = {.tv_nsec = 20000000};

    for (unsigned i = 0; i < 500 && resident() > enough; i++) {
        nanosleep(&pause, NULL);
        for (size_t size = 16; size <= 2 * MIB; size *= 2)
            neap_heap_free(neap_heap_malloc(size));
    }
    return resident();
}

static void fall(size_t least, size_t most, bool last)
{
    size_t total = 256 * MIB, peak;
    unsigned count = fill(total, least, most), kept = count / 100;

    peak = resident();
    assert_true(peak >= total / 2);
    /* One in a hundred stays, the first or the last: they lie side by side. */
    if (last)
        release(0, count - kept);
    else
        release(kept, count);
    assert_true(resident_soon(peak / 20) <= peak / 20);
    if (last)
        release(count - kept, count);
    else
        release(0, kept);
    neap_heap_trim(0);
    assert_int_equal(neap_pool_counts.used_units, 0);
    assert_true(resident() <= 64 << 10);
}

static void resident_memory_follows_live_memory(void **state)
{
    static const size_t sizes[][2] = {
        {700, 3000}, {2000, 32000}, {33000, 900000}, {MIB, 4 * MIB}, {1000, 300000}};

    (void)state;
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        if (HEAP_TSAN && i > 0)
            break;
        fall(sizes[i][0], sizes[i][1], false);
        if (!HEAP_SANITIZED)
            fall(sizes[i][0], sizes[i][1], true);
    }
}

/* The process as the system sees it. */
static void the_process_shrinks(void **state)
{
    long before = (long)heap_process_resident(), peak;
    unsigned count;

    (void)state;
    if (HEAP_SANITIZED) {
        print_message("a sanitizer's own memory comes and goes\n");
        skip();
    }
    count = fill(192 * MIB, 100, 20000);
    peak = (long)heap_process_resident() - before;
    assert_true(peak >= (long)(150 * MIB));
    release(0, count);
    resident_soon((size_t)peak / 20);
    /* Some pages more: of metadata, and as the system counts them in batches. */
    assert_true((long)heap_process_resident() - before <= peak / 20 + (long)MIB);
}

static void a_large_block_that_shrinks_gives_back(void **state)
{
    uint8_t *block = neap_heap_malloc(64 * MIB);

    (void)state;
    memset(block, 1, 64 * MIB);
    block = neap_heap_realloc(block, 4 * MIB);
    assert_true(resident_soon(6 * MIB) <= 6 * MIB);
    for (size_t i = 0; i < 4 * MIB; i += 4096)
        assert_int_equal(block[i], 1);
    neap_heap_free(block);
}

/* Growing moves mappings, not bytes: what was never touched stays so. */
static void a_large_block_that_grows_is_not_copied(void **state)
{
    uint8_t *block = neap_heap_malloc(2 * MIB);

    (void)state;
    for (size_t size = 2 * MIB; size <= 512 * MIB; size *= 2) {
        block = neap_heap_realloc(block, size);
        assert_non_null(block);
        block[0] = 1;
        block[size - 1] = 2;
    }
    assert_true(heap_resident(block, 512 * MIB) <= 2 * MIB);
    for (size_t size = 2 * MIB; size <= 512 * MIB; size *= 2)
        assert_int_equal(block[size - 1], 2);
    neap_heap_free(block);
    assert_true(neap_os_mapped_max <= 1200 * MIB);
}

static void trim_says_whether_it_did(void **state)
{
    void *block;

    (void)state;
    neap_heap_trim(0);
    assert_false(neap_heap_trim(0));
    block = neap_heap_malloc(300000);
    memset(block, 1, 300000);
    neap_heap_free(block);
    assert_true(neap_heap_trim(0));
    assert_false(neap_heap_trim(0));
}

/* ---- the break ---- */

/* Where it is. libc's own allocator may move it in between, by little. */
static uintptr_t the_break(void)
{
    return (uintptr_t)sbrk(0);
}

static void the_break_is_lowered(void **state)
{
    uintptr_t before, above;
    unsigned count;

    (void)state;
    neap_heap_trim(0);
    before = the_break();
    count = fill(32 * MIB, 500, 5000);
    above = the_break();
    assert_true(above - before >= 32 * MIB);
    release(0, count);
    neap_heap_trim(4 * MIB);
    assert_in_range(the_break() - before, 4 * MIB, 5 * MIB);
    neap_heap_trim(0);
    assert_true(the_break() - before <= MIB);
}

/* The program has memory of its own there. */
static void sbrk_by_the_program(void **state)
{
    struct heap_block own[8];
    unsigned first, count;

    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        size_t size = 5000 + i * 3333;

        first = fill(3 * MIB, 300, 3000);
        own[i] = (struct heap_block){sbrk((intptr_t)size), size, i + 1};
        assert_ptr_not_equal(own[i].at, (void *)-1);
        heap_fill(&own[i]);
        release(0, first);
    }
    count = fill(32 * MIB, 300, 3000);
    for (unsigned i = 0; i < 8; i++)
        assert_true(heap_holds(&own[i], own[i].size));
    release(0, count);
    neap_heap_trim(0);
    for (unsigned i = 0; i < 8; i++) {
        assert_true(heap_holds(&own[i], own[i].size));
        assert_true(the_break() >= (uintptr_t)own[i].at + own[i].size);
    }
    /* It gives back its last piece, and finds that where it expects it. */
    if (the_break() == (uintptr_t)own[7].at + own[7].size) {
        assert_ptr_equal(sbrk(-(intptr_t)own[7].size), own[7].at + own[7].size);
        count = fill(8 * MIB, 300, 3000);
        release(0, count);
    }
}

/* libc's own allocator lives at the break as well. */
static void beside_the_allocator_of_libc(void **state)
{
    static struct heap_block theirs[2000];
    unsigned count = 0;

    (void)state;
    for (unsigned i = 0; i < 2000; i++) {
        theirs[i] = (struct heap_block){malloc(20000), 20000, i + 5};
        heap_fill(&theirs[i]);
        many[count] = (struct heap_block){neap_heap_malloc(9000), 9000, count + 1};
        heap_fill(&many[count++]);
        if (i % 300 == 299) {
            release(0, count);
            count = 0;
            neap_heap_trim(0);
        }
    }
    for (unsigned i = 0; i < 2000; i++) {
        assert_true(heap_holds(&theirs[i], theirs[i].size));
        free(theirs[i].at);
    }
    release(0, count);
}

/* Something is in the way: there are mappings. The last test, as it stays there. */
static void the_break_is_blocked(void **state)
{
    uintptr_t end, last;
    void *wall;
    unsigned count;

    (void)state;
    neap_heap_trim(0);
    last = the_break();
    end = (last + 4095) & ~(uintptr_t)4095;
    wall = mmap((void *)(end + 4096), 4096, PROT_NONE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    assert_ptr_equal(wall, (void *)(end + 4096));
    count = fill(64 * MIB, 300, 50000);
    assert_true(the_break() <= end + 4096);
    release(0, count);
    neap_heap_trim(0);
    assert_int_equal(neap_pool_counts.used_units, 0);
    assert_true(resident() <= MIB);
    munmap(wall, 4096);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(resident_memory_follows_live_memory, no_errors),
        cmocka_unit_test_teardown(the_process_shrinks, no_errors),
        cmocka_unit_test_teardown(a_large_block_that_shrinks_gives_back, no_errors),
        cmocka_unit_test_teardown(a_large_block_that_grows_is_not_copied, no_errors),
        cmocka_unit_test_teardown(trim_says_whether_it_did, no_errors),
        cmocka_unit_test_teardown(the_break_is_lowered, no_errors),
        cmocka_unit_test_teardown(sbrk_by_the_program, no_errors),
        cmocka_unit_test_teardown(beside_the_allocator_of_libc, no_errors),
        cmocka_unit_test_teardown(the_break_is_blocked, no_errors),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}

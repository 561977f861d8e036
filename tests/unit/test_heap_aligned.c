/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Alignment, as each function takes and refuses it: powers of two, what is rounded up
 * to one, pages.
 *
 * Links: tests/unit/heap_tools.c
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/heap_tools.h"

#define MIB  ((size_t)1 << 20)
#define MARK 4711 /* no errno of anybody's */

static int setup(void **state)
{
    (void)state;
    heap_begin();
    return 0;
}

static int no_errors(void **state)
{
    (void)state;
    return heap_errors() ? -1 : 0;
}

static void assert_aligned(const void *block, size_t align)
{
    assert_non_null(block);
    assert_int_equal((uintptr_t)block & (align - 1), 0);
}

static void assert_refused(void *block, int error)
{
    int found = errno;

    assert_null(block);
    assert_int_equal(found, error);
    errno = MARK;
}

static void posix_memalign_as_posix_has_it(void **state)
{
    static const size_t wrong[] = {0, 1, 2, 4, 3, 7, 12, 24, 48, 4095, 4097, SIZE_MAX};
    int anything;
    void *block = &anything;

    (void)state;
    errno = MARK;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(neap_heap_posix_memalign(&block, wrong[i], 10), EINVAL);
        assert_ptr_equal(block, &anything);
    }
    assert_int_equal(neap_heap_posix_memalign(&block, (size_t)1 << 63, 10), ENOMEM);
    assert_int_equal(neap_heap_posix_memalign(&block, (size_t)1 << 62, 10), ENOMEM);
    assert_ptr_equal(block, &anything);
    assert_int_equal(errno, MARK);
    for (size_t align = sizeof(void *); align <= 64 * MIB; align *= 2) {
        for (size_t size = 0; size < 3 * MIB; size = size * 21 + 1) {
            assert_int_equal(neap_heap_posix_memalign(&block, align, size), 0);
            assert_aligned(block, align < 16 ? 16 : align);
            assert_true(neap_heap_usable_size(block) >= size);
            neap_heap_free(block);
        }
    }
    assert_int_equal(errno, MARK);
}

static void aligned_alloc_takes_powers_of_two(void **state)
{
    static const size_t wrong[] = {0, 3, 12, 24, 100, 4095, SIZE_MAX};

    (void)state;
    errno = MARK;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_refused(neap_heap_aligned_alloc(wrong[i], 64), EINVAL);
    for (size_t align = 1; align <= MIB; align *= 2) {
        /* The size need not be a multiple: C17 dropped that. */
        void *block = neap_heap_aligned_alloc(align, align + 1);

        assert_aligned(block, align < 16 ? 16 : align);
        neap_heap_free_aligned_sized(block, align, align + 1);
    }
    assert_int_equal(errno, MARK);
}

static void memalign_rounds_its_alignment_up(void **state)
{
    static const struct {
        size_t asked, is;
    } rounds[] = {{0, 16},    {1, 16},      {3, 16},      {17, 32},          {24, 32},
                  {100, 128}, {1000, 1024}, {4097, 8192}, {MIB + 1, 2 * MIB}};

    (void)state;
    for (size_t i = 0; i < sizeof(rounds) / sizeof(rounds[0]); i++) {
        for (size_t size = 0; size < 100000; size = size * 11 + 1) {
            void *block = neap_heap_memalign(rounds[i].asked, size);

            assert_aligned(block, rounds[i].is);
            neap_heap_free(block);
        }
    }
    errno = MARK;
    assert_refused(neap_heap_memalign(SIZE_MAX, 1), EINVAL);
    assert_refused(neap_heap_memalign(((size_t)1 << 63) + 1, 1), EINVAL);
    assert_refused(neap_heap_memalign((size_t)1 << 62, 1), ENOMEM);
}

static void valloc_and_pvalloc_give_pages(void **state)
{
    (void)state;
    for (size_t size = 0; size < 200000; size = size * 3 + 1) {
        void *one = neap_heap_valloc(size), *two = neap_heap_pvalloc(size);
        size_t pages = (size + 4095) / 4096 * 4096;

        assert_aligned(one, 4096);
        assert_aligned(two, 4096);
        assert_true(neap_heap_usable_size(one) >= size);
        assert_true(neap_heap_usable_size(two) >= pages);
        neap_heap_free(one);
        neap_heap_free(two);
    }
}

static void aligned_blocks_live_side_by_side(void **state)
{
    static struct heap_block blocks[400];
    uint64_t random = 5;

    (void)state;
    for (unsigned i = 0; i < 400; i++) {
        size_t align = (size_t)16 << heap_random(&random) % 12;
        size_t size = heap_random_size(&random, 1, 60000);

        blocks[i] = (struct heap_block){neap_heap_memalign(align, size), size, i + 1};
        assert_aligned(blocks[i].at, align);
        heap_fill(&blocks[i]);
    }
    for (unsigned i = 0; i < 400; i++) {
        struct heap_block *block = &blocks[i];

        assert_true(heap_holds(block, block->size));
        /* What is grown keeps its contents; the alignment is malloc's then. */
        block->at = neap_heap_realloc(block->at, block->size * 2);
        assert_true(heap_holds(block, block->size));
        neap_heap_free(block->at);
    }
}

/* Both at once are more than a number of units holds: no run that is free may be taken
 * for one that has so many, be it of small spans or of large blocks. */
static void huge_alignment_of_a_huge_size_is_refused(void **state)
{
    static const size_t sizes[] = {60000, MIB, 8 * MIB};
    void *blocks[2 * 3];

    (void)state;
    for (unsigned i = 0; i < 6; i++)
        blocks[i] = neap_heap_malloc(sizes[i / 2]);
    for (unsigned i = 0; i < 6; i += 2) /* the others hold the runs apart */
        neap_heap_free(blocks[i]);
    errno = MARK;
    for (unsigned shift = 36; shift < 48; shift++) {
        size_t align = (size_t)1 << shift;

        for (unsigned i = 0; i < 3; i++) {
            assert_refused(neap_heap_aligned_alloc(align, align + sizes[i]), ENOMEM);
            assert_refused(neap_heap_memalign(align, align - sizes[i]), ENOMEM);
            assert_refused(neap_heap_aligned_alloc(align, 4 * align + sizes[i]),
                           ENOMEM);
        }
    }
    for (unsigned i = 1; i < 6; i += 2)
        neap_heap_free(blocks[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(posix_memalign_as_posix_has_it, no_errors),
        cmocka_unit_test_teardown(aligned_alloc_takes_powers_of_two, no_errors),
        cmocka_unit_test_teardown(memalign_rounds_its_alignment_up, no_errors),
        cmocka_unit_test_teardown(valloc_and_pvalloc_give_pages, no_errors),
        cmocka_unit_test_teardown(aligned_blocks_live_side_by_side, no_errors),
        cmocka_unit_test_teardown(huge_alignment_of_a_huge_size_is_refused, no_errors),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}

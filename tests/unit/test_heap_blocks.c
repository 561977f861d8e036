/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each function of the malloc family gives: sizes, alignment, zeroes, errno, and
 * what is refused, as the C standard, POSIX and glibc's manual have it.
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

#include "libhook/heap/types.h"
#include "tests/unit/heap_tools.h"

#define MIB      ((size_t)1 << 20)
#define TOO_MUCH ((size_t)PTRDIFF_MAX + 1)
#define MARK     4711 /* no errno of anybody's */

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

/* ---- sizes ---- */

static void check_size(size_t size)
{
    uint8_t *block = neap_heap_malloc(size);
    size_t usable = neap_heap_usable_size(block);

    assert_aligned(block, 16);
    assert_true(usable >= size);
    if (size <= 128)
        assert_int_equal(usable, size ? (size + 15) / 16 * 16 : 16);
    else if (size <= NEAP_SMALL_MAX)
        assert_true((usable - size) * 8 <= size);
    else
        assert_true(usable - size < NEAP_HEAP_PAGE);
    /* All of it can be used, by whoever asks how much that is. */
    block[0] = 1;
    block[usable - 1] = 2;
    neap_heap_free(block);
}

static void sizes_are_rounded_by_little(void **state)
{
    (void)state;
    for (size_t size = 0; size <= 2 * NEAP_SMALL_MAX; size += size < 5000 ? 1 : 13)
        check_size(size);
    for (size_t size = 4096; size <= 64 * MIB; size *= 2)
        for (size_t near = 0; near < 3; near++)
            check_size(size - 1 + near);
    check_size(NEAP_LARGE_MIN - NEAP_HEAP_PAGE);
    check_size(1000 * MIB + 1);
}

static void neighbours_do_not_overlap(void **state)
{
    static struct heap_block blocks[3000];

    (void)state;
    for (size_t size = 1; size <= 40000; size = size * 5 / 4 + 1) {
        size_t count = size < 1000 ? 3000 : 100;

        for (size_t i = 0; i < count; i++) {
            blocks[i] =
                (struct heap_block){neap_heap_malloc(size), size, (size + i) * 7919};
            assert_non_null(blocks[i].at);
            heap_fill(&blocks[i]);
        }
        for (size_t i = 0; i < count; i++)
            assert_true(heap_holds(&blocks[i], size));
        for (size_t i = 0; i < count; i++)
            neap_heap_free(blocks[i * 7 % count].at);
    }
}

static void nothing_is_a_block_of_its_own(void **state)
{
    void *zero[64];

    (void)state;
    for (unsigned i = 0; i < 64; i++) {
        zero[i] = i % 2 ? neap_heap_malloc(0) : neap_heap_calloc(i, 0);
        assert_aligned(zero[i], 16);
        for (unsigned j = 0; j < i; j++)
            assert_ptr_not_equal(zero[i], zero[j]);
    }
    for (unsigned i = 0; i < 64; i++)
        neap_heap_free(zero[i]);
    neap_heap_free(NULL);
    neap_heap_free_sized(NULL, 0);
    neap_heap_free_aligned_sized(NULL, 64, 0);
}

static void usable_size_is_known_of_all_kinds(void **state)
{
    static int foreign;
    void *block;

    (void)state;
    assert_int_equal(neap_heap_usable_size(NULL), 0);
    assert_int_equal(neap_heap_usable_size(&foreign), 0);
    assert_int_equal(neap_heap_usable_size(&block), 0);
    assert_int_equal(neap_heap_usable_size((void *)UINTPTR_MAX), 0);
    for (size_t align = 16; align <= 4 * MIB; align *= 2) {
        for (size_t size = 1; size <= 3 * MIB; size = size * 9 + 5) {
            block = neap_heap_memalign(align, size);
            assert_aligned(block, align);
            assert_true(neap_heap_usable_size(block) >= size);
            memset(block, 0x5a, neap_heap_usable_size(block));
            neap_heap_free(block);
        }
    }
}

/* ---- what is refused ---- */

static void assert_refused(void *block, int error)
{
    int found = errno;

    assert_null(block);
    assert_int_equal(found, error);
    errno = MARK;
}

static void sizes_beyond_half_of_all_are_refused(void **state)
{
    static const size_t sizes[] = {TOO_MUCH,         SIZE_MAX,        SIZE_MAX - 15,
                                   SIZE_MAX - 16,    SIZE_MAX - 4095, PTRDIFF_MAX,
                                   PTRDIFF_MAX - 15, SIZE_MAX / 4,    SIZE_MAX / 2 + 2};
    void *block = neap_heap_malloc(100), *out = &block;

    (void)state;
    memset(block, 7, 100);
    errno = MARK;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        assert_refused(neap_heap_malloc(sizes[i]), ENOMEM);
        assert_refused(neap_heap_calloc(1, sizes[i]), ENOMEM);
        assert_refused(neap_heap_calloc(sizes[i], 1), ENOMEM);
        assert_refused(neap_heap_realloc(NULL, sizes[i]), ENOMEM);
        assert_refused(neap_heap_realloc(block, sizes[i]), ENOMEM);
        assert_refused(neap_heap_reallocarray(block, sizes[i], 1), ENOMEM);
        assert_refused(neap_heap_aligned_alloc(16, sizes[i]), ENOMEM);
        assert_refused(neap_heap_aligned_alloc(4096, sizes[i]), ENOMEM);
        assert_refused(neap_heap_memalign(MIB, sizes[i]), ENOMEM);
        assert_refused(neap_heap_valloc(sizes[i]), ENOMEM);
        assert_refused(neap_heap_pvalloc(sizes[i]), ENOMEM);
        assert_int_equal(neap_heap_posix_memalign(&out, 64, sizes[i]), ENOMEM);
        assert_ptr_equal(out, &block);
        assert_int_equal(errno, MARK);
    }
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(((uint8_t *)block)[i], 7);
    neap_heap_free(block);
}

static void products_that_overflow_are_refused(void **state)
{
    static const size_t pairs[][2] = {
        {SIZE_MAX, 2},        {2, SIZE_MAX},
        {SIZE_MAX, SIZE_MAX}, {(size_t)1 << 32, (size_t)1 << 32},
        {SIZE_MAX / 16, 17},  {(size_t)1 << 63, 2},
        {3, SIZE_MAX / 2},    {((size_t)1 << 32) + 1, ((size_t)1 << 32) - 1},
    };
    uint8_t *block = neap_heap_malloc(10);

    (void)state;
    block[9] = 9;
    errno = MARK;
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        assert_refused(neap_heap_calloc(pairs[i][0], pairs[i][1]), ENOMEM);
        assert_refused(neap_heap_reallocarray(NULL, pairs[i][0], pairs[i][1]), ENOMEM);
        assert_refused(neap_heap_reallocarray(block, pairs[i][0], pairs[i][1]), ENOMEM);
    }
    assert_int_equal(block[9], 9);
    block = neap_heap_reallocarray(block, 100, 30);
    assert_int_equal(block[9], 9);
    assert_true(neap_heap_usable_size(block) >= 3000);
    neap_heap_free(block);
}

/* ---- realloc ---- */

static void realloc_keeps_what_was_there(void **state)
{
    static const size_t sizes[] = {1,    16,      17,    100,     1000,   1025,
                                   4096, 32768,   32769, 50000,   200000, 1048575,
                                   MIB,  MIB + 1, 7000,  3 * MIB, 129,    9 * MIB};
    const unsigned count = sizeof(sizes) / sizeof(sizes[0]);
    struct heap_block block = {NULL, 0, 1};

    (void)state;
    for (unsigned from = 0; from < count; from++) {
        for (unsigned to = 0; to < count; to++) {
            size_t less = sizes[from] < sizes[to] ? sizes[from] : sizes[to];

            block = (struct heap_block){neap_heap_realloc(NULL, sizes[from]),
                                        sizes[from], from * 77 + to};
            assert_non_null(block.at);
            heap_fill(&block);
            errno = MARK;
            block.at = neap_heap_realloc(block.at, sizes[to]);
            assert_int_equal(errno, MARK);
            assert_aligned(block.at, 16);
            assert_true(neap_heap_usable_size(block.at) >= sizes[to]);
            assert_true(heap_holds(&block, less));
            block.size = sizes[to];
            heap_fill(&block);
            neap_heap_free(block.at);
        }
    }
}

static void realloc_to_nothing_frees(void **state)
{
    (void)state;
    for (size_t size = 1; size < 8 * MIB; size *= 16) {
        void *block = neap_heap_malloc(size), *again;

        assert_null(neap_heap_realloc(block, 0));
        block = neap_heap_malloc(size);
        assert_null(neap_heap_reallocarray(block, 0, 12));
        /* Free indeed: it can be had again, and freed again. */
        again = neap_heap_malloc(size);
        assert_non_null(again);
        neap_heap_free(again);
    }
    assert_int_equal(heap_errors(), 0);
    assert_non_null(neap_heap_realloc(NULL, 0));
}

static void a_block_grown_step_by_step_holds_its_text(void **state)
{
    uint8_t *text = NULL;

    (void)state;
    for (size_t size = 1; size <= 300000; size += size < 3000 ? 1 : 997) {
        text = neap_heap_realloc(text, size);
        assert_non_null(text);
        text[size - 1] = (uint8_t)(size * 31);
        assert_int_equal(text[0], 31);
    }
    for (size_t size = 1; size < 3000; size++)
        assert_int_equal(text[size - 1], (uint8_t)(size * 31));
    neap_heap_free(text);
}

/* ---- zeroes ---- */

static void calloc_is_zero_after_dirty_use(void **state)
{
    static uint8_t *blocks[200];

    (void)state;
    for (size_t size = 1; size < 3 * MIB; size = size * 7 / 2 + 1) {
        unsigned count = size < 5000 ? 200 : size < 100000 ? 20 : 3;

        for (unsigned round = 0; round < 3; round++) {
            for (unsigned i = 0; i < count; i++) {
                blocks[i] = neap_heap_calloc(i % 2 ? size : 1, i % 2 ? 1 : size);
                assert_aligned(blocks[i], 16);
                assert_true(heap_is_zero(blocks[i], size));
                memset(blocks[i], 0xff, neap_heap_usable_size(blocks[i]));
            }
            for (unsigned i = 0; i < count; i++)
                neap_heap_free(blocks[i]);
            if (round == 1)
                neap_heap_trim(0);
        }
    }
}

static void a_fresh_calloc_touches_next_to_nothing(void **state)
{
    const size_t size = 64 * MIB;
    uint8_t *block;

    (void)state;
    neap_heap_trim(0); /* else it may be what was used before */
    block = neap_heap_calloc(1, size);
    assert_non_null(block);
    assert_true(heap_resident(block, size) <= 64 << 10);
    for (size_t i = 0; i < size; i += 1 << 14)
        assert_int_equal(block[i], 0);
    memset(block, 1, size);
    neap_heap_free(block);
    block = neap_heap_calloc(size / 8, 8);
    assert_true(heap_is_zero(block, size));
    neap_heap_free(block);
}

/* ---- errno and sized frees ---- */

static void free_keeps_errno(void **state)
{
    static void *blocks[2000];

    (void)state;
    for (size_t size = 8; size <= 8 * MIB; size *= 8) {
        unsigned count = size <= 4096 ? 2000 : 5;

        for (unsigned i = 0; i < count; i++) {
            errno = MARK;
            blocks[i] = neap_heap_malloc(size);
            assert_int_equal(errno, MARK);
            memset(blocks[i], 1, size);
        }
        for (unsigned i = 0; i < count; i++) {
            errno = MARK;
            if (i % 3 == 0)
                neap_heap_free(blocks[i]);
            else if (i % 3 == 1)
                neap_heap_free_sized(blocks[i], size);
            else
                neap_heap_free_aligned_sized(blocks[i], 16, size);
            assert_int_equal(errno, MARK);
        }
        errno = MARK;
        neap_heap_trim(0);
        assert_int_equal(errno, MARK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(sizes_are_rounded_by_little, no_errors),
        cmocka_unit_test_teardown(neighbours_do_not_overlap, no_errors),
        cmocka_unit_test_teardown(nothing_is_a_block_of_its_own, no_errors),
        cmocka_unit_test_teardown(usable_size_is_known_of_all_kinds, no_errors),
        cmocka_unit_test_teardown(sizes_beyond_half_of_all_are_refused, no_errors),
        cmocka_unit_test_teardown(products_that_overflow_are_refused, no_errors),
        cmocka_unit_test_teardown(realloc_keeps_what_was_there, no_errors),
        cmocka_unit_test_teardown(realloc_to_nothing_frees, no_errors),
        cmocka_unit_test_teardown(a_block_grown_step_by_step_holds_its_text, no_errors),
        cmocka_unit_test_teardown(calloc_is_zero_after_dirty_use, no_errors),
        cmocka_unit_test_teardown(a_fresh_calloc_touches_next_to_nothing, no_errors),
        cmocka_unit_test_teardown(free_keeps_errno, no_errors),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}

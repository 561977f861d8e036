/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks that are freed twice, or never were any: found, told to the observer once, and
 * nothing of the heap suffers. By one thread, by two, in each order; by threads that
 * are dead by then.
 *
 * Links: tests/unit/heap_tools.c
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "libhook/heap/os.h"
#include "libhook/heap/walk.h"
#include "tests/unit/heap_tools.h"

#define BLOCKS 1000u

static int setup(void **state)
{
    (void)state;
    heap_begin();
    return 0;
}

/* Neighbours that stay, so that the span does; and the blocks in question. */
static void *kept[BLOCKS], *block[BLOCKS];

static void make(size_t size)
{
    for (unsigned i = 0; i < BLOCKS; i++) {
        kept[i] = neap_heap_malloc(size);
        block[i] = neap_heap_malloc(size);
        memset(kept[i], 0x77, size);
        memset(block[i], 0x11, size);
    }
}

static void *make_in_thread(void *size)
{
    make((size_t)(uintptr_t)size);
    return NULL;
}

static void *free_blocks(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < BLOCKS; i++)
        neap_heap_free(block[i]);
    return NULL;
}

static void in_thread(void *(*body)(void *), void *arg)
{
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, body, arg), 0);
    pthread_join(thread, NULL);
}

/* What is allocated now is served once each, and the neighbours are as they were. */
static void check_heap(size_t size)
{
    static struct heap_block again[2 * BLOCKS];

    for (unsigned i = 0; i < 2 * BLOCKS; i++) {
        again[i] = (struct heap_block){neap_heap_malloc(size), size, i * 131 + 7};
        assert_non_null(again[i].at);
        heap_fill(&again[i]);
    }
    for (unsigned i = 0; i < 2 * BLOCKS; i++)
        assert_true(heap_holds(&again[i], size));
    for (unsigned i = 0; i < BLOCKS; i++)
        for (size_t k = 0; k < size; k++)
            assert_int_equal(((uint8_t *)kept[i])[k], 0x77);
    for (unsigned i = 0; i < 2 * BLOCKS; i++)
        neap_heap_free(again[i].at);
    for (unsigned i = 0; i < BLOCKS; i++)
        neap_heap_free(kept[i]);
    assert_int_equal(heap_errors(), 0);
    assert_null(neap_heap_verify());
}

static void twice_by_one_thread(void **state)
{
    (void)state;
    for (size_t size = 16; size <= 32768; size *= 2) {
        unsigned before = heap_errors_of(NEAP_HEAP_DOUBLE_FREE);

        make(size);
        free_blocks(NULL);
        free_blocks(NULL);
        assert_int_equal(heap_errors(), BLOCKS);
        assert_int_equal(heap_errors_of(NEAP_HEAP_DOUBLE_FREE) - before, BLOCKS);
        check_heap(size);
    }
}

static void twice_by_two_threads(void **state)
{
    (void)state;
    for (unsigned order = 0; order < 8; order++) {
        const size_t size = 16u << order % 4 * 3;

        /* whose they are, who comes first, who second */
        if (order & 1)
            in_thread(make_in_thread, (void *)(uintptr_t)size);
        else
            make(size);
        if (order & 2)
            in_thread(free_blocks, NULL);
        else
            free_blocks(NULL);
        if (order & 4)
            in_thread(free_blocks, NULL);
        else
            free_blocks(NULL);
        assert_int_equal(heap_errors(), BLOCKS);
        check_heap(size);
    }
}

/* Each block one at a time, the owner's and another's free close together. */
static void *_Atomic handed[BLOCKS];

static void *free_handed(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < BLOCKS; i++) {
        void *one;

        while (!(one = atomic_load(&handed[i])))
            ;
        neap_heap_free(one);
    }
    return NULL;
}

static void another_s_while_the_owner_works(void **state)
{
    pthread_t thread;

    (void)state;
    for (unsigned round = 0; round < 100; round++) {
        make(48);
        for (unsigned i = 0; i < BLOCKS; i++)
            atomic_store(&handed[i], NULL);
        assert_int_equal(pthread_create(&thread, NULL, free_handed, NULL), 0);
        for (unsigned i = 0; i < BLOCKS; i++) {
            void *mine = neap_heap_malloc(48);

            atomic_store(&handed[i], block[i]);
            neap_heap_free(mine);
        }
        pthread_join(thread, NULL);
        assert_int_equal(heap_errors(), 0);
        free_blocks(NULL); /* all of them again */
        assert_int_equal(heap_errors(), BLOCKS);
        check_heap(48);
    }
}

static void what_never_was_a_block(void **state)
{
    static uint8_t foreign[64];
    uint8_t *some = neap_heap_malloc(1000), *large = neap_heap_malloc(100000);
    void *const wrong[] = {
        foreign,
        foreign + 16,
        &some,
        (void *)8,
        some + 8,
        some + 16,
        large + 16,
        large + 4096,
        large + 65536,
        (void *)UINTPTR_MAX,
        (void *)((uintptr_t)some | (1ull << 47)),
        (void *)((uintptr_t)some | (1ull << 63)),
    };
    const unsigned count = sizeof(wrong) / sizeof(wrong[0]);

    (void)state;
    memset(some, 5, 1000);
    memset(large, 6, 100000);
    for (unsigned i = 0; i < count; i++) {
        neap_heap_free(wrong[i]);
        assert_int_equal(heap_errors(), 1);
    }
    assert_true(heap_errors_of(NEAP_HEAP_INTERIOR_FREE) >= 2);
    assert_null(neap_heap_realloc(foreign, 10));
    assert_int_equal(heap_errors(), 1);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(some[i], 5);
    neap_heap_free(some);
    neap_heap_free(large);
    assert_int_equal(heap_errors(), 0);
    neap_heap_free(large);
    assert_int_equal(heap_errors(), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(twice_by_one_thread),
        cmocka_unit_test(twice_by_two_threads),
        cmocka_unit_test(another_s_while_the_owner_works),
        cmocka_unit_test(what_never_was_a_block),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}

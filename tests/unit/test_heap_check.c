/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks that are checked: what each level finds, where it says that it is, and that
 * programs without mistakes hear nothing.
 *
 * Links: tests/unit/heap_child.c
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "libhook/heap/check.h"
#include "libhook/heap/map.h"
#include "libhook/heap/walk.h"
#include "tests/unit/heap_child.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static const size_t sizes[] = {0,    1,    7,     8,     15,    16,    17,     24,
                               40,   48,   100,   128,   129,   1000,  1024,   1025,
                               4088, 4096, 20000, 32760, 32768, 32769, 100000, 3000000};

static char *allocate(size_t size)
{
    char *block = child_hide(neap_heap_malloc(size));

    CHECK(block);
    return block;
}

static const struct neap_heap_error *last(void)
{
    return &child_errors[child_error_count - 1];
}

/* ---- programs without mistakes ---- */

static void fill(char *block, size_t size)
{
    for (size_t i = 0; i < size; i++)
        block[i] = (char)(i * 7 + size);
}

static bool is_filled(const char *block, size_t size, size_t as)
{
    for (size_t i = 0; i < size; i++)
        if (block[i] != (char)(i * 7 + as))
            return false;
    return true;
}

static void all_is_well(void)
{
    for (size_t i = 0; i < NEAP_ARRAY_LEN(sizes); i++) {
        size_t size = sizes[i];
        char *block = allocate(size), *zero;

        CHECK((uintptr_t)block % 16 == 0);
        CHECK(neap_heap_usable_size(block) == size);
        fill(block, size);
        zero = child_hide(neap_heap_calloc(1, size));
        CHECK(zero);
        for (size_t k = 0; k < size; k++)
            CHECK(zero[k] == 0);
        for (size_t k = 0; k < NEAP_ARRAY_LEN(sizes); k++) {
            size_t other = sizes[k] ? sizes[k] : 1;

            block = child_hide(neap_heap_realloc(block, other));
            CHECK(block && neap_heap_usable_size(block) == other);
            CHECK(is_filled(block, other < size ? other : size, size));
            block = child_hide(neap_heap_realloc(block, size ? size : 1));
            CHECK(block);
            fill(block, size);
        }
        neap_heap_free(zero);
        neap_heap_free_sized(block, size ? size : 1);
    }
    for (size_t align = 16; align <= MIB; align *= 2) {
        for (size_t i = 0; i < NEAP_ARRAY_LEN(sizes); i++) {
            char *block = child_hide(neap_heap_aligned_alloc(align, sizes[i]));

            CHECK(block && (uintptr_t)block % align == 0);
            CHECK(neap_heap_usable_size(block) == sizes[i]);
            fill(block, sizes[i]);
            neap_heap_free_aligned_sized(block, align, sizes[i]);
        }
    }
    CHECK(neap_heap_realloc(child_hide(allocate(10)), 0) == NULL);
    CHECK(neap_heap_malloc(SIZE_MAX / 2) == NULL && errno == ENOMEM);
    CHECK(neap_heap_malloc(SIZE_MAX) == NULL && errno == ENOMEM);
    neap_check_finish();
    VERIFY();
    EXPECT(0, 0, NULL);
}

static void test_no_mistakes(void **state)
{
    (void)state;
    for (unsigned level = 1; level <= 3; level++)
        child_run(level, all_is_well);
}

static void aligned_comes_first(void)
{
    char *block = neap_heap_aligned_alloc(64, 100);

    CHECK(block && neap_heap_usable_size(block) == 100);
}

static void test_first_is_aligned(void **state)
{
    (void)state;
    child_run(1, aligned_comes_first);
}

#define THREADS 3
#define SLOTS   64
static void *_Atomic slots[SLOTS];

static void *churn(void *seed)
{
    uint32_t random = (uint32_t)(uintptr_t)seed * 2654435761u + 1;

    for (int i = 0; i < 20000; i++) {
        size_t size;
        char *block, *old;

        random = random * 1664525 + 1013904223;
        size = random >> 20;
        block = neap_heap_malloc(size);
        CHECK(block);
        if (size)
            memset(block, 1, size);
        if (random & 512)
            block = neap_heap_realloc(block, size + 40);
        CHECK(block);
        old = atomic_exchange(&slots[random >> 10 & (SLOTS - 1)], block);
        neap_heap_free(old);
    }
    return NULL;
}

static void threads_pass_blocks(void)
{
    pthread_t thread[THREADS];

    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&thread[i], NULL, churn, (void *)(i + 1)) == 0);
    for (int i = 0; i < 20; i++)
        neap_check_scan();
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    for (int i = 0; i < SLOTS; i++)
        neap_heap_free(slots[i]);
    neap_check_finish();
    VERIFY();
    EXPECT(0, 0, NULL);
}

static void test_threads(void **state)
{
    (void)state;
    for (unsigned level = 0; level <= 3; level++)
        child_run(level, threads_pass_blocks);
}

static void children_go_on(void)
{
    char *before[100];
    int status;
    pid_t child;

    for (int i = 0; i < 100; i++)
        before[i] = allocate(100);
    neap_heap_fork_prepare();
    child = fork();
    if (child)
        neap_heap_fork_parent();
    else
        neap_heap_fork_child();
    for (int i = 0; i < 100; i++)
        neap_heap_free(before[i]);
    for (int i = 0; i < 20000; i++)
        neap_heap_free(allocate(64));
    VERIFY();
    neap_heap_free(before[5]);
    EXPECT(1, NEAP_HEAP_DOUBLE_FREE, before[5]);
    if (!child)
        _exit(0);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void test_fork(void **state)
{
    (void)state;
    for (unsigned level = 0; level <= 3; level++)
        child_run(level, children_go_on);
}

/* ---- behind the end ---- */

static void one_byte_beyond(void)
{
    unsigned count = 0;

    for (size_t i = 0; i < NEAP_ARRAY_LEN(sizes); i++) {
        for (size_t k = 0; k < 8; k++) {
            char *block;

            child_stack = 100 + i;
            block = allocate(sizes[i]);
            block[sizes[i] + k] = (char)k;
            child_stack = 200 + i;
            neap_heap_free(block);
            EXPECT(++count, NEAP_HEAP_OVERFLOW, block + sizes[i] + k);
            CHECK(last()->block == (uintptr_t)block && last()->size == sizes[i]);
            CHECK(last()->alloc_stack == 100 + i && last()->free_stack == 0);
        }
    }
    neap_check_finish();
    CHECK(child_error_count == count);
}

static void realloc_looks(void)
{
    char *block = allocate(40), *moved;

    block[40] = 0;
    moved = neap_heap_realloc(block, 80);
    EXPECT(1, NEAP_HEAP_OVERFLOW, block + 40);
    neap_heap_free(moved);
    EXPECT(1, NEAP_HEAP_OVERFLOW, block + 40);
}

static void scan_finds_each_once(void)
{
    char *block[40];

    for (int i = 0; i < 40; i++) {
        block[i] = allocate((size_t)i * 2500);
        block[i][i * 2500 + 3] = 0;
    }
    CHECK(neap_check_scan() >= 40);
    CHECK(child_error_count == 40);
    neap_check_scan();
    CHECK(child_error_count == 40);
    VERIFY();
    for (int i = 0; i < 40; i++)
        neap_heap_free(block[i]);
    CHECK(child_error_count == 40);
}

static void test_overflow(void **state)
{
    (void)state;
    for (unsigned level = 1; level <= 3; level++) {
        child_run(level, one_byte_beyond);
        child_run(level, realloc_looks);
        child_run(level, scan_finds_each_once);
    }
}

/* ---- frees and sizes ---- */

static void stacks_are_told(void)
{
    char *block;

    child_stack = 7;
    block = allocate(40);
    child_stack = 8;
    neap_heap_free(block);
    child_stack = 9;
    neap_heap_free(block);
    EXPECT(1, NEAP_HEAP_DOUBLE_FREE, block);
    CHECK(last()->alloc_stack == 7 && last()->free_stack == 8 && last()->size == 40);
    child_stack = 10;
    block = allocate(5 * MIB);
    child_stack = 11;
    neap_heap_free(block);
    neap_heap_free(block);
    EXPECT(2, NEAP_HEAP_DOUBLE_FREE, block);
    CHECK(last()->alloc_stack == 10 && last()->free_stack == 11);
    CHECK(last()->size == 5 * MIB);
    CHECK(neap_heap_realloc(block, 10) == NULL && errno == ENOMEM);
    EXPECT(3, NEAP_HEAP_DOUBLE_FREE, block);
    block = allocate(40);
    neap_heap_free(block + 20);
    EXPECT(4, NEAP_HEAP_INTERIOR_FREE, block + 20);
    CHECK(last()->block == (uintptr_t)block && last()->alloc_stack == 11);
    neap_heap_free(block);
    neap_heap_free(&block);
    EXPECT(5, NEAP_HEAP_INVALID_FREE, &block);
}

/* All blocks of a span are freed and the span given back: its stacks are known still.
 */
static void stacks_outlive_spans(void)
{
    char *block[64];

    child_stack = 5;
    for (int i = 0; i < 64; i++)
        block[i] = allocate(3000);
    child_stack = 6;
    for (int i = 0; i < 64; i++)
        neap_heap_free(block[i]);
    neap_heap_trim(0);
    CHECK(!neap_map_find((uintptr_t)block[40]) ||
          neap_map_find((uintptr_t)block[40])->state != NEAP_SPAN_SMALL);
    neap_heap_free(block[40]);
    EXPECT(1, NEAP_HEAP_DOUBLE_FREE, block[40]);
    CHECK(last()->alloc_stack == 5 && last()->free_stack == 6 && last()->size == 3000);
}

static void exact_sizes(void)
{
    char *block = allocate(41);

    neap_heap_free_sized(block, 40);
    EXPECT(1, NEAP_HEAP_SIZE_MISMATCH, block);
    CHECK(last()->size == 41 && last()->given == 40);
    neap_heap_free_aligned_sized(block, 64, 42);
    EXPECT(2, NEAP_HEAP_SIZE_MISMATCH, block);
    neap_heap_free_sized(block, 41);
    CHECK(child_error_count == 2);
    neap_heap_free_sized(block, 41);
    EXPECT(3, NEAP_HEAP_DOUBLE_FREE, block);
}

static void test_frees(void **state)
{
    (void)state;
    for (unsigned level = 1; level <= 3; level++) {
        child_run(level, stacks_are_told);
        child_run(level, exact_sizes);
    }
    child_run(1, stacks_outlive_spans);
    child_run(2, stacks_outlive_spans);
}

static pthread_barrier_t barrier;
static char *_Atomic shared;

static void *free_too(void *unused)
{
    for (int i = 0; i < 100; i++) {
        pthread_barrier_wait(&barrier);
        neap_heap_free(shared);
        pthread_barrier_wait(&barrier);
    }
    return unused;
}

static void two_free_at_once(void)
{
    pthread_t thread;

    pthread_barrier_init(&barrier, NULL, 2);
    CHECK(pthread_create(&thread, NULL, free_too, NULL) == 0);
    for (unsigned i = 0; i < 100; i++) {
        shared = allocate(i * 5);
        pthread_barrier_wait(&barrier);
        neap_heap_free(shared);
        pthread_barrier_wait(&barrier);
        EXPECT(i + 1, NEAP_HEAP_DOUBLE_FREE, shared);
    }
    pthread_join(thread, NULL);
    VERIFY();
}

static void test_races(void **state)
{
    (void)state;
    for (unsigned level = 1; level <= 3; level++)
        child_run(level, two_free_at_once);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_mistakes), cmocka_unit_test(test_first_is_aligned),
        cmocka_unit_test(test_threads),     cmocka_unit_test(test_fork),
        cmocka_unit_test(test_overflow),    cmocka_unit_test(test_frees),
        cmocka_unit_test(test_races),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

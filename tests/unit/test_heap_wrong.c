/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What no level can let pass: addresses that are freed and are no block in use, and
 * sized frees of another size. What is said of it, how often, and to whom.
 *
 * Links: tests/unit/heap_child.c
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "libhook/heap/check.h"
#include "libhook/heap/map.h"
#include "libhook/heap/meta.h"
#include "libhook/heap/span.h"
#include "tests/unit/heap_child.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

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

static void free_at(uintptr_t address)
{
    neap_heap_free(child_hide((void *)address));
}

/* ---- kinds ---- */

static void small_kinds(void)
{
    char *block = allocate(100);
    struct neap_span *span = neap_map_find((uintptr_t)block);
    uintptr_t end = span->start + (uintptr_t)span->capacity * span->size;

    neap_heap_free(NULL);
    CHECK(child_error_count == 0);
    neap_heap_free(block + 1);
    EXPECT(1, NEAP_HEAP_INTERIOR_FREE, block + 1);
    CHECK(last()->block == (uintptr_t)block);
    neap_heap_free(block + 96);
    EXPECT(2, NEAP_HEAP_INTERIOR_FREE, block + 96);
    free_at((uintptr_t)block | 1ull << 47);
    EXPECT(3, NEAP_HEAP_INVALID_FREE, (char *)((uintptr_t)block | 1ull << 47));
    free_at((uintptr_t)block | 1ull << 63);
    EXPECT(4, NEAP_HEAP_INVALID_FREE, (char *)((uintptr_t)block | 1ull << 63));
    /* Blocks that were never handed out. */
    free_at(end - span->size);
    EXPECT(5, NEAP_HEAP_INVALID_FREE, (void *)(end - span->size));
    neap_heap_free(block);
    CHECK(child_error_count == 5);
    neap_heap_free(block);
    EXPECT(6, NEAP_HEAP_DOUBLE_FREE, block);
    CHECK(last()->block == (uintptr_t)block);
    neap_heap_free(block + 16);
    EXPECT(7, NEAP_HEAP_INTERIOR_FREE, block + 16);
    VERIFY();
}

/* What a span has in front of its blocks and behind them, for every class. */
static void ends_of_spans(void)
{
    unsigned count = 0;

    for (unsigned i = 0; i < NEAP_CLASSES; i++) {
        char *block = allocate(neap_class_size(i) - 8); /* room for a canary */
        struct neap_span *span = neap_map_find((uintptr_t)block);
        uintptr_t base = neap_span_cold(span)->base;
        uintptr_t end = span->start + (uintptr_t)span->capacity * span->size;
        uintptr_t limit = base + neap_span_cold(span)->units * NEAP_UNIT;

        for (uintptr_t at = base; at < span->start; at += 16) {
            free_at(at);
            EXPECT(++count, NEAP_HEAP_INVALID_FREE, (void *)at);
            child_error_count = count = 0;
        }
        for (uintptr_t at = end; at < limit; at += 16) {
            free_at(at);
            EXPECT(++count, NEAP_HEAP_INVALID_FREE, (void *)at);
            child_error_count = count = 0;
        }
        neap_heap_free(block);
    }
    VERIFY();
}

static void large_kinds(void)
{
    static const size_t sizes[] = {40 * KIB, 500 * KIB, 3 * MIB};
    unsigned count = 0;

    for (size_t i = 0; i < NEAP_ARRAY_LEN(sizes); i++) {
        char *block = allocate(sizes[i]);

        neap_heap_free(block + 16);
        EXPECT(++count, NEAP_HEAP_INTERIOR_FREE, block + 16);
        neap_heap_free(block + NEAP_UNIT);
        EXPECT(++count, NEAP_HEAP_INTERIOR_FREE, block + NEAP_UNIT);
        CHECK(last()->block == (uintptr_t)block && last()->size >= sizes[i]);
        neap_heap_free(block);
        CHECK(child_error_count == count);
        neap_heap_free(block);
        EXPECT(++count, NEAP_HEAP_DOUBLE_FREE, block);
        CHECK(last()->size >= sizes[i]);
        neap_heap_free(block + NEAP_UNIT);
        EXPECT(++count, NEAP_HEAP_INTERIOR_FREE, block + NEAP_UNIT);
    }
    VERIFY();
}

/* More was given back since than is remembered: units still say something. */
static void long_ago(void)
{
    char *first = allocate(64 * KIB), *guard = allocate(64 * KIB);

    neap_heap_free(first);
    for (int i = 0; i < 400; i++)
        neap_heap_free(allocate(8 * MIB));
    neap_heap_free(first);
    EXPECT(1, NEAP_HEAP_DOUBLE_FREE, first);
    neap_heap_free(first + 48);
    EXPECT(2, NEAP_HEAP_INVALID_FREE, first + 48);
    neap_heap_free(guard);
    CHECK(child_error_count == 2);
}

static void span_is_gone(void)
{
    char *block[64];

    for (int i = 0; i < 64; i++)
        block[i] = allocate(3000);
    for (int i = 0; i < 64; i++)
        neap_heap_free(block[i]);
    neap_heap_trim(0);
    neap_heap_free(block[20]);
    EXPECT(1, NEAP_HEAP_DOUBLE_FREE, block[20]);
    CHECK(last()->size >= 3000 && last()->block == (uintptr_t)block[20]);
    neap_heap_free(block[20] + 100);
    EXPECT(2, NEAP_HEAP_INTERIOR_FREE, block[20] + 100);
}

static void elsewhere(void)
{
    static char here[64];
    char *libc = malloc(100);

    neap_heap_free(allocate(1));
    free_at((uintptr_t)here & ~(uintptr_t)15);
    CHECK(child_error_count == 1 && last()->kind == NEAP_HEAP_INVALID_FREE);
    neap_heap_free(child_hide(libc));
    EXPECT(2, NEAP_HEAP_INVALID_FREE, libc);
    free_at((uintptr_t)neap_meta_chunks + 192);
    EXPECT(3, NEAP_HEAP_INVALID_FREE, (char *)neap_meta_chunks + 192);
    free_at(16);
    EXPECT(4, NEAP_HEAP_INVALID_FREE, (void *)16);
    free_at(~(uintptr_t)15);
    EXPECT(5, NEAP_HEAP_INVALID_FREE, (void *)~(uintptr_t)15);
    CHECK(last()->block == 0 && last()->size == 0);
    CHECK(neap_heap_realloc(child_hide(libc), 10) == NULL);
    EXPECT(6, NEAP_HEAP_INVALID_FREE, libc);
    free(libc);
}

/* Where it would have stayed in place, too. */
static void resized(void)
{
    char *block = allocate(200), *gone = allocate(100);

    CHECK(neap_heap_realloc(child_hide(block + 16), 150) == NULL);
    EXPECT(1, NEAP_HEAP_INTERIOR_FREE, block + 16);
    neap_heap_free(gone);
    CHECK(neap_heap_realloc(child_hide(gone), 90) == NULL);
    EXPECT(2, NEAP_HEAP_DOUBLE_FREE, gone);
    neap_heap_free(block);
}

static void *free_there(void *block)
{
    neap_heap_free(block);
    return NULL;
}

static void another_frees(void)
{
    char *block = allocate(100);
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, free_there, block) == 0);
    pthread_join(thread, NULL);
    CHECK(child_error_count == 0);
    neap_heap_free(block);
    EXPECT(1, NEAP_HEAP_DOUBLE_FREE, block);
    block = allocate(100);
    neap_heap_free(block);
    CHECK(pthread_create(&thread, NULL, free_there, block) == 0);
    pthread_join(thread, NULL);
    EXPECT(2, NEAP_HEAP_DOUBLE_FREE, block);
    VERIFY();
}

/* Beside a marked block frees are quick, and as closely looked at. */
static void beside_a_mark(void)
{
    char *marked = allocate(100);

    neap_heap_mark(marked);
    small_kinds();
    child_error_count = 0;
    another_frees();
    child_error_count = 0;
    neap_heap_unmark(marked);
    neap_heap_free(marked);
    CHECK(child_error_count == 0);
    neap_heap_free(marked);
    EXPECT(1, NEAP_HEAP_DOUBLE_FREE, marked);
    VERIFY();
}

static void test_kinds(void **state)
{
    (void)state;
    for (unsigned level = 0; level <= 3; level++) {
        child_run(level, small_kinds);
        child_run(level, ends_of_spans);
        child_run(level, elsewhere);
        child_run(level, resized);
        child_run(level, another_frees);
        child_run(level, beside_a_mark);
    }
    for (unsigned level = 0; level <= 2; level++) {
        child_run(level, large_kinds);
        child_run(level, span_is_gone);
    }
    child_run(0, long_ago);
}

/* ---- sizes at level 0 ---- */

static void no_false_alarm(void)
{
    for (size_t size = 0; size < 70000; size += size < 3000 ? 1 : 61) {
        neap_heap_free_sized(allocate(size), size);
        for (size_t align = 8; align <= 64 * KIB && size % 7 == 0; align *= 2) {
            void *block = child_hide(neap_heap_aligned_alloc(align, size));

            CHECK(block);
            neap_heap_free_aligned_sized(block, align, size);
            CHECK(child_error_count == 0);
        }
        if (size % 5 == 0 && size) {
            for (size_t to = size / 4 + 1; to < size * 3; to += size / 3 + 1) {
                void *block = neap_heap_realloc(allocate(size), to);

                block = child_hide(neap_heap_realloc(block, to / 2 + 1));
                CHECK(block);
                neap_heap_free_sized(block, to / 2 + 1);
                CHECK(child_error_count == 0);
            }
        }
    }
}

static void other_classes(void)
{
    char *block = allocate(48), *large = allocate(100 * KIB);

    neap_heap_free_sized(block, 49);
    EXPECT(1, NEAP_HEAP_SIZE_MISMATCH, block);
    CHECK(last()->given == 49 && last()->size == 48);
    neap_heap_free_sized(block, 16);
    EXPECT(2, NEAP_HEAP_SIZE_MISMATCH, block);
    neap_heap_free_sized(large, 100);
    EXPECT(3, NEAP_HEAP_SIZE_MISMATCH, large);
    neap_heap_free_sized(large, 101 * KIB);
    EXPECT(4, NEAP_HEAP_SIZE_MISMATCH, large);
    neap_heap_free_sized(NULL, 5);
    /* They are in use still. */
    neap_heap_free_sized(block, 40);
    neap_heap_free_sized(large, 100 * KIB);
    CHECK(child_error_count == 4);
    neap_heap_free_sized(block, 40);
    EXPECT(5, NEAP_HEAP_DOUBLE_FREE, block);
}

static void test_sizes(void **state)
{
    (void)state;
    child_run(0, no_false_alarm);
    child_run(0, other_classes);
}

/* ---- what is said ---- */

static char text[32768];

static void lines_are_whole(void)
{
    char expected[256];
    char *block = allocate(40);

    errno = 4711;
    neap_heap_free(block + 3);
    neap_heap_free_sized(block, 500);
    neap_heap_free(block);
    neap_heap_free(block);
    free_at(16);
    CHECK(errno == 4711);
    CHECK(child_said(text, sizeof(text)) > 0);
    snprintf(
        expected, sizeof(expected),
        "neaptide: free of 0x%lx, 3 bytes inside the block 0x%lx of 40 bytes (pid "
        "%d)\nneaptide: free of 0x%lx with size 500, but it is a block of 40 bytes "
        "(pid %d)\n",
        (unsigned long)block + 3, (unsigned long)block, (int)getpid(),
        (unsigned long)block, (int)getpid());
    CHECK(strncmp(text, expected, strlen(expected)) == 0);
    snprintf(expected, sizeof(expected),
             "neaptide: double free of 0x%lx, a block of 40 bytes (pid %d)\n"
             "neaptide: invalid free of 0x10, no block of this heap (pid %d)\n",
             (unsigned long)block, (int)getpid(), (int)getpid());
    CHECK(strstr(text, expected));
}

static void lines_have_an_end(void)
{
    unsigned lines = 0;

    for (unsigned i = 1; i <= 150; i++) {
        free_at(16 * i);
        EXPECT(i, NEAP_HEAP_INVALID_FREE, (void *)(uintptr_t)(16 * i));
    }
    child_said(text, sizeof(text));
    for (const char *at = text; (at = strchr(at, '\n')); at++)
        lines++;
    CHECK(lines == 101);
    CHECK(strstr(text, "0x640,") && !strstr(text, "0x650,"));
    CHECK(strstr(text, "are not shown"));
}

static void test_lines(void **state)
{
    (void)state;
    child_run(1, lines_are_whole);
    child_run(0, lines_have_an_end);
}

/* ---- reports from within ---- */

static unsigned depth, deepest;

static void frees_wrongly(const struct neap_heap_error *error)
{
    (void)error;
    depth++;
    deepest = depth > deepest ? depth : deepest;
    free_at(32);
    depth--;
}

static void observer_is_wrong_too(void)
{
    static const struct neap_heap_observer wrong = {.error = frees_wrongly};

    neap_heap_observe(&wrong);
    free_at(16);
    free_at(16);
    CHECK(deepest == 1);
    child_said(text, sizeof(text));
    CHECK(strstr(text, "0x20,"));
}

static void on_abort(int number)
{
    (void)number;
    free_at(48);
}

static void aborts(void)
{
    free_at(16);
    CHECK(!"it goes on");
}

static void aborts_again(void)
{
    struct sigaction action = {.sa_handler = on_abort};

    CHECK(sigaction(SIGABRT, &action, NULL) == 0);
    free_at(16);
    CHECK(!"it goes on");
}

/* By the signal, or as a sanitizer ends a process that got it. */
static void assert_aborts(void (*body)(void), unsigned most)
{
    int status = child_status(0, true, body);
    unsigned lines = 0;

    assert_int_not_equal(status, 0);
    child_said(text, sizeof(text));
    assert_null(strstr(text, "goes on"));
    assert_non_null(strstr(text, "invalid free of 0x10,"));
    if (WIFSIGNALED(status)) {
        assert_int_equal(WTERMSIG(status), SIGABRT);
        for (const char *at = text; (at = strchr(at, '\n')); at++)
            lines++;
        assert_in_range(lines, 1, most);
    }
}

static void test_within(void **state)
{
    (void)state;
    child_run(0, observer_is_wrong_too);
    assert_aborts(aborts, 1);
    assert_aborts(aborts_again, 4); /* abort() calls the handler more than once */
}

static unsigned freed_count;
static void *freed_block;

static void on_freed(void *block)
{
    freed_count++;
    freed_block = block;
    neap_heap_unmark(block);
}

static void marked_are_told(void)
{
    static const struct neap_heap_observer marks = {.freed = on_freed};
    char *block = allocate(40);

    neap_heap_observe(&marks);
    neap_heap_mark(block);
    neap_heap_free(block);
    CHECK(freed_count == 1 && freed_block == block);
    neap_heap_free(allocate(40));
    CHECK(freed_count == 1);
}

static void test_marks(void **state)
{
    (void)state;
    for (unsigned level = 0; level <= 3; level++)
        child_run(level, marked_are_told);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds), cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_lines), cmocka_unit_test(test_within),
        cmocka_unit_test(test_marks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks that are written to after their free, from check level 2 on, and the
 * quarantine of level 3.
 *
 * Links: tests/unit/heap_child.c
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "libhook/heap/check.h"
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

static const struct neap_heap_error *last(void)
{
    return &child_errors[child_error_count - 1];
}

/* Others of its class may be handed out before it. */
static void *allocate_again(const void *block, size_t size)
{
    for (int i = 0; i < 1000; i++) {
        void *other = allocate(size);

        if (other == block)
            return other;
    }
    return NULL;
}

static void written_when_free(void)
{
    char *block, *other;

    child_stack = 1;
    block = allocate(40);
    child_stack = 2;
    neap_heap_free(block);
    block[17] = 'x';
    child_stack = 3;
    other = allocate_again(block, 40);
    CHECK(other == block);
    EXPECT(1, NEAP_HEAP_WRITE_AFTER_FREE, block + 17);
    CHECK(last()->block == (uintptr_t)block && last()->size == 40);
    CHECK(last()->alloc_stack == 1 && last()->free_stack == 2);
    neap_heap_free(other);
    other = allocate(45);
    CHECK(child_error_count == 1);
    neap_heap_free(other);
}

/* Nobody gets the block again: what was written shows when its span goes. */
static void written_when_span_goes(void)
{
    char *block[64];

    for (int i = 0; i < 64; i++)
        block[i] = allocate(3000);
    neap_heap_free(block[10]);
    block[10][2999]--;
    for (int i = 0; i < 64; i++)
        if (i != 10)
            neap_heap_free(block[i]);
    neap_heap_trim(0);
    neap_heap_free(allocate(1));
    EXPECT(1, NEAP_HEAP_WRITE_AFTER_FREE, block[10] + 2999);
}

static void fresh_is_not_touched(void)
{
    struct neap_heap_sum before, after;
    char *block;

    neap_heap_free(allocate(10));
    neap_heap_walk(NULL, true, &before);
    block = allocate(256 * MIB);
    neap_heap_walk(NULL, true, &after);
    CHECK(after.mapped - before.mapped >= 256 * MIB);
    CHECK(after.resident - before.resident < MIB);
    CHECK(neap_heap_usable_size(block) == 256 * MIB);
    neap_heap_free(block);
}

static void test_write_after_free(void **state)
{
    (void)state;
    child_run(2, written_when_free);
    child_run(2, written_when_span_goes);
    child_run(2, fresh_is_not_touched);
}

/* ---- quarantine ---- */

static void blocks_come_back_late(void)
{
    char *block = allocate(40);

    neap_heap_free(block);
    for (int i = 0; i < 16000; i++) {
        char *other = allocate(40);

        CHECK(other != block);
        neap_heap_free(other);
    }
    block[39] = 1;
    for (int i = 0; i < 1000; i++)
        neap_heap_free(allocate(40));
    EXPECT(1, NEAP_HEAP_WRITE_AFTER_FREE, block + 39);
    VERIFY();
}

static void bytes_are_bounded(void)
{
    struct neap_heap_sum sum;
    char *block = allocate(900 * KIB);

    neap_heap_free(block);
    block[899 * KIB] = 1;
    for (int i = 0; i < 100; i++)
        neap_heap_free(allocate(900 * KIB));
    EXPECT(1, NEAP_HEAP_WRITE_AFTER_FREE, block + 899 * KIB);
    neap_heap_walk(NULL, false, &sum);
    CHECK(sum.live == 0 && sum.requested == 0);
    CHECK(sum.mapped < 24 * MIB);
}

static void the_end_is_a_look(void)
{
    char *block[3];

    for (int i = 0; i < 3; i++)
        block[i] = allocate(100);
    neap_heap_free(block[0]);
    block[0][8] = 1;
    block[1][101] = 1;
    neap_check_finish();
    CHECK(child_error_count == 2);
    CHECK(child_errors[0].kind == NEAP_HEAP_WRITE_AFTER_FREE);
    CHECK(child_errors[0].address == (uintptr_t)block[0] + 8);
    CHECK(child_errors[1].kind == NEAP_HEAP_OVERFLOW);
    CHECK(child_errors[1].address == (uintptr_t)block[1] + 101);
    neap_check_finish();
    CHECK(child_error_count == 2);
}

static void now_and_then_is_a_look(void)
{
    char *block = allocate(100);

    block[100] = 0;
    for (int i = 0; i < 20000; i++)
        neap_heap_free(allocate(16));
    EXPECT(1, NEAP_HEAP_OVERFLOW, block + 100);
}

static void test_quarantine(void **state)
{
    (void)state;
    child_run(3, blocks_come_back_late);
    child_run(3, bytes_are_bounded);
    child_run(3, the_end_is_a_look);
    child_run(3, now_and_then_is_a_look);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write_after_free),
        cmocka_unit_test(test_quarantine),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

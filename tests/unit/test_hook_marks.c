/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libhook/marks over the real heap: the frees of marked blocks are told, each mark goes
 * once, whoever takes it, and none is left behind.
 *
 * Links: libhook/marks.c libhook/heap/%.c
 */
#include "libhook/marks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "libhook/heap/heap.h"
#include "schema/wire/table.h"

#define BLOCKS 64u

static void *block[BLOCKS];
static const void *told[4 * BLOCKS];
static unsigned told_count;

static void freed(void *which)
{
    if (told_count < 4 * BLOCKS)
        told[told_count++] = which;
}

static bool was_told(const void *which)
{
    for (unsigned i = 0; i < told_count; i++) {
        if (told[i] == which)
            return true;
    }
    return false;
}

/* Where a block's slot may be: its home. */
static uint32_t slot_of(const void *which)
{
    return neap_table_home((uint64_t)(uintptr_t)which);
}

static int setup(void **state)
{
    static const struct neap_heap_observer observer = {.freed = freed};

    (void)state;
    neap_heap_observe(&observer);
    told_count = 0;
    for (unsigned i = 0; i < BLOCKS; i++) {
        block[i] = neap_heap_malloc(48);
        assert_non_null(block[i]);
    }
    return 0;
}

static void free_all(void)
{
    for (unsigned i = 0; i < BLOCKS; i++)
        neap_heap_free(block[i]);
}

/* No free of any block is told: nothing is marked. */
static void expect_no_marks(void)
{
    void *again[BLOCKS];

    free_all(); /* tells once more of spans that have just lost their last mark */
    for (unsigned i = 0; i < BLOCKS; i++)
        again[i] = neap_heap_malloc(48);
    told_count = 0;
    for (unsigned i = 0; i < BLOCKS; i++)
        neap_heap_free(again[i]);
    assert_int_equal(told_count, 0);
}

static void a_marked_block_is_told_of(void **state)
{
    (void)state;
    neap_marks_put(slot_of(block[7]), block[7]);
    neap_heap_free(block[7]);
    assert_true(was_told(block[7]));
    block[7] = neap_heap_malloc(48);
    neap_marks_clear();
    expect_no_marks();
}

static void a_mark_goes_once(void **state)
{
    (void)state;
    neap_marks_put(slot_of(block[1]), block[1]);
    neap_marks_put(slot_of(block[2]), block[2]);
    for (int i = 0; i < 3; i++) {
        neap_marks_drop(slot_of(block[1]), block[1]);
        neap_marks_forget(block[1]);
    }
    /* Had it gone twice, the other's would be gone as well. */
    neap_heap_free(block[2]);
    assert_true(was_told(block[2]));
    block[2] = neap_heap_malloc(48);
    neap_marks_clear();
    expect_no_marks();
}

/* Another block in the slot keeps its mark. */
static void a_slot_of_another_block_is_left_alone(void **state)
{
    (void)state;
    neap_marks_put(3, block[3]);
    neap_marks_drop(3, block[4]);
    neap_marks_forget(block[4]);
    neap_heap_free(block[3]);
    assert_true(was_told(block[3]));
    block[3] = neap_heap_malloc(48);
    neap_marks_drop(3, block[3]); /* the same address, by chance or not */
    neap_marks_clear();
    expect_no_marks();
}

static void a_block_is_found_wherever_its_slot_is(void **state)
{
    uint32_t last = NEAP_TABLE_TRIES * NEAP_TABLE_BUCKET - 1;

    (void)state;
    neap_marks_put((slot_of(block[5]) + last) % NEAP_TABLE_SLOTS, block[5]);
    neap_marks_forget(block[5]);
    expect_no_marks();
}

static void all_go_at_once(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < BLOCKS; i++)
        neap_marks_put(i * (NEAP_TABLE_SLOTS / BLOCKS), block[i]);
    neap_marks_clear();
    neap_marks_clear();
    expect_no_marks();
}

static void large_blocks_are_marked_too(void **state)
{
    void *large = neap_heap_malloc(5u << 20);

    (void)state;
    neap_marks_put(9, large);
    neap_heap_free(large);
    assert_true(was_told(large));
    neap_marks_clear();
    free_all();
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(a_marked_block_is_told_of),
        TEST(a_mark_goes_once),
        TEST(a_slot_of_another_block_is_left_alone),
        TEST(a_block_is_found_wherever_its_slot_is),
        TEST(all_go_at_once),
        TEST(large_blocks_are_marked_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which module a pc belongs to, when addresses are used again and again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/ingest/ranges.h"

static bool add(struct neap_ranges *ranges, uint64_t start, uint64_t end,
                uint32_t generation, uint32_t module)
{
    struct neap_range range = {.start = start,
                               .end = end,
                               .bias = start,
                               .generation = generation,
                               .module = module};

    return neap_ranges_add(ranges, &range);
}

/* The module of `pc`, -1 for none. */
static int at(const struct neap_ranges *ranges, uint64_t pc, uint32_t generation)
{
    const struct neap_range *range = neap_ranges_find(ranges, pc, generation);

    return range ? (int)range->module : -1;
}

static void test_generations(void **unused)
{
    struct neap_ranges ranges = {0};

    (void)unused;
    assert_int_equal(at(&ranges, 0x1000, 0), -1);
    assert_true(add(&ranges, 0x1000, 0x2000, 3, 7));
    assert_true(add(&ranges, 0x1800, 0x2800, 5, 8));
    assert_true(add(&ranges, 0x1000, 0x2000, 9, 7));
    assert_int_equal(at(&ranges, 0xfff, 5), -1);
    assert_int_equal(at(&ranges, 0x1000, 3), 7);
    assert_int_equal(at(&ranges, 0x1fff, 4), 7);
    assert_int_equal(at(&ranges, 0x1fff, 5), 8);
    assert_int_equal(at(&ranges, 0x1fff, 8), 8);
    assert_int_equal(at(&ranges, 0x1fff, 9), 7);
    assert_int_equal(at(&ranges, 0x1fff, UINT32_MAX), 7);
    assert_int_equal(at(&ranges, 0x2000, 9), 8);
    assert_int_equal(at(&ranges, 0x2800, 9), -1);
    /* Announced late: the next one there is, not the last. */
    assert_int_equal(at(&ranges, 0x1fff, 1), 7);
    assert_int_equal(at(&ranges, 0x2000, 1), 8);
    neap_ranges_deinit(&ranges);
}

static void test_repeats_take_no_room(void **unused)
{
    struct neap_ranges ranges = {0};

    (void)unused;
    for (uint32_t i = 100; i > 0; i--)
        assert_true(add(&ranges, 0x1000, 0x2000, i, 1));
    for (uint32_t i = 101; i < 10000; i++)
        assert_true(add(&ranges, 0x1000, 0x2000, i, 1));
    assert_int_equal(ranges.ranges.count, 1);
    assert_int_equal(at(&ranges, 0x1000, 1), 1);
    neap_ranges_deinit(&ranges);
}

/* Two libraries that take turns at one address, for days. */
static void test_turns(void **unused)
{
    struct neap_ranges ranges = {0};

    (void)unused;
    assert_true(add(&ranges, 0x9000, 0xa000, 0, 5));
    for (uint32_t i = 1; i <= 100000; i++) {
        assert_true(add(&ranges, 0x1000, 0x2000 + i % 2, i, i % 2));
        if (i % 500 == 0) {
            assert_int_equal(at(&ranges, 0x1000, i), 0);
            assert_int_equal(at(&ranges, 0x1000, i - 1), 1);
            neap_ranges_prune(&ranges);
            assert_in_range(ranges.ranges.count, 2, 2048);
        }
    }
    assert_int_equal(at(&ranges, 0x1000, 100000), 0);
    assert_int_equal(at(&ranges, 0x9000, 100000), 5);
    neap_ranges_deinit(&ranges);
}

static void test_limit(void **unused)
{
    struct neap_ranges ranges = {0};
    uint64_t i;

    (void)unused;
    for (i = 0; i < NEAP_RANGES_MAX; i++)
        assert_true(add(&ranges, i * 16, i * 16 + 16, 1, 1));
    assert_false(add(&ranges, i * 16, i * 16 + 16, 1, 1));
    assert_int_equal(at(&ranges, 40, 1), 1);
    neap_ranges_deinit(&ranges);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_generations),
        cmocka_unit_test(test_repeats_take_no_room),
        cmocka_unit_test(test_turns),
        cmocka_unit_test(test_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

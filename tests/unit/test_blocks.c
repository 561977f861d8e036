/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The map of live blocks against a map that is known to work, its room, its failures.
 *
 * Links: tests/unit/fail_alloc.c -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc
 * Links: -Wl,--wrap=reallocarray,--wrap=strdup,--wrap=strndup,--wrap=mmap
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/ingest/blocks.h"
#include "schema/base/map.h"
#include "tests/unit/fail_alloc.h"

static uint64_t state = 88172645463325252u;

static uint64_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static bool put(struct neap_blocks *blocks, uint64_t address, uint64_t size)
{
    bool existed;
    struct neap_block *block = neap_blocks_put(blocks, address, &existed);

    if (!block)
        return false;
    assert_int_equal(block->address, address);
    if (!existed)
        assert_int_equal(block->size, 0);
    block->size = size;
    return true;
}

static void test_model(void **unused)
{
    struct neap_blocks blocks;
    struct neap_map model = {0};
    struct neap_block block;

    (void)unused;
    neap_blocks_init(&blocks);
    for (int i = 0; i < 400000; i++) {
        /* Few addresses, so that most operations hit; the bias swings. */
        uint64_t address = 16 + 16 * (draw() % 20000);
        uint64_t known = neap_map_get(&model, address);

        if (draw() % 100 < (i / 50000 % 2 ? 30 : 60)) {
            assert_true(put(&blocks, address, (uint64_t)i));
            assert_true(neap_map_put(&model, address, (uint64_t)i));
        } else {
            assert_int_equal(neap_blocks_take(&blocks, address, &block),
                             known != NEAP_MAP_NONE);
            if (known != NEAP_MAP_NONE) {
                assert_int_equal(block.address, address);
                assert_int_equal(block.size, known);
                assert_int_equal(neap_map_remove(&model, address), known);
            }
        }
    }
    assert_true(model.count > 1000);

    struct neap_blocks_cursor cursor = {0};
    const struct neap_block *next;
    size_t count = 0;

    while ((next = neap_blocks_next(&blocks, &cursor))) {
        assert_int_equal(neap_map_get(&model, next->address), next->size);
        count++;
    }
    assert_int_equal(count, model.count);
    neap_map_deinit(&model);
    neap_blocks_deinit(&blocks);
    assert_int_equal(neap_blocks_bytes(&blocks), 0);
}

static uint64_t address_of(uint64_t i)
{
    return 0x7f0000000000u + i * 48;
}

/* 64 bytes a block at every size above a MiB of tables, also on the way down. */
static void test_room(void **unused)
{
    const uint64_t blocks_max = 1000000;
    struct neap_blocks blocks;
    struct neap_block block;

    (void)unused;
    neap_blocks_init(&blocks);
    for (uint64_t i = 1; i <= blocks_max; i++) {
        assert_true(put(&blocks, address_of(i), i));
        if (i % 1000 == 0)
            assert_in_range(neap_blocks_bytes(&blocks), 32 * i, 64 * i + (4 << 20));
    }
    for (uint64_t i = blocks_max; i > 0; i--) {
        if (i % 1000 == 0)
            assert_in_range(neap_blocks_bytes(&blocks), 32 * i, 64 * i + (4 << 20));
        assert_true(neap_blocks_take(&blocks, address_of(i), &block));
        assert_int_equal(block.size, i);
    }
    assert_in_range(neap_blocks_bytes(&blocks), 0, 2 << 20);
    neap_blocks_deinit(&blocks);
}

static void test_strange(void **unused)
{
    static const uint64_t addresses[] = {1, UINT64_MAX, (uint64_t)1 << 63, 0xfff};
    struct neap_blocks blocks;
    struct neap_block block;

    (void)unused;
    neap_blocks_init(&blocks);
    assert_false(neap_blocks_take(&blocks, 0, &block));
    assert_false(neap_blocks_take(&blocks, 1, &block));
    for (size_t i = 0; i < NEAP_ARRAY_LEN(addresses); i++)
        assert_true(put(&blocks, addresses[i], i));
    assert_false(neap_blocks_take(&blocks, 0, &block));
    for (size_t i = 0; i < NEAP_ARRAY_LEN(addresses); i++) {
        assert_true(neap_blocks_take(&blocks, addresses[i], &block));
        assert_int_equal(block.size, i);
    }
    neap_blocks_deinit(&blocks);
}

/* Without memory a block is refused, all others stay, and later ones are taken. */
static void test_no_memory(void **unused)
{
    struct neap_blocks blocks;
    struct neap_block block;
    uint64_t refused = 0;

    (void)unused;
    neap_blocks_init(&blocks);
    for (uint64_t i = 1; i <= 100000; i++) {
        bool taken;

        fail_alloc_from(i % 3 == 0 ? 1 : 0);
        taken = put(&blocks, address_of(i), i);
        assert_int_equal(taken, !fail_alloc_happened());
        refused += !taken;
        if (!taken) {
            fail_alloc_from(0);
            assert_true(put(&blocks, address_of(i), i));
        }
    }
    assert_in_range(refused, 10, 10000);
    /* Shrinking is tried and refused; nothing is lost by it. */
    fail_alloc_from(1);
    for (uint64_t i = 1; i <= 100000; i++) {
        assert_true(neap_blocks_take(&blocks, address_of(i), &block));
        assert_int_equal(block.size, i);
    }
    assert_true(fail_alloc_happened());
    fail_alloc_from(0);
    neap_blocks_deinit(&blocks);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_strange),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

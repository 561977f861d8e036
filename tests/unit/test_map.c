/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schema/base/map and vec, held against plain arrays through long random histories.
 * Links: -Wl,--wrap=malloc -Wl,--wrap=realloc
 */
#include "schema/base/map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "schema/base/cleanup.h"
#include "schema/base/vec.h"

void *__real_malloc(size_t size);             /* NOLINT: ld's name */
void *__wrap_malloc(size_t size);             /* NOLINT: ld's name */
void *__real_realloc(void *old, size_t size); /* NOLINT: ld's name */
void *__wrap_realloc(void *old, size_t size); /* NOLINT: ld's name */

static bool no_memory;

void *__wrap_malloc(size_t size) /* NOLINT: ld's name */
{
    return no_memory ? NULL : __real_malloc(size);
}

void *__wrap_realloc(void *old, size_t size) /* NOLINT: ld's name */
{
    return no_memory ? NULL : __real_realloc(old, size);
}

#define neap_auto_map neap_auto(neap_map_deinit)

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void an_empty_map_has_nothing(void **state)
{
    neap_auto_map struct neap_map map = {0};
    size_t at = 0;

    (void)state;
    assert_true(neap_map_get(&map, 0) == NEAP_MAP_NONE);
    assert_true(neap_map_remove(&map, 0) == NEAP_MAP_NONE);
    assert_null(neap_map_next(&map, &at));
}

static void any_key_and_nearly_any_value_fits(void **state)
{
    static const uint64_t keys[] = {0, 1, UINT64_MAX, UINT64_MAX - 1, 1ull << 63};
    neap_auto_map struct neap_map map = {0};

    (void)state;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(keys); i++)
        assert_true(neap_map_put(&map, keys[i], i == 0 ? UINT64_MAX - 1 : i - 1));
    assert_true(neap_map_get(&map, 0) == UINT64_MAX - 1);
    for (size_t i = 1; i < NEAP_ARRAY_LEN(keys); i++)
        assert_true(neap_map_get(&map, keys[i]) == i - 1);
    assert_true(neap_map_put(&map, 1, 77));
    assert_true(neap_map_get(&map, 1) == 77);
    assert_int_equal(map.count, NEAP_ARRAY_LEN(keys));
}

/* Every operation against an array; small key space, so that runs form and break. */
static void a_long_history_agrees_with_an_array(void **state)
{
    enum {
        KEYS = 700,
        STEPS = 400000
    };

    static uint64_t model[KEYS];
    neap_auto_map struct neap_map map = {0};
    uint64_t random = 88172645463325252ull;
    size_t count = 0;

    (void)state;
    memset(model, 0xff, sizeof(model));
    for (int i = 0; i < STEPS; i++) {
        uint64_t dice = next_random(&random);
        size_t key = (size_t)(dice >> 8) % KEYS;

        if (dice % 100 < (i / 50000 % 2 ? 30u : 60u)) {
            assert_true(neap_map_put(&map, key * 4096, dice >> 1));
            count += model[key] == NEAP_MAP_NONE;
            model[key] = dice >> 1;
        } else {
            assert_true(neap_map_remove(&map, key * 4096) == model[key]);
            count -= model[key] != NEAP_MAP_NONE;
            model[key] = NEAP_MAP_NONE;
        }
        assert_int_equal(map.count, count);
        if (i % 997 == 0)
            for (size_t k = 0; k < KEYS; k++)
                if (neap_map_get(&map, k * 4096) != model[k])
                    fail_msg("step %d: key %zu", i, k);
    }
    size_t at = 0, seen = 0;

    for (const struct neap_map_entry *entry; (entry = neap_map_next(&map, &at)); seen++)
        assert_true(model[entry->key / 4096] == entry->value);
    assert_int_equal(seen, count);
    /* Churn over a bounded set of keys needs bounded memory. */
    assert_in_range(map.capacity, KEYS, 2048);
}

static void a_map_without_memory_stays_as_it_was(void **state)
{
    neap_auto_map struct neap_map map = {0};
    uint64_t put = 0;

    (void)state;
    no_memory = true;
    bool first = neap_map_put(&map, 1, 1);

    no_memory = false;
    assert_false(first);
    assert_true(neap_map_get(&map, 1) == NEAP_MAP_NONE);
    assert_true(neap_map_put(&map, put, put));
    no_memory = true;
    while (neap_map_put(&map, put + 1, put + 1))
        put++;
    no_memory = false;
    assert_in_range(put, 1, 1000);
    assert_true(neap_map_get(&map, put + 1) == NEAP_MAP_NONE);
    for (uint64_t key = 0; key <= put; key++)
        assert_true(neap_map_get(&map, key) == key);
    assert_true(neap_map_put(&map, put + 1, 5));
}

static void a_vector_keeps_what_is_pushed(void **state)
{
    struct pair {
        uint32_t a, b;
    };
    NEAP_VEC(struct pair) vec = {0};

    (void)state;
    for (uint32_t i = 0; i < 100000; i++)
        assert_true(neap_vec_push(&vec, (struct pair){i, ~i}));
    assert_int_equal(vec.count, 100000);
    assert_true(vec.capacity >= vec.count);
    for (uint32_t i = 0; i < 100000; i++)
        if (vec.data[i].a != i || vec.data[i].b != ~i)
            fail_msg("element %u", i);
    neap_vec_deinit(&vec);
    assert_null(vec.data);
    assert_int_equal(vec.count, 0);
}

static void a_vector_without_memory_stays_as_it_was(void **state)
{
    NEAP_VEC(uint64_t) vec = {0};

    (void)state;
    assert_true(neap_vec_push(&vec, 5));
    assert_false(neap_vec_reserve(&vec, SIZE_MAX));
    no_memory = true;
    while (neap_vec_push(&vec, 6))
        assert_in_range(vec.count, 1, 1000);
    no_memory = false;
    assert_int_equal(vec.count, vec.capacity);
    assert_int_equal(vec.data[0], 5);
    assert_true(neap_vec_push(&vec, 7));
    assert_int_equal(vec.data[vec.count - 1], 7);
    neap_vec_deinit(&vec);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_map_has_nothing),
        cmocka_unit_test(any_key_and_nearly_any_value_fits),
        cmocka_unit_test(a_long_history_agrees_with_an_array),
        cmocka_unit_test(a_map_without_memory_stays_as_it_was),
        cmocka_unit_test(a_vector_keeps_what_is_pushed),
        cmocka_unit_test(a_vector_without_memory_stays_as_it_was),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

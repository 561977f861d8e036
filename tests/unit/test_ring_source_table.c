/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of live samples in a target's memory, as the collector reads it: what was
 * put there, whatever else is there, and nothing that was only begun.
 *
 * Links: tests/unit/producer.c
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/source/ring_source.h"
#include "tests/unit/producer.h"

struct found {
    uint64_t address;
    struct neap_table_slot slot;
};

static struct fixture {
    _Atomic uint64_t *tails;
    struct neap_ring_source *source;
    struct producer producer;
    struct neap_table *table;
    struct found *found;
    size_t count;
    uint64_t lost, lost_bytes;
} fixture;

static void on_event(void *context, uint32_t lane, const struct neap_event *event)
{
    (void)context;
    (void)lane;
    (void)event;
    fail_msg("nobody has written a record");
}

static void on_loss(void *context, const char *what, uint64_t count, uint64_t bytes)
{
    (void)context;
    assert_string_equal(what, "samples");
    fixture.lost += count;
    fixture.lost_bytes += bytes;
}

static void on_found(void *context, uint64_t address,
                     const struct neap_table_slot *slot)
{
    assert_ptr_equal(context, &fixture);
    assert_in_range(fixture.count, 0, NEAP_TABLE_SLOTS - 1);
    fixture.found[fixture.count++] = (struct found){address, *slot};
}

static int setup_with(bool table)
{
    struct neap_sink sink = {.event = on_event, .loss = on_loss};

    fixture =
        (struct fixture){.tails = calloc(NEAP_LANES_MAX, sizeof(*fixture.tails)),
                         .found = calloc(NEAP_TABLE_SLOTS, sizeof(*fixture.found))};
    assert_null(neap_ring_source_create(fixture.tails, &sink, table, &fixture.source));
    producer_init(&fixture.producer, neap_ring_source_fd(fixture.source),
                  fixture.tails);
    fixture.table = (void *)(fixture.producer.memory + NEAP_TABLE_OFFSET);
    return 0;
}

static int setup(void **state)
{
    (void)state;
    return setup_with(true);
}

static int setup_without(void **state)
{
    (void)state;
    return setup_with(false);
}

static int teardown(void **state)
{
    (void)state;
    producer_deinit(&fixture.producer);
    neap_ring_source_destroy(fixture.source);
    free((void *)fixture.tails);
    free(fixture.found);
    return 0;
}

static void read_table(void)
{
    fixture.count = 0;
    neap_ring_source_table(fixture.source, on_found, &fixture);
}

/* As the hook does it, of one thread. */
static uint32_t put(uint64_t address, const struct neap_table_slot *slot)
{
    uint32_t home = neap_table_home(address);

    for (uint32_t i = 0; i < NEAP_TABLE_TRIES * NEAP_TABLE_BUCKET; i++) {
        uint32_t at = (home + i) % NEAP_TABLE_SLOTS;

        if (fixture.table->key[at] != 0)
            continue;
        fixture.table->key[at] = NEAP_TABLE_CLAIMED;
        fixture.table->slot[at] = *slot;
        fixture.table->key[at] = address;
        return at;
    }
    fail_msg("no room for %llx", (unsigned long long)address);
    return 0;
}

static void test_empty(void **unused)
{
    (void)unused;
    read_table();
    assert_int_equal(fixture.count, 0);
}

/* Of a target that takes no samples the table's pages do not even exist. */
static void test_none(void **unused)
{
    (void)unused;
    read_table();
    assert_int_equal(fixture.count, 0);
}

static void test_what_was_put(void **unused)
{
    uint32_t places[1000];
    uint64_t sum = 0;

    (void)unused;
    for (uint64_t i = 0; i < NEAP_ARRAY_LEN(places); i++) {
        struct neap_table_slot slot = {.size = i,
                                       .stack = ~i,
                                       .interval = i << 20,
                                       .ts_ns = i * i,
                                       .tid = (uint32_t)i + 7};

        places[i] = put(0x7f0000001000 + 48 * i, &slot);
    }
    read_table();
    assert_int_equal(fixture.count, NEAP_ARRAY_LEN(places));
    for (size_t i = 0; i < fixture.count; i++) {
        const struct found *found = &fixture.found[i];
        uint64_t number = (found->address - 0x7f0000001000) / 48;

        assert_int_equal(found->slot.size, number);
        assert_int_equal(found->slot.stack, ~number);
        assert_int_equal(found->slot.interval, number << 20);
        assert_int_equal(found->slot.ts_ns, number * number);
        assert_int_equal(found->slot.tid, number + 7);
        sum += number;
    }
    assert_int_equal(sum, 999 * 1000 / 2);
    for (size_t i = 0; i < NEAP_ARRAY_LEN(places); i += 2)
        fixture.table->key[places[i]] = 0; /* freed */
    read_table();
    assert_int_equal(fixture.count, NEAP_ARRAY_LEN(places) / 2);
}

/* A target that was killed between its claim and the address: there is no block. */
static void test_claimed(void **unused)
{
    struct neap_table_slot slot = {.size = 1, .interval = 1};
    uint32_t at = put(0x1000, &slot);

    (void)unused;
    fixture.table->key[at] = NEAP_TABLE_CLAIMED;
    fixture.table->key[0] = NEAP_TABLE_CLAIMED;
    fixture.table->key[NEAP_TABLE_SLOTS - 1] = NEAP_TABLE_CLAIMED;
    put(0x2000, &slot);
    read_table();
    assert_int_equal(fixture.count, 1);
    assert_int_equal(fixture.found[0].address, 0x2000);
}

/* The first and the last place, and all of them. */
static void test_full(void **unused)
{
    (void)unused;
    fixture.table->key[0] = 16;
    fixture.table->key[NEAP_TABLE_SLOTS - 1] = 32;
    fixture.table->slot[NEAP_TABLE_SLOTS - 1].size = 5;
    read_table();
    assert_int_equal(fixture.count, 2);
    assert_int_equal(fixture.found[0].address, 16);
    assert_int_equal(fixture.found[1].address, 32);
    assert_int_equal(fixture.found[1].slot.size, 5);
    for (uint32_t i = 0; i < NEAP_TABLE_SLOTS; i++)
        fixture.table->key[i] = 16 * (i + 1ull);
    read_table();
    assert_int_equal(fixture.count, NEAP_TABLE_SLOTS);
}

/* Any bytes: they are handed on as they are, once a key, and read nowhere else. */
static void test_hostile(void **unused)
{
    uint8_t *bytes = (uint8_t *)fixture.table;
    uint64_t word = 1;

    (void)unused;
    memset(bytes, 0xff, NEAP_TABLE_BYTES);
    read_table();
    assert_int_equal(fixture.count, NEAP_TABLE_SLOTS);
    assert_true(fixture.found[7].address == UINT64_MAX);
    assert_true(fixture.found[7].slot.interval == UINT64_MAX);
    for (size_t i = 0; i < NEAP_TABLE_BYTES; i++) {
        word = word * 6364136223846793005u + 1442695040888963407u;
        bytes[i] = (uint8_t)(word >> 56);
    }
    read_table();
    assert_int_equal(fixture.count, NEAP_TABLE_SLOTS);
}

static void test_losses(void **unused)
{
    struct neap_ring_counters counters;

    (void)unused;
    fixture.producer.header->table_loss = 3;
    fixture.producer.header->table_loss_bytes = 4000;
    for (int i = 0; i < 2; i++)
        neap_ring_source_counters(fixture.source, &counters);
    assert_int_equal(fixture.lost, 3);
    assert_int_equal(fixture.lost_bytes, 4000);
    fixture.producer.header->table_loss = UINT64_MAX;
    neap_ring_source_counters(fixture.source, &counters);
    assert_true(fixture.lost <= 1ull << 48);
}

/* Homes are buckets, spread over the table. */
static void test_homes(void **unused)
{
    static uint8_t used[NEAP_TABLE_SLOTS / NEAP_TABLE_BUCKET];
    unsigned buckets = 0;

    (void)unused;
    for (uint64_t i = 0; i < 20000; i++) {
        uint32_t home = neap_table_home(0x7f0000000000 + 4096 * i);

        assert_int_equal(home % NEAP_TABLE_BUCKET, 0);
        assert_in_range(home, 0, NEAP_TABLE_SLOTS - NEAP_TABLE_BUCKET);
        buckets += !used[home / NEAP_TABLE_BUCKET]++;
    }
    assert_in_range(buckets, NEAP_ARRAY_LEN(used) * 9 / 10, NEAP_ARRAY_LEN(used));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_empty),
        cmocka_unit_test_setup_teardown(test_none, setup_without, teardown),
        T(test_what_was_put),
        T(test_claimed),
        T(test_full),
        T(test_hostile),
        T(test_losses),
        cmocka_unit_test(test_homes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schema/wire/codec: each kind decodes to what was written, at no length short of
 * its own, and nothing else decodes at all.
 */
#include "schema/wire/codec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A record with room for the largest, 8-byte aligned. */
static union {
    uint64_t head;
    uint8_t bytes[NEAP_EV_SIZE_MAX];
    struct neap_ev_time time;
    struct neap_ev_thread thread;
    struct neap_ev_stack stack;
    struct neap_ev_module module;
    struct neap_ev_alloc alloc;
    struct neap_ev_free free;
    struct neap_ev_sample sample;
    struct neap_ev_sample_free sample_free;
    struct neap_ev_map map;
    struct neap_ev_exit exit;
    struct neap_ev_memory_error memory_error;
} record;

static void start(enum neap_ev_kind kind)
{
    memset(&record, 0, sizeof(record));
    record.head = neap_ev_head(kind, 0xabcdef, 0x12345678);
}

/*
 * `record` is one of `size` bytes: it decodes from exactly that many and from more,
 * and is SHORT on any fewer. Each try reads from a block of exactly that length, so
 * that AddressSanitizer sees the first byte too far.
 */
static struct neap_event assert_decodes(uint32_t size)
{
    struct neap_event event;

    for (uint32_t length = 0; length < size; length++) {
        uint8_t *block = malloc(length ? length : 1);

        memcpy(block, record.bytes, length);
        memset(&event, 0x77, sizeof(event));
        assert_int_equal(neap_decode(block, length, &event), NEAP_DECODE_SHORT);
        assert_int_equal(event.length, 0x77777777); /* untouched */
        free(block);
    }
    assert_int_equal(neap_decode(&record, size + 64, &event), NEAP_DECODE_OK);
    assert_int_equal(event.length, size);
    assert_int_equal(neap_decode(&record, size, &event), NEAP_DECODE_OK);
    assert_int_equal(event.length, size);
    assert_int_equal(event.length % 8, 0);
    assert_int_equal(event.kind, neap_ev_kind(record.head));
    assert_int_equal(event.seq, 0xabcdef);
    assert_int_equal(event.delta, 0x12345678);
    assert_ptr_equal(event.time, &record);
    return event;
}

static void assert_corrupt(void)
{
    struct neap_event event = {0};

    assert_int_equal(neap_decode(&record, sizeof(record), &event), NEAP_DECODE_CORRUPT);
    assert_int_equal(event.length, 0);
}

static void fixed_kinds_decode(void **state)
{
    (void)state;
    start(NEAP_EV_TIME);
    record.time.now_ns = 7;
    assert_int_equal(assert_decodes(24).time->now_ns, 7);
    start(NEAP_EV_THREAD);
    strcpy(record.thread.name, "worker");
    assert_string_equal(assert_decodes(40).thread->name, "worker");
    start(NEAP_EV_THREAD_END);
    assert_decodes(8);
    start(NEAP_EV_ALLOC);
    record.alloc.size = UINT64_MAX;
    assert_true(assert_decodes(32).alloc->size == UINT64_MAX);
    start(NEAP_EV_FREE);
    record.free.address = 0x1000;
    assert_int_equal(assert_decodes(16).free->address, 0x1000);
    start(NEAP_EV_REALLOC_FREE);
    assert_decodes(16);
    start(NEAP_EV_REALLOC_ALLOC);
    assert_decodes(32);
    start(NEAP_EV_REALLOC_FAIL);
    assert_decodes(16);
    start(NEAP_EV_SAMPLE_FREE);
    record.sample_free.flags = NEAP_SAMPLE_REALLOC | NEAP_SAMPLE_TEMPORARY;
    assert_int_equal(assert_decodes(24).sample_free->flags, 3);
    start(NEAP_EV_REALLOC_DONE);
    assert_decodes(8);
    start(NEAP_EV_EXIT);
    record.exit.code = -1;
    assert_int_equal(assert_decodes(16).exit->code, -1);
}

static void a_pad_takes_what_is_left(void **state)
{
    struct neap_event event;

    (void)state;
    start(NEAP_EV_PAD);
    assert_int_equal(neap_decode(&record, 7, &event), NEAP_DECODE_SHORT);
    for (uint32_t length = 8; length < 100; length += 8) {
        assert_int_equal(neap_decode(&record, length, &event), NEAP_DECODE_OK);
        assert_int_equal(event.kind, NEAP_EV_PAD);
        assert_int_equal(event.length, length);
    }
}

static void stacks_decode_up_to_the_deepest(void **state)
{
    static const uint16_t depths[] = {0, 1, 2, 37, NEAP_STACK_DEPTH_MAX};

    (void)state;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(depths); i++) {
        start(NEAP_EV_STACK);
        record.stack.depth = depths[i];
        for (uint16_t d = 0; d < depths[i]; d++)
            record.stack.pc[d] = d * 16u;
        struct neap_event event = assert_decodes(24 + 8u * depths[i]);

        assert_int_equal(event.stack->depth, depths[i]);
        if (depths[i])
            assert_int_equal(event.stack->pc[depths[i] - 1], (depths[i] - 1) * 16u);
    }
    record.stack.depth = NEAP_STACK_DEPTH_MAX + 1;
    assert_corrupt();
    record.stack.depth = UINT16_MAX;
    assert_corrupt();
}

static void modules_decode_with_their_texts(void **state)
{
    static const struct {
        uint16_t id, path;
    } rows[] = {{0, 0}, {20, 1}, {20, 12}, {1, 3}, {NEAP_BUILD_ID_MAX, NEAP_PATH_MAX}};

    (void)state;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(rows); i++) {
        uint32_t size = (40u + rows[i].id + rows[i].path + 7) / 8 * 8;

        start(NEAP_EV_MODULE);
        record.module.start = 0x1000;
        record.module.end = 0x2000;
        record.module.build_id_len = rows[i].id;
        record.module.path_len = rows[i].path;
        memset(record.module.bytes, 0xb1, rows[i].id);
        memset(record.module.bytes + rows[i].id, 'p', rows[i].path);
        struct neap_event event = assert_decodes(size);

        assert_ptr_equal(neap_ev_module_build_id(event.module), record.module.bytes);
        assert_ptr_equal(neap_ev_module_path(event.module),
                         (char *)record.module.bytes + rows[i].id);
    }
}

static void modules_that_cannot_be_are_corrupt(void **state)
{
    (void)state;
    start(NEAP_EV_MODULE);
    record.module.start = 0x1000;
    record.module.end = 0x2000;
    record.module.path_len = 4;
    memcpy(record.module.bytes, "/bin", 4);
    assert_decodes(48);
    record.module.end = 0x1000; /* nothing is mapped */
    assert_corrupt();
    record.module.end = 0x800; /* backwards */
    assert_corrupt();
    record.module.end = 0x2000;
    record.module.bytes[2] = 0; /* a path ends with its length, not with a NUL */
    assert_corrupt();
    record.module.bytes[2] = 'i';
    record.module.build_id_len = NEAP_BUILD_ID_MAX + 1;
    assert_corrupt();
    record.module.build_id_len = 0;
    record.module.path_len = NEAP_PATH_MAX + 1;
    assert_corrupt();
}

static void maps_have_an_operation(void **state)
{
    (void)state;
    for (uint32_t op = NEAP_MAP_MMAP; op < NEAP_MAP_OP_END; op++) {
        start(NEAP_EV_MAP);
        record.map.op = op;
        assert_int_equal(assert_decodes(72).map->op, op);
    }
    record.map.op = 0;
    assert_corrupt();
    record.map.op = NEAP_MAP_OP_END;
    assert_corrupt();
    record.map.op = UINT32_MAX;
    assert_corrupt();
    record.map.op = NEAP_MAP_BRK;
    record.map.source = NEAP_MAP_HEAP;
    assert_int_equal(assert_decodes(72).map->source, NEAP_MAP_HEAP);
    record.map.source = NEAP_MAP_SOURCE_END;
    assert_corrupt();
    record.map.source = UINT32_MAX;
    assert_corrupt();
}

static void memory_errors_have_a_kind(void **state)
{
    (void)state;
    for (uint32_t kind = NEAP_MEMORY_DOUBLE_FREE; kind < NEAP_MEMORY_ERROR_END;
         kind++) {
        start(NEAP_EV_MEMORY_ERROR);
        record.memory_error.kind = kind;
        record.memory_error.address = UINT64_MAX; /* any is possible */
        record.memory_error.stack = 7;
        struct neap_event event = assert_decodes(64);

        assert_int_equal(event.memory_error->kind, kind);
        assert_true(event.memory_error->address == UINT64_MAX);
        assert_int_equal(event.memory_error->stack, 7);
    }
    record.memory_error.kind = 0;
    assert_corrupt();
    record.memory_error.kind = NEAP_MEMORY_ERROR_END;
    assert_corrupt();
    record.memory_error.kind = UINT32_MAX;
    assert_corrupt();
}

static void samples_have_an_interval(void **state)
{
    static const uint64_t intervals[] = {1, 512 << 10, UINT64_MAX};

    (void)state;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(intervals); i++) {
        start(NEAP_EV_SAMPLE);
        record.sample.address = 0x1000;
        record.sample.size = 99;
        record.sample.stack = UINT64_MAX;
        record.sample.interval = intervals[i];
        record.sample.flags = UINT32_MAX; /* what a later release may say */
        struct neap_event event = assert_decodes(48);

        assert_true(event.sample->interval == intervals[i]);
        assert_int_equal(event.sample->size, 99);
        assert_int_equal(event.sample->flags, UINT32_MAX);
        assert_true(event.sample->stack == UINT64_MAX);
    }
    record.sample.interval = 0;
    assert_corrupt();
}

static void unknown_kinds_are_corrupt(void **state)
{
    (void)state;
    start(NEAP_EV_NONE);
    assert_corrupt();
    for (int kind = NEAP_EV_KIND_END; kind < 256; kind++) {
        start(NEAP_EV_TIME);
        record.head = (record.head & ~0xffull) | (uint64_t)kind;
        assert_corrupt();
    }
}

static void kinds_have_names(void **state)
{
    (void)state;
    assert_string_equal(neap_ev_name(NEAP_EV_ALLOC), "alloc");
    assert_string_equal(neap_ev_name(NEAP_EV_REALLOC_FREE), "realloc_free");
    assert_string_equal(neap_ev_name(NEAP_EV_SAMPLE_FREE), "sample_free");
    assert_string_equal(neap_ev_name(NEAP_EV_REALLOC_DONE), "realloc_done");
    assert_string_equal(neap_ev_name(NEAP_EV_MEMORY_ERROR), "memory_error");
    assert_string_equal(neap_ev_name(NEAP_EV_NONE), "?");
    assert_string_equal(neap_ev_name(NEAP_EV_KIND_END), "?");
    assert_string_equal(neap_ev_name(UINT32_MAX), "?");
}

static void a_head_holds_three_fields(void **state)
{
    uint64_t head = neap_ev_head(NEAP_EV_EXIT, UINT32_MAX, UINT32_MAX);

    (void)state;
    assert_int_equal(neap_ev_kind(head), NEAP_EV_EXIT);
    assert_int_equal(neap_ev_seq(head), NEAP_SEQ_MASK);
    assert_int_equal(neap_ev_delta(head), UINT32_MAX);
    for (uint64_t address = 0; address < 1ull << 47; address += 0xfffff1234567ull)
        assert_in_range(neap_order_shard(address), 0, NEAP_ORDER_SHARDS - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fixed_kinds_decode),
        cmocka_unit_test(a_pad_takes_what_is_left),
        cmocka_unit_test(stacks_decode_up_to_the_deepest),
        cmocka_unit_test(modules_decode_with_their_texts),
        cmocka_unit_test(modules_that_cannot_be_are_corrupt),
        cmocka_unit_test(maps_have_an_operation),
        cmocka_unit_test(memory_errors_have_a_kind),
        cmocka_unit_test(samples_have_an_interval),
        cmocka_unit_test(unknown_kinds_are_corrupt),
        cmocka_unit_test(kinds_have_names),
        cmocka_unit_test(a_head_holds_three_fields),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libhook/emit, one thread: which records come, in which order, and what they say,
 * read back as the collector reads them.
 *
 * Links: libhook/cfi.c libhook/cfi_apply.c libhook/emit.c libhook/emit_rare.c
 * Links: libhook/emit_sample.c libhook/gate.c libhook/sampler.c libhook/samples.c
 * Links: libhook/lane.c
 * Links: libhook/life.c libhook/link.c libhook/modules.c libhook/oracle.c
 * Links: libhook/real.c libhook/selfmem.c libhook/stack.c libhook/stackset.c
 * Links: libhook/unwind.c libhook/walk.c libhook/rules.c
 * Links: libhook/ownheap.c libhook/marks.c libhook/heap/%.c libhook/enter.c
 * Links: tests/unit/hook_process.c
 */
#include "libhook/emit.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cmocka.h>

#include "libhook/modules.h"
#include "libhook/real.h"
#include "tests/unit/hook_process.h"

#define MIB (1ull << 20)

static struct hook_record records[512];

static unsigned read_all(void)
{
    return hook_read(0, records, NEAP_ARRAY_LEN(records));
}

/* The kinds of records[from, count), as text: "time thread stack alloc". */
static const char *kinds(unsigned from, unsigned count)
{
    static char text[4096];

    text[0] = '\0';
    for (unsigned i = from; i < count; i++) {
        if (i > from)
            strcat(text, " ");
        strcat(text, neap_ev_name(records[i].kind));
    }
    return text;
}

static unsigned count_kind(unsigned count, enum neap_ev_kind kind)
{
    unsigned found = 0;

    for (unsigned i = 0; i < count; i++)
        found += records[i].kind == kind;
    return found;
}

/* One event, so that the lane is there and the objects are known. */
static void warm_up(void)
{
    hook_alloc(255 * MIB, 1);
    read_all();
}

static void the_first_event_brings_all_it_needs(void **state)
{
    unsigned count;
    bool own = false;

    (void)state;
    hook_alloc(16 * MIB + 32, 640);
    count = read_all();
    assert_true(count >= 6);
    assert_string_equal(kinds(0, 4), "time thread stack alloc");
    assert_int_equal(records[0].now_ns, 1);
    assert_int_equal(records[1].tid, gettid());
    assert_true(strncmp(records[1].name, program_invocation_short_name, 15) == 0);
    assert_true(records[2].depth >= 4);
    assert_int_equal(records[2].flags, 0);
    assert_true(records[2].hash != 0 && records[2].hash == records[3].hash);
    assert_int_equal(records[3].address, 16 * MIB + 32);
    assert_int_equal(records[3].size, 640);
    assert_int_equal(records[3].seq, 0);
    assert_int_equal(count_kind(count, NEAP_EV_MODULE), count - 4);
    for (unsigned i = 4; i < count; i++) {
        assert_true(records[i].path[0] == '/');
        own = own || (records[i].start <= records[2].pc[0] &&
                      records[2].pc[0] < records[i].end);
    }
    assert_true(own);
    assert_int_equal(hook_lane(0)->owner, gettid());
    assert_int_equal(neap_process->data->lanes, 1);
}

static void a_stack_is_sent_once(void **state)
{
    unsigned count;

    (void)state;
    warm_up();
    for (volatile unsigned i = 0; i < 5; i++)
        hook_alloc(16 * MIB + 64 * i, i);
    count = read_all();
    assert_string_equal(kinds(0, count), "stack alloc alloc alloc alloc alloc");
    for (unsigned i = 1; i < count; i++)
        assert_true(records[i].hash == records[0].hash);
}

static void after_an_unloading_stacks_and_objects_are_sent_anew(void **state)
{
    uint64_t before = 0;

    (void)state;
    warm_up();
    for (volatile unsigned i = 0; i < 2; i++) {
        unsigned count;

        hook_alloc(16 * MIB, 1);
        count = read_all();
        assert_int_equal(count_kind(count, NEAP_EV_STACK), 1);
        assert_true(records[0].hash != before);
        before = records[0].hash;
        if (i == 0) {
            assert_int_equal(records[0].generation, 0);
            assert_string_equal(kinds(0, count), "stack alloc");
            neap_modules_unloaded();
        } else {
            assert_true(records[0].generation > 0);
            assert_true(count_kind(count, NEAP_EV_MODULE) >= 2);
            assert_true(records[2].generation == records[0].generation);
        }
    }
}

static void each_shard_counts_for_itself(void **state)
{
    static const uint64_t address[] = {16 * MIB, 17 * MIB, 16 * MIB + 64, 18 * MIB};
    static const uint32_t expected[] = {0, 0, 1, 0, 2, 1, 3, 1};
    unsigned count, at = 0;

    (void)state;
    assert_true(neap_order_shard(address[0]) != neap_order_shard(address[1]));
    assert_true(neap_order_shard(address[1]) != neap_order_shard(address[3]));
    warm_up();
    for (volatile unsigned i = 0; i < 4; i++)
        hook_alloc(address[i], 1);
    for (unsigned i = 0; i < 4; i++)
        assert_true(hook_free(address[i]));
    count = read_all();
    assert_string_equal(kinds(0, count),
                        "stack alloc alloc alloc alloc free free free free");
    for (unsigned i = 1; i < count; i++, at++) {
        assert_int_equal(records[i].seq, expected[at]);
        assert_int_equal(records[i].address, address[at % 4]);
    }
    assert_int_equal(at, NEAP_ARRAY_LEN(expected));
}

static void sequence_numbers_wrap_at_24_bits(void **state)
{
    (void)state;
    warm_up();
    atomic_store(&neap_process->order[neap_order_shard(16 * MIB)].next, NEAP_SEQ_MASK);
    hook_free(16 * MIB);
    hook_free(16 * MIB);
    assert_int_equal(read_all(), 2);
    assert_int_equal(records[0].seq, NEAP_SEQ_MASK);
    assert_int_equal(records[1].seq, 0);
    assert_int_equal(records[1].kind, NEAP_EV_FREE);
}

static void a_new_tick_comes_before_its_first_event(void **state)
{
    unsigned count;

    (void)state;
    warm_up();
    hook_free(16 * MIB);
    hook_tick();
    hook_free(16 * MIB);
    hook_free(16 * MIB);
    hook_tick();
    hook_free(16 * MIB);
    count = read_all();
    assert_string_equal(kinds(0, count), "free time free free time free");
    assert_int_equal(records[1].now_ns, 1000001);
    assert_int_equal(records[4].now_ns, 2000001);
}

static void a_reallocation_is_two_records(void **state)
{
    struct neap_context caller = {.pc = 1};
    unsigned count, from;

    (void)state;
    warm_up();
    neap_tls.busy = NEAP_RECORDING;
    assert_true(neap_emit_free(&neap_tls, NEAP_EV_REALLOC_FREE, (void *)(16 * MIB)));
    neap_emit_alloc(&neap_tls, NEAP_EV_REALLOC_ALLOC, &caller, (void *)(17 * MIB), 99);
    assert_true(neap_emit_free(&neap_tls, NEAP_EV_REALLOC_FREE, (void *)(17 * MIB)));
    assert_true(neap_emit_free(&neap_tls, NEAP_EV_REALLOC_FAIL, (void *)(17 * MIB)));
    neap_tls.busy = NEAP_IDLE;
    count = read_all();
    assert_string_equal(kinds(0, count),
                        "realloc_free stack realloc_alloc realloc_free realloc_fail");
    assert_int_equal(records[0].address, 16 * MIB);
    assert_int_equal(records[2].address, 17 * MIB);
    assert_int_equal(records[2].size, 99);
    from = hook_next(records, count, 2, NEAP_EV_REALLOC_FREE);
    assert_int_equal(records[from].seq, records[2].seq + 1);
    assert_int_equal(records[from + 1].seq, records[2].seq + 2);
    /* A caller without rules is a stack all the same, and says what it is. */
    assert_int_equal(records[1].depth, 1);
    assert_int_equal(records[1].flags, NEAP_STACK_TRUNCATED | NEAP_STACK_UNREADABLE);
    assert_int_equal(neap_process->data->stacks_truncated, 1);
}

static __attribute__((noinline)) void map_from_here(const struct neap_emit_map *map)
{
    struct neap_context caller = NEAP_CALLER();

    neap_tls.busy = NEAP_RECORDING;
    neap_emit_map(&neap_tls, &caller, map);
    neap_tls.busy = NEAP_IDLE;
}

static void a_mapping_is_recorded_with_its_stack(void **state)
{
    struct neap_emit_map map = {.op = NEAP_MAP_MREMAP, .address = MIB, .size = 8192};
    unsigned count;

    (void)state;
    map_from_here(&map);
    count = read_all();
    assert_string_equal(kinds(0, 4), "time thread stack map");
    assert_int_equal(count_kind(count, NEAP_EV_MODULE), count - 4);
    assert_int_equal(records[3].op, NEAP_MAP_MREMAP);
    assert_int_equal(records[3].address, MIB);
    assert_int_equal(records[3].size, 8192);
    assert_true(records[3].hash == records[2].hash);
    /* From within an allocator libc is not called: not settled yet. */
    assert_false(neap_tls.settled);
    hook_free(1);
    assert_true(neap_tls.settled);
}

static void a_change_of_the_heap_may_have_no_stack(void **state)
{
    struct neap_emit_map map = {
        .op = NEAP_MAP_BRK, .source = NEAP_MAP_HEAP, .address = MIB, .size = 8192};
    unsigned count;

    (void)state;
    warm_up();
    map_from_here(&map);
    neap_emit_map(&neap_tls, NULL, &map);
    count = read_all();
    assert_string_equal(kinds(0, count), "stack map map");
    assert_int_equal(records[1].source, NEAP_MAP_HEAP);
    assert_true(records[1].hash == records[0].hash);
    assert_int_equal(records[2].source, NEAP_MAP_HEAP);
    assert_int_equal(records[2].hash, 0);
}

static __attribute__((noinline)) uint64_t stack_from_here(void)
{
    struct neap_context caller = NEAP_CALLER();
    uint64_t hash;

    neap_tls.busy = NEAP_RECORDING;
    hash = neap_emit_stack(&neap_tls, &caller);
    neap_tls.busy = NEAP_IDLE;
    return hash;
}

static __attribute__((noinline)) void
mistake_from_here(const struct neap_emit_error *error)
{
    struct neap_context caller = NEAP_CALLER();

    neap_tls.busy = NEAP_RECORDING;
    neap_emit_memory_error(&neap_tls, &caller, error);
    neap_tls.busy = NEAP_IDLE;
}

/* The stacks of its block were sent when they were named. */
static void a_mistake_names_three_stacks(void **state)
{
    struct neap_emit_error error = {
        .kind = NEAP_MEMORY_DOUBLE_FREE, .address = MIB, .block = MIB, .size = 40};
    unsigned count;

    (void)state;
    warm_up();
    error.alloc_stack = stack_from_here();
    error.free_stack = stack_from_here();
    assert_true(error.alloc_stack != 0 && error.free_stack != error.alloc_stack);
    mistake_from_here(&error);
    neap_emit_memory_error(&neap_tls, NULL, &error);
    count = read_all();
    assert_string_equal(kinds(0, count), "stack stack stack memory_error memory_error");
    assert_true(records[0].hash == error.alloc_stack);
    assert_true(records[1].hash == error.free_stack);
    assert_int_equal(records[3].op, NEAP_MEMORY_DOUBLE_FREE);
    assert_int_equal(records[3].address, MIB);
    assert_int_equal(records[3].start, MIB);
    assert_int_equal(records[3].size, 40);
    assert_true(records[3].hash == records[2].hash);
    assert_true(records[3].alloc_hash == error.alloc_stack);
    assert_true(records[3].free_hash == error.free_stack);
    assert_int_equal(records[4].hash, 0);
}

/* A name for each allocation is no more than its stack, once. */
static void a_stack_alone_is_sent_once(void **state)
{
    uint64_t first = 0;

    (void)state;
    warm_up();
    for (volatile unsigned i = 0; i < 3; i++) {
        uint64_t hash = stack_from_here();

        first = i == 0 ? hash : first;
        assert_true(hash == first);
    }
    assert_string_equal(kinds(0, read_all()), "stack");
}

static void a_thread_gives_its_lane_back(void **state)
{
    char before[16];
    unsigned count;

    (void)state;
    warm_up();
    assert_int_equal(prctl(PR_GET_NAME, before), 0);
    assert_int_equal(prctl(PR_SET_NAME, "renamed"), 0);
    neap_emit_thread_end(&neap_tls);
    assert_int_equal(prctl(PR_SET_NAME, before), 0);
    count = read_all();
    assert_string_equal(kinds(0, count), "thread thread_end");
    assert_string_equal(records[0].name, "renamed");
    assert_int_equal(hook_lane(0)->owner, 0);
    assert_null(neap_tls.lane);
    /* What other destructors do later holds a lane for that event only. */
    hook_free(16 * MIB);
    count = read_all();
    assert_string_equal(kinds(0, count), "time thread free");
    assert_int_equal(hook_lane(0)->owner, 0);
    neap_emit_thread_end(&neap_tls);
    assert_int_equal(read_all(), 0);
}

static void a_renamed_thread_is_noticed_within_a_second(void **state)
{
    char before[16];
    unsigned count;

    (void)state;
    warm_up();
    assert_int_equal(prctl(PR_GET_NAME, before), 0);
    assert_int_equal(prctl(PR_SET_NAME, "other"), 0);
    hook_tick();
    hook_free(16 * MIB);
    atomic_fetch_add(&hook_ctl()->now_ns, 1000000000);
    hook_free(16 * MIB);
    assert_int_equal(prctl(PR_SET_NAME, before), 0);
    count = read_all();
    assert_string_equal(kinds(0, count), "time free time thread free");
    assert_string_equal(records[3].name, "other");
    assert_int_equal(records[3].tid, gettid());
}

static void an_exit_status_is_this_process_s_own(void **state)
{
    (void)state;
    warm_up();
    neap_process->pid++; /* as in a vfork child */
    neap_emit_exit(&neap_tls, 5);
    assert_int_equal(read_all(), 0);
    neap_process->pid--;
    neap_emit_exit(&neap_tls, 0x103);
    assert_int_equal(read_all(), 1);
    assert_int_equal(records[0].kind, NEAP_EV_EXIT);
    assert_int_equal(records[0].code, 3);
}

static void what_a_handler_allocates_is_counted(void **state)
{
    (void)state;
    neap_emit_nested(&neap_tls); /* no lane: nowhere to count */
    warm_up();
    neap_emit_nested(&neap_tls);
    neap_emit_nested(&neap_tls);
    assert_int_equal(hook_lane(0)->lost_events, 2);
    assert_int_equal(hook_lane(0)->lost_bytes, 0);
    assert_int_equal(read_all(), 0);
}

static void a_process_that_is_off_writes_and_counts_nothing(void **state)
{
    (void)state;
    warm_up();
    /* As in a child that was turned away; the lane is its parent's. */
    atomic_store(&neap_process->connection, 0);
    atomic_store(&neap_process->phase, NEAP_PHASE_OFF);
    hook_alloc(16 * MIB, 1);
    assert_false(hook_free(16 * MIB));
    neap_emit_thread_end(&neap_tls);
    neap_emit_nested(&neap_tls);
    neap_emit_exit(&neap_tls, 1);
    assert_int_equal(read_all(), 0);
    assert_int_equal(hook_lane(0)->lost_events, 0);
    assert_int_equal(neap_process->data->lane_loss, 0);
}

static void errno_stays_as_it_was(void **state)
{
    (void)state;
    errno = 77;
    hook_alloc(16 * MIB, 1);
    assert_int_equal(errno, 77);
    hook_tick();
    hook_free(16 * MIB);
    neap_emit_thread_end(&neap_tls);
    assert_int_equal(errno, 77);
}

#define TEST(f) \
    cmocka_unit_test_setup_teardown(f, hook_process_setup, hook_process_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_first_event_brings_all_it_needs),
        TEST(a_stack_is_sent_once),
        TEST(after_an_unloading_stacks_and_objects_are_sent_anew),
        TEST(each_shard_counts_for_itself),
        TEST(sequence_numbers_wrap_at_24_bits),
        TEST(a_new_tick_comes_before_its_first_event),
        TEST(a_reallocation_is_two_records),
        TEST(a_mapping_is_recorded_with_its_stack),
        TEST(a_change_of_the_heap_may_have_no_stack),
        TEST(a_mistake_names_three_stacks),
        TEST(a_stack_alone_is_sent_once),
        TEST(a_thread_gives_its_lane_back),
        TEST(a_renamed_thread_is_noticed_within_a_second),
        TEST(an_exit_status_is_this_process_s_own),
        TEST(what_a_handler_allocates_is_counted),
        TEST(a_process_that_is_off_writes_and_counts_nothing),
        TEST(errno_stays_as_it_was),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

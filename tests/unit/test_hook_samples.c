/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libhook/samples and the filter of libhook/gate: what goes in comes out, once; what
 * does not fit is refused; threads do not harm one another; a child has none of it.
 *
 * Links: libhook/cfi.c libhook/cfi_apply.c libhook/emit.c libhook/emit_rare.c
 * Links: libhook/emit_sample.c libhook/gate.c libhook/sampler.c libhook/samples.c
 * Links: libhook/lane.c libhook/life.c libhook/link.c libhook/modules.c
 * Links: libhook/oracle.c libhook/real.c libhook/selfmem.c libhook/stack.c
 * Links: libhook/stackset.c libhook/unwind.c libhook/walk.c libhook/rules.c
 * Links: libhook/ownheap.c libhook/marks.c libhook/heap/%.c libhook/enter.c
 * Links: tests/unit/hook_process.c
 */
#include "libhook/samples.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "libhook/gate.h"
#include "libhook/heap/heap.h"
#include "tests/unit/hook_process.h"

static const void *block_at(uint64_t number)
{
    return (const void *)(uintptr_t)(0x7f0000000000ull + number * 16);
}

static bool put(uint64_t number)
{
    uint64_t address = (uint64_t)(uintptr_t)block_at(number);
    uint32_t index = neap_samples_claim(address);

    if (index == NEAP_SAMPLES_NONE)
        return false;
    neap_samples_keep(
        index, address,
        &(struct neap_table_slot){.size = number, .stack = 5, .interval = 100});
    return true;
}

static bool take(uint64_t number)
{
    uint32_t index = neap_samples_take(block_at(number));

    if (index == NEAP_SAMPLES_NONE)
        return false;
    neap_samples_drop(index, block_at(number));
    return true;
}

static unsigned keys_in_use(void)
{
    unsigned count = 0;

    for (unsigned i = 0; i < NEAP_TABLE_SLOTS; i++)
        count += hook_table()->key[i] != 0;
    return count;
}

static bool filter_is_empty(void)
{
    for (unsigned i = 0; i < 1u << NEAP_FILTER_BITS; i++)
        if (neap_filter[NEAP_FILTER_FREE][i] != 0 ||
            neap_filter[NEAP_FILTER_REALLOC][i] != 0)
            return false;
    return true;
}

static void a_block_is_in_the_table_until_it_is_taken(void **state)
{
    (void)state;
    assert_false(take(3)); /* no table yet */
    assert_true(filter_is_empty());
    for (uint64_t i = 1; i <= 5000; i++)
        assert_true(put(i));
    assert_int_equal(keys_in_use(), 5000);
    assert_int_equal(neap_process->table_used, 5000);
    for (uint64_t i = 1; i <= 5000; i++)
        assert_false(neap_gate_frees(block_at(i)));
    for (uint64_t i = 1; i <= 5000; i += 2)
        assert_true(take(i));
    for (uint64_t i = 1; i <= 5000; i++)
        assert_int_equal(take(i), i % 2 == 0);
    assert_int_equal(keys_in_use(), 0);
    assert_int_equal(neap_process->table_used, 0);
    assert_true(filter_is_empty());
}

static void the_reader_finds_what_was_put_in(void **state)
{
    uint32_t found = 0;

    (void)state;
    assert_true(put(77));
    for (unsigned i = 0; i < NEAP_TABLE_SLOTS; i++) {
        if (hook_table()->key[i] == 0)
            continue;
        assert_int_equal(hook_table()->key[i], (uintptr_t)block_at(77));
        assert_int_equal(hook_table()->slot[i].size, 77);
        assert_int_equal(hook_table()->slot[i].stack, 5);
        assert_int_equal(hook_table()->slot[i].interval, 100);
        found++;
    }
    assert_int_equal(found, 1);
}

static void a_taken_block_may_be_returned(void **state)
{
    uint32_t index;

    (void)state;
    assert_true(put(9));
    index = neap_samples_take(block_at(9));
    assert_int_not_equal(index, NEAP_SAMPLES_NONE);
    assert_int_equal(hook_table()->key[index], NEAP_TABLE_CLAIMED);
    assert_false(take(9)); /* nobody else has it meanwhile */
    neap_samples_return(index, block_at(9));
    assert_int_equal(hook_table()->slot[index].size, 9);
    assert_true(take(9));
    assert_true(filter_is_empty());
}

static void a_full_table_refuses_and_recovers(void **state)
{
    uint64_t in = 0, last = 0;
    unsigned refused = 0;

    (void)state;
    for (uint64_t i = 1; refused < 1000; i++, last = i)
        if (put(i))
            in++;
        else
            refused++;
    assert_int_equal(keys_in_use(), in);
    assert_true(in > NEAP_TABLE_HIGH && in <= NEAP_TABLE_SLOTS);
    for (uint64_t i = 1; i < last; i++)
        in -= take(i);
    assert_int_equal(in, 0);
    assert_int_equal(keys_in_use(), 0);
    assert_true(put(1));
}

static void above_the_mark_the_interval_doubles_now_and_then(void **state)
{
    uint64_t i = 1;

    (void)state;
    while (neap_process->table_used < NEAP_TABLE_HIGH)
        put(i++);
    assert_int_equal(neap_process->interval, 0);
    put(i++);
    assert_int_equal(neap_process->interval, 200); /* twice what it was drawn with */
    for (int n = 0; n < 1023; n++) {
        put(i);
        take(i++);
    }
    assert_int_equal(neap_process->interval, 200);
    while (!put(i))
        i++;
    assert_int_equal(neap_process->interval, 400);
}

static void a_full_counter_stays_full(void **state)
{
    (void)state;
    for (int i = 0; i < 300; i++)
        neap_filter_add(block_at(1));
    for (int i = 0; i < 300; i++)
        neap_filter_remove(block_at(1));
    assert_false(neap_gate_frees(block_at(1)));
    neap_filter_reset();
    assert_true(neap_gate_frees(block_at(1)));
    neap_filter_remove(block_at(1)); /* not below 0 */
    assert_true(neap_gate_frees(block_at(1)));
}

static void a_full_filter_lets_nothing_pass(void **state)
{
    (void)state;
    neap_filter_fill();
    for (uint64_t i = 1; i < 100; i++)
        assert_false(neap_gate_frees(block_at(i)));
    assert_true(put(1) && take(1));
    assert_false(neap_gate_frees(block_at(1)));
}

static void few_others_are_held_up(void **state)
{
    unsigned held = 0;

    (void)state;
    for (uint64_t i = 1; i <= 1000; i++)
        put(i * 131);
    for (uint64_t i = 0; i < 100000; i++)
        held += !neap_gate_frees(block_at(1000000 + i * 3));
    assert_true(held < 8000); /* 1 000 of 16 384 counters are up: 6.1 % */
}

enum {
    THREADS = 4,
    ROUNDS = 20000
};

static void *churn(void *number)
{
    uint64_t base = (uint64_t)(uintptr_t)number * 1000000;
    uint64_t failures = 0;

    for (uint64_t i = 0; i < ROUNDS; i++) {
        if (put(base + i))
            failures += neap_gate_frees(block_at(base + i)) || !take(base + i);
        failures += take(base + i);
    }
    return (void *)(uintptr_t)failures;
}

static void threads_do_not_disturb_one_another(void **state)
{
    pthread_t threads[THREADS];
    void *failures;

    (void)state;
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, churn, (void *)(i + 1)), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], &failures), 0);
        assert_int_equal((uintptr_t)failures, 0);
    }
    assert_int_equal(keys_in_use(), 0);
    assert_true(filter_is_empty());
}

static void *grab(void *count)
{
    for (uint64_t i = 1; i <= 4000; i++)
        *(unsigned *)count += take(i);
    return NULL;
}

static void a_block_is_taken_by_one_thread_alone(void **state)
{
    unsigned taken[2] = {0};
    pthread_t threads[2];

    (void)state;
    for (uint64_t i = 1; i <= 4000; i++)
        assert_true(put(i));
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, grab, &taken[i]), 0);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(taken[0] + taken[1], 4000);
    assert_true(filter_is_empty());
}

/* The process's own memory is wiped in a child, and with it the way to the table. */
static void a_child_knows_none_of_its_parents_blocks(void **state)
{
    int status;
    pid_t pid;

    (void)state;
    assert_true(put(1));
    pid = fork();
    if (pid == 0) {
        bool held = !neap_gate_frees(block_at(1)); /* the slow way, in vain */
        bool taken = take(1);

        neap_filter_reset();
        _exit(held && !taken && neap_gate_frees(block_at(1)) ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_true(take(1));
}

/* Over our own heap: marked in it, and no business of free's filter. */
static void over_our_own_heap_free_has_nothing_to_look_at(void **state)
{
    void *block = neap_heap_malloc(100);
    uint32_t index;

    (void)state;
    neap_real.heap = true;
    assert_true(
        put(((uint64_t)(uintptr_t)block - (uint64_t)(uintptr_t)block_at(0)) / 16));
    assert_true(neap_gate_frees(block));
    assert_false(neap_gate_reallocs(block));
    index = neap_samples_take(block); /* as realloc does */
    assert_true(index != NEAP_SAMPLES_NONE);
    assert_int_equal(neap_samples_take(block), NEAP_SAMPLES_NONE);
    neap_samples_return(index, block);
    assert_false(neap_gate_reallocs(block));
    index = neap_samples_take(block);
    neap_samples_drop(index, block);
    assert_true(neap_gate_reallocs(block));
    assert_true(filter_is_empty());
    neap_real.heap = false;
    neap_heap_free(block);
}

#define TEST(f) \
    cmocka_unit_test_setup_teardown(f, hook_process_setup, hook_process_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_block_is_in_the_table_until_it_is_taken),
        TEST(the_reader_finds_what_was_put_in),
        TEST(a_taken_block_may_be_returned),
        TEST(a_full_table_refuses_and_recovers),
        TEST(above_the_mark_the_interval_doubles_now_and_then),
        TEST(a_full_counter_stays_full),
        TEST(a_full_filter_lets_nothing_pass),
        TEST(few_others_are_held_up),
        TEST(threads_do_not_disturb_one_another),
        TEST(a_block_is_taken_by_one_thread_alone),
        TEST(a_child_knows_none_of_its_parents_blocks),
        TEST(over_our_own_heap_free_has_nothing_to_look_at),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

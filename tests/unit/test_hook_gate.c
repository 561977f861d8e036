/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The entry points themselves, in this very program, in each mode: what malloc and its
 * kin record, what they let pass, and what a change of the mode between two calls does.
 *
 * Links: libhook/cfi.c libhook/cfi_apply.c libhook/emit.c libhook/emit_rare.c
 * Links: libhook/emit_sample.c libhook/gate.c libhook/sampler.c libhook/samples.c
 * Links: libhook/lane.c libhook/life.c libhook/link.c libhook/modules.c
 * Links: libhook/oracle.c libhook/real.c libhook/selfmem.c libhook/stack.c
 * Links: libhook/stackset.c libhook/unwind.c libhook/walk.c libhook/rules.c
 * Links: libhook/ownheap.c libhook/marks.c libhook/heap/%.c
 * Links: tests/unit/hook_process.c tests/unit/hook_entries.c libhook/enter.c
 */
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "libhook/gate.h"
#include "libhook/modules.h"
#include "libhook/samples.h"
#include "tests/unit/hook_entries.h"
#include "tests/unit/hook_process.h"

#define TOO_MUCH                                                        \
    ((size_t)1 << 47) /* no allocator has that, and it may be asked for \
                       */

static struct hook_record records[512];

/* Where the blocks are used, for the compiler. */
static void *keep(void *block)
{
    __asm__ volatile("" : "+r"(block) : : "memory");
    return block;
}

static size_t opaque(size_t size)
{
    __asm__ volatile("" : "+r"(size));
    return size;
}

/* Calls that fail: the compiler does not believe that the block is still there. */
static void *(*volatile resize)(void *, size_t) = realloc;

/* The kinds of what was recorded, as text; clocks, threads, stacks and objects left
 * out. The gate is shut meanwhile, since cmocka allocates. */
static unsigned read_events(void)
{
    unsigned count = hook_read(0, records, NEAP_ARRAY_LEN(records)), kept = 0;

    for (unsigned i = 0; i < count; i++)
        if (records[i].kind != NEAP_EV_TIME && records[i].kind != NEAP_EV_THREAD &&
            records[i].kind != NEAP_EV_STACK && records[i].kind != NEAP_EV_MODULE)
            records[kept++] = records[i];
    return kept;
}

static const char *kinds(unsigned count)
{
    static char text[4096];

    text[0] = '\0';
    for (unsigned i = 0; i < count; i++) {
        if (i > 0)
            strcat(text, " ");
        strcat(text, neap_ev_name(records[i].kind));
    }
    return text;
}

static void shut(void)
{
    atomic_store(&hook_ctl()->mode, NEAP_MODE_OFF);
}

#define EVENTS(text) assert_string_equal(kinds(read_events()), text)

/* Each entry point once, all given back. */
static void use_everything(void)
{
    void *block;

    free(keep(malloc(opaque(100))));
    free(keep(calloc(opaque(3), 50)));
    free(keep(realloc(keep(malloc(100)), opaque(200))));
    free(keep(reallocarray(NULL, opaque(5), 40)));
    free(keep(memalign(64, opaque(100))));
    free(keep(aligned_alloc(64, opaque(128))));
    free(keep(valloc(opaque(100))));
    free(keep(pvalloc(opaque(100))));
    if (posix_memalign(&block, 64, opaque(100)) == 0)
        free(keep(block));
    free(NULL);
    block = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(block, 4096);
}

static void a_dormant_process_records_nothing(void **state)
{
    (void)state;
    hook_open(NEAP_MODE_OFF, 1);
    use_everything();
    shut();
    assert_int_equal(read_events(), 0);
    assert_null(neap_tls.lane);
    assert_int_equal(neap_process->data->lanes, 0);
    assert_int_equal(neap_tls.left, 0);
    assert_false(atomic_load(&neap_process->exact));
}

static void exactly_each_call_is_an_event(void **state)
{
    (void)state;
    hook_open(NEAP_MODE_EXACT, 0);
    use_everything();
    shut();
    EVENTS("alloc free alloc free alloc realloc_free realloc_alloc free alloc free "
           "alloc free alloc free alloc free alloc free alloc free map map");
    assert_int_equal(records[0].size, 100);
    assert_int_equal(records[2].size, 150);
    assert_int_equal(records[6].size, 200);
    assert_int_equal(records[8].size, 200);
    assert_int_equal(records[0].address, records[1].address);
}

static void sampled_with_an_interval_of_a_byte_each_is_a_sample(void **state)
{
    (void)state;
    neap_sampler_configure("3");
    hook_open(NEAP_MODE_SAMPLED, 1);
    use_everything();
    shut();
    EVENTS("sample sample_free sample sample_free sample sample_free realloc_done "
           "sample sample_free sample sample_free sample sample_free sample "
           "sample_free sample sample_free sample sample_free sample sample_free "
           "map map");
    assert_int_equal(records[0].size, 100);
    assert_int_equal(records[0].interval, 1);
    assert_int_equal(records[0].flags, 0);
    assert_int_equal(records[1].flags, NEAP_SAMPLE_TEMPORARY);
    assert_int_equal(records[1].address, records[0].address);
    assert_int_equal(records[1].seq, records[0].seq + 1);
    assert_int_equal(records[5].flags, NEAP_SAMPLE_REALLOC | NEAP_SAMPLE_TEMPORARY);
    assert_int_equal(records[7].flags, NEAP_SAMPLE_REALLOC);
    assert_int_equal(records[7].size, 200);
    assert_int_equal(neap_process->table_used, 0);
}

static void what_leaves_the_gap_standing_only_uses_it_up(void **state)
{
    int64_t left;

    (void)state;
    hook_open(NEAP_MODE_SAMPLED, 1ull << 50);
    free(keep(malloc(opaque(100))));
    left = neap_tls.left;
    free(keep(malloc(opaque(100))));                   /* 101 */
    free(keep(calloc(opaque(3), 50)));                 /* 151 */
    free(keep(realloc(keep(malloc(100)), opaque(9)))); /* 101 + 10 */
    free(keep(realloc(NULL, opaque(19))));             /* 20 */
    free(keep(reallocarray(NULL, opaque(5), 40)));     /* 201 */
    free(keep(memalign(64, opaque(100))));             /* 101 */
    free(keep(calloc(opaque(0), 50)));                 /* 1 */
    shut();
    assert_int_equal(left - neap_tls.left, 101 + 151 + 111 + 20 + 201 + 101 + 1);
    assert_null(neap_tls.lane);
    assert_int_equal(read_events(), 0);
}

static void the_caller_is_the_program(void **state)
{
    unsigned count;

    (void)state;
    for (enum neap_mode mode = NEAP_MODE_EXACT; mode <= NEAP_MODE_SAMPLED; mode++) {
        uint64_t here;

        hook_open(mode, 1);
        here = (uint64_t)(uintptr_t) && after;
        free(keep(malloc(opaque(100))));
    after:
        shut();
        count = hook_read(0, records, NEAP_ARRAY_LEN(records));
        for (unsigned i = 0; i < count; i++)
            if (records[i].kind == NEAP_EV_STACK) {
                assert_true(records[i].depth >= 3);
                assert_true(records[i].pc[0] - here + 512 < 1024);
            }
    }
}

static void frees_of_what_was_recorded_are_seen_when_it_is_off(void **state)
{
    void *first, *second;

    (void)state;
    hook_open(NEAP_MODE_OFF, 0);
    first = keep(malloc(opaque(10)));
    hook_open(NEAP_MODE_EXACT, 0);
    second = keep(malloc(opaque(20)));
    hook_open(NEAP_MODE_OFF, 0);
    free(first); /* nobody can know that it was not recorded */
    free(second);
    free(keep(malloc(opaque(30))));
    shut();
    EVENTS("alloc free free free");
    assert_int_equal(records[0].address, records[2].address);
}

static void a_realloc_that_is_off_gives_its_block_up(void **state)
{
    void *block;

    (void)state;
    hook_open(NEAP_MODE_EXACT, 0);
    block = keep(malloc(opaque(20)));
    hook_open(NEAP_MODE_OFF, 0);
    block = keep(realloc(block, opaque(3000)));
    assert_null(resize(block, TOO_MUCH));
    hook_open(NEAP_MODE_EXACT, 0);
    free(block);
    shut();
    EVENTS("alloc realloc_free realloc_done realloc_free realloc_fail free");
}

/* Or the old block would come back to life, since its realloc seems to have failed. */
static void a_realloc_whose_new_block_is_lost_is_over(void **state)
{
    enum neap_ev_kind last[2] = {NEAP_EV_NONE, NEAP_EV_NONE};
    unsigned count;
    void *block;

    (void)state;
    hook_open(NEAP_MODE_EXACT, 0);
    block = keep(malloc(opaque(20)));
    while (hook_lane(0)->lost_events == 0) /* what is left is kept for frees */
        free(keep(malloc(opaque(20))));
    block = keep(realloc(block, opaque(3000)));
    shut();
    while ((count = hook_read(0, records, NEAP_ARRAY_LEN(records))) > 0) {
        for (unsigned i = 0; i < count; i++) {
            last[0] = last[1];
            last[1] = records[i].kind;
        }
    }
    free(block);
    assert_int_equal(last[0], NEAP_EV_REALLOC_FREE);
    assert_int_equal(last[1], NEAP_EV_REALLOC_DONE);
}

static void frees_of_samples_are_seen_when_it_is_off(void **state)
{
    void *sampled, *other;

    (void)state;
    hook_open(NEAP_MODE_SAMPLED, 1);
    sampled = keep(malloc(opaque(2000)));
    hook_open(NEAP_MODE_OFF, 1);
    other = keep(malloc(opaque(2000)));
    free(other);
    sampled = keep(realloc(sampled, opaque(5000)));
    free(sampled);
    shut();
    EVENTS("sample sample_free realloc_done");
    assert_int_equal(records[1].flags & NEAP_SAMPLE_REALLOC, NEAP_SAMPLE_REALLOC);
    assert_int_equal(neap_process->table_used, 0);
}

static void a_failed_realloc_leaves_a_sample_live(void **state)
{
    void *block;

    (void)state;
    hook_open(NEAP_MODE_SAMPLED, 1);
    block = keep(malloc(opaque(2000)));
    errno = 0;
    assert_null(resize(block, TOO_MUCH));
    assert_int_equal(errno, ENOMEM);
    assert_int_equal(neap_process->table_used, 1);
    assert_false(neap_gate_frees(block));
    assert_null(resize(block, SIZE_MAX - 5)); /* nothing happens */
    free(block);
    shut();
    EVENTS("sample sample_free realloc_fail sample_free");
    assert_int_equal(records[1].flags & NEAP_SAMPLE_REALLOC, NEAP_SAMPLE_REALLOC);
    assert_int_equal(records[2].address, records[0].address);
    assert_int_equal(records[3].address, records[0].address);
    assert_int_equal(neap_process->table_used, 0);
}

static void a_realloc_to_nothing_is_a_free(void **state)
{
    void *block;

    (void)state;
    hook_open(NEAP_MODE_SAMPLED, 1);
    block = keep(malloc(opaque(2000)));
    block = keep(realloc(block, opaque(0)));
    shut();
    assert_null(block);
    EVENTS("sample sample_free");
    assert_int_equal(records[1].flags & NEAP_SAMPLE_REALLOC, 0);
}

static void a_realloc_of_any_block_makes_a_sample_that_says_so(void **state)
{
    void *block;

    (void)state;
    hook_open(NEAP_MODE_OFF, 1);
    block = keep(malloc(opaque(100)));
    hook_open(NEAP_MODE_SAMPLED, 1);
    block = keep(realloc(block, opaque(2000)));
    free(block);
    shut();
    EVENTS("sample sample_free");
    assert_int_equal(records[0].flags, NEAP_SAMPLE_REALLOC);
}

static void what_is_not_freed_at_once_is_not_temporary(void **state)
{
    void *first, *second;

    (void)state;
    hook_open(NEAP_MODE_SAMPLED, 1);
    first = keep(malloc(opaque(100)));
    second = keep(malloc(opaque(100)));
    free(first);
    free(second);
    hook_open(NEAP_MODE_SAMPLED, 1ull << 50);
    shut();
    EVENTS("sample sample sample_free sample_free");
    assert_int_equal(records[2].flags, 0);
    assert_int_equal(records[3].flags, NEAP_SAMPLE_TEMPORARY);
}

static void a_full_table_forgets_the_sample(void **state)
{
    void *block;

    (void)state;
    hook_open(NEAP_MODE_OFF, 1);
    block = keep(malloc(opaque(1000)));
    for (unsigned i = 0; i < NEAP_TABLE_SLOTS; i++)
        hook_table()->key[i] = NEAP_TABLE_CLAIMED;
    hook_open(NEAP_MODE_SAMPLED, 1);
    free(keep(realloc(block, opaque(5000))));
    shut();
    EVENTS("");
    assert_int_equal(neap_process->data->table_loss, 1);
    assert_int_equal(neap_process->data->table_loss_bytes, 5000);
    assert_int_equal(hook_lane(0)->lost_events, 0);
}

static void a_lost_sample_stays_in_the_table(void **state)
{
    unsigned lost;
    void *block;

    (void)state;
    hook_open(NEAP_MODE_SAMPLED, 1);
    for (unsigned i = 0; i < 20000 && hook_lane(0)->lost_events == 0; i++)
        free(keep(malloc(opaque(100)))); /* nobody reads */
    lost = (unsigned)hook_lane(0)->lost_events;
    block = keep(malloc(opaque(4711)));
    shut();
    assert_true(lost > 0);
    assert_int_equal(hook_lane(0)->lost_events, lost + 1);
    assert_int_equal(neap_process->table_used, 1);
    for (unsigned i = 0; i < NEAP_TABLE_SLOTS; i++)
        if (hook_table()->key[i] == (uintptr_t)block) {
            assert_int_equal(hook_table()->slot[i].size, 4711);
            assert_true(hook_table()->slot[i].stack != 0);
            lost = 0;
        }
    assert_int_equal(lost, 0);
    /* Room is kept for its free. */
    lost = (unsigned)hook_lane(0)->lost_events;
    free(block);
    assert_int_equal(hook_lane(0)->lost_events, lost);
    assert_int_equal(neap_process->table_used, 0);
}

/* A free of a sampled block where nothing may be recorded: no longer live all the same.
 */
static void a_nested_free_takes_the_key(void **state)
{
    void *block;

    (void)state;
    hook_open(NEAP_MODE_SAMPLED, 1);
    block = keep(malloc(opaque(100)));
    neap_tls.busy = NEAP_RECORDING;
    free(block);
    free(keep(malloc(opaque(100))));
    neap_tls.busy = NEAP_IDLE;
    shut();
    assert_int_equal(neap_process->table_used, 0);
    EVENTS("sample");
    assert_int_equal(hook_lane(0)->lost_events, 2); /* a free and an allocation */
}

static void *allocate_in_thread(void *unused)
{
    struct neap_tls *tls = hook_thread();

    free(keep(malloc(opaque(100))));
    return tls->lane ? unused : (void *)1;
}

static void only_a_sample_claims_a_lane(void **state)
{
    pthread_t thread;
    void *none;

    (void)state;
    hook_open(NEAP_MODE_SAMPLED, 1ull << 50);
    pthread_create(&thread, NULL, allocate_in_thread, NULL);
    pthread_join(thread, &none);
    shut();
    assert_non_null(none);
    assert_int_equal(neap_process->data->lanes, 0);
}

static void a_child_starts_with_an_open_gate_and_nothing_else(void **state)
{
    void *block;
    int status;
    pid_t pid;

    (void)state;
    hook_open(NEAP_MODE_SAMPLED, 1ull << 50);
    free(keep(malloc(opaque(100))));
    hook_open(NEAP_MODE_SAMPLED, 1);
    neap_tls.left = 0;
    block = keep(malloc(opaque(100)));
    hook_open(NEAP_MODE_SAMPLED, 1ull << 50);
    neap_tls.left = 1LL << 40;
    pid = fork();
    if (pid == 0) {
        /* neap_process is wiped and not connected: all this only forwards. */
        free(block);
        free(keep(malloc(opaque(100))));
        _exit(neap_process->phase == NEAP_PHASE_NEW ? 0 : 1);
    }
    waitpid(pid, &status, 0);
    free(block);
    shut();
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    EVENTS("sample sample_free");
}

/* Stacks that came with a block from here; one at most. */
static __attribute__((noinline)) unsigned stacks_of_a_block(void)
{
    unsigned count, stacks = 0;

    hook_open(NEAP_MODE_EXACT, 0);
    free(keep(malloc(opaque(100))));
    shut();
    count = hook_read(0, records, NEAP_ARRAY_LEN(records));
    for (unsigned i = 0; i < count; i++)
        stacks += records[i].kind == NEAP_EV_STACK;
    return stacks;
}

static void only_what_was_unloaded_is_forgotten(void **state)
{
    static const char library[] = "libBrokenLocale.so.1";
    void *first = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    void *second = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    unsigned stacks[4];

    (void)state;
    if (!first || !second) {
        skip();
        return;
    }
    for (volatile unsigned i = 0; i < 4; i++) {
        stacks[i] = stacks_of_a_block();
        if (i == 1)
            dlclose(first); /* it is still open */
        if (i == 2)
            dlclose(second);
    }
    assert_int_equal(stacks[0], 1);
    assert_int_equal(stacks[1], 0);
    assert_int_equal(stacks[2], 0);
    assert_int_equal(stacks[3], 1);
    assert_int_equal(atomic_load(&neap_process->epoch) >> 32, 0);
}

/* While a dlclose is under way stacks are the same, by the slower way. */
static void a_stack_is_the_same_while_a_library_is_closed(void **state)
{
    unsigned stacks[3];

    (void)state;
    for (volatile unsigned i = 0; i < 3; i++) {
        if (i == 1)
            neap_modules_closing();
        stacks[i] = stacks_of_a_block();
        if (i == 1)
            neap_modules_closed();
    }
    assert_int_equal(stacks[0], 1);
    assert_int_equal(stacks[1], 0);
    assert_int_equal(stacks[2], 0);
    neap_modules_closed(); /* one too many, as in a child: nothing happens */
    assert_int_equal(atomic_load(&neap_process->epoch), 0);
}

static void the_entry_points_are_not_here(void **state)
{
    (void)state;
    print_message("under a sanitizer malloc is the sanitizer's\n");
    skip();
}

#define TEST(f) \
    cmocka_unit_test_setup_teardown(f, hook_process_setup, hook_process_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_dormant_process_records_nothing),
        TEST(exactly_each_call_is_an_event),
        TEST(sampled_with_an_interval_of_a_byte_each_is_a_sample),
        TEST(what_leaves_the_gap_standing_only_uses_it_up),
        TEST(the_caller_is_the_program),
        TEST(frees_of_what_was_recorded_are_seen_when_it_is_off),
        TEST(a_realloc_that_is_off_gives_its_block_up),
        TEST(a_realloc_whose_new_block_is_lost_is_over),
        TEST(frees_of_samples_are_seen_when_it_is_off),
        TEST(a_failed_realloc_leaves_a_sample_live),
        TEST(a_realloc_to_nothing_is_a_free),
        TEST(a_realloc_of_any_block_makes_a_sample_that_says_so),
        TEST(what_is_not_freed_at_once_is_not_temporary),
        TEST(a_full_table_forgets_the_sample),
        TEST(a_lost_sample_stays_in_the_table),
        TEST(a_nested_free_takes_the_key),
        TEST(only_a_sample_claims_a_lane),
        TEST(only_what_was_unloaded_is_forgotten),
        TEST(a_stack_is_the_same_while_a_library_is_closed),
        TEST(a_child_starts_with_an_open_gate_and_nothing_else),
    };

    const struct CMUnitTest none[] = {
        cmocka_unit_test(the_entry_points_are_not_here),
    };

    return HOOK_ENTRIES ? cmocka_run_group_tests(tests, NULL, NULL)
                        : cmocka_run_group_tests(none, NULL, NULL);
}

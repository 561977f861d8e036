/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libhook/unwind and stack: walks compared with libunwind's, frame by frame, on every
 * kind of stack there is; and reading of memory that may not be there.
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
#include "libhook/unwind.h"

#include <execinfo.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <cmocka.h>

#include "libhook/oracle.h"
#include "libhook/stack.h"
#include "tests/unit/hook_process.h"

static uint64_t mine[NEAP_STACK_DEPTH_MAX], theirs[NEAP_STACK_DEPTH_MAX + 1];
static struct neap_walk last;
static unsigned walks, remembered;
static struct neap_memo *memo; /* NULL: only walks afresh are looked at */
static volatile unsigned sink;

static int setup(void **state)
{
    memo = neap_unwind_memo();
    remembered = 0;
    return memo ? hook_process_setup(state) : -1;
}

/*
 * libunwind's frames. Its data of a thread is cleared by that thread's end, under a
 * mutex, after the thread sanitizer has taken leave of the thread, and crashes it:
 * there libgcc is asked.
 */
static unsigned second_opinion(const struct neap_context *caller)
{
#ifdef __SANITIZE_THREAD__
    unsigned depth = (unsigned)backtrace((void **)theirs, NEAP_STACK_DEPTH_MAX);
    unsigned skip = 0;

    while (skip < depth && theirs[skip] != caller->pc)
        skip++;
    memmove(theirs, theirs + skip, (depth - skip) * sizeof(theirs[0]));
    return depth - skip;
#else
    return neap_oracle_frames(caller, theirs);
#endif
}

/* The same walk with what is remembered of the one before must say the same. */
static void walk_from_memory(const struct neap_context *caller)
{
    static uint64_t again[NEAP_STACK_DEPTH_MAX];
    struct neap_walk walked;

#ifdef __SANITIZE_ADDRESS__
    /* Slots of the last walk are looked at wherever they now lie, be it in what the
     * sanitizer keeps free around another function's variables. */
    return;
#endif
    neap_tls.memo = memo;
    neap_unwind(&neap_tls, caller, 0, again, &walked);
    neap_unwind_frames(&neap_tls, &walked, again);
    neap_tls.memo = NULL;
    remembered += walked.remembered;
    assert_int_equal(walked.depth, last.depth);
    assert_int_equal(walked.flags, last.flags);
    assert_true(walked.hash == last.hash);
    assert_memory_equal(again, mine, last.depth * sizeof(mine[0]));
}

/* As an entry point does it: from our caller outwards, by both. */
static __attribute__((noinline)) void walk_here(void)
{
    struct neap_context caller = NEAP_CALLER();
    unsigned depth;

    if (!neap_tls.stack_hi)
        neap_stack_thread(&neap_tls, gettid() == getpid());
    neap_unwind(&neap_tls, &caller, 0, mine, &last);
    walks++;
    assert_true(mine[0] == caller.pc);
    walk_from_memory(&caller);
    if (last.flags & NEAP_STACK_TRUNCATED)
        return;
    depth = second_opinion(&caller);
    while (depth > 0 && theirs[depth - 1] == 0)
        depth--;
    if (depth != last.depth)
        fail_msg("%u frames, libunwind has %u", last.depth, depth);
    for (unsigned i = 0; i < depth; i++)
        /* of an interrupted frame libunwind gives the instruction itself */
        if (mine[i] != theirs[i] && mine[i] != theirs[i] + 1)
            fail_msg("frame %u of %u is another", i, depth);
}

/* ---- trees of calls ---- */

static uint64_t dice;

static unsigned roll(unsigned below)
{
    dice = dice * 6364136223846793005ull + 1442695040888963407ull;
    return (unsigned)(dice >> 33) % below;
}

static unsigned grow(unsigned depth);

static __attribute__((noinline)) unsigned small_frame(unsigned depth)
{
    sink = grow(depth);
    return sink + 1;
}

static __attribute__((noinline)) unsigned large_frame(unsigned depth)
{
    volatile uint8_t room[5000];

    room[0] = room[4999] = (uint8_t)depth;
    sink = grow(depth);
    return sink + room[0];
}

static __attribute__((noinline)) unsigned dynamic_frame(unsigned depth)
{
    volatile uint8_t *room = __builtin_alloca(16 + 16 * (depth % 9));

    room[0] = (uint8_t)depth;
    sink = grow(depth);
    return sink + room[0];
}

static __attribute__((noinline)) unsigned aligned_frame(unsigned depth)
{
    volatile uint64_t room[8] __attribute__((aligned(64)));

    room[7] = depth;
    sink = grow(depth);
    return sink + (unsigned)room[7];
}

static int through_libc(const void *left, const void *right)
{
    unsigned depth = *(const unsigned *)left;

    (void)right;
    return (int)(grow(depth) & 1);
}

static __attribute__((noinline)) unsigned sorted_frame(unsigned depth)
{
    unsigned pair[2] = {depth, depth};

    qsort(pair, 2, sizeof(pair[0]), through_libc);
    return pair[0];
}

static __attribute__((noinline)) unsigned grow(unsigned depth)
{
    static unsigned (*const ways[])(unsigned) = {
        small_frame, large_frame, dynamic_frame, aligned_frame, sorted_frame,
    };
    unsigned branches = roll(3) == 0 ? 2 : 1, sum = 0;

    if (depth == 0) {
        walk_here();
        return 1;
    }
    for (unsigned i = 0; i < branches; i++)
        sum += ways[roll(NEAP_ARRAY_LEN(ways))](depth - 1);
    return sum;
}

static void a_tree_of_calls_is_walked_as_libunwind_does(void **state)
{
    (void)state;
    dice = 1;
    walks = 0;
    for (unsigned i = 0; i < 60; i++)
        sink = grow(1 + roll(14));
    assert_true(walks > 100);
#ifndef __SANITIZE_ADDRESS__
    assert_true(remembered > walks / 10);
#endif
    assert_int_equal(last.flags, 0);
}

static void the_same_stack_has_the_same_hash(void **state)
{
    uint64_t first = 0;

    (void)state;
    for (volatile int i = 0; i < 3; i++) {
        if (i == 2) /* rules looked up anew say the same */
            neap_unwind_forget();
        walk_here();
        assert_true(last.hash != 0);
        if (i == 0)
            first = last.hash;
        else
            assert_true(last.hash == first);
    }
    walk_here();
    assert_true(last.hash != first); /* another line, another stack */
}

static __attribute__((noinline)) unsigned recurse(unsigned depth)
{
    volatile unsigned kept = depth;

    if (depth == 0)
        walk_here();
    else
        sink = recurse(depth - 1);
    return kept;
}

static void recursion_is_cut_at_the_limit_and_says_so(void **state)
{
    (void)state;
    recurse(900);
    assert_int_equal(last.flags, 0);
    assert_true(last.depth > 900);
    recurse(5000);
    assert_int_equal(last.flags, NEAP_STACK_TRUNCATED);
    assert_int_equal(last.depth, NEAP_STACK_DEPTH_MAX);
    for (unsigned i = 2; i < NEAP_STACK_DEPTH_MAX; i++)
        assert_true(mine[i] == mine[1]);
}

/* ---- other stacks ---- */

static void *in_thread(void *unused)
{
    (void)unused;
    hook_thread();
    sink = recurse(10);
    dice = 7;
    for (int i = 0; i < 10; i++)
        sink = grow(6);
    assert_true(neap_tls.stack_lo < neap_tls.stack_hi);
    assert_true((uintptr_t)__builtin_frame_address(0) >= neap_tls.stack_lo);
    return NULL;
}

static void a_thread_is_walked_to_its_start(void **state)
{
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, in_thread, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(last.flags, 0);
    assert_true(last.depth > 6);
}

/* A lane's memory of walks goes to the lane's next thread. */
static void run_on(uint8_t *stack, size_t bytes)
{
    pthread_attr_t attributes;
    pthread_t thread;

    assert_int_equal(pthread_attr_init(&attributes), 0);
    assert_int_equal(pthread_attr_setstack(&attributes, stack, bytes), 0);
    assert_int_equal(pthread_create(&thread, &attributes, in_thread, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    pthread_attr_destroy(&attributes);
}

static void what_is_remembered_of_a_stack_that_is_gone_is_not_looked_at(void **state)
{
    const size_t bytes = 1 << 20;
    uint8_t *stacks = mmap(NULL, 2 * bytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)state;
    assert_true(stacks != MAP_FAILED);
    run_on(stacks + bytes, bytes);
    assert_int_equal(munmap(stacks + bytes, bytes), 0);
    run_on(stacks, bytes);
    assert_int_equal(last.flags, 0);
    assert_int_equal(munmap(stacks, bytes), 0);
}

static ucontext_t outside, coroutine;

static void in_coroutine(void)
{
    uint64_t before = neap_tls.stack_lo;

    sink = recurse(10);
    assert_true(neap_tls.stack_lo == before);
}

static void a_coroutine_is_walked_to_its_root(void **state)
{
    static uint8_t stack[256 << 10] __attribute__((aligned(16)));

    (void)state;
    walk_here(); /* so that this thread's own stack is known */
    assert_int_equal(getcontext(&coroutine), 0);
    coroutine.uc_stack.ss_sp = stack;
    coroutine.uc_stack.ss_size = sizeof(stack);
    coroutine.uc_link = &outside;
    makecontext(&coroutine, in_coroutine, 0);
    last.depth = 0;
    assert_int_equal(swapcontext(&outside, &coroutine), 0);
    assert_int_equal(last.flags, 0);
    assert_in_range(last.depth, 12, 14);
}

static volatile unsigned handled;

static void handler(int number)
{
    (void)number;
    sink = recurse(5);
    handled++;
}

static void raise_signal(bool other_stack)
{
    static uint8_t space[256 << 10];
    stack_t stack = {.ss_sp = space, .ss_size = sizeof(space)}, before;
    struct sigaction action = {.sa_handler = handler,
                               .sa_flags = other_stack ? SA_ONSTACK : 0},
                     was;

    assert_int_equal(sigaltstack(&stack, &before), 0);
    assert_int_equal(sigaction(SIGUSR1, &action, &was), 0);
    handled = 0;
    assert_int_equal(raise(SIGUSR1), 0);
    assert_int_equal(handled, 1);
    assert_int_equal(sigaction(SIGUSR1, &was, NULL), 0);
    assert_int_equal(sigaltstack(&before, NULL), 0);
}

static void a_signal_handler_is_walked_into_what_it_interrupted(void **state)
{
    uint16_t outer;

    (void)state;
    walk_here();
    outer = last.depth;
    raise_signal(false);
    assert_int_equal(last.flags, 0);
    assert_true(last.depth > outer + 7);
}

static void so_is_one_on_a_stack_of_its_own(void **state)
{
    uint16_t outer;

    (void)state;
    walk_here();
    outer = last.depth;
    raise_signal(true);
    assert_int_equal(last.flags, 0);
    assert_true(last.depth > outer + 7);
}

/* ---- walks that get lost ---- */

static void a_context_of_nowhere_ends_at_once(void **state)
{
    static const uint64_t nowhere[] = {0, 8, 4096, 1ull << 46, 1ull << 63, UINT64_MAX};

    (void)state;
    walk_here();
    for (size_t i = 0; i < NEAP_ARRAY_LEN(nowhere); i++)
        for (size_t k = 0; k < NEAP_ARRAY_LEN(nowhere); k++) {
            struct neap_context context = {.pc = (uint64_t)(uintptr_t)recurse + 40,
                                           .sp = nowhere[i],
                                           .bp = nowhere[k]};

            neap_unwind(&neap_tls, &context, 0, mine, &last);
            assert_true(last.depth >= 1 && last.depth <= 3);
            assert_true(last.flags & NEAP_STACK_TRUNCATED);
            context.pc = nowhere[i] + 1;
            neap_unwind(&neap_tls, &context, 0, mine, &last);
            assert_int_equal(last.depth, 1);
            assert_true(last.flags & NEAP_STACK_UNREADABLE);
        }
}

/* ---- reading ---- */

static void what_is_not_there_is_not_read(void **state)
{
    struct neap_stack_reader reader = {0};
    uint64_t value = 0, *page;
    uint8_t *pages = mmap(NULL, 3 * (size_t)NEAP_PAGE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)state;
    assert_true(pages != MAP_FAILED);
    page = (uint64_t *)(void *)(pages + NEAP_PAGE);
    page[0] = 77;
    page[511] = 78;
    assert_int_equal(mprotect(pages, NEAP_PAGE, PROT_NONE), 0);
    assert_int_equal(munmap(pages + 2 * NEAP_PAGE, NEAP_PAGE), 0);
    uint64_t at = (uint64_t)(uintptr_t)page;

    assert_true(neap_stack_peek(&reader, at, &value));
    assert_int_equal(value, 77);
    assert_true(neap_stack_peek(&reader, at + NEAP_PAGE - 8, &value));
    assert_int_equal(value, 78);
    assert_false(neap_stack_peek(&reader, at - 8, &value));         /* PROT_NONE */
    assert_false(neap_stack_peek(&reader, at + NEAP_PAGE, &value)); /* a hole */
    for (unsigned odd = 1; odd < 8; odd++)
        assert_false(neap_stack_peek(&reader, at + odd, &value));
    assert_false(neap_stack_peek(&reader, 1ull << 63, &value));
    assert_false(neap_stack_peek(&reader, UINT64_MAX - 7, &value));
    assert_int_equal(value, 78);
    assert_true(neap_stack_peek(&reader, at, &value));
    assert_int_equal(munmap(pages, 2 * (size_t)NEAP_PAGE), 0);
}

static void nothing_is_read_near_address_0(void **state)
{
    struct neap_stack_reader reader = {0};
    uint64_t value = 3;

    (void)state;
    assert_false(neap_stack_peek(&reader, 0, &value));
    assert_false(neap_stack_peek(&reader, 8, &value));
    assert_false(neap_stack_peek(&reader, NEAP_PAGE - 8, &value));
    assert_int_equal(value, 3);
}

static void a_stack_does_not_grow_across_a_guard(void **state)
{
    enum {
        PAGES = 100
    };
    uint8_t *pages = mmap(NULL, (size_t)PAGES * NEAP_PAGE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t base = (uint64_t)(uintptr_t)pages, top = base + PAGES * NEAP_PAGE;
    /* Not on the stack: the sanitizer's stand-in for it is aligned to less than 64. */
    static struct neap_tls tls;

    (void)state;
    tls.stack_lo = top - NEAP_PAGE;
    tls.stack_hi = top;
    assert_true(pages != MAP_FAILED);
    assert_int_equal(mprotect(pages + 10 * NEAP_PAGE, NEAP_PAGE, PROT_NONE), 0);
    assert_true(neap_stack_owns(&tls, top - 8));
    assert_true(neap_stack_grown(&tls, base + 60 * NEAP_PAGE + 8));
    assert_true(tls.stack_lo == base + 60 * NEAP_PAGE);
    assert_true(neap_stack_grown(&tls, base + 11 * NEAP_PAGE));
    assert_true(tls.stack_lo == base + 11 * NEAP_PAGE);
    assert_false(neap_stack_grown(&tls, base + 10 * NEAP_PAGE + 8));
    assert_false(neap_stack_grown(&tls, base + 8));
    assert_false(neap_stack_owns(&tls, top));     /* above it */
    assert_false(neap_stack_owns(&tls, top + 8)); /* another one above */
    assert_false(neap_stack_grown(&tls, base + 11 * NEAP_PAGE - (9u << 20)));
    assert_true(tls.stack_lo == base + 11 * NEAP_PAGE);
    assert_int_equal(munmap(pages, (size_t)PAGES * NEAP_PAGE), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, hook_process_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_tree_of_calls_is_walked_as_libunwind_does),
        TEST(the_same_stack_has_the_same_hash),
        TEST(recursion_is_cut_at_the_limit_and_says_so),
        TEST(a_thread_is_walked_to_its_start),
        TEST(what_is_remembered_of_a_stack_that_is_gone_is_not_looked_at),
        TEST(a_coroutine_is_walked_to_its_root),
        TEST(a_signal_handler_is_walked_into_what_it_interrupted),
        TEST(so_is_one_on_a_stack_of_its_own),
        TEST(a_context_of_nowhere_ends_at_once),
        TEST(what_is_not_there_is_not_read),
        TEST(nothing_is_read_near_address_0),
        TEST(a_stack_does_not_grow_across_a_guard),
    };

    if (!neap_oracle_load(true)) {
        fputs("libunwind.so.8 cannot be loaded: install libunwind8\n", stderr);
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs made by chance, with every invariant looked at in between: all kinds of
 * calls, threads that pass blocks on, forks while threads run, giving back.
 *
 * Links: tests/unit/heap_child.c
 */
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "libhook/heap/os.h"
#include "libhook/heap/stats.h"
#include "libhook/heap/walk.h"
#include "tests/unit/heap_child.h"

#define SLOTS 300u

/* One thread's blocks; their first and last byte say which they are. */
struct table {
    uint64_t random;
    unsigned char *block[SLOTS];
    size_t size[SLOTS];
};

static void *_Atomic shared[SLOTS];
static uint64_t seed;

static uint32_t chance(struct table *table, uint32_t below)
{
    table->random = table->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((table->random >> 32) * below >> 32);
}

static size_t some_size(struct table *table)
{
    static const uint32_t most[] = {600, 600, 600, 600, 40000, 40000, 100000, 1500000};

    return chance(table, most[chance(table, 8)]);
}

static void mark(struct table *table, uint32_t slot, void *block, size_t size)
{
    CHECK(block);
    table->block[slot] = block;
    table->size[slot] = size;
    if (size) {
        table->block[slot][0] = (unsigned char)slot;
        table->block[slot][size - 1] = (unsigned char)slot;
    }
}

static void let_go(struct table *table, uint32_t slot)
{
    neap_heap_free(table->block[slot]);
    table->block[slot] = NULL;
    table->size[slot] = 0;
}

static void one_call(struct table *table)
{
    uint32_t slot = chance(table, SLOTS), kind = chance(table, 20);
    size_t size = some_size(table), align = (size_t)16 << chance(table, 14);
    void *block = table->block[slot];

    if (table->size[slot])
        CHECK(table->block[slot][0] == (unsigned char)slot);
    if (kind < 4 && size) {
        mark(table, slot, neap_heap_realloc(block, size), size);
        return;
    }
    let_go(table, slot);
    if (kind < 10) {
        mark(table, slot, neap_heap_malloc(size), size);
    } else if (kind < 12) {
        block = neap_heap_aligned_alloc(align, size);
        CHECK((uintptr_t)block % align == 0);
        mark(table, slot, block, size);
    } else if (kind < 14) {
        unsigned char *zero = neap_heap_calloc(1, size);

        for (size_t i = 0; i < size; i += 61)
            CHECK(zero[i] == 0);
        mark(table, slot, zero, size);
    } else if (kind < 17) {
        block = neap_heap_malloc(size % 2000);
        neap_heap_free(atomic_exchange(&shared[slot], block));
    }
}

static void calls(struct table *table, int count)
{
    while (count-- > 0)
        one_call(table);
}

static void *in_thread(void *start)
{
    struct table table = {.random = (uintptr_t)start};

    calls(&table, 2000);
    if (chance(&table, 3))
        for (uint32_t i = 0; i < SLOTS; i++)
            let_go(&table, i);
    return NULL;
}

static void look(void)
{
    struct neap_heap_sum sum;

    VERIFY();
    CHECK(child_error_count == 0);
    neap_heap_walk(NULL, false, &sum);
    CHECK(sum.mapped == sum.live + sum.slack + sum.free + sum.meta);
    CHECK(sum.mapped == neap_os_mapped);
}

static void in_fork(struct table *table)
{
    pthread_t thread;

    neap_heap_fork_child();
    look();
    for (int i = 0; i < 10; i++) {
        calls(table, 100);
        look();
    }
    neap_heap_trim(0);
    look();
    /* The sanitizers have locks of their own, which another thread may have had. */
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
    CHECK(pthread_create(&thread, NULL, in_thread, (void *)7) == 0);
    pthread_join(thread, NULL);
    look();
#else
    (void)thread;
#endif
    _exit(0);
}

static void by_chance(void)
{
    static struct table table;
    pthread_t thread[2];

    table.random = seed;
    if (seed % 4 == 1)
        CHECK(neap_heap_option(M_MMAP_THRESHOLD, 64 << 10));
    if (seed % 4 == 2)
        CHECK(neap_heap_option(M_MMAP_MAX, 0));
    for (int round = 0; round < 3; round++) {
        int status = 0;
        pid_t child;

        for (int i = 0; i < 10; i++) {
            calls(&table, 100);
            look();
        }
        neap_heap_trim(chance(&table, 2) ? 0 : 1 << 20);
        look();
        for (uintptr_t i = 0; i < 2; i++)
            CHECK(pthread_create(&thread[i], NULL, in_thread,
                                 (void *)(uintptr_t)table.random) == 0);
        calls(&table, 500);
        neap_heap_fork_prepare();
        child = fork();
        if (child == 0)
            in_fork(&table);
        neap_heap_fork_parent();
        for (int i = 0; i < 2; i++)
            pthread_join(thread[i], NULL);
        look();
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
}

static void run(unsigned level)
{
    for (seed = 1; seed <= (level ? 2 : 4); seed++)
        child_run(level, by_chance);
}

static void test_plain(void **state)
{
    (void)state;
    run(0);
}

static void test_checked(void **state)
{
    (void)state;
    for (unsigned level = 1; level <= 3; level++)
        run(level);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

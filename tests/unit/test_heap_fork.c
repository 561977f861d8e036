/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forks of a process whose threads are busy with the heap: the child finds it whole,
 * can use what is in it, free it and make threads; its end is its own.
 *
 * Links: tests/unit/heap_tools.c
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "libhook/heap/pool.h"
#include "libhook/heap/walk.h"
#include "tests/unit/heap_tools.h"

#define THREADS 3u
#define TABLE   512u
#define FORKS   (HEAP_SANITIZED ? 60u : 300u)

/* TSan takes a thread of a child for one of its parent's that has the same stack; ASan
 * does not take its own locks around a fork, and starting a thread allocates. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define CHILD_THREADS 0
#else
#define CHILD_THREADS 2
#endif

struct parcel {
    struct heap_block rest;
};

static struct parcel *_Atomic table[TABLE];
static _Atomic bool stop;
static _Atomic unsigned wrong, turns;

static struct parcel *parcel_new(uint64_t *random, size_t most)
{
    size_t size = sizeof(struct parcel) + heap_random_size(random, 1, most);
    struct parcel *parcel = neap_heap_malloc(size);

    if (!parcel)
        return NULL;
    parcel->rest = (struct heap_block){(uint8_t *)(parcel + 1), size - sizeof(*parcel),
                                       heap_random(random)};
    heap_fill(&parcel->rest);
    return parcel;
}

static bool parcel_free(struct parcel *parcel)
{
    bool fine = parcel->rest.at == (uint8_t *)(parcel + 1) &&
                heap_holds(&parcel->rest, parcel->rest.size);

    neap_heap_free(parcel);
    return fine;
}

/* Blocks of all threads, each freed by whoever comes across it. */
static bool turn(uint64_t *random)
{
    struct parcel *next = parcel_new(random, heap_random(random) % 500 ? 1000 : 100000);
    struct parcel *old = atomic_exchange(&table[heap_random(random) % TABLE], next);

    return next && (!old || parcel_free(old));
}

static void *busy(void *arg)
{
    uint64_t random = (uintptr_t)arg * 104729 + 1;

    while (!atomic_load(&stop)) {
        if (!turn(&random))
            atomic_fetch_add(&wrong, 1);
        atomic_fetch_add(&turns, 1);
    }
    return NULL;
}

static int setup(void **state)
{
    (void)state;
    heap_begin();
    pthread_atfork(neap_heap_fork_prepare, neap_heap_fork_parent, neap_heap_fork_child);
    return 0;
}

/* ---- what children do; their status says how it went ---- */

enum {
    FINE = 40,
    LOST,
    BAD_BLOCK,
    BAD_THREAD,
    ERRORS,
    LEFT_OVER,
    NOT_WHOLE
};

static void *short_work(void *arg)
{
    uint64_t random = (uintptr_t)arg + 5;

    for (unsigned i = 0; i < 500; i++)
        if (!turn(&random))
            return NULL;
    return arg;
}

static int use_all(unsigned number)
{
    uint64_t random = number + 1;
    pthread_t thread[CHILD_THREADS + 1];
    void *result;

    for (unsigned i = 0; i < 300; i++)
        if (!turn(&random))
            return LOST;
    for (int i = 0; i < CHILD_THREADS; i++)
        if (pthread_create(&thread[i], NULL, short_work, &random))
            return BAD_THREAD;
    for (int i = 0; i < CHILD_THREADS; i++)
        if (pthread_join(thread[i], &result) || result != &random)
            return BAD_BLOCK;
    for (unsigned i = 0; i < TABLE; i++) {
        struct parcel *parcel = atomic_exchange(&table[i], NULL);

        if (parcel && !parcel_free(parcel))
            return BAD_BLOCK;
    }
    neap_heap_trim(0);
    if (neap_heap_verify())
        return NOT_WHOLE;
    return heap_errors() ? ERRORS : FINE;
}

/* A child of the child's, which has the dead heaps of both. */
static int fork_again(unsigned number)
{
    int status;
    pid_t pid = fork();

    if (pid == 0)
        _exit(use_all(number));
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) ||
        WEXITSTATUS(status) != FINE)
        return LOST;
    return use_all(number);
}

static int just_end(unsigned number)
{
    (void)number;
    return FINE;
}

static void fork_and_check(int (*child)(unsigned), unsigned number)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        alarm(60); /* a lock that nobody holds any more */
        _exit(child(number));
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), FINE);
}

static void clear_table(void)
{
    for (unsigned i = 0; i < TABLE; i++) {
        struct parcel *parcel = atomic_exchange(&table[i], NULL);

        assert_true(!parcel || parcel_free(parcel));
    }
}

/* ---- tests ---- */

#define LONE_FORKS  (HEAP_SANITIZED ? 60u : 600u)
#define LONE_BLOCKS 3000u

static int allocate(void)
{
    for (unsigned i = 0; i < LONE_BLOCKS; i++)
        if (!neap_heap_malloc(2048))
            return LOST;
    return neap_heap_verify() ? NOT_WHOLE : FINE;
}

static void *fork_without_a_heap(void *arg)
{
    for (unsigned i = 0; i < LONE_FORKS && !atomic_load(&wrong); i++) {
        int status = 0;
        pid_t pid = fork();

        if (pid == 0) {
            alarm(10);
            _exit(allocate());
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) ||
            WEXITSTATUS(status) != FINE)
            atomic_fetch_add(&wrong, 1);
    }
    atomic_store(&stop, true);
    return arg;
}

/* There is one heap, and it is not the forking thread's: its owner may be in the middle
 * of anything that needs no lock. First of the tests, as others' threads have heaps. */
static void forks_beside_the_only_heap(void **state)
{
    static void *blocks[20000];
    pthread_t thread;

    (void)state;
    blocks[0] = neap_heap_malloc(1);
    neap_heap_free(blocks[0]);
    assert_int_equal(pthread_create(&thread, NULL, fork_without_a_heap, NULL), 0);
    while (!atomic_load(&stop)) {
        unsigned count = 0;

        while (count < 20000 && !atomic_load(&stop))
            blocks[count++] = neap_heap_malloc(2048);
        while (count > 0)
            neap_heap_free(blocks[--count]);
    }
    pthread_join(thread, NULL);
    assert_int_equal(atomic_load(&wrong), 0);
}

static void forks_of_a_busy_process(void **state)
{
    static int (*const children[])(unsigned) = {use_all, fork_again, just_end};
    pthread_t thread[THREADS];
    uint64_t random = 77;

    (void)state;
    atomic_store(&stop, false);
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, busy, (void *)i), 0);
    for (unsigned i = 0; i < FORKS; i++) {
        unsigned before = atomic_load(&turns);

        /* The threads have done something since the last one. */
        while (atomic_load(&turns) == before)
            assert_true(turn(&random));
        fork_and_check(children[i % 3], i);
        assert_int_equal(atomic_load(&wrong), 0);
    }
    atomic_store(&stop, true);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    clear_table();
    assert_int_equal(atomic_load(&wrong), 0);
    assert_int_equal(heap_errors(), 0);
}

static void *fork_often(void *arg)
{
    for (unsigned i = 0; i < FORKS / 10; i++) {
        int status = 0;
        pid_t pid = fork();

        if (pid == 0) {
            alarm(60);
            _exit(use_all(i));
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) ||
            WEXITSTATUS(status) != FINE)
            atomic_fetch_add(&wrong, 1);
    }
    return arg;
}

/* The child has the forking thread alone, be that the main thread or another. */
static void forks_by_several_threads(void **state)
{
    pthread_t thread[THREADS];

    (void)state;
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(
            pthread_create(&thread[i], NULL, i ? fork_often : busy, (void *)i), 0);
    for (unsigned i = 1; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    atomic_store(&stop, true);
    pthread_join(thread[0], NULL);
    clear_table();
    assert_int_equal(atomic_load(&wrong), 0);
}

/* What the parent's threads left in the heap is there to be used: children of children
 * do not grow. */
static void generations(void **state)
{
    int status = 0;
    pid_t pid = fork();

    (void)state;
    if (pid == 0) {
        size_t first = 0;

        for (unsigned i = 0; i < 30; i++) {
            pid_t next;

            if (use_all(i) != FINE)
                _exit(BAD_BLOCK);
            if (i == 3)
                first = neap_pool_counts.used_units;
            if (i > 3 && neap_pool_counts.used_units > first + 64)
                _exit(LEFT_OVER);
            next = fork();
            if (next > 0) { /* the elder waits, and ends as its child did */
                if (waitpid(next, &status, 0) != next || !WIFEXITED(status))
                    _exit(LOST);
                _exit(WEXITSTATUS(status));
            }
            if (next < 0)
                _exit(LOST);
        }
        _exit(FINE);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), FINE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forks_beside_the_only_heap),
        cmocka_unit_test(forks_of_a_busy_process),
        cmocka_unit_test(forks_by_several_threads),
        cmocka_unit_test(generations),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}

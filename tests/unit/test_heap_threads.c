/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many threads on one heap: blocks that one makes and another frees, threads that come
 * and go, blocks that outlive them, and blocks that two of them free.
 *
 * Links: tests/unit/heap_tools.c
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "libhook/heap/local.h"
#include "libhook/heap/os.h"
#include "libhook/heap/pool.h"
#include "libhook/heap/walk.h"
#include "tests/unit/heap_tools.h"

#define THREADS 4u
#define MIB     ((size_t)1 << 20)

/* What threads find wrong; they may not assert. */
static _Atomic unsigned wrong;

static void expect(bool fine)
{
    if (!fine)
        atomic_fetch_add(&wrong, 1);
}

static int setup(void **state)
{
    (void)state;
    heap_begin();
    return 0;
}

static int all_right(void **state)
{
    (void)state;
    neap_heap_trim(0);
    return neap_heap_verify() || atomic_load(&wrong) || heap_errors() ? -1 : 0;
}

/* A block that carries its own description, to be handed on. */
struct parcel {
    struct parcel *next;
    struct heap_block rest; /* the bytes behind this head */
};

static struct parcel *parcel_new(uint64_t *random, size_t most)
{
    size_t size = sizeof(struct parcel) + heap_random_size(random, 1, most);
    struct parcel *parcel = neap_heap_malloc(size);

    if (!parcel) {
        expect(false);
        return NULL;
    }
    parcel->rest = (struct heap_block){(uint8_t *)(parcel + 1), size - sizeof(*parcel),
                                       heap_random(random)};
    heap_fill(&parcel->rest);
    return parcel;
}

static void parcel_free(struct parcel *parcel)
{
    expect(parcel->rest.at == (uint8_t *)(parcel + 1) &&
           heap_holds(&parcel->rest, parcel->rest.size));
    neap_heap_free(parcel);
}

static void push(struct parcel *_Atomic *to, struct parcel *parcel)
{
    parcel->next = atomic_load(to);
    while (!atomic_compare_exchange_weak(to, &parcel->next, parcel))
        ;
}

static unsigned free_all(struct parcel *_Atomic *from)
{
    struct parcel *parcel = atomic_exchange(from, NULL), *next;
    unsigned count = 0;

    for (; parcel; parcel = next, count++) {
        next = parcel->next;
        parcel_free(parcel);
    }
    return count;
}

static void run_threads(unsigned count, void *(*body)(void *))
{
    pthread_t thread[16];

    for (uintptr_t i = 0; i < count; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, body, (void *)i), 0);
    for (unsigned i = 0; i < count; i++)
        pthread_join(thread[i], NULL);
    assert_int_equal(atomic_load(&wrong), 0);
}

/* ---- all to all ---- */

static struct parcel *_Atomic mail[THREADS];

static void *correspond(void *arg)
{
    uintptr_t me = (uintptr_t)arg;
    uint64_t random = me * 1299721 + 17;
    struct parcel *own[64] = {NULL};

    for (unsigned i = 0; i < HEAP_STEPS(300000); i++) {
        unsigned k = heap_random(&random) % 64;

        if (own[k])
            parcel_free(own[k]);
        own[k] = parcel_new(&random, i % 1000 ? 600 : 70000);
        push(&mail[heap_random(&random) % THREADS], parcel_new(&random, 400));
        if (i % 16 == 0)
            free_all(&mail[me]);
    }
    for (unsigned k = 0; k < 64; k++)
        if (own[k])
            parcel_free(own[k]);
    return NULL;
}

static void all_to_all(void **state)
{
    (void)state;
    run_threads(THREADS, correspond);
    for (unsigned i = 0; i < THREADS; i++)
        free_all(&mail[i]);
    assert_int_equal(atomic_load(&wrong), 0);
}

/* ---- one makes, the other frees ---- */

#define BELT 512u
static struct parcel *_Atomic belt[BELT];

static void *produce(void *arg)
{
    uint64_t random = 11;

    (void)arg;
    for (unsigned i = 0; i < HEAP_STEPS(600000); i++) {
        struct parcel *parcel = parcel_new(&random, 500);

        while (atomic_load(&belt[i % BELT]))
            sched_yield();
        atomic_store(&belt[i % BELT], parcel);
    }
    return NULL;
}

static void *consume(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < HEAP_STEPS(600000); i++) {
        while (!atomic_load(&belt[i % BELT]))
            sched_yield();
        parcel_free(atomic_exchange(&belt[i % BELT], NULL));
    }
    return NULL;
}

static void *produce_or_consume(void *arg)
{
    return arg ? consume(arg) : produce(arg);
}

/* At most 512 blocks of 600 bytes are on their way: what is freed is used again. */
static void producer_and_consumer(void **state)
{
    size_t before;

    (void)state;
    neap_heap_trim(0);
    before = neap_os_mapped;
    run_threads(2, produce_or_consume);
    assert_true(neap_os_mapped <= before + 8 * MIB);
    neap_heap_trim(0);
    assert_int_equal(neap_pool_counts.dirty_units, 0);
}

/* ---- pages that others give back ---- */

#define UNCOLLECTED 9000u
static void *uncollected[UNCOLLECTED];
static struct parcel *_Atomic handed;
static _Atomic bool giving_back, written;
static long (*real_madvise)(uintptr_t at, size_t size, int advice);

/* Pages with a block that was handed over are about to go: wait for the owner to write
 * beside it, or to be kept from that. */
static long late_madvise(uintptr_t at, size_t size, int advice)
{
    if ((uintptr_t)atomic_load(&handed) - at < size) {
        const struct timespec pause = {.tv_nsec = 1000000};

        atomic_store(&giving_back, true);
        for (unsigned i = 0; i < 50 && !atomic_load(&written); i++)
            nanosleep(&pause, NULL);
    }
    return real_madvise(at, size, advice);
}

static void *free_all_of_it(void *arg)
{
    /* Much that its owner does not collect, so that pages are given back for it. */
    for (unsigned i = 0; i < UNCOLLECTED; i++)
        neap_heap_free(uncollected[i]);
    neap_heap_free(atomic_load(&handed));
    atomic_store(&giving_back, true);
    return arg;
}

/* All that a span ever gave has been freed by another, who gives its pages back: the
 * next block of it is the owner's alone, and holds what it writes. */
static void pages_given_back_beside_a_new_block(void **state)
{
    struct heap_block block = {NULL, 5000, 9};
    pthread_t thread;

    (void)state;
    neap_heap_trim(0); /* spans are new, nothing of them is carved */
    for (unsigned i = 0; i < UNCOLLECTED; i++)
        uncollected[i] = neap_heap_malloc(1000);
    atomic_store(&handed, neap_heap_malloc(block.size));
    real_madvise = neap_os_calls.madvise;
    neap_os_calls.madvise = late_madvise;
    assert_int_equal(pthread_create(&thread, NULL, free_all_of_it, NULL), 0);
    while (!atomic_load(&giving_back))
        sched_yield();
    block.at = neap_heap_malloc(block.size);
    heap_fill(&block);
    atomic_store(&written, true);
    pthread_join(thread, NULL);
    neap_os_calls.madvise = real_madvise;
    assert_true(heap_holds(&block, block.size));
    neap_heap_free(block.at);
}

/* ---- threads that come and go ---- */

static struct parcel *_Atomic left_behind;

static void *short_life(void *arg)
{
    uint64_t random = (uintptr_t)arg * 31 + 7;
    struct parcel *own[50];

    free_all(&left_behind);
    for (unsigned i = 0; i < 50; i++)
        own[i] = parcel_new(&random, i == 7 ? 40000 : 2000);
    for (unsigned i = 0; i < 50; i++) {
        if (i % 5 == 0)
            push(&left_behind, own[i]);
        else
            parcel_free(own[i]);
    }
    return NULL;
}

static unsigned heaps(void)
{
    unsigned count = 0;

    for (struct neap_local *local = neap_locals; local; local = local->next)
        count++;
    return count;
}

static void threads_come_and_go(void **state)
{
    size_t early = 0;
    unsigned early_heaps = 0;

    (void)state;
    for (unsigned round = 0; round < 1000; round++) {
        run_threads(3, short_life);
        if (round % 100 == 99) {
            free_all(&left_behind);
            neap_heap_trim(0);
            if (round == 99) {
                early = neap_os_mapped;
                early_heaps = heaps();
            }
            /* Spans come to lie here or there, but there are no more of them. */
            assert_true(neap_os_mapped <= early + 4 * MIB);
            assert_true(neap_pool_counts.used_units <= 128);
            assert_int_equal(heaps(), early_heaps);
        }
    }
    assert_true(early_heaps <= 8);
}

/* ---- the dead ---- */

#define LEGACY 3000u
static struct parcel *legacy[LEGACY];

static void *leave(void *arg)
{
    uint64_t random = 3;

    (void)arg;
    for (unsigned i = 0; i < LEGACY; i++)
        legacy[i] = parcel_new(&random, i % 100 ? 300 : 50000);
    return NULL;
}

static void *clear_away(void *arg)
{
    for (unsigned i = (unsigned)(uintptr_t)arg; i < LEGACY; i += 2)
        parcel_free(legacy[i]);
    return NULL;
}

static void blocks_of_dead_threads(void **state)
{
    size_t used;

    (void)state;
    neap_heap_trim(0);
    used = neap_pool_counts.used_units;
    for (unsigned round = 0; round < 20; round++) {
        run_threads(1, leave);
        if (round % 3 == 0) { /* the main thread, which has a heap */
            clear_away((void *)0);
            clear_away((void *)1);
        } else if (round % 3 == 1) { /* threads that never allocate */
            run_threads(2, clear_away);
        } else { /* half by each */
            clear_away((void *)0);
            for (unsigned i = 1; i < LEGACY; i += 2)
                legacy[i - 1] = legacy[i];
            for (unsigned i = 0; i < LEGACY; i += 2)
                parcel_free(legacy[i]);
        }
        assert_int_equal(heap_errors(), 0);
    }
    /* Nothing is lost on the way: new threads would find it, at the latest. */
    run_threads(THREADS, short_life);
    free_all(&left_behind);
    neap_heap_trim(0);
    assert_true(neap_pool_counts.used_units <= used + 64);
}

/* A heap that is used again gives what its former thread left free. */
static void heaps_are_adopted(void **state)
{
    unsigned before;

    (void)state;
    run_threads(2, short_life);
    before = heaps();
    for (unsigned i = 0; i < 50; i++)
        run_threads(1, short_life);
    assert_int_equal(heaps(), before);
    free_all(&left_behind);
}

/* ---- destructors ---- */

static pthread_key_t late_key;

static void late(void *value)
{
    uint64_t random = 99;
    struct parcel *parcel = parcel_new(&random, 3000);

    parcel_free(parcel);
    neap_heap_free(value);
}

static void *end_late(void *arg)
{
    (void)arg;
    pthread_setspecific(late_key, neap_heap_malloc(100));
    return NULL;
}

/* Keys' destructors may allocate and free after the heap's own has run. */
static void destructors_allocate(void **state)
{
    unsigned before;

    (void)state;
    assert_int_equal(pthread_key_create(&late_key, late), 0);
    run_threads(1, end_late);
    before = heaps();
    for (unsigned i = 0; i < 200; i++)
        run_threads(2, end_late);
    assert_true(heaps() <= before + 2);
    pthread_key_delete(late_key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(all_to_all, all_right),
        cmocka_unit_test_teardown(producer_and_consumer, all_right),
        cmocka_unit_test_teardown(pages_given_back_beside_a_new_block, all_right),
        cmocka_unit_test_teardown(threads_come_and_go, all_right),
        cmocka_unit_test_teardown(blocks_of_dead_threads, all_right),
        cmocka_unit_test_teardown(heaps_are_adopted, all_right),
        cmocka_unit_test_teardown(destructors_allocate, all_right),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Heaps whose peak is known: its bytes and each function's share of it.
 *
 *     peak phases | recursion | threads | temporaries
 *
 * Besides "site" lines it prints "peak NAME BYTES BLOCKS" (the share at the peak)
 * and "temporary NAME COUNT".
 */
#include <pthread.h>

#include "tests/targets/target.h"

enum {
    A_COUNT = 10,
    B_COUNT = 5,
    C_COUNT = 3,
    THREADS = 4,
    EACH = 50,
    DEPTH = 60
};

static void share(const char *name, long bytes, long blocks)
{
    say("peak %s %ld %ld\n", name, bytes, blocks);
}

static SITE void *phase_a(void)
{
    return keep(malloc(1000));
}

static SITE void *phase_b(void)
{
    return keep(malloc(20000));
}

static SITE void *phase_c(void)
{
    return keep(malloc(40000));
}

static SITE void *phase_d(void)
{
    return keep(malloc(200000));
}

/* 10 000 a; + 100 000 b; - a; + 120 000 c: 220 000, the peak; all freed; 200 000 d. */
static void phases(void)
{
    void *a[A_COUNT], *b[B_COUNT], *c[C_COUNT];

    for (int i = 0; i < A_COUNT; i++)
        a[i] = phase_a();
    for (int i = 0; i < B_COUNT; i++)
        b[i] = phase_b();
    for (int i = 0; i < A_COUNT; i++)
        free(a[i]);
    for (int i = 0; i < C_COUNT; i++)
        c[i] = phase_c();
    for (int i = 0; i < B_COUNT; i++)
        free(b[i]);
    for (int i = 0; i < C_COUNT; i++)
        free(c[i]);
    phase_d();
    share("phase_a", 0, 0);
    share("phase_b", 20000L * B_COUNT, B_COUNT);
    share("phase_c", 40000L * C_COUNT, C_COUNT);
    share("phase_d", 0, 0);
    site("phase_a", A_COUNT, 1000L * A_COUNT, A_COUNT, 1000L * A_COUNT);
    site("phase_d", 1, 200000, 0, 0);
}

/* Each level holds its block while the next one runs; twice, so that stacks recur. */
static SITE void descend(int level)
{
    void *block;

    if (level == DEPTH)
        return;
    block = keep(malloc(16 * ((size_t)level + 1)));
    descend(level + 1);
    free(block);
}

static void recursion(void)
{
    long sum = 16L * DEPTH * (DEPTH + 1) / 2;

    descend(0);
    descend(0);
    share("descend", sum, DEPTH);
    site("descend", 2 * DEPTH, 2 * sum, 2 * DEPTH, 2 * sum);
}

static pthread_barrier_t barrier;

static SITE void *thread_a(void)
{
    return keep(malloc(3000));
}

static SITE void *thread_b(void)
{
    return keep(malloc(5000));
}

static SITE void *thread_c(void)
{
    return keep(malloc(1000));
}

static void free_all(void **blocks)
{
    for (int i = 0; i < EACH; i++)
        free(blocks[i]);
}

static void *worker(void *unused)
{
    void *a[EACH], *b[EACH], *c[EACH];

    for (int i = 0; i < EACH; i++)
        a[i] = thread_a();
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < EACH; i++)
        b[i] = thread_b();
    pthread_barrier_wait(&barrier); /* the peak: all of a and b */
    free_all(a);
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < EACH; i++)
        c[i] = thread_c();
    pthread_barrier_wait(&barrier);
    free_all(b);
    free_all(c);
    return unused;
}

static void threads(void)
{
    pthread_t ids[THREADS];

    pthread_barrier_init(&barrier, NULL, THREADS);
    for (int i = 0; i < THREADS; i++)
        need(pthread_create(&ids[i], NULL, worker, NULL) == 0, "no thread");
    for (int i = 0; i < THREADS; i++)
        pthread_join(ids[i], NULL);
    share("thread_a", 3000L * EACH * THREADS, EACH * THREADS);
    share("thread_b", 5000L * EACH * THREADS, EACH * THREADS);
    share("thread_c", 0, 0);
    site("thread_a", EACH * THREADS, 3000L * EACH * THREADS, EACH * THREADS,
         3000L * EACH * THREADS);
    site("thread_c", EACH * THREADS, 1000L * EACH * THREADS, EACH * THREADS,
         1000L * EACH * THREADS);
}

static SITE void temp_always(void)
{
    free(keep(malloc(32)));
}

static SITE void *temp_outer(void)
{
    return keep(malloc(48));
}

static SITE void *temp_inner(void)
{
    return keep(malloc(64));
}

static SITE void *temp_grows(void *block, size_t size)
{
    return keep(realloc(block, size));
}

/* Temporary is what its thread frees before it allocates again. */
static void temporaries(void)
{
    void *block = NULL;

    for (int i = 0; i < 100; i++)
        temp_always();
    for (int i = 0; i < 70; i++) {
        void *outer = temp_outer();

        free(temp_inner());
        free(outer); /* the inner one came between */
    }
    for (size_t i = 1; i <= 30; i++)
        block = temp_grows(block, 100 * i);
    free(block);
    say("temporary temp_always 100\n");
    say("temporary temp_inner 70\n");
    say("temporary temp_outer 0\n");
    say("temporary temp_grows 30\n"); /* each was given up by the next call */
    site("temp_grows", 30, 100L * 30 * 31 / 2, 30, 100L * 30 * 31 / 2);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";

    if (strcmp(mode, "phases") == 0)
        phases();
    else if (strcmp(mode, "recursion") == 0)
        recursion();
    else if (strcmp(mode, "threads") == 0)
        threads();
    else if (strcmp(mode, "temporaries") == 0)
        temporaries();
    else
        need(0, "usage: peak phases|recursion|threads|temporaries");
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * malloc and free, nothing else:
 *
 *     loop DEPTH PAIRS [THREADS]   one block at a time, under DEPTH frames
 *     loop tree DEPTH PAIRS [CHOICES]
 *                                  64 functions call one another, DEPTH deep, and
 *                                  allocate on the way. By default 2 000 stacks at
 *                                  depth 10, 41 000 at 20 and 123 000 at 40
 */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static long pairs, depth, choices = 12;
static void *volatile sink;

static __attribute__((noinline)) void nest(long left)
{
    if (left > 0) {
        nest(left - 1);
        __asm__ volatile("");
        return;
    }
    for (long i = 0; i < pairs; i++) {
        void *block = malloc(16 + (size_t)(i & 255));

        sink = block;
        free(block);
    }
}

static void *run(void *unused)
{
    nest(depth);
    return unused;
}

static uint64_t seed = 88172645463325252ull;
static long made;

static uint64_t random64(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

typedef void node(long left);
static node *const nodes[64];

/*
 * One or two calls in each of the outer 12 levels, one below. Who is called is drawn in
 * the outer `choices` levels and fixed below, so `choices` sets the number of stacks
 * and nothing else. A function always asks for the same size, as most code does;
 * heaptrack's interpreter fails on thousands of stacks with hundreds of sizes each.
 */
static inline __attribute__((always_inline)) void visit(unsigned self, long left)
{
    long level = depth - left;
    unsigned calls = level < 12 ? 1 + (random64() & 1) : 1;
    void *block = malloc(16 + self * 4);

    made++;
    sink = block;
    for (; calls > 0 && left > 0 && made < pairs; calls--) {
        unsigned turn = level < choices ? (unsigned)(random64() & 1) : 0;

        nodes[(2 * self + turn + 1) % 64](left - 1);
    }
    free(block);
}

#define NODE(n)                                               \
    static __attribute__((noinline)) void node_##n(long left) \
    {                                                         \
        visit(0##n, left);                                    \
        __asm__ volatile("" ::"i"(0##n));                     \
    }
#define NODES(X, a) X(a##0) X(a##1) X(a##2) X(a##3) X(a##4) X(a##5) X(a##6) X(a##7)
#define ALL(X)  \
    NODES(X, 0) \
    NODES(X, 1) NODES(X, 2) NODES(X, 3) NODES(X, 4) NODES(X, 5) NODES(X, 6) NODES(X, 7)
ALL(NODE)
#define ENTRY(n) node_##n,
static node *const nodes[64] = {ALL(ENTRY)};

int main(int argc, char **argv)
{
    pthread_t threads[64];
    long count = argc > 3 ? atol(argv[3]) : 1;

    if (argc > 3 && strcmp(argv[1], "tree") == 0) {
        depth = atol(argv[2]);
        pairs = atol(argv[3]);
        if (argc > 4)
            choices = atol(argv[4]);
        while (made < pairs)
            nodes[0](depth);
        return 0;
    }
    if (argc < 3 || count < 1 || count > 64)
        return 2;
    depth = atol(argv[1]);
    pairs = atol(argv[2]);
    for (long i = 1; i < count; i++)
        if (pthread_create(&threads[i], NULL, run, NULL) != 0)
            return 1;
    run(NULL);
    for (long i = 1; i < count; i++)
        pthread_join(threads[i], NULL);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small blocks of several threads and the lines of the cache they lie in, after
 * Berger's two programs:
 *
 *     lines thrash THREADS TIMES    each thread takes a block, writes it, frees it, …
 *     lines scratch THREADS TIMES   its first block is one that the main thread made
 *                                   beside those of the others
 *
 * An allocator that gives blocks in one line to several threads makes them wait for
 * that line at every write: by itself in `thrash`; in `scratch` where a freed block
 * goes to the thread that freed it.
 */
#include <pthread.h>

#include "heapbench.h"

#define SIZE   8
#define WRITES 200

static size_t times;

static void *work(void *given)
{
    volatile char *block = given;

    for (size_t i = 0; i < times; i++) {
        if (!block)
            block = must(malloc(SIZE));
        for (size_t j = 0; j < WRITES; j++)
            block[j % SIZE]++;
        free((void *)block);
        block = NULL;
    }
    return NULL;
}

int main(int argc, char **argv)
{
    int scratch = argc > 1 && !strcmp(argv[1], "scratch");
    size_t count = (size_t)argument(argc, argv, 2);
    pthread_t *threads = room(count * sizeof(*threads));
    void **first = room(count * sizeof(*first));
    double start;

    times = (size_t)argument(argc, argv, 3);
    for (size_t i = 0; i < count && scratch; i++) {
        first[i] = must(malloc(SIZE));
        memset(first[i], 0, SIZE);
    }
    start = now();
    for (size_t i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, work, first[i]) != 0)
            die("no thread");
    for (size_t i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    say_pairs(start, (double)times * (double)count);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches on a shared heap of work, after Lever and Boreham's malloc test:
 *
 *     batches THREADS BATCHES
 *
 * Each of THREADS threads makes a batch of blocks of one size, leaves it in a random
 * one of some places that all share, and frees the batch that lay there, which in most
 * cases another thread made. No lock, no waiting: only the allocator can be in the way.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "heapbench.h"

#define PLACES 256
#define BATCH  100

struct batch {
    void *blocks[BATCH];
};

static _Atomic(struct batch *) places[PLACES];
static size_t batches;

static void drop(struct batch *batch)
{
    if (!batch)
        return;
    for (size_t i = 0; i < BATCH; i++)
        free(batch->blocks[i]);
    free(batch);
}

static void *work(void *given)
{
    uint64_t seed = *(uint64_t *)given;

    for (size_t i = 0; i < batches; i++) {
        struct batch *batch = must(malloc(sizeof(*batch)));
        size_t size = random_size(&seed, 16, 5);

        for (size_t j = 0; j < BATCH; j++) {
            batch->blocks[j] = must(malloc(size));
            *(char *)batch->blocks[j] = 1;
        }
        drop(atomic_exchange(&places[next_random(&seed) % PLACES], batch));
    }
    return NULL;
}

int main(int argc, char **argv)
{
    size_t count = (size_t)argument(argc, argv, 1);
    pthread_t *threads = room(count * sizeof(*threads));
    uint64_t *seeds = room(count * sizeof(*seeds));
    double start = now();

    batches = (size_t)argument(argc, argv, 2) / count;
    for (size_t i = 0; i < count; i++) {
        seeds[i] = i + 1;
        if (pthread_create(&threads[i], NULL, work, &seeds[i]) != 0)
            die("no thread");
    }
    for (size_t i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < PLACES; i++)
        drop(places[i]);
    say_pairs(start, (double)batches * (double)count * (BATCH + 1));
    return 0;
}

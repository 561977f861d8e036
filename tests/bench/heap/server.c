/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server whose threads end and leave their blocks to the next one, after the pattern
 * that Larson and Krishnan described in 1998:
 *
 *     server LANES BLOCKS REPLACED GENERATIONS
 *
 * In each of LANES a thread has BLOCKS blocks, replaces REPLACED of them at random and
 * ends; the thread that comes after it does the same with the same blocks, GENERATIONS
 * times in all. So most frees are of blocks of threads that are gone.
 */
#include <pthread.h>
#include <semaphore.h>

#include "heapbench.h"

struct lane {
    uint64_t seed;
    size_t generations;
    char **blocks;
};

static size_t count, replaced;
static sem_t ended;

static void *work(void *given);

static void next(struct lane *lane)
{
    pthread_attr_t attributes;
    pthread_t thread;

    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &attributes, work, lane) != 0)
        die("no thread");
    pthread_attr_destroy(&attributes);
}

static void *work(void *given)
{
    struct lane *lane = given;
    uint64_t seed = lane->seed;

    for (size_t i = 0; i < replaced; i++) {
        size_t victim = next_random(&seed) % count, size = random_size(&seed, 16, 6);

        free(lane->blocks[victim]);
        lane->blocks[victim] = must(malloc(size));
        lane->blocks[victim][0] = 1;
        lane->blocks[victim][size - 1] = 1;
    }
    lane->seed = seed;
    if (--lane->generations)
        next(lane);
    else
        sem_post(&ended);
    return NULL;
}

int main(int argc, char **argv)
{
    size_t lanes = (size_t)argument(argc, argv, 1);
    size_t generations = (size_t)argument(argc, argv, 4);
    struct lane *all;
    double start;

    count = (size_t)argument(argc, argv, 2);
    replaced = (size_t)argument(argc, argv, 3);
    all = room(lanes * sizeof(*all));
    sem_init(&ended, 0, 0);
    start = now();
    for (size_t i = 0; i < lanes; i++) {
        all[i] = (struct lane){i + 1, generations, room(count * sizeof(char *))};
        /* The first blocks are of the main thread. */
        for (size_t j = 0; j < count; j++)
            all[i].blocks[j] = must(malloc(random_size(&all[i].seed, 16, 6)));
    }
    for (size_t i = 0; i < lanes; i++)
        next(&all[i]);
    for (size_t i = 0; i < lanes; i++)
        while (sem_wait(&ended) != 0)
            ;
    say_pairs(start, (double)lanes * (double)replaced * (double)generations);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mixed sizes among many live blocks:
 *
 *     mixed LIVE PAIRS [THREADS [uniform]]
 *
 * LIVE blocks of 16 to 1024 bytes, each octave as likely or, uniform, each size; one at
 * random is freed and another of a random size takes its place. Sizes and places are
 * drawn beforehand, so that the loop holds little but malloc, free and the misses of
 * the cache that its blocks cause. With threads each has its own LIVE blocks.
 */
#include <pthread.h>

#include "heapbench.h"

#define DRAWN (1u << 16)

static size_t live, pairs;
static int uniform;

static size_t drawn(uint64_t *seed)
{
    return uniform ? 16 + next_random(seed) % 1009 : random_size(seed, 16, 6);
}

static void *work(void *seed_of)
{
    uint64_t seed = *(uint64_t *)seed_of;
    uint64_t **slots = room(live * sizeof(*slots));
    struct draw {
        uint32_t slot, size;
    } *draws = room(DRAWN * sizeof(*draws));
    size_t wrong = 0;

    for (size_t i = 0; i < DRAWN; i++) {
        draws[i].slot = (uint32_t)(next_random(&seed) % live);
        draws[i].size = (uint32_t)drawn(&seed);
    }
    for (size_t i = 0; i < live; i++) {
        slots[i] = must(malloc(drawn(&seed)));
        *slots[i] = i;
    }
    for (size_t i = 0; i < pairs; i++) {
        const struct draw *draw = &draws[i % DRAWN];
        /* Each time through the draws they mean other slots. */
        size_t slot = draw->slot + i / DRAWN * 7919 % live;

        slot -= slot >= live ? live : 0;
        wrong += *slots[slot] != slot;
        free(slots[slot]);
        slots[slot] = must(malloc(draw->size));
        *slots[slot] = slot;
    }
    if (wrong)
        die("a block was written by somebody else");
    for (size_t i = 0; i < live; i++)
        free(slots[i]);
    return NULL;
}

int main(int argc, char **argv)
{
    uint64_t seeds[64];
    pthread_t threads[64];
    size_t count = argc > 3 ? (size_t)argument(argc, argv, 3) : 1;
    double start;

    uniform = argc > 4 && !strcmp(argv[4], "uniform");
    live = (size_t)argument(argc, argv, 1);
    pairs = (size_t)argument(argc, argv, 2) / count;
    if (count > 64)
        die("mixed: at most 64 threads");
    start = now();
    for (size_t i = 1; i < count; i++) {
        seeds[i] = i + 1;
        if (pthread_create(&threads[i], NULL, work, &seeds[i]) != 0)
            die("no thread");
    }
    seeds[0] = 1;
    work(&seeds[0]);
    for (size_t i = 1; i < count; i++)
        pthread_join(threads[i], NULL);
    say_pairs(start, (double)pairs * (double)count);
    return 0;
}

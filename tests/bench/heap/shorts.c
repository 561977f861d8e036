/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many threads that live briefly:
 *
 *     shorts ROUNDS THREADS BLOCKS
 *
 * In each round THREADS threads come and go, four at a time. Each puts BLOCKS blocks of
 * mixed sizes into random slots that all share, and frees what was there: nearly always
 * a block of a thread that is gone. After each round it says how much is resident: the
 * slots are full from the start, so whatever that grows by is the allocator's.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "heapbench.h"

#define SLOTS   20000
#define AT_ONCE 4

static _Atomic(char *) slots[SLOTS];
static size_t blocks;

static char *made(uint64_t *seed)
{
    size_t size = random_size(seed, 16, 8);
    char *block = must(malloc(size));

    touch(block, size);
    return block;
}

static void *work(void *given)
{
    uint64_t seed = *(uint64_t *)given;

    for (size_t i = 0; i < blocks; i++) {
        size_t slot = next_random(&seed) % SLOTS;

        free(atomic_exchange(&slots[slot], made(&seed)));
    }
    return NULL;
}

int main(int argc, char **argv)
{
    size_t rounds = (size_t)argument(argc, argv, 1);
    size_t count = (size_t)argument(argc, argv, 2);
    pthread_t threads[AT_ONCE];
    uint64_t seeds[AT_ONCE], seed = 1;
    double start = now();

    blocks = (size_t)argument(argc, argv, 3);
    for (size_t i = 0; i < SLOTS; i++)
        slots[i] = made(&seed);
    for (size_t round = 0; round < rounds; round++) {
        for (size_t i = 0; i < count + AT_ONCE; i++) {
            if (i >= AT_ONCE)
                pthread_join(threads[i % AT_ONCE], NULL);
            if (i >= count)
                continue;
            seeds[i % AT_ONCE] = next_random(&seed) | 1;
            if (pthread_create(&threads[i % AT_ONCE], NULL, work, &seeds[i % AT_ONCE]))
                die("no thread");
        }
        say("round_kib", resident_kib());
    }
    say_pairs(start, (double)rounds * (double)count * (double)blocks);
    return 0;
}

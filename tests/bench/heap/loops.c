/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks of one size, one thread:
 *
 *     loops pair SIZE PAIRS            malloc, free, malloc, free, …
 *     loops fifo SIZE COUNT ROUNDS     COUNT of them, then freed in that order
 *     loops lifo SIZE COUNT ROUNDS     the last one first
 *     loops calloc SIZE COUNT ROUNDS   as fifo, by calloc, every byte checked
 *     loops aligned ALIGN COUNT ROUNDS as fifo, aligned, of several sizes
 */
#include "heapbench.h"

static void pair(size_t size, size_t pairs)
{
    for (size_t i = 0; i < pairs; i++) {
        char *volatile block = must(malloc(size));

        *block = 1;
        free(block);
    }
}

static void all_then_free(size_t size, char **blocks, size_t count, int backwards)
{
    for (size_t i = 0; i < count; i++) {
        blocks[i] = must(malloc(size));
        *blocks[i] = 1;
    }
    for (size_t i = 0; i < count; i++)
        free(blocks[backwards ? count - 1 - i : i]);
}

static void zeroed(size_t size, char **blocks, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        blocks[i] = must(calloc(1, size));
        if (*blocks[i] || memcmp(blocks[i], blocks[i] + 1, size - 1) != 0)
            die("calloc did not zero it");
        memset(blocks[i], 1, size);
    }
    for (size_t i = 0; i < count; i++)
        free(blocks[i]);
}

static void aligned(size_t align, char **blocks, size_t count, uint64_t *seed)
{
    for (size_t i = 0; i < count; i++) {
        void *block;

        if (posix_memalign(&block, align, random_size(seed, 16, 6)) != 0)
            die("out of memory");
        if ((uintptr_t)block % align != 0)
            die("not aligned");
        blocks[i] = block;
        *blocks[i] = 1;
    }
    for (size_t i = 0; i < count; i++)
        free(blocks[i]);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    size_t size = (size_t)argument(argc, argv, 2);
    size_t count = (size_t)argument(argc, argv, 3), rounds = 1;
    uint64_t seed = 7;
    char **blocks;
    double start;

    if (strcmp(what, "pair") != 0)
        rounds = (size_t)argument(argc, argv, 4);
    blocks = room(count * sizeof(*blocks));
    start = now();
    for (size_t i = 0; i < rounds; i++) {
        if (!strcmp(what, "pair"))
            pair(size, count);
        else if (!strcmp(what, "fifo"))
            all_then_free(size, blocks, count, 0);
        else if (!strcmp(what, "lifo"))
            all_then_free(size, blocks, count, 1);
        else if (!strcmp(what, "calloc"))
            zeroed(size, blocks, count);
        else if (!strcmp(what, "aligned"))
            aligned(size, blocks, count, &seed);
        else
            die("loops: pair, fifo, lifo, calloc or aligned");
    }
    say_pairs(start, (double)count * (double)rounds);
    return 0;
}

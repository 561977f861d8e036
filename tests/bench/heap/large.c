/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Large blocks:
 *
 *     large grow TIMES     vectors that grow by realloc from 64 KiB to 64 MiB
 *     large loop COUNT     blocks of 1 to 32 MiB, written and freed, four at a time
 *     large medium COUNT   blocks of 8 to 512 KiB, likewise, sixty-four at a time
 */
#include "heapbench.h"

#define LIVE 64

/* Two that grow in turn, with blocks between them that stay in the way. */
static size_t grow(void)
{
    const size_t first = 64 << 10, last = 64 << 20;
    char *vectors[2] = {NULL, NULL}, *small[LIVE];
    size_t count = 0, had = 0;

    for (size_t size = first; size <= last; size += size / 2) {
        for (int i = 0; i < 2; i++) {
            vectors[i] = must(realloc(vectors[i], size));
            if (had &&
                (vectors[i][0] != 1 || vectors[i][had / 4096 * 4096 - 4096] != 1))
                die("realloc did not keep it");
            touch(vectors[i], size);
            small[count % LIVE] = must(malloc(1 << 10));
            count++;
        }
        had = size;
    }
    for (int i = 0; i < 2; i++)
        vectors[i] = must(realloc(vectors[i], first));
    for (int i = 0; i < 2; i++)
        free(vectors[i]);
    for (size_t i = 0; i < count && i < LIVE; i++)
        free(small[i]);
    return count;
}

static void loop(size_t count, size_t low, unsigned octaves, size_t live)
{
    void *blocks[LIVE] = {NULL};
    uint64_t seed = 5;

    for (size_t i = 0; i < count; i++) {
        size_t size = random_size(&seed, low, octaves),
               slot = next_random(&seed) % live;

        free(blocks[slot]);
        blocks[slot] = must(malloc(size));
        touch(blocks[slot], size);
    }
    for (size_t i = 0; i < live; i++)
        free(blocks[i]);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    size_t count = (size_t)argument(argc, argv, 2), pairs = count;
    double start = now();

    if (!strcmp(what, "grow")) {
        pairs = 0;
        for (size_t i = 0; i < count; i++)
            pairs += grow();
    } else if (!strcmp(what, "loop")) {
        loop(count, 1 << 20, 5, 4);
    } else if (!strcmp(what, "medium")) {
        loop(count, 8 << 10, 6, LIVE);
    } else {
        die("large: grow, loop or medium");
    }
    say_pairs(start, (double)pairs);
    return 0;
}

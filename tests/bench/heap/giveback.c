/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program that had much and needs little still holds:
 *
 *     giveback together MIB   keeps the blocks of the middle hundredth: whole pages are
 *                             free
 *     giveback scattered MIB  keeps every hundredth block: few pages are
 *     giveback ticking MIB    as together, but a few blocks are asked for meanwhile
 *
 * Blocks of 16 to 1024 bytes and a few of up to 64 KiB, MIB in all and every byte
 * written. Says what is resident as a share of the peak, at once and 2 s later.
 */
#include "heapbench.h"

/* The blocks hold the list of themselves, so that nothing else is resident. */
struct block {
    struct block *next;
};

static struct block *made(uint64_t *seed, size_t *total)
{
    int larger = next_random(seed) % 512 == 0;
    size_t size = random_size(seed, larger ? 1024 : 16, 6);
    struct block *block = must(malloc(size));

    memset(block, 1, size);
    *total += size;
    return block;
}

static void wait_seconds(double seconds, int ticking)
{
    const struct timespec while_ticking = {0, 10000000};
    double end = now() + seconds;

    while (now() < end) {
        nanosleep(&while_ticking, NULL);
        for (size_t size = 16; ticking && size < 4096; size *= 2)
            free(must(malloc(size)));
    }
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    int scattered = !strcmp(what, "scattered");
    size_t wanted = (size_t)(argument(argc, argv, 2) * 1048576), total = 0, count = 0;
    struct block *first = NULL, **end = &first;
    uint64_t seed = 3;
    double peak, start;

    while (total < wanted) {
        *end = made(&seed, &total);
        end = &(*end)->next;
        count++;
    }
    *end = NULL;
    peak = resident_kib();
    start = now();
    for (size_t i = 0; first; i++) {
        struct block *block = first;

        first = block->next;
        if (scattered ? i % 100 != 0 : i < count / 2 || i >= count / 2 + count / 100)
            free(block);
    }
    say("seconds", now() - start);
    say("peak_kib", peak);
    say("at_once", resident_kib() / peak * 100);
    wait_seconds(2, !strcmp(what, "ticking"));
    say("later", resident_kib() / peak * 100);
    return 0;
}

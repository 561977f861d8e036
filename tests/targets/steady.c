/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that goes on for a while, for days on which its recorder has trouble.
 *
 *     steady ROUNDS EACH PAUSE_US
 *
 * Says "started" and then, of each round, nothing: it allocates EACH blocks, frees
 * every second one, sums their bytes up and pauses. Ends with "sum N" and status 21.
 */
#include "tests/targets/target.h"

static SITE char *steady_block(size_t size)
{
    return keep(malloc(size));
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 100;
    long each = argc > 2 ? strtol(argv[2], NULL, 10) : 10;
    long pause = argc > 3 ? strtol(argv[3], NULL, 10) : 10000;
    long freed = 0, freed_bytes = 0, bytes = 0;
    unsigned long sum = 0;

    say("started\n");
    for (long round = 0; round < rounds; round++) {
        for (long i = 0; i < each; i++) {
            size_t size = 16 + (size_t)(i % 50);
            char *block = steady_block(size);

            need(block != NULL, "malloc failed");
            memset(block, (int)i, size);
            sum = sum * 31 + (unsigned char)block[size - 1] + size;
            bytes += (long)size;
            if (i % 2) {
                free(block);
                freed++;
                freed_bytes += (long)size;
            }
        }
        if (pause > 0)
            usleep((useconds_t)pause);
    }
    say("sum %lu\n", sum);
    site("steady_block", rounds * each, bytes, freed, freed_bytes);
    return 21;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an allocator says of itself, held against what the program has allocated:
 *
 *     mallopt 1  mallinfo2 1  mallinfo 1  malloc_info 1  malloc_trim 1
 *
 * each 1 if the answer is right. malloc_stats() writes to standard error.
 */
#include <malloc.h>

#include "tests/targets/target.h"

#define BLOCKS 400
#define BYTES  10000u

#pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* mallinfo */

static char *blocks[BLOCKS];

static size_t in_use(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

static size_t in_use_small(void)
{
    struct mallinfo info = mallinfo();

    return (size_t)info.uordblks + (size_t)info.hblkhd;
}

static int is_about(size_t more)
{
    return more >= BLOCKS * BYTES && more < 2 * BLOCKS * BYTES;
}

/* Does it write its document? */
static int writes_info(void)
{
    char *text = NULL;
    size_t length = 0;
    FILE *file = open_memstream(&text, &length);
    int good;

    need(file != NULL, "no stream");
    good = malloc_info(0, file) == 0;
    fclose(file);
    good = good && length > 20 && strncmp(text, "<malloc", 7) == 0;
    free(text);
    return good;
}

int main(void)
{
    int option = mallopt(M_MMAP_THRESHOLD, 1 << 20);
    size_t before = in_use(), before_small = in_use_small(), with;

    for (int i = 0; i < BLOCKS; i++)
        blocks[i] = keep(malloc(BYTES));
    say("mallopt %d\nmallinfo2 %d\nmallinfo %d\n", option == 1,
        is_about(in_use() - before), is_about(in_use_small() - before_small));
    with = in_use();
    for (int i = 0; i < BLOCKS; i++)
        free(blocks[i]);
    malloc_trim(0);
    say("malloc_info %d\nmalloc_trim %d\n", writes_info(),
        with - in_use() >= BLOCKS * BYTES);
    malloc_stats();
    return 0;
}

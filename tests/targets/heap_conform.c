/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the C standard, POSIX and glibc's manual say of the malloc family, as a table of
 * findings: the same on any allocator that keeps to it. Where they leave a choice the
 * finding is made of what they do not.
 */
#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/targets/target.h"

enum way {
    MALLOC,
    CALLOC,
    REALLOC,
    MEMALIGN,
    POSIX,
    ALIGNED,
    VALLOC,
    PVALLOC,
    ARRAY
};
static const char *const names[] = {"malloc",   "calloc",         "realloc",
                                    "memalign", "posix_memalign", "aligned_alloc",
                                    "valloc",   "pvalloc",        "reallocarray"};

static const struct row {
    enum way way;
    size_t one, other; /* count or alignment, size */
} rows[] = {
    {MALLOC, 0, 0},
    {MALLOC, 0, 1},
    {MALLOC, 0, 100000},
    {MALLOC, 0, (size_t)PTRDIFF_MAX + 1},
    {MALLOC, 0, SIZE_MAX},
    {CALLOC, 0, 0},
    {CALLOC, 0, SIZE_MAX},
    {CALLOC, 3, 1000},
    {CALLOC, SIZE_MAX, 2},
    {CALLOC, (size_t)1 << 33, (size_t)1 << 33},
    {REALLOC, 0, 1},
    {REALLOC, 0, SIZE_MAX},
    {REALLOC, 50, 5000},
    {REALLOC, 5000, 50},
    {REALLOC, 300000, 3000000},
    {REALLOC, 50, 0},
    {REALLOC, 50, (size_t)PTRDIFF_MAX + 1},
    {ARRAY, 10, 10},
    {ARRAY, SIZE_MAX / 2, 3},
    {MEMALIGN, 8, 10},
    {MEMALIGN, 64, 10},
    {MEMALIGN, 4096, 10},
    {MEMALIGN, 1 << 20, 10},
    {MEMALIGN, 48, 10},
    {MEMALIGN, SIZE_MAX, 10},
    {MEMALIGN, 64, SIZE_MAX - 32},
    {POSIX, 0, 10},
    {POSIX, 4, 10},
    {POSIX, 8, 0},
    {POSIX, 8, 10},
    {POSIX, 24, 10},
    {POSIX, 256, 1000},
    {POSIX, 1 << 21, 1},
    {POSIX, 64, SIZE_MAX},
    {ALIGNED, 16, 64},
    {ALIGNED, 64, 64},
    {ALIGNED, 128, 100},
    {ALIGNED, 64, SIZE_MAX},
    {VALLOC, 0, 10},
    {VALLOC, 0, SIZE_MAX},
    {PVALLOC, 0, 1},
    {PVALLOC, 0, SIZE_MAX - 100},
};

static void *call(const struct row *row, int *result)
{
    size_t one = opaque(row->one), other = opaque(row->other);
    void *block = NULL, *old;

    switch (row->way) {
    case MALLOC:
        return malloc(other);
    case CALLOC:
        return calloc(one, other);
    case REALLOC:
        old = one ? malloc(one) : NULL;
        if (old)
            memset(old, 0x5a, one);
        block = realloc(old, other);
        if (!block && other) { /* what could not be moved is still there */
            *result = old ? ((char *)old)[one - 1] : 0;
            free(old);
        } else if (block && one) {
            *result = ((char *)block)[(one < other ? one : other) - 1];
        }
        return block;
    case MEMALIGN:
        return memalign(one, other);
    case POSIX:
        *result = posix_memalign(&block, one, other);
        return block;
    case ALIGNED:
        return aligned_alloc(one, other);
    case VALLOC:
        return valloc(other);
    case PVALLOC:
        return pvalloc(other);
    case ARRAY:
        return reallocarray(NULL, one, other);
    }
    return NULL;
}

static size_t alignment(const struct row *row)
{
    size_t align = 16;

    if (row->way == VALLOC || row->way == PVALLOC)
        return 4096;
    if (row->way == MEMALIGN || row->way == POSIX || row->way == ALIGNED)
        while (align < row->one)
            align *= 2;
    return align;
}

static void show(const struct row *row)
{
    const char *error = "0";
    int result = 0;
    void *block;

    errno = 0;
    block = keep(call(row, &result));
    /* POSIX leaves errno open for posix_memalign, and all where they succeed. */
    if (!block && row->way != POSIX)
        error = errno == ENOMEM ? "ENOMEM" : errno == EINVAL ? "EINVAL" : "0";
    say("%s(%zu, %zu): %s, result %d, errno %s", names[row->way], row->one, row->other,
        block ? "block" : "NULL", result, error);
    if (block) {
        size_t size = row->way == CALLOC || row->way == ARRAY ? row->one * row->other
                                                              : row->other;
        size_t zero = 0;

        while (row->way == CALLOC && zero < size && ((char *)block)[zero] == 0)
            zero++;
        say(", aligned %d, usable %d, zero %zu", (uintptr_t)block % alignment(row) == 0,
            malloc_usable_size(block) >= size, zero);
        memset(block, 1, malloc_usable_size(block));
        errno = 77;
        free(block);
        say(", errno after free %d", errno);
    }
    say("\n");
}

int main(void)
{
    void *one = keep(malloc(0)), *other = keep(malloc(0));

    say("malloc(0) twice: %s\n", one != other ? "two blocks" : "one");
    free(one);
    free(other);
    free(NULL);
    say("malloc_usable_size(NULL): %zu\n", malloc_usable_size(NULL));
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        show(&rows[i]);
    return 0;
}

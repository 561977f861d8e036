/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks that no allocator has in store, so that it must grow for them. Prints where
 * they are, what the allocator says it has from the kernel, and what the kernel says of
 * the break:
 *
 *     block ADDRESS SIZE FUNCTION
 *     mapped BYTES
 *     break START NOW
 */
#include <fcntl.h>
#include <malloc.h>
#include <sys/syscall.h>

#include "tests/targets/target.h"

#define MIB (1ul << 20)

enum {
    LARGE = 6,
    SMALL = 20000
};

static char *large[LARGE], *small[SMALL];

static SITE char *grow_large(size_t size)
{
    return keep(malloc(size));
}

static SITE char *grow_small(size_t size)
{
    return keep(malloc(size));
}

static SITE char *resize(char *block, size_t size)
{
    return keep(realloc(block, size));
}

static SITE void give_back(char *block)
{
    free(block);
    keep(NULL);
}

static void line(const char *block, size_t size, const char *function)
{
    need(block != NULL, "no memory");
    say("block %lu %zu %s\n", (unsigned long)block, size, function);
}

/* Where the break began: field 47 of /proc/self/stat, without allocating for it. */
static unsigned long break_start(void)
{
    char text[1024];
    int fd = open("/proc/self/stat", O_RDONLY);
    ssize_t length = read(fd, text, sizeof(text) - 1);
    char *at;

    need(length > 0, "cannot read /proc/self/stat");
    text[length] = '\0';
    at = strrchr(text, ')');
    for (int field = 2; field < 47; field++)
        at = strchr(at + 1, ' ');
    return strtoul(at, NULL, 10);
}

int main(void)
{
    struct mallinfo2 info;

    for (int i = 0; i < LARGE; i++) {
        large[i] = grow_large((40 + (size_t)i) * MIB);
        line(large[i], (40 + (size_t)i) * MIB, "grow_large");
    }
    for (int i = 0; i < SMALL; i++) {
        small[i] = grow_small(1000);
        memset(small[i], 1, 1000);
    }
    large[0] = resize(large[0], 100 * MIB);
    line(large[0], 100 * MIB, "resize");
    give_back(large[1]);
    info = mallinfo2();
    say("mapped %zu\n", info.arena + info.hblkhd);
    say("break %lu %lu\n", break_start(), (unsigned long)syscall(SYS_brk, 0));
    _exit(0);
}

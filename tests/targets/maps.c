/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Growth and shrinkage of the address space with known numbers. Prints a line per
 * call that must be recorded, in order:
 *
 *     map OP ADDRESS SIZE OLD_ADDRESS OLD_SIZE FUNCTION     -1 = not looked at
 *
 * Calls that fail or only ask (sbrk(0)) must not be recorded.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "tests/targets/target.h"

enum {
    PAGE = 4096
};

static void line(const char *op, void *address, size_t size, void *old_address,
                 long old_size, const char *function)
{
    say("map %s %lu %zu %ld %ld %s\n", op, (unsigned long)address, size,
        (long)old_address, old_size, function);
}

static SITE void *map_pages(size_t size)
{
    return keep(
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

static SITE void *map_file(int fd, size_t size)
{
    return keep(mmap64(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0));
}

static SITE void *map_grow(void *block, size_t old_size, size_t size)
{
    return keep(mremap(block, old_size, size, MREMAP_MAYMOVE));
}

static SITE void *map_move(void *block, size_t size, void *to)
{
    return keep(mremap(block, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to));
}

static SITE void map_advise(void *block, size_t size)
{
    need(madvise(block, size, MADV_DONTNEED) == 0, "madvise");
    keep(block);
}

static SITE void unmap(void *block, size_t size)
{
    need(munmap(block, size) == 0, "munmap");
    keep(block);
}

static SITE void *grow_break(long bytes)
{
    return keep(sbrk(bytes));
}

static SITE void set_break(void *to)
{
    need(brk(to) == 0, "brk");
    keep(to);
}

static SITE void fails(void)
{
    need(keep(mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) ==
             MAP_FAILED,
         "mmap of nothing succeeded");
    need(errno == EINVAL, "mmap failed with errno %d", errno);
    need(munmap((void *)opaque(1), PAGE) == -1, "munmap of nonsense succeeded");
    need(errno == EINVAL, "munmap failed with errno %d", errno);
}

static void breaks(void)
{
    void *before = sbrk(0);

    need(grow_break(17 * PAGE) == before, "sbrk");
    line("brk", (char *)before + 17 * PAGE, 17 * PAGE, before, -1, "grow_break");
    need(grow_break(-5 * PAGE) == (char *)before + 17 * PAGE, "sbrk");
    line("brk", (char *)before + 12 * PAGE, 5 * PAGE, (char *)before + 17 * PAGE, -1,
         "grow_break");
    set_break((char *)before + 14 * PAGE);
    line("brk", (char *)before + 14 * PAGE, 2 * PAGE, (char *)before + 12 * PAGE, -1,
         "set_break");
}

int main(void)
{
    int fd = open("/proc/self/exe", O_RDONLY);
    char *block, *file, *grown, *moved;

    need(fd >= 0, "cannot open /proc/self/exe");
    block = map_pages(3 * PAGE);
    line("mmap", block, 3 * PAGE, NULL, 0, "map_pages");
    file = map_file(fd, 2 * PAGE);
    line("mmap", file, 2 * PAGE, NULL, 0, "map_file");
    grown = map_grow(block, 3 * PAGE, 700 * PAGE);
    line("mremap", grown, 700 * PAGE, block, 3 * PAGE, "map_grow");
    map_advise(grown, 11 * PAGE);
    line("madvise", grown, 11 * PAGE, NULL, -1, "map_advise");
    moved = map_pages(700 * PAGE);
    line("mmap", moved, 700 * PAGE, NULL, 0, "map_pages");
    need(map_move(grown, 700 * PAGE, moved) == moved, "mremap");
    line("mremap", moved, 700 * PAGE, grown, 700 * PAGE, "map_move");
    unmap(file, 2 * PAGE);
    line("munmap", file, 2 * PAGE, NULL, -1, "unmap");
    unmap(moved + 100 * PAGE, 50 * PAGE);
    line("munmap", moved + 100 * PAGE, 50 * PAGE, NULL, -1, "unmap");
    breaks();
    fails();
    return 0;
}

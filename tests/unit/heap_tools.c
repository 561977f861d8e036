/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/heap_tools.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define EDGE 512u
#define PAGE 4096u

/* ---- errors ---- */

static _Atomic unsigned errors[NEAP_HEAP_ERROR_END], told;

static void count_error(const struct neap_heap_error *error)
{
    atomic_fetch_add(&errors[error->kind], 1);
}

const struct neap_heap_observer heap_counting = {.error = count_error};

void heap_begin(void)
{
    const struct neap_heap_options options = {.quiet = true, .delay_ms = 500};

    neap_heap_begin(&options);
    neap_heap_observe(&heap_counting);
}

unsigned heap_errors_of(enum neap_heap_error_kind kind)
{
    return atomic_load(&errors[kind]);
}

unsigned heap_errors(void)
{
    unsigned sum = 0;

    for (unsigned i = 0; i < NEAP_HEAP_ERROR_END; i++)
        sum += atomic_load(&errors[i]);
    return sum - atomic_exchange(&told, sum);
}

/* ---- chance ---- */

uint64_t heap_random(uint64_t *state)
{
    uint64_t x = *state;

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    *state = x;
    return x * 0x9e3779b97f4a7c15u >> 16;
}

size_t heap_random_size(uint64_t *state, size_t least, size_t most)
{
    unsigned low = 0, high;
    size_t size;

    while (low < 63 && (size_t)2 << low <= least)
        low++;
    high = 63u - (unsigned)__builtin_clzll(most | 1);
    low += (unsigned)(heap_random(state) % (high - low + 1));
    size = ((size_t)1 << low) + heap_random(state) % ((size_t)1 << low);
    return size < least ? least : size > most ? most : size;
}

/* ---- blocks ---- */

static uint8_t pattern(uint64_t seed, size_t offset)
{
    return (uint8_t)((seed >> 8 * (offset & 3)) + offset * 7 + (offset >> 8));
}

void heap_fill(const struct heap_block *block)
{
    size_t size = block->size, head = size < EDGE ? size : EDGE;

    for (size_t i = 0; i < head; i++)
        block->at[i] = pattern(block->seed, i);
    for (size_t i = PAGE; i < size; i += PAGE)
        block->at[i] = pattern(block->seed, i);
    for (size_t i = size - head < head ? head : size - head; i < size; i++)
        block->at[i] = pattern(block->seed, i);
}

bool heap_holds(const struct heap_block *block, size_t limit)
{
    size_t size = block->size, head = size < EDGE ? size : EDGE;
    size_t end = size < limit ? size : limit;

    for (size_t i = 0; i < head && i < end; i++)
        if (block->at[i] != pattern(block->seed, i))
            return false;
    for (size_t i = PAGE; i < end; i += PAGE)
        if (block->at[i] != pattern(block->seed, i))
            return false;
    for (size_t i = size - head < head ? head : size - head; i < end; i++)
        if (block->at[i] != pattern(block->seed, i))
            return false;
    return true;
}

bool heap_is_zero(const uint8_t *at, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (at[i])
            return false;
    return true;
}

/* ---- pages ---- */

size_t heap_resident(const void *at, size_t size)
{
    uintptr_t first = (uintptr_t)at & ~(uintptr_t)(PAGE - 1);
    uintptr_t end = ((uintptr_t)at + size + PAGE - 1) & ~(uintptr_t)(PAGE - 1);
    unsigned char pages[4096];
    size_t count = 0;

    while (first < end) {
        size_t some = (end - first) / PAGE;

        if (some > sizeof(pages))
            some = sizeof(pages);
        if (mincore((void *)first, some * PAGE, pages) == 0)
            for (size_t i = 0; i < some; i++)
                count += pages[i] & 1;
        first += some * PAGE;
    }
    return count * PAGE;
}

static size_t statm(unsigned field)
{
    char text[128] = "", *at = text;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    size_t pages = 0;

    if (fd < 0)
        return 0;
    if (read(fd, text, sizeof(text) - 1) < 0)
        text[0] = 0;
    close(fd);
    for (unsigned i = 0; i <= field; i++)
        pages = strtoul(at, &at, 10);
    return pages * PAGE;
}

size_t heap_process_size(void)
{
    return statm(0);
}

size_t heap_process_resident(void)
{
    return statm(1);
}

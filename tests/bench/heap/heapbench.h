/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the programs of the allocator benchmark share. Each does a fixed amount of work
 * and says on standard error, in lines "WORD NUMBER", what it measured itself; CPU time
 * and the peak of memory are measured from outside.
 */
#ifndef NEAP_TESTS_BENCH_HEAPBENCH_H
#define NEAP_TESTS_BENCH_HEAPBENCH_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static inline __attribute__((noreturn)) void die(const char *why)
{
    dprintf(2, "%s\n", why);
    exit(1);
}

static inline double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static inline void say(const char *what, double value)
{
    dprintf(2, "%s %.3f\n", what, value);
}

/* The last line of most: how long the work took, and each pair of it. */
static inline void say_pairs(double start, double pairs)
{
    double seconds = now() - start;

    say("seconds", seconds);
    say("pairs", pairs);
    say("ns", seconds * 1e9 / pairs);
}

static inline uint64_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dU >> 16;
}

/* From `low` to `low << octaves`, each octave as likely: small ones are the most. */
static inline size_t random_size(uint64_t *state, size_t low, unsigned octaves)
{
    uint64_t r = next_random(state);
    size_t base = low << (r & 0xffff) % octaves;

    return base + (r >> 16) % base;
}

static inline void *must(void *block)
{
    if (!block)
        die("out of memory");
    return block;
}

/* Write to it as its owner would: its head, and each page of it. */
static inline void touch(void *block, size_t size)
{
    char *byte = (char *)block;

    memset(byte, 1, size < 64 ? size : 64);
    for (size_t i = 4096; i < size; i += 4096)
        byte[i] = 1;
}

/* Room that no allocator knows of, for the programs' own tables. */
static inline void *room(size_t size)
{
    void *found =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (found == MAP_FAILED)
        die("out of memory");
    return found;
}

static inline double argument(int argc, char **argv, int i)
{
    if (i >= argc || atof(argv[i]) <= 0)
        die("usage: see the head of the source");
    return atof(argv[i]);
}

/* The exact figure, which /proc/self/statm is not where threads count by themselves. */
static inline double resident_kib(void)
{
    static char text[4096];
    int fd = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
    const char *line;

    if (fd >= 0)
        close(fd);
    text[length > 0 ? length : 0] = 0;
    line = strstr(text, "Rss:");
    if (!line)
        die("/proc/self/smaps_rollup: no Rss");
    return atof(line + 4);
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the targets share. A target is a small program whose numbers are known by
 * construction: every allocation of interest is made by a function with a name of
 * its own (SITE), and the target says what that function did:
 *
 *     site NAME ALLOCS BYTES FREES FREED_BYTES      -1 = not known beforehand
 *
 * The integration tests compare such lines with the recording. say() writes through
 * write(2) from the stack: the targets' own reports allocate nothing.
 */
#ifndef NEAP_TESTS_TARGETS_TARGET_H
#define NEAP_TESTS_TARGETS_TARGET_H

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A function that stays a function, with a frame of its own. */
#if defined(__clang__)
#define SITE __attribute__((noinline))
#else
#define SITE __attribute__((noipa))
#endif

/*
 * The compiler must believe that the block is used here. After the call that made
 * it, this also keeps that call from becoming a jump.
 */
static inline void *keep(void *block)
{
    __asm__ volatile("" : "+r"(block) : : "memory");
    return block;
}

/* A size the compiler cannot reason about (or warn of). */
static inline size_t opaque(size_t size)
{
    __asm__ volatile("" : "+r"(size));
    return size;
}

__attribute__((format(printf, 1, 2), unused)) static void say(const char *format, ...)
{
    char line[512];
    va_list args;
    int length;
    ssize_t written;

    va_start(args, format);
    length = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    if (length < 0 || (size_t)length >= sizeof(line))
        abort();
    written = write(STDOUT_FILENO, line, (size_t)length);
    if (written != length)
        _exit(99);
}

__attribute__((unused)) static void site(const char *name, long allocs, long bytes,
                                         long frees, long freed)
{
    say("site %s %ld %ld %ld %ld\n", name, allocs, bytes, frees, freed);
}

/* For what must not fail while a target sets its stage. */
__attribute__((format(printf, 2, 3), unused)) static void need(int good,
                                                               const char *what, ...)
{
    char line[256];
    va_list args;

    if (good)
        return;
    va_start(args, what);
    (void)vsnprintf(line, sizeof(line), what, args);
    va_end(args);
    (void)!write(STDERR_FILENO, line, strlen(line));
    (void)!write(STDERR_FILENO, "\n", 1);
    _exit(98);
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/fail_alloc.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/types.h>

static uint64_t countdown;
static bool forever;
static bool happened;

void fail_alloc_at(uint64_t n)
{
    countdown = n;
    forever = false;
    happened = false;
}

void fail_alloc_from(uint64_t n)
{
    fail_alloc_at(n);
    forever = n != 0;
}

bool fail_alloc_happened(void)
{
    return happened;
}

static bool fails(void)
{
    if (countdown == 0 || --countdown > 0)
        return false;
    if (forever)
        countdown = 1;
    happened = true;
    errno = ENOMEM;
    return true;
}

/* The linker's names for the wrapped functions and for the real ones. */
#define WRAPPED(type, name, parameters, arguments)       \
    type __real_##name parameters;                       \
    type __wrap_##name parameters;                       \
    type __wrap_##name parameters                        \
    {                                                    \
        return fails() ? NULL : __real_##name arguments; \
    }

WRAPPED(void *, malloc, (size_t size), (size))
WRAPPED(void *, calloc, (size_t count, size_t size), (count, size))
WRAPPED(void *, realloc, (void *old, size_t size), (old, size))
WRAPPED(void *, reallocarray, (void *old, size_t count, size_t size),
        (old, count, size))
WRAPPED(char *, strdup, (const char *text), (text))
WRAPPED(char *, strndup, (const char *text, size_t size), (text, size))

void *__real_mmap(void *address, size_t length, int prot, int flags, int fd,
                  off_t offset);
void *__wrap_mmap(void *address, size_t length, int prot, int flags, int fd,
                  off_t offset);
void *__wrap_mmap(void *address, size_t length, int prot, int flags, int fd,
                  off_t offset)
{
    return fails() ? MAP_FAILED : __real_mmap(address, length, prot, flags, fd, offset);
}

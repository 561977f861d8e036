/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A preload that writes every call of malloc and its family to $TRACE_OUT, as trace.h
 * has them; fold makes a trace of it. Of a program's children nothing is recorded.
 * It relies on the names under which glibc has its allocator as well.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "trace.h"

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);
void *__libc_memalign(size_t align, size_t size);
void __libc_free(void *block);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct trace_call calls[4096];
static size_t count;
static int out = -1;
static pid_t owner;

/* With the lock. What is not written is dropped: fold takes no trace with a hole. */
static void flush(void)
{
    const char *from = (const char *)calls;
    size_t left = count * sizeof(calls[0]);
    ssize_t written;

    while (out >= 0 && left && (written = write(out, from, left)) > 0) {
        from += written;
        left -= (size_t)written;
    }
    count = 0;
}

/* With the lock, which is held over the call itself: else an address could be given
 * out again before it is written that it was freed. */
static void add(enum trace_op op, const void *block, const void *old, size_t size,
                size_t align)
{
    if (count == sizeof(calls) / sizeof(calls[0]))
        flush();
    calls[count++] = (struct trace_call){
        .op = op,
        .size = size,
        .block = (uintptr_t)block,
        .old = (uintptr_t)old,
        .align = align,
    };
}

static void unlock_in_child(void)
{
    pthread_mutex_init(&lock, NULL);
    count = 0;
    close(out);
    out = -1;
}

static __attribute__((constructor)) void begin(void)
{
    const char *path = getenv("TRACE_OUT");

    if (!path)
        return;
    out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    owner = getpid();
    pthread_atfork(NULL, NULL, unlock_in_child);
    unsetenv("TRACE_OUT");
}

static __attribute__((destructor)) void end(void)
{
    pthread_mutex_lock(&lock);
    if (getpid() == owner)
        flush();
    pthread_mutex_unlock(&lock);
}

void *malloc(size_t size)
{
    void *block;

    pthread_mutex_lock(&lock);
    block = __libc_malloc(size);
    if (block)
        add(TRACE_MALLOC, block, NULL, size, 0);
    pthread_mutex_unlock(&lock);
    return block;
}

void *calloc(size_t number, size_t size)
{
    void *block;

    pthread_mutex_lock(&lock);
    block = __libc_calloc(number, size);
    if (block)
        add(TRACE_CALLOC, block, NULL, number * size, 0);
    pthread_mutex_unlock(&lock);
    return block;
}

void *realloc(void *old, size_t size)
{
    void *block;

    pthread_mutex_lock(&lock);
    block = __libc_realloc(old, size);
    if (block)
        add(TRACE_REALLOC, block, old, size, 0);
    else if (old && !size)
        add(TRACE_FREE, old, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    return block;
}

void free(void *block)
{
    int error = errno;

    if (!block)
        return;
    pthread_mutex_lock(&lock);
    __libc_free(block);
    add(TRACE_FREE, block, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
}

void *memalign(size_t align, size_t size)
{
    void *block;

    pthread_mutex_lock(&lock);
    block = __libc_memalign(align, size);
    if (block)
        add(TRACE_ALIGNED, block, NULL, size, align);
    pthread_mutex_unlock(&lock);
    return block;
}

void *aligned_alloc(size_t align, size_t size)
{
    return memalign(align, size);
}

int posix_memalign(void **ret, size_t align, size_t size)
{
    void *block = memalign(align, size);

    if (!block)
        return ENOMEM;
    *ret = block;
    return 0;
}

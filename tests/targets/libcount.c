/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An independent counter: preloaded behind libneap.so, it sees what that forwards
 * and counts it in its own way, so that two countings of one run can be compared.
 *
 * Totals live in a file of COUNT_DIR, one per program image and per forked child,
 * mapped and updated in place: whatever end the process comes to, they are there.
 * Layout: struct totals, host-endian.
 *
 * Counted are successful calls and the bytes asked for. A realloc that succeeds is
 * a free and an allocation; realloc(p, 0) is a free; free(NULL) is nothing. A vfork
 * child counts with its parent. Not usable without glibc's __libc_* entry points.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct totals {
    int64_t pid;
    _Atomic int64_t allocs;
    _Atomic int64_t bytes;
    _Atomic int64_t frees;
    char exe[480];
};

/* glibc's own names for its allocator: no look-up, so no start-up problem. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void *__libc_valloc(size_t size);
void *__libc_pvalloc(size_t size);
void __libc_free(void *block);

static struct totals early; /* until the file is mapped */
static struct totals *totals = &early;

static void *count_alloc(void *block, size_t size)
{
    if (block != NULL) {
        atomic_fetch_add_explicit(&totals->allocs, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&totals->bytes, (int64_t)size, memory_order_relaxed);
    }
    return block;
}

static void count_free(void)
{
    atomic_fetch_add_explicit(&totals->frees, 1, memory_order_relaxed);
}

static void fill(struct totals *into, const struct totals *from)
{
    ssize_t length = readlink("/proc/self/exe", into->exe, sizeof(into->exe) - 1);

    if (length >= 0)
        into->exe[length] = '\0';
    into->pid = getpid();
    into->allocs = from->allocs;
    into->bytes = from->bytes;
    into->frees = from->frees;
}

/* A file of our own; on any failure we go on counting without one. */
static struct totals *open_totals(const struct totals *from)
{
    const char *directory = getenv("COUNT_DIR");
    struct totals *file;
    char path[600];
    int fd = -1;

    if (directory == NULL)
        return NULL;
    for (int i = 0; i < 1000 && fd < 0; i++) {
        if (snprintf(path, sizeof(path), "%s/%d.%d", directory, (int)getpid(), i) >=
            (int)sizeof(path))
            return NULL;
        fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0 && errno != EEXIST)
            return NULL;
    }
    if (fd < 0)
        return NULL;
    if (ftruncate(fd, sizeof(*file)) < 0) {
        close(fd);
        return NULL;
    }
    file = mmap(NULL, sizeof(*file), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (file == MAP_FAILED)
        return NULL;
    fill(file, from);
    return file;
}

/* A forked child counts from zero, in a file of its own. */
static void begin_child(void)
{
    static const struct totals zero;
    struct totals *file = open_totals(&zero);

    if (file == NULL) {
        memset(&early, 0, sizeof(early));
        file = &early;
    }
    totals = file;
}

static __attribute__((constructor)) void begin(void)
{
    struct totals *file = open_totals(&early);

    if (file != NULL)
        totals = file;
    pthread_atfork(NULL, NULL, begin_child);
}

void *malloc(size_t size)
{
    return count_alloc(__libc_malloc(size), size);
}

void *calloc(size_t count, size_t size)
{
    return count_alloc(__libc_calloc(count, size), count * size);
}

void free(void *block)
{
    int saved = errno;

    if (block != NULL)
        count_free();
    __libc_free(block);
    errno = saved;
}

void *realloc(void *block, size_t size)
{
    void *moved = __libc_realloc(block, size);

    if (block != NULL && (moved != NULL || size == 0))
        count_free();
    return count_alloc(moved, size);
}

void *reallocarray(void *block, size_t count, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(count, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(block, bytes);
}

void *memalign(size_t alignment, size_t size)
{
    return count_alloc(__libc_memalign(alignment, size), size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return memalign(alignment, size);
}

int posix_memalign(void **ret, size_t alignment, size_t size)
{
    void *block;

    if (alignment % sizeof(void *) != 0 || alignment == 0 ||
        (alignment & (alignment - 1)) != 0)
        return EINVAL;
    block = memalign(alignment, size);
    if (block == NULL)
        return ENOMEM;
    *ret = block;
    return 0;
}

void *valloc(size_t size)
{
    return count_alloc(__libc_valloc(size), size);
}

void *pvalloc(size_t size)
{
    return count_alloc(__libc_pvalloc(size), size);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The functions behind ours: the next definition after libneap.so in the program's
 * own search order, be it glibc's, jemalloc's or another preload's; or our own
 * allocator's in their stead (ownheap.h).
 *
 * Before they are known (dlsym itself allocates) the bootstrap heap serves: a static
 * arena whose blocks are never given back and are told apart by their address.
 */
#ifndef NEAP_LIBHOOK_REAL_H
#define NEAP_LIBHOOK_REAL_H

#include <malloc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "schema/attr.h"

/* field, symbol, result, parameters: the allocation functions of C */
#define NEAP_REAL_C(X)                                                          \
    X(malloc, "malloc", void *, (size_t))                                       \
    X(calloc, "calloc", void *, (size_t, size_t))                               \
    X(realloc, "realloc", void *, (void *, size_t))                             \
    X(reallocarray, "reallocarray", void *, (void *, size_t, size_t))           \
    X(free, "free", void, (void *))                                             \
    X(free_sized, "free_sized", void, (void *, size_t))                         \
    X(free_aligned_sized, "free_aligned_sized", void, (void *, size_t, size_t)) \
    X(posix_memalign, "posix_memalign", int, (void **, size_t, size_t))         \
    X(aligned_alloc, "aligned_alloc", void *, (size_t, size_t))                 \
    X(memalign, "memalign", void *, (size_t, size_t))                           \
    X(valloc, "valloc", void *, (size_t))                                       \
    X(pvalloc, "pvalloc", void *, (size_t))                                     \
    X(malloc_usable_size, "malloc_usable_size", size_t, (void *))

/* what else an allocator answers for: settings and statistics */
#define NEAP_REAL_STATS(X)                            \
    X(mallopt, "mallopt", int, (int, int))            \
    X(malloc_trim, "malloc_trim", int, (size_t))      \
    X(malloc_stats, "malloc_stats", void, (void))     \
    X(malloc_info, "malloc_info", int, (int, FILE *)) \
    X(mallinfo, "mallinfo", struct mallinfo, (void))  \
    X(mallinfo2, "mallinfo2", struct mallinfo2, (void))

/* the rest of what we stand before */
#define NEAP_REAL_SYSTEM(X)                                                  \
    X(mmap, "mmap", void *, (void *, size_t, int, int, int, off_t))          \
    X(munmap, "munmap", int, (void *, size_t))                               \
    X(mremap, "mremap", void *, (void *, size_t, size_t, int, ...))          \
    X(madvise, "madvise", int, (void *, size_t, int))                        \
    X(brk, "brk", int, (void *))                                             \
    X(sbrk, "sbrk", void *, (intptr_t))                                      \
    X(dlclose, "dlclose", int, (void *))                                     \
    X(register_atfork, "__register_atfork", int,                             \
      (void (*)(void), void (*)(void), void (*)(void), void *))              \
    X(exit_now, "_exit", void, (int))                                        \
    X(execve, "execve", int, (const char *, char *const *, char *const *))   \
    X(execvpe, "execvpe", int, (const char *, char *const *, char *const *)) \
    X(execveat, "execveat", int,                                             \
      (int, const char *, char *const *, char *const *, int))                \
    X(fexecve, "fexecve", int, (int, char *const *, char *const *))          \
    X(posix_spawn, "posix_spawn", int,                                       \
      (pid_t *, const char *, const void *, const void *, char *const *,     \
       char *const *))                                                       \
    X(posix_spawnp, "posix_spawnp", int,                                     \
      (pid_t *, const char *, const void *, const void *, char *const *,     \
       char *const *))

/* The first cache line is all that a call which is not recorded needs. */
struct neap_real {
    const _Atomic uint32_t *mode; /* gate.h */
#define NEAP_REAL_FIELD(name, symbol, result, params) result(*name) params;
    NEAP_REAL_C(NEAP_REAL_FIELD)
    NEAP_REAL_SYSTEM(NEAP_REAL_FIELD)
    NEAP_REAL_STATS(NEAP_REAL_FIELD)
#undef NEAP_REAL_FIELD
    bool ready; /* the pointers above hold */
    bool off;   /* this image is not recorded: forward, and nothing else */
    bool own;   /* the program has a realloc of its own, before ours */
    bool heap;  /* what serves is our own allocator (ownheap.h) */
} __attribute__((aligned(64)));

extern struct neap_real neap_real;

/* Fill neap_real. Caller holds NEAP_INTERNAL. */
void neap_real_resolve(void);

/* The next definition of a C++ symbol; looked for again in the caller's own libraries
 * when the program itself has none (a C program that loads a C++ plug-in). NULL: no
 * such thing. Caller holds NEAP_INTERNAL. */
void *neap_real_find(const char *symbol, const void *caller);

/* The C++ library's own definition; NULL: there is none. Caller holds NEAP_INTERNAL. */
void *neap_real_find_standard(const char *symbol);

/* Is this operator new or delete malloc and free by another name: the C++ library's or
 * the allocator's, and not one of the program's making? Caller holds NEAP_INTERNAL. */
bool neap_real_is_standard(const void *function);

/* Do the program's calls of `symbol` come to us? Not if it has its own. Caller holds
 * NEAP_INTERNAL. */
bool neap_real_is_behind_us(const char *symbol);

/* Does the object with the next malloc define this function? */
bool neap_real_is_allocators(const void *function);

/* The file name of that object: "libc.so.6", "libjemalloc.so.2". */
const char *neap_real_allocator(void);

/* ---- bootstrap heap ---- */

#define NEAP_BOOT_BYTES (256u << 10)
extern uint8_t neap_boot[NEAP_BOOT_BYTES];

void *neap_boot_alloc(size_t align, size_t size); /* zeroed; NULL when exhausted */
size_t neap_boot_size(const void *block);         /* as asked for */

/* Call `see` with each block that was handed out. */
void neap_boot_each(void (*see)(const void *block));

NEAP_ALWAYS_INLINE bool neap_boot_owns(const void *block)
{
    return (uintptr_t)block - (uintptr_t)neap_boot < NEAP_BOOT_BYTES;
}

#endif

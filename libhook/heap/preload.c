/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libneapheap.so, the allocator alone: its start, and C++'s operators. Its malloc is
 * neap_heap_malloc by another name, and so on (Makefile, heap.map).
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "libhook/heap/heap.h"
#include "schema/attr.h"

/* Before all other constructors (the Makefile's initfirst), so that in a fork our lock
 * is taken after everybody's handlers have run and given back before. */
static __attribute__((constructor)) void start(void)
{
    pthread_atfork(neap_heap_fork_prepare, neap_heap_fork_parent, neap_heap_fork_child);
}

/*
 * new is malloc as in libstdc++, without the way through it; delete is free (Makefile).
 * When memory is out it is libstdc++'s to call the new handler, and to throw. A program
 * that has these operators itself comes first.
 */
static NEAP_COLD void *next_new(const char *symbol, size_t size)
{
    void *(*next)(size_t);
    void *found = dlsym(RTLD_NEXT, symbol);

    if (!found)
        abort();
    memcpy(&next, &found, sizeof(next));
    return next(size);
}

NEAP_EXPORT void *_Znwm(size_t size);
NEAP_EXPORT void *_Znam(size_t size);

NEAP_EXPORT void *_Znwm(size_t size) /* operator new(size_t) */
{
    void *block = neap_heap_malloc(size);

    return NEAP_LIKELY(block != NULL) ? block : next_new("_Znwm", size);
}

NEAP_EXPORT void *_Znam(size_t size) /* operator new[](size_t) */
{
    void *block = neap_heap_malloc(size);

    return NEAP_LIKELY(block != NULL) ? block : next_new("_Znam", size);
}

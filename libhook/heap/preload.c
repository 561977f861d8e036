/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The start of libneapheap.so, the allocator alone. Its malloc is neap_heap_malloc by
 * another name, and so on (Makefile, heap.map).
 */
#include <pthread.h>

#include "libhook/heap/heap.h"
#include "schema/attr.h"

/* Before the program's own constructors, so that in a fork our lock is taken after
 * their handlers have run and given back before. */
static __attribute__((constructor)) void start(void)
{
    pthread_atfork(neap_heap_fork_prepare, neap_heap_fork_parent, neap_heap_fork_child);
}

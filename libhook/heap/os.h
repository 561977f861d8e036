/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel as the heap sees it. Each call that changes the address space is noted,
 * and told to the observer when the lock is given back. Caller holds the lock; errno
 * stays.
 */
#ifndef NEAP_LIBHOOK_HEAP_OS_H
#define NEAP_LIBHOOK_HEAP_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libhook/heap/heap.h"

/* What there is behind; tests put failures in. Results as the system calls': a failure
 * is a value from -4095 on. */
struct neap_os_calls {
    uintptr_t (*brk)(uintptr_t to); /* 0 asks; the break as it is afterwards */
    long (*mmap)(uintptr_t at, size_t size, int prot, int flags);
    long (*munmap)(uintptr_t at, size_t size);
    long (*mremap)(uintptr_t at, size_t old_size, size_t size, int flags, uintptr_t to);
    long (*madvise)(uintptr_t at, size_t size, int advice);
};
extern struct neap_os_calls neap_os_calls;

#define NEAP_OS_FAILED ((uintptr_t)0)

uintptr_t neap_os_break(void); /* where it is now; NEAP_OS_FAILED: there is none */
bool neap_os_break_to(uintptr_t from, uintptr_t to);
uintptr_t neap_os_map(size_t size);             /* private, anonymous, of whole pages */
bool neap_os_map_at(uintptr_t at, size_t size); /* there, or nowhere */
/* The same, aligned to `align` of a page or more. */
uintptr_t neap_os_map_aligned(size_t size, size_t align);
bool neap_os_unmap(uintptr_t at, size_t size);
/* To `to`: where it is, or over a mapping of that size which that replaces. */
bool neap_os_remap(uintptr_t at, size_t old_size, size_t size, uintptr_t to);
/* Is it more than one mapping to the kernel, so that it cannot be remapped? */
bool neap_os_is_cut(uintptr_t at, size_t size);
bool neap_os_advise(uintptr_t at, size_t size, int advice);

/* Is there room to note `count` more calls? If not, unlock before making them. */
bool neap_os_room(unsigned count);

void neap_os_rest(void);       /* for 50 us */
uint32_t neap_os_now_ms(void); /* CLOCK_MONOTONIC_COARSE */

/* Bytes that are mapped by calls of the above now, and the most there ever were. */
extern size_t neap_os_mapped, neap_os_mapped_max;

/* lock.h: noted calls are handed over under the lock, and told without it. */
struct neap_os_notes {
    unsigned count;
    struct neap_heap_change change[24];
};
void neap_os_take_notes(struct neap_os_notes *ret);
void neap_os_tell(const struct neap_os_notes *notes);
extern const struct neap_heap_observer *_Atomic neap_observer;

#endif

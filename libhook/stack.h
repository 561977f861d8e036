/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the program's stack without ever faulting.
 *
 * A thread's own stack is mapped from the stack pointer up to its base, so frames in
 * there are read at once. Anywhere else (alternate signal stacks, coroutines) each new
 * page is probed by a system call that fails where a load would fault.
 */
#ifndef NEAP_LIBHOOK_STACK_H
#define NEAP_LIBHOOK_STACK_H

#include <stdbool.h>
#include <stdint.h>

#include "libhook/guard.h"

struct neap_stack_reader {
    uint64_t lo, hi; /* the thread's own stack from sp up; empty when off it */
    uint64_t page;   /* last page found readable */
};

/* Look up where the main thread's stack begins. Caller holds NEAP_INTERNAL. */
void neap_stack_init(void);

/* Learn this thread's base; its stack is then known from there down to where it has
 * been. No libc: its way to ask (pthread_getattr_np) allocates. */
void neap_stack_thread(struct neap_tls *tls, bool main_thread);

/* Has the thread's own stack grown down to `sp`? */
bool neap_stack_grown(struct neap_tls *tls, uint64_t sp);

/* Is everything from `sp` to tls->stack_hi this thread's stack? */
NEAP_ALWAYS_INLINE bool neap_stack_owns(struct neap_tls *tls, uint64_t sp)
{
    if (NEAP_LIKELY(sp - tls->stack_lo < tls->stack_hi - tls->stack_lo))
        return true;
    return neap_stack_grown(tls, sp);
}

/* 8 bytes at `address`, a neap_cfi_peek. `context`: the reader. */
bool neap_stack_peek(void *context, uint64_t address, uint64_t *ret);

#endif

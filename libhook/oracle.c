/* SPDX-License-Identifier: Apache-2.0 */
#include "libhook/oracle.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "libhook/selfmem.h"
#include "libhook/sys.h"

static int (*libunwind_trace)(void **, int);
static unsigned long verify_every;
bool neap_oracle_verifies;

void neap_oracle_configure(const char *every)
{
    if (every)
        verify_every = strtoul(every, NULL, 10);
}

bool neap_oracle_load(bool wanted)
{
    void *library, *found;

    if (!wanted && verify_every == 0)
        return false;
    /* RTLD_LOCAL: its _Unwind_* must not replace libgcc's for the program. */
    library = dlopen("libunwind.so.8", RTLD_NOW | RTLD_LOCAL);
    found = library ? dlsym(library, "unw_backtrace") : NULL;
    memcpy(&libunwind_trace, &found, sizeof(found));
    neap_oracle_verifies = found && verify_every > 0;
    return found != NULL;
}

bool neap_oracle_ready(void)
{
    return libunwind_trace != NULL;
}

/* The trace begins in our own frames: drop those before the caller's. */
unsigned neap_oracle_frames(const struct neap_context *context, uint64_t *pcs)
{
    uint8_t busy = neap_tls.busy;
    int found, skip = 0;

    neap_tls.busy = NEAP_INTERNAL; /* its own TLS is allocated at first use */
    found = libunwind_trace((void **)pcs, NEAP_STACK_DEPTH_MAX);
    neap_tls.busy = busy;
    while (skip < found && pcs[skip] != context->pc)
        skip++;
    if (found <= 0 || skip == found)
        return 0;
    memmove(pcs, pcs + skip, (size_t)(found - skip) * sizeof(*pcs));
    return (unsigned)(found - skip);
}

bool neap_oracle_out(struct neap_context *context, uint64_t start, uint64_t end)
{
    uint64_t pcs[64]; /* ours and one more */
    uint8_t busy = neap_tls.busy;
    int found;

    neap_tls.busy = NEAP_INTERNAL;
    found = libunwind_trace((void **)pcs, NEAP_ARRAY_LEN(pcs));
    neap_tls.busy = busy;
    for (int i = 0; i < found; i++) {
        if (pcs[i] - 1 - start >= end - start) {
            context->pc = pcs[i];
            return true;
        }
    }
    return false;
}

int neap_oracle_verify(const struct neap_context *context, const uint64_t *pcs,
                       const struct neap_walk *walked)
{
    static _Atomic unsigned long traces;
    uint64_t *other;
    unsigned depth, i = 0;
    int result = 1;

    if (!neap_oracle_verifies ||
        atomic_fetch_add_explicit(&traces, 1, memory_order_relaxed) % verify_every != 0)
        return 0;
    other = neap_selfmem_map((NEAP_STACK_DEPTH_MAX + 1) * sizeof(*other));
    if (!other)
        return 0;
    depth = neap_oracle_frames(context, other);
    /* libunwind ends some walks with a null frame, and gives the interrupted
     * instruction itself where we add 1. */
    while (depth > 0 && other[depth - 1] == 0)
        depth--;
    while (i < depth && i < walked->depth &&
           (other[i] == pcs[i] || other[i] == pcs[i] - 1))
        i++;
    /* Both ended at once, or were both cut at their limits. */
    if ((i < walked->depth || i < depth) && i < NEAP_STACK_DEPTH_MAX - 16)
        result = -1;
    NEAP_SYS2(SYS_munmap, other, (NEAP_STACK_DEPTH_MAX + 1) * sizeof(*other));
    return result;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "libhook/stack.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/uio.h>

#include "libhook/sys.h"

#define PAGE_MASK   (~(uint64_t)(NEAP_PAGE - 1))
#define GROWTH_MAX  (8u << 20) /* further down is another stack */
#define PROBE_PAGES 32u        /* at a time */

static uint64_t main_base;

void neap_stack_init(void)
{
    void *const *origin = dlsym(RTLD_DEFAULT, "__libc_stack_end");

    if (origin)
        main_base = (uint64_t)(uintptr_t)*origin;
}

/* Are these pages readable? A byte of each is read, in one call. */
static bool readable(uint64_t page, unsigned pages)
{
    struct iovec from[PROBE_PAGES];
    uint8_t bytes[PROBE_PAGES];
    struct iovec to = {bytes, pages};
    long got;

    for (unsigned i = 0; i < pages; i++)
        from[i] =
            (struct iovec){(void *)(uintptr_t)(page + (uint64_t)i * NEAP_PAGE), 1};
    /* By our own tid: the process's may be a main thread that has ended. */
    got = NEAP_SYS(SYS_process_vm_readv, neap_tls.tid, &to, 1, from, pages, 0);
    /* A sandbox may forbid it: then that the pages are mapped must do. */
    if (got < 0 && got != -EFAULT)
        return NEAP_SYS3(SYS_mincore, page, (uint64_t)pages * NEAP_PAGE, bytes) == 0;
    return got == (long)pages;
}

void neap_stack_thread(struct neap_tls *tls, bool main_thread)
{
    if (main_thread) {
        /* The kernel keeps at least 128 MiB below the main stack free of other
         * mappings (mmap_base), so what lies between sp and its base is all stack. */
        tls->stack_hi = main_base;
        tls->stack_lo = main_base ? main_base - (128u << 20) : 0;
        return;
    }
    /* glibc puts a thread's descriptor at the upper end of its stack. */
    tls->stack_hi = (uint64_t)(uintptr_t)pthread_self();
    tls->stack_lo = tls->stack_hi & PAGE_MASK;
}

NEAP_COLD bool neap_stack_grown(struct neap_tls *tls, uint64_t sp)
{
    uint64_t page = sp & PAGE_MASK, at = tls->stack_lo;

    if (sp >= tls->stack_lo || tls->stack_lo - sp > GROWTH_MAX)
        return false;
    /* A guard page or a hole in between: not one stack. */
    while (at > page) {
        uint64_t pages = (at - page) / NEAP_PAGE;

        pages = pages < PROBE_PAGES ? pages : PROBE_PAGES;
        at -= pages * NEAP_PAGE;
        if (!readable(at, (unsigned)pages))
            return false;
    }
    tls->stack_lo = page;
    return true;
}

bool neap_stack_peek(void *context, uint64_t address, uint64_t *ret)
{
    struct neap_stack_reader *reader = context;
    uint64_t page = address & PAGE_MASK;

    /* The first page is never a stack's; 0 in `page` means that none was probed yet. */
    if (address % 8 != 0 || page == 0)
        return false;
    if (address - reader->lo >= reader->hi - reader->lo && page != reader->page) {
        if (!readable(page, 1))
            return false;
        reader->page = page;
    }
    *ret = *(const uint64_t *)(uintptr_t)address;
    return true;
}

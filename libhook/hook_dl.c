/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dlclose: what it unmaps, our tables must forget. dlopen is never interposed: the
 * loader would then search our RPATH instead of the caller's.
 */
#include <dlfcn.h>
#include <errno.h>
#include <link.h>

#include "libhook/guard.h"
#include "libhook/life.h"
#include "libhook/modules.h"
#include "libhook/real.h"

/* The loader counts objects it has unloaded; the first entry has it. */
static int take_count(struct dl_phdr_info *info, size_t size, void *ret)
{
    if (size >= offsetof(struct dl_phdr_info, dlpi_subs) + sizeof(info->dlpi_subs))
        *(unsigned long long *)ret = info->dlpi_subs;
    return 1;
}

static unsigned long long unloaded(void)
{
    unsigned long long count = 0;

    dl_iterate_phdr(take_count, &count);
    return count;
}

static void forget(struct neap_tls *tls)
{
    if (!neap_process || atomic_load_explicit(&neap_process->phase,
                                              memory_order_acquire) != NEAP_PHASE_ON)
        return;
    tls->busy = NEAP_INTERNAL;
    neap_modules_unloaded();
    tls->busy = NEAP_IDLE;
}

NEAP_EXPORT int dlclose(void *handle)
{
    struct neap_tls *tls = &neap_tls;
    unsigned long long before;
    int result, saved;

    if (!neap_real.ready)
        neap_life_begin();
    if (neap_real.off || tls->busy != NEAP_IDLE)
        return neap_real.dlclose(handle);
    before = unloaded();
    /* Before as well: from the unmapping on, another thread's dlopen may put its
     * library there, and must not meet what we know of this one. */
    forget(tls);
    result = neap_real.dlclose(handle);
    saved = errno;
    if (unloaded() != before)
        forget(tls);
    errno = saved;
    return result;
}
